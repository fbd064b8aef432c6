/* Edge lists from text files.
 * - Each line is `a b` or `a b mean_delay`; '#' starts a comment; empty lines are skipped.
 * - A file that cannot be opened or read is ERR_IO; a line that is not of that form ERR_FORMAT with its
 *   number; more than EDGE_COUNT_MAX lines ERR_LIMIT. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/topology/make.h"
#include "base/check.h"
#include "base/limits.h"

enum { LINE_MAX_BYTES = 1024 };

/* Reads a rank and moves *text past it. */
static bool take_rank(char **text, uint32_t node_count, uint32_t *out)
{
    char *start = *text + strspn(*text, " \t");
    if (*start < '0' || *start > '9') return false;
    errno = 0;
    unsigned long long value = strtoull(start, text, 10);
    if (errno != 0 || value >= node_count) return false;
    *out = (uint32_t)value;
    return true;
}

static int parse_line(char *text, uint32_t node_count, const char *path, unsigned line, uint32_t pair[2],
                      double *delay, struct err_text *why)
{
    for (int side = 0; side < 2; side++)
        if (!take_rank(&text, node_count, &pair[side]))
            return err_set(why, ERR_FORMAT, "%s: line %u: want 'a b [mean_delay]' with nodes 0..%u", path,
                           line, node_count - 1);
    if (pair[0] == pair[1])
        return err_set(why, ERR_FORMAT, "%s: line %u: node %u is linked with itself; remove the line", path,
                       line, pair[0]);
    text += strspn(text, " \t");
    if (*text != '\0') {
        *delay = strtod(text, &text);
        text += strspn(text, " \t");
    }
    if (*text != '\0' || !isfinite(*delay) || !(*delay > 0))
        return err_set(why, ERR_FORMAT, "%s: line %u: the mean delay must be one number above 0", path, line);
    return 0;
}

static int read_lines(FILE *file, const char *path, uint32_t node_count, struct edge_list *out,
                      struct err_text *why)
{
    char text[LINE_MAX_BYTES];
    size_t delay_capacity = 0;
    for (unsigned line = 1; fgets(text, sizeof text, file) != NULL; line++) {
        if (strchr(text, '\n') == NULL && !feof(file))
            return err_set(why, ERR_FORMAT, "%s: line %u is longer than %d bytes", path, line,
                           LINE_MAX_BYTES - 2);
        text[strcspn(text, "#\r\n")] = '\0';
        if (text[strspn(text, " \t")] == '\0') continue;
        uint32_t pair[2];
        double delay = 1;
        int err = parse_line(text, node_count, path, line, pair, &delay, why);
        if (err != 0) return err;
        if (out->count == EDGE_COUNT_MAX)
            return err_set(why, ERR_LIMIT, "%s: line %u: more than %u links", path, line, EDGE_COUNT_MAX);
        edges_add(out, pair[0], pair[1]);
        if (delay_capacity < out->capacity) {
            delay_capacity = out->capacity;
            out->delay = mem_resize(out->delay, delay_capacity, sizeof *out->delay);
        }
        out->delay[out->count - 1] = delay;
    }
    return ferror(file) ? err_set(why, ERR_IO, "%s: %s", path, strerror(errno)) : 0;
}

int edges_read(const char *path, uint32_t node_count, struct edge_list *out, struct err_text *why)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) return err_set(why, ERR_IO, "--topology file:path=%s: %s", path, strerror(errno));
    int err = read_lines(file, path, node_count, out, why);
    fclose(file);
    return err;
}

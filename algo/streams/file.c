/* Streams from a text file: one stream a line, ranks separated by blanks or commas, '#' comments.
 * - A line may be long (a stream over all nodes), so the file is read byte by byte.
 * - A file that cannot be opened or read is ERR_IO; a line with anything else in it, or a node named twice
 *   in it, ERR_FORMAT with its number; more than an acyclic set can hold ERR_LIMIT. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/streams/streams.h"
#include "base/check.h"
#include "base/limits.h"

struct reader {
    FILE *file;
    const char *path;
    uint32_t node_count, line;
    struct stream_set *out;
    uint32_t member_max;
    struct err_text *why;
};

static int refuse(const struct reader *r, const char *what)
{
    return err_set(r->why, ERR_FORMAT, "%s: line %u: %s; want nodes 0..%u separated by blanks or commas",
                   r->path, r->line, what, r->node_count - 1);
}

/* Reads the digits of one rank, the first of which is c, and leaves the byte after it in *after. */
static int read_rank(const struct reader *r, int c, int *after)
{
    struct stream_set *out = r->out;
    uint64_t value = 0;
    for (; c >= '0' && c <= '9'; c = getc(r->file)) {
        value = value * 10 + (uint64_t)(c - '0');
        if (value >= r->node_count) return refuse(r, "a node is out of range");
    }
    *after = c;
    if (out->offset[out->count + 1] >= r->member_max)
        return err_set(r->why, ERR_LIMIT,
                       "%s: line %u: more memberships than streams without a cycle can have", r->path,
                       r->line);
    out->member[out->offset[out->count + 1]++] = (uint32_t)value;
    return 0;
}

static int compare_ranks(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The open stream's members run from offset[count] to offset[count + 1]; an empty line makes no stream. */
static int end_line(const struct reader *r)
{
    struct stream_set *out = r->out;
    uint32_t start = out->offset[out->count], end = out->offset[out->count + 1];
    if (end == start) return 0;
    qsort(&out->member[start], end - start, sizeof *out->member, compare_ranks);
    for (uint32_t i = start + 1; i < end; i++)
        if (out->member[i] == out->member[i - 1]) return refuse(r, "a node is named twice");
    if (out->count == STREAM_COUNT_MAX)
        return err_set(r->why, ERR_LIMIT, "%s: line %u: more than %u streams", r->path, r->line,
                       STREAM_COUNT_MAX);
    out->count++;
    out->offset[out->count + 1] = end;
    return 0;
}

static int read_streams(struct reader *r)
{
    int c = getc(r->file), err = 0;
    while (c != EOF && err == 0) {
        if (c >= '0' && c <= '9') {
            err = read_rank(r, c, &c);
            continue;
        }
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(r->file);
        if (c == '\n') {
            err = end_line(r);
            r->line++;
        } else if (c != EOF && strchr(" \t\r,", c) == NULL) {
            return refuse(r, "a byte is not allowed here");
        }
        if (c != EOF) c = getc(r->file);
    }
    if (err != 0) return err;
    if (ferror(r->file)) return err_set(r->why, ERR_IO, "%s: %s", r->path, strerror(errno));
    return end_line(r);
}

int streams_read(const char *path, uint32_t node_count, struct stream_set *out, struct err_text *why)
{
    CHECK(node_count > 0 && node_count <= NODE_COUNT_MAX);
    *out = (struct stream_set){.centre = RANK_NONE};
    FILE *file = fopen(path, "r");
    if (file == NULL) return err_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    struct reader r = {
        .file = file, .path = path, .node_count = node_count, .line = 1, .out = out, .why = why};
    r.member_max = node_count + STREAM_COUNT_MAX;
    out->offset = mem_new_zero(STREAM_COUNT_MAX + 2, sizeof *out->offset);
    out->member = mem_new(r.member_max, sizeof *out->member);
    int err = read_streams(&r);
    if (err == 0 && out->count == 0) err = err_set(why, ERR_FORMAT, "%s: no stream in the file", path);
    fclose(file);
    if (err != 0) streams_deinit(out);
    return err;
}

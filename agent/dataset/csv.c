/* CSV: numbers separated by commas, the target in the last column; LF or CRLF.
 *
 * Normal course
 *  - the first line is a header when its first field is no number, or when it is scikit-learn's
 *    "rows,features,name,name..." (breast_cancer.csv).
 *  - scan checks every field and keeps targets; load parses the chosen rows only.
 * Failure courses
 *  - NaN, infinity, an empty field, words, a row with more or fewer fields: ERR_FORMAT with file:line.
 *  - a header that promises other numbers of rows or columns than there are: ERR_FORMAT. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

/* One open CSV file, its header behind it. */
struct csv {
    struct reader *reader;
    uint32_t columns;     /* 0 = not known yet */
    uint32_t header_rows; /* rows a scikit-learn header promises; 0 = none */
    const char *pending;  /* the first line, when it is a row already */
    size_t pending_length;
};

/* Does [p, end), blanks aside, read as a number in C's widest sense (so that a row of "nan" is no header)? */
static bool is_number(const char *p, const char *end)
{
    char *after;
    (void)strtod(p, &after);
    while (after < end && isblank((unsigned char)*after)) after++;
    return after > p && after == end;
}

static bool is_blank(const char *p, const char *end)
{
    while (p < end && isblank((unsigned char)*p)) p++;
    return p == end;
}

static const char *field_end(const char *p)
{
    return p + strcspn(p, ",");
}

/* Judges the first line. Sets columns, and header_rows for scikit-learn's kind. */
static bool is_header(struct csv *c, const char *line)
{
    uint32_t fields = 0, words = 0;
    bool word_first = false;
    double number[2] = {0, 0};
    for (const char *p = line;; p = field_end(p) + 1) {
        const char *end = field_end(p);
        bool word = !is_number(p, end) && !is_blank(p, end);
        if (fields == 0) word_first = !is_number(p, end);
        if (fields < 2 && !word) number[fields] = strtod(p, NULL);
        words += word;
        fields++;
        if (*end == '\0') break;
    }
    c->columns = fields;
    if (words == 0) return false;
    if (word_first) return true;
    if (fields < 3 || words != fields - 2) return false;
    for (int i = 0; i < 2; i++)
        if (!(number[i] >= 1 && number[i] <= DATASET_FEATURE_MAX && number[i] == floor(number[i])))
            return false;
    c->header_rows = (uint32_t)number[0];
    c->columns = (uint32_t)number[1] + 1;
    return true;
}

static void csv_close(struct csv *c)
{
    reader_close(c->reader);
}

static int csv_open(const char *path, struct csv *c, struct err_text *why)
{
    memset(c, 0, sizeof *c);
    int err = reader_open(path, &c->reader, why);
    if (err != 0) return err;
    const char *line;
    size_t length;
    err = reader_line(c->reader, &line, &length, why);
    if (err > 0) {
        err = 0;
        if (!is_header(c, line)) {
            c->pending = line;
            c->pending_length = length;
        }
        if (c->columns < 2)
            err = err_set(why, ERR_FORMAT,
                          "%s:1: one column; features and a target separated by commas are needed", path);
        else if (c->columns - 1 > DATASET_FEATURE_MAX)
            err = err_set(why, ERR_LIMIT, "%s:1: %u columns, at most %u features", path, c->columns,
                          DATASET_FEATURE_MAX);
    }
    if (err != 0) csv_close(c);
    return err;
}

/* Next line that is not blank: 1, 0 at the end, or an error. */
static int csv_next(struct csv *c, const char **line, size_t *length, struct err_text *why)
{
    if (c->pending != NULL) {
        *line = c->pending;
        *length = c->pending_length;
        c->pending = NULL;
        return 1;
    }
    for (;;) {
        int got = reader_line(c->reader, line, length, why);
        if (got <= 0 || !is_blank(*line, *line + *length)) return got;
    }
}

static int bad_field(const struct csv *c, uint32_t column, const char *p, struct err_text *why)
{
    int shown = (int)(field_end(p) - p < 24 ? field_end(p) - p : 24);
    return err_set(why, ERR_FORMAT, "%s:%llu: column %u is '%.*s', not a finite number",
                   reader_path(c->reader), reader_line_number(c->reader), column, shown, p);
}

/* Parses a row; features (columns - 1) may be NULL. */
static int parse_row(const struct csv *c, const char *line, size_t length, float *features, double *target,
                     struct err_text *why)
{
    const char *p = line;
    uint32_t column = 0;
    for (;;) {
        const char *field = p + strspn(p, " \t");
        double number;
        const char *after = text_number(field, &number);
        if (after == NULL) return bad_field(c, column + 1, p, why);
        after += strspn(after, " \t");
        if (*after != ',' && after != line + length) return bad_field(c, column + 1, p, why);
        column++;
        if (column < c->columns && features != NULL) features[column - 1] = (float)number;
        *target = number;
        if (*after == '\0' || column > c->columns) break;
        p = after + 1;
    }
    if (column == c->columns) return 0;
    return err_set(why, ERR_FORMAT, "%s:%llu: %s than the %u fields of the lines before",
                   reader_path(c->reader), reader_line_number(c->reader),
                   column > c->columns ? "more" : "fewer", c->columns);
}

static int csv_scan(struct dataset_source *s, enum dataset_part part, struct err_text *why)
{
    struct source_part *p = &s->part[part];
    struct csv c;
    int err = csv_open(p->file[0], &c, why);
    if (err != 0) return err;
    const char *line;
    size_t length;
    while ((err = csv_next(&c, &line, &length, why)) > 0) {
        double target;
        err = parse_row(&c, line, length, NULL, &target, why);
        if (err == 0) err = source_add_label(p, target, p->file[0], why);
        if (err != 0) break;
    }
    if (err == 0 && c.header_rows != 0 && c.header_rows != p->file_rows)
        err = err_set(why, ERR_FORMAT, "%s:1: header promises %u rows, but there are %u", p->file[0],
                      c.header_rows, p->file_rows);
    if (err == 0 && p->file_rows > 0) err = source_set_features(s, c.columns - 1, p->file[0], why);
    csv_close(&c);
    return err;
}

static int csv_load(const struct dataset_source *s, enum dataset_part part, const uint32_t *row,
                    uint32_t count, struct dataset *out, struct err_text *why)
{
    const struct source_part *p = &s->part[part];
    struct csv c;
    int err = csv_open(p->file[0], &c, why);
    if (err != 0) return err;
    if (c.columns != s->features + 1)
        err = err_set(why, ERR_FORMAT, "%s: changed since it was opened", p->file[0]);
    size_t capacity = 0, total = (size_t)count * s->features;
    uint32_t at = 0;
    for (uint32_t i = 0; err == 0 && i < count; at++) {
        const char *line;
        size_t length;
        double target;
        int got = csv_next(&c, &line, &length, why);
        if (got == 0) err = err_set(why, ERR_FORMAT, "%s: changed since it was opened", p->file[0]);
        if (got < 0) err = got;
        if (err != 0 || at != row[i]) continue;
        out->dense =
            room_for(out->dense, &capacity, (size_t)(i + 1) * s->features, total, sizeof *out->dense);
        err = parse_row(&c, line, length, out->dense + (size_t)i * s->features, &target, why);
        i++;
    }
    csv_close(&c);
    return err;
}

const struct data_format format_csv = {"CSV", false, csv_scan, csv_load};

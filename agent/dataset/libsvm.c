/* libsvm text: "label index:value index:value ...", indices ascending from 1, zeros left out; a bare label
 * is a row without features; '#' starts a comment.
 *
 * Normal course
 *  - scan checks every row and keeps labels; the number of features is given (--features), known by the
 *    set's name, or the largest index of the training part.
 *  - load parses the chosen rows only, into CSR.
 * Failure courses
 *  - a row that does not parse, index 0, a descending index, an index above d: ERR_FORMAT with file:line.
 *  - more entries than CSR can count: ERR_LIMIT. */
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

/* Sets whose number of features cannot be seen in every file: a9a.t reaches only index 122. */
static const struct {
    const char *name;
    uint32_t features;
} known_sets[] = {
    {"a9a", 123},     {"w7a", 300},       {"w7a-t", 300},    {"w8a", 300},
    {"phishing", 68}, {"mushrooms", 126}, {"agaricus", 126},
};

/* Entries of chosen rows, growing. */
struct entries {
    uint32_t *column;
    float *value;
    size_t count, column_capacity, value_capacity;
};

static int add_entry(struct entries *e, uint32_t column, double value, const struct reader *r,
                     struct err_text *why)
{
    if (e->count == UINT32_MAX)
        return err_set(why, ERR_LIMIT, "%s: more than %u entries in the chosen rows", reader_path(r),
                       UINT32_MAX);
    e->column = room_for(e->column, &e->column_capacity, e->count + 1, UINT32_MAX, sizeof *e->column);
    e->value = room_for(e->value, &e->value_capacity, e->count + 1, UINT32_MAX, sizeof *e->value);
    e->column[e->count] = column;
    e->value[e->count++] = (float)value;
    return 0;
}

static int bad_row(const struct reader *r, const char *at, struct err_text *why)
{
    return err_set(why, ERR_FORMAT,
                   "%s:%llu: expected 'label index:value ...' with finite numbers, found '%.24s'",
                   reader_path(r), reader_line_number(r), at);
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* Reads a whole number; returns what follows, or NULL. Numbers above 2^32 saturate. */
static const char *read_index(const char *p, uint64_t *out)
{
    if (*p < '0' || *p > '9') return NULL;
    *out = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (*out <= UINT32_MAX) *out = *out * 10 + (uint64_t)(*p - '0');
    return p;
}

static int bad_index(const struct reader *r, uint64_t index, uint32_t last, uint32_t features,
                     struct err_text *why)
{
    if (index == 0)
        return err_set(why, ERR_FORMAT, "%s:%llu: index 0; libsvm indices start at 1", reader_path(r),
                       reader_line_number(r));
    if (index <= last)
        return err_set(why, ERR_FORMAT, "%s:%llu: index %llu after %u; indices must ascend", reader_path(r),
                       reader_line_number(r), (unsigned long long)index, last);
    return err_set(why, ERR_FORMAT, "%s:%llu: index %llu is above the %u features of the set; see --features",
                   reader_path(r), reader_line_number(r), (unsigned long long)index, features);
}

/* Parses one row; e may be NULL (check only). *largest rises to the row's largest index; 0 < index <=
 * features. */
static int parse_row(const struct reader *r, const char *line, size_t length, uint32_t features,
                     double *label, uint32_t *largest, struct entries *e, struct err_text *why)
{
    const char *p = skip_blanks(line);
    const char *after = text_number(p, label);
    if (after == NULL) return bad_row(r, p, why);
    uint32_t last = 0;
    for (;;) {
        p = skip_blanks(after);
        if (*p == '\0' || *p == '#') break;
        uint64_t index;
        double value;
        const char *colon = p > after ? read_index(p, &index) : NULL;
        if (colon == NULL || *colon != ':') return bad_row(r, p, why);
        after = text_number(colon + 1, &value);
        if (after == NULL) return bad_row(r, p, why);
        if (index <= last || index > features) return bad_index(r, index, last, features, why);
        last = (uint32_t)index;
        int err = e != NULL ? add_entry(e, last - 1, value, r, why) : 0;
        if (err != 0) return err;
    }
    if (*p == '\0' && p != line + length) return bad_row(r, "a NUL byte", why);
    if (last > *largest) *largest = last;
    return 0;
}

/* Next line that is not blank or comment: 1, 0 at the end, or an error. */
static int next_row(struct reader *r, const char **line, size_t *length, struct err_text *why)
{
    for (;;) {
        int got = reader_line(r, line, length, why);
        if (got <= 0) return got;
        const char *p = skip_blanks(*line);
        if (p != *line + *length && *p != '#') return 1;
    }
}

static uint32_t known_features(const struct dataset_source *s)
{
    if (s->features != 0) return s->features; /* given, or of the training part */
    for (size_t i = 0; i < sizeof known_sets / sizeof known_sets[0]; i++)
        if (strcmp(s->name, known_sets[i].name) == 0) return known_sets[i].features;
    return 0;
}

static int libsvm_scan(struct dataset_source *s, enum dataset_part part, struct err_text *why)
{
    struct source_part *p = &s->part[part];
    struct reader *r;
    int err = reader_open(p->file[0], &r, why);
    if (err != 0) return err;
    uint32_t features = known_features(s), largest = 0;
    const char *line;
    size_t length;
    while ((err = next_row(r, &line, &length, why)) > 0) {
        double label;
        err = parse_row(r, line, length, features != 0 ? features : DATASET_FEATURE_MAX, &label, &largest,
                        NULL, why);
        if (err == 0) err = source_add_label(p, label, p->file[0], why);
        if (err != 0) break;
    }
    if (features == 0) features = largest;
    if (err == 0 && features == 0)
        err = err_set(why, ERR_FORMAT, "%s: no row has a feature; give their number with --features",
                      p->file[0]);
    if (err == 0) s->features = features;
    reader_close(r);
    return err;
}

static int libsvm_load(const struct dataset_source *s, enum dataset_part part, const uint32_t *row,
                       uint32_t count, struct dataset *out, struct err_text *why)
{
    const struct source_part *p = &s->part[part];
    struct reader *r;
    int err = reader_open(p->file[0], &r, why);
    if (err != 0) return err;
    struct entries e = {0};
    out->row_start = mem_new_zero((size_t)count + 1, sizeof *out->row_start);
    uint32_t at = 0, largest = 0;
    for (uint32_t i = 0; err == 0 && i < count; at++) {
        const char *line;
        size_t length;
        double label;
        int got = next_row(r, &line, &length, why);
        if (got == 0) err = err_set(why, ERR_FORMAT, "%s: changed since it was opened", p->file[0]);
        if (got < 0) err = got;
        if (err != 0 || at != row[i]) continue;
        err = parse_row(r, line, length, s->features, &label, &largest, &e, why);
        out->row_start[++i] = (uint32_t)e.count;
    }
    out->column = e.column != NULL ? e.column : mem_new(1, sizeof *e.column);
    out->value = e.value != NULL ? e.value : mem_new(1, sizeof *e.value);
    reader_close(r);
    return err;
}

const struct data_format format_libsvm = {"libsvm", true, libsvm_scan, libsvm_load};

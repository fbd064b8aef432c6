/* From labels in a file to targets: which rows are kept and what their classes are.
 *
 * Whole-number labels with at most 100 values are classes, renumbered 0.. in ascending order; anything else
 * is a regression target. --classes keeps only the labels it names, renumbered in its order. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

struct label_entry {
    double label;
    uint32_t class_index;
};

/* Entries ascend by label; count 0 means regression. */
struct label_table {
    struct label_entry *entry;
    uint32_t count;
    bool selects; /* rows of other labels are left out, not an error */
};

static int compare_entries(const void *a, const void *b)
{
    double x = ((const struct label_entry *)a)->label, y = ((const struct label_entry *)b)->label;
    return (x > y) - (x < y);
}

/* Position of the first of sorted[0..count) that is not below label. */
static uint32_t lower_bound(const double *sorted, uint32_t count, double label)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sorted[middle] < label)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Collects up to `most` distinct labels, ascending. Returns their count, most + 1 when there are more. */
static uint32_t distinct_labels(const struct source_part *p, double *out, uint32_t most)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->file_rows; i++) {
        uint32_t at = lower_bound(out, count, p->label[i]);
        if (at < count && out[at] == p->label[i]) continue;
        if (count == most) return most + 1;
        memmove(out + at + 1, out + at, (count - at) * sizeof *out);
        out[at] = p->label[i];
        count++;
    }
    return count;
}

static void table_fill(struct label_table *t, const double *label, uint32_t count)
{
    t->entry = mem_new(count, sizeof *t->entry);
    t->count = count;
    for (uint32_t c = 0; c < count; c++) t->entry[c] = (struct label_entry){label != NULL ? label[c] : c, c};
    qsort(t->entry, count, sizeof *t->entry, compare_entries);
}

static bool all_whole(const struct source_part *p)
{
    for (uint32_t i = 0; i < p->file_rows; i++)
        if (p->label[i] != floor(p->label[i])) return false;
    return true;
}

/* Classes or regression, from the training part. */
static int table_find(const struct dataset_source *s, struct label_table *t, struct err_text *why)
{
    const struct source_part *p = &s->part[DATASET_TRAIN];
    double label[FOUND_CLASS_MAX];
    if (s->label_count > 0) {
        table_fill(t, NULL, s->label_count);
    } else if (all_whole(p)) {
        uint32_t count = distinct_labels(p, label, FOUND_CLASS_MAX);
        if (count <= FOUND_CLASS_MAX) table_fill(t, label, count);
    }
    if (t->count != 1) return 0;
    return err_set(why, ERR_FORMAT, "%s: all %u training rows have the same label; nothing can be learnt",
                   s->name, p->file_rows);
}

/* -- --classes -------------------------------------------------------------------------------------- */

static int absent_class(const struct dataset_source *s, double label, struct err_text *why)
{
    double found[20];
    char list[256] = "";
    uint32_t count = distinct_labels(&s->part[DATASET_TRAIN], found, 20);
    for (uint32_t i = 0; i < count && i < 20; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%g", i > 0 ? ", " : "", found[i]);
    }
    return err_set(why, ERR_USAGE, "--classes: no training row of %s has label %g; its labels are %s%s",
                   s->name, label, list, count > 20 ? ", ..." : "");
}

static bool has_label(const struct source_part *p, double label)
{
    for (uint32_t i = 0; i < p->file_rows; i++)
        if (p->label[i] == label) return true;
    return false;
}

/* Parses "9,4" into label[0..*count). */
static int parse_classes(const char *text, double *label, uint32_t *count, struct err_text *why)
{
    *count = 0;
    for (const char *p = text;; p++) {
        const char *after = text_number(p, &label[*count]);
        if (after == NULL || (*after != ',' && *after != '\0'))
            return err_set(why, ERR_USAGE, "--classes: '%.64s' is not a list of labels such as 9,4", text);
        for (uint32_t i = 0; i < *count; i++)
            if (label[i] == label[*count])
                return err_set(why, ERR_USAGE, "--classes: label %g is named twice in '%.64s'", label[i],
                               text);
        p = after;
        if (++*count == FOUND_CLASS_MAX && *p == ',')
            return err_set(why, ERR_USAGE, "--classes: more than %u labels", FOUND_CLASS_MAX);
        if (*p == '\0') break;
    }
    if (*count >= 2) return 0;
    return err_set(why, ERR_USAGE, "--classes: '%.64s' names one label; give at least two, such as 9,4",
                   text);
}

static int table_choose(const struct dataset_source *s, const char *classes, struct label_table *t,
                        struct err_text *why)
{
    double label[FOUND_CLASS_MAX];
    uint32_t count;
    int err = parse_classes(classes, label, &count, why);
    for (uint32_t i = 0; err == 0 && i < count; i++)
        if (!has_label(&s->part[DATASET_TRAIN], label[i])) err = absent_class(s, label[i], why);
    if (err != 0) return err;
    table_fill(t, label, count);
    t->selects = true;
    return 0;
}

/* -- targets ---------------------------------------------------------------------------------------- */

static int unknown_label(const struct source_part *p, uint32_t row, struct err_text *why)
{
    return err_set(why, ERR_FORMAT, "%s: row %u has label %g, which no training row has",
                   p->file_count > 0 ? p->file[p->file_count - 1] : "--data", row + 1, p->label[row]);
}

static int part_select(struct source_part *p, const struct label_table *t, struct err_text *why)
{
    p->target = mem_new(p->file_rows, sizeof *p->target);
    if (t->selects) p->kept = mem_new(p->file_rows, sizeof *p->kept);
    p->rows = 0;
    for (uint32_t i = 0; i < p->file_rows; i++) {
        struct label_entry key = {p->label[i], 0};
        const struct label_entry *found =
            t->count == 0 ? &key : bsearch(&key, t->entry, t->count, sizeof key, compare_entries);
        if (found == NULL && t->selects) continue;
        if (found == NULL) return unknown_label(p, i, why);
        if (t->selects) p->kept[p->rows] = i;
        p->target[p->rows++] = t->count == 0 ? (float)key.label : (float)found->class_index;
    }
    return 0;
}

int source_select(struct dataset_source *s, const char *classes, struct err_text *why)
{
    struct label_table table = {0};
    int err = classes != NULL ? table_choose(s, classes, &table, why) : table_find(s, &table, why);
    if (err == 0) err = part_select(&s->part[DATASET_TRAIN], &table, why);
    if (err == 0 && s->has_test) err = part_select(&s->part[DATASET_TEST], &table, why);
    s->info.classes = table.count > 0 ? table.count : 1;
    free(table.entry);
    return err;
}

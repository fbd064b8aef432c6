/* Opening a data set: find its files, read shape and labels, choose rows.
 *
 * Normal course
 *  - source_find (find.c) names format and files; the format's scan reads labels; source_select (labels.c)
 *    turns them into targets and kept rows; a held-out part is drawn when there is no test file.
 * Failure courses
 *  - every error of the parts passes through, with its line; nothing is left allocated. */
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

int source_add_label(struct source_part *p, double label, const char *path, struct err_text *why)
{
    if (p->file_rows >= DATASET_ROW_MAX)
        return err_set(why, ERR_LIMIT, "%s: more than %u rows", path, DATASET_ROW_MAX);
    p->label =
        room_for(p->label, &p->label_capacity, (size_t)p->file_rows + 1, DATASET_ROW_MAX, sizeof *p->label);
    p->label[p->file_rows++] = label;
    return 0;
}

int source_set_features(struct dataset_source *s, uint32_t features, const char *path, struct err_text *why)
{
    if (s->features == 0) s->features = features;
    if (s->features == features) return 0;
    return err_set(why, ERR_FORMAT, "%s: has %u features a row, but %u were expected (%s)", path, features,
                   s->features, "from --features or the training part");
}

/* -- holdout ---------------------------------------------------------------------------------------- */

/* Splits the training part by marks: marked rows become the test part. */
static void move_marked(struct dataset_source *s, const bool *marked, uint32_t moved)
{
    struct source_part *train = &s->part[DATASET_TRAIN], *test = &s->part[DATASET_TEST];
    free(test->kept); /* a test file may have had no row of the chosen classes */
    free(test->target);
    test->kept = mem_new(moved, sizeof *test->kept);
    test->target = mem_new(moved, sizeof *test->target);
    uint32_t *kept = mem_new(train->rows - moved, sizeof *kept);
    uint32_t stay = 0;
    for (uint32_t i = 0; i < train->rows; i++) {
        uint32_t file_row = train->kept != NULL ? train->kept[i] : i;
        if (marked[i]) {
            test->kept[test->rows] = file_row;
            test->target[test->rows++] = train->target[i];
        } else {
            kept[stay] = file_row;
            train->target[stay++] = train->target[i];
        }
    }
    CHECK(test->rows == moved && stay == train->rows - moved);
    free(train->kept);
    train->kept = kept;
    train->rows = stay;
}

static int hold_out(struct dataset_source *s, double share, struct err_text *why)
{
    uint32_t rows = s->part[DATASET_TRAIN].rows;
    uint32_t moved = (uint32_t)(share * rows + 0.5);
    if (moved == 0) return 0;
    if (moved >= rows)
        return err_set(why, ERR_USAGE, "--holdout: %g of %u rows leaves none to train on", share, rows);
    uint32_t *order = mem_new(rows, sizeof *order);
    bool *marked = mem_new_zero(rows, sizeof *marked);
    for (uint32_t i = 0; i < rows; i++) order[i] = i;
    struct prng p;
    prng_split(&p, s->seed, "holdout", 0);
    prng_shuffle(&p, order, rows);
    for (uint32_t i = 0; i < moved; i++) marked[order[i]] = true;
    move_marked(s, marked, moved);
    s->held_out = true;
    free(order);
    free(marked);
    return 0;
}

/* -- opening ---------------------------------------------------------------------------------------- */

static int scan_parts(struct dataset_source *s, uint32_t features, struct err_text *why)
{
    s->features = features;
    int err = s->format->scan(s, DATASET_TRAIN, why);
    if (err == 0 && s->part[DATASET_TRAIN].file_rows == 0)
        err = err_set(why, ERR_FORMAT, "%s: has no rows", s->part[DATASET_TRAIN].file[0]);
    if (err == 0 && s->has_test) err = s->format->scan(s, DATASET_TEST, why);
    return err;
}

static void fill_info(struct dataset_source *s)
{
    s->info.rows = s->part[DATASET_TRAIN].rows;
    s->info.test_rows = s->part[DATASET_TEST].rows;
    s->info.features = s->features;
    s->info.sparse = s->format->sparse;
    s->info.target = s->part[DATASET_TRAIN].target;
}

int dataset_open(const struct dataset_options *options, struct dataset_source **out, struct err_text *why)
{
    if (!(options->holdout >= 0 && options->holdout < 1))
        return err_set(why, ERR_USAGE, "--holdout: %g must be at least 0 and below 1", options->holdout);
    if (options->features > DATASET_FEATURE_MAX)
        return err_set(why, ERR_LIMIT, "--features: %u is over the limit of %u", options->features,
                       DATASET_FEATURE_MAX);
    struct dataset_source *s = mem_new_zero(1, sizeof *s);
    s->seed = options->seed;
    int err = source_find(options->path, s, why);
    if (err == 0) err = scan_parts(s, options->features, why);
    if (err == 0) err = source_select(s, options->classes, why);
    if (err == 0 && s->part[DATASET_TEST].rows == 0) err = hold_out(s, options->holdout, why);
    if (err != 0) {
        dataset_source_free(s);
        return err;
    }
    for (int part = 0; part < 2; part++) {
        free(s->part[part].label);
        s->part[part].label = NULL;
    }
    fill_info(s);
    *out = s;
    return 0;
}

const struct dataset_info *dataset_source_info(const struct dataset_source *s)
{
    return &s->info;
}

void dataset_source_free(struct dataset_source *s)
{
    if (s == NULL) return;
    for (int part = 0; part < 2; part++) {
        struct source_part *p = &s->part[part];
        for (uint32_t i = 0; i < p->file_count; i++) free(p->file[i]);
        free(p->label);
        free(p->kept);
        free(p->target);
    }
    free(s->name);
    free(s);
}

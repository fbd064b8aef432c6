/* Which node owns which rows: the table of kinds, the even kinds, and what all share. Pure. */
#include "agent/dataset/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/split_internal.h"
#include "base/check.h"

enum split_kind { SPLIT_IID, SPLIT_SORTED, SPLIT_LABEL, SPLIT_DIRICHLET, SPLIT_SIZES, SPLIT_BLOCKS };

static const struct param_spec label_params[] = {
    {"k", PARAM_INTEGER, "2", 1, DATASET_CLASS_MAX, NULL, "classes a node holds"},
};
static const struct param_spec dirichlet_params[] = {
    {"alpha", PARAM_REAL, "0.1", 1e-3, 1e6, NULL, "small = few classes a node"},
};
static const struct param_spec sizes_params[] = {
    {"ratio", PARAM_REAL, "2.04", 1, 1000, NULL, "of one node's rows to the one before"},
    {"first", PARAM_REAL, "0", 0, DATASET_ROW_MAX, NULL, "rows of the first node; 0 = derived"},
    {"groups", PARAM_INTEGER, "0", 0, NODE_COUNT_MAX, NULL,
     "equal groups; 0 = n/10 for n = 20, 30, ..., else 1"},
    {"sorted", PARAM_WORD, "yes", 0, 0, "yes|no", "by target, or shuffled"},
};

const struct choice_spec split_table[] = {
    [SPLIT_IID] = {"iid", "shuffled, equal blocks", "", NULL, 0},
    [SPLIT_SORTED] = {"sorted", "sorted by target, equal blocks", "", NULL, 0},
    [SPLIT_LABEL] = {"label", "k classes a node", "McMahan et al. 2017 (shards)", label_params, 1},
    [SPLIT_DIRICHLET] = {"dirichlet", "class shares drawn from Dirichlet(alpha)", "Hsu et al. 2019",
                         dirichlet_params, 1},
    [SPLIT_SIZES] = {"sizes", "geometric block sizes", "DIGEST's experiments", sizes_params,
                     sizeof sizes_params / sizeof sizes_params[0]},
    [SPLIT_BLOCKS] = {"blocks", "in the order of the file, equal blocks", "AsGrad's experiments", NULL, 0},
};
const size_t split_table_count = sizeof split_table / sizeof split_table[0];

/* -- order ------------------------------------------------------------------------------------------ */

struct sort_key {
    float target;
    uint32_t position; /* makes the sort stable */
    uint32_t row;
};

static int compare_keys(const void *a, const void *b)
{
    const struct sort_key *x = a, *y = b;
    if (x->target != y->target) return x->target < y->target ? -1 : 1;
    return x->position < y->position ? -1 : 1;
}

uint32_t *split_order(const struct split_input *in, bool shuffled, bool sorted)
{
    uint32_t *order = mem_new(in->rows, sizeof *order);
    for (uint32_t i = 0; i < in->rows; i++) order[i] = i;
    if (shuffled) {
        struct prng p;
        prng_split(&p, in->seed, "split", 0);
        prng_shuffle(&p, order, in->rows);
    }
    if (!sorted) return order;
    struct sort_key *key = mem_new(in->rows, sizeof *key);
    for (uint32_t i = 0; i < in->rows; i++) key[i] = (struct sort_key){in->target[order[i]], i, order[i]};
    qsort(key, in->rows, sizeof *key, compare_keys);
    for (uint32_t i = 0; i < in->rows; i++) order[i] = key[i].row;
    free(key);
    return order;
}

void class_rows_init(struct class_rows *c, const struct split_input *in)
{
    uint32_t *order = split_order(in, true, false);
    c->row = mem_new(in->rows, sizeof *c->row);
    c->start = mem_new_zero((size_t)in->classes + 1, sizeof *c->start);
    for (uint32_t i = 0; i < in->rows; i++) {
        CHECK(in->target[i] >= 0 && in->target[i] < (float)in->classes);
        c->start[(uint32_t)in->target[i] + 1]++;
    }
    for (uint32_t k = 0; k < in->classes; k++) c->start[k + 1] += c->start[k];
    uint32_t *next = mem_new(in->classes, sizeof *next);
    memcpy(next, c->start, in->classes * sizeof *next);
    for (uint32_t i = 0; i < in->rows; i++) c->row[next[(uint32_t)in->target[order[i]]]++] = order[i];
    free(next);
    free(order);
}

void class_rows_deinit(struct class_rows *c)
{
    free(c->row);
    free(c->start);
}

/* -- even blocks and geometric blocks --------------------------------------------------------------- */

static void split_evenly(const struct split_input *in, bool shuffled, bool sorted, uint32_t *owner)
{
    uint32_t *order = split_order(in, shuffled, sorted);
    for (uint32_t v = 0; v < in->node_count; v++) {
        uint64_t from = (uint64_t)in->rows * v / in->node_count,
                 to = (uint64_t)in->rows * (v + 1) / in->node_count;
        for (uint64_t i = from; i < to; i++) owner[order[i]] = v;
    }
    free(order);
}

/* Boundaries of one group: int(first * ratio^k) as DIGEST's code cuts them, the last forced to the group's
 * size. boundary is (count + 1). */
static int cut_group(double first, double ratio, uint32_t count, uint32_t size, uint32_t *boundary,
                     struct err_text *why)
{
    boundary[0] = 0;
    for (uint32_t i = 1; i <= count; i++) {
        double cut = i < count ? floor(first * pow(ratio, i - 1)) : size;
        if (cut > size)
            return err_set(why, ERR_USAGE,
                           "--split: sizes:first=%g,ratio=%g needs more than the %u rows of a group "
                           "of %u nodes; leave first=0",
                           first, ratio, size, count);
        boundary[i] = (uint32_t)cut;
        if (boundary[i] <= boundary[i - 1])
            return err_set(why, ERR_USAGE,
                           "--split: sizes: node %u of a group of %u would get no rows with first=%g,"
                           "ratio=%g and %u rows; take other values or fewer nodes",
                           i - 1, count, first, ratio, size);
    }
    return 0;
}

int split_by_sizes(const struct split_input *in, uint32_t *owner, struct err_text *why)
{
    uint32_t n = in->node_count, groups = choice_integer(in->choice, "groups");
    if (groups == 0) groups = n >= 20 && n % 10 == 0 ? n / 10 : 1;
    if (n % groups != 0)
        return err_set(why, ERR_USAGE, "--split: sizes:groups=%u does not divide %u nodes", groups, n);
    uint32_t count = n / groups, size = in->rows / groups;
    double ratio = choice_number(in->choice, "ratio"), first = choice_number(in->choice, "first");
    if (first == 0) first = size / pow(ratio, count - 1);
    uint32_t *boundary = mem_new((size_t)count + 1, sizeof *boundary);
    int err = cut_group(first, ratio, count, size, boundary, why);
    if (err == 0) {
        uint32_t *order = split_order(in, true, choice_number(in->choice, "sorted") == 0);
        for (uint32_t v = 0; v < n; v++)
            for (uint32_t i = boundary[v % count]; i < boundary[v % count + 1]; i++)
                owner[order[v / count * size + i]] = v;
        free(order);
    }
    free(boundary);
    return err;
}

/* -- building --------------------------------------------------------------------------------------- */

static int deal(const struct split_input *in, uint32_t *owner, struct err_text *why)
{
    enum split_kind kind = (enum split_kind)in->choice->index;
    if ((kind == SPLIT_LABEL || kind == SPLIT_DIRICHLET) && in->classes < 2)
        return err_set(why, ERR_USAGE,
                       "--split: %s needs classes, but the data is a regression; use iid, sorted or "
                       "sizes",
                       in->choice->spec->name);
    switch (kind) {
    case SPLIT_IID:
    case SPLIT_SORTED:
    case SPLIT_BLOCKS:
        split_evenly(in, kind == SPLIT_IID, kind == SPLIT_SORTED, owner);
        return 0;
    case SPLIT_LABEL:
        return split_by_label(in, owner, why);
    case SPLIT_DIRICHLET:
        return split_by_dirichlet(in, owner, why);
    case SPLIT_SIZES:
        return split_by_sizes(in, owner, why);
    }
    UNREACHABLE();
}

/* Fills out from owner: one counting pass keeps rows ascending within a node. */
static void collect(const uint32_t *owner, uint32_t rows, uint32_t node_count, struct split *out)
{
    out->node_count = node_count;
    out->offset = mem_new_zero((size_t)node_count + 1, sizeof *out->offset);
    for (uint32_t i = 0; i < rows; i++)
        if (owner[i] != OWNER_NONE) out->offset[owner[i] + 1]++;
    for (uint32_t v = 0; v < node_count; v++) out->offset[v + 1] += out->offset[v];
    out->row = mem_new(out->offset[node_count], sizeof *out->row);
    uint32_t *next = mem_new(node_count, sizeof *next);
    memcpy(next, out->offset, node_count * sizeof *next);
    for (uint32_t i = 0; i < rows; i++)
        if (owner[i] != OWNER_NONE) out->row[next[owner[i]]++] = i;
    free(next);
}

int split_build(const struct choice *split, const float *target, uint32_t rows, uint32_t classes,
                uint32_t node_count, uint64_t seed, struct split *out, struct err_text *why)
{
    CHECK(node_count > 0 && split->index < split_table_count);
    if (rows < node_count)
        return err_set(why, ERR_USAGE,
                       "--nodes: %u nodes cannot share %u training rows; every node needs one", node_count,
                       rows);
    struct split_input in = {split, target, rows, classes, node_count, seed};
    uint32_t *owner = mem_new(rows, sizeof *owner);
    for (uint32_t i = 0; i < rows; i++) owner[i] = OWNER_NONE;
    int err = deal(&in, owner, why);
    if (err == 0) {
        collect(owner, rows, node_count, out);
        for (uint32_t v = 0; v < node_count; v++) CHECK(split_size(out, v) > 0);
    }
    free(owner);
    return err;
}

void split_deinit(struct split *s)
{
    free(s->offset);
    free(s->row);
    memset(s, 0, sizeof *s);
}

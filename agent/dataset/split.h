/* Which node owns which training rows: a pure function of (choice, targets, node_count, seed). */
#ifndef GADABOUT_AGENT_DATASET_SPLIT_H
#define GADABOUT_AGENT_DATASET_SPLIT_H

#include <stdint.h>

#include "agent/dataset/dataset.h"

/* iid                  one global shuffle, equal contiguous blocks
 * sorted               stable sort by target, equal contiguous blocks
 * label:k=2            each node holds k classes: n*k equal single-class shards dealt out, each class cut
 *                      into equal shares; every node gets exactly k distinct classes where n*k allows it
 * dirichlet:alpha=0.1  class proportions per node drawn from Dirichlet(alpha)
 * sizes:ratio=2.04     geometric block sizes as in DIGEST's experiments (docs/algorithms.md), parameters
 *                      first (0 = derived), groups (0 = n/10 when n >= 20 and divisible by 10, else 1),
 *                      sorted (yes|no) */
extern const struct choice_spec split_table[];
extern const size_t split_table_count;

struct split {
    uint32_t node_count;
    uint32_t *offset; /* (node_count + 1): node v owns row[offset[v] .. offset[v+1]) */
    uint32_t *row;    /* ascending within a node; every row at most once */
};

/* Errors: ERR_USAGE when a node would get no rows (fewer rows than nodes, k > classes, ...). */
int split_build(const struct choice *split, const float *target, uint32_t rows, uint32_t classes,
                uint32_t node_count, uint64_t seed, struct split *out, struct err_text *why);
void split_deinit(struct split *s);

static inline uint32_t split_size(const struct split *s, uint32_t node)
{
    return s->offset[node + 1] - s->offset[node];
}

#endif

/* Inside of the split: who owns a row, filled by one function per kind. Pure. */
#ifndef GADABOUT_AGENT_DATASET_SPLIT_INTERNAL_H
#define GADABOUT_AGENT_DATASET_SPLIT_INTERNAL_H

#include <stdint.h>

#include "agent/dataset/split.h"

#define OWNER_NONE UINT32_MAX

struct split_input {
    const struct choice *choice;
    const float *target; /* (rows) */
    uint32_t rows, classes, node_count;
    uint64_t seed;
};

/* Rows grouped by class, in seeded order within a class. */
struct class_rows {
    uint32_t *row;   /* (rows): class c has row[start[c] .. start[c+1]) */
    uint32_t *start; /* (classes + 1) */
};

void class_rows_init(struct class_rows *c, const struct split_input *in);
void class_rows_deinit(struct class_rows *c);

/* Each sets owner[row], preset to OWNER_NONE, for all rows it deals out. Errors: ERR_USAGE. */
int split_by_label(const struct split_input *in, uint32_t *owner, struct err_text *why);
int split_by_dirichlet(const struct split_input *in, uint32_t *owner, struct err_text *why);
int split_by_sizes(const struct split_input *in, uint32_t *owner, struct err_text *why);

/* Returns the owned order of all rows: seeded shuffle (shuffled), then stable by target (sorted). */
uint32_t *split_order(const struct split_input *in, bool shuffled, bool sorted);

#endif

/* Data sets: files in, rows out. Formats: idx, libsvm text, CSV, CIFAR records; each plain, .gz or .xz.
 *
 * Loading is in two passes so that a node keeps only its own rows: dataset_open reads shape and targets
 * of the training part (cheap to keep: 4 bytes a row), the split decides who owns what, dataset_load reads
 * the chosen rows. Pixels stay bytes in memory (scaled by 1/255 when a batch is made). */
#ifndef GADABOUT_AGENT_DATASET_DATASET_H
#define GADABOUT_AGENT_DATASET_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "algo/model/model.h"
#include "base/choice.h"
#include "base/err.h"
#include "base/prng.h"

enum dataset_part { DATASET_TRAIN, DATASET_TEST };

struct dataset_options {
    const char *path;    /* directory or file, as given to --data */
    const char *classes; /* NULL, or "9,4": keep only these labels, renumbered 0,1 in this order */
    uint32_t features; /* libsvm: d; 0 = known set by its name (a9a 123, w8a 300, ...), else largest index */
    double holdout;    /* share of training rows held out when there is no test file; 0 = none */
    uint64_t seed;     /* of the holdout draw */
};

/* What dataset_open found: nothing but targets in memory. */
struct dataset_info {
    uint32_t rows;      /* training rows after class selection and holdout */
    uint32_t test_rows; /* 0 = no held-out data: evaluate on the training rows */
    uint32_t features;
    uint32_t classes; /* 1 = regression */
    bool sparse;
    float *target; /* (rows) class index or value; owned by the source */
};

struct dataset_source; /* opened files' names, format, selections */

/* Returns an owned source. Errors: ERR_IO (missing, unreadable, truncated .gz/.xz), ERR_FORMAT (magic,
 * counts that disagree, a label out of range, NaN; names file and line or record), ERR_USAGE (--classes
 * naming an absent label), ERR_LIMIT. why names the file. */
int dataset_open(const struct dataset_options *options, struct dataset_source **out, struct err_text *why);
const struct dataset_info *dataset_source_info(const struct dataset_source *s); /* borrowed */
void dataset_source_free(struct dataset_source *s);

/* Rows in memory. */
struct dataset {
    uint32_t rows, features, classes;
    uint8_t *bytes;      /* (rows, features) pixels, or NULL */
    float *dense;        /* (rows, features), or NULL */
    uint32_t *row_start; /* CSR, or NULL */
    uint32_t *column;
    float *value;
    float *target; /* (rows) */
};

/* Loads rows index[0..count) of a part (ascending; NULL = all) in that order. */
int dataset_load(const struct dataset_source *s, enum dataset_part part, const uint32_t *index,
                 uint32_t count, struct dataset *out, struct err_text *why);
void dataset_deinit(struct dataset *d);

/* A batch of rows gathered from a data set; memory is reused from call to call. */
struct batch_buffer {
    struct batch batch; /* valid until the next gather */
    float *dense;
    uint32_t *row_start, *column;
    float *value, *target;
    size_t dense_capacity, row_capacity, entry_capacity;
};

/* Gathers rows row[0..count) (repetition allowed). */
const struct batch *batch_gather(struct batch_buffer *b, const struct dataset *d, const uint32_t *row,
                                 uint32_t count);
void batch_buffer_deinit(struct batch_buffer *b);

#endif

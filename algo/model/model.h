/* Models: loss and gradient over one flat float32 parameter vector.
 *
 * A model is immutable after creation and keeps no parameters; scratch memory is inside it, so one model
 * object serves one thread. Parameters x are (dim). */
#ifndef GADABOUT_ALGO_MODEL_H
#define GADABOUT_ALGO_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "algo/step.h"
#include "algo/vec.h"
#include "base/choice.h"
#include "base/err.h"

/* A batch of samples, dense or sparse (exactly one of dense / row_start is set). Borrowed. */
struct batch {
    uint32_t rows;
    uint32_t features;
    const float *dense;        /* (rows, features) row-major, or NULL */
    const uint32_t *row_start; /* (rows + 1) CSR, or NULL */
    const uint32_t *column;    /* ascending within a row */
    const float *value;
    const float *target; /* (rows): class index 0..classes-1; regression: the value */
};

/* What the data looks like to a model. */
struct model_shape {
    uint32_t features;
    uint32_t classes;        /* 1 = regression */
    uint64_t samples_total;  /* D over all nodes; l2=auto means 1/D */
    uint32_t batch_rows_max; /* largest batch loss_grad will see (predict cuts larger ones itself) */
    bool sparse;
};

struct model;

/* quadratic: f(x) = mean over rows of 1/2 (x - row)' A (x - row), for exact tests; cond = condition of A
 * average  : the same with A = I, whose trainer is consensus alone (agent/experiment/trainer_average.c)
 * logistic : two classes, one weight vector, bias, L2      softmax : classes x features (+ bias), L2
 * mlp      : hidden=100 (or 128-64), relu, softmax output */
extern const struct choice_spec model_table[];
extern const size_t model_table_count;

/* Returns an owned model in *out. Errors: ERR_USAGE when the choice does not fit the shape (logistic with
 * more than two classes: "use --classes a,b"), ERR_LIMIT for more than MODEL_DIM_MAX parameters. */
int model_new(const struct choice *choice, const struct model_shape *shape, const struct vec_ops *vec,
              struct model **out, struct err_text *why);
void model_free(struct model *m);

size_t model_dim(const struct model *m);
bool model_classifies(const struct model *m); /* false: model_evaluate counts nothing (quadratic) */

/* The parameter tensors, in the order of x, without gaps: *tensor (*count) is borrowed from the model. */
void model_tensors(const struct model *m, const struct tensor **tensor, uint32_t *count);

/* x (dim) = the common start, a pure function of the seed: zeros for convex models, He-normal for mlp. */
void model_start(const struct model *m, uint64_t seed, float *x);

/* Returns the mean loss over the batch plus the regulariser at x; when grad is not NULL, grad (dim) is
 * overwritten with its gradient. */
double model_loss_grad(struct model *m, const float *x, const struct batch *b, float *grad);

/* Mean loss (with regulariser) and number of rows classified correctly (0 for regression). */
void model_evaluate(struct model *m, const float *x, const struct batch *b, double *loss, uint32_t *correct);

#endif

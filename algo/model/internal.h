/* What the models of this folder share. Private to algo/model.
 *
 * A model file supplies three functions over at most piece_rows rows at a time; model.c cuts larger batches,
 * takes the mean and adds the regulariser. */
#ifndef GADABOUT_ALGO_MODEL_INTERNAL_H
#define GADABOUT_ALGO_MODEL_INTERNAL_H

#include "algo/model/model.h"

struct model_ops {
    bool classifies;
    void (*free)(struct model *m); /* takes m */
    void (*start)(const struct model *m, uint64_t seed, float *x);
    /* Returns the regulariser at x; grad (dim; may be NULL) is overwritten with its gradient. */
    double (*penalty)(const struct model *m, const float *x, float *grad);
    /* Returns the sum of the rows' losses without regulariser and adds the number classified correctly to
     * *correct; adds weight * its gradient to grad (dim; may be NULL). */
    double (*sum)(struct model *m, const float *x, const struct batch *piece, double weight, float *grad,
                  uint32_t *correct);
};

enum { HIDDEN_LAYER_MAX = 8, LAYER_MAX = HIDDEN_LAYER_MAX + 1, TENSOR_MAX = 2 * LAYER_MAX };

/* First member of every model. */
struct model {
    const struct model_ops *ops;
    const struct vec_ops *vec;
    struct model_shape shape;
    size_t dim;
    uint32_t piece_rows; /* rows that scratch memory has room for */
    uint32_t tensor_count;
    struct tensor tensor[TENSOR_MAX]; /* filled by model_add_tensor */
};

/* Creators, one per row of model_table: fill *out with an owned model, base fields by model_init. */
typedef int model_create(const struct choice *choice, const struct model_shape *shape,
                         const struct vec_ops *vec, struct model **out, struct err_text *why);
model_create average_create, quadratic_create, logistic_create, softmax_create, mlp_create;

void model_init(struct model *m, const struct model_ops *ops, const struct vec_ops *vec,
                const struct model_shape *shape, size_t dim);

/* The next tensor of x, behind those before. */
void model_add_tensor(struct model *m, size_t rows, size_t columns);

/* l2=auto|number of a choice: ERR_USAGE with why when it is neither. */
int model_parse_l2(const struct choice *choice, const struct model_shape *shape, double *out,
                   struct err_text *why);

/* ERR_USAGE when the data are regression values, for models that classify. */
int model_need_classes(const struct choice *choice, const struct model_shape *shape, struct err_text *why);

/* -- linear maps, linear.c --------------------------------------------------------------------- */

/* Returns l2 / 2 |x|^2 over x (n); grad (n; may be NULL) is overwritten with l2 x. */
double linear_penalty(double l2, size_t n, const float *x, float *grad);

/* out (rows, width) = input (rows, features) W' + bias; W is (width, features), bias (width) or NULL. */
void linear_forward(const struct vec_ops *vec, const struct batch *input, uint32_t width, const float *w,
                    const float *bias, float *out);

/* Adds delta' input to grad_w (width, features) and the column sums of delta (rows, width) to grad_bias
 * (width; may be NULL). */
void linear_backward(const struct vec_ops *vec, const struct batch *input, uint32_t width, const float *delta,
                     float *grad_w, float *grad_bias);

#endif

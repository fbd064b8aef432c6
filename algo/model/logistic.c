/* Logistic regression with two classes; class 1 is y = +1, class 0 is y = -1:
 *
 *     f(x) = mean over rows of log(1 + exp(-y (w'a + b))) + l2 / 2 |w|^2 + nonconvex sum_j w_j^2 / (1 + w_j^2).
 *
 * x is w (features), then b when there is a bias; b is not regularised. The loss is convex without its last
 * term, which experiments with non-convex methods add (AsGrad, arXiv:2310.20452). The start is 0. */
#include "algo/model/internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

struct logistic {
    struct model base;
    double l2, nonconvex;
    bool bias;
    float *z; /* (piece_rows): w'a + b, then the loss's slope there */
};

static void logistic_free(struct model *m)
{
    struct logistic *l = (struct logistic *)m;
    free(l->z);
    free(l);
}

static void logistic_start(const struct model *m, uint64_t seed, float *x)
{
    (void)seed;
    vec_zero(m->dim, x);
}

/* Returns lambda sum w^2 / (1 + w^2); adds its gradient 2 lambda w / (1 + w^2)^2 to grad (may be NULL). */
static double nonconvex_penalty(double lambda, size_t n, const float *w, float *grad)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double value = (double)w[i], grown = 1 + value * value;
        sum += value * value / grown;
        if (grad != NULL) grad[i] += (float)(2 * lambda * value / (grown * grown));
    }
    return lambda * sum;
}

static double logistic_penalty(const struct model *m, const float *x, float *grad)
{
    const struct logistic *l = (const struct logistic *)m;
    if (grad != NULL && l->bias) grad[m->shape.features] = 0;
    double penalty = linear_penalty(l->l2, m->shape.features, x, grad);
    return l->nonconvex == 0 ? penalty
                             : penalty + nonconvex_penalty(l->nonconvex, m->shape.features, x, grad);
}

static double logistic_sum(struct model *m, const float *x, const struct batch *piece, double weight,
                           float *grad, uint32_t *correct)
{
    struct logistic *l = (struct logistic *)m;
    uint32_t features = m->shape.features;
    linear_forward(m->vec, piece, 1, x, l->bias ? x + features : NULL, l->z);
    double loss = 0;
    for (uint32_t r = 0; r < piece->rows; r++) {
        bool positive = piece->target[r] > 0.5f;
        double y = positive ? 1 : -1, margin = y * (double)l->z[r];
        double e = exp(-fabs(margin)); /* at most 1: neither branch overflows */
        loss += (margin > 0 ? 0 : -margin) + log1p(e);
        double sigmoid = (margin > 0 ? e : 1) / (1 + e); /* of -margin */
        *correct += (l->z[r] > 0) == positive;
        l->z[r] = (float)(-y * sigmoid * weight);
    }
    if (grad != NULL) linear_backward(m->vec, piece, 1, l->z, grad, l->bias ? grad + features : NULL);
    return loss;
}

static const struct model_ops logistic_ops = {
    .classifies = true,
    .free = logistic_free,
    .start = logistic_start,
    .penalty = logistic_penalty,
    .sum = logistic_sum,
};

int logistic_create(const struct choice *choice, const struct model_shape *shape, const struct vec_ops *vec,
                    struct model **out, struct err_text *why)
{
    int err = model_need_classes(choice, shape, why);
    if (err != 0) return err;
    if (shape->classes != 2)
        return err_set(why, ERR_USAGE,
                       "--task: logistic needs two classes, the data have %u; "
                       "use --classes a,b to keep two of them, or --task softmax",
                       shape->classes);
    double l2;
    err = model_parse_l2(choice, shape, &l2, why);
    if (err != 0) return err;
    struct logistic *l = mem_new_zero(1, sizeof *l);
    l->l2 = l2;
    l->nonconvex = choice_number(choice, "nonconvex");
    l->bias = choice_integer(choice, "bias") == 0;
    model_init(&l->base, &logistic_ops, vec, shape, (size_t)shape->features + (l->bias ? 1 : 0));
    model_add_tensor(&l->base, 1, shape->features);
    if (l->bias) model_add_tensor(&l->base, 1, 1);
    l->z = mem_new(l->base.piece_rows, sizeof *l->z);
    *out = &l->base;
    return 0;
}

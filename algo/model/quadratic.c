/* The quadratic with a known optimum, for exact tests of algorithms:
 *
 *     f(x) = mean over rows of 1/2 (x - row)' A (x - row),
 *
 * A diagonal, its eigenvalues spread geometrically from 1 to cond over the coordinates. The optimum is the
 * mean of the rows whatever A is; over several nodes it is the weighted mean of their means, so an algorithm
 * that is biased towards some node shows it at once. The task `average` is the case A = I. */
#include "algo/model/internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

struct quadratic {
    struct model base;
    float *eigenvalue; /* (features) */
};

static void quadratic_free(struct model *m)
{
    struct quadratic *q = (struct quadratic *)m;
    free(q->eigenvalue);
    free(q);
}

static void quadratic_start(const struct model *m, uint64_t seed, float *x)
{
    (void)seed;
    vec_zero(m->dim, x);
}

static double quadratic_penalty(const struct model *m, const float *x, float *grad)
{
    (void)x;
    if (grad != NULL) vec_zero(m->dim, grad);
    return 0;
}

static double quadratic_sum(struct model *m, const float *x, const struct batch *piece, double weight,
                            float *grad, uint32_t *correct)
{
    (void)correct;
    const float *a = ((struct quadratic *)m)->eigenvalue;
    double loss = 0;
    for (uint32_t r = 0; r < piece->rows; r++) {
        const float *row = piece->dense + (size_t)r * piece->features;
        for (size_t j = 0; j < m->dim; j++) {
            double difference = (double)x[j] - (double)row[j];
            double slope = (double)a[j] * difference;
            loss += 0.5 * slope * difference;
            if (grad != NULL) grad[j] += (float)(weight * slope);
        }
    }
    return loss;
}

static const struct model_ops quadratic_ops = {
    .classifies = false,
    .free = quadratic_free,
    .start = quadratic_start,
    .penalty = quadratic_penalty,
    .sum = quadratic_sum,
};

static int create(const char *name, double cond, const struct model_shape *shape, const struct vec_ops *vec,
                  struct model **out, struct err_text *why)
{
    if (shape->sparse)
        return err_set(why, ERR_USAGE,
                       "--task: %s needs dense rows, but the data are sparse; "
                       "use dense data or --task logistic",
                       name);
    struct quadratic *q = mem_new_zero(1, sizeof *q);
    model_init(&q->base, &quadratic_ops, vec, shape, shape->features);
    model_add_tensor(&q->base, 1, shape->features);
    q->eigenvalue = mem_new(shape->features, sizeof *q->eigenvalue);
    for (uint32_t j = 0; j < shape->features; j++)
        q->eigenvalue[j] = shape->features > 1 ? (float)pow(cond, (double)j / (shape->features - 1)) : 1.0f;
    *out = &q->base;
    return 0;
}

int quadratic_create(const struct choice *choice, const struct model_shape *shape, const struct vec_ops *vec,
                     struct model **out, struct err_text *why)
{
    return create(choice->spec->name, choice_number(choice, "cond"), shape, vec, out, why);
}

int average_create(const struct choice *choice, const struct model_shape *shape, const struct vec_ops *vec,
                   struct model **out, struct err_text *why)
{
    return create(choice->spec->name, 1, shape, vec, out, why);
}

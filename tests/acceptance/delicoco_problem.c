/* See delicoco_problem.h. One pass over the rows: predictions, then the gradient, while a block is in cache. */
#include "tests/acceptance/delicoco_problem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/dataset/dataset.h"
#include "algo/vec.h"
#include "base/check.h"
#include "base/prng.h"

enum { BLOCK_ROWS = 64, SYNTHETIC_ROWS = 10000, SYNTHETIC_DIM = 2000 };

/* -- making ------------------------------------------------------------------------------------ */

void problem_synthetic(struct problem *p, enum problem_kind kind, uint64_t seed)
{
    *p = (struct problem){.kind = kind, .rows = SYNTHETIC_ROWS, .dim = SYNTHETIC_DIM, .l2 = 0.001};
    p->a = mem_new((size_t)p->rows * p->dim, sizeof *p->a);
    p->target = mem_new(p->rows, sizeof *p->target);
    float *truth = mem_new(p->dim, sizeof *truth);
    struct prng draw;
    prng_seed(&draw, seed);
    for (size_t j = 0; j < p->dim; j++) truth[j] = (float)((1 + prng_normal(&draw)) / sqrt(1000));
    for (size_t i = 0; i < (size_t)p->rows * p->dim; i++) p->a[i] = (float)prng_normal(&draw);
    for (uint32_t r = 0; r < p->rows; r++) {
        float z = vec_blas.dot(p->dim, p->a + r * p->dim, truth);
        if (kind == PROBLEM_RELU && z < 0) z = 0;
        p->target[r] = z + (float)(0.05 * prng_normal(&draw));
    }
    free(truth);
}

static void take_rows(struct problem *p, const struct dataset *d, uint32_t wanted, uint32_t *at)
{
    for (uint32_t r = 0; r < d->rows; r++) {
        if (d->target[r] != (float)wanted) continue;
        float *row = p->a + *at * p->dim;
        for (uint32_t j = 0; j < d->features; j++) row[j] = d->bytes[(size_t)r * d->features + j] / 255.0f;
        row[d->features] = 1;
        p->target[(*at)++] = wanted == 1 ? 1.0f : -1.0f;
    }
}

void problem_digits(struct problem *p)
{
    struct dataset_options options = {.path = "data/mnist-4-9"};
    struct dataset_source *source;
    struct dataset d;
    struct err_text why = {""};
    int err = dataset_open(&options, &source, &why);
    if (err == 0) err = dataset_load(source, DATASET_TRAIN, NULL, 0, &d, &why);
    if (err != 0) check_failed(why.text, __FILE__, __LINE__);
    *p = (struct problem){.kind = PROBLEM_LOGISTIC, .rows = d.rows, .dim = d.features + 1u};
    p->a = mem_new((size_t)p->rows * p->dim, sizeof *p->a);
    p->target = mem_new(p->rows, sizeof *p->target);
    uint32_t at = 0;
    take_rows(p, &d, 0, &at);
    take_rows(p, &d, 1, &at);
    CHECK(at == p->rows);
    dataset_deinit(&d);
    dataset_source_free(source);
}

void problem_deinit(struct problem *p)
{
    free(p->a);
    free(p->target);
    *p = (struct problem){0};
}

/* -- loss and gradient ------------------------------------------------------------------------- */

/* The loss of one row; its slope replaces the prediction *z. */
static double row_loss(enum problem_kind kind, double target, float *z)
{
    double v = (double)*z, e;
    switch (kind) {
    case PROBLEM_LINEAR:
        *z = (float)(v - target);
        return 0.5 * (v - target) * (v - target);
    case PROBLEM_RELU:
        *z = v > 0 ? (float)(v - target) : 0;
        v = v > 0 ? v : 0;
        return 0.5 * (v - target) * (v - target);
    case PROBLEM_LOGISTIC:
        e = exp(-fabs(v)); /* at most 1 */
        *z = (float)(-target * ((target * v > 0 ? e : 1) / (1 + e)));
        return log1p(e) + (target * v > 0 ? 0 : fabs(v));
    }
    UNREACHABLE();
}

/* Sum of losses; adds the sum of gradients to grad (may be NULL). */
static double sum_rows(const struct problem *p, uint32_t first, uint32_t count, const float *x, float *grad)
{
    double loss = 0;
    for (uint32_t from = first; from < first + count; from += BLOCK_ROWS) {
        uint32_t rows = first + count - from < BLOCK_ROWS ? first + count - from : BLOCK_ROWS;
        const float *a = p->a + from * p->dim;
        float z[BLOCK_ROWS];
        vec_blas.gemm(false, true, 1, rows, p->dim, 1, x, p->dim, a, p->dim, 0, z, rows);
        for (uint32_t r = 0; r < rows; r++) loss += row_loss(p->kind, (double)p->target[from + r], &z[r]);
        if (grad != NULL)
            vec_blas.gemm(false, false, 1, p->dim, rows, 1, z, rows, a, p->dim, 1, grad, p->dim);
    }
    return loss;
}

double problem_loss(const struct problem *p, const float *x)
{
    double norm = vec_norm2(p->dim, x);
    return sum_rows(p, 0, p->rows, x, NULL) / p->rows + 0.5 * p->l2 * norm * norm;
}

void problem_gradient(const struct problem *p, uint32_t first, uint32_t count, const float *x, float *grad)
{
    CHECK(count > 0 && first + count <= p->rows);
    vec_zero(p->dim, grad);
    sum_rows(p, first, count, x, grad);
    vec_scale(p->dim, 1.0f / (float)count, grad);
    if (p->l2 > 0) vec_blas.axpy(p->dim, (float)p->l2, x, grad);
}

double problem_descend(const struct problem *p, double step, uint32_t rounds)
{
    float *x = mem_new_zero(p->dim, sizeof *x), *grad = mem_new(p->dim, sizeof *grad);
    for (uint32_t t = 0; t < rounds; t++) {
        problem_gradient(p, 0, p->rows, x, grad);
        vec_blas.axpy(p->dim, (float)-step, grad, x);
    }
    double loss = problem_loss(p, x);
    free(x);
    free(grad);
    return loss;
}

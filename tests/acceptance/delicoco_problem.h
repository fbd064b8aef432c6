/* The three problems of the DeLi-CoCo paper (delicoco_def.md 5.6), whole in memory, with loss and full gradient of any
 * run of rows. */
#ifndef GADABOUT_TESTS_ACCEPTANCE_DELICOCO_PROBLEM_H
#define GADABOUT_TESTS_ACCEPTANCE_DELICOCO_PROBLEM_H

#include <stddef.h>
#include <stdint.h>

enum problem_kind {
    PROBLEM_LINEAR,   /* SYN-1: (a'x - y)^2 / 2 */
    PROBLEM_RELU,     /* SYN-2: (max(0, a'x) - y)^2 / 2 */
    PROBLEM_LOGISTIC, /* log(1 + exp(-y a'x)), y = +-1 */
};

struct problem {
    enum problem_kind kind;
    uint32_t rows;
    size_t dim;
    double l2;
    float *a;      /* (rows, dim) */
    float *target; /* (rows) */
};

/* SYN-1 and SYN-2: features N(0, 1), weights N(1, 1) / sqrt(1000), noise N(0, 0.05^2), l2 = 0.001. */
void problem_synthetic(struct problem *p, enum problem_kind kind, uint64_t seed);

/* MNIST 4 against 9 from data/mnist-4-9: a column of ones for the bias, rows sorted by label, no regulariser. */
void problem_digits(struct problem *p);
void problem_deinit(struct problem *p);

/* Mean loss over all rows, and l2 / 2 ||x||^2. */
double problem_loss(const struct problem *p, const float *x);

/* grad (dim) = the gradient of the mean over rows [first, first + count) and of the regulariser. */
void problem_gradient(const struct problem *p, uint32_t first, uint32_t count, const float *x, float *grad);

/* Gradient descent over all rows from 0; returns the loss it ends with. */
double problem_descend(const struct problem *p, double step, uint32_t rounds);

#endif

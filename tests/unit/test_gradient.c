/* Goal: every model's gradient is the derivative of its loss, whatever the kernels, the storage of the rows
 * and the size of the batch.
 *
 * Method: central differences (f(x + h e) - f(x - h e)) / 2h of the double loss, compared coordinate by
 * coordinate; the greatest difference relative to the greatest component must stay below the model's
 * tolerance. The tolerances cover float32 outputs inside the models (1e-7 of the loss, over h) and the third
 * derivative (times h squared). Planted gradients, each wrong in one way, must exceed the same tolerances. */
#include <math.h>

#include "model_fixture.h"

static const struct vec_ops *const kernels[] = {&vec_ref, &vec_blas};

/* -- the checker ------------------------------------------------------------------------------- */

typedef double loss_grad(struct model *m, const float *x, const struct batch *b, float *grad);

/* Greatest difference between f's gradient and central differences of its loss, relative to the greatest
 * component of the latter. */
static double gradient_error(loss_grad *f, struct model *m, const struct batch *b, double step)
{
    size_t dim = model_dim(m);
    float *x = random_point(dim, 3), *grad = mem_new(dim, sizeof *grad);
    for (size_t i = 0; i < dim; i++) grad[i] = NAN; /* must be overwritten */
    f(m, x, b, grad);
    double greatest = 0, error = 0;
    for (size_t i = 0; i < dim; i++) {
        float at = x[i];
        float high = (float)(at + step), low = (float)(at - step);
        x[i] = high;
        double above = f(m, x, b, NULL);
        x[i] = low;
        double below = f(m, x, b, NULL);
        x[i] = at;
        double slope = (above - below) / ((double)high - (double)low);
        double difference = fabs(slope - (double)grad[i]);
        if (fabs(slope) > greatest) greatest = fabs(slope);
        if (!(difference <= error)) error = difference;
    }
    free(grad);
    free(x);
    return error / greatest;
}

static const struct gradient_case {
    const char *task;
    uint32_t features, classes;
    double step, tolerance;
} gradient_cases[] = {
    {"quadratic", 7, 1, 0.25, 1e-5},
    {"quadratic:cond=100", 7, 3, 0.25, 1e-5},
    {"logistic", 13, 2, 0.005, 2e-4},
    {"logistic:bias=no,l2=0.3", 13, 2, 0.005, 2e-4},
    {"logistic:l2=0,nonconvex=0.4", 13, 2, 0.005, 2e-4},
    {"softmax", 11, 5, 0.005, 2e-4},
    {"softmax:bias=no,l2=0.2", 11, 3, 0.005, 2e-4},
    {"softmax:l2=auto", 9, 2, 0.005, 2e-4},
    {"mlp:hidden=9", 6, 4, 0.0005, 2e-3}, /* smaller step: relus may not switch within it */
    {"mlp:hidden=8-5,l2=0.1", 6, 3, 0.0005, 2e-3},
};
enum { GRADIENT_CASES = sizeof gradient_cases / sizeof gradient_cases[0] };

static double case_error(const struct gradient_case *c, loss_grad *f, const struct vec_ops *vec, bool sparse)
{
    struct rows rows;
    rows_init(&rows, 23, c->features, c->classes, 21);
    struct model_shape shape = shape_of(c->features, c->classes);
    if (strncmp(c->task, "quadratic", 9) == 0) shape.sparse = false;
    struct model *m = make_model(c->task, &shape, vec);
    double error = gradient_error(f, m, sparse ? &rows.sparse : &rows.dense, c->step);
    model_free(m);
    rows_deinit(&rows);
    return error;
}

static void gradients_meet_finite_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < GRADIENT_CASES; i++)
        for (size_t v = 0; v < 2; v++)
            for (int sparse = 0; sparse < 2; sparse++) {
                const struct gradient_case *c = &gradient_cases[i];
                if (sparse && strncmp(c->task, "quadratic", 9) == 0) continue;
                double error = case_error(c, model_loss_grad, kernels[v], sparse);
                if (!(error <= c->tolerance)) fail_msg("%s %s: error %g", c->task, kernels[v]->name, error);
            }
}

static double one_component_off(struct model *m, const float *x, const struct batch *b, float *grad)
{
    double loss = model_loss_grad(m, x, b, grad);
    if (grad == NULL) return loss;
    float greatest = 0;
    for (size_t i = 0; i < model_dim(m); i++) greatest = fmaxf(greatest, fabsf(grad[i]));
    grad[model_dim(m) / 2] += 0.01f * greatest;
    return loss;
}

static double last_row_forgotten(struct model *m, const float *x, const struct batch *b, float *grad)
{
    struct batch fewer = *b;
    fewer.rows--;
    return model_loss_grad(m, x, grad != NULL ? &fewer : b, grad);
}

static double component_left_as_it_was(struct model *m, const float *x, const struct batch *b, float *grad)
{
    float before = grad != NULL ? grad[model_dim(m) - 1] : 0;
    double loss = model_loss_grad(m, x, b, grad);
    if (grad != NULL) grad[model_dim(m) - 1] = before;
    return loss;
}

static void planted_gradients_are_caught(void **state)
{
    (void)state;
    loss_grad *const planted[] = {one_component_off, last_row_forgotten, component_left_as_it_was};
    for (size_t i = 0; i < GRADIENT_CASES; i++)
        for (size_t p = 0; p < 3; p++)
            assert_false(case_error(&gradient_cases[i], planted[p], &vec_ref, false) <=
                         gradient_cases[i].tolerance);
}

/* -- the same function from every side --------------------------------------------------------- */

/* Greatest difference between two gradients, relative to the greatest component. */
static double vectors_differ(const float *a, const float *b, size_t dim)
{
    double greatest = 0, difference = 0;
    for (size_t i = 0; i < dim; i++) {
        greatest = fmax(greatest, fabs((double)a[i]));
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
    }
    return difference / greatest;
}

static void sparse_rows_and_small_pieces_give_the_same_gradient(void **state)
{
    (void)state;
    static const char *const tasks[] = {"logistic", "softmax:l2=0.1", "mlp:hidden=6-4"};
    enum { ROWS = 600 }; /* three pieces, the last one short */
    struct rows rows;
    rows_init(&rows, ROWS, 14, 2, 22);
    for (size_t i = 0; i < 3; i++)
        for (size_t v = 0; v < 2; v++) {
            struct model_shape shape = shape_of(14, 2), single = shape;
            single.batch_rows_max = 1;
            struct model *m = make_model(tasks[i], &shape, kernels[v]),
                         *small = make_model(tasks[i], &single, kernels[v]);
            size_t dim = model_dim(m);
            float *x = random_point(dim, 4), *a = mem_new(dim, sizeof *a), *b = mem_new(dim, sizeof *b);
            double loss = model_loss_grad(m, x, &rows.dense, a);
            assert_true(fabs(loss - model_loss_grad(m, x, &rows.sparse, b)) < 1e-6 * loss);
            assert_true(vectors_differ(a, b, dim) < 1e-5);
            assert_true(fabs(loss - model_loss_grad(small, x, &rows.dense, b)) < 1e-6 * loss);
            assert_true(vectors_differ(a, b, dim) < 1e-5);
            assert_true(fabs(loss - model_loss_grad(small, x, &rows.sparse, b)) < 1e-6 * loss);
            assert_true(vectors_differ(a, b, dim) < 1e-5);
            free(b);
            free(a);
            free(x);
            model_free(small);
            model_free(m);
        }
    rows_deinit(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_meet_finite_differences),
        cmocka_unit_test(planted_gradients_are_caught),
        cmocka_unit_test(sparse_rows_and_small_pieces_give_the_same_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: losses, starts, counts and refusals of the models are what the headers say.
 *
 * Method: values worked out by hand at chosen points; whole batches against their rows one by one; a table of
 * choices that do not fit the data, each with the words that its error must say. */
#include <math.h>

#include "model_fixture.h"

/* -- counting ---------------------------------------------------------------------------------- */

static void evaluation_counts_what_single_rows_say(void **state)
{
    (void)state;
    static const char *const tasks[] = {"logistic:l2=0.5", "softmax", "mlp:hidden=6"};
    enum { ROWS = 300 };
    struct rows rows;
    rows_init(&rows, ROWS, 8, 2, 23);
    for (size_t i = 0; i < 3; i++) {
        struct model_shape shape = shape_of(8, 2);
        struct model *m = make_model(tasks[i], &shape, &vec_ref);
        float *x = random_point(model_dim(m), 5);
        double loss, sum = 0;
        uint32_t correct, count = 0;
        model_evaluate(m, x, &rows.dense, &loss, &correct);
        for (uint32_t r = 0; r < ROWS; r++) {
            struct batch row = {
                .rows = 1, .features = 8, .dense = rows.cells + (size_t)r * 8, .target = rows.target + r};
            double one;
            uint32_t right;
            model_evaluate(m, x, &row, &one, &right);
            sum += one;
            count += right;
        }
        assert_true(count > 0 && count < ROWS);
        assert_int_equal(correct, count);
        assert_true(fabs(loss - sum / ROWS) < 1e-6 * loss);
        assert_true(fabs(loss - model_loss_grad(m, x, &rows.dense, NULL)) < 1e-12);
        free(x);
        model_free(m);
    }
    rows_deinit(&rows);
}

/* -- known values ------------------------------------------------------------------------------ */

static double loss_at(struct model *m, const float *x, const struct batch *b)
{
    return model_loss_grad(m, x, b, NULL);
}

static void start_of_convex_models_knows_nothing(void **state)
{
    (void)state;
    struct rows rows;
    rows_init(&rows, 40, 6, 2, 24);
    const char *const tasks[] = {"logistic", "softmax"};
    for (size_t i = 0; i < 2; i++) {
        struct model_shape shape = shape_of(6, 2);
        struct model *m = make_model(tasks[i], &shape, &vec_ref);
        float x[14];
        model_start(m, 9, x);
        assert_true(fabs(loss_at(m, x, &rows.dense) - log(2)) < 1e-7);
        model_free(m);
    }
    rows_deinit(&rows);
}

static void class_one_is_positive_in_logistic(void **state)
{
    (void)state;
    struct model_shape shape = shape_of(1, 2);
    struct model *m = make_model("logistic:bias=yes,l2=0", &shape, &vec_ref);
    assert_int_equal(model_dim(m), 2);
    float x[2] = {2, 0.5f}, row[2] = {1, -1}, target[2] = {1, 0}, swapped[2] = {0, 1};
    struct batch b = {.rows = 2, .features = 1, .dense = row, .target = target};
    double loss;
    uint32_t correct;
    model_evaluate(m, x, &b, &loss, &correct);
    assert_int_equal(correct, 2);
    assert_true(fabs(loss - (log1p(exp(-2.5)) + log1p(exp(-1.5))) / 2) < 1e-7);
    b.target = swapped;
    model_evaluate(m, x, &b, &loss, &correct);
    assert_int_equal(correct, 0);
    model_free(m);
}

static void regulariser_is_mean_free_and_spares_the_bias(void **state)
{
    (void)state;
    struct rows rows;
    rows_init(&rows, 10, 3, 2, 25);
    struct model_shape shape = shape_of(3, 2); /* 50 samples in all: auto is 0.02 */
    static const struct {
        const char *with, *without;
        double weights2; /* squared norm of what is regularised at x = 1, 2, 3, ... */
        double l2;
    } cases[] = {
        {"logistic:l2=auto", "logistic:l2=0", 1 + 4 + 9, 0.02},
        {"logistic", "logistic:l2=0", 1 + 4 + 9, 0.02},
        {"logistic:l2=0.5,bias=no", "logistic:l2=0,bias=no", 1 + 4 + 9, 0.5},
        {"softmax:l2=auto", "softmax", 1 + 4 + 9 + 16 + 25 + 36, 0.02},
        {"mlp:hidden=1,l2=2", "mlp:hidden=1", 1 + 4 + 9 + 25 + 36, 2},
    };
    const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model *with = make_model(cases[i].with, &shape, &vec_ref);
        struct model *without = make_model(cases[i].without, &shape, &vec_ref);
        double difference = loss_at(with, x, &rows.dense) - loss_at(without, x, &rows.dense);
        assert_true(fabs(difference - cases[i].l2 / 2 * cases[i].weights2) < 1e-9);
        model_free(without);
        model_free(with);
    }
    rows_deinit(&rows);
}

static void extreme_outputs_stay_finite(void **state)
{
    (void)state;
    static const char *const tasks[] = {"logistic:l2=0", "softmax", "mlp:hidden=3"};
    float row[2] = {1e4f, -1e4f}, target[2] = {0, 1}, x[32], grad[32];
    struct batch b = {.rows = 2, .features = 1, .dense = row, .target = target};
    for (size_t i = 0; i < 3; i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            struct model_shape shape = shape_of(1, 2);
            struct model *m = make_model(tasks[i], &shape, &vec_ref);
            for (size_t j = 0; j < model_dim(m); j++) x[j] = (float)(sign * (j % 2 == 0 ? 50 : -50));
            assert_true(isfinite(model_loss_grad(m, x, &b, grad)));
            assert_true(vec_finite(model_dim(m), grad));
            model_free(m);
        }
}

static void quadratic_is_at_rest_at_the_mean_row(void **state)
{
    (void)state;
    const float rows[] = {1, 2, 3, 3, 0, 5}, mean[] = {2, 1, 4}, away[] = {3, 2, 5};
    const float target[2] = {0, 0};
    struct batch b = {.rows = 2, .features = 3, .dense = rows, .target = target};
    struct model_shape shape = shape_of(3, 1);
    struct model *m = make_model("quadratic:cond=100", &shape, &vec_ref);
    float grad[3];
    /* Each row is (1, 1, 1) away in size: 1/2 (1 + 10 + 100). */
    assert_true(fabs(model_loss_grad(m, mean, &b, grad) - 55.5) < 1e-4);
    for (size_t j = 0; j < 3; j++) assert_true(fabsf(grad[j]) < 1e-4f);
    model_loss_grad(m, away, &b, grad);
    assert_true(fabsf(grad[0] - 1) < 1e-5f && fabsf(grad[1] - 10) < 1e-4f && fabsf(grad[2] - 100) < 1e-3f);
    assert_false(model_classifies(m));
    model_free(m);
}

static void perceptron_starts_he_normal_from_the_seed(void **state)
{
    (void)state;
    struct model_shape shape = shape_of(50, 3);
    struct model *m = make_model("mlp:hidden=80", &shape, &vec_ref);
    enum { FIRST = 50 * 80, DIM = FIRST + 80 + 80 * 3 + 3 };
    assert_int_equal(model_dim(m), DIM);
    float *x = mem_new(DIM, sizeof *x), *again = mem_new(DIM, sizeof *x), *other = mem_new(DIM, sizeof *x);
    model_start(m, 5, x);
    model_start(m, 5, again);
    model_start(m, 6, other);
    assert_memory_equal(x, again, DIM * sizeof *x);
    assert_true(vec_distance2(FIRST, x, other) > 1);
    double norm = vec_norm2(FIRST, x); /* square: FIRST * 2 / 50, deviation 2.2 % */
    assert_true(fabs(norm * norm / (FIRST * 2.0 / 50) - 1) < 0.15);
    assert_true(vec_norm2(80, x + FIRST) == 0);
    assert_true(vec_norm2(240, x + FIRST + 80) > 0);
    assert_true(vec_norm2(3, x + DIM - 3) == 0);
    free(other);
    free(again);
    free(x);
    model_free(m);
}

/* -- refusals ---------------------------------------------------------------------------------- */

static void misfits_are_refused_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *task;
        uint32_t features, classes;
        bool sparse;
        int err;
        const char *says;
    } cases[] = {
        {"logistic", 5, 10, false, ERR_USAGE, "--classes a,b"},
        {"logistic", 5, 1, false, ERR_USAGE, "regression values"},
        {"softmax", 5, 1, false, ERR_USAGE, "--task quadratic"},
        {"mlp", 5, 1, true, ERR_USAGE, "regression values"},
        {"quadratic", 5, 2, true, ERR_USAGE, "sparse"},
        {"logistic:l2=soon", 5, 2, false, ERR_USAGE, "l2=soon"},
        {"softmax:l2=-1", 5, 2, false, ERR_USAGE, "auto or a number"},
        {"softmax:l2=nan", 5, 2, false, ERR_USAGE, "auto or a number"},
        {"softmax:l2=", 5, 2, false, ERR_USAGE, "auto or a number"},
        {"mlp:hidden=", 5, 2, false, ERR_USAGE, "128-64"},
        {"mlp:hidden=10-", 5, 2, false, ERR_USAGE, "128-64"},
        {"mlp:hidden=-10", 5, 2, false, ERR_USAGE, "128-64"},
        {"mlp:hidden=10x5", 5, 2, false, ERR_USAGE, "128-64"},
        {"mlp:hidden=0", 5, 2, false, ERR_USAGE, "hidden=0"},
        {"mlp:hidden=99999999999999999999", 5, 2, false, ERR_USAGE, "from 1 to"},
        {"mlp:hidden=1-1-1-1-1-1-1-1-1", 5, 2, false, ERR_USAGE, "1 to 8 layer"},
        {"mlp:hidden=65536-65536", 5, 2, false, ERR_LIMIT, "parameters"},
        {"perceptron", 5, 2, false, ERR_USAGE, "unknown"},
        {"softmax:bias=maybe", 5, 2, false, ERR_USAGE, "yes|no"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_shape shape = shape_of(cases[i].features, cases[i].classes);
        shape.sparse = cases[i].sparse;
        struct model *m;
        struct err_text why = {""};
        assert_int_equal(try_model(cases[i].task, &shape, &vec_ref, &m, &why), cases[i].err);
        if (strstr(why.text, cases[i].says) == NULL) fail_msg("%s: '%s'", cases[i].task, why.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evaluation_counts_what_single_rows_say),
        cmocka_unit_test(start_of_convex_models_knows_nothing),
        cmocka_unit_test(class_one_is_positive_in_logistic),
        cmocka_unit_test(regulariser_is_mean_free_and_spares_the_bias),
        cmocka_unit_test(extreme_outputs_stay_finite),
        cmocka_unit_test(quadratic_is_at_rest_at_the_mean_row),
        cmocka_unit_test(perceptron_starts_he_normal_from_the_seed),
        cmocka_unit_test(misfits_are_refused_with_a_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

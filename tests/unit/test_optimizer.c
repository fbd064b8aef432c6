/* Goal: step sizes follow their rules; SGD does v = momentum v + grad, x -= eta scale v, and counts its
 * steps.
 *
 * Method: rules at chosen t against numbers worked out by hand; SGD bit by bit against scalar float
 * loops over lengths around the lane edges; the heavy ball on a quadratic must settle at its minimum. A
 * planted rule (plain steps where momentum was asked for) must differ from the loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "algo/optimizer.h"
#include "base/prng.h"

static struct choice rule_of(const char *text)
{
    struct choice rule;
    struct err_text why;
    if (choice_parse(step_size_table, step_size_table_count, "--step-size", text, &rule, &why) != 0)
        fail_msg("%s", why.text);
    return rule;
}

static void step_sizes_follow_their_rules(void **state)
{
    (void)state;
    static const struct {
        const char *rule;
        uint64_t t;
        double expected;
    } cases[] = {
        {"constant", 0, 0.05},
        {"constant:value=0.5", 1000000, 0.5},
        {"inverse", 0, 0.1},
        {"inverse", 900, 0.01},
        {"inverse:scale=3,offset=2", 4, 0.5},
        {"inverse:scale=1,offset=1", 4294967296ull, 1.0 / 4294967297.0},
        {"cosine", 0, 0.1},
        {"cosine", 500, 0.05},
        {"cosine:value=1,steps=300,low=0.2", 100, 0.8},
        {"cosine:value=1,steps=300,low=0.2", 200, 0.4},
        {"cosine:value=1,steps=300,low=0.2", 300, 0.2},
        {"cosine:value=1,steps=300,low=0.2", 1ull << 60, 0.2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct choice rule = rule_of(cases[i].rule);
        assert_true(fabs(step_size_at(&rule, cases[i].t) - cases[i].expected) < 1e-15);
    }
}

static void meaningless_rules_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "constant:value=-1", "inverse:offset=0", "cosine:steps=0",
        "cosine:steps=1.5",  "linear",           "constant:scale=1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct choice rule;
        struct err_text why = {""};
        assert_int_equal(
            choice_parse(step_size_table, step_size_table_count, "--step-size", bad[i], &rule, &why),
            ERR_USAGE);
        assert_non_null(strstr(why.text, "--step-size"));
    }
}

enum { DIM_MAX = 13, STEPS = 5 };

/* Runs STEPS steps of sgd with `given` momentum beside scalar loops with `wanted`; true when x stays the same
 * to the last bit. */
static bool agrees_with_loops(size_t dim, double given, double wanted, double scale)
{
    struct prng p;
    prng_seed(&p, 31);
    struct choice rule = rule_of("inverse:scale=2,offset=3");
    struct sgd s;
    sgd_init(&s, dim, &rule, given);
    s.scale = scale;
    float x[DIM_MAX + 1], by_hand[DIM_MAX + 1], velocity[DIM_MAX] = {0}, grad[DIM_MAX];
    for (size_t i = 0; i <= dim; i++) by_hand[i] = x[i] = (float)prng_normal(&p);
    for (int t = 0; t < STEPS; t++) {
        for (size_t i = 0; i < dim; i++) grad[i] = (float)prng_normal(&p);
        sgd_step(&s, x, grad);
        float eta = (float)(2.0 / (t + 3) * scale);
        for (size_t i = 0; i < dim; i++) {
            velocity[i] = (float)wanted * velocity[i] + grad[i];
            by_hand[i] -= eta * velocity[i];
        }
    }
    bool same = s.t == STEPS && memcmp(x, by_hand, (dim + 1) * sizeof *x) == 0;
    sgd_deinit(&s);
    return same;
}

static void sgd_does_what_scalar_loops_do(void **state)
{
    (void)state;
    for (size_t dim = 1; dim <= DIM_MAX; dim++) {
        assert_true(agrees_with_loops(dim, 0, 0, 1));
        assert_true(agrees_with_loops(dim, 0.9, 0.9, 1));
        assert_true(agrees_with_loops(dim, 0.5, 0.5, 0.25));
    }
}

static void planted_momentum_is_caught(void **state)
{
    (void)state;
    for (size_t dim = 1; dim <= DIM_MAX; dim++) {
        assert_false(agrees_with_loops(dim, 0, 0.9, 1));
        assert_false(agrees_with_loops(dim, 0.9, 0.89, 1));
    }
}

static void heavy_ball_settles_at_the_minimum(void **state)
{
    (void)state;
    struct choice rule = rule_of("constant:value=0.1");
    struct sgd s;
    sgd_init(&s, 2, &rule, 0.8);
    float x[2] = {0, 0};
    for (int t = 0; t < 400; t++) {
        const float grad[2] = {x[0] - 3, 4 * (x[1] + 2)};
        sgd_step(&s, x, grad);
    }
    assert_true(fabsf(x[0] - 3) < 1e-5f);
    assert_true(fabsf(x[1] + 2) < 1e-5f);
    sgd_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_sizes_follow_their_rules),     cmocka_unit_test(meaningless_rules_are_refused),
        cmocka_unit_test(sgd_does_what_scalar_loops_do),     cmocka_unit_test(planted_momentum_is_caught),
        cmocka_unit_test(heavy_ball_settles_at_the_minimum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

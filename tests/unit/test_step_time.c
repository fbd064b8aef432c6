/* Goal: the duration of a simulated local step follows the law that was asked for, and speeds scale its
 * parameter: with --speeds linear these are the delays of AsGrad's experiments.
 *
 * Method: many draws per law and node; mean and smallest value against the exact ones, whole units where the
 * law has units; a planted wrong law (the time scaled instead of the parameter) must be told apart. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "net/sim/internal.h"

#define DRAWS 200000

static void choose(const struct choice_spec *table, size_t count, const char *text, struct choice *out)
{
    struct err_text why;
    if (choice_parse(table, count, "--choice", text, out, &why) != 0) fail_msg("%s", why.text);
}

/* Mean of E floor |N(s, s)| + 1, summed over the law's cells. */
static double normal_mean(double s)
{
    double mean = 1;
    for (int k = 1; k < 400; k++) mean += 0.5 * (erfc((k - s) / s / sqrt(2)) + erfc((k + s) / s / sqrt(2)));
    return mean;
}

struct law {
    const char *text;
    double slowness, mean_s, deviation_s, least_s, unit_s; /* unit 0: any time */
};

static double mean_of_draws(const struct law *l, uint32_t steps, double *least_s)
{
    struct choice c;
    struct sim_step_time t;
    struct prng p;
    choose(step_time_table, step_time_table_count, l->text, &c);
    sim_step_time_init(&t, &c);
    prng_seed(&p, 4);
    double node_s = sim_step_time_node_s(&t, &p, l->slowness), sum = 0;
    *least_s = INFINITY;
    for (uint32_t i = 0; i < DRAWS; i += steps) {
        double s = (double)sim_step_time_draw_us(&t, &p, node_s, steps) * 1e-6;
        if (l->unit_s > 0) assert_true(fabs(s / l->unit_s - round(s / l->unit_s)) < 1e-5);
        if (s < *least_s) *least_s = s;
        sum += s;
    }
    return sum / DRAWS;
}

static void laws_have_their_means_and_units(void **state)
{
    (void)state;
    const struct law laws[] = {
        {"constant:value=2s", 3, 6, 0, 6, 0},
        {"exp:mean=2s", 3, 6, 6, 0, 0},
        {"poisson:mean=1s", 3, 3, sqrt(3), 0, 1},
        {"poisson:mean=2s,unit=500ms", 3, 6, sqrt(12) / 2, 0, 0.5},
        {"normal:scale=1s", 1, normal_mean(1), 1, 1, 1},
        {"normal:scale=1s", 7, normal_mean(7), 7, 1, 1},
        {"jitter:scale=1s", 1, 1, 0, 1, 1},
        {"jitter:scale=1s", 7, 4, 2, 1, 1},
        {"jitter:scale=1s", 10, 5.5, 3, 1, 1},
    };
    for (size_t i = 0; i < sizeof laws / sizeof laws[0]; i++) {
        for (uint32_t steps = 1; steps <= 5; steps += 4) {
            double least, mean = mean_of_draws(&laws[i], steps, &least);
            double error = fabs(mean - laws[i].mean_s), bound = 5 * laws[i].deviation_s / sqrt(DRAWS) + 1e-5;
            if (error > bound) fail_msg("%s: mean %g, not %g", laws[i].text, mean, laws[i].mean_s);
            if (steps == 1) assert_true(least >= laws[i].least_s - 1e-9);
        }
    }
    /* planted: 7 times the law of a fast node has another mean than the law of one 7 times slower */
    assert_true(fabs(7 * normal_mean(1) - normal_mean(7)) > 0.5);
}

static void the_mean_that_patience_uses_is_near(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double low, high;
    } cases[] = {
        {"constant:value=2s", 2, 2},    {"uniform:low=1s,high=5s", 3, 3}, {"exp:mean=2s", 2, 2},
        {"poisson:mean=2s", 2, 2},      {"normal:scale=1s", 1.5, 1.9},    {"normal:scale=10s", 11.9, 12.4},
        {"jitter:scale=10s", 5.4, 5.6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct choice c;
        choose(step_time_table, step_time_table_count, cases[i].text, &c);
        double mean = sim_step_time_mean_s(&c);
        assert_true(mean >= cases[i].low && mean <= cases[i].high);
    }
}

static void speeds_are_as_asked(void **state)
{
    (void)state;
    struct choice c;
    double s[5], again[5];
    choose(speeds_table, speeds_table_count, "equal", &c);
    assert_int_equal(sim_speeds(&c, 5, 1, s, NULL), 0);
    for (int v = 0; v < 5; v++) assert_true(s[v] == 1);
    choose(speeds_table, speeds_table_count, "linear", &c);
    assert_int_equal(sim_speeds(&c, 5, 1, s, NULL), 0);
    for (int v = 0; v < 5; v++) assert_true(s[v] == v + 1);
    choose(speeds_table, speeds_table_count, "list:values=1-0.5-4", &c);
    assert_int_equal(sim_speeds(&c, 5, 1, s, NULL), 0);
    const double listed[] = {1, 0.5, 4, 1, 0.5};
    assert_memory_equal(s, listed, sizeof s);
    assert_int_equal(sim_speeds(&c, 2, 1, s, NULL), 0); /* more speeds than nodes */
    choose(speeds_table, speeds_table_count, "uniform:low=2,high=3", &c);
    assert_int_equal(sim_speeds(&c, 5, 1, s, NULL), 0);
    assert_int_equal(sim_speeds(&c, 5, 1, again, NULL), 0);
    assert_memory_equal(s, again, sizeof s);
    for (int v = 0; v < 5; v++) assert_true(s[v] >= 2 && s[v] < 3 && (v == 0 || s[v] != s[0]));
}

static void lists_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"1-a", "1--2", "-1", "1-", "0", "1-1e9", "nan", "inf", " 1", "1-0x"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct choice c;
        struct err_text why = {""};
        char text[64];
        double s[2];
        snprintf(text, sizeof text, "list:values=%s", texts[i]);
        choose(speeds_table, speeds_table_count, text, &c);
        assert_int_equal(sim_speeds(&c, 2, 1, s, &why), ERR_USAGE);
        assert_non_null(strstr(why.text, "--speeds"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(laws_have_their_means_and_units),
        cmocka_unit_test(the_mean_that_patience_uses_is_near),
        cmocka_unit_test(speeds_are_as_asked),
        cmocka_unit_test(lists_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

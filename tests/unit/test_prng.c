/* Goal: the random numbers are the published generator's, the derived streams are independent of each
 * other, and the distributions are what they say.
 * Method: reference outputs of xoshiro256** and splitmix64; moments and chi-square of fixed seeds against
 * bounds of five standard deviations. A biased and a correlated source show that the bounds can fail. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

enum { DRAWS = 100000 };

static void outputs_are_those_of_the_reference(void **state)
{
    (void)state;
    static const uint64_t expected[10] = {
        11520u,
        0u,
        1509978240u,
        1215971899390074240u,
        1216172134540287360u,
        607988272756665600u,
        16172922978634559625u,
        8476171486693032832u,
        10595114339597558777u,
        2904607092377533576u,
    };
    struct prng p = {{1, 2, 3, 4}};
    for (int i = 0; i < 10; i++) assert_true(prng_next(&p) == expected[i]);
}

static void seeding_is_splitmix64(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 1234567);
    assert_true(p.word[0] == 6457827717110365317u);
    assert_true(p.word[1] == 3203168211198807973u);
    assert_true(p.word[2] == 9817491932198370423u);
    assert_true(p.word[3] == 4593380528125082431u);
}

/* Correlation of two streams of uniforms, in standard deviations. */
static double correlation(struct prng *a, struct prng *b)
{
    double sum = 0;
    for (int i = 0; i < DRAWS; i++) sum += (prng_unit(a) - 0.5) * (prng_unit(b) - 0.5);
    return fabs(sum) / (sqrt(DRAWS) / 12);
}

static void streams_are_independent(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        const char *label;
        uint64_t index;
    } other[] = {{1, "a", 1}, {1, "b", 0}, {2, "a", 0}, {1, "", 0}, {1, "aa", 0}};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        struct prng a, b;
        prng_split(&a, 1, "a", 0);
        prng_split(&b, other[i].seed, other[i].label, other[i].index);
        assert_true(correlation(&a, &b) < 5);
    }
    struct prng a, same;
    prng_split(&a, 1, "a", 0);
    prng_split(&same, 1, "a", 0);
    assert_memory_equal(&a, &same, sizeof a); /* a function of its arguments only */
    assert_true(correlation(&a, &same) > 5);  /* and the measure does see a correlation */
}

/* Chi-square of counts against equal expectation, in standard deviations above its mean. */
static double chi_square(const uint32_t *count, uint32_t cells, double expected)
{
    double sum = 0;
    for (uint32_t i = 0; i < cells; i++) sum += (count[i] - expected) * (count[i] - expected) / expected;
    return (sum - (cells - 1)) / sqrt(2.0 * (cells - 1));
}

static void below_is_uniform_without_modulo_bias(void **state)
{
    (void)state;
    static const uint32_t bounds[] = {1, 2, 3, 7, 10, 1000, 3u << 30, UINT32_MAX};
    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
        uint32_t count[6] = {0};
        uint32_t cells = bounds[b] % 6 == 0 || bounds[b] > 6 ? 6 : bounds[b];
        struct prng p;
        prng_seed(&p, 11);
        uint64_t inside = 0;
        for (int i = 0; i < DRAWS; i++) {
            uint32_t draw = prng_below(&p, bounds[b]);
            inside += draw < bounds[b];
            count[(uint64_t)draw * cells / bounds[b]]++;
        }
        assert_int_equal(inside, DRAWS);
        if (cells > 1 && (bounds[b] % 6 == 0 || bounds[b] >= 1000 || bounds[b] < 6))
            assert_true(chi_square(count, cells, (double)DRAWS / cells) < 5);
    }
    uint32_t biased[3] = {0}; /* what taking the remainder of 32 bits by 3 * 2^30 would give */
    struct prng p;
    prng_seed(&p, 11);
    for (int i = 0; i < DRAWS; i++) biased[((uint32_t)(prng_next(&p) >> 32) % (3u << 30)) >> 30]++;
    assert_true(chi_square(biased, 3, DRAWS / 3.0) > 5);
}

static double draw_unit(struct prng *p)
{
    return prng_unit(p);
}

static double draw_uniform(struct prng *p)
{
    return prng_uniform(p, -3, 5);
}

static double draw_exponential(struct prng *p)
{
    return prng_exponential(p, 4);
}

static double draw_gamma_small(struct prng *p)
{
    return prng_gamma(p, 0.3);
}

static double draw_gamma(struct prng *p)
{
    return prng_gamma(p, 2.5);
}

static double draw_poisson_small(struct prng *p)
{
    return prng_poisson(p, 3.5);
}

static double draw_poisson(struct prng *p)
{
    return prng_poisson(p, 40);
}

static void distributions_have_their_moments(void **state)
{
    (void)state;
    static const struct {
        double (*draw)(struct prng *p);
        double mean, variance, fourth; /* fourth: central moment over variance squared */
        double low, high;
    } cases[] = {
        {draw_unit, 0.5, 1.0 / 12, 1.8, 0, 1},
        {draw_uniform, 1, 64.0 / 12, 1.8, -3, 5},
        {draw_exponential, 4, 16, 9, 0, INFINITY},
        {prng_normal, 0, 1, 3, -INFINITY, INFINITY},
        {draw_gamma_small, 0.3, 0.3, 3 + 6 / 0.3, 0, INFINITY},
        {draw_gamma, 2.5, 2.5, 3 + 6 / 2.5, 0, INFINITY},
        {draw_poisson_small, 3.5, 3.5, 3 + 1 / 3.5, 0, INFINITY},
        {draw_poisson, 40, 40, 3 + 1 / 40.0, 0, INFINITY},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct prng p;
        prng_seed(&p, 5);
        double sum = 0, squares = 0;
        for (int i = 0; i < DRAWS; i++) {
            double d = cases[c].draw(&p);
            assert_true(d >= cases[c].low && d < cases[c].high);
            sum += d;
            squares += (d - cases[c].mean) * (d - cases[c].mean);
        }
        double v = cases[c].variance;
        double mean_error = fabs(sum / DRAWS - cases[c].mean) / sqrt(v / DRAWS);
        double variance_error = fabs(squares / DRAWS - v) / sqrt((cases[c].fourth - 1) * v * v / DRAWS);
        if (mean_error > 5 || variance_error > 5)
            fail_msg("case %zu: %g, %g sd", c, mean_error, variance_error);
    }
}

/* Both ways of drawing, cell by cell, against exp(-mean) mean^k / k!. */
static void poisson_counts_follow_their_law(void **state)
{
    (void)state;
    static const double means[] = {0.2, 9.9, 10.1, 30};
    for (size_t m = 0; m < sizeof means / sizeof means[0]; m++) {
        struct prng p;
        uint32_t count[100] = {0};
        prng_seed(&p, 8);
        for (int i = 0; i < DRAWS; i++) {
            double k = prng_poisson(&p, means[m]);
            assert_true(k >= 0 && k == floor(k));
            if (k < 100) count[(size_t)k]++;
        }
        double probability = exp(-means[m]);
        for (uint32_t k = 0; k < 100; k++) {
            double deviation = sqrt(probability * (1 - probability) / DRAWS);
            if (probability * DRAWS > 100)
                assert_true(fabs((double)count[k] / DRAWS - probability) < 5 * deviation);
            probability *= means[m] / (k + 1);
        }
    }
    struct prng p;
    prng_seed(&p, 1);
    assert_true(prng_poisson(&p, 0) == 0);
    double large = prng_poisson(&p, 1e9);
    assert_true(fabs(large - 1e9) < 6 * sqrt(1e9));
}

static void shuffles_reach_every_order_equally(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 3);
    uint32_t count[27] = {0}, used[6] = {0}, orders = 0;
    for (int i = 0; i < DRAWS; i++) {
        uint32_t items[3] = {0, 1, 2};
        prng_shuffle(&p, items, 3);
        assert_int_equal((1u << items[0]) | (1u << items[1]) | (1u << items[2]), 7);
        count[items[0] * 9 + items[1] * 3 + items[2]]++;
    }
    for (size_t i = 0; i < 27; i++)
        if (count[i] > 0 && orders < 6) used[orders++] = count[i];
    assert_int_equal(orders, 6);
    assert_true(chi_square(used, 6, DRAWS / 6.0) < 5);
    uint32_t one = 9;
    prng_shuffle(&p, &one, 1);
    prng_shuffle(&p, NULL, 0);
    assert_int_equal(one, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_those_of_the_reference),
        cmocka_unit_test(seeding_is_splitmix64),
        cmocka_unit_test(streams_are_independent),
        cmocka_unit_test(below_is_uniform_without_modulo_bias),
        cmocka_unit_test(distributions_have_their_moments),
        cmocka_unit_test(poisson_counts_follow_their_law),
        cmocka_unit_test(shuffles_reach_every_order_equally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

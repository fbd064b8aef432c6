/* Goal: compressors keep their promises about the error (omega) and the mean (unbiased); positions are what
 * their rules say.
 * Method: means are taken over many rounds, with a bound of five standard errors. The top-k rule is checked
 * against a plain sort; the checkers are shown to catch planted bugs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/compress_fixture.h"

/* -- omega and means ----------------------------------------------------------------------------- */

/* Mean over rounds of the relative error, plus or minus its standard error. */
static double mean_error(struct compressor *c, size_t dim, const float *x, int rounds, double *spread)
{
    float own[DIM_MAX];
    uint8_t bytes[BYTES_MAX];
    double sum = 0, squares = 0;
    for (int r = 0; r < rounds; r++) {
        struct compress_context context = context_at((uint64_t)r, dim);
        size_t size;
        assert_int_equal(compressor_encode(c, &context, dim, x, bytes, &size, own), 0);
        double e = error2(dim, own, x) / norm2(dim, x);
        sum += e;
        squares += e * e;
    }
    double mean = sum / rounds, variance = squares / rounds - mean * mean;
    *spread = sqrt((variance > 0 ? variance : 0) / rounds);
    return mean;
}

static bool breaks_contraction(struct compressor *c, double omega, size_t dim, const float *x)
{
    double spread, mean = mean_error(c, dim, x, 300, &spread);
    return mean > (1 - omega) * (1 + 1e-6) + 5 * spread;
}

static void errors_are_within_omega(void **state)
{
    (void)state;
    for (size_t c = 0; c < CHOICE_COUNT; c++) {
        struct compressor *compressor = make(choices[c]);
        for (size_t d = 0; d < DIM_COUNT; d++)
            for (int kind = 0; kind < 4; kind++) {
                float x[DIM_MAX];
                fill(dims[d], kind, 7, x);
                if (norm2(dims[d], x) < 1e-6) continue;
                if (breaks_contraction(compressor, compressor_omega(compressor, dims[d]), dims[d], x))
                    fail_msg("%s dim %zu kind %d", choices[c], dims[d], kind);
            }
        compressor_free(compressor);
    }
}

static void a_planted_omega_that_is_too_good_is_caught(void **state)
{
    (void)state;
    float x[64];
    fill(64, 0, 7, x);
    struct compressor *c = make("randk:fraction=0.25");
    assert_false(breaks_contraction(c, 0.25, 64, x));
    assert_true(breaks_contraction(c, 0.30, 64, x));
    compressor_free(c);
}

static void errors_of_drawn_positions_equal_one_minus_omega(void **state)
{
    (void)state;
    static const char *const drawn[] = {"randk:fraction=0.25", "block:fraction=0.25", "bernoulli:p=0.25"};
    for (size_t c = 0; c < 3; c++) {
        struct compressor *compressor = make(drawn[c]);
        float x[64];
        fill(64, 0, 7, x);
        double spread, mean = mean_error(compressor, 64, x, 20000, &spread);
        if (fabs(mean - 0.75) > 5 * spread) fail_msg("%s: %g +- %g", drawn[c], mean, spread);
        assert_true(spread < 0.01);
        compressor_free(compressor);
    }
}

/* sign: the error is exactly (1 - ||x||_1^2 / (d ||x||_2^2)) ||x||^2; top-k's is what it leaves out. */
static void sign_has_the_error_of_its_formula(void **state)
{
    (void)state;
    struct compressor *c = make("sign");
    float x[DIM_MAX];
    double spread, absolute = 0;
    fill(DIM_MAX, 0, 3, x);
    for (size_t i = 0; i < DIM_MAX; i++) absolute += fabs((double)x[i]);
    double omega = absolute * absolute / (DIM_MAX * norm2(DIM_MAX, x));
    assert_true(fabs(mean_error(c, DIM_MAX, x, 2, &spread) - (1 - omega)) < 1e-6);
    compressor_free(c);
}

/* Largest deviation of an entry's mean from x, in standard errors by the variance that theory allows:
 * rounding to `levels` levels has at most ||x|| |x_i| / levels, drawing with probability `part`
 * x_i^2 (1/part - 1). *second = mean of ||C(x)||^2 over ||x||^2. */
static double worst_bias(struct compressor *c, const float *x, double levels, double part, double *second)
{
    enum { ROUNDS = 20000 };
    double sum[64] = {0}, worst = 0, norm = sqrt(norm2(64, x));
    *second = 0;
    for (uint64_t r = 0; r < ROUNDS; r++) {
        struct compress_context context = context_at(r, 0);
        float own[64];
        uint8_t bytes[BYTES_MAX];
        size_t size;
        assert_int_equal(compressor_encode(c, &context, 64, x, bytes, &size, own), 0);
        for (size_t i = 0; i < 64; i++) sum[i] += (double)own[i];
        *second += norm2(64, own) / (norm * norm) / ROUNDS;
    }
    for (size_t i = 0; i < 64; i++) {
        double v = fabs((double)x[i]);
        double variance = (levels > 0 ? norm * v / levels : 0) + v * v * (1 / part - 1);
        double bias = fabs(sum[i] / ROUNDS - (double)x[i]) / (sqrt(variance / ROUNDS) + 1e-7 * v);
        worst = bias > worst ? bias : worst;
    }
    return worst;
}

static void unbiased_compressors_have_the_mean_of_their_input(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double levels, part, second_max; /* tau, or d/k */
    } rows[] = {
        {"qsgd:bits=1,variant=unbiased", 1, 1, 1 + 8.0},
        {"qsgd:bits=2,variant=unbiased", 3, 1, 1 + 8.0 / 3},
        {"qsgd:bits=2,variant=unbiased,levels=power", 4, 1, 1 + 8.0 / 4},
        {"qsgd:bits=4,variant=unbiased", 15, 1, 1 + 64.0 / 225},
        {"randk:fraction=0.25,variant=unbiased", 0, 0.25, 4 + 0.1},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct compressor *c = make(rows[r].text);
        assert_true(compressor_is_unbiased(c));
        for (int kind = 0; kind < 2; kind++) {
            float x[64];
            double second;
            fill(64, kind, 21, x);
            double bias = worst_bias(c, x, rows[r].levels, rows[r].part, &second);
            if (bias > 5) fail_msg("%s kind %d: bias of %g standard errors", rows[r].text, kind, bias);
            if (second > rows[r].second_max * 1.05) fail_msg("%s: second moment %g", rows[r].text, second);
        }
        compressor_free(c);
    }
}

static void the_scaled_variant_is_caught_as_biased(void **state)
{
    (void)state;
    struct compressor *c = make("qsgd:bits=2");
    float x[64];
    double second;
    fill(64, 0, 21, x);
    assert_false(compressor_is_unbiased(c));
    assert_true(worst_bias(c, x, 3, 1, &second) > 5);
    compressor_free(c);
}

/* -- positions ----------------------------------------------------------------------------------- */

static const float *sorted_by;

static int greater_first(const void *a, const void *b)
{
    size_t i = *(const size_t *)a, j = *(const size_t *)b;
    float p = fabsf(sorted_by[i]), q = fabsf(sorted_by[j]);
    return p != q ? (p > q ? -1 : 1) : i < j ? -1 : 1;
}

static void topk_keeps_what_a_sort_puts_first(void **state)
{
    (void)state;
    static const double fractions[] = {0.001, 0.01, 0.1, 0.37, 0.999};
    for (size_t f = 0; f < 5; f++)
        for (size_t d = 0; d < DIM_COUNT; d++)
            for (int kind = 0; kind < KINDS; kind++) {
                char text[64];
                snprintf(text, sizeof text, "topk:fraction=%g", fractions[f]);
                struct compressor *c = make(text);
                size_t dim = dims[d], order[DIM_MAX], size;
                float x[DIM_MAX], own[DIM_MAX], expected[DIM_MAX] = {0};
                uint8_t bytes[BYTES_MAX];
                struct compress_context context = {0};
                fill(dim, kind, f, x);
                assert_int_equal(compressor_encode(c, &context, dim, x, bytes, &size, own), 0);
                for (size_t i = 0; i < dim; i++) order[i] = i;
                sorted_by = x;
                qsort(order, dim, sizeof *order, greater_first);
                size_t k = (size_t)fmax(1, nearbyint(fractions[f] * (double)dim));
                for (size_t j = 0; j < k; j++) expected[order[j]] = x[order[j]];
                for (size_t i = 0; i < dim; i++) assert_true(own[i] == expected[i]);
                compressor_free(c);
            }
}

/* Which of dim entries are sent in a round, by compressing ones. */
static size_t sent_in(struct compressor *c, uint64_t seed, uint64_t round, uint32_t tensor, size_t dim,
                      float *own)
{
    struct compress_context context = {
        .seed = seed, .round = round, .tensor = tensor, .dither = round * seed};
    float x[DIM_MAX];
    uint8_t bytes[BYTES_MAX];
    size_t size, count = 0;
    for (size_t i = 0; i < DIM_MAX; i++) x[i] = 1.0f;
    assert_int_equal(compressor_encode(c, &context, dim, x, bytes, &size, own), 0);
    for (size_t i = 0; i < dim; i++) count += own[i] != 0;
    return count;
}

static void shared_positions_are_a_function_of_seed_round_and_tensor(void **state)
{
    (void)state;
    static const char *const shared[] = {"randk:fraction=0.3", "randk:fraction=0.8", "block:fraction=0.3",
                                         "bernoulli:p=0.3"};
    for (size_t s = 0; s < 4; s++) {
        struct compressor *a = make(shared[s]), *b = make(shared[s]);
        assert_true(compressor_is_shared(a));
        float first[64], other[64];
        sent_in(a, 1, 1, 1, 64, first);
        sent_in(b, 9, 4, 2, 1000, (float[DIM_MAX]){0}); /* b has another past */
        sent_in(b, 1, 1, 1, 64, other);
        assert_memory_equal(first, other, sizeof first);
        int differ = 0;
        sent_in(b, 2, 1, 1, 64, other);
        differ += memcmp(first, other, sizeof first) != 0;
        sent_in(b, 1, 2, 1, 64, other);
        differ += memcmp(first, other, sizeof first) != 0;
        sent_in(b, 1, 1, 2, 64, other);
        differ += memcmp(first, other, sizeof first) != 0;
        assert_int_equal(differ, 3);
        compressor_free(a);
        compressor_free(b);
    }
}

/* Each entry is sent equally often: a bound of five standard errors around rounds * part. */
static void drawn_positions_are_uniform(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double part;
    } rows[] = {{"randk:fraction=0.2857143", 2.0 / 7},
                {"randk:fraction=0.8571429", 6.0 / 7},
                {"block:fraction=0.43", 3.0 / 7},
                {"bernoulli:p=0.3", 0.3}};
    enum { ROUNDS = 20000 };
    for (size_t r = 0; r < 4; r++) {
        struct compressor *c = make(rows[r].text);
        size_t count[7] = {0};
        for (uint64_t round = 0; round < ROUNDS; round++) {
            float own[7];
            sent_in(c, 5, round, 0, 7, own);
            for (size_t i = 0; i < 7; i++) count[i] += own[i] != 0;
        }
        double slack = 5 * sqrt(ROUNDS * rows[r].part * (1 - rows[r].part));
        for (size_t i = 0; i < 7; i++)
            if (fabs((double)count[i] - ROUNDS * rows[r].part) > slack)
                fail_msg("%s: entry %zu sent %zu times", rows[r].text, i, count[i]);
        compressor_free(c);
    }
}

static void a_block_is_one_cyclic_run_where_it_says(void **state)
{
    (void)state;
    struct compressor *c = make("block:fraction=0.3");
    bool wrapped = false;
    for (uint64_t round = 0; round < 200; round++) {
        float own[64];
        struct compress_context context = {.seed = 1, .round = round, .tensor = 2};
        size_t start, count;
        compressor_block(c, &context, 64, &start, &count);
        assert_int_equal(count, 19);
        assert_int_equal(sent_in(c, 1, round, 2, 64, own), 19);
        for (size_t i = 0; i < count; i++) assert_true(own[(start + i) % 64] == 1.0f);
        wrapped |= start + count > 64;
    }
    assert_true(wrapped);
    compressor_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_within_omega),
        cmocka_unit_test(a_planted_omega_that_is_too_good_is_caught),
        cmocka_unit_test(errors_of_drawn_positions_equal_one_minus_omega),
        cmocka_unit_test(sign_has_the_error_of_its_formula),
        cmocka_unit_test(unbiased_compressors_have_the_mean_of_their_input),
        cmocka_unit_test(the_scaled_variant_is_caught_as_biased),
        cmocka_unit_test(topk_keeps_what_a_sort_puts_first),
        cmocka_unit_test(shared_positions_are_a_function_of_seed_round_and_tensor),
        cmocka_unit_test(drawn_positions_are_uniform),
        cmocka_unit_test(a_block_is_one_cyclic_run_where_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

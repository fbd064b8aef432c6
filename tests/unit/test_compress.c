/* Goal: every compressor has the sizes its table promises, gives both ends the same vector bit for bit, and
 * keeps its promises about the error (omega) and the mean (unbiased); positions are what their rules say.
 * Method: one table of choices runs over dimensions 1, 2, 7, 64, 1000 and seeded vectors of several kinds.
 * Means are taken over many rounds, with a bound of five standard errors. The top-k rule is checked against a
 * plain sort; the checkers are shown to catch planted bugs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/compress/compress.h"
#include "base/prng.h"

enum { DIM_MAX = 1000, BYTES_MAX = 5 * DIM_MAX };

#define HASH_EXPECTED 0x0b30e3f6cca15bafu /* of messages_are_the_same_bits... */

static const size_t dims[] = {1, 2, 7, 64, 1000};
enum { DIM_COUNT = sizeof dims / sizeof dims[0] };

static const char *const choices[] = {
    "none",
    "fp16",
    "bf16",
    "int8",
    "int8:block=7",
    "topk",
    "topk:fraction=0.1",
    "topk:fraction=0.5",
    "topk:fraction=1",
    "randk:fraction=0.1",
    "randk:fraction=0.7",
    "randk:fraction=0.1,variant=unbiased",
    "block:fraction=0.1",
    "block:fraction=1",
    "bernoulli:p=0.2",
    "bernoulli:p=1",
    "sign",
    "qsgd:bits=1",
    "qsgd:bits=2,levels=power",
    "qsgd:bits=4,variant=unbiased",
    "qsgd:bits=8,variant=unbiased",
    "qsgd:bits=16,levels=power,variant=unbiased",
    "powersgd:rank=1",
    "powersgd:rank=3",
};
enum { CHOICE_COUNT = sizeof choices / sizeof choices[0] };

static struct compressor *make(const char *text)
{
    struct choice choice;
    struct err_text why;
    if (choice_parse(compress_table, compress_table_count, "--compress", text, &choice, &why) != 0)
        fail_msg("%s", why.text);
    return compressor_new(&choice);
}

static struct compress_context context_at(uint64_t round, size_t dim)
{
    size_t rows = dim == 1000 ? 25 : dim == 64 ? 8 : 0;
    return (struct compress_context){.seed = 11, .round = round, .tensor = 3, .dither = 5, .rows = rows};
}

enum { KINDS = 5 };

/* Gaussian; one great entry; many equal; sparse; all zero. */
static void fill(size_t dim, int kind, uint64_t seed, float *x)
{
    struct prng p;
    prng_split(&p, seed, "test_compress", (uint64_t)kind);
    for (size_t i = 0; i < dim; i++) {
        float v = (float)prng_normal(&p);
        if (kind == 1) v = i == dim / 2 ? -50.0f : 0.01f * v;
        if (kind == 2) v = v < 0 ? -1.0f : 1.0f;
        if (kind == 3) v = prng_below(&p, 10) == 0 ? v : 0.0f;
        if (kind == 4) v = 0.0f;
        x[i] = v;
    }
}

static double norm2(size_t dim, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static double error2(size_t dim, const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

/* -- both ends ----------------------------------------------------------------------------------- */

static void check_round_trip(const char *text, struct compressor *sender, struct compressor *receiver,
                             size_t dim, int kind)
{
    float x[DIM_MAX], own[DIM_MAX], theirs[DIM_MAX], sum[DIM_MAX];
    uint8_t bytes[BYTES_MAX], again[BYTES_MAX];
    struct compress_context context = context_at((uint64_t)kind, dim);
    fill(dim, kind, dim, x);
    memset(bytes, 0xa5, sizeof bytes);
    memset(again, 0x5a, sizeof again);
    size_t size = 0, size_again = 0;
    assert_int_equal(compressor_encode(sender, &context, dim, x, bytes, &size, own), 0);
    assert_int_equal(compressor_encode(sender, &context, dim, x, again, &size_again, NULL), 0);
    assert_int_equal(size, size_again);
    assert_memory_equal(bytes, again, size); /* every byte is written, the same without `decoded` */
    size_t size_max = compressor_size_max(sender, dim);
    assert_true(size <= size_max);
    for (size_t i = size_max; i < sizeof bytes; i++) assert_int_equal(bytes[i], 0xa5);
    context.dither = 77; /* the receiver does not know it */
    memset(theirs, 0xff, sizeof theirs);
    if (compressor_decode(receiver, &context, dim, bytes, size, theirs) != 0)
        fail_msg("%s dim %zu kind %d: own message refused", text, dim, kind);
    assert_memory_equal(own, theirs, dim * sizeof *own);
    fill(dim, 0, 99, sum);
    assert_int_equal(compressor_decode_add(receiver, &context, dim, bytes, size, -0.75f, sum), 0);
    fill(dim, 0, 99, theirs);
    for (size_t i = 0; i < dim; i++) {
        float expected = theirs[i] + -0.75f * own[i];
        assert_true(fabsf(sum[i] - expected) <= 4 * FLT_EPSILON * (fabsf(expected) + fabsf(own[i])));
    }
    if (compressor_copies_values(sender))
        for (size_t i = 0; i < dim; i++) assert_true(own[i] == x[i] || own[i] == 0.0f);
}

static void receivers_decode_what_the_sender_applies(void **state)
{
    (void)state;
    for (size_t c = 0; c < CHOICE_COUNT; c++) {
        struct compressor *sender = make(choices[c]), *receiver = make(choices[c]);
        for (size_t d = 0; d < DIM_COUNT; d++)
            for (int kind = 0; kind < KINDS; kind++)
                check_round_trip(choices[c], sender, receiver, dims[d], kind);
        compressor_free(sender);
        compressor_free(receiver);
    }
}

/* Bytes and decoded values of fixed inputs, hashed: for every optimisation level and sanitizer the same. */
static void messages_are_the_same_bits_wherever_this_is_compiled(void **state)
{
    (void)state;
    uint64_t hash = 1469598103934665603u;
    for (size_t c = 0; c < CHOICE_COUNT; c++) {
        if (strncmp(choices[c], "powersgd", 8) == 0)
            continue; /* its normal draws take the C library's log and cos */
        struct compressor *sender = make(choices[c]);
        float x[DIM_MAX], own[DIM_MAX];
        uint8_t bytes[BYTES_MAX];
        struct compress_context context = context_at(4, DIM_MAX);
        struct prng p;
        prng_seed(&p, 2);
        for (size_t i = 0; i < DIM_MAX; i++) x[i] = (float)prng_uniform(&p, -1, 1);
        size_t size;
        assert_int_equal(compressor_encode(sender, &context, DIM_MAX, x, bytes, &size, own), 0);
        for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
        for (size_t i = 0; i < sizeof own; i++) hash = (hash ^ ((const uint8_t *)own)[i]) * 1099511628211u;
        compressor_free(sender);
    }
    if (hash != HASH_EXPECTED) fail_msg("hash 0x%016llx", (unsigned long long)hash);
}

/* -- sizes --------------------------------------------------------------------------------------- */

static void sizes_are_those_of_the_table(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t dim, rows, bytes;
    } rows[] = {
        {"none", 1, 0, 4},
        {"none", 1000, 0, 4000},
        {"fp16", 7, 0, 14},
        {"bf16", 1000, 0, 2000},
        {"int8", 1000, 0, 1000 + 4 * 4},
        {"int8:block=7", 64, 0, 64 + 4 * 10},
        {"topk:fraction=0.01", 1000, 0, 40 + 13},    /* 10 x 10 bits = 100 */
        {"topk:fraction=0.1", 1000, 0, 400 + 125},   /* 100 x 10 bits and a map are equal */
        {"topk:fraction=0.099", 1000, 0, 396 + 124}, /* 990 bits */
        {"topk:fraction=0.5", 1000, 0, 2000 + 125},
        {"topk:fraction=1", 1000, 0, 4000},
        {"topk:fraction=0.01", 1, 0, 4},
        {"topk:fraction=0.01", 2, 0, 4 + 1},
        {"topk:fraction=0.3", 7, 0, 8 + 1},        /* 2.1 -> 2; 6 bits */
        {"topk:fraction=0.0025", 1000, 0, 8 + 3},  /* 2.5 -> 2, ties to even; 20 bits */
        {"topk:fraction=0.0035", 1000, 0, 16 + 5}, /* 3.5 -> 4; 40 bits */
        {"randk:fraction=0.1", 1000, 0, 400},
        {"randk:fraction=0.001", 7, 0, 4},
        {"block:fraction=0.015625", 1000, 0, 60}, /* 15.6 -> 15 */
        {"block:fraction=0.1", 7, 0, 4},
        {"bernoulli:p=1", 64, 0, 256},
        {"sign", 1, 0, 5},
        {"sign", 64, 0, 12},
        {"sign", 1000, 0, 129},
        {"qsgd:bits=1", 1000, 0, 4 + 250},
        {"qsgd:bits=4", 1000, 0, 4 + 625},
        {"qsgd:bits=4,levels=power", 1000, 0, 4 + 750},
        {"qsgd:bits=2", 7, 0, 4 + 3},
        {"powersgd:rank=2", 1000, 25, 4 * 2 * 65},
        {"powersgd:rank=2", 1000, 0, 4000},   /* no matrix */
        {"powersgd:rank=25", 1000, 25, 4000}, /* not shorter */
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct compressor *c = make(rows[r].text);
        struct compress_context context = {.rows = rows[r].rows};
        float x[DIM_MAX];
        uint8_t bytes[BYTES_MAX];
        size_t size;
        fill(rows[r].dim, 0, r, x);
        assert_int_equal(compressor_encode(c, &context, rows[r].dim, x, bytes, &size, NULL), 0);
        if (size != rows[r].bytes) fail_msg("%s of %zu: %zu bytes", rows[r].text, rows[r].dim, size);
        compressor_free(c);
    }
}

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

/* -- values -------------------------------------------------------------------------------------- */

static void halves_round_to_nearest_even_and_saturate(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        float x, y;
    } rows[] = {
        {"fp16", 1.0f, 1.0f},
        {"fp16", 1.0f + 0x1p-11f, 1.0f}, /* a tie, to even */
        {"fp16", 1.0f + 3 * 0x1p-11f, 1.0f + 0x1p-9f},
        {"fp16", 1.0f + 0x1p-11f + 0x1p-20f, 1.0f + 0x1p-10f},
        {"fp16", -65504.0f, -65504.0f},
        {"fp16", 65519.0f, 65504.0f},
        {"fp16", 1e9f, 65504.0f},
        {"fp16", 0x1p-14f, 0x1p-14f},
        {"fp16", 0x1p-24f, 0x1p-24f},
        {"fp16", -0x1.8p-24f, -0x1p-23f}, /* a tie between subnormals, to even */
        {"fp16", 0x1p-25f, 0.0f},
        {"fp16", 0x1.ffep-15f, 0x1p-14f},
        {"bf16", 1.0f + 0x1p-8f, 1.0f},
        {"bf16", 1.0f + 3 * 0x1p-8f, 1.0f + 0x1p-6f},
        {"bf16", -3.14159274f, -3.140625f},
        {"bf16", 1e-39f, 0.0f},
        {"none", 1e-39f, 0.0f},
        {"none", -3.14159274f, -3.14159274f},
        {"sign", 0.0f, 0.0f},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct compressor *c = make(rows[r].text);
        struct compress_context context = {0};
        float own;
        uint8_t bytes[8];
        size_t size;
        assert_int_equal(compressor_encode(c, &context, 1, &rows[r].x, bytes, &size, &own), 0);
        if (own != rows[r].y) fail_msg("%s of %a gives %a", rows[r].text, (double)rows[r].x, (double)own);
        compressor_free(c);
    }
}

static void a_matrix_of_low_rank_survives_powersgd(void **state)
{
    (void)state;
    struct compressor *c = make("powersgd:rank=3");
    float x[1000], own[1000], left[2 * 25], right[2 * 40];
    uint8_t bytes[BYTES_MAX];
    size_t size;
    fill(50, 0, 1, left);
    fill(80, 0, 2, right);
    for (size_t i = 0; i < 25; i++)
        for (size_t j = 0; j < 40; j++)
            x[i * 40 + j] = left[2 * i] * right[2 * j] + left[2 * i + 1] * right[2 * j + 1];
    struct compress_context context = {.rows = 25};
    assert_int_equal(compressor_encode(c, &context, 1000, x, bytes, &size, own), 0);
    assert_true(error2(1000, x, own) < 1e-9 * norm2(1000, x));
    compressor_free(c);
}

static void encode_refuses_what_is_not_finite_or_too_long(void **state)
{
    (void)state;
    static const struct {
        float value;
        int err;
    } rows[] = {{NAN, ERR_FORMAT}, {INFINITY, ERR_FORMAT}, {-INFINITY, ERR_FORMAT}, {1e20f, ERR_LIMIT}};
    for (size_t c = 0; c < CHOICE_COUNT; c++) {
        struct compressor *compressor = make(choices[c]);
        for (size_t r = 0; r < 4; r++)
            for (size_t d = 0; d < DIM_COUNT; d++) {
                float x[DIM_MAX], own[DIM_MAX];
                uint8_t bytes[BYTES_MAX];
                struct compress_context context = context_at(r, dims[d]);
                size_t size = 12345;
                fill(dims[d], 0, 1, x);
                x[(r * 5) % dims[d]] = rows[r].value;
                memset(own, 0x11, sizeof own);
                memset(bytes, 0x22, sizeof bytes);
                assert_int_equal(compressor_encode(compressor, &context, dims[d], x, bytes, &size, own),
                                 rows[r].err);
                for (size_t i = 0; i < sizeof own; i++) assert_int_equal(((uint8_t *)own)[i], 0x11);
                for (size_t i = 0; i < sizeof bytes; i++) assert_int_equal(bytes[i], 0x22);
                assert_int_equal(size, 12345);
            }
        compressor_free(compressor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receivers_decode_what_the_sender_applies),
        cmocka_unit_test(messages_are_the_same_bits_wherever_this_is_compiled),
        cmocka_unit_test(sizes_are_those_of_the_table),
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
        cmocka_unit_test(halves_round_to_nearest_even_and_saturate),
        cmocka_unit_test(a_matrix_of_low_rank_survives_powersgd),
        cmocka_unit_test(encode_refuses_what_is_not_finite_or_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: every compressor has the sizes its table promises and gives both ends the same vector bit for bit.
 * Method: one table of choices runs over dimensions 1, 2, 7, 64, 1000 and seeded vectors of several kinds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/compress_fixture.h"

#define HASH_EXPECTED 0x0b30e3f6cca15bafu /* of messages_are_the_same_bits... */

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
        cmocka_unit_test(halves_round_to_nearest_even_and_saturate),
        cmocka_unit_test(a_matrix_of_low_rank_survives_powersgd),
        cmocka_unit_test(encode_refuses_what_is_not_finite_or_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

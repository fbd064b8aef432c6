/* Goal: whatever bytes a peer sends, decoding answers ERR_FORMAT and leaves the vector as it was, or gives
 * finite values within the norm bound; it never reads beyond the message.
 * Method: for every compressor a sound message is cut at every length, lengthened, and has every byte flipped
 * in several ways; a table holds the lies that a random flip would hardly tell. Messages lie in memory of
 * exactly their size, so that sanitizers see a read too far. The checker of the lies is itself shown to catch
 * a decoder that does not look at the order of positions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/compress/compress.h"
#include "base/prng.h"
#include "tests/unit/compress_make.h"

enum { DIM_MAX = 1000, BYTES_MAX = 4 * DIM_MAX + 64 };

static const size_t dims[] = {1, 2, 7, 64, 1000};
enum { DIM_COUNT = sizeof dims / sizeof dims[0] };

static const char *const choices[] = {
    "none",
    "fp16",
    "bf16",
    "int8",
    "int8:block=7",
    "topk:fraction=0.05",
    "topk:fraction=0.5",
    "topk:fraction=1",
    "randk:fraction=0.1",
    "randk:fraction=0.7,variant=unbiased",
    "block:fraction=0.1",
    "bernoulli:p=0.2",
    "sign",
    "qsgd:bits=1",
    "qsgd:bits=2,levels=power",
    "qsgd:bits=5,variant=unbiased",
    "powersgd:rank=2",
};
enum { CHOICE_COUNT = sizeof choices / sizeof choices[0] };

static struct compress_context context_for(size_t dim)
{
    return (struct compress_context){.seed = 3, .round = 8, .rows = dim == 1000 ? 25 : dim == 64 ? 8 : 0};
}

static size_t message_make(struct compressor *c, size_t dim, uint8_t *bytes)
{
    float x[DIM_MAX] = {0};
    struct compress_context context = context_for(dim);
    struct prng p;
    prng_seed(&p, dim);
    for (size_t i = 0; i < dim; i++) x[i] = (float)prng_normal(&p);
    size_t size;
    assert_int_equal(compressor_encode(c, &context, dim, x, bytes, &size, NULL), 0);
    return size;
}

typedef int decoder(struct compressor *c, const struct compress_context *context, size_t dim,
                    const uint8_t *bytes, size_t size, float scale, float *out);

/* NULL when the decoder answered as it must; *accepted tells which way. */
static const char *fault_in(decoder *decode_add, struct compressor *c, size_t dim, const uint8_t *message,
                            size_t size, bool *accepted)
{
    struct compress_context context = context_for(dim);
    float out[DIM_MAX], sum[DIM_MAX];
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    memcpy(bytes, message, size);
    for (size_t i = 0; i < DIM_MAX; i++) out[i] = sum[i] = (float)i;
    int err = compressor_decode(c, &context, dim, bytes, size, out);
    int err_add = decode_add(c, &context, dim, bytes, size, 0.5f, sum);
    free(bytes);
    *accepted = err_add == 0;
    if (err != 0 && err != ERR_FORMAT) return "an error other than ERR_FORMAT";
    if (err != err_add) return "decode and decode-add disagree";
    double norm2 = 0;
    for (size_t i = 0; i < DIM_MAX; i++) {
        bool touched = err == 0 && i < dim;
        if (!touched && (out[i] != (float)i || sum[i] != (float)i)) return "changed what it must not";
        if (touched) norm2 += (double)out[i] * (double)out[i];
        if (!isfinite(out[i]) || !isfinite(sum[i])) return "not finite";
    }
    return norm2 <= DECODE_NORM_MAX * DECODE_NORM_MAX * 1.001 ? NULL : "beyond the norm bound";
}

static bool check(struct compressor *c, const char *text, size_t dim, const uint8_t *message, size_t size)
{
    bool accepted;
    const char *fault = fault_in(compressor_decode_add, c, dim, message, size, &accepted);
    if (fault != NULL) fail_msg("%s dim %zu, %zu bytes: %s", text, dim, size, fault);
    return accepted;
}

static void every_other_length_is_refused(void **state)
{
    (void)state;
    for (size_t t = 0; t < CHOICE_COUNT; t++)
        for (size_t d = 0; d < DIM_COUNT; d++) {
            struct compressor *c = make(choices[t]);
            uint8_t bytes[BYTES_MAX + 9] = {0};
            size_t size = message_make(c, dims[d], bytes);
            assert_true(check(c, choices[t], dims[d], bytes, size));
            for (size_t cut = 0; cut < size; cut++) assert_false(check(c, choices[t], dims[d], bytes, cut));
            for (size_t more = 1; more < 9; more++)
                assert_false(check(c, choices[t], dims[d], bytes, size + more));
            compressor_free(c);
        }
}

static void every_flipped_byte_is_refused_or_harmless(void **state)
{
    (void)state;
    static const uint8_t flips[] = {0x01, 0x80, 0x7f, 0xff, 0x10};
    size_t refused = 0, tried = 0;
    for (size_t t = 0; t < CHOICE_COUNT; t++)
        for (size_t d = 0; d < DIM_COUNT; d++) {
            struct compressor *c = make(choices[t]);
            uint8_t bytes[BYTES_MAX] = {0};
            size_t size = message_make(c, dims[d], bytes);
            for (size_t i = 0; i < size; i++)
                for (size_t f = 0; f < sizeof flips; f++) {
                    bytes[i] ^= flips[f];
                    refused += !check(c, choices[t], dims[d], bytes, size);
                    tried++;
                    bytes[i] ^= flips[f];
                }
            compressor_free(c);
        }
    assert_true(refused > tried / 100);
    assert_true(refused < tried);
}

static void random_bytes_of_the_right_size_are_refused_or_harmless(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 4);
    for (size_t t = 0; t < CHOICE_COUNT; t++)
        for (size_t d = 0; d < DIM_COUNT; d++) {
            struct compressor *c = make(choices[t]);
            uint8_t bytes[BYTES_MAX];
            size_t size = message_make(c, dims[d], bytes);
            for (int round = 0; round < 50; round++) {
                for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)prng_next(&p);
                check(c, choices[t], dims[d], bytes, size);
            }
            compressor_free(c);
        }
}

/* -- lies ---------------------------------------------------------------------------------------- */

struct lie {
    const char *what, *text;
    size_t dim, size;
    uint8_t bytes[32];
};

#define ONE 0, 0, 0x80, 0x3f
#define NOT_A_NUMBER 0, 0, 0xc0, 0x7f
#define INFINITE 0, 0, 0x80, 0x7f
#define SUBNORMAL 1, 0, 0, 0
#define HUGE_VALUE 0, 0, 0, 0x7f /* 1.7e38 */
#define MINUS_ONE 0, 0, 0x80, 0xbf
#define ZERO 0, 0, 0, 0

/* topk of 20 with k = 2: two values, two positions of 5 bits (lowest first), 6 bits of padding. */
#define POSITIONS(a, b) ((a) | ((b)&7) << 5), ((b) >> 3)

static const struct lie lies[] = {
    {"NaN", "none", 2, 8, {ONE, NOT_A_NUMBER}},
    {"infinity", "none", 2, 8, {INFINITE, ONE}},
    {"subnormal", "none", 2, 8, {SUBNORMAL, ONE}},
    {"norm 1.7e38", "none", 2, 8, {HUGE_VALUE, ONE}},
    {"NaN", "fp16", 1, 2, {0x01, 0x7e}},
    {"infinity", "fp16", 1, 2, {0x00, 0xfc}},
    {"NaN", "bf16", 1, 2, {0xc0, 0x7f}},
    {"subnormal", "bf16", 1, 2, {0x01, 0x00}},
    {"negative scale", "int8", 1, 5, {MINUS_ONE, 1}},
    {"NaN scale", "int8", 1, 5, {NOT_A_NUMBER, 1}},
    {"code -128", "int8", 1, 5, {ONE, 0x80}},
    {"zero scale, code 1", "int8", 1, 5, {ZERO, 1}},
    {"scale that overflows", "int8", 1, 5, {0xff, 0xff, 0x7f, 0x7f, 127}},
    {"descending positions", "topk:fraction=0.1", 20, 10, {ONE, ONE, POSITIONS(9, 4)}},
    {"a position twice", "topk:fraction=0.1", 20, 10, {ONE, ONE, POSITIONS(4, 4)}},
    {"position beyond the end", "topk:fraction=0.1", 20, 10, {ONE, ONE, POSITIONS(4, 20)}},
    {"padding", "topk:fraction=0.1", 20, 10, {ONE, ONE, POSITIONS(4, 9) | 0x80}},
    {"NaN", "topk:fraction=0.1", 20, 10, {ONE, NOT_A_NUMBER, POSITIONS(4, 9)}},
    {"a bit too many", "topk:fraction=0.5", 4, 9, {ONE, ONE, 0x07}},
    {"a bit too few", "topk:fraction=0.5", 4, 9, {ONE, ONE, 0x01}},
    {"bit beyond the end", "topk:fraction=0.5", 4, 9, {ONE, ONE, 0x11}},
    {"infinity", "randk:fraction=0.1", 10, 4, {INFINITE}},
    {"NaN", "block:fraction=0.1", 10, 4, {NOT_A_NUMBER}},
    {"NaN", "bernoulli:p=1", 1, 4, {NOT_A_NUMBER}},
    {"negative scale", "sign", 1, 5, {MINUS_ONE, 0}},
    {"negative zero", "sign", 1, 5, {0, 0, 0, 0x80, 0}},
    {"infinite scale", "sign", 1, 5, {INFINITE, 0}},
    {"zero scale with signs", "sign", 2, 5, {ZERO, 1}},
    {"padding", "sign", 2, 5, {ONE, 0x04}},
    {"NaN norm", "qsgd:bits=1", 2, 5, {NOT_A_NUMBER, 0x02}},
    {"negative norm", "qsgd:bits=1", 2, 5, {MINUS_ONE, 0x02}},
    {"negative zero", "qsgd:bits=1", 2, 5, {ONE, 0x01}},
    {"padding", "qsgd:bits=1", 2, 5, {ONE, 0x12}},
    {"level above s", "qsgd:bits=1,levels=power", 2, 5, {ONE, 0x06}},
    {"zero norm, level 1", "qsgd:bits=1", 2, 5, {ZERO, 0x02}},
    {"NaN", "powersgd:rank=2", 2, 8, {ONE, NOT_A_NUMBER}},
};

/* The truth beside the lies, so that they are refused for what they are. */
static const struct lie truths[] = {
    {"", "none", 2, 8, {ONE, MINUS_ONE}},
    {"", "fp16", 1, 2, {0x01, 0x7a}},
    {"", "bf16", 1, 2, {0x80, 0x3f}},
    {"", "int8", 1, 5, {ONE, 0x81}},
    {"", "int8", 1, 5, {ZERO, 0}},
    {"", "topk:fraction=0.1", 20, 10, {ONE, ONE, POSITIONS(4, 9)}},
    {"", "topk:fraction=0.1", 20, 10, {ONE, ONE, POSITIONS(18, 19)}},
    {"", "topk:fraction=0.5", 4, 9, {ONE, ONE, 0x09}},
    {"", "sign", 2, 5, {ONE, 0x03}},
    {"", "sign", 2, 5, {ZERO, 0}},
    {"", "qsgd:bits=1", 2, 5, {ONE, 0x0e}},
    {"", "qsgd:bits=1,levels=power", 2, 5, {ONE, 0x05}},
    {"", "qsgd:bits=1", 2, 5, {ZERO, 0}},
};

static bool tells(decoder *decode_add, const struct lie *l)
{
    struct compressor *c = make(l->text);
    bool accepted;
    const char *fault = fault_in(decode_add, c, l->dim, l->bytes, l->size, &accepted);
    compressor_free(c);
    return !accepted && fault == NULL;
}

static void lies_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++)
        if (!tells(compressor_decode_add, &lies[i])) fail_msg("%s: %s", lies[i].text, lies[i].what);
    for (size_t i = 0; i < sizeof truths / sizeof truths[0]; i++) {
        struct compressor *c = make(truths[i].text);
        if (!check(c, truths[i].text, truths[i].dim, truths[i].bytes, truths[i].size))
            fail_msg("truth %zu (%s) is refused", i, truths[i].text);
        compressor_free(c);
    }
}

/* A topk of 20 with k = 2 whose decoder forgot to compare positions with each other. */
static int planted_decode_add(struct compressor *c, const struct compress_context *context, size_t dim,
                              const uint8_t *bytes, size_t size, float scale, float *out)
{
    (void)c;
    (void)context;
    if (dim != 20 || size != 10) return ERR_FORMAT;
    unsigned word = bytes[8] | (unsigned)bytes[9] << 8, a = word & 31, b = word >> 5 & 31;
    if (a >= dim || b >= dim || word >> 10 != 0) return ERR_FORMAT;
    float v[2];
    memcpy(v, bytes, sizeof v);
    if (!isfinite(v[0]) || !isfinite(v[1])) return ERR_FORMAT;
    out[a] += scale * v[0];
    out[b] += scale * v[1];
    return 0;
}

static void a_planted_decoder_that_ignores_order_is_caught(void **state)
{
    (void)state;
    size_t caught = 0;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++)
        if (lies[i].dim == 20) caught += !tells(planted_decode_add, &lies[i]);
    assert_int_equal(caught, 2); /* descending, and twice; the others it tells */
}

static void the_norm_bound_of_the_caller_is_kept(void **state)
{
    (void)state;
    for (size_t t = 0; t < CHOICE_COUNT; t++) {
        struct compressor *c = make(choices[t]);
        uint8_t bytes[BYTES_MAX];
        float own[DIM_MAX];
        struct compress_context context = context_for(1000);
        size_t size = message_make(c, 1000, bytes);
        assert_int_equal(compressor_decode(c, &context, 1000, bytes, size, own), 0);
        double norm2 = 0;
        for (size_t i = 0; i < 1000; i++) norm2 += (double)own[i] * (double)own[i];
        context.norm_max = 0.99 * sqrt(norm2);
        assert_int_equal(compressor_decode(c, &context, 1000, bytes, size, own), ERR_FORMAT);
        context.norm_max = 2.5 * sqrt(norm2); /* powersgd bounds a product of norms, sqrt(2) too much here */
        assert_int_equal(compressor_decode(c, &context, 1000, bytes, size, own), 0);
        compressor_free(c);
    }
}

static void choices_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "topk:fraction=0", "topk:fraction=1.5", "topk:fraction=nan", "int8:block=0",   "qsgd:bits=0",
        "qsgd:bits=17",    "qsgd:variant=both", "powersgd:rank=0",   "bernoulli:p=-1", "top",
        "sign:x=1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct choice choice;
        struct err_text why = {""};
        assert_int_equal(
            choice_parse(compress_table, compress_table_count, "--compress", bad[i], &choice, &why),
            ERR_USAGE);
        assert_non_null(strstr(why.text, "--compress"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(every_flipped_byte_is_refused_or_harmless),
        cmocka_unit_test(random_bytes_of_the_right_size_are_refused_or_harmless),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(a_planted_decoder_that_ignores_order_is_caught),
        cmocka_unit_test(the_norm_bound_of_the_caller_is_kept),
        cmocka_unit_test(choices_out_of_range_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

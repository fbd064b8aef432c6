/* Goal: a model compressed tensor by tensor is the sum of its tensors' messages, one vector gives the very bytes
 * of the compressor, and nothing that a peer sends is half applied.
 * Method: all compressors over layouts of one and of several tensors, with the compressor itself as the oracle;
 * messages cut, lengthened and spoilt in their last tensor; a planted pack of one tensor is caught by the
 * comparison. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/compress/pack.h"
#include "base/prng.h"
#include "tests/unit/compress_make.h"

enum { DIM = 2 * 300 + 7 * 11 + 11 + 1, BYTES_MAX = 5 * DIM + 256 };

static const struct tensor layers[] = {{0, 2, 300}, {600, 7, 11}, {677, 1, 11}, {688, 1, 1}};
enum { LAYER_COUNT = sizeof layers / sizeof layers[0] };

static void fill(uint64_t seed, float *x)
{
    struct prng p;
    prng_seed(&p, seed);
    for (size_t i = 0; i < DIM; i++) x[i] = (float)prng_normal(&p);
}

static struct compress_context context_at(uint64_t round, uint32_t tensor)
{
    return (struct compress_context){
        .seed = 3, .round = round, .tensor = tensor, .dither = 1, .rows = layers[tensor].rows};
}

/* What the tensors' own messages give together, written to out; returns their total size. */
static size_t by_hand(struct compressor *c, uint64_t round, const float *x, float *out)
{
    size_t total = 0;
    for (uint32_t t = 0; t < LAYER_COUNT; t++) {
        uint8_t bytes[BYTES_MAX];
        size_t size;
        struct compress_context context = context_at(round, t);
        size_t dim = layers[t].rows * layers[t].columns;
        int err =
            compressor_encode(c, &context, dim, x + layers[t].offset, bytes, &size, out + layers[t].offset);
        assert_int_equal(err, 0);
        total += size;
    }
    return total;
}

/* Whether a pack of these tensors decodes to what its tensors do; its bytes against theirs. */
static bool equals_by_hand(const char *text, const struct tensor *tensor, uint32_t count)
{
    struct choice choice = choose(text);
    struct compressor *c = compressor_new(&choice);
    struct pack *sender = pack_new(&choice, DIM, tensor, count);
    struct pack *receiver = pack_new(&choice, DIM, tensor, count);
    bool equal = true;
    for (uint64_t round = 0; round < 5; round++) {
        float x[DIM], decoded[DIM], expected[DIM], received[DIM], sum[DIM];
        uint8_t bytes[BYTES_MAX];
        size_t size;
        fill(round, x);
        struct compress_context context = {.seed = 3, .round = round, .dither = 1};
        assert_true(pack_size_max(sender) <= sizeof bytes);
        assert_int_equal(pack_encode(sender, &context, x, bytes, &size, decoded), 0);
        assert_true(size <= pack_size_max(sender));
        size_t alone = by_hand(c, round, x, expected);
        bool lengths = strstr(text, "bernoulli") != NULL;
        equal &= size == alone + (lengths ? 4 * LAYER_COUNT : 0);
        equal &= memcmp(decoded, expected, sizeof decoded) == 0;
        assert_int_equal(pack_decode(receiver, &context, bytes, size, received), 0);
        assert_memory_equal(received, decoded, sizeof received);
        memcpy(sum, x, sizeof sum);
        assert_int_equal(pack_decode_add(receiver, &context, bytes, size, -1, sum), 0);
        for (size_t i = 0; i < DIM; i++) assert_true(fabsf(sum[i] - (x[i] - decoded[i])) < 1e-5f);
    }
    pack_free(sender);
    pack_free(receiver);
    compressor_free(c);
    return equal;
}

static void a_model_by_tensor_is_the_sum_of_its_tensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < EACH_KIND_COUNT; i++)
        if (!equals_by_hand(each_kind[i], layers, LAYER_COUNT)) fail_msg("%s differs", each_kind[i]);
    assert_false(equals_by_hand("sign", NULL, 0)); /* one scale for all: the comparison sees it */
}

static void one_vector_gives_the_bytes_of_the_compressor(void **state)
{
    (void)state;
    static const struct tensor whole = {0, 1, DIM};
    for (size_t i = 0; i < EACH_KIND_COUNT; i++) {
        struct choice choice = choose(each_kind[i]);
        struct compressor *c = compressor_new(&choice);
        float x[DIM];
        fill(9, x);
        struct compress_context context = {.seed = 3, .round = 8, .dither = 1};
        uint8_t expected[BYTES_MAX], bytes[BYTES_MAX];
        size_t expected_size, size;
        assert_int_equal(compressor_encode(c, &context, DIM, x, expected, &expected_size, NULL), 0);
        for (uint32_t layout = 0; layout < 2; layout++) {
            struct pack *p = pack_new(&choice, DIM, layout == 0 ? NULL : &whole, layout);
            assert_int_equal(pack_encode(p, &context, x, bytes, &size, NULL), 0);
            assert_int_equal(size, expected_size);
            assert_memory_equal(bytes, expected, size);
            assert_int_equal(pack_bound(&choice, DIM, NULL, 0), pack_size_max(p));
            assert_true(fabs(pack_omega(p) - (i + 1 < EACH_KIND_COUNT ? compressor_omega(c, DIM) : 1)) <
                        1e-12);
            pack_free(p);
        }
        compressor_free(c);
    }
}

static void omega_and_sizes_know_the_shapes(void **state)
{
    (void)state;
    struct choice power = choose("powersgd:rank=1"), topk = choose("topk:fraction=0.1");
    struct pack *p = pack_new(&power, DIM, layers, LAYER_COUNT);
    /* 2 x 300 and 7 x 11 in factors, the two vectors whole; the worst is the 7 x 11 */
    assert_int_equal(pack_size_max(p), 4 * (302 + 18 + 11 + 1));
    assert_true(fabs(pack_omega(p) - 1.0 / 7) < 1e-5);
    pack_free(p);
    p = pack_new(&topk, DIM, layers, LAYER_COUNT);
    assert_true(fabs(pack_omega(p) - 1.0 / 11) < 1e-12); /* one of eleven */
    pack_free(p);
}

/* Messages that are too short, too long, or sound but for the last tensor. */
static void a_bad_tensor_leaves_all_others_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < EACH_KIND_COUNT; i++) {
        struct choice choice = choose(each_kind[i]);
        struct pack *p = pack_new(&choice, DIM, layers, LAYER_COUNT);
        float x[DIM], out[DIM], before[DIM];
        fill(5, x);
        fill(6, out);
        memcpy(before, out, sizeof out);
        uint8_t bytes[BYTES_MAX + 4] = {0};
        size_t size;
        struct compress_context context = {.seed = 3, .round = 4, .dither = 1};
        assert_int_equal(pack_encode(p, &context, x, bytes, &size, NULL), 0);
        for (size_t cut = 0; cut < size; cut += cut < size - 40 ? 13 : 1)
            if (pack_check(p, &context, bytes, cut) == 0 || pack_decode(p, &context, bytes, cut, out) == 0)
                fail_msg("%s: %zu bytes", each_kind[i], cut);
        assert_int_equal(pack_check(p, &context, bytes, size), 0);
        assert_int_not_equal(pack_decode_add(p, &context, bytes, size + 1, 1, out), 0);
        context.norm_max = 1; /* each tensor's norm may be below, that of the whole is not */
        assert_int_not_equal(pack_decode_add(p, &context, bytes, size, 1, out), 0);
        context.norm_max = 0;
        if (strstr(each_kind[i], "bernoulli") != NULL) {
            bytes[0] += 4; /* the first length */
        } else if (strstr(each_kind[i], "fp16") != NULL || strstr(each_kind[i], "bf16") != NULL) {
            bytes[size - 1] = 0x7f; /* infinite or not a number */
            bytes[size - 2] = 0x80;
        } else if (strstr(each_kind[i], "int8") != NULL || strstr(each_kind[i], "qsgd") != NULL ||
                   strstr(each_kind[i], "sign") != NULL) {
            bytes[size - 2] = 0x7f; /* the scale, before one byte of code */
            bytes[size - 3] = 0x80;
        } else {
            bytes[size - 1] = 0x7f;
            bytes[size - 2] = 0x80;
        }
        if (pack_check(p, &context, bytes, size) == 0) fail_msg("%s: was found good", each_kind[i]);
        if (pack_decode_add(p, &context, bytes, size, 1, out) == 0) fail_msg("%s: was taken", each_kind[i]);
        assert_memory_equal(out, before, sizeof out);
        pack_free(p);
    }
}

static void what_is_not_finite_is_refused_whichever_tensor_has_it(void **state)
{
    (void)state;
    struct choice choice = choose("sign");
    struct pack *p = pack_new(&choice, DIM, layers, LAYER_COUNT);
    struct compress_context context = {.seed = 3};
    float x[DIM], decoded[DIM] = {0};
    uint8_t bytes[BYTES_MAX] = {0};
    size_t size = 77;
    for (uint32_t t = 0; t < LAYER_COUNT; t++) {
        fill(t, x);
        x[layers[t].offset] = t % 2 == 0 ? NAN : 2e15f;
        assert_int_equal(pack_encode(p, &context, x, bytes, &size, decoded),
                         t % 2 == 0 ? ERR_FORMAT : ERR_LIMIT);
        assert_true(size == 77 && bytes[0] == 0 && decoded[0] == 0);
    }
    pack_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_by_tensor_is_the_sum_of_its_tensors),
        cmocka_unit_test(one_vector_gives_the_bytes_of_the_compressor),
        cmocka_unit_test(omega_and_sizes_know_the_shapes),
        cmocka_unit_test(a_bad_tensor_leaves_all_others_alone),
        cmocka_unit_test(what_is_not_finite_is_refused_whichever_tensor_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

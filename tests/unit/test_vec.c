/* Goal: both kernel sets compute what they say, and the reference computes it in the order it promises.
 *
 * Method: gemm, dot and axpy of vec_ref and vec_blas against plain double loops, over sizes around the block
 * edges, every transposition, padded rows and beta 0 over NaN. Tolerance: k + 3 float32 roundings of the sum
 * of the terms' absolute values, the usual bound for a sum of k products in any order, so the two sets meet
 * each other within twice that. Orders of vec_ref are compared bit by bit with scalar loops, and a checksum
 * of its results is pinned, so that a compiler or flag that changes them is seen. Planted kernels with
 * typical faults must be caught by the same comparison. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/vec.h"
#include "base/check.h"
#include "base/prng.h"

static const struct vec_ops *const kernels[] = {&vec_ref, &vec_blas};

enum { PAD = 3 };
#define GUARD 12345.0f

static float *random_floats(struct prng *p, size_t count)
{
    float *x = mem_new(count, sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = (float)prng_uniform(p, -1, 1);
    return x;
}

/* -- gemm against double loops ----------------------------------------------------------------- */

struct product {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    float alpha, beta;
};

/* Elements of C outside the tolerance, or of its padding that changed. */
static size_t wrong_elements(const struct product *p, const float *a, size_t lda, const float *b, size_t ldb,
                             const float *before, const float *c, size_t ldc)
{
    size_t wrong = 0;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < ldc; j++) {
            double got = c[i * ldc + j], old = before[i * ldc + j];
            if (j >= p->n) {
                wrong += got != old;
                continue;
            }
            double sum = p->beta == 0.0f ? 0 : (double)p->beta * old, size = fabs(sum);
            for (size_t q = 0; q < p->k; q++) {
                double left = p->transpose_a ? a[q * lda + i] : a[i * lda + q];
                double right = p->transpose_b ? b[j * ldb + q] : b[q * ldb + j];
                sum += (double)p->alpha * left * right;
                size += fabs((double)p->alpha * left * right);
            }
            wrong += !(fabs(got - sum) <= (double)(p->k + 3) * FLT_EPSILON * size);
        }
    return wrong;
}

static size_t try_product(const struct vec_ops *vec, const struct product *p, struct prng *random)
{
    size_t lda = (p->transpose_a ? p->m : p->k) + PAD, ldb = (p->transpose_b ? p->k : p->n) + PAD;
    size_t ldc = p->n + PAD;
    float *a = random_floats(random, (p->transpose_a ? p->k : p->m) * lda);
    float *b = random_floats(random, (p->transpose_b ? p->n : p->k) * ldb);
    float *c = random_floats(random, p->m * ldc), *before = mem_new(p->m * ldc, sizeof *before);
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < ldc; j++) {
            if (j >= p->n)
                c[i * ldc + j] = GUARD;
            else if (p->beta == 0.0f)
                c[i * ldc + j] = NAN;
        }
    memcpy(before, c, p->m * ldc * sizeof *c);
    vec->gemm(p->transpose_a, p->transpose_b, p->m, p->n, p->k, p->alpha, a, lda, b, ldb, p->beta, c, ldc);
    size_t wrong = wrong_elements(p, a, lda, b, ldb, before, c, ldc);
    free(before);
    free(c);
    free(b);
    free(a);
    return wrong;
}

/* Products with a wrong element, over all combinations. */
static size_t try_all_products(const struct vec_ops *vec)
{
    static const size_t m[] = {1, 2, 3, 4, 5, 9}, n[] = {1, 2, 7, 8, 9, 17, 33},
                        k[] = {0, 1, 2, 7, 8, 19, 40};
    static const float alpha[] = {1.0f, -0.7f}, beta[] = {0.0f, 1.0f, 0.3f};
    struct prng random;
    prng_seed(&random, 7);
    size_t failed = 0;
    for (unsigned code = 0; code < 4 * 6 * 7 * 7 * 6; code++) {
        unsigned rest = code / 4;
        struct product p = {.transpose_a = code & 1, .transpose_b = code & 2};
        p.m = m[rest % 6], rest /= 6;
        p.n = n[rest % 7], rest /= 7;
        p.k = k[rest % 7], rest /= 7;
        p.alpha = alpha[rest % 2], p.beta = beta[rest / 2];
        failed += try_product(vec, &p, &random) > 0;
    }
    return failed;
}

static void gemm_meets_double_loops(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) assert_int_equal(try_all_products(kernels[v]), 0);
}

static void gemm_of_model_size_meets_double_loops(void **state)
{
    (void)state;
    static const struct product products[] = {
        {false, true, 32, 10, 784, 1, 0},     {true, false, 10, 784, 32, 1, 1},
        {false, false, 32, 100, 10, 1, 0},    {false, true, 1, 256, 784, 1, 1},
        {false, false, 1, 784, 256, 1, 1},    {true, false, 100, 784, 1, 1, 1},
        {true, true, 5, 9, 1100, 0.5f, 0.5f},
    };
    struct prng random;
    prng_seed(&random, 8);
    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
            assert_int_equal(try_product(kernels[v], &products[i], &random), 0);
}

/* -- planted faults ---------------------------------------------------------------------------- */

static void forgets_last(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                         size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    vec_ref.gemm(ta, tb, m, n, k > 8 ? k - 1 : k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static void multiplies_nan(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                           size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) vec_scale(n, beta, c + i * ldc);
    vec_ref.gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, 1.0f, c, ldc);
}

static void writes_padding(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                           size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    vec_ref.gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (n % 2 == 1) c[n] = 0;
}

static void ignores_transposition(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                                  size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    vec_ref.gemm(ta && m != k, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static void planted_faults_are_caught(void **state)
{
    (void)state;
    const struct vec_ops planted[] = {
        {.gemm = forgets_last},
        {.gemm = multiplies_nan},
        {.gemm = writes_padding},
        {.gemm = ignores_transposition},
    };
    for (size_t i = 0; i < 4; i++) assert_true(try_all_products(&planted[i]) > 0);
}

/* -- dot, axpy --------------------------------------------------------------------------------- */

static void dot_and_axpy_meet_double_loops(void **state)
{
    (void)state;
    struct prng random;
    prng_seed(&random, 9);
    for (size_t n = 0; n < 70; n++) {
        size_t length = n < 60 ? n : n * 100;
        float *x = random_floats(&random, length + 1), *y = random_floats(&random, length + 1);
        float *z = mem_new(length + 1, sizeof *z);
        double sum = 0, size = 0;
        for (size_t i = 0; i < length; i++) {
            sum += (double)x[i] * (double)y[i];
            size += fabs((double)x[i] * (double)y[i]);
        }
        for (size_t v = 0; v < 2; v++) {
            double got = kernels[v]->dot(length, x, y);
            assert_true(fabs(got - sum) <= (double)(length + 1) * FLT_EPSILON * size);
            vec_copy(length + 1, y, z);
            kernels[v]->axpy(length, 0.3f, x, z);
            for (size_t i = 0; i < length; i++)
                assert_true(fabs((double)z[i] - ((double)y[i] + (double)0.3f * (double)x[i])) <=
                            2 * FLT_EPSILON);
            assert_true(z[length] == y[length]);
        }
        free(z);
        free(y);
        free(x);
    }
}

/* Eight sums and a tree, as vec_ref.c promises, in scalars. */
static float scalar_dot(size_t n, const float *x, const float *y)
{
    volatile float sum[8] = {0}; /* volatile: no compiler merges these additions */
    for (size_t i = 0; i < n; i++) sum[i % 8] = sum[i % 8] + x[i] * y[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static void reference_sums_in_its_stated_order(void **state)
{
    (void)state;
    enum { M = 5, N = 11, K = 45 };
    struct prng random;
    prng_seed(&random, 10);
    float *a = random_floats(&random, M * K), *b = random_floats(&random, N * K),
          *bt = mem_new(N * K, sizeof *bt);
    for (size_t j = 0; j < N; j++)
        for (size_t p = 0; p < K; p++) bt[p * N + j] = b[j * K + p];
    float by_dot[M * N], by_column[M * N];
    vec_ref.gemm(false, true, M, N, K, 1, a, K, b, K, 0, by_dot, N);
    vec_ref.gemm(false, false, M, N, K, 1, a, K, bt, N, 0, by_column, N);
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            float expected = scalar_dot(K, a + i * K, b + j * K);
            assert_memory_equal(&by_dot[i * N + j], &expected, sizeof expected);
            expected = vec_ref.dot(K, a + i * K, b + j * K);
            assert_memory_equal(&by_dot[i * N + j], &expected, sizeof expected);
            volatile float sum = 0;
            for (size_t p = 0; p < K; p++) sum = sum + a[i * K + p] * bt[p * N + j];
            expected = sum;
            assert_memory_equal(&by_column[i * N + j], &expected, sizeof expected);
        }
    free(bt);
    free(b);
    free(a);
}

static uint64_t checksum(uint64_t hash, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = (hash ^ bits) * 0x100000001b3ull; /* FNV-1a over words */
    }
    return hash;
}

static void reference_gives_the_same_bits_everywhere(void **state)
{
    (void)state;
    struct prng random;
    prng_seed(&random, 11);
    uint64_t hash = 0xcbf29ce484222325ull;
    for (unsigned code = 0; code < 4; code++) {
        enum { M = 7, N = 13, K = 53 };
        float *a = random_floats(&random, M * K), *b = random_floats(&random, N * K), c[M * N];
        vec_ref.gemm(code & 1, code & 2, M, N, K, 0.9f, a, code & 1 ? M : K, b, code & 2 ? K : N, 0, c, N);
        hash = checksum(hash, c, M * N);
        free(b);
        free(a);
    }
    assert_true(hash == 0x4538b1cd12e7dfe9ull);
}

/* -- elementwise helpers ----------------------------------------------------------------------- */

static void helpers_work_on_every_length(void **state)
{
    (void)state;
    struct prng random;
    prng_seed(&random, 12);
    for (size_t n = 0; n < 20; n++) {
        float *x = random_floats(&random, n + 1), *y = random_floats(&random, n + 1),
              *z = random_floats(&random, n + 1);
        float guard = z[n];
        double norm = 0, distance = 0;
        vec_sub(n, x, y, z);
        for (size_t i = 0; i < n; i++) {
            assert_true(z[i] == x[i] - y[i]);
            norm += (double)x[i] * (double)x[i];
            distance += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        }
        assert_true(vec_norm2(n, x) == sqrt(norm));
        assert_true(vec_distance2(n, x, y) == sqrt(distance));
        vec_mean2(n, x, y, z);
        for (size_t i = 0; i < n; i++) assert_true(z[i] == (x[i] + y[i]) / 2);
        vec_copy(n, x, z);
        vec_scale(n, 3, z);
        for (size_t i = 0; i < n; i++) assert_true(z[i] == 3 * x[i]);
        vec_sub(n, z, x, z);
        for (size_t i = 0; i < n; i++) assert_true(z[i] == 3 * x[i] - x[i]);
        vec_zero(n, z);
        for (size_t i = 0; i < n; i++) assert_true(z[i] == 0);
        assert_true(z[n] == guard);
        free(z);
        free(y);
        free(x);
    }
}

static void finite_sees_one_bad_number_anywhere(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[23];
    for (size_t n = 0; n <= 23; n++) {
        for (size_t i = 0; i < 23; i++) x[i] = i % 2 == 0 ? FLT_MAX : -FLT_MIN / 4;
        assert_true(vec_finite(n, x));
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < 3; k++) {
                float good = x[i];
                x[i] = bad[k];
                assert_false(vec_finite(n, x));
                x[i] = good;
            }
    }
}

static void mean_of_great_numbers_does_not_overflow(void **state)
{
    (void)state;
    float x[5] = {FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX}, out[5];
    vec_mean2(5, x, x, out);
    assert_memory_equal(out, x, sizeof x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_meets_double_loops),
        cmocka_unit_test(gemm_of_model_size_meets_double_loops),
        cmocka_unit_test(planted_faults_are_caught),
        cmocka_unit_test(dot_and_axpy_meet_double_loops),
        cmocka_unit_test(reference_sums_in_its_stated_order),
        cmocka_unit_test(reference_gives_the_same_bits_everywhere),
        cmocka_unit_test(helpers_work_on_every_length),
        cmocka_unit_test(finite_sees_one_bad_number_anywhere),
        cmocka_unit_test(mean_of_great_numbers_does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

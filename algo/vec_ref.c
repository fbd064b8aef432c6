/* The reference kernels: explicit lanes in a fixed order, no library.
 *
 * Orders of summation, the same wherever this is compiled:
 *  - dot: eight sums, sum l takes the elements l, l + 8, ...; then ((0+1)+(2+3)) + ((4+5)+(6+7)).
 *  - gemm with op(B) = B' and A as it is: every element of C is such a dot.
 *  - gemm with op(B) = B: every element of C is one sum over p = 0..k-1 in ascending order.
 *  - gemm with both transposed (no model needs it): dots of pieces of TRANSPOSE_PIECE, added in order. */
#include "algo/vec.h"

#include "algo/vec_lanes.h"

enum { TRANSPOSE_PIECE = 512 };

/* -- dot and axpy ------------------------------------------------------------------------------ */

/* Adds the elements from `from` on to the eight sums (low: 0..3, high: 4..7) and adds those up. */
static float dot_finish(size_t from, size_t n, const float *x, const float *y, lanes low, lanes high)
{
    float sum[8] = {low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]};
    for (size_t i = from; i < n; i++) sum[i - from] += x[i] * y[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static float ref_dot(size_t n, const float *x, const float *y)
{
    lanes low = lanes_all(0), high = lanes_all(0);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        low += lanes_load(x + i) * lanes_load(y + i);
        high += lanes_load(x + i + 4) * lanes_load(y + i + 4);
    }
    return dot_finish(i, n, x, y, low, high);
}

static void ref_axpy(size_t n, float alpha, const float *x, float *y)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) lanes_store(y + i, lanes_load(y + i) + alpha * lanes_load(x + i));
    for (; i < n; i++) y[i] += alpha * x[i];
}

/* -- C = alpha A B' + beta C ------------------------------------------------------------------- */

static void put(float *c, float alpha, float beta, float sum)
{
    *c = beta == 0.0f ? alpha * sum : beta * *c + alpha * sum;
}

/* Four dots at once, two rows of A with two of B: each the same sum as ref_dot. */
static void dot_2x2(size_t n, const float *const a[2], const float *const b[2], float out[4])
{
    lanes low00 = lanes_all(0), low01 = low00, low10 = low00, low11 = low00;
    lanes high00 = low00, high01 = low00, high10 = low00, high11 = low00;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lanes a0 = lanes_load(a[0] + i), a1 = lanes_load(a[1] + i);
        lanes b0 = lanes_load(b[0] + i), b1 = lanes_load(b[1] + i);
        low00 += a0 * b0;
        low01 += a0 * b1;
        low10 += a1 * b0;
        low11 += a1 * b1;
        a0 = lanes_load(a[0] + i + 4), a1 = lanes_load(a[1] + i + 4);
        b0 = lanes_load(b[0] + i + 4), b1 = lanes_load(b[1] + i + 4);
        high00 += a0 * b0;
        high01 += a0 * b1;
        high10 += a1 * b0;
        high11 += a1 * b1;
    }
    out[0] = dot_finish(i, n, a[0], b[0], low00, high00);
    out[1] = dot_finish(i, n, a[0], b[1], low01, high01);
    out[2] = dot_finish(i, n, a[1], b[0], low10, high10);
    out[3] = dot_finish(i, n, a[1], b[1], low11, high11);
}

static void gemm_nt(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b,
                    size_t ldb, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i += 2) {
        size_t j = 0;
        for (; i + 2 <= m && j + 2 <= n; j += 2) {
            float sum[4];
            dot_2x2(k, (const float *[2]){a + i * lda, a + (i + 1) * lda},
                    (const float *[2]){b + j * ldb, b + (j + 1) * ldb}, sum);
            for (size_t s = 0; s < 4; s++) put(c + (i + s / 2) * ldc + j + s % 2, alpha, beta, sum[s]);
        }
        for (; j < n; j++)
            for (size_t row = i; row < m && row < i + 2; row++)
                put(c + row * ldc + j, alpha, beta, ref_dot(k, a + row * lda, b + j * ldb));
    }
}

/* -- C = alpha op(A) B + beta C: element (i, p) of op(A) is a[i * row + p * step] ---------------- */

static void put_lanes(float *c, float alpha, float beta, lanes sum)
{
    lanes_store(c, beta == 0.0f ? alpha * sum : beta * lanes_load(c) + alpha * sum);
}

/* Four rows by eight columns of C, kept in registers over all of k. */
static void tile_4x8(size_t k, float alpha, const float *a, size_t row, size_t step, const float *b,
                     size_t ldb, float beta, float *c, size_t ldc)
{
    lanes c00 = lanes_all(0), c10 = c00, c20 = c00, c30 = c00, c01 = c00, c11 = c00, c21 = c00, c31 = c00;
    for (size_t p = 0; p < k; p++, a += step, b += ldb) {
        lanes b0 = lanes_load(b), b1 = lanes_load(b + 4);
        c00 += a[0] * b0;
        c01 += a[0] * b1;
        c10 += a[row] * b0;
        c11 += a[row] * b1;
        c20 += a[2 * row] * b0;
        c21 += a[2 * row] * b1;
        c30 += a[3 * row] * b0;
        c31 += a[3 * row] * b1;
    }
    put_lanes(c, alpha, beta, c00);
    put_lanes(c + 4, alpha, beta, c01);
    put_lanes(c + ldc, alpha, beta, c10);
    put_lanes(c + ldc + 4, alpha, beta, c11);
    put_lanes(c + 2 * ldc, alpha, beta, c20);
    put_lanes(c + 2 * ldc + 4, alpha, beta, c21);
    put_lanes(c + 3 * ldc, alpha, beta, c30);
    put_lanes(c + 3 * ldc + 4, alpha, beta, c31);
}

static void tile_1x8(size_t k, float alpha, const float *a, size_t step, const float *b, size_t ldb,
                     float beta, float *c)
{
    lanes c0 = lanes_all(0), c1 = c0;
    for (size_t p = 0; p < k; p++, a += step, b += ldb) {
        c0 += a[0] * lanes_load(b);
        c1 += a[0] * lanes_load(b + 4);
    }
    put_lanes(c, alpha, beta, c0);
    put_lanes(c + 4, alpha, beta, c1);
}

static void tile_1x1(size_t k, float alpha, const float *a, size_t step, const float *b, size_t ldb,
                     float beta, float *c)
{
    float sum = 0;
    for (size_t p = 0; p < k; p++) sum += a[p * step] * b[p * ldb];
    put(c, alpha, beta, sum);
}

static void gemm_xn(size_t m, size_t n, size_t k, float alpha, const float *a, size_t row, size_t step,
                    const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        size_t i = 0;
        for (; i + 4 <= m; i += 4)
            tile_4x8(k, alpha, a + i * row, row, step, b + j, ldb, beta, c + i * ldc + j, ldc);
        for (; i < m; i++) tile_1x8(k, alpha, a + i * row, step, b + j, ldb, beta, c + i * ldc + j);
    }
    for (; j < n; j++)
        for (size_t i = 0; i < m; i++)
            tile_1x1(k, alpha, a + i * row, step, b + j, ldb, beta, c + i * ldc + j);
}

/* -- C = alpha A' B' + beta C ------------------------------------------------------------------ */

static void gemm_tt(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b,
                    size_t ldb, float beta, float *c, size_t ldc)
{
    float piece[TRANSPOSE_PIECE];
    for (size_t i = 0; i < m; i++) {
        size_t from = 0;
        do {
            size_t length = k - from < TRANSPOSE_PIECE ? k - from : TRANSPOSE_PIECE;
            for (size_t p = 0; p < length; p++) piece[p] = a[(from + p) * lda + i];
            for (size_t j = 0; j < n; j++)
                put(c + i * ldc + j, alpha, from == 0 ? beta : 1.0f,
                    ref_dot(length, piece, b + j * ldb + from));
            from += length;
        } while (from < k);
    }
}

static void ref_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                     const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    if (!transpose_b)
        gemm_xn(m, n, k, alpha, a, transpose_a ? 1 : lda, transpose_a ? lda : 1, b, ldb, beta, c, ldc);
    else if (!transpose_a)
        gemm_nt(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else
        gemm_tt(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

const struct vec_ops vec_ref = {.name = "ref", .gemm = ref_gemm, .dot = ref_dot, .axpy = ref_axpy};

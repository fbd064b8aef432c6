/* The fast kernels: OpenBLAS, the serial build, behind the face of vec.h.
 *
 * Processors: OpenBLAS picks its kernels when the library is loaded, and takes its Haswell (AVX2) kernels on
 * processors that are newer than its release (0.3.21 knows AMD up to Zen 4). The environment variable
 * OPENBLAS_CORETYPE=SkylakeX, set before the program starts, selects the AVX-512 kernels, up to twice as fast
 * where the processor has AVX-512 (softmax of 784 x 10 on 32 rows: 13 us a step instead of 22). Whoever
 * starts the process sets it, it cannot be done from here. OPENBLAS_VERBOSE=2 prints the choice.
 *
 * Sums are in an order that depends on the processor: results equal vec_ref's up to rounding only. */
#include "algo/vec.h"

#include <cblas.h>
#include <limits.h>

#include "base/check.h"

/* Elements given to one call: cblas counts in int. */
#define PIECE ((size_t)1 << 30)

static float blas_dot(size_t n, const float *x, const float *y)
{
    float sum = 0;
    for (size_t i = 0; i < n; i += PIECE)
        sum += cblas_sdot((int)(n - i < PIECE ? n - i : PIECE), x + i, 1, y + i, 1);
    return sum;
}

static void blas_axpy(size_t n, float alpha, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += PIECE)
        cblas_saxpy((int)(n - i < PIECE ? n - i : PIECE), alpha, x + i, 1, y + i, 1);
}

/* A leading dimension that cblas accepts: a matrix of one row may have been given any. */
static int leading(size_t row_length, size_t columns)
{
    CHECK(row_length <= INT_MAX);
    CHECK(columns <= INT_MAX);
    return (int)(row_length > columns ? row_length : columns > 0 ? columns : 1);
}

/* One row of C: a matrix-vector product, for which this OpenBLAS's gemm takes twice as long. */
static void one_row(bool transpose_a, bool transpose_b, size_t n, size_t k, float alpha, const float *a,
                    size_t lda, const float *b, size_t ldb, float beta, float *c)
{
    if (beta == 0.0f) vec_zero(n, c); /* whatever the library does with 0 * NaN */
    size_t rows = transpose_b ? n : k, columns = transpose_b ? k : n;
    cblas_sgemv(CblasRowMajor, transpose_b ? CblasNoTrans : CblasTrans, (int)rows, (int)columns, alpha, b,
                leading(ldb, columns), a, transpose_a ? (int)lda : 1, beta, c, 1);
}

static void blas_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                      const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
                      size_t ldc)
{
    CHECK(m <= INT_MAX);
    CHECK(n <= INT_MAX);
    CHECK(k <= INT_MAX);
    if (m == 0 || n == 0) return;
    if (m == 1 && k > 0) {
        one_row(transpose_a, transpose_b, n, k, alpha, a, lda, b, ldb, beta, c);
    } else if (k == 1 && beta == 1.0f) { /* one sample's gradient: C += alpha a b' */
        cblas_sger(CblasRowMajor, (int)m, (int)n, alpha, a, transpose_a ? 1 : (int)lda, b,
                   transpose_b ? (int)ldb : 1, c, leading(ldc, n));
    } else {
        cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                    transpose_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a,
                    leading(lda, transpose_a ? m : k), b, leading(ldb, transpose_b ? k : n), beta, c,
                    leading(ldc, n));
    }
}

const struct vec_ops vec_blas = {.name = "blas", .gemm = blas_gemm, .dot = blas_dot, .axpy = blas_axpy};

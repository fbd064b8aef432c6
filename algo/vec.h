/* Kernels over flat float32 vectors and row-major matrices. Two implementations with one face: vec_ref
 * (plain loops in a fixed order: the oracle, and what the simulator uses, so that a trace does not depend
 * on the processor) and vec_blas (OpenBLAS, single-threaded). */
#ifndef GADABOUT_ALGO_VEC_H
#define GADABOUT_ALGO_VEC_H

#include <stdbool.h>
#include <stddef.h>

struct vec_ops {
    const char *name;
    /* C (m, n) = alpha * op(A) op(B) + beta * C; op(A) is (m, k), op(B) is (k, n); row-major; lda, ldb,
     * ldc are row lengths in memory. beta 0 overwrites C (even NaN). */
    void (*gemm)(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);
    float (*dot)(size_t n, const float *x, const float *y);
    void (*axpy)(size_t n, float alpha, const float *x, float *y); /* y += alpha x */
};

extern const struct vec_ops vec_ref;
extern const struct vec_ops vec_blas;

/* Elementwise helpers, the same everywhere (no reordering of sums is possible). */
void vec_copy(size_t n, const float *x, float *y);
float *vec_duplicate(size_t n, const float *x); /* returns owned */
void vec_zero(size_t n, float *x);
void vec_scale(size_t n, float alpha, float *x);
void vec_sub(size_t n, const float *x, const float *y, float *out);   /* out = x - y; out may alias */
void vec_mean2(size_t n, const float *x, const float *y, float *out); /* (x + y) / 2 */
double vec_norm2(size_t n, const float *x); /* Euclidean norm, double sum in index order */
double vec_distance2(size_t n, const float *x, const float *y);
bool vec_finite(size_t n, const float *x); /* no NaN, no infinity */

#endif

/* powersgd (Vogels et al. 2019): a matrix M (rows x columns) as P Q', P (rows x r) with orthonormal columns,
 * Q (columns x r): P = M N for normal random N from the seed, orthonormalised, Q = M' P. The message is P,
 * then Q, row-major float32. A vector without a shape, or whose factors would not be shorter, is sent whole.
 *
 * P Q' = P P' M projects on the span of M N, so its error is at most that of M on the span of N, whose mean,
 * within the span of M's rows, is (1 - r / min(rows, columns)) ||M||^2: hence omega. Every message starts
 * afresh: a "warm start" from the last Q would do better on slowly changing matrices, at the price of a
 * memory for every tensor; the mean of factors over nodes (the paper's all-reduce) belongs to the methods. */
#include "algo/compress/internal.h"

#include "algo/vec.h"
#include "base/err.h"

struct shape {
    size_t rows, columns, rank; /* rank 0: sent whole */
};

static struct shape shape_of(const struct compressor *c, size_t rows, size_t dim)
{
    struct shape s = {rows > 1 ? rows : 1, 0, c->rank};
    s.columns = dim / s.rows;
    if (s.rank > s.rows) s.rank = s.rows;
    if (s.rank > s.columns) s.rank = s.columns;
    if (s.rank * (s.rows + s.columns) >= dim) s.rank = 0;
    return s;
}

static size_t powersgd_size_max(const struct compressor *c, size_t dim)
{
    (void)c;
    return 4 * dim;
}

static size_t powersgd_size(const struct compressor *c, size_t rows, size_t dim)
{
    struct shape s = shape_of(c, rows, dim);
    return 4 * (s.rank > 0 ? (s.rows + s.columns) * s.rank : dim);
}

static double powersgd_matrix_omega(const struct compressor *c, size_t rows, size_t dim)
{
    struct shape s = shape_of(c, rows, dim);
    if (s.rank == 0) return 1;
    double omega = (double)s.rank / (double)(s.rows < s.columns ? s.rows : s.columns) - 1e-6;
    return omega < 1 ? omega : 1 - 1e-6;
}

/* The least over the shapes of dim entries. */
static double powersgd_omega(const struct compressor *c, size_t dim)
{
    double omega = (double)c->rank / floor(sqrt((double)dim)) - 1e-6; /* rounding of the factors */
    return omega < 1 ? omega : 1 - 1e-6;
}

/* Adds factor * column `from` to column `to` of P (rows, r). */
static void column_add(struct shape s, float *p, size_t to, size_t from, double factor)
{
    for (size_t i = 0; i < s.rows; i++)
        p[i * s.rank + to] = (float)((double)p[i * s.rank + to] + factor * (double)p[i * s.rank + from]);
}

static double column_dot(struct shape s, const float *p, size_t a, size_t b)
{
    double sum = 0;
    for (size_t i = 0; i < s.rows; i++) sum += (double)p[i * s.rank + a] * (double)p[i * s.rank + b];
    return sum;
}

/* Gram-Schmidt, twice over for each column, as once leaves too much of the others. A column that all but
 * depends on those before it becomes zero. */
static void orthonormalise(struct shape s, float *p)
{
    for (size_t j = 0; j < s.rank; j++) {
        double before = sqrt(column_dot(s, p, j, j));
        for (int pass = 0; pass < 2; pass++)
            for (size_t l = 0; l < j; l++) column_add(s, p, j, l, -column_dot(s, p, j, l));
        double after = sqrt(column_dot(s, p, j, j));
        double factor = after > 1e-5 * before ? 1 / after : 0;
        for (size_t i = 0; i < s.rows; i++)
            p[i * s.rank + j] = flushed((float)(factor * (double)p[i * s.rank + j]));
    }
}

/* P = M Q, or Q = M' P when `transposed`: one pass over M by rows, r sums at a time. The general product of
 * vec.h is made for wide results and would take M by columns for the second. */
static void multiply_matrix(struct shape s, bool transposed, const float *m, const float *in, float *out)
{
    vec_zero((transposed ? s.columns : s.rows) * s.rank, out);
    for (size_t i = 0; i < s.rows; i++)
        for (size_t j = 0; j < s.columns; j++) {
            float v = m[i * s.columns + j];
            const float *from = in + (transposed ? i : j) * s.rank;
            float *to = out + (transposed ? j : i) * s.rank;
            for (size_t l = 0; l < s.rank; l++) to[l] += v * from[l];
        }
}

static void multiply_factors(struct shape s, const float *p, const float *q, bool add, float scale,
                             float *out)
{
    vec_ref.gemm(false, true, s.rows, s.columns, s.rank, scale, p, s.rank, q, s.rank, add ? 1 : 0, out,
                 s.columns);
}

static size_t powersgd_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                              const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)norm;
    struct shape s = shape_of(c, context->rows, dim);
    if (s.rank == 0) {
        floats_store(x, dim, out, decoded);
        return 4 * dim;
    }
    size_t p_count = s.rows * s.rank, q_count = s.columns * s.rank;
    float *p = compressor_scratch(c, p_count + q_count), *q = p + p_count;
    struct prng draw;
    context_stream(context, "powersgd", false, &draw);
    for (size_t i = 0; i < q_count; i++) q[i] = (float)prng_normal(&draw);
    multiply_matrix(s, false, x, q, p);
    orthonormalise(s, p);
    multiply_matrix(s, true, x, p, q);
    for (size_t i = 0; i < q_count; i++) q[i] = flushed(q[i]);
    floats_store(p, p_count + q_count, out, NULL);
    if (decoded != NULL) multiply_factors(s, p, q, false, 1, decoded);
    return 4 * (p_count + q_count);
}

static int powersgd_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                             const uint8_t *bytes, size_t size, double *norm2)
{
    struct shape s = shape_of(c, context->rows, dim);
    size_t p_count = s.rows * s.rank, q_count = s.columns * s.rank;
    if (s.rank == 0) {
        if (size != 4 * dim) return ERR_FORMAT;
        return floats_validate(bytes, dim, norm2) ? 0 : ERR_FORMAT;
    }
    if (size != 4 * (p_count + q_count)) return ERR_FORMAT;
    double p_norm2 = 0, q_norm2 = 0;
    if (!floats_validate(bytes, p_count, &p_norm2)) return ERR_FORMAT;
    if (!floats_validate(bytes + 4 * p_count, q_count, &q_norm2)) return ERR_FORMAT;
    *norm2 = p_norm2 * q_norm2; /* of Frobenius norms: bounds the product's, and every sum on the way */
    return 0;
}

static void powersgd_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                           const uint8_t *bytes, bool add, float scale, float *out)
{
    struct shape s = shape_of(c, context->rows, dim);
    if (s.rank == 0) {
        floats_apply(bytes, dim, add, scale, out);
        return;
    }
    size_t count = (s.rows + s.columns) * s.rank;
    float *p = compressor_scratch(c, count);
    floats_apply(bytes, count, false, 1, p);
    multiply_factors(s, p, p + s.rows * s.rank, add, scale, out);
}

const struct compress_family compress_powersgd = {
    .size_max = powersgd_size_max,
    .omega = powersgd_omega,
    .encode = powersgd_encode,
    .validate = powersgd_validate,
    .apply = powersgd_apply,
    .size = powersgd_size,
    .matrix_omega = powersgd_matrix_omega,
};

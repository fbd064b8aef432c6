/* block: b entries in a row, cyclic, from a start that is uniform over the entries and a function of (seed,
 * round, tensor) alone: all nodes send the same run, so that blocks can be summed by an ordinary all-reduce.
 * "Random block gradient sparsification" of Xu, Huang 2022; delicoco_def.md 2.2. */
#include "algo/compress/internal.h"

#include "base/check.h"
#include "base/err.h"

static size_t block_count(const struct compressor *c, size_t dim)
{
    size_t count = (size_t)(c->fraction * (double)dim);
    return count < 1 ? 1 : count;
}

static size_t block_start(const struct compress_context *context, size_t dim)
{
    struct prng draw;
    context_stream(context, "block", false, &draw);
    return prng_below(&draw, (uint32_t)dim);
}

void compressor_block(const struct compressor *c, const struct compress_context *context, size_t dim,
                      size_t *start, size_t *count)
{
    CHECK(c->family == &compress_block);
    CHECK(dim > 0);
    *start = block_start(context, dim);
    *count = block_count(c, dim);
}

/* Entries of the run before the end of the vector; the others are at its beginning. */
static size_t head_count(size_t dim, size_t start, size_t count)
{
    return count < dim - start ? count : dim - start;
}

static size_t block_size_max(const struct compressor *c, size_t dim)
{
    return 4 * block_count(c, dim);
}

static double block_omega(const struct compressor *c, size_t dim)
{
    return (double)block_count(c, dim) / (double)dim;
}

static size_t block_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                           const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)norm;
    size_t start = block_start(context, dim), count = block_count(c, dim);
    size_t head = head_count(dim, start, count);
    if (decoded != NULL) memset(decoded, 0, dim * sizeof *decoded);
    floats_store(x + start, head, out, decoded != NULL ? decoded + start : NULL);
    floats_store(x, count - head, out + 4 * head, decoded);
    return 4 * count;
}

static int block_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                          const uint8_t *bytes, size_t size, double *norm2)
{
    (void)context;
    size_t count = block_count(c, dim);
    if (size != 4 * count) return ERR_FORMAT;
    return floats_validate(bytes, count, norm2) ? 0 : ERR_FORMAT;
}

static void block_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                        const uint8_t *bytes, bool add, float scale, float *out)
{
    size_t start = block_start(context, dim), count = block_count(c, dim);
    size_t head = head_count(dim, start, count);
    if (!add) memset(out, 0, dim * sizeof *out);
    floats_apply(bytes, head, add, scale, out + start);
    floats_apply(bytes + 4 * head, count - head, add, scale, out);
}

const struct compress_family compress_block = {
    .size_max = block_size_max,
    .omega = block_omega,
    .encode = block_encode,
    .validate = block_validate,
    .apply = block_apply,
};

/* randk and bernoulli: entries drawn from the shared seed. The message holds the values in ascending order of
 * position and nothing else; both ends make the same bit mask from (seed, round, tensor, dim), and keep it
 * for the other messages of that round. */
#include "algo/compress/internal.h"

#include "base/check.h"
#include "base/err.h"

/* -- drawing ----------------------------------------------------------------------------------- */

/* An all-zero mask of dim bits, for this draw. False: the mask there already is the one. */
static bool mask_start(struct compressor *c, const struct compress_context *context, size_t dim)
{
    struct mask_key *key = &c->mask_key;
    if (key->dim == dim && key->seed == context->seed && key->round == context->round &&
        key->tensor == context->tensor)
        return false;
    *key = (struct mask_key){context->seed, context->round, context->tensor, dim};
    size_t words = (dim + 63) / 64;
    if (c->mask_words < words) {
        c->mask = mem_resize(c->mask, words, sizeof *c->mask);
        c->mask_words = words;
    }
    memset(c->mask, 0, words * sizeof *c->mask);
    return true;
}

static bool mask_add(struct compressor *c, size_t i)
{
    uint64_t bit = (uint64_t)1 << i % 64;
    if ((c->mask[i / 64] & bit) != 0) return false;
    c->mask[i / 64] |= bit;
    return true;
}

/* A uniform set of k of dim positions with k draws (Bentley, Floyd 1987). More than half: the ones left out
 * are drawn. */
static void draw_randk(struct compressor *c, const struct compress_context *context, size_t dim)
{
    if (!mask_start(c, context, dim)) return;
    struct prng draw;
    context_stream(context, "randk", false, &draw);
    size_t k = kept_count(c->fraction, dim);
    bool inverted = k > dim / 2;
    for (size_t j = inverted ? k : dim - k; j < dim; j++)
        if (!mask_add(c, prng_below(&draw, (uint32_t)j + 1))) mask_add(c, j);
    if (inverted) {
        for (size_t w = 0; w < (dim + 63) / 64; w++) c->mask[w] = ~c->mask[w];
        if (dim % 64 != 0) c->mask[dim / 64] &= ((uint64_t)1 << dim % 64) - 1;
    }
    c->mask_count = k;
}

/* p in steps of 2^-32: one draw of 64 bits decides two entries. */
static uint64_t bernoulli_threshold(const struct compressor *c)
{
    uint64_t threshold = (uint64_t)(c->fraction * 0x1p32 + 0.5);
    return threshold > 0 ? threshold : 1;
}

static void draw_bernoulli(struct compressor *c, const struct compress_context *context, size_t dim)
{
    if (!mask_start(c, context, dim)) return;
    struct prng draw;
    context_stream(context, "bernoulli", false, &draw);
    uint64_t threshold = bernoulli_threshold(c), bits = 0;
    c->mask_count = 0;
    for (size_t i = 0; i < dim; i++) {
        bits = i % 2 == 0 ? prng_next(&draw) : bits >> 32;
        uint64_t kept = (bits & 0xffffffffu) < threshold;
        c->mask[i / 64] |= kept << i % 64;
        c->mask_count += kept;
    }
}

/* -- messages ---------------------------------------------------------------------------------- */

static size_t encode_masked(const struct compressor *c, size_t dim, const float *x, float factor,
                            uint8_t *out, float *decoded)
{
    if (decoded != NULL) memset(decoded, 0, dim * sizeof *decoded);
    uint8_t *at = out;
    for (size_t w = 0; w < (dim + 63) / 64; w++)
        for (uint64_t left = c->mask[w]; left != 0; left &= left - 1, at += 4) {
            size_t i = 64 * w + (unsigned)__builtin_ctzll(left);
            float v = flushed(factor * x[i]);
            store_f32(at, v);
            if (decoded != NULL) decoded[i] = v;
        }
    CHECK((size_t)(at - out) == 4 * c->mask_count);
    return 4 * c->mask_count;
}

static int validate_masked(const struct compressor *c, const uint8_t *bytes, size_t size, double *norm2)
{
    if (size != 4 * c->mask_count) return ERR_FORMAT;
    return floats_validate(bytes, c->mask_count, norm2) ? 0 : ERR_FORMAT;
}

/* With the mask drawn last. */
static void apply_masked(const struct compressor *c, size_t dim, const uint8_t *bytes, bool add, float scale,
                         float *out)
{
    if (!add) memset(out, 0, dim * sizeof *out);
    for (size_t w = 0; w < (dim + 63) / 64; w++)
        for (uint64_t left = c->mask[w]; left != 0; left &= left - 1, bytes += 4)
            put_value(&out[64 * w + (unsigned)__builtin_ctzll(left)], load_f32(bytes), add, scale);
}

/* -- randk ------------------------------------------------------------------------------------- */

static size_t randk_size_max(const struct compressor *c, size_t dim)
{
    return 4 * kept_count(c->fraction, dim);
}

/* plain: k/d. unbiased: the error is (d/k - 1) ||x||^2. */
static double randk_omega(const struct compressor *c, size_t dim)
{
    double part = (double)kept_count(c->fraction, dim) / (double)dim;
    return c->unbiased ? 2 - 1 / part : part;
}

static size_t randk_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                           const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)norm;
    draw_randk(c, context, dim);
    float factor = c->unbiased ? (float)((double)dim / (double)c->mask_count) : 1.0f;
    return encode_masked(c, dim, x, factor, out, decoded);
}

static int randk_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                          const uint8_t *bytes, size_t size, double *norm2)
{
    if (size != randk_size_max(c, dim)) return ERR_FORMAT; /* before any work */
    draw_randk(c, context, dim);
    return validate_masked(c, bytes, size, norm2);
}

static void randk_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                        const uint8_t *bytes, bool add, float scale, float *out)
{
    draw_randk(c, context, dim); /* validate has, unless it went on to other tensors since */
    apply_masked(c, dim, bytes, add, scale, out);
}

const struct compress_family compress_randk = {
    .size_max = randk_size_max,
    .omega = randk_omega,
    .encode = randk_encode,
    .validate = randk_validate,
    .apply = randk_apply,
};

/* -- bernoulli --------------------------------------------------------------------------------- */

static size_t bernoulli_size_max(const struct compressor *c, size_t dim)
{
    (void)c;
    return 4 * dim;
}

static double bernoulli_omega(const struct compressor *c, size_t dim)
{
    (void)dim;
    return (double)bernoulli_threshold(c) * 0x1p-32;
}

static size_t bernoulli_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                               const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)norm;
    draw_bernoulli(c, context, dim);
    return encode_masked(c, dim, x, 1.0f, out, decoded);
}

static int bernoulli_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                              const uint8_t *bytes, size_t size, double *norm2)
{
    draw_bernoulli(c, context, dim);
    return validate_masked(c, bytes, size, norm2);
}

static void bernoulli_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                            const uint8_t *bytes, bool add, float scale, float *out)
{
    draw_bernoulli(c, context, dim);
    apply_masked(c, dim, bytes, add, scale, out);
}

static size_t bernoulli_size(const struct compressor *c, size_t rows, size_t dim)
{
    (void)c;
    (void)rows;
    (void)dim;
    return 0;
}

const struct compress_family compress_bernoulli = {
    .size_max = bernoulli_size_max,
    .omega = bernoulli_omega,
    .encode = bernoulli_encode,
    .validate = bernoulli_validate,
    .apply = bernoulli_apply,
    .size = bernoulli_size,
};

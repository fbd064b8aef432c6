/* int8: blocks of entries, each block its scale (float32) and then one signed byte an entry: value = scale *
 * code, |code| <= 127. The scale is the block's greatest absolute value / 127. */
#include "algo/compress/internal.h"

#include "base/err.h"

static size_t block_length(const struct compressor *c, size_t dim, size_t from)
{
    return dim - from < c->block ? dim - from : c->block;
}

static size_t int8_size_max(const struct compressor *c, size_t dim)
{
    return dim + 4 * ((dim + c->block - 1) / c->block);
}

/* An error is at most half a step, max / 254, and the greatest entry has next to none. */
static double int8_omega(const struct compressor *c, size_t dim)
{
    size_t length = block_length(c, dim, 0);
    return 1 - (double)(length - 1) / (254.0 * 254.0) * (1 + 1e-4) - 1e-12;
}

static float max_abs(size_t n, const float *x)
{
    float max = 0;
    for (size_t i = 0; i < n; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    return max;
}

static void encode_block(size_t n, const float *x, uint8_t *out, float *decoded)
{
    float max = max_abs(n, x);
    float scale = flushed(max / 127.0f);
    float inverse = scale > 0 ? 127.0f / max : 0.0f;
    store_f32(out, scale);
    for (size_t i = 0; i < n; i++) {
        float code = nearbyintf(x[i] * inverse);
        code = code > 127.0f ? 127.0f : code < -127.0f ? -127.0f : code;
        out[4 + i] = (uint8_t)(int8_t)code;
        if (decoded != NULL) decoded[i] = scale * (float)(int8_t)code;
    }
}

static size_t int8_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                          const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)context;
    (void)norm;
    for (size_t from = 0; from < dim; from += c->block) {
        size_t length = block_length(c, dim, from);
        encode_block(length, x + from, out, decoded != NULL ? decoded + from : NULL);
        out += 4 + length;
    }
    return int8_size_max(c, dim);
}

static int int8_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                         const uint8_t *bytes, size_t size, double *norm2)
{
    (void)context;
    if (size != int8_size_max(c, dim)) return ERR_FORMAT;
    for (size_t from = 0; from < dim; from += c->block) {
        size_t length = block_length(c, dim, from);
        if (!scale_is_plain(load_u32(bytes))) return ERR_FORMAT;
        uint64_t squares = 0; /* at most 4096 * 127^2 */
        bool low = false;
        for (size_t i = 0; i < length; i++) {
            int code = (int8_t)bytes[4 + i];
            low |= code == -128;
            squares += (uint64_t)(code * code);
        }
        double scale = (double)load_f32(bytes);
        if (low || (scale == 0 && squares > 0)) return ERR_FORMAT;
        *norm2 += scale * scale * (double)squares;
        bytes += 4 + length;
    }
    return 0;
}

static void int8_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                       const uint8_t *bytes, bool add, float scale, float *out)
{
    (void)context;
    for (size_t from = 0; from < dim; from += c->block) {
        size_t length = block_length(c, dim, from);
        float step = load_f32(bytes);
        for (size_t i = 0; i < length; i++)
            put_value(&out[from + i], step * (float)(int8_t)bytes[4 + i], add, scale);
        bytes += 4 + length;
    }
}

const struct compress_family compress_int8 = {
    .size_max = int8_size_max,
    .omega = int8_omega,
    .encode = int8_encode,
    .validate = int8_validate,
    .apply = int8_apply,
};

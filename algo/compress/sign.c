/* sign: (||x||_1 / d) sign(x). The scale (float32), then one bit an entry, set for negative ones; sign(0) is
 * +1 at both ends. A scale of zero goes with no bit set. */
#include "algo/compress/internal.h"

#include "base/err.h"

static size_t sign_size_max(const struct compressor *c, size_t dim)
{
    (void)c;
    return 4 + bytes_of_bits(dim);
}

/* ||x||_1^2 / (d ||x||_2^2) for this x; one entry alone is the worst. Rounding of the scale: 2^-46. */
static double sign_omega(const struct compressor *c, size_t dim)
{
    (void)c;
    return 1.0 / (double)dim - 0x1p-46;
}

static double sum_of_absolutes(size_t dim, const float *x)
{
    double sum[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        for (size_t l = 0; l < 4; l++) sum[l] += (double)fabsf(x[i + l]);
    for (; i < dim; i++) sum[i % 4] += (double)fabsf(x[i]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* +scale or -scale by the sign bit. */
static float signed_scale(float scale, unsigned negative)
{
    return bits_float(float_bits(scale) ^ (uint32_t)negative << 31);
}

static size_t sign_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                          const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)context;
    (void)norm;
    float scale = flushed((float)(sum_of_absolutes(dim, x) / (double)dim));
    store_f32(out, scale);
    for (size_t from = 0; from < dim; from += 8) {
        unsigned byte = 0;
        for (size_t i = from; i < dim && i < from + 8; i++) {
            unsigned negative = scale > 0 && x[i] < 0;
            byte |= negative << (i - from);
            if (decoded != NULL) decoded[i] = signed_scale(scale, negative);
        }
        out[4 + from / 8] = (uint8_t)byte;
    }
    return sign_size_max(c, dim);
}

static int sign_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                         const uint8_t *bytes, size_t size, double *norm2)
{
    (void)context;
    if (size != sign_size_max(c, dim)) return ERR_FORMAT;
    if (!scale_is_plain(load_u32(bytes))) return ERR_FORMAT;
    if (dim % 8 != 0 && bytes[4 + dim / 8] >> dim % 8 != 0) return ERR_FORMAT;
    double scale = (double)load_f32(bytes);
    if (scale == 0)
        for (size_t i = 4; i < size; i++)
            if (bytes[i] != 0) return ERR_FORMAT;
    *norm2 = scale * scale * (double)dim;
    return 0;
}

static void sign_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                       const uint8_t *bytes, bool add, float scale, float *out)
{
    (void)c;
    (void)context;
    float step = load_f32(bytes);
    for (size_t i = 0; i < dim; i++)
        put_value(&out[i], signed_scale(step, (unsigned)bytes[4 + i / 8] >> i % 8 & 1u), add, scale);
}

const struct compress_family compress_sign = {
    .size_max = sign_size_max,
    .omega = sign_omega,
    .encode = sign_encode,
    .validate = sign_validate,
    .apply = sign_apply,
};

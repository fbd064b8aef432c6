/* Every entry, in 32 or 16 bits: none, fp16 (IEEE 754 binary16), bf16 (the upper half of a float32). Rounded
 * to nearest, ties to even, by integer arithmetic: no instruction set decides. */
#include "algo/compress/internal.h"

#include "base/err.h"

/* -- none -------------------------------------------------------------------------------------- */

static size_t none_size_max(const struct compressor *c, size_t dim)
{
    (void)c;
    return 4 * dim;
}

static double none_omega(const struct compressor *c, size_t dim)
{
    (void)c;
    (void)dim;
    return 1;
}

static size_t none_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                          const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)c;
    (void)context;
    (void)norm;
    floats_store(x, dim, out, decoded);
    return 4 * dim;
}

static int none_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                         const uint8_t *bytes, size_t size, double *norm2)
{
    (void)c;
    (void)context;
    if (size != 4 * dim) return ERR_FORMAT;
    return floats_validate(bytes, dim, norm2) ? 0 : ERR_FORMAT;
}

static void none_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                       const uint8_t *bytes, bool add, float scale, float *out)
{
    (void)c;
    (void)context;
    floats_apply(bytes, dim, add, scale, out);
}

const struct compress_family compress_none = {
    .size_max = none_size_max,
    .omega = none_omega,
    .encode = none_encode,
    .validate = none_validate,
    .apply = none_apply,
};

/* -- fp16 -------------------------------------------------------------------------------------- */

static size_t half_size_max(const struct compressor *c, size_t dim)
{
    (void)c;
    return 2 * dim;
}

/* Relative error of an entry at most 2^-11. */
static double fp16_omega(const struct compressor *c, size_t dim)
{
    (void)c;
    (void)dim;
    return 1 - 0x1p-22;
}

static uint16_t fp16_of(float v)
{
    uint32_t sign = float_bits(v) >> 16 & 0x8000u;
    uint32_t bits = float_bits(v) & 0x7fffffffu;
    if (bits >= 0x477ff000u)
        return (uint16_t)(sign | 0x7bffu);       /* 65520 and more: 65504, the rest stays behind */
    if (bits < 0x38800000u) {                    /* below 2^-14: subnormal, steps of 2^-24 */
        float shifted = bits_float(bits) + 0.5f; /* 0.5 has steps of 2^-24: the sum rounds */
        return (uint16_t)(sign | (float_bits(shifted) - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
}

static float fp16_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t bits = (uint32_t)(half & 0x7fffu) << 13;
    if ((half & 0x7c00u) == 0) { /* subnormal: (1 + m) 2^-14 - 2^-14, exact */
        float v = bits_float(bits + 0x38800000u) - 0x1p-14f;
        return bits_float(float_bits(v) | sign);
    }
    return bits_float((bits + 0x38000000u) | sign);
}

static size_t fp16_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                          const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)c;
    (void)context;
    (void)norm;
    for (size_t i = 0; i < dim; i++) {
        uint16_t half = fp16_of(x[i]);
        store_u16(out + 2 * i, half);
        if (decoded != NULL) decoded[i] = fp16_value(half);
    }
    return 2 * dim;
}

static int fp16_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                         const uint8_t *bytes, size_t size, double *norm2)
{
    (void)c;
    (void)context;
    if (size != 2 * dim) return ERR_FORMAT;
    bool finite = true;
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        uint16_t half = load_u16(bytes + 2 * i);
        finite &= (half & 0x7c00u) != 0x7c00u;
        double v = (double)fp16_value(half);
        sum += v * v;
    }
    *norm2 = sum;
    return finite ? 0 : ERR_FORMAT;
}

static void fp16_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                       const uint8_t *bytes, bool add, float scale, float *out)
{
    (void)c;
    (void)context;
    for (size_t i = 0; i < dim; i++) put_value(&out[i], fp16_value(load_u16(bytes + 2 * i)), add, scale);
}

const struct compress_family compress_fp16 = {
    .size_max = half_size_max,
    .omega = fp16_omega,
    .encode = fp16_encode,
    .validate = fp16_validate,
    .apply = fp16_apply,
};

/* -- bf16 -------------------------------------------------------------------------------------- */

/* Relative error of an entry at most 2^-8. */
static double bf16_omega(const struct compressor *c, size_t dim)
{
    (void)c;
    (void)dim;
    return 1 - 0x1p-16;
}

static uint16_t bf16_of(float v)
{
    uint32_t bits = float_bits(flushed(v));
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16); /* far from infinity: ENCODE_NORM_MAX */
}

static float bf16_value(uint16_t half)
{
    return bits_float((uint32_t)half << 16);
}

static size_t bf16_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                          const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)c;
    (void)context;
    (void)norm;
    for (size_t i = 0; i < dim; i++) {
        uint16_t half = bf16_of(x[i]);
        store_u16(out + 2 * i, half);
        if (decoded != NULL) decoded[i] = bf16_value(half);
    }
    return 2 * dim;
}

static int bf16_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                         const uint8_t *bytes, size_t size, double *norm2)
{
    (void)c;
    (void)context;
    if (size != 2 * dim) return ERR_FORMAT;
    bool plain = true;
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        uint32_t bits = (uint32_t)load_u16(bytes + 2 * i) << 16;
        plain &= float_is_plain(bits);
        double v = (double)bits_float(bits);
        sum += v * v;
    }
    *norm2 = sum;
    return plain ? 0 : ERR_FORMAT;
}

static void bf16_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                       const uint8_t *bytes, bool add, float scale, float *out)
{
    (void)c;
    (void)context;
    for (size_t i = 0; i < dim; i++) put_value(&out[i], bf16_value(load_u16(bytes + 2 * i)), add, scale);
}

const struct compress_family compress_bf16 = {
    .size_max = half_size_max,
    .omega = bf16_omega,
    .encode = bf16_encode,
    .validate = bf16_validate,
    .apply = bf16_apply,
};

/* qsgd (Alistarh et al. 2017): sign(x_i) ||x|| / s * xi_i with xi_i = floor(s |x_i| / ||x|| + u_i), u_i
 * uniform in [0, 1): unbiased. The scaled variant divides by tau = 1 + min(d / s^2, sqrt(d) / s), which
 * makes it a contraction with omega = 1/tau (delicoco_def.md 2).
 *
 * The message is the norm (float32), then an entry in 1 + ceil(log2(s + 1)) bits: the sign lowest, then xi.
 * The norm is rounded up, so that |x_i| / norm never exceeds 1 and nothing is cut off. Zero has no sign. */
#include "algo/compress/internal.h"

#include "base/err.h"

static size_t qsgd_size_max(const struct compressor *c, size_t dim)
{
    return 4 + bytes_of_bits(dim * c->code_width);
}

static double tau(const struct compressor *c, size_t dim)
{
    double s = c->levels, d = (double)dim;
    double spread = d / (s * s) < sqrt(d) / s ? d / (s * s) : sqrt(d) / s;
    return 1 + spread;
}

/* unbiased: the error is at most (tau - 1) ||x||^2. */
static double qsgd_omega(const struct compressor *c, size_t dim)
{
    return (c->unbiased ? 2 - tau(c, dim) : 1 / tau(c, dim)) - 1e-6; /* the norm's rounding */
}

/* The value of one level. */
static double unit_of(const struct compressor *c, size_t dim, float norm)
{
    double unit = (double)norm / c->levels;
    return c->unbiased ? unit : unit / tau(c, dim);
}

static float value_of(double unit, uint32_t code)
{
    double v = unit * (double)(code >> 1);
    return flushed((float)((code & 1u) != 0 ? -v : v));
}

static float round_up(double norm)
{
    float rounded = (float)norm;
    return flushed((double)rounded < norm ? nextafterf(rounded, INFINITY) : rounded);
}

static size_t qsgd_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                          const float *x, double norm, uint8_t *out, float *decoded)
{
    float top = round_up(norm);
    double unit = unit_of(c, dim, top), steps = top > 0 ? c->levels / (double)top : 0;
    struct prng draw;
    context_stream(context, "qsgd", true, &draw);
    store_f32(out, top);
    struct bit_writer codes = {out + 4, 0, 0};
    uint64_t bits = 0;
    for (size_t i = 0; i < dim; i++) {
        bits = i % 2 == 0 ? prng_next(&draw) : bits >> 32;
        double u = (double)(uint32_t)bits * 0x1p-32;
        uint32_t level = (uint32_t)(steps * (double)fabsf(x[i]) + (top > 0 ? u : 0));
        if (level > c->levels) level = c->levels; /* the product may be rounded up by an ulp */
        uint32_t code = level > 0 ? level << 1 | (x[i] < 0 ? 1u : 0u) : 0;
        bits_put(&codes, code, c->code_width);
        if (decoded != NULL) decoded[i] = value_of(unit, code);
    }
    bits_flush(&codes);
    return qsgd_size_max(c, dim);
}

static int qsgd_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                         const uint8_t *bytes, size_t size, double *norm2)
{
    (void)context;
    if (size != qsgd_size_max(c, dim)) return ERR_FORMAT;
    if (!scale_is_plain(load_u32(bytes))) return ERR_FORMAT;
    float norm = load_f32(bytes);
    uint32_t code_max = norm > 0 ? 2 * c->levels + 1 : 0;
    struct bit_reader codes = {bytes + 4, 0, 0};
    bool sound = true;
    double squares = 0;
    for (size_t i = 0; i < dim; i++) {
        uint32_t code = bits_get(&codes, c->code_width);
        sound &= code <= code_max && code != 1;
        double level = (double)(code >> 1);
        squares += level * level;
    }
    double unit = unit_of(c, dim, norm);
    *norm2 = unit * unit * squares;
    return sound && codes.held == 0 ? 0 : ERR_FORMAT;
}

static void qsgd_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                       const uint8_t *bytes, bool add, float scale, float *out)
{
    (void)context;
    double unit = unit_of(c, dim, load_f32(bytes));
    struct bit_reader codes = {bytes + 4, 0, 0};
    for (size_t i = 0; i < dim; i++)
        put_value(&out[i], value_of(unit, bits_get(&codes, c->code_width)), add, scale);
}

const struct compress_family compress_qsgd = {
    .size_max = qsgd_size_max,
    .omega = qsgd_omega,
    .encode = qsgd_encode,
    .validate = qsgd_validate,
    .apply = qsgd_apply,
};

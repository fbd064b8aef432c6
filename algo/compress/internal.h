/* What the files of compressors share. Nobody else includes this. */
#ifndef GADABOUT_ALGO_COMPRESS_INTERNAL_H
#define GADABOUT_ALGO_COMPRESS_INTERNAL_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "algo/compress/compress.h"
#include "base/prng.h"

/* One compressor. `x` was found finite, the message's size and place were not looked at. */
struct compress_family {
    size_t (*size_max)(const struct compressor *c, size_t dim);
    double (*omega)(const struct compressor *c, size_t dim);
    /* Writes the message, returns its size; norm = ||x||. decoded may be NULL. */
    size_t (*encode)(struct compressor *c, const struct compress_context *context, size_t dim, const float *x,
                     double norm, uint8_t *out, float *decoded);
    /* 0 or ERR_FORMAT; *norm2 = ||C(x)||^2 or more. After 0, apply with the same arguments cannot fail. */
    int (*validate)(struct compressor *c, const struct compress_context *context, size_t dim,
                    const uint8_t *bytes, size_t size, double *norm2);
    /* out = C(x) when add is false, else out += scale * C(x). */
    void (*apply)(struct compressor *c, const struct compress_context *context, size_t dim,
                  const uint8_t *bytes, bool add, float scale, float *out);
    /* The size of every message about a matrix of so many rows, 0 = it depends on the draw. NULL = size_max. */
    size_t (*size)(const struct compressor *c, size_t rows, size_t dim);
    /* omega for a matrix of so many rows. NULL = as for any vector. */
    double (*matrix_omega)(const struct compressor *c, size_t rows, size_t dim);
};

extern const struct compress_family compress_none, compress_fp16, compress_bf16, compress_int8, compress_topk,
    compress_randk, compress_block, compress_bernoulli, compress_sign, compress_qsgd, compress_powersgd;

/* For which draw the mask in a compressor was made. */
struct mask_key {
    uint64_t seed, round;
    uint32_t tensor;
    size_t dim; /* 0 = no mask yet */
};

struct compressor {
    const struct compress_family *family;
    double fraction;     /* topk, randk, block; bernoulli: p */
    uint32_t block;      /* int8: entries of one scale */
    uint32_t levels;     /* qsgd: s */
    unsigned code_width; /* qsgd: bits of one entry, sign included */
    uint32_t rank;       /* powersgd */
    bool unbiased, shared, copies;
    uint64_t *mask;    /* (mask_words) randk, bernoulli: bit i = entry i is sent; owned */
    size_t mask_words; /* allocated */
    size_t mask_count; /* bits set */
    struct mask_key mask_key;
    float *scratch; /* (scratch_count) owned */
    size_t scratch_count;
};

/* Scratch of at least `count` floats, uninitialised. Borrowed until the next call. */
float *compressor_scratch(struct compressor *c, size_t count);

/* Starts the stream of draws that belongs to the context; `private_draw` takes `dither` in as well. */
void context_stream(const struct compress_context *context, const char *label, bool private_draw,
                    struct prng *out);

/* ||x||^2, finite exactly when every entry is. */
double sum_of_squares(size_t dim, const float *x);

size_t kept_count(double fraction, size_t dim); /* topk and randk: round to even, within [1, dim] */
unsigned index_width(size_t dim);               /* ceil(log2 dim) */

static inline size_t bytes_of_bits(size_t bits)
{
    return (bits + 7) / 8;
}

/* -- numbers on the wire ----------------------------------------------------------------------- */

static inline void store_u16(uint8_t *out, uint16_t v)
{
    out[0] = (uint8_t)v;
    out[1] = (uint8_t)(v >> 8);
}

static inline uint16_t load_u16(const uint8_t *in)
{
    return (uint16_t)(in[0] | in[1] << 8);
}

static inline void store_u32(uint8_t *out, uint32_t v)
{
    out[0] = (uint8_t)v;
    out[1] = (uint8_t)(v >> 8);
    out[2] = (uint8_t)(v >> 16);
    out[3] = (uint8_t)(v >> 24);
}

static inline uint32_t load_u32(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static inline uint32_t float_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static inline float bits_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline void store_f32(uint8_t *out, float v)
{
    store_u32(out, float_bits(v));
}

static inline float load_f32(const uint8_t *in)
{
    return bits_float(load_u32(in));
}

/* A value that may go on the wire: subnormal ones become zero. */
static inline float flushed(float v)
{
    return fabsf(v) < FLT_MIN ? 0.0f : v;
}

/* Zero of either sign or a normal number: no NaN, infinity or subnormal. */
static inline bool float_is_plain(uint32_t bits)
{
    return ((bits >> 23) & 0xff) - 1u < 0xfeu || bits << 1 == 0;
}

/* Norms and scales: positive and plain, or +0. */
static inline bool scale_is_plain(uint32_t bits)
{
    return float_is_plain(bits) && bits >> 31 == 0;
}

/* out = v or out += scale * v. */
static inline void put_value(float *out, float v, bool add, float scale)
{
    *out = add ? *out + scale * v : v;
}

/* `count` floats of a message: all plain? Adds their squares to *norm2. */
bool floats_validate(const uint8_t *bytes, size_t count, double *norm2);
void floats_store(const float *x, size_t count, uint8_t *out, float *decoded);
void floats_apply(const uint8_t *bytes, size_t count, bool add, float scale, float *out);

/* -- bits on the wire, lowest first ------------------------------------------------------------ */

struct bit_writer {
    uint8_t *at;
    uint64_t held;
    unsigned count; /* bits in held, < 32 between calls */
};

static inline void bits_put(struct bit_writer *w, uint32_t value, unsigned width)
{
    w->held |= (uint64_t)value << w->count;
    w->count += width;
    if (w->count < 32) return;
    store_u32(w->at, (uint32_t)w->held);
    w->at += 4;
    w->held >>= 32;
    w->count -= 32;
}

static inline void bits_flush(struct bit_writer *w)
{
    for (; w->count > 0; w->count = w->count > 8 ? w->count - 8 : 0, w->held >>= 8)
        *w->at++ = (uint8_t)w->held;
}

/* Takes bytes only as they are needed: what is left in `held` after the last value is the padding. */
struct bit_reader {
    const uint8_t *at;
    uint64_t held;
    unsigned count;
};

static inline uint32_t bits_get(struct bit_reader *r, unsigned width)
{
    for (; r->count < width; r->count += 8) r->held |= (uint64_t)*r->at++ << r->count;
    uint32_t value = (uint32_t)(r->held & (((uint64_t)1 << width) - 1));
    r->held >>= width;
    r->count -= width;
    return value;
}

#endif

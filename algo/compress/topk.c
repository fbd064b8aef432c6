/* topk: the k entries of greatest absolute value; among equals the lower index. The message is the k values
 * in ascending order of position, then the positions: ceil(log2 d) bits each, or a bit map of d bits where
 * that is not more; neither when k = d. k and the form follow from d, so nothing tells them.
 *
 * The k-th greatest is found by counting: the absolute value's bits, read as an integer, order as the values
 * do; three histograms over 11, 10 and 10 of these 31 bits narrow it down. Linear, whatever the values. */
#include "algo/compress/internal.h"

#include "base/check.h"
#include "base/err.h"

enum { BUCKETS_MAX = 2048 };

enum position_form { POSITIONS_NONE, POSITIONS_LIST, POSITIONS_MAP };

static enum position_form form_of(size_t dim, size_t k)
{
    if (k == dim) return POSITIONS_NONE;
    return k * index_width(dim) < dim ? POSITIONS_LIST : POSITIONS_MAP;
}

static size_t position_bytes(size_t dim, size_t k)
{
    switch (form_of(dim, k)) {
    case POSITIONS_NONE:
        return 0;
    case POSITIONS_LIST:
        return bytes_of_bits(k * index_width(dim));
    case POSITIONS_MAP:
        return bytes_of_bits(dim);
    }
    UNREACHABLE();
}

static size_t topk_size_max(const struct compressor *c, size_t dim)
{
    size_t k = kept_count(c->fraction, dim);
    return 4 * k + position_bytes(dim, k);
}

static double topk_omega(const struct compressor *c, size_t dim)
{
    return (double)kept_count(c->fraction, dim) / (double)dim;
}

/* -- selection --------------------------------------------------------------------------------- */

static uint32_t magnitude(float v)
{
    return float_bits(v) & 0x7fffffffu;
}

/* Of the entries whose magnitude begins (above `shift` + width bits) with `prefix`: finds the bucket of the
 * next `width` bits that holds the *wanted-th greatest, and leaves in *wanted its place within the bucket.
 * Returns the longer prefix. */
static uint32_t narrow(size_t dim, const float *x, unsigned shift, unsigned width, uint32_t prefix,
                       size_t *wanted)
{
    size_t count[BUCKETS_MAX] = {0};
    uint32_t mask = (1u << width) - 1;
    for (size_t i = 0; i < dim; i++) {
        uint32_t key = magnitude(x[i]) >> shift;
        if (key >> width == prefix) count[key & mask]++;
    }
    uint32_t bucket = mask;
    while (count[bucket] < *wanted) {
        *wanted -= count[bucket];
        CHECK(bucket > 0);
        bucket--;
    }
    return prefix << width | bucket;
}

/* The k-th greatest magnitude; *ties of the entries that have it belong to the k. */
static uint32_t select_threshold(size_t dim, const float *x, size_t k, size_t *ties)
{
    *ties = k;
    uint32_t prefix = narrow(dim, x, 20, 11, 0, ties);
    prefix = narrow(dim, x, 10, 10, prefix, ties);
    return narrow(dim, x, 0, 10, prefix, ties);
}

/* -- message ----------------------------------------------------------------------------------- */

static size_t topk_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                          const float *x, double norm, uint8_t *out, float *decoded)
{
    (void)context;
    (void)norm;
    size_t k = kept_count(c->fraction, dim), ties, sent = 0;
    uint32_t threshold = select_threshold(dim, x, k, &ties);
    enum position_form form = form_of(dim, k);
    unsigned width = index_width(dim);
    uint8_t *map = out + 4 * k;
    struct bit_writer list = {map, 0, 0};
    if (form == POSITIONS_MAP) memset(map, 0, position_bytes(dim, k));
    if (decoded != NULL) memset(decoded, 0, dim * sizeof *decoded);
    for (size_t i = 0; i < dim; i++) {
        uint32_t key = magnitude(x[i]);
        if (key < threshold) continue;
        if (key == threshold) {
            if (ties == 0) continue;
            ties--;
        }
        float v = flushed(x[i]);
        store_f32(out + 4 * sent++, v);
        if (decoded != NULL) decoded[i] = v;
        if (form == POSITIONS_LIST) bits_put(&list, (uint32_t)i, width);
        if (form == POSITIONS_MAP) map[i / 8] |= (uint8_t)(1u << i % 8);
    }
    if (form == POSITIONS_LIST) bits_flush(&list);
    CHECK(sent == k);
    return 4 * k + position_bytes(dim, k);
}

/* k positions, ascending, below dim, zero bits after them. */
static bool list_is_sound(const uint8_t *bytes, size_t dim, size_t k)
{
    struct bit_reader list = {bytes, 0, 0};
    unsigned width = index_width(dim);
    size_t next = 0; /* the least position allowed */
    for (size_t j = 0; j < k; j++) {
        size_t i = bits_get(&list, width);
        if (i < next || i >= dim) return false;
        next = i + 1;
    }
    return list.held == 0;
}

static bool map_is_sound(const uint8_t *bytes, size_t dim, size_t k)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes_of_bits(dim); i++) count += (size_t)__builtin_popcount(bytes[i]);
    return count == k && (dim % 8 == 0 || bytes[dim / 8] >> dim % 8 == 0);
}

static int topk_validate(struct compressor *c, const struct compress_context *context, size_t dim,
                         const uint8_t *bytes, size_t size, double *norm2)
{
    (void)context;
    size_t k = kept_count(c->fraction, dim);
    if (size != 4 * k + position_bytes(dim, k)) return ERR_FORMAT;
    if (!floats_validate(bytes, k, norm2)) return ERR_FORMAT;
    switch (form_of(dim, k)) {
    case POSITIONS_NONE:
        return 0;
    case POSITIONS_LIST:
        return list_is_sound(bytes + 4 * k, dim, k) ? 0 : ERR_FORMAT;
    case POSITIONS_MAP:
        return map_is_sound(bytes + 4 * k, dim, k) ? 0 : ERR_FORMAT;
    }
    UNREACHABLE();
}

static void apply_list(const uint8_t *bytes, size_t dim, size_t k, bool add, float scale, float *out)
{
    struct bit_reader list = {bytes + 4 * k, 0, 0};
    unsigned width = index_width(dim);
    for (size_t j = 0; j < k; j++)
        put_value(&out[bits_get(&list, width)], load_f32(bytes + 4 * j), add, scale);
}

static void apply_map(const uint8_t *bytes, size_t dim, size_t k, bool add, float scale, float *out)
{
    const uint8_t *map = bytes + 4 * k;
    for (size_t byte = 0; byte < bytes_of_bits(dim); byte++)
        for (unsigned left = map[byte]; left != 0; left &= left - 1, bytes += 4)
            put_value(&out[8 * byte + (unsigned)__builtin_ctz(left)], load_f32(bytes), add, scale);
}

static void topk_apply(struct compressor *c, const struct compress_context *context, size_t dim,
                       const uint8_t *bytes, bool add, float scale, float *out)
{
    (void)context;
    size_t k = kept_count(c->fraction, dim);
    if (!add) memset(out, 0, dim * sizeof *out);
    switch (form_of(dim, k)) {
    case POSITIONS_NONE:
        floats_apply(bytes, dim, add, scale, out);
        return;
    case POSITIONS_LIST:
        apply_list(bytes, dim, k, add, scale, out);
        return;
    case POSITIONS_MAP:
        apply_map(bytes, dim, k, add, scale, out);
        return;
    }
}

const struct compress_family compress_topk = {
    .size_max = topk_size_max,
    .omega = topk_omega,
    .encode = topk_encode,
    .validate = topk_validate,
    .apply = topk_apply,
};

/* A whole model in one compressed message: what a compressor makes of it, as one vector or tensor by tensor.
 *
 * By tensor (delicoco_def.md 1: per layer, as in DEF and in deep CHOCO) every parameter tensor is a vector of
 * its own with its own draws (context.tensor = its index), its own share of a sparse compressor and its own
 * norm; powersgd sees its rows. The messages stand one after the other without headers; where a compressor's
 * sizes depend on the draw (bernoulli), each begins with its length in 4 bytes, little-endian.
 *
 * A model that is one vector gives exactly the bytes of compressor_encode. */
#ifndef GADABOUT_ALGO_COMPRESS_PACK_H
#define GADABOUT_ALGO_COMPRESS_PACK_H

#include "algo/compress/compress.h"
#include "algo/step.h"

extern const struct choice_spec compress_by_table[]; /* model tensor */
extern const size_t compress_by_table_count;

/* Whether models are compressed tensor by tensor: `by` (of compress_by_table; not set = model) says so, or the
 * compressor lives on matrices. */
bool compress_is_by_tensor(const struct choice *compress, const struct choice *by);

/* A compressor and the shape of what it compresses. Used by one thread at a time. */
struct pack;

/* Returns an owned pack of models of `dim` parameters. choice: of compress_table, NULL = `none`. tensor[0 .. count)
 * (copied; NULL = one vector) must follow one another from 0 to dim without gaps, rows > 0 (checked). */
struct pack *pack_new(const struct choice *choice, size_t dim, const struct tensor *tensor, uint32_t count);
void pack_free(struct pack *p); /* takes p; NULL is allowed */

size_t pack_dim(const struct pack *p);

/* Bytes that suffice for a message. */
size_t pack_size_max(const struct pack *p);

/* The same for a pack not made yet. */
size_t pack_bound(const struct choice *choice, size_t dim, const struct tensor *tensor, uint32_t count);

/* A number such that E||C(x) - x||^2 <= (1 - omega) ||x||^2: the least of the tensors'. */
double pack_omega(const struct pack *p);

/* As compressor_encode, compressor_decode and compressor_decode_add, with x, decoded and out (dim); of the context
 * tensor and rows are not looked at, and norm_max bounds the whole. The whole message is checked before anything
 * is changed. */
int pack_encode(struct pack *p, const struct compress_context *context, const float *x, uint8_t *out,
                size_t *size, float *decoded);
int pack_decode(struct pack *p, const struct compress_context *context, const uint8_t *bytes, size_t size,
                float *out);
int pack_decode_add(struct pack *p, const struct compress_context *context, const uint8_t *bytes, size_t size,
                    float scale, float *out);

/* Whether those two would take the message: 0 or ERR_FORMAT. For one that is kept, to be applied later. */
int pack_check(struct pack *p, const struct compress_context *context, const uint8_t *bytes, size_t size);

#endif

/* Compressors of float32 vectors: what a message carries instead of all of x.
 *
 * One interface for all of them: a bound on the encoded size, encode, decode, decode-add, the contraction
 * factor omega. C(x) is what decoding the message gives; the sender applies that too, never its own x
 * (encode hands it out in the same pass).
 *
 * Sizes in bits for a vector of d entries, lg = ceil(log2 d); messages have no header and are padded with
 * zero bits to whole bytes (delicoco_def.md 2; all numbers little-endian):
 *   none                32 d                  fp16, bf16    16 d
 *   int8:block=B        8 d + 32 ceil(d/B)
 *   topk                32 k + min(k lg, d)   k = round(fraction d), at least 1; k = d needs no positions
 *   randk               32 k                  positions from the shared seed; the same k
 *   block               32 b                  b = max(1, floor(fraction d)) in a row, cyclic
 *   bernoulli           32 x (entries kept)   each with probability p, mask from the shared seed
 *   sign                32 + d                mean absolute value times the sign; sign(0) = +1
 *   qsgd:bits           32 + d (1 + ceil(log2(s + 1)))   s = 2^bits - 1 levels, or 2^bits on request
 *   powersgd:rank       32 r (rows + columns) r <= rank, rows, columns; 32 d when that is not more
 *
 * Every float32 on the wire is a normal number or zero, every norm and scale not negative: encode flushes
 * subnormal values to zero, decode refuses them (adding a flood of them is slow). Figures for omega hold down
 * to norms of about 1e-30 and, for fp16, for entries within 6.1e-5 and 65504 (greater ones saturate).
 *
 * Results are the same bits at every optimisation level: fixed orders of summation, seeded choices, ties of
 * topk to the lower index. */
#ifndef GADABOUT_ALGO_COMPRESS_COMPRESS_H
#define GADABOUT_ALGO_COMPRESS_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/choice.h"

/* Encode refuses longer vectors, decode longer messages unless the context says otherwise. The second is
 * greater by more than any compressor of ours lengthens a vector (randk:variant=unbiased: d/k). */
#define ENCODE_NORM_MAX 1e15
#define DECODE_NORM_MAX 1e25

extern const struct choice_spec compress_table[]; /* none fp16 bf16 int8 topk randk block bernoulli sign qsgd
                                                   * powersgd */
extern const size_t compress_table_count;

/* What both ends of a message know beside its bytes. The first three decide every shared draw: nodes that
 * give the same ones choose the same positions, whatever they send. */
struct compress_context {
    uint64_t seed; /* of the experiment; add the sender's rank for positions of its own */
    uint64_t round;
    uint32_t tensor; /* which part of the model */
    uint64_t dither; /* encode: chooses the rounding (qsgd); unequal for unequal senders */
    size_t rows;     /* powersgd: the vector is a row-major matrix of so many rows, which must divide its
                        * length; 0 or 1 = no matrix, sent whole */
    double norm_max; /* decode: refuse a message of greater Euclidean norm; 0 = DECODE_NORM_MAX */
};

/* One compressor with its scratch memory: reused from message to message, by one thread at a time, for
 * vectors of any length. Encoding and decoding remember nothing of earlier messages. */
struct compressor;

/* NULL or `none`: vectors travel whole and no compressor is needed. */
static inline bool compress_is_none(const struct choice *choice)
{
    return choice == NULL || choice->index == 0; /* `none` is the table's first */
}

/* Returns an owned compressor; `choice` is of compress_table (checked) and copied. */
struct compressor *compressor_new(const struct choice *choice);
void compressor_free(struct compressor *c); /* takes c; NULL is allowed */

/* Bytes that suffice for a message about `dim` entries (1 <= dim <= MODEL_DIM_MAX, checked); the size itself
 * but for bernoulli and powersgd. */
size_t compressor_size_max(const struct compressor *c, size_t dim);

/* The same for a compressor not made yet; NULL is `none`. */
size_t compress_size_max(const struct choice *choice, size_t dim);

/* A number such that E||C(x) - x||^2 <= (1 - omega) ||x||^2 for every x of `dim` entries: 1 = no loss. Above
 * zero C contracts, which error feedback and CHOCO need; the unbiased ones may have zero or less. */
double compressor_omega(const struct compressor *c, size_t dim);

bool compressor_is_unbiased(const struct compressor *c);   /* E C(x) = x */
bool compressor_is_shared(const struct compressor *c);     /* positions are a function of the context alone */
bool compressor_copies_values(const struct compressor *c); /* C(x)_i is x_i or 0 */

/* Writes C(x) to out[0 .. *size); out has room for compressor_size_max bytes. decoded (dim) is filled with
 * what a receiver will decode, bit for bit; it may be NULL and must not overlap x.
 * Errors: ERR_FORMAT for NaN or infinity in x, ERR_LIMIT for a norm above ENCODE_NORM_MAX; out and decoded
 * are untouched then. */
int compressor_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                      const float *x, uint8_t *out, size_t *size, float *decoded);

/* out (dim) = C(x), and out += scale * C(x) for a finite scale (checked). `bytes` may come from anywhere and
 * need no alignment. ERR_FORMAT when they are not a well-formed message about dim entries in this context:
 * size, positions not ascending or not below dim, values not finite, codes out of range, padding, norm. The
 * whole message is checked first: after an error out is unchanged. */
int compressor_decode(struct compressor *c, const struct compress_context *context, size_t dim,
                      const uint8_t *bytes, size_t size, float *out);
int compressor_decode_add(struct compressor *c, const struct compress_context *context, size_t dim,
                          const uint8_t *bytes, size_t size, float scale, float *out);

/* The entries that `block` sends: *count from *start on, modulo dim. For a ring all-reduce of blocks, whose
 * members all call this with the same context. c must be a `block` (checked). */
void compressor_block(const struct compressor *c, const struct compress_context *context, size_t dim,
                      size_t *start, size_t *count);

#endif

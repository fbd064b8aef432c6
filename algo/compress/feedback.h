/* What compression drops is not lost: error feedback keeps it with the sender, EF21 sends differences to what
 * the receivers know. Both need a compressor that contracts (compressor_omega > 0).
 *
 * Error feedback (Seide et al. 2014; Karimireddy et al. 2019; delicoco_def.md 3.1): e += x; m = C(e); e -= m.
 * After any number of messages, sent + residual = produced: exactly, entry by entry, where the compressor
 * copies values, else within the rounding of one subtraction a message. Give x in step units (learning rate
 * included), then a change of the rate needs no rescaling of e.
 *
 * EF21 (Richtarik et al. 2021; delicoco_def.md 3.7): the receivers hold g; m = C(x - g); g += m at both
 * ends. */
#ifndef GADABOUT_ALGO_COMPRESS_FEEDBACK_H
#define GADABOUT_ALGO_COMPRESS_FEEDBACK_H

#include "algo/compress/compress.h"

struct feedback {
    struct compressor *compressor; /* borrowed for life */
    size_t dim;
    float *residual; /* (dim) e; owned */
    float *work;     /* (dim) owned */
    float *decoded;  /* (dim) C(e) of the last message; owned */
};

/* e = 0. */
void feedback_init(struct feedback *f, struct compressor *compressor, size_t dim);
void feedback_deinit(struct feedback *f);

/* Compresses e + x and keeps the rest. out and *size as in compressor_encode. *decoded (may be NULL) is the
 * message decoded, borrowed until the next call. Errors as compressor_encode: nothing is changed then, x is
 * not taken. */
int feedback_encode(struct feedback *f, const struct compress_context *context, const float *x, uint8_t *out,
                    size_t *size, const float **decoded);

/* Takes back a message that certainly reached nobody: e += decoded (dim). */
void feedback_return(struct feedback *f, const float *decoded);

struct ef21 {
    struct compressor *compressor; /* borrowed for life */
    size_t dim;
    float *known;          /* (dim) g; owned */
    float *work, *decoded; /* (dim) owned */
};

/* g = known (dim, copied), which the receivers must hold too; NULL = zero. */
void ef21_init(struct ef21 *e, struct compressor *compressor, size_t dim, const float *known);
void ef21_deinit(struct ef21 *e);

/* Compresses x - g and adds to g what the receivers will decode; they run ef21_receive, or
 * compressor_decode_add of scale 1, on their copy of g. Errors and *decoded as feedback_encode. */
int ef21_encode(struct ef21 *e, const struct compress_context *context, const float *x, uint8_t *out,
                size_t *size, const float **decoded);

/* A message for our copy of another node's g. Errors: ERR_FORMAT, nothing is changed then. */
int ef21_receive(struct ef21 *e, const struct compress_context *context, const uint8_t *bytes, size_t size);

#endif

/* Compressed messages about a vector over one direction of one link: the sender sends C(x - r), both ends
 * then hold r + C(x - r), bit for bit. So what was dropped is not lost: it is part of the next difference.
 *
 * The first message of a link carries the vector whole, and so does one that cannot be compressed (not finite
 * after the difference, out of the compressor's reach). Without a pack every message is whole
 * and nothing is kept. A mirror lives as long as its link: both ends forget it when the link goes. */
#ifndef GADABOUT_ALGO_COMPRESS_MIRROR_H
#define GADABOUT_ALGO_COMPRESS_MIRROR_H

#include "algo/compress/pack.h"
#include "algo/step.h"

struct mirror {
    struct pack *pack; /* borrowed for life; NULL = models travel whole */
    size_t dim;
    uint64_t seed;      /* of the direction: the same at both ends */
    uint64_t dither;    /* of the sender */
    uint64_t count;     /* messages so far */
    struct blob *value; /* (dim) r; NULL before the first. Followed in place when nobody else has it */
};

/* seed: of the experiment; from, to: ranks of sender and receiver; channel: tells apart several vectors of one
 * direction (streams). The pack, if there is one, is of models of dim (checked). */
void mirror_init(struct mirror *m, struct pack *pack, size_t dim, uint64_t seed, rank_t from, rank_t to,
                 uint32_t channel);
void mirror_forget(struct mirror *m); /* the link is gone; also the end of a mirror */

/* Sender: puts x (dim, finite) into msg->vec or msg->packed. Returns what the receiver will hold, (dim), one
 * reference owned by the caller; for a whole vector that is x itself. `whole` (may be NULL): a blob that
 * holds x already, so that none is made. */
struct blob *mirror_send(struct mirror *m, const float *x, struct blob *whole, struct algo_msg *msg);

/* Whether the next message will be whole, so that a blob shared by several directions pays. */
static inline bool mirror_sends_whole(const struct mirror *m)
{
    return m->pack == NULL || m->value == NULL;
}

/* Sender: puts `x` whole into msg->vec, whatever came before: for what must arrive as it is. */
void mirror_send_whole(struct mirror *m, struct blob *x, struct algo_msg *msg);

/* Receiver: returns 0 and in *x the vector, one reference owned by the caller; ERR_PROTO when msg has neither
 * or both bodies, or packed bytes that do not decode or that come before any whole one: nothing changed. */
int mirror_receive(struct mirror *m, const struct algo_msg *msg, struct blob **x);

#endif

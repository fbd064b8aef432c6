/* For how long what has begun to come in over a link has not gone on: a frame of which the rest is missing, a body of
 * which no byte came. Pure; the link asks at its ticks, and says how long is too long. */
#ifndef GADABOUT_NET_LINK_STALL_H
#define GADABOUT_NET_LINK_STALL_H

#include "net/link/inbox.h"

struct stall {
    uint64_t ticked_us;        /* the last stall_tick */
    uint64_t frames_seen;      /* frames that had come whole by then */
    uint64_t frame_us;         /* the open frame is open for so long; 0 = there is none */
    uint64_t body_seen[2];     /* by lane: progress of the open body by then, .. */
    uint64_t body_quiet_us[2]; /* .. and for how long it has made none */
};

void stall_init(struct stall *s, uint64_t now_us);

/* Time counts only as far as ticks saw it, at most beat_us for each: while this process stood still, the bytes waited
 * in the socket. */
void stall_tick(struct stall *s, const struct inbox *b, uint64_t now_us, uint64_t beat_us);

/* The longest that an open body has made no progress; 0 = all do, or none is open. */
uint64_t stall_body_us(const struct stall *s);

/* When the next tick is due; TIME_NEVER = nothing is open. */
uint64_t stall_deadline_us(const struct stall *s, const struct inbox *b, uint64_t beat_us);

#endif

/* What waits to be sent on one link: two lanes of messages behind a short ring of frames.
 *
 * Only frames in the ring have their place in the stream; they are few (OUTBOX_PLAN_MAX bytes), so a control
 * message waits behind that much bulk and no more. Payloads are sent from the blobs they lie in. */
#ifndef GADABOUT_NET_LINK_OUTBOX_H
#define GADABOUT_NET_LINK_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/ids.h"
#include "net/link/frame.h"

#define OUTBOX_FRAME_MAX 64u
#define OUTBOX_PLAN_MAX FRAME_CHUNK_MAX
#define OUTBOX_MESSAGE_COST 64u /* bytes counted for each message beside its own */

struct iov {
    const uint8_t *base;
    size_t size;
};

struct out_message {
    struct blob *head, *body; /* body may be NULL */
    size_t body_planned;      /* bytes of the body that are in the ring or gone */
    bool head_planned;
};

struct out_lane {
    struct out_message *item; /* ring of capacity (a power of two) */
    size_t capacity, first, count;
    size_t bytes;   /* cost of all messages */
    size_t refused; /* cost of the cheapest message refused since the last notice, 0 = none */
};

struct out_frame {
    uint8_t header[FRAME_HEADER_SIZE];
    struct blob *hold; /* owns payload; may be NULL when there is none */
    const uint8_t *payload;
    size_t payload_size;
};

struct outbox {
    struct out_lane lane[2]; /* by enum lane */
    struct out_frame frame[OUTBOX_FRAME_MAX];
    size_t first, count; /* of the ring of frames */
    size_t first_sent;   /* bytes of the first frame that are gone */
    size_t frame_bytes;  /* bytes in the ring that are not gone */
    uint64_t messages;   /* messages whose last frame is in the ring or gone */
};

void outbox_init(struct outbox *o);
void outbox_deinit(struct outbox *o);

/* Takes a reference on head and body on success. ERR_FULL when the lane holds a message and those waiting
 * behind the first of each lane, with this one, exceed LINK_QUEUE_MAX. */
int outbox_put(struct outbox *o, enum lane lane, struct blob *head, struct blob *body);

/* Appends a frame without a lane. The ring must have room. Takes `payload` (may be NULL). */
bool outbox_has_room(const struct outbox *o);
void outbox_put_frame(struct outbox *o, enum frame_type type, uint64_t value, struct blob *payload);

void outbox_plan(struct outbox *o);                                      /* lanes -> ring, control first */
size_t outbox_peek(const struct outbox *o, struct iov *iov, size_t max); /* returns the count of iov */
void outbox_sent(struct outbox *o, size_t bytes); /* the first `bytes` of the ring are gone */
void outbox_drop_lanes(struct outbox *o);         /* forgets what is not in the ring */

bool outbox_lanes_empty(const struct outbox *o);
size_t outbox_bytes(const struct outbox *o); /* queued and not gone */

/* True once after an ERR_FULL, when a refused message would now be taken. */
bool outbox_take_writable(struct outbox *o);

#endif

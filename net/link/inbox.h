/* What has been received on one link: bytes in, messages and the link's own frames out.
 *
 * Limits and places are checked as soon as a frame's header is there, before anything is allocated. A body is
 * allocated once, at its announced size, within the transport's budget; large reads go straight into it. */
#ifndef GADABOUT_NET_LINK_INBOX_H
#define GADABOUT_NET_LINK_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/ids.h"
#include "net/link/frame.h"

/* A message of which the head has come and the body is coming. */
struct inbound {
    struct blob *head; /* NULL when none is coming */
    struct blob *body;
    size_t filled; /* bytes of the body that are checked */
};

/* What the open bodies of all links of one transport may hold together. */
struct inbox_budget {
    size_t bytes, bytes_max;
};

struct inbox {
    size_t body_size_max;
    struct inbox_budget *budget; /* borrowed; NULL = no limit */
    uint64_t frames;             /* that have come whole */
    uint64_t gained[2];          /* by lane: grows with every byte of a body and with every announcement */
    bool greeted; /* the hello has come; until then nothing else is looked at. Set by the owner */
    uint8_t *in;  /* received and not looked at: [first, end) */
    size_t first, end;
    struct inbound lane[2];
    bool chunk_open; /* a BODY frame's payload is coming into its body */
    enum lane chunk_lane;
    uint8_t chunk_header[FRAME_HEADER_SIZE];
    size_t chunk_size, chunk_filled;
    struct inbound delivered; /* what the last message points to */
    char why[192];            /* of an error */
};

enum inbox_kind { INBOX_NONE, INBOX_FRAME, INBOX_MESSAGE };

struct inbox_item {
    struct frame_header frame; /* FRAME: of the link itself, or unknown and ignorable */
    const uint8_t *data;       /* payload, or head of the message; borrowed until the next call */
    size_t size;
    enum lane lane;    /* MESSAGE */
    struct blob *body; /* MESSAGE: NULL when it has none; borrowed as data */
};

void inbox_init(struct inbox *b, size_t body_size_max);
void inbox_deinit(struct inbox *b);

bool inbox_body_open(const struct inbox *b, enum lane lane); /* announced and not whole */
bool inbox_frame_open(const struct inbox *b);  /* begun and not whole; after inbox_next has said NONE */
size_t inbox_budget_max(size_t body_size_max); /* a few models, or many small ones */

size_t inbox_space(struct inbox *b, uint8_t **to); /* where the next bytes go */
void inbox_received(struct inbox *b, size_t bytes);
void inbox_clear(struct inbox *b); /* forgets everything received */

/* Returns an enum inbox_kind, or ERR_PROTO, ERR_LIMIT, ERR_CHECKSUM with why; after an error only
 * inbox_clear and inbox_deinit may follow. */
int inbox_next(struct inbox *b, struct inbox_item *out);

#endif

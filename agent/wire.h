/* Message heads: msgpack control fields. Decoding scans the bytes first, without allocating or recursion
 * (depth, objects, string lengths, no ext types, no trailing bytes: docs/protocol.md), and only then
 * lets msgpack-c see them; then every field's type and range is checked.
 *
 * A head is a map with small unsigned keys; a reader ignores keys it does not know:
 *   0 kind (enum wire_kind)   1 sequence
 *   MEMBERS: 2 [id, boot, address, id, boot, address, ...] ascending by id
 *   MEMBERS: 8 [position, tag, position, tag, ...] ascending, of those that have one (absent = none); after 2
 *   ALGO:    3 the algorithm's kind   4 [field, ...] (absent = none)   5 bits, bin (absent = none)
 *   READY:   6 fingerprint of the member list
 *   ALGO:    7 1 = the body is packed by a compressor (absent = it is a vector, or there is none) */
#ifndef GADABOUT_AGENT_WIRE_H
#define GADABOUT_AGENT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "algo/step.h"
#include "base/blob.h"
#include "base/err.h"
#include "base/limits.h"

enum wire_kind {
    WIRE_MEMBERS = 1, /* who belongs to the experiment, as far as the sender knows */
    WIRE_ALGO = 2,    /* a message of the algorithm */
    WIRE_READY = 3,   /* the sender knows all members and takes ALGO messages from now on */
};

struct wire_member {
    node_id id;
    uint64_t boot;                  /* grows from start to start of one node */
    char address[ADDRESS_TEXT_MAX]; /* "" = not dialable; printable ASCII without blanks */
    char tag[TAG_TEXT_MAX];         /* where it belongs, in its owner's words, "" = not told; likewise */
};

/* A decoded head. For ALGO: msg.bits points into the head bytes; the body comes beside it. */
struct wire_message {
    enum wire_kind kind;
    uint64_t sequence;          /* per link and direction, from 1, without gaps, both lanes counted apart */
    struct algo_msg msg;        /* WIRE_ALGO */
    bool packed;                /* WIRE_ALGO: the body is packed bytes, not a vector */
    struct wire_member *member; /* WIRE_MEMBERS: owned; wire_message_deinit frees */
    uint32_t member_count;
    uint64_t fingerprint; /* WIRE_READY */
};

struct blob *wire_encode_algo(uint64_t sequence,
                              const struct algo_msg *msg); /* returns owned; the body goes beside it */
struct blob *wire_encode_ready(uint64_t sequence, uint64_t fingerprint); /* returns owned */

/* member[0..count) ascending by id, at most wire_members_fit() of them. Returns owned. */
struct blob *wire_encode_members(uint64_t sequence, const struct wire_member *member, uint32_t count);

/* How many of the first `count` members one head holds; at least 1 when count is. */
uint32_t wire_members_fit(const struct wire_member *member, uint32_t count);

/* Returns 0, ERR_FORMAT or ERR_LIMIT with why; nothing to free on error. msg.vec and msg.packed are NULL. */
int wire_decode(const uint8_t *head, size_t size, struct wire_message *out, struct err_text *why);
void wire_message_deinit(struct wire_message *m);

/* The bounded pre-scan alone (fuzzed). 0, ERR_FORMAT or ERR_LIMIT. */
int wire_scan(const uint8_t *data, size_t size, struct err_text *why);

#endif

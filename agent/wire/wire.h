/* Message heads: msgpack control fields. Decoding scans the bytes first, without allocating or recursion
 * (depth, objects, string lengths, no ext types, no trailing bytes: docs/protocol.md), and only then
 * lets msgpack-c see them; then every field's type and range is checked.
 *
 * A head is a map with small unsigned keys; a reader ignores keys it does not know:
 *   0 kind (enum wire_kind)   1 sequence
 *   SWIM:    2 [kind, number, target, seen]   8 [record, ...] flat, WIRE_RECORD_FIELDS each (absent = none)
 *   ALGO:    3 the algorithm's kind   4 [field, ...] (absent = none)   5 bits, bin (absent = none)
 *   ALGO:    7 1 = the body is packed by a compressor (absent = it is a vector, or there is none)
 *   READY:   6 [place of the sender, when it was claimed, place of the receiver]
 *   OVERLAY: 9 [kind, ttl, urgent, id, address, id, address, ...]
 *   STATE:  10 [kind, snapshot, size, chunk size, progress, first, count, hash, wait_us]; a CHUNK has a body
 * A record: id, boot, incarnation, state, accuser, evidence, address, tag, the MEMBER_META_MAX numbers. */
#ifndef GADABOUT_AGENT_WIRE_WIRE_H
#define GADABOUT_AGENT_WIRE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "agent/transfer/transfer.h"
#include "algo/step.h"
#include "base/blob.h"
#include "base/err.h"
#include "base/limits.h"
#include "net/membership/membership.h"
#include "net/overlay/overlay.h"

enum wire_kind {
    WIRE_SWIM = 1,    /* who is alive (net/membership/membership.h) */
    WIRE_ALGO = 2,    /* a message of the algorithm */
    WIRE_READY = 3,   /* the sender has started and takes ALGO messages on this link from now on */
    WIRE_OVERLAY = 4, /* whom to keep links with (net/overlay/overlay.h) */
    WIRE_STATE = 5,   /* the model for newcomers (agent/transfer/transfer.h) */
};

#define WIRE_RECORD_FIELDS (8u + MEMBER_META_MAX)

/* Each link is for one pair of places: who changes its place begins anew with fresh links. */
struct wire_ready {
    rank_t place;     /* of the sender */
    uint64_t claimed; /* when it took it, in boot units */
    rank_t your_place;
};

/* A decoded head. For ALGO: msg.bits points into the head bytes; the body comes beside it. */
struct wire_message {
    enum wire_kind kind;
    uint64_t sequence;          /* per link and direction, from 1, without gaps, both lanes counted apart */
    struct algo_msg msg;        /* WIRE_ALGO */
    bool packed;                /* WIRE_ALGO: the body is packed bytes, not a vector */
    struct wire_ready ready;    /* WIRE_READY */
    struct swim_msg swim;       /* WIRE_SWIM */
    struct overlay_msg overlay; /* WIRE_OVERLAY */
    struct state_msg state;     /* WIRE_STATE; body is NULL */
    struct member *member;      /* what swim.update points to: owned; wire_message_deinit frees */
    struct overlay_peer *peer;  /* likewise of overlay.peer */
};

/* All return owned heads; a body goes beside them. */
struct blob *wire_encode_algo(uint64_t sequence, const struct algo_msg *msg);
struct blob *wire_encode_ready(uint64_t sequence, const struct wire_ready *ready);
struct blob *wire_encode_swim(uint64_t sequence, const struct swim_msg *msg);
struct blob *wire_encode_overlay(uint64_t sequence, const struct overlay_msg *msg);
struct blob *wire_encode_state(uint64_t sequence, const struct state_msg *msg);

/* Returns 0, ERR_FORMAT or ERR_LIMIT with why; nothing to free on error. msg.vec and msg.packed are NULL. */
int wire_decode(const uint8_t *head, size_t size, struct wire_message *out, struct err_text *why);
void wire_message_deinit(struct wire_message *m);

/* The bounded pre-scan alone (fuzzed). 0, ERR_FORMAT or ERR_LIMIT. */
int wire_scan(const uint8_t *data, size_t size, struct err_text *why);

#endif

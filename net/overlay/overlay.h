/* Whom to keep links with, when no fixed topology says so: HyParView's active and passive views.
 * A pure state machine: events in, actions out.
 *
 * Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007. The active view is symmetric: its members are
 * linked, whoever dialled; it is small (active_max) and keeps the graph of nodes connected, random and of
 * bounded degree. The passive view holds spares, refreshed by shuffles; it is fed by what membership knows as
 * well.
 *
 * Normal course
 *  - the first link of a newcomer: it sends JOIN over it; the contact takes it into its active view and sends
 *    FORWARD_JOIN(arwl) to its other active members; who gets it with ttl 0, or is alone, asks the newcomer
 *    with NEIGHBOUR; at ttl = prwl it goes into the passive view.
 *  - every shuffle_us: a SHUFFLE with a sample of both views walks. Its end keeps the sample, and answers
 *    with one of its own over the link that the walk came by: no new link is made for it, as the paper would
 *    towards the node that began; over many walks it mixes as well. Active members take turns as the first
 *    step.
 *  - every exchange_us: one neighbour is exchanged for a spare (NEIGHBOUR with high priority; a random one
 *    makes room). The paper has no such thing; but views that are full on both sides of a healed partition
 *    would stay apart for ever.
 *  - NEIGHBOUR is asked with high priority by a node without an active member, by one that has less than half
 *    of the active_max and was refused twice (two lonely ones could be each other's only neighbour), and for
 *    an exchange; it must then be accepted; otherwise only while there is room. ACCEPT and REJECT bring a
 *    sample too, so that who asks learns of more.
 *  - members that can only dial out (no address) are neighbours like others where the owner can link to them through
 *    somebody (`relayed`): spares that can be dialled, or are linked, are asked first.
 * Failure courses
 *  - an active member's link goes: a passive one takes its place (CONNECT, then NEIGHBOUR), until one
 *    accepts; those that cannot be reached leave the passive view. As many are asked at once as there are
 *    free places; after refusals longer and longer pauses follow, up to 4 * shuffle_us, for as long as there
 *    is a neighbour at all.
 *  - the view is full and someone must get in: a random active member gets DISCONNECT and goes to the passive
 *    view; its link is the owner's to close or keep.
 *  - two views contradict each other (a message crossed another): who gets a walk from a node that is no
 *    neighbour of its own, or an ACCEPT it did not ask for, says DISCONNECT. So each is found within
 *    active_max shuffles.
 *  - a member is dead or has left (FORGET): it leaves both views.
 *  - both views are empty: nothing to do until the owner brings a link or a member (KNOWN).
 *  - a list with ourselves, one id twice, or too long: ERR_PROTO, nothing has changed.
 */
#ifndef GADABOUT_NET_OVERLAY_OVERLAY_H
#define GADABOUT_NET_OVERLAY_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ids.h"
#include "base/limits.h"
#include "base/trace.h"

struct overlay_peer {
    node_id id;
    char address[ADDRESS_TEXT_MAX]; /* "" = it only dials */
};

enum overlay_kind {
    OVERLAY_JOIN = 1,
    OVERLAY_FORWARD_JOIN, /* peer[0] = the newcomer; ttl = steps left */
    OVERLAY_NEIGHBOUR,    /* urgent: high priority */
    OVERLAY_ACCEPT,       /* of a JOIN or NEIGHBOUR; a sample */
    OVERLAY_REJECT,       /* the same */
    OVERLAY_DISCONNECT,
    OVERLAY_SHUFFLE,       /* peer[0] = who began it, a sample; ttl = steps left */
    OVERLAY_SHUFFLE_REPLY, /* a sample */
};

#define OVERLAY_PEER_MAX 16u
#define OVERLAY_TTL_MAX 32u
#define OVERLAY_PASSIVE_MAX 1024u

struct overlay_msg {
    enum overlay_kind kind;
    uint32_t ttl;
    bool urgent;
    const struct overlay_peer *peer; /* borrowed as in swim_msg */
    uint32_t peer_count;             /* at most OVERLAY_PEER_MAX */
};

struct overlay_config {
    node_id id;
    char address[ADDRESS_TEXT_MAX];
    uint32_t active_max;  /* 5; 1..LINK_COUNT_MAX */
    uint32_t passive_max; /* 30; 1..OVERLAY_PASSIVE_MAX */
    uint32_t arwl, prwl;  /* 6, 3; at most OVERLAY_TTL_MAX */
    uint64_t shuffle_us;  /* 10 s */
    uint64_t exchange_us; /* 30 s; TIME_NEVER = off */
    uint64_t answer_us;   /* 5 s: how long a link or an answer to NEIGHBOUR is waited for */
    bool relayed;         /* CONNECT may name a member without an address; off */
    uint64_t seed;
    const struct trace *trace;
};

void overlay_defaults(struct overlay_config *c);

enum overlay_event_kind {
    OVERLAY_LINK_UP,     /* peer */
    OVERLAY_LINK_DOWN,   /* peer.id */
    OVERLAY_UNREACHABLE, /* peer.id: a CONNECT failed */
    OVERLAY_MESSAGE,     /* peer.id, msg */
    OVERLAY_KNOWN,       /* peer: membership knows it alive, at this address */
    OVERLAY_FORGET,      /* peer.id: dead or left */
    OVERLAY_DEADLINE,
};

struct overlay_event {
    enum overlay_event_kind kind;
    uint64_t now_us;
    struct overlay_peer peer;
    const struct overlay_msg *msg;
};

enum overlay_action_kind {
    OVERLAY_SEND, /* id, msg; to a linked peer */
    OVERLAY_CONNECT, /* id, address: dial it unless linked; answered by LINK_UP or UNREACHABLE. "": through others */
    OVERLAY_ADDED,   /* id is in the active view now */
    OVERLAY_REMOVED, /* ... and is no longer */
};

struct overlay_action {
    enum overlay_action_kind kind;
    node_id id;
    const char *address; /* CONNECT: borrowed until the next step */
    struct overlay_msg msg;
};

struct overlay_actions {
    struct overlay_action *item;
    size_t count, capacity;
};

struct overlay;

struct overlay *overlay_new(const struct overlay_config *config); /* returns owned */
void overlay_free(struct overlay *o);
void overlay_set_address(struct overlay *o, const char *address); /* ours, once peers have seen it */
/* Runs to completion; appends to acts. Returns 0, or ERR_PROTO for a message that makes no sense or of a peer
 * without a link; nothing has changed then. */
int overlay_step(struct overlay *o, const struct overlay_event *event, struct overlay_actions *acts);
uint64_t overlay_deadline_us(const struct overlay *o);
void overlay_actions_clear(struct overlay_actions *acts);
void overlay_actions_deinit(struct overlay_actions *acts);

uint32_t overlay_active(const struct overlay *o, const node_id **id); /* returns the count; *id borrowed */
bool overlay_is_active(const struct overlay *o, node_id id);
uint32_t overlay_passive_count(const struct overlay *o);

#endif

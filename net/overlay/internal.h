/* What overlay.c (messages, shuffles), overlay/view.c (the lists) and overlay/ask.c (repair) share. Private
 * to them. */
#ifndef GADABOUT_NET_OVERLAY_INTERNAL_H
#define GADABOUT_NET_OVERLAY_INTERNAL_H

#include "base/prng.h"
#include "net/overlay/overlay.h"

#define ASK_MAX 16u     /* neighbours asked for at once */
#define OUT_LIST_MAX 4u /* lists of peers that one step may send */

struct spare {
    struct overlay_peer peer;
    uint64_t rest_us; /* not asked before */
};

enum ask_why {
    ASK_REPAIR,   /* a place is free */
    ASK_WALK_END, /* a newcomer: another one makes room for it here */
    ASK_EXCHANGE, /* another one makes room, here and there */
};

enum ask_phase { ASK_FREE, ASK_LINK, ASK_ANSWER };

/* Someone who is to become a neighbour. Slots stay where they are: a CONNECT borrows the address. */
struct ask {
    struct overlay_peer peer;
    enum ask_phase phase;
    enum ask_why why;
    bool urgent; /* as it was asked */
    uint64_t deadline_us;
};

struct overlay {
    struct overlay_config config;
    struct prng prng;
    node_id *active; /* (active_max); all are linked */
    uint32_t active_count;
    struct spare *passive; /* (passive_max) */
    uint32_t passive_count;
    struct overlay_peer *link; /* (link_count), ascending by id */
    uint32_t link_count, link_capacity;
    struct ask ask[ASK_MAX];
    uint64_t shuffle_us;   /* when the next one starts */
    uint32_t shuffle_turn; /* of the active members, whose is next */
    bool started;          /* the times below are set */
    bool joined;           /* had a neighbour before */
    uint64_t exchange_us;
    uint64_t quiet_us; /* after refusals: no question of low priority before */
    uint32_t refusals; /* since the view last changed */

    /* Of the running step. */
    uint64_t now_us;
    struct overlay_actions *acts;
    struct overlay_peer out[OUT_LIST_MAX][OVERLAY_PEER_MAX];
    uint32_t out_count;
};

/* Actions; overlay/view.c */
void overlay_send(struct overlay *o, node_id to, const struct overlay_msg *msg);
void overlay_say(struct overlay *o, node_id to, enum overlay_kind kind); /* without list */
void overlay_connect(struct overlay *o, const struct ask *ask);
struct overlay_peer *
overlay_list(struct overlay *o); /* OVERLAY_PEER_MAX entries that live until the next step */

/* The established links. */
const struct overlay_peer *overlay_link_find(const struct overlay *o, node_id id); /* NULL */
void overlay_link_put(struct overlay *o, const struct overlay_peer *peer);
void overlay_link_drop(struct overlay *o, node_id id);

/* A question can be put to it: over its link, or by having it linked. */
bool overlay_can_reach(const struct overlay *o, const struct overlay_peer *peer);

/* The passive view. */
struct spare *spare_find(struct overlay *o, node_id id); /* NULL */
void spare_add(struct overlay *o, const struct overlay_peer *peer,
               uint64_t rest_us); /* full: a random one goes */
void spare_drop(struct overlay *o, node_id id);
struct spare *spare_draw(struct overlay *o);     /* a random one that may be asked now; NULL */
uint64_t spare_next_us(const struct overlay *o); /* when one may be asked; TIME_NEVER */

/* The active view. */
void active_add(struct overlay *o, node_id id); /* full: a random one goes first */
void active_drop(struct overlay *o, node_id id);
bool active_draw(struct overlay *o, node_id not_a, node_id not_b, node_id *out); /* false: there is none */

/* Random members of both views but `to` into list[at..], up to OVERLAY_PEER_MAX in all; returns the count. */
uint32_t sample_fill(struct overlay *o, node_id to, struct overlay_peer *list, uint32_t at);

/* Questions under way; overlay/ask.c */
struct ask *ask_find(struct overlay *o, node_id id); /* NULL */
bool ask_waits(const struct overlay *o, node_id id);
bool ask_urgent_waits(const struct overlay *o);
bool ask_begin(struct overlay *o, const struct overlay_peer *peer,
               enum ask_why why);               /* false: not possible now */
bool ask_linked(struct overlay *o, node_id id); /* its link is up: the question goes; false: there is none */
void ask_end(struct overlay *o, node_id id);
void ask_refused(struct overlay *o); /* pauses */
void ask_expire(struct overlay *o);
uint64_t ask_next_us(const struct overlay *o); /* when a question ends or may begin */

/* It did not want us, or said nothing: others are asked first. */
void spare_rest(struct overlay *o, const struct overlay_peer *peer);
void overlay_repair(struct overlay *o); /* begins questions for free places */

/* now + wait, a tenth more or less, so that nodes which started together do not stay in step. */
uint64_t overlay_soon(struct overlay *o, uint64_t wait_us);

#endif

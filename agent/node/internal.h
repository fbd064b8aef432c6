/* Shared by the files of the node. Not for others.
 *   node.c           making and ending, events and actions, reports
 *   node/join.c      founding, claiming a place, beginning, losing it
 *   node/links.c     links, READY
 *   node/neighbours.c  who is a neighbour: in the graph, over vacant places, in the active view
 *   node/contacts.c  whom to dial, which links to keep: with membership
 *   node/homes.c     reaching members that can only dial out
 *   node/redial.c    the same when all members are given
 *   node/members.c   the machines of membership and overlay
 *   node/state.c     the model: fetching it, giving it
 *   node/keep.c      keepers, and beginning with the model of one
 *   node/messages.c  what goes over a link
 *   node/train.c     the training job
 *   node/durable.c   what is saved of the algorithm, and what waits for that
 */
#ifndef GADABOUT_AGENT_NODE_INTERNAL_H
#define GADABOUT_AGENT_NODE_INTERNAL_H

#include "agent/node/node.h"
#include "agent/node/places.h"
#include "agent/transfer/transfer.h"
#include "agent/wire/wire.h"
#include "net/overlay/overlay.h"

#define LINK_BUCKET_COUNT 64u
#define HELD_MAX 64u
#define EARLY_MAX 32u /* the lanes are apart: a burst may come before READY */

/* A durable message of the algorithm. */
struct held {
    rank_t to;
    struct link_id link; /* on which it is to go, or nowhere */
    uint64_t number;
    struct algo_msg msg; /* its bodies are references, bits a copy: owned */
};

/* A message of the algorithm that overtook the peer's READY. */
struct early {
    struct blob *head, *body; /* owned */
};

/* One link of the transport. */
struct link {
    struct link_id id;
    struct link *chained;       /* next in its bucket */
    struct link *older, *newer; /* all links in order of their coming */
    node_id peer;
    uint64_t boot;
    char *address; /* owned */
    rank_t place;  /* of the neighbour that it is bound to, from our READY on; RANK_NONE */
    bool dialled;  /* by us */
    bool relayed;  /* by relayer, which we have a link with (net/relay/relay.h) */
    node_id relayer;
    bool closing; /* disconnect asked for: nothing in, nothing out, until on_down */
    bool ready_sent, ready_received;
    struct wire_ready ready;          /* the peer's */
    bool presented;                   /* the algorithm has had PEER_UP */
    bool synced;                      /* the peer has told all that we did not know, and trained then */
    uint64_t trains_us;               /* since when we know that it trains; 0 = it does not */
    uint64_t up_us, needed_us;        /* came up; was last needed */
    uint64_t sent[2], received[2];    /* last sequence by lane */
    struct blob *box_head, *box_body; /* the one bulk message that waits for on_writable */
    struct early early[EARLY_MAX];
    uint32_t early_count;
};

/* A neighbour, linked or not. */
struct neighbour {
    rank_t rank;
    bool listed;          /* false: it is none any more, and goes with its link */
    struct link *link;    /* on which we have said READY; NULL */
    struct link *present; /* link of the place's holder, as found by the review */
    uint64_t missing_us;  /* since when the holder has no link */
    char *dialling;       /* owned: the address being dialled (node/redial.c); NULL */
    bool dial_warned;     /* the transport did not take the address, and we said so */
};

/* An address that is dialled, with membership. */
struct contact {
    char *address;       /* owned */
    bool wanted;         /* by the review that runs */
    uint64_t refused_us; /* when the transport gave it up; 0 = it has not */
    uint64_t keep_us;    /* until then the dial is kept, wanted or not */
};

/* Somebody whom a machine wants to have linked for a while. */
struct probe {
    node_id id;
    char *address; /* owned */
    uint64_t until_us;
    bool members, overlay; /* who waits for an answer */
};

/* Lines that peers can cause as often as they like: one a second of each kind. */
enum node_warning { NODE_WARN_STRANGER, NODE_WARN_REFUSED, NODE_WARN_COUNT };

/* The training job: all that its run() touches. */
struct node_job {
    struct job base;         /* first: the host's pointer is ours */
    struct trainer *trainer; /* owned by the node */
    bool running;
    bool held; /* running, but not given to the host yet */
    uint32_t max_steps, steps;
    double loss;
    bool finite; /* all of delta is */
    size_t dim;
    float *x, *delta; /* (dim) each, owned */
};

enum node_wait {
    WAIT_NONE,
    WAIT_MEMBERS,
    WAIT_KNOWLEDGE,
    WAIT_PLACE,
    WAIT_TAGS,
    WAIT_BEST,
    WAIT_MODEL,
    WAIT_ROWS
};

struct node {
    struct node_config config;
    struct node_sink sink;
    struct transport *transport;
    struct host *host;
    struct places places;
    struct membership *membership; /* NULL with given members */
    struct membership_actions member_actions;
    struct overlay *overlay; /* NULL without */
    struct overlay_actions overlay_actions;
    struct member self;    /* as told to membership */
    uint64_t self_told_us; /* when its progress was */
    bool self_changed, address_given;
    uint64_t steps_told;     /* n->steps by then */
    uint64_t progress_at_us; /* when it may be told again */
    uint64_t started_us;
    bool dirty;             /* node_settle has to review */
    uint64_t review_at_us;  /* next review in any case; TIME_NEVER with given members */
    size_t packed_size_max; /* bytes of a packed body */
    enum node_phase phase;
    enum node_wait wait;
    bool failed, leaving;
    bool evicted;        /* our place is another's; the job that runs is waited for */
    bool founding;       /* it is settled that we begin as a founder, as soon as the owner is ready */
    bool has_model;      /* x0 is no longer the common start: it need not be fetched */
    rank_t rank;         /* our place; RANK_NONE */
    uint64_t claimed;    /* boot units */
    rank_t wanted_place; /* held before; RANK_NONE */
    uint64_t wanted_claimed;
    uint64_t begin_at_us;  /* could begin, and start_after_us over; TIME_NEVER */
    uint64_t redial_at_us; /* neighbours without a link are dialled from our side too (node/redial.c) */
    /* steps_max is reached and the algorithm has this long for its last round; TIME_NEVER */
    uint64_t finish_at_us;
    /* the first job waits for the links to all neighbours, but not longer; TIME_NEVER */
    uint64_t hold_until_us;
    uint64_t armed_us; /* deadline the host has; TIME_NEVER */
    float *x0;         /* (dim) owned, while there is no algorithm */
    double *weight;    /* (node_count) owned */
    uint32_t *site;    /* (node_count) owned, by the members' tags; NULL = none */
    struct graph own_graph;
    const struct graph *graph;  /* NULL until training begins */
    struct algo *algo;          /* likewise */
    struct blob *method;        /* state for the algorithm that comes; NULL = none */
    struct held held[HELD_MAX]; /* (held_count) messages that wait for a save, oldest first */
    uint32_t held_count;
    uint64_t held_last; /* number of the newest */
    struct algo_actions actions;
    bool stepping;
    bool begun;                  /* the algorithm has had START */
    bool any_peers;              /* the method takes whoever is presented */
    struct neighbour *neighbour; /* (neighbour_count) in order of rank */
    uint32_t neighbour_count, neighbour_capacity, presented_count;
    uint8_t *vacant; /* (node_count) owned, with any_peers: the vacancies that the bridges are for */
    rank_t *bridge;  /* (bridge_count) owned: neighbours over vacant places */
    uint32_t bridge_count;
    uint64_t bridges_due_us; /* vacancies have changed: when they are built anew; TIME_NEVER */
    struct link *bucket[LINK_BUCKET_COUNT];
    struct link *oldest, *newest;
    uint32_t link_count;
    char **seed; /* owned copies */
    size_t seed_count;
    int *seed_err;               /* (seed_count) owned: why each refused us; 0 = it has not */
    char *sought[NODE_SEEK_MAX]; /* (sought_count) owned: node_seek */
    uint32_t sought_count;
    struct contact *contact; /* (contact_count) */
    uint32_t contact_count, contact_capacity;
    struct probe *probe; /* (probe_count) */
    uint32_t probe_count, probe_capacity;
    struct fetch *fetch;       /* NULL unless FETCHING */
    float *fetched;            /* (dim) where it goes */
    uint64_t fetch_us;         /* when it began */
    uint64_t came_us;          /* when a chunk of it came last, or it began */
    uint64_t came_chunks;      /* until then */
    bool fetched_once;         /* another one was before it */
    struct donor *donor;       /* NULL unless training, or a keeper with a model */
    uint64_t keep_at_us;       /* a keeper's next fetch, at the earliest */
    uint64_t listen_until_us;  /* a founder listens for keepers; 0 = enough are not known yet */
    uint64_t keepers_until_us; /* a founder waits for a keeper's model; TIME_NEVER = has not asked */
    struct transfer_actions state_actions;
    uint64_t refused;
    uint64_t rival_until_us;      /* until then it is reported that another process has our id, .. */
    char rival[ADDRESS_TEXT_MAX]; /* .. there; "" = it is not known */
    struct trace_limit warned[NODE_WARN_COUNT];
    struct node_job job;
    uint64_t steps; /* local steps that our model has behind it */
    bool finish_told;
    bool train_ended;   /* no job begins any more */
    bool asked_in_vain; /* for steps beyond steps_max */
    double loss;
};

/* -- node.c */
int node_feed(struct node *n, const struct algo_event *event); /* the algorithm's answer: 0 or ERR_PROTO */
void node_fail(struct node *n, const struct err_text *why);
void node_arm(struct node *n);
void node_settle(struct node *n); /* at the end of each event: reviews while something changes */
uint64_t node_now_us(const struct node *n);
uint64_t node_now_boot(const struct node *n); /* in boot units */

/* -- node/join.c */
void node_try_begin(struct node *n); /* with given members */
void node_join_review(struct node *n);
void node_place_end(struct node *n); /* the algorithm ends, its model is kept; no job may run */
const char *node_place_tag(const struct node *n, rank_t place); /* "" when it is not known */
uint32_t node_trainers(const struct node *n);
bool node_member_trains(const struct node *n, const struct member *m); /* another, living one */

/* -- node/links.c */
void node_link_up(struct node *n, struct link_id id, const struct peer_info *peer);
void node_link_down(struct node *n, struct link_id id, enum down_reason why);
struct link *node_link_find(const struct node *n, struct link_id id); /* NULL when it is gone or closing */
struct link *node_link_of(const struct node *n, node_id peer);        /* NULL likewise */
uint64_t node_life(node_id id, uint64_t boot, uint64_t claimed); /* algo_config.life of who holds a place */
void node_link_present(struct node *n, struct link *l);          /* PEER_UP, once */
void node_ready_heard(struct node *n, struct link *from, const struct wire_ready *ready);
void node_neighbours_review(struct node *n); /* READY to those who are listed, an end to those who are not */
void node_links_refused(struct node *n, const char *address, int err, const char *reason);
void node_links_deinit(struct node *n);

/* -- node/neighbours.c */
void node_neighbours_build(struct node *n);
void node_neighbours_list(struct node *n, uint64_t now_us); /* anew */
struct neighbour *node_neighbour_find(const struct node *n,
                                      rank_t rank); /* NULL; good until they are listed */
/* As reported: with bridges or an overlay those that are held. */
uint32_t node_neighbour_count(const struct node *n);
void node_neighbours_free(struct node *n);

/* -- node/redial.c */
void node_redial_begin(struct node *n);
void node_redial_all(struct node *n);
void node_redial_up(struct node *n, struct neighbour *nb, const struct link *l);
void node_redial_down(struct node *n, struct neighbour *nb, bool dialled);
void node_redial_refused(struct node *n, const char *address);

/* -- node/contacts.c */
void node_contacts_review(struct node *n);
void node_contacts_deinit(struct node *n);
void node_probe(struct node *n, node_id id, const char *address, bool members, bool overlay);
void node_contacts_unreachable(struct node *n, const char *address, int err);
void node_contacts_refused(struct node *n, const char *address);
void node_contacts_up(struct node *n, const struct link *l);
bool node_contact_want(struct node *n, const char *address);         /* by the review that runs */
bool node_contact_is_new(const struct node *n, const char *address); /* its dial began a moment ago */

/* -- node/homes.c; now_us: of the review that runs, which needed_us must not be ahead of */
bool node_homes_reach(struct node *n, node_id id,
                      uint64_t now_us); /* a link through another member is wanted */
bool node_address_want(struct node *n, const char *address,
                       uint64_t now_us);               /* the same when it is a relay's address */
void node_homes_keep(struct node *n, uint64_t now_us); /* of ours, and those that links go over */

/* -- node/members.c */
void node_members_init(struct node *n);
void node_members_deinit(struct node *n);
void node_members_start(struct node *n);
void node_members_up(struct node *n, struct link *l);
void node_members_down(struct node *n, node_id peer, enum down_reason why);
void node_members_unreachable(struct node *n, node_id id, enum member_evidence evidence, bool members,
                              bool overlay);
int node_swim_heard(struct node *n, struct link *from, const struct swim_msg *msg); /* 0 or ERR_PROTO */
int node_overlay_heard(struct node *n, struct link *from, const struct overlay_msg *msg);
void node_members_tick(struct node *n, uint64_t now_us);
uint64_t node_members_deadline_us(const struct node *n);
void node_self_tell(struct node *n); /* what others should know of us, when it has changed */
void node_members_leave(struct node *n);

/* -- node/state.c */
void node_fetch_begin(struct node *n);
void node_fetch_end(struct node *n);               /* with what has come, if all has, as x0 */
/* Of those who train, as far as they have told; 0 while a fetch stalls: then any donor will do. */
uint64_t node_progress_best(const struct node *n);
bool node_member_gives(const struct node *n, const struct member *m, uint64_t best); /* it is worth asking */
void node_donor_begin(struct node *n);
void node_donor_end(struct node *n);
void node_state_up(struct node *n, const struct link *l);
void node_state_down(struct node *n, node_id peer);
void node_state_members(struct node *n); /* who trains may have changed */
void node_state_writable(struct node *n, const struct link *l);
const char *node_state_heard(struct node *n, struct link *from, struct state_msg *msg, struct blob *body);
void node_state_tick(struct node *n, uint64_t now_us);
uint64_t node_state_deadline_us(const struct node *n);
void node_state_deinit(struct node *n);

/* -- node/durable.c */
void node_durable_hold(struct node *n, rank_t to, const struct algo_msg *msg); /* borrows msg */
void node_durable_drop(struct node *n);                                        /* the algorithm goes */
void node_method_keep(struct node *n);    /* of the algorithm, for the one that comes */
void node_method_restore(struct node *n); /* a new algorithm, before START */

/* -- node/keep.c */
bool node_member_keeps(const struct node *n, const struct member *m); /* another, living one */
uint64_t node_kept_best(const struct node *n);   /* progress of the other keepers, as far as told */
bool node_founder_listens(struct node *n);       /* enough are known, but a keeper may not be yet */
bool node_keeper_is_ahead(const struct node *n); /* a founder should begin with what a keeper has */
void node_keeper_await(struct node *n);          /* from now on, but not for ever: */
void node_keeper_gives(struct node *n);          /* a chunk has come: so much longer */
void node_keep_review(struct node *n);
void node_keep_text(const struct node *n, char out[NODE_WAIT_MAX]);

/* -- node/messages.c */
void node_send(struct node *n, rank_t to, const struct algo_msg *msg); /* borrows msg */
void node_send_ready(struct node *n, struct link *l, rank_t to);
void node_send_swim(struct node *n, struct link *l,
                    const struct swim_msg *msg); /* dropped when the link is full */
void node_send_overlay(struct node *n, struct link *l, const struct overlay_msg *msg);
int node_send_state(struct node *n, struct link *l, const struct state_msg *msg); /* 0 or ERR_FULL */
void node_link_message(struct node *n, struct link_id id, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body);
void node_link_early(struct node *n, struct link *l); /* what overtook READY */
void node_link_writable(struct node *n, struct link_id id);
void node_link_close(struct node *n, struct link *l,
                     enum down_reason why); /* ours to end: nothing more in or out */
void node_link_refuse(struct node *n, struct link *l, const char *why); /* it broke the protocol */
void node_link_forget(struct link *l);                                  /* drops what waits in it */
void node_warn(struct node *n, enum node_warning kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* -- node/train.c */
void node_train_init(struct node *n);
void node_train_start(struct node *n, const float *x, uint32_t max_steps);
void node_train_done(struct node *n);
void node_train_release(struct node *n); /* the first job need not wait any longer */
void node_train_finish(struct node *n);  /* FINISHED, if it is not yet */
void node_train_drop(struct node *n);    /* the trainer goes; no job may run */
void node_train_deinit(struct node *n);

#endif

/* Shared by the files of the node: node.c (start, ranks, events and actions), node_links.c (links, member
 * lists, dialling), node_messages.c (what goes over a link), node_train.c (the training job). Not for others.
 */
#ifndef GADABOUT_AGENT_NODE_INTERNAL_H
#define GADABOUT_AGENT_NODE_INTERNAL_H

#include "agent/node.h"
#include "agent/roster.h"
#include "agent/wire.h"

#define LINK_BUCKET_COUNT 64u
#define PLACE_NONE UINT32_MAX

/* One link of the transport. */
struct link {
    struct link_id id;
    struct link *chained;       /* next in its bucket */
    struct link *older, *newer; /* all links in order of their coming */
    node_id peer;
    uint64_t boot;
    rank_t rank;    /* RANK_NONE before ours is known, or when the peer is no member */
    uint32_t place; /* position among our neighbours; PLACE_NONE */
    bool dialled;   /* by us */
    bool closing;   /* disconnect asked for: nothing in, nothing out, until on_down */
    bool ready_sent, ready_received;
    uint64_t fingerprint;             /* from the peer's READY */
    bool presented;                   /* the algorithm has had PEER_UP */
    uint64_t sent[2], received[2];    /* last sequence by lane */
    struct blob *box_head, *box_body; /* the one bulk message that waits for on_writable */
    node_id listed_id;                /* the last id of the peer's member list */
    uint32_t listed_count;            /* distinct ids of that list, ours and the peer's not among them */
    bool names_us;                    /* the peer has us in its list */
    uint64_t hearsay_us;              /* since when hearsay_count counts */
    uint32_t hearsay_count;           /* entries that its lists have changed since then */
};

/* A neighbour in the topology, linked or not. */
struct neighbour {
    rank_t rank;
    struct link *link; /* NULL while there is none */
    char *dialling;    /* owned: the address being dialled; NULL */
    bool dial_warned;  /* the transport did not take the address, and we said so */
};

/* Lines that peers can cause as often as they like: one a second of each kind. */
enum node_warning { NODE_WARN_STRANGER, NODE_WARN_REFUSED, NODE_WARN_COUNT };

struct node_warned {
    uint64_t at_us;
    uint64_t hidden; /* lines since then that were not said */
    bool any;
};

/* The training job: all that its run() touches. */
struct node_job {
    struct job base;         /* first: the host's pointer is ours */
    struct trainer *trainer; /* owned by the node */
    bool running;
    bool held; /* running, but not given to the host yet */
    uint32_t max_steps, steps;
    double loss;
    float *x, *delta; /* (dim) each, owned */
};

struct node {
    struct node_config config;
    struct node_sink sink;
    struct transport *transport;
    struct host *host;
    struct roster roster;
    uint64_t fingerprint;   /* of the complete roster */
    size_t packed_size_max; /* bytes of a packed body */
    enum node_phase phase;
    bool failed;
    rank_t rank;
    uint64_t begin_at_us;  /* roster complete and start_after_us over */
    uint64_t redial_at_us; /* neighbours without a link are dialled from our side too, strangers are closed;
                            * TIME_NEVER */
    uint64_t
        finish_at_us; /* steps_max is reached and the algorithm has this long for its last round; TIME_NEVER */
    uint64_t
        hold_until_us; /* the first job waits for the links to all neighbours, but not longer; TIME_NEVER */
    uint64_t armed_us; /* deadline the host has; TIME_NEVER */
    float *x0;         /* (dim) owned until the algorithm is there */
    double *weight;    /* (node_count) owned */
    uint32_t *site;    /* (node_count) owned, by the members' tags; NULL = none */
    struct graph own_graph;
    const struct graph *graph; /* NULL while joining */
    struct algo *algo;         /* NULL while joining */
    struct algo_actions actions;
    bool stepping;
    struct neighbour *neighbour; /* (neighbour_count) in order of rank */
    uint32_t neighbour_count, presented_count;
    struct link *bucket[LINK_BUCKET_COUNT];
    struct link *oldest, *newest;
    uint32_t link_count;
    char **seed; /* owned copies */
    size_t seed_count, seeds_refused, seeds_self;
    uint64_t refused;
    bool ever_presented; /* a neighbour was up at some time */
    struct node_warned warned[NODE_WARN_COUNT];
    struct node_job job;
    uint64_t steps;     /* local steps done here */
    bool asked_in_vain; /* for steps beyond steps_max */
    double loss;
};

/* -- node.c */
void node_try_begin(struct node *n); /* starts the algorithm once everything is known */
int node_feed(struct node *n, const struct algo_event *event); /* the algorithm's answer: 0 or ERR_PROTO */
void node_fail(struct node *n, const struct err_text *why);
void node_arm(struct node *n);
const struct wire_member *node_member(const struct node *n, rank_t rank);

/* -- node_links.c */
void node_link_up(struct node *n, struct link_id id, const struct peer_info *peer);
void node_link_down(struct node *n, struct link_id id, enum down_reason why);
struct link *node_link_find(const struct node *n, struct link_id id); /* NULL when it is gone or closing */
void node_link_present(struct node *n, struct link *l); /* PEER_UP, once, when l is a ready neighbour's */
void node_members_heard(struct node *n, struct link *from, const struct wire_member *member, uint32_t count);
void node_ready_heard(struct node *n, struct link *from, uint64_t fingerprint);
void node_links_begin(struct node *n);   /* ranks are known: places, READY, dialling */
void node_links_present(struct node *n); /* PEER_UP for those that are ready already */
void node_links_redial(struct node *n);  /* dials neighbours that are not linked, closes strangers */
void node_links_refused(struct node *n, const char *address, int err, const char *reason);
void node_links_deinit(struct node *n);

/* -- node_messages.c */
void node_send(struct node *n, rank_t to, const struct algo_msg *msg); /* borrows msg */
void node_send_members(struct node *n, struct link *l, const struct wire_member *member, uint32_t count);
void node_send_ready(struct node *n, struct link *l);
void node_link_message(struct node *n, struct link_id id, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body);
void node_link_writable(struct node *n, struct link_id id);
void node_link_close(struct node *n, struct link *l,
                     enum down_reason why); /* ours to end: nothing more in or out */
void node_link_refuse(struct node *n, struct link *l, const char *why); /* it broke the protocol */
void node_warn(struct node *n, enum node_warning kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* -- node_train.c */
void node_train_init(struct node *n);
void node_train_start(struct node *n, const float *x, uint32_t max_steps);
void node_train_done(struct node *n);
void node_train_release(struct node *n); /* the first job need not wait any longer */
void node_train_finish(struct node *n);  /* FINISHED, if it is not yet */
void node_train_deinit(struct node *n);

#endif

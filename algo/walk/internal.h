/* Shared by walk.c (parameters, training, hops), message.c (what goes over links) and their tests. */
#ifndef GADABOUT_ALGO_WALK_INTERNAL_H
#define GADABOUT_ALGO_WALK_INTERNAL_H

#include "algo/compress/mirror.h"
#include "algo/state.h"
#include "algo/token.h"
#include "base/check.h"
#include "base/prng.h"

/* Kinds on the wire. But for DEGREE the first fields: generation, maker, sequence, number of the walk. */
enum walk_message {
    WALK_MODEL = 1, /* the model */
    WALK_ACK,
    WALK_SEEK,   /* + claimant, living, age */
    WALK_DEGREE, /* one field: how many peers the sender has */
};

#define WALK_NONE UINT32_MAX

/* One of the models, as this node knows it. */
struct walking {
    float *x;           /* (dim) the model while held, else the newest copy seen */
    struct blob *copy;  /* SENT: the model as the receiver knows it, one reference; else NULL */
    float *residual;    /* (dim) of the last hand-over, x - copy; NULL without compression */
    uint64_t sent_boot; /* SENT: of the process that it went to */
    uint64_t owed_at;   /* sequence with which the walk left, in a former life; 0 = none */
    bool owed;          /* the residual waits for the next visit; x still holds it */
    float *base;        /* aggregator: (dim) x as it last left the aggregation; NULL = not seen yet */
    uint32_t steps;     /* folded in since it came */
    bool queued;
    struct custody custody;
};

/* Whoever is up. */
struct walk_peer {
    rank_t rank;
    uint32_t degree; /* as it has told; 0 = not yet */
    uint64_t boot;
    struct mirror in, out; /* models told over each direction of the link, of whichever walk */
};

struct walk {
    rank_t rank;
    uint32_t node_count;
    uint64_t seed;
    const struct trace *trace; /* borrowed */
    size_t dim;
    uint32_t steps_per_visit;
    uint32_t walk_count;
    struct walking *walk; /* (walk_count) */
    uint32_t *queue;      /* (walk_count) ring of the walks that wait for the trainer */
    uint32_t queue_at, queue_count;
    uint32_t trainee;       /* the walk being trained; WALK_NONE */
    uint32_t newest;        /* the walk with the greatest stamp seen: the node's model */
    uint32_t aggregated;    /* the walk that was last at the aggregator */
    uint32_t joined;        /* walks with a base */
    struct walk_peer *peer; /* (peer_count) in ascending rank */
    uint32_t peer_count, peer_capacity;
    struct pack *pack; /* NULL = none */
    struct prng prng;
    uint64_t now_us;
    struct algo_report counters;
};

/* -- walk.c -- */

/* Walk t is here and wants to be trained, now or in its turn. */
void walk_train(struct walk *w, uint32_t t, struct algo_actions *acts);
/* Notes that walk t has a new stamp. */
void walk_note_version(struct walk *w, uint32_t t);

/* -- peer.c -- */

/* NULL when it is not up. Good until the next PEER_UP or PEER_DOWN. */
struct walk_peer *walk_peer_find(const struct walk *w, rank_t rank);
struct walk_peer *walk_peer_add(struct walk *w, rank_t rank, uint64_t boot); /* it is not there yet */
void walk_peer_remove(struct walk *w, rank_t rank);                          /* it is */

/* -- state.c -- */
void walk_state_save(const struct algo *a, struct state_writer *out);
int walk_state_restore(struct algo *a, struct state_reader *in, struct err_text *why);

/* -- message.c -- */

/* Tells all peers how many we have. */
void walk_tell_degree(const struct walk *w, struct algo_actions *acts);

/* Hands walk t to custody.sent_to, and keeps what compression drops. */
void walk_hand_over(struct walk *w, uint32_t t, struct algo_actions *acts);
/* The same model once more, exactly. */
void walk_hand_over_again(struct walk *w, uint32_t t, struct algo_actions *acts);
/* Tells all neighbours of the newest snapshot known (living: of life). */
void walk_seek_flood(struct walk *w, uint32_t t, bool living, struct algo_actions *acts);
int walk_take_message(struct walk *w, rank_t from, const struct algo_msg *msg, struct algo_actions *acts);

#endif

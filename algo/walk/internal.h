/* Shared by walk.c (parameters, training, hops), message.c (what goes over links) and their tests. */
#ifndef GADABOUT_ALGO_WALK_INTERNAL_H
#define GADABOUT_ALGO_WALK_INTERNAL_H

#include "algo/compress/mirror.h"
#include "algo/step.h"
#include "algo/token.h"
#include "base/check.h"
#include "base/prng.h"

/* Kinds on the wire. The first fields: generation, maker, sequence, number of the walk. */
enum walk_message {
    WALK_MODEL = 1, /* the model */
    WALK_ACK,
    WALK_SEEK, /* + claimant, living, age */
};

#define WALK_NONE UINT32_MAX

/* One of the models, as this node knows it. */
struct walking {
    float *x;          /* (dim) the model while held, else the newest copy seen */
    struct blob *copy; /* SENT: the model as the receiver knows it, one reference; else NULL */
    float *residual;   /* (dim) of the last hand-over, x - copy; NULL without compression */
    bool owed;         /* the residual waits for the next visit; x still holds it */
    float *base;       /* aggregator: (dim) x as it last left the aggregation; NULL = not seen yet */
    uint32_t steps;    /* folded in since it came */
    bool queued;
    struct custody custody;
};

struct walk {
    rank_t rank;
    uint32_t node_count, degree;
    const struct graph *graph; /* borrowed */
    const struct trace *trace; /* borrowed */
    size_t dim;
    uint32_t steps_per_visit;
    uint32_t walk_count;
    struct walking *walk; /* (walk_count) */
    uint32_t *queue;      /* (walk_count) ring of the walks that wait for the trainer */
    uint32_t queue_at, queue_count;
    uint32_t trainee;        /* the walk being trained; WALK_NONE */
    uint32_t newest;         /* the walk with the greatest stamp seen: the node's model */
    uint32_t aggregated;     /* the walk that was last at the aggregator */
    uint32_t joined;         /* walks with a base */
    bool *up;                /* (degree) */
    uint64_t *boot;          /* (degree) */
    struct pack *pack;       /* NULL = none */
    struct mirror *in, *out; /* (degree) models told over each direction of a link, of whichever walk */
    struct prng prng;
    uint64_t now_us;
    struct algo_report counters;
};

/* Ranks of neighbours and their places. */
static inline rank_t walk_neighbour_at(const struct walk *w, uint32_t i)
{
    return w->graph->neighbour[w->graph->offset[w->rank] + i];
}

static inline uint32_t walk_place_of(const struct walk *w, rank_t peer)
{
    uint32_t edge = graph_edge_index(w->graph, w->rank, peer);
    CHECK(edge != UINT32_MAX); /* whoever speaks to us, the node has found to be a neighbour */
    return edge - w->graph->offset[w->rank];
}

/* -- walk.c -- */

/* Walk t is here and wants to be trained, now or in its turn. */
void walk_train(struct walk *w, uint32_t t, struct algo_actions *acts);
/* Notes that walk t has a new stamp. */
void walk_note_version(struct walk *w, uint32_t t);

/* -- message.c -- */

/* Hands walk t to custody.sent_to, and keeps what compression drops. */
void walk_hand_over(struct walk *w, uint32_t t, struct algo_actions *acts);
/* The same model once more, exactly. */
void walk_hand_over_again(struct walk *w, uint32_t t, struct algo_actions *acts);
/* Tells all neighbours of the newest snapshot known (living: of life). */
void walk_seek_flood(struct walk *w, uint32_t t, bool living, struct algo_actions *acts);
int walk_take_message(struct walk *w, rank_t from, const struct algo_msg *msg, struct algo_actions *acts);

#endif

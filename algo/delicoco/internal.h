/* Shared by delicoco.c (the method), make.c (parameters, making) and their tests. */
#ifndef GADABOUT_ALGO_DELICOCO_INTERNAL_H
#define GADABOUT_ALGO_DELICOCO_INTERNAL_H

#include "algo/compress/pack.h"
#include "algo/step.h"

/* Kinds on the wire. */
enum delicoco_kind {
    DELICOCO_REFERENCE = 1, /* step worked on, version, 1 if the copy holds the delta of that step; vec = the
                             * sender's public copy, none at version 0: it is the common start */
    DELICOCO_DELTA = 2,     /* step, version after it; packed = C(x - copy) */
};

/* What we know of a neighbour. */
struct delicoco_peer {
    bool up;
    bool known;          /* its REFERENCE came on this link: hat is what it is at the other end */
    bool absent;         /* missed a step: not waited for until it speaks of ours or a later one */
    uint64_t told;       /* greatest step it spoke of on this link */
    uint64_t version;    /* deltas it has made, as far as they came */
    uint64_t at;         /* step of the last delta in hat; 0 = none */
    float *hat;          /* (dim) its public copy; NULL before its first REFERENCE */
    struct blob *early;  /* a delta of a step after ours, which decodes; NULL */
    uint64_t early_step; /* early != NULL */
    double weight;       /* of the mixing matrix */
};

struct delicoco {
    rank_t rank;
    uint32_t degree;
    const struct graph *graph;  /* borrowed */
    const uint32_t *neighbour;  /* (degree) ascending ranks, borrowed from the graph */
    struct delicoco_peer *peer; /* (degree) */
    size_t dim;
    uint64_t seed, patience_us;
    uint32_t every;  /* local steps a round */
    uint32_t gossip; /* gossip steps a round, Q */
    float gamma;
    bool overlapped; /* deltas travel while the next steps are trained */
    const struct trace *trace;
    struct pack *pack;
    float *x0, *x, *hat; /* (dim) common start, model, public copy */
    float *scratch;      /* (dim) x - hat */
    uint64_t step;       /* gossip step being worked on, from 1; round = (step - 1) / gossip */
    uint64_t version;    /* deltas made; one more when we started elsewhere than the others */
    uint64_t at;         /* step of the last delta in hat; 0 = none */
    uint32_t steps;      /* local steps done in this round */
    bool waiting;        /* for the deltas of this step; ours is in hat and out, training rests */
    uint64_t expires_us; /* waiting: when those still missing are left out */
    struct algo_report report;
};

/* The type's functions, as in algo/step.h. */
int delicoco_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts);
uint64_t delicoco_deadline_us(const struct algo *a);
const float *delicoco_model(const struct algo *a);
void delicoco_report(const struct algo *a, struct algo_report *out);

#endif

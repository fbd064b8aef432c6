/* Shared by the files of the harness only: its calendar and its state. */
#ifndef GADABOUT_TESTS_UNIT_ALGO_HARNESS_INTERNAL_H
#define GADABOUT_TESTS_UNIT_ALGO_HARNESS_INTERNAL_H

#include "algo/state.h"
#include "base/prng.h"
#include "tests/unit/algo_harness.h"

/* -- the calendar: items by (time, sequence), a binary heap ------------------------------------- */

struct harness_item {
    uint64_t time_us;
    uint64_t sequence; /* order of making; decides ties */
    enum algo_event_kind kind;
    rank_t rank;          /* whom it is for */
    rank_t peer;          /* PEER_UP, PEER_DOWN, MESSAGE */
    uint32_t incarnation; /* of rank: a restarted instance gets nothing meant for the one before */
    uint32_t epoch;       /* of the link */
    uint64_t number;      /* PEER_UP: boot; TRAINED: steps; DEADLINE: generation */
    struct algo_msg msg;  /* MESSAGE: owns bits and one reference on vec or packed */
};

struct harness_queue {
    struct harness_item *item;
    size_t count, capacity;
};

void harness_queue_push(struct harness_queue *q, const struct harness_item *item); /* takes what it owns */
struct harness_item harness_queue_pop(struct harness_queue *q); /* the earliest; count > 0 */
void harness_item_release(struct harness_item *item);           /* frees bits, drops vec */
void harness_queue_deinit(struct harness_queue *q);

/* -- state ------------------------------------------------------------------------------------- */

enum { DROP_MAX = 64, STUCK_MAX = 1000 };

/* One direction of an edge, at the position of the receiver's neighbour entry. */
struct direction {
    uint64_t control_us, bulk_us; /* latest arrival given out in each lane */
    bool up;                      /* what the receiver has heard about the link */
    uint32_t epoch;               /* the same */
    uint32_t edge;                /* index of the undirected edge */
};

struct edge {
    bool wanted, up;
    uint32_t epoch; /* counts the links there have been */
};

struct instance {
    struct algo *algo;    /* NULL while crashed */
    uint32_t incarnation; /* also its boot id, from 1 */
    bool paused;
    struct harness_item *held; /* events that wait for the end of the pause */
    size_t held_count, held_capacity;
    bool job_open, job_held; /* held: ended while training is stopped */
    uint32_t job_steps;
    float *saved_x; /* (dim) on disk; NULL = nothing is */
    struct blob *saved;
    float *job_x, *job_delta; /* (dim) */
    uint64_t step_us, steps;
    uint64_t deadline_us, deadline_generation;
    uint32_t stuck; /* deadlines in a row without time passing */
    uint64_t last_deadline_us;
};

struct harness {
    const struct algo_type *type;
    struct choice params, compress;
    bool compressed;
    const struct tensor *tensor; /* (tensor_count) or NULL; borrowed */
    uint32_t tensor_count;
    const struct graph *graph;
    double *weight;
    const uint32_t *site; /* borrowed; NULL = none */
    float *x0;
    size_t dim;
    uint64_t seed, patience_us, now_us, sequence;
    uint64_t delay_low_us, delay_high_us;
    struct prng random;
    bool started, stopped;
    uint32_t job_steps_max;
    harness_train_fn train;
    harness_hook_fn hook;
    void *train_ctx, *hook_ctx;
    FILE *trace;
    struct harness_queue queue;
    struct instance *instance;   /* (n) */
    struct direction *direction; /* (2 * edge_count) */
    struct edge *edge;           /* (edge_count) */
    struct algo_actions acts;
    struct drop {
        rank_t from, to;
        uint8_t kind;
    } drop[DROP_MAX];
    size_t drop_count;
    uint64_t sent[256], sent_vectors, lost, in_flight, hash;
};

/* -- the trace: hash and lines (algo_harness_trace.c) -------------------------------------------- */

void harness_trace_event(struct harness *h, rank_t r, const struct algo_event *e);
void harness_trace_msg(struct harness *h, const char *verb, rank_t a, rank_t b, const struct algo_msg *m);

#endif

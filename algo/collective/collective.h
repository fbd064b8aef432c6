/* Weighted average of a vector over all nodes, without a server: sums travel up a spanning tree of the
 * graph, the average travels down. A part for algorithms, a pure state machine like them.
 *
 * Rounds are numbered from 0. Between rounds the owner does what it likes (trains); collective_begin says
 * that this node is ready for the next one. The result is
 *     sum over participants of w_v x_v / sum over participants of w_v
 * and the same bits on every node that got it. Who is absent for longer than patience is left out.
 *
 * With a compressor, sums and averages travel packed. What that drops of a sum stays at the node that sent
 * it, what it drops of the average at the root, and is part of their sum in the next round that holds their
 * vector: averages times weights and all residuals together are the sums of what went in. The compressor
 * should lose little, as every entry is sent as it is, not as a difference. That residual is a node's own and outlives
 * it (pack.c); all else begins anew with a restart. */
#ifndef GADABOUT_ALGO_COLLECTIVE_COLLECTIVE_H
#define GADABOUT_ALGO_COLLECTIVE_COLLECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "algo/compress/pack.h"
#include "algo/state.h"

enum { COLLECTIVE_KIND_COUNT = 4 }; /* message kinds used, from first_kind on */

struct collective_config {
    rank_t rank;
    const struct graph *graph; /* borrowed for life */
    size_t dim;
    double weight; /* of this node, >= 0 */
    uint64_t patience_us;
    uint8_t first_kind;
    bool curious;                  /* ask the first neighbour for the latest average (a node that rejoins) */
    const struct trace *trace;     /* may be NULL; borrowed for life */
    const struct choice *compress; /* NULL = none; borrowed during the making */
    const struct tensor *tensor;   /* (tensor_count) as in algo_config; borrowed likewise */
    uint32_t tensor_count;
    uint64_t seed; /* of the experiment; for the compressor */
};

enum collective_outcome {
    COLLECTIVE_NONE,    /* nothing to tell */
    COLLECTIVE_AVERAGE, /* collective_average() is new: take it; the round is over, also if it was not begun
                           here */
    COLLECTIVE_ALONE,   /* the round that was begun has no result for this node: go on with the own vector */
};

struct collective_counts {
    uint64_t model_transfers; /* vectors sent */
    uint64_t late_dropped;    /* messages of finished rounds and sums of given-up trees */
    uint64_t left_out;        /* nodes this node declared absent */
    uint64_t contributed;     /* averages that hold this node's vector */
};

struct collective;

struct collective *collective_new(const struct collective_config *config); /* returns owned */
void collective_free(struct collective *c);                                /* takes c; NULL is allowed */

/* Begins the next round with x (dim), which is borrowed and must not change until the outcome comes. */
enum collective_outcome collective_begin(struct collective *c, uint64_t now_us, const float *x,
                                         struct algo_actions *acts);

/* Takes PEER_UP, PEER_DOWN, MESSAGE of the kinds first_kind .. first_kind + COLLECTIVE_KIND_COUNT - 1, and
 * DEADLINE. Returns 0, or ERR_PROTO when the message is malformed: nothing was changed then. */
int collective_step(struct collective *c, const struct algo_event *event, struct algo_actions *acts,
                    enum collective_outcome *out);

uint64_t collective_deadline_us(const struct collective *c); /* ask after each call */
bool collective_waiting(const struct collective *c);         /* begun and no outcome yet */
uint64_t collective_round(const struct collective *c);       /* rounds over, as far as this node knows */
const float *collective_average(const struct collective *c); /* (dim) latest result, borrowed until the next
                                                              * call; NULL before the first */
/* What compression has dropped here and is owed to the sum (algo/state.h); nothing without a compressor. Errors of
 * restore: ERR_FORMAT with why, nothing has changed. Before the first event. */
void collective_state_save(const struct collective *c, struct state_writer *out);
int collective_state_restore(struct collective *c, struct state_reader *in, struct err_text *why);
void collective_counts(const struct collective *c, struct collective_counts *out);

#endif

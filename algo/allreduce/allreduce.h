/* Sum of a vector over a set of members, without a server: reduce-scatter, then all-gather, over rings of
 * direct links. A part for algorithms, a pure state machine like them. Every two members must be neighbours.
 *
 * The vector is cut into slices. Each slice has an owner; its partial sums travel along a path that visits
 * every member once and ends at the owner (reduce-scatter), and the sum travels back along a path from there
 * (all-gather). Slices are cut into chunks of at most CHUNK floats that follow each other (pipelining).
 *   flat:    one ring over all members; slice k belongs to the k-th member. 2 (K-1)/K size floats per member.
 *   groups:  the path of a slice runs within each group first, then across the groups between those members
 *            that stand for the slice, so that links between groups carry least (hsgd_asgrad.md A7.2).
 * Sums are taken in the order of the path: the result is the same bits on every member.
 *
 * Rounds are numbered from 0. Between rounds the owner does what it likes (trains); allreduce_begin says
 * that this node is ready for the next one. Nobody waits for the dead: the living agree on a new view (a set
 * of members with a number) and run the round again without them. How, and every failure course:
 * allreduce.c */
#ifndef GADABOUT_ALGO_ALLREDUCE_ALLREDUCE_H
#define GADABOUT_ALGO_ALLREDUCE_ALLREDUCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "algo/step.h"

enum { ALLREDUCE_KIND_COUNT = 8 }; /* message kinds reserved, from first_kind on */

struct allreduce_config {
    rank_t rank;
    uint32_t node_count;
    const struct graph *graph; /* borrowed for life; complete among the members */
    const rank_t *member;      /* (member_count) ascending, self among them; copied */
    uint32_t member_count;
    const uint32_t *group; /* NULL = flat, or (member_count) group number of each member; copied */
    size_t size_max;       /* longest vector of a round, floats */
    size_t state_dim;      /* length of the state that laggards copy */
    uint64_t patience_us;
    uint8_t first_kind;
    uint32_t chunk_max; /* floats of one body, alike on all members; 0 = 16384. Four times it must fit the
                         * type's bound for packed bodies */
    bool measures;      /* keep what allreduce_spread() needs */
    bool rejoining;     /* begin by copying the state of a member that has been here */
    uint64_t life;      /* algo_config.life */
    uint64_t origin; /* names what this node's rounds start from: alike on those who start from the same. Two
                         * that differ never sum before one has copied the other's state; so where all add to a
                         * common state. 0 on all where the state is what is summed */
    uint64_t
        round; /* rounds that the start has behind it, as far as this node can tell; when not rejoining */
    const struct trace *trace; /* may be NULL; borrowed for life */
};

enum allreduce_outcome {
    ALLREDUCE_NONE, /* nothing to tell */
    ALLREDUCE_SUM,  /* the round begun is over: allreduce_sum(), allreduce_weight() */
    ALLREDUCE_COPY, /* the others are past what this node took part in: allreduce_copy() is the state to go on
                     * from; rounds over = allreduce_round(). Also when no round was begun here */
};

/* Names an agreement on the members, for all time: whoever holds a place after another is another proposer. The
 * first ones, which nobody proposed, are (0, origin). */
struct view_id {
    uint64_t number;
    uint64_t proposer; /* rank << 48 | of its life; see allreduce.c */
};

struct allreduce_counts {
    uint64_t vectors;            /* slices sent, in units of whole vectors, rounded */
    uint64_t floats_sent;        /* bodies alone */
    uint64_t floats_sent_across; /* of these, to members of other groups; with copies of states */
    uint64_t left_out;           /* members that a view of ours left out */
    uint64_t views;              /* views adopted after the first */
    uint64_t contributed;        /* sums that hold this node's vector */
    uint64_t dropped;            /* messages of old views and rounds */
};

struct allreduce;

struct allreduce *allreduce_new(const struct allreduce_config *config); /* returns owned */
void allreduce_free(struct allreduce *a);                               /* takes a; NULL is allowed */

/* Begins the next round with weight * x, x (size), equal size on all members. x is borrowed and must not
 * change until the outcome comes. A lone member gets its sum at once. */
enum allreduce_outcome allreduce_begin(struct allreduce *a, uint64_t now_us, const float *x, size_t size,
                                       double weight, struct algo_actions *acts);

/* Takes PEER_UP, PEER_DOWN (of any neighbour; others than members are ignored), MESSAGE of the kinds
 * first_kind .. first_kind + ALLREDUCE_KIND_COUNT - 1, and DEADLINE. Returns 0, or ERR_PROTO when the message
 * is malformed: nothing was changed then. */
int allreduce_step(struct allreduce *a, const struct algo_event *event, struct algo_actions *acts,
                   enum allreduce_outcome *out);

/* Between rounds: the owner does not train, it waits for others in another all-reduce. A member that was left
 * out is then taken in as if it had begun: what it waits for may never come, as the others are past it.
 * Between two steps of this all-reduce, or before its first. */
void allreduce_set_ready(struct allreduce *a, bool ready, struct algo_actions *acts);

/* After ALLREDUCE_SUM: what a laggard is to copy, (state_dim), borrowed: it must stay valid and unchanged
 * until the next ALLREDUCE_SUM or ALLREDUCE_COPY. */
void allreduce_set_state(struct allreduce *a, const float *state);

/* Counts floats_sent_across by these groups, (member_count), from now on; paths stay as they are. For groups
 * that change. */
void allreduce_set_crossing(struct allreduce *a, const uint32_t *group);

uint64_t allreduce_deadline_us(const struct allreduce *a); /* ask after each call */
bool allreduce_waiting(const struct allreduce *a);         /* begun and no outcome yet */
uint64_t allreduce_round(const struct allreduce *a);       /* rounds over */
/* Between rounds: the owner has skipped some. Others may not know: the next round begins with a new view, in
 * which who is behind copies. Not so from 0 to 1, which all do, each in its time, and nobody begins round 0.
 * While a copy is on its way this does nothing: that tells how far the others are. */
void allreduce_set_round(struct allreduce *a, uint64_t round);
const float *allreduce_sum(const struct allreduce *a); /* (size) sum of weight * x over the contributors */
double allreduce_weight(const struct allreduce *a);    /* sum of their weights */
uint32_t allreduce_contributors(const struct allreduce *a); /* how many */
bool allreduce_contributed(const struct allreduce *a);      /* ours is in what SUM gave or COPY stands for */
/* After ALLREDUCE_COPY: rounds that were over with the latest sum that holds a vector of this member's, be it of a
 * former life; 0 = none. Not told, as there are too many members: all that are over. */
uint64_t allreduce_counted(const struct allreduce *a);
/* After ALLREDUCE_SUM: the view it was taken in. Who copies does so in a new view: rounds that ended in the same
 * view are those of the same members, and they all took part in each. */
struct view_id allreduce_view(const struct allreduce *a);
/* After ALLREDUCE_SUM, with `measures`: this member's part of
 *     sum over groups g of W_g / W |mean_g - mean|^2, mean_g over the contributors of g, W_g their weights
 * namely of those floats of which its group's sum went through it. The parts of all members add up to the
 * whole. */
double allreduce_spread(const struct allreduce *a);
const float *allreduce_copy(const struct allreduce *a); /* (state_dim) borrowed until the next call */
void allreduce_counts(const struct allreduce *a, struct allreduce_counts *out);

#endif

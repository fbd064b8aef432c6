/* Inside of the collective: its state, the tree and the sums. Private to collective*.c. */
#ifndef GADABOUT_ALGO_COLLECTIVE_PARTS_H
#define GADABOUT_ALGO_COLLECTIVE_PARTS_H

#include "algo/bitmap.h"
#include "algo/collective/collective.h"

enum { MSG_STATE, MSG_SUM, MSG_RESULT, MSG_ASK, MSG_KIND_COUNT };
/* Of STATE. AGAIN: sums of this round are gone here. */
enum { FLAG_BEGUN = 1, FLAG_LATE = 2, FLAG_AGAIN = 4 };

#define NO_POSITION UINT32_MAX

enum phase {
    PHASE_IDLE,   /* the owner trains */
    PHASE_REDUCE, /* begun: sums go up, the result is awaited */
    PHASE_ASKING, /* begun, but left out: a neighbour was asked for the result */
};

/* What a neighbour has shown of one round. */
struct share {
    bool ready;       /* has begun it */
    double weight;    /* of sum */
    struct blob *sum; /* NULL, or its subtree's weighted sum, made for the slot's present out set */
};

/* The round that runs or comes next, and the one after it: a neighbour may be one round ahead. */
struct slot {
    uint64_t round;
    bool out_any;        /* is out not empty? */
    uint8_t *out;        /* (out_size) bit map of nodes left out */
    struct share *share; /* (degree) */
};

struct neighbour {
    bool up;
    bool answered; /* has been told that it is late, in this round */
    bool wants;    /* asked for a result that was not there yet */
    bool ahead;    /* has begun the next round, since ahead_us */
    uint64_t ahead_us;
    uint64_t changed_us; /* when the link came or went */
};

struct collective {
    struct collective_config config;
    uint32_t degree;
    const uint32_t *rank_of; /* (degree) neighbours, ascending; into the graph */
    struct neighbour *link;  /* (degree) */
    uint32_t out_size;       /* bytes of an out map */

    enum phase phase;
    uint64_t round; /* that runs or comes next */
    uint64_t begin_us;
    const float *x;
    struct slot slot[2]; /* of round and round + 1, by parity */

    bool tree_valid; /* parent and child follow from the out map of the present round */
    bool tree_whole; /* made with nobody left out */
    uint32_t parent; /* position, UINT32_MAX at a root */
    bool *child;     /* (degree) */
    bool sent_up;    /* the sum went to the parent */
    bool again;      /* this round was given up once: its sums were dropped */

    uint32_t asked; /* position, UINT32_MAX = none */
    uint64_t ask_us;

    struct pack *pack; /* NULL = none */
    float *residual;   /* (dim) what compression has dropped of our sums so far; NULL without a compressor */
    float *left;       /* (dim) the same after the message that is out, should the result hold it; likewise */
    float *former; /* (dim) of a life that ended with a sum out: the residual if the result of former_round
                        * holds that; NULL = none */
    uint64_t former_round;

    struct blob *last;        /* latest result, NULL before the first */
    struct blob *last_packed; /* the same as it travels; NULL = whole */
    uint64_t last_round;
    uint8_t *last_out; /* (out_size) who is not in it */
    double last_weight;
    struct collective_counts counts;
};

/* -- round.c -- */

/* The slot of the present round or the next, emptied if it still holds an older one. */
struct slot *slot_of(struct collective *c, uint64_t round);
/* Adds `bits` (NULL = none) to who is left out. Returns whether the map grew; its sums are void then. */
bool slot_grow(struct collective *c, struct slot *s, const uint8_t *bits);

void collective_send_state(struct collective *c, struct algo_actions *acts, uint32_t to, uint64_t flags);
void collective_send_result(struct collective *c, struct algo_actions *acts, uint32_t to);
void collective_ask(struct collective *c, uint32_t whom, uint64_t now_us, struct algo_actions *acts);
enum collective_outcome collective_ask_somebody(struct collective *c, uint64_t now_us,
                                                struct algo_actions *acts);

/* Does what can be done in a begun round: tells all neighbours of it (announce, or when somebody was left
 * out), or says it again to one (restate_to, NO_POSITION = none). Whom to leave out is decided before
 * anything is sent, so that the bits of this step's messages stand still. At most once a step. */
enum collective_outcome collective_progress(struct collective *c, uint64_t now_us, bool announce,
                                            uint32_t restate_to, struct algo_actions *acts);

/* The round is over with `vec`, which travels as `packed` (NULL = as it is) and came from position `from`.
 * Takes references of its own. */
enum collective_outcome collective_finish(struct collective *c, uint64_t round, struct blob *vec,
                                          struct blob *packed, double weight, const uint8_t *out,
                                          uint32_t from, struct algo_actions *acts);

/* No result to be had. Who was left out in vain gets a new chance, and so does this node. */
enum collective_outcome collective_give_up(struct collective *c);

/* -- tree.c -- */

/* Recomputes parent and child: breadth-first from the lowest node of the part that this node is in, over
 * nodes that are not left out; neighbours in ascending order. A function of (graph, out) only, so nodes
 * that agree on `out` agree on the tree. This node must not be left out itself. */
void collective_plan_tree(struct collective *c, const struct slot *s);

/* w x + residual + sums of the children, in ascending rank of the child, one rounding per element. Returns
 * owned. */
struct blob *collective_add_up(const struct collective *c, const struct slot *s, double *weight);

/* sum / weight. Returns owned. */
struct blob *collective_divide(const struct blob *sum, double weight, size_t dim);

void slot_drop_sums(const struct collective *c, struct slot *s);

/* -- pack.c -- */

/* Our sum as it goes to the parent; c->left becomes what the parent will lack of it. Returns owned, or NULL
 * when it must travel whole (no compressor, or out of its reach). */
struct blob *collective_pack_sum(struct collective *c, const struct blob *sum);

/* The root's average as it goes down: *average (one reference, owned) becomes what all will hold, c->left
 * what that lacks, times weight. Returned as above. */
struct blob *collective_pack_average(struct collective *c, struct blob **average, double weight);

/* The first result since a restart, of `round` and without those in `out`; again: with a sum of this life. */
void collective_settle_former(struct collective *c, uint64_t round, const uint8_t *out, bool again);

/* The vector of a message, one reference; ERR_PROTO when it does not decode. */
int collective_unpack(struct collective *c, const struct algo_msg *m, struct blob **vec);

#endif

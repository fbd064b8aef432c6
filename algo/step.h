/* The one interface every algorithm implements: an event goes in, a list of actions comes out.
 *
 * An algorithm is a pure state machine. Time is a field of the event (microseconds, never decreasing),
 * randomness a stream seeded through the configuration. It owns the node's model, one flat float32
 * vector x of `dim` elements. It never blocks, never calls out, touches no clock, file or socket.
 *
 * Training is a job: the action TRAIN lends the model to a trainer and asks for at most max_steps local
 * steps; the event TRAINED brings back the progress (delta = x_after - x_before) and how many steps it
 * holds. At most one TRAIN is outstanding. The algorithm adds delta to whatever x is by then: progress
 * made while a message changed x is kept, never overwritten.
 *
 * Peers are ranks 0..n-1. They are neighbours in the topology only, unless the type takes any peers: then whoever is
 * presented, now these places and now those. PEER_UP and PEER_DOWN follow the link.
 * A message sent while the link is down is dropped by the node (the algorithm hears PEER_DOWN).
 */
#ifndef GADABOUT_ALGO_STEP_H
#define GADABOUT_ALGO_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "algo/topology/topology.h"
#include "base/blob.h"
#include "base/choice.h"
#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/trace.h"

/* -- messages ---------------------------------------------------------------------------------- */

/* Control fields and at most one body: a vector or packed bytes. What the fields mean is the algorithm's own
 * business; the agent's wire format carries them without looking. */
struct algo_msg {
    uint8_t kind; /* the algorithm's own enumeration */
    uint8_t field_count;
    uint32_t bits_size; /* bytes in bits */
    uint64_t field[ALGO_FIELD_MAX];
    const uint8_t *bits; /* NULL when bits_size is 0; little-endian bit map, bit r = rank r */
    struct blob *vec;    /* NULL or dim float32, little-endian */
    struct blob *packed; /* NULL or what a compressor made of a vector; never beside vec */
};

/* -- events ------------------------------------------------------------------------------------ */

enum algo_event_kind {
    ALGO_START,     /* first event, once */
    ALGO_PEER_UP,   /* a link to neighbour `peer` is there; boot differs from last time if whoever holds that
                     * place now remembers nothing of it: it restarted, or another took the place */
    ALGO_PEER_DOWN, /* that link is gone; exactly one per PEER_UP */
    ALGO_MESSAGE,   /* from neighbour `peer` */
    ALGO_TRAINED,   /* answer to TRAIN */
    ALGO_DEADLINE,  /* the time asked for by deadline_us() has come (may also come early or late) */
};

struct algo_event {
    enum algo_event_kind kind;
    uint64_t now_us;
    rank_t peer;                /* PEER_UP, PEER_DOWN, MESSAGE */
    uint64_t boot;              /* PEER_UP: the peer's boot, config.life there; never 0 */
    const struct algo_msg *msg; /* MESSAGE: borrowed until step() returns; take a blob_ref to keep vec
                                    * or packed. vec has been checked: NULL or exactly dim finite floats;
                                    * of packed only the size, against the compressor's bound for dim */
    struct {
        uint32_t steps;     /* local steps done, >= 1 */
        double loss;        /* mean training loss over those steps */
        const float *delta; /* (dim), borrowed until step() returns */
    } trained;              /* TRAINED */
};

/* -- actions ----------------------------------------------------------------------------------- */

enum algo_action_kind { ALGO_SEND, ALGO_TRAIN };

struct algo_action {
    enum algo_action_kind kind;
    rank_t to;           /* SEND: a neighbour */
    struct algo_msg msg; /* SEND: holds one reference on vec or packed; bits point into the algorithm
                                    * and stay valid until its next step() */
    bool durable; /* SEND: leaves once the state as it is after this step would survive a crash (state.h),
                                    * where one is kept; messages sent later may overtake it */
    uint32_t max_steps; /* TRAIN */
    const float *x;     /* TRAIN: (dim), where to start; copied by the node before the next step() */
};

/* Whether a peer that knows of this round, view or version may be honest, where ours is `own`. */
static inline bool number_fits(uint64_t number, uint64_t own)
{
    return number <= NUMBER_TOP && (number <= own || number - own <= NUMBER_AHEAD_MAX);
}

/* The caller's list; the caller empties it (releasing the bodies' references) after carrying the actions out. */
struct algo_actions {
    struct algo_action *item;
    size_t count, capacity;
};

/* Append to the list. algo_send returns the new message, zeroed but for `kind`, to be filled in place
 * before the next append; vec and packed take the reference put there. */
struct algo_msg *algo_send(struct algo_actions *acts, rank_t to, uint8_t kind);
void algo_send_durably(struct algo_actions *acts); /* marks the message appended last as durable */
void algo_train(struct algo_actions *acts, const float *x, uint32_t max_steps);
void algo_actions_clear(struct algo_actions *acts); /* drops body references, keeps memory */
void algo_actions_deinit(struct algo_actions *acts);

/* -- an algorithm ------------------------------------------------------------------------------ */

/* One parameter tensor: x[offset .. offset + rows * columns), row-major; rows = 1 for a vector. */
struct tensor {
    size_t offset, rows, columns;
};

struct algo_config {
    rank_t rank;
    uint32_t node_count;
    /* topology over all ranks; borrowed for the algorithm's life. Not for those who take any peers: it has other edges
     * then, or none */
    const struct graph *graph;
    const double *weight; /* (node_count) w_v = D_v / D; borrowed likewise */
    size_t dim;
    const float *x0;      /* (dim) where this node starts; borrowed during create */
    const float *start;   /* (dim) the common start of nodes that have not trained yet, where x0 is another
                                    * model (fetched, or kept from a former life); NULL = x0 is it. Borrowed likewise */
    uint64_t seed;        /* of the experiment; split it with your own labels and the rank */
    uint64_t patience_us; /* how long an absent peer or answer is waited for before it counts as
                                    * gone; links have their own, shorter, silence limit */
    const struct choice *compress; /* of compress_table; NULL = none; borrowed during create; always NULL for
                                    * a type that does not compress */
    const struct tensor *tensor;   /* (tensor_count) how the vector is made of matrices; borrowed for life;
                                    * NULL = one vector */
    uint32_t tensor_count;
    const uint32_t *site;      /* (node_count) where each rank belongs, as told by tags or by what the nodes'
                                    * data hold; NULL = not told; borrowed for life */
    bool rejoining;            /* this node starts afresh in a cluster that may be training already */
    uint64_t life;             /* what neighbours hear of it as boot: names this holding of the place */
    uint64_t steps;            /* local steps that x0 has behind it */
    const struct trace *trace; /* may be NULL; borrowed for life */
};

/* What a node tells about its algorithm; counters only grow. */
struct algo_report {
    uint64_t steps;             /* local steps folded into the model */
    uint64_t steps_handed_over; /* of these, known to have been passed on to others */
    uint64_t model_transfers;   /* vectors sent */
    uint64_t mixes;             /* times another node's model changed ours */
    uint64_t tokens_regenerated;
    uint64_t rebases;
    uint64_t duplicates_dropped; /* fenced or repeated messages */
    uint64_t exchanges_torn;     /* exchanges that only one side may have applied */
    uint64_t version;            /* grows with each newer model seen; compares nodes where EVAL_NEWEST */
    uint64_t rounds;             /* rounds, averages or updates this node has taken part in */
    uint64_t left_out;           /* members that rounds of ours went on without */
    uint64_t terms;              /* changes of a role: elections, views */
    uint64_t delay_sum;          /* updates between assignment and arrival, over all gradients applied here */
    uint64_t delay_max;
    uint64_t bytes_across;  /* H-SGD: of bodies sent to nodes of other groups of level 1 */
    double divergence_up;   /* H-SGD: this node's share of sum_i n_i/n ||mean_i - mean||^2, last measured */
    double divergence_down; /* ... and of 1/n sum_j ||x_j - mean_i||^2 */
};

/* Adds a node's report to a sum over nodes: counters add up, version and delay_max are the greatest. */
void algo_report_add(struct algo_report *sum, const struct algo_report *r);

enum algo_eval {
    ALGO_EVAL_AVERAGE, /* the result of a run is the weighted average of the nodes' models */
    ALGO_EVAL_NEWEST,  /* the result is the model of the node with the highest version (a walking model) */
};

enum algo_links {
    ALGO_LINKS_ANY, /* any connected topology */
    ALGO_LINKS_ALL, /* any two nodes may have to speak: --topology complete */
};

/* What a compressor must be for a type that compresses, beside contracting (compressor_omega > 0). */
enum algo_support {
    ALGO_SUPPORT_ANY,    /* each message may keep positions of its own */
    ALGO_SUPPORT_SHARED, /* sums of messages travel: all nodes keep the same ones (compressor_is_shared) */
};

struct algo; /* opaque; each type begins its own struct with whatever it likes */
struct state_writer;
struct state_reader;

struct algo_type {
    struct choice_spec spec; /* name, help, source, parameters */
    enum algo_eval eval;
    enum algo_links links;
    /* NULL = never. Whether it takes whoever is presented for a neighbour, any place at any time, and holds nothing
     * of others: --topology overlay, and fixed topologies heal around vacant places (topology/living.h). */
    bool (*any_peers)(const struct choice *params);
    bool own_start;  /* nodes may start from different models; others need a common one */
    bool packs;      /* sends packed bodies */
    bool compresses; /* heeds config.compress; packs then */
    enum algo_support support;
    double omega_min; /* least compressor_omega for the model; 0 = any above zero */
    bool by_tensor;   /* packs each of config.tensor by itself, so that compressors of matrices fit too */
    /* Called through algo_create. Returns an owned algorithm in *out, or ERR_USAGE with why when the parameters
     * do not fit the topology, the number of nodes, ... */
    int (*create)(const struct algo_config *config, const struct choice *params, struct algo **out,
                  struct err_text *why);
    void (*destroy)(struct algo *a); /* takes a; NULL is allowed */
    /* Runs to completion. Appends to acts (never reads it). Returns 0, or ERR_PROTO when event->peer
     * broke the protocol: nothing was changed by that message and the node closes the link. */
    int (*step)(struct algo *a, const struct algo_event *event, struct algo_actions *acts);
    uint64_t (*deadline_us)(
        const struct algo *a); /* when DEADLINE is wanted next; TIME_NEVER. Ask after each step */
    const float *(*model)(const struct algo *a); /* (dim) x, borrowed until the next step() */
    void (*report)(const struct algo *a, struct algo_report *out);
    /* What a node keeps for its next life beside the model (state.h): called through algo_state_save, which may be
     * between any two steps, and algo_state_restore, before START. Both NULL = nothing. save puts nothing when there
     * is nothing to keep. restore: ERR_FORMAT with why, then nothing has changed. */
    uint32_t state_version;
    void (*state_save)(const struct algo *a, struct state_writer *out);
    int (*state_restore)(struct algo *a, struct state_reader *in, struct err_text *why);
};

/* -- what fits --------------------------------------------------------------------------------- */

bool algo_takes_any_peers(const struct algo_type *type, const struct choice *params);

/* May the type be used with this topology, with this compressor (NULL = none)? 0 or ERR_USAGE with a line that
 * names the option and what would fit; why may be NULL. dim 0 = not known: then not whether it contracts, and
 * omega_min is judged for a vector of 100 entries. */
int algo_fit_topology(const struct algo_type *type, const struct choice *params,
                      const struct choice_spec *topology, struct err_text *why);
int algo_fit_compress(const struct algo_type *type, const struct choice *compress, size_t dim,
                      struct err_text *why);

/* type->create, after what config says was found to fit. Errors: ERR_USAGE with why. */
int algo_create(const struct algo_type *type, const struct algo_config *config, const struct choice *params,
                struct algo **out, struct err_text *why);

/* -- registry ---------------------------------------------------------------------------------- */

/* name -> algorithm. To add one: one file with its struct algo_type, one line in registry.c. */
extern const struct algo_type *const algo_types[];
extern const size_t algo_type_count;

/* Parses `--algorithm` text; *type is static. Errors as choice_parse. */
int algo_choose(const char *text, struct choice *params, const struct algo_type **type, struct err_text *why);

#endif

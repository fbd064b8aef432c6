/* A whole cluster in one process and in virtual time: nodes (node.h) over the simulated world (net/sim/sim.h).
 * Used by `gadabout sim` and by the tests, which crash, restart, pause and cut what they like in between.
 *
 * Deterministic: a function of the setup and of the calls made. Node v has id v, rank v and address "sim:v".
 *
 * Dynamic: real membership (SWIM) in virtual time. Nodes know only whom to dial, take places, come and go; the setup's
 * times should then be those of a real network: milliseconds of latency, seconds of patience.
 */
#ifndef GADABOUT_AGENT_SIMULATION_SIMULATION_H
#define GADABOUT_AGENT_SIMULATION_SIMULATION_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/node/node.h"
#include "agent/simulation/trace_hash.h"
#include "net/relay/relay.h"
#include "net/sim/sim.h"

struct simulation_setup {
    uint32_t node_count;
    const struct algo_type *algo;
    const struct choice *compress; /* NULL = none; borrowed for life */
    const struct tensor *tensor;   /* (tensor_count) as in algo_config; borrowed for life */
    uint32_t tensor_count;
    const struct choice *algo_params, *topology, *latency, *step_time; /* borrowed for life */
    const struct choice *speeds;                                       /* NULL = equal; borrowed likewise */
    uint64_t seed;
    size_t dim;
    const float *x0;            /* (dim) borrowed for life */
    const double *weight;       /* (node_count) w_v, borrowed for life; NULL = all equal */
    const uint32_t *site;       /* (node_count) see algo_config; NULL = not told; borrowed for life */
    uint64_t steps_max;         /* per node; 0 = none */
    uint64_t patience_us;       /* 0 = 60 times (mean step + mean delay of a message with a body) */
    uint64_t bandwidth_bytes_s; /* 0 = unlimited */
    bool dynamic; /* members are learnt; otherwise all are known from the start and training begins at 0 */
    /* dynamic: nodes from this one on are started by simulation_join; 0 = all start at 0, dialling node (v - 1) / 8 */
    uint32_t start_count;
    uint32_t places;        /* dynamic: places of the experiment; 0 = node_count. weight and site are theirs */
    uint32_t min_nodes;     /* dynamic: 0 = places */
    uint64_t give_bytes_s;  /* dynamic: as node_config.give_bytes_s */
    uint32_t keepers;       /* dynamic: the last so many nodes are keepers (node_config.keeper) */
    uint64_t keep_every_us; /* dynamic: as node_config.keep_every_us */
    bool overlay;           /* dynamic: as node_config.overlay */
    /* dynamic: each node has a relay (net/relay/relay.h) under it, as agents have, which passes on so much for others;
     * 0 = no relays */
    uint64_t relay_bytes_s;
    /* (node_count) whom nobody can dial; NULL = none; borrowed during simulation_new */
    const bool *dial_only;
    const struct membership_config *membership; /* dynamic: NULL = defaults; borrowed for life */
    /* Makes the trainer of node v; called again when v restarts. *out is owned by the simulation. */
    int (*trainer_new)(void *ctx, uint32_t v, struct trainer **out, struct err_text *why);
    void (*on_save)(void *ctx, uint32_t v); /* as node_sink.on_save, of node v; NULL = nothing is kept */
    void *ctx;
    const struct trace *trace;
};

struct simulation;

/* Builds the graph, whose delays are the mean delays of the simulated links, and starts every node. Returns 0
 * and an owned simulation, or ERR_USAGE, ERR_IO, ERR_FORMAT with why (topology, algorithm, trainer). Dynamic:
 * delays of the graph are 1, since places are nobody's for good. */
int simulation_new(const struct simulation_setup *setup, struct simulation **out, struct err_text *why);
void simulation_free(struct simulation *s);

/* Delivers the next event. False: none is left at or before limit_us (now = limit_us), or a node failed. */
bool simulation_step(struct simulation *s, uint64_t limit_us);
void simulation_run(struct simulation *s, uint64_t until_us); /* all events up to then */
uint64_t simulation_now_us(const struct simulation *s);

/* The first failure of a node (node_sink.on_failed), "" when there was none. The run cannot go on then. */
const char *simulation_failure(const struct simulation *s);
bool simulation_finished(const struct simulation *s); /* every living node has done steps_max */

/* -- looking ----------------------------------------------------------------------------------- */

struct sim_world *simulation_world(struct simulation *s); /* borrowed: to cut, pause, reset, heal */
struct node *simulation_node(const struct simulation *s, uint32_t v);           /* NULL while crashed */
struct transport *simulation_transport(const struct simulation *s, uint32_t v); /* likewise; borrowed */
struct relay *simulation_relay(const struct simulation *s,
                               uint32_t v); /* NULL without relays, and while crashed */
const struct graph *simulation_graph(const struct simulation *s);
uint32_t simulation_node_count(const struct simulation *s);
uint64_t simulation_patience_us(const struct simulation *s);

/* Sums over all nodes, what crashed lives had counted included. */
struct simulation_totals {
    struct algo_report algo; /* version: the greatest */
    uint64_t bytes_sent, bytes_received, messages_refused;
    uint32_t alive;
};
void simulation_totals(const struct simulation *s, struct simulation_totals *out);

/* x (dim) = sum of w_v x_v over living nodes / sum of their w_v, in ascending rank, in double precision. */
void simulation_average(const struct simulation *s, float *x);

/* The model that counts as the result: the average, or for ALGO_EVAL_NEWEST the model of the living node with
 * the greatest version (ties: lowest rank). */
void simulation_model(const struct simulation *s, float *x);

/* Root mean square distance of living nodes' models to the weighted average, over the norm of the average. */
double simulation_consensus_distance(const struct simulation *s);

/* -- faults ------------------------------------------------------------------------------------ */

void simulation_crash(struct simulation *s, uint32_t v, bool reset); /* see sim_crash; v must be alive */

/* Starts v again with a new boot, no memory and rejoining = true. Errors as simulation_new. */
int simulation_restart(struct simulation *s, uint32_t v, struct err_text *why);

/* -- trace ------------------------------------------------------------------------------------- */

/* How a node comes in: dynamic mode. */
struct simulation_life {
    node_id id;
    uint32_t seed;        /* the node it dials; its own number = nobody */
    const float *x0;      /* (dim) saved before, borrowed during the call; NULL = the common start */
    struct blob *method;  /* saved with it (node_method_state), borrowed likewise; NULL = none */
    uint64_t steps;       /* that it has behind it */
    uint64_t incarnation; /* greatest one of former lives; 0 = none */
    bool had_place;
    rank_t place;
    uint64_t claimed;
};

/* Starts v, which is not alive, in a new life. Errors as simulation_new. */
int simulation_join(struct simulation *s, uint32_t v, const struct simulation_life *life,
                    struct err_text *why);

/* v tells the others that it leaves; crash it when the words have arrived. */
void simulation_leave(struct simulation *s, uint32_t v);

/* The hash of every delivered event and of every vector folded in by the caller so far. */
void simulation_fold(struct simulation *s, const float *x);
const char *simulation_trace(const struct simulation *s, char out[TRACE_HASH_TEXT]);

#endif

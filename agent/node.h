/* A node: one algorithm, one roster, one trainer, joined to a transport and a host by their interfaces.
 * No libuv, no clock, no file here: this is what the simulator runs.
 *
 * Normal course
 *  - node_start dials the seeds; every link that comes up exchanges member lists (roster.h).
 *  - when the roster holds node_count members, ranks are their positions by id; the topology is computed,
 *    links to neighbours are kept or dialled (the lower rank dials; after a loss both do), the algorithm starts.
 *    Links to others stay too: through them a late or restarted node learns who is there.
 *  - every link then says READY with a fingerprint of the member list; a neighbour is presented to the
 *    algorithm (PEER_UP) when both sides are ready, so no message of an algorithm comes too early.
 *  - events go through algo->step; its actions are encoded (wire.h) and sent, or start the training job.
 * Failure courses
 *  - a link goes down: PEER_DOWN; the transport redials; PEER_UP with the same or a new boot id.
 *  - ERR_FULL: the message waits in a one-place box per peer if it is bulk; a second one closes the link
 *    (the algorithm's own fencing repairs what is lost).
 *  - a head that does not parse, a body of the wrong length or with NaN or infinity, a gap in the sequence:
 *    one log line, a closed link, no change of state.
 *  - a node that restarts (new boot id) takes its old place in the roster.
 *  - a node that is not among the members, or has another list of them: one log line a second, a closed link.
 *  - we are not among the members of the node we asked to join, and no neighbour was ever up: on_failed.
 *  - the trainer's progress is not finite, or every address to join is of another cluster: on_failed; the
 *    node does nothing more.
 */
#ifndef GADABOUT_AGENT_NODE_H
#define GADABOUT_AGENT_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "algo/step.h"
#include "algo/trainer.h"
#include "net/host.h"
#include "net/transport.h"

struct wire_member;

struct node_config {
    node_id id;
    uint32_t node_count; /* members the experiment has; training starts when all are known */
    const struct algo_type *algo;
    const struct choice *algo_params; /* borrowed for life */
    const struct choice *compress;    /* of compress_table; NULL = none; borrowed for life */
    const struct tensor *tensor;      /* (tensor_count) as in algo_config; borrowed for life */
    uint32_t tensor_count;
    const struct choice *topology; /* borrowed for life */
    const double *link_delay;      /* NULL, or mean delays (2 * edge_count) to write into the graph built;
                                      * borrowed for life */
    const struct graph *graph;     /* NULL = build it; else the graph to use, borrowed for life: nodes of one
                                      * simulation share it */
    const struct wire_member
        *members; /* NULL, or members known from the start, ascending by id, the same list
                                        * given to every node (differences alone are passed on); borrowed for life */
    uint32_t member_count;
    uint64_t seed;
    size_t dim;
    const float *x0; /* (dim) borrowed during node_new */
    const uint32_t *site; /* (node_count) algo_config.site; NULL = the members' tags, if all have one;
                           * borrowed for life */
    const char *tag;      /* ours, below TAG_TEXT_MAX bytes; NULL = none. With one, the start waits for all others' */
    uint64_t patience_us;
    bool rejoining;
    uint64_t steps_done; /* local steps of former lives, that x0 has behind it */
    uint64_t steps_max;       /* local steps after which the node stops training (it still mixes); 0 = none */
    uint64_t start_after_us;  /* how long to wait once all members are known; normally 0 */
    const char *const *seeds; /* addresses to dial first; borrowed during node_start */
    size_t seed_count;
    const struct trace *trace;
};

enum node_phase {
    NODE_JOINING, /* the roster is not complete */
    NODE_TRAINING,
    NODE_FINISHED, /* steps_max done, and the round they belong to; still mixing */
};

struct node_report {
    enum node_phase phase;
    rank_t rank; /* RANK_NONE while joining */
    uint32_t members_known;
    uint64_t progress; /* local steps that our model has behind it */
    uint32_t neighbours, neighbours_up;
    double loss;   /* exponential mean of the training loss of recent jobs */
    double weight; /* w_v */
    struct algo_report algo;
    struct transport_totals net;
    uint64_t messages_refused; /* malformed or out of sequence: each closed a link */
};

/* Called when the roster is complete, once the rank is known: the owner must supply the trainer for that
 * rank's shard and the weights of all ranks. Returns 0, or a code that stops the node with why. */
struct node_sink {
    void *ctx;
    int (*on_ranked)(void *ctx, rank_t rank, struct trainer **trainer, double *weight, struct err_text *why);
    void (*on_failed)(void *ctx, const struct err_text *why); /* cannot go on; also from inside node_start */
    void (*on_finished)(void *ctx);                           /* phase became NODE_FINISHED */
};

struct node;

/* Returns an owned node. transport and host are borrowed until node_free; give node_transport_sink and
 * node_host_sink to them first (they may be created after the node). */
struct node *node_new(const struct node_config *config, const struct node_sink *sink);
void node_attach(struct node *n, struct transport *transport, struct host *host);
struct transport_sink node_transport_sink(struct node *n);
struct host_sink node_host_sink(struct node *n);
int node_start(struct node *n, struct err_text *why);
void node_free(struct node *n); /* after the transport closed and no job runs; takes its trainer too */

void node_report(const struct node *n, struct node_report *out);
const float *node_model(const struct node *n);        /* (dim) borrowed; x0 while joining */
const struct graph *node_graph(const struct node *n); /* NULL while joining */
struct algo *node_algo(const struct node *n);         /* for tests */

#endif

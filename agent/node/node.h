/* A node: one algorithm and one trainer at one place of the experiment, joined to a transport and a host by their
 * interfaces. No libuv, no clock, no file here: this is what the simulator runs.
 *
 * Two modes. With `members` all places have their holders from the start and keep them (simulations, most tests).
 * Otherwise the node learns who is there by SWIM (net/membership/membership.h), and members come and go:
 *
 * Normal course
 *  - node_start dials the seeds; members tell each other of all they know.
 *  - nobody trains yet and min_nodes members are known: the experiment is founded; each takes a place (places.h),
 *    the one it had before if nobody living has it, and starts its algorithm.
 *  - others train already: a late comer takes a vacant place, fetches the model from up to three of them
 *    (transfer.h), then starts with rejoining = true. Whoever trains gives the model to those who ask.
 *  - the whole experiment starts again: who has its own steps keeps them; with a method that needs a common start
 *    (not algo_type.own_start) the member with most progress begins, and the others fetch its model.
 *  - a link is used by the algorithm (PEER_UP) once both ends have said READY on it, each naming both places. A node
 *    says it to the undisputed holder of a neighbouring place; which these are: node/neighbours.c.
 *  - events go through algo->step; its actions are encoded (wire.h) and sent, or start the training job.
 *  - a keeper takes no place and never trains: it fetches the model now and then and gives it (node/keep.c). A founding
 *    that knows one with more steps than the founders have begins with its model.
 *  - links that nobody needs are closed after a while by the side that dialled them (node/contacts.c).
 * Failure courses
 *  - a link goes down: PEER_DOWN; it is dialled again; PEER_UP with the same or a new boot id.
 *  - a neighbour is declared dead, or another takes its place: its link is closed, so PEER_DOWN as well.
 *  - somebody has claimed our place earlier (two halves have met): the running job is waited for, the algorithm is
 *    destroyed, its model kept, and another place looked for.
 *  - all places are held: the node waits for one.
 *  - ERR_FULL: the message waits in a one-place box per peer if it is bulk; a second one closes the link
 *    (the algorithm's own fencing repairs what is lost). Membership's own messages are dropped instead.
 *  - a head that does not parse, a body of the wrong length or with NaN or infinity, a gap in the sequence:
 *    one log line, a closed link, no change of state.
 *  - a node that is not among the given members: one log line a second, a closed link.
 *  - the trainer's progress is not finite, or every address to join is of another cluster: on_failed; the
 *    node does nothing more.
 */
#ifndef GADABOUT_AGENT_NODE_NODE_H
#define GADABOUT_AGENT_NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "algo/step.h"
#include "algo/trainer.h"
#include "net/host.h"
#include "net/membership/membership.h"
#include "net/transport.h"

#define STATE_CHUNK_SIZE (1024u * 1024u) /* bytes of a chunk of the model: a transport admits it as a body */
#define NODE_WAIT_MAX 128u
#define NODE_SEEK_MAX 16u

struct node_config {
    node_id id;
    uint32_t node_count; /* places that the experiment has */
    uint32_t min_nodes;  /* members that must be known for it to be founded; 0 = node_count */
    uint64_t boot; /* as in the transport's hello: microseconds since 1970 times BOOT_UNITS_PER_US, or so */
    uint64_t incarnation; /* greatest one used in a former life; 0 = none */
    const char *address;  /* where peers may dial us; NULL = what they see. Borrowed during node_new */
    bool had_place;       /* in a former life, or it is meant for us: */
    rank_t place;
    uint64_t claimed;       /* when it was claimed, in boot units; 0 = not yet */
    uint64_t steps_done;    /* local steps of former lives, that x0 has behind it */
    uint64_t samples;       /* told to the others as META_SAMPLES */
    bool keeper;            /* no place, no training: holds the model for the others; without `members` */
    uint64_t keep_every_us; /* keeper: between two fetches of the model; 0 = 30 s */
    uint64_t listen_us;     /* how long a founder without steps listens for a keeper; 0 = there is none */
    /* the members of the active view (net/overlay/overlay.h) are the neighbours: for methods that take any
     * peers */
    bool overlay;
    /* times and numbers; NULL = the defaults; borrowed during node_new */
    const struct membership_config *membership;
    const struct algo_type *algo;
    const struct choice *algo_params; /* borrowed for life */
    const struct choice *compress;    /* of compress_table; NULL = none; borrowed for life */
    const struct tensor *tensor;      /* (tensor_count) as in algo_config; borrowed for life */
    uint32_t tensor_count;
    const struct choice *topology; /* borrowed for life */
    /* NULL, or mean delays (2 * edge_count) to write into the graph built; borrowed for life */
    const double *link_delay;
    /* NULL = build it; else the graph to use, borrowed for life: nodes of one simulation share it */
    const struct graph *graph;
    /* NULL, or node_count members ascending by id: the holders of all places, the same for every node; no
     * membership then; borrowed for life */
    const struct member *members;
    uint64_t seed;
    size_t dim;
    const float *x0; /* (dim) borrowed during node_new */
    /* (dim) the experiment's common start, which x0 may have left; NULL = x0; borrowed for life */
    const float *start;
    /* (node_count) algo_config.site; NULL = the members' tags, if all have one; borrowed for life */
    const uint32_t *site;
    /* ours, below TAG_TEXT_MAX bytes; NULL = none. With one, the start waits for those of all places.
     * Borrowed during node_new */
    const char *tag;
    uint64_t patience_us;
    bool rejoining;           /* with `members` */
    uint64_t steps_max;       /* local steps after which the node stops training (it still mixes); 0 = none */
    uint64_t start_after_us;  /* how long to wait once the experiment could begin; normally 0 */
    const char *const *seeds; /* addresses to dial first; borrowed during node_start */
    size_t seed_count;
    /* Of algo_state_save in a former life, for the first algorithm; NULL = none. node_new takes a reference */
    struct blob *method;
    uint64_t give_bytes_s; /* of the model, to all newcomers together; 0 = no cap */
    const struct trace *trace;
};

enum node_phase {
    NODE_JOINING,  /* no place yet, or the experiment is not founded */
    NODE_FETCHING, /* the model is on its way */
    NODE_TRAINING,
    NODE_FINISHED, /* steps_max done, and the round they belong to; still mixing */
    NODE_KEEPING,  /* a keeper, always */
};

struct node_report {
    enum node_phase phase;
    rank_t rank;  /* RANK_NONE until training begins */
    rank_t place; /* claimed; RANK_NONE */
    uint64_t claimed;
    uint64_t incarnation;   /* of our own record in membership; 0 = none */
    uint32_t members_known; /* living ones, ourselves among them */
    uint32_t members_wanted;
    uint64_t progress;                         /* local steps that our model has behind it */
    uint64_t fetch_chunks, fetch_chunks_total; /* FETCHING */
    uint32_t fetch_donors;
    uint64_t bytes_given; /* of the model, to newcomers */
    uint32_t neighbours;  /* those that could be up: of a method that takes any peers, the living ones */
    uint32_t neighbours_up;
    double loss;   /* exponential mean of the training loss of recent jobs */
    double weight; /* w_v */
    struct algo_report algo;
    struct transport_totals net;
    uint64_t messages_refused; /* malformed or out of sequence: each closed a link */
};

struct node_sink {
    void *ctx;
    /* Called when the algorithm is about to start at place `rank`: the owner must supply the trainer for that
     * rank's shard and the weights of all ranks. Again when the node has lost that place and found another; the
     * former trainer has been freed then. Returns 0, or a code that stops the node with why. */
    int (*on_ranked)(void *ctx, rank_t rank, struct trainer **trainer, double *weight, struct err_text *why);
    /* May be NULL: always. Whether on_ranked could supply all that for this place at once. If not, the owner sees to
     * it without holding up its caller, and calls node_ready when it is so; the node is a member meanwhile. */
    bool (*is_ready)(void *ctx, rank_t rank);
    void (*on_failed)(void *ctx, const struct err_text *why); /* cannot go on; also from inside node_start */
    void (*on_finished)(void *ctx);                           /* phase became NODE_FINISHED */
    /* May be NULL. No job runs, and the progress of the last one is in the model: model, method and trainer are of one
     * moment. Before each job; nothing of the node may be called but what looks at it. */
    void (*on_still)(void *ctx);
    /* NULL = nothing is kept: durable messages (algo_action) leave at once. Else one waits for a save that begins from
     * now on, see node_saving. From within callbacks: only note it. */
    void (*on_save)(void *ctx);
    /* May be NULL. A member is new, or its record changed (MEMBERSHIP_CHANGED): before and confirmations as there.
     * m is borrowed. */
    void (*on_member)(void *ctx, const struct member *m, bool is_new, enum member_state before,
                      uint32_t confirmations);
};

struct node;

/* Returns an owned node. transport and host are borrowed until node_free; give node_transport_sink and
 * node_host_sink to them first (they may be created after the node). */
struct node *node_new(const struct node_config *config, const struct node_sink *sink);
void node_attach(struct node *n, struct transport *transport, struct host *host);
struct transport_sink node_transport_sink(struct node *n);
struct host_sink node_host_sink(struct node *n);
int node_start(struct node *n, struct err_text *why);

/* Somebody may be there: dialled until node_unseek, beside the members whom the node looks for itself. With
 * membership only, between node_start and the end, and not from within a callback of the node's. At most
 * NODE_SEEK_MAX at once (checked). */
void node_seek(struct node *n, const char *address);
void node_unseek(struct node *n, const char *address);

/* The answer of is_ready may have changed. Not from within a callback of the node's. */
void node_ready(struct node *n);

/* Tells everybody linked that we leave. The words are queued: close the transport, which flushes, at once; the
 * simulated one after a while. Nothing but leaving is done from here on. */
void node_leave(struct node *n);

/* No further training job begins. True while one runs: the host still tells of its end, and its steps count. */
bool node_train_end(struct node *n);
void node_free(struct node *n); /* after the transport closed and no job runs; takes its trainer too */

const char *node_phase_name(enum node_phase phase); /* in one word */
void node_report(const struct node *n, struct node_report *out);
const float *node_model(const struct node *n);                  /* (dim) borrowed; x0 while joining */
const struct graph *node_graph(const struct node *n);           /* NULL until training begins */
struct algo *node_algo(const struct node *n);                   /* for tests */
const struct membership *node_membership(const struct node *n); /* borrowed; NULL with given members */
bool node_overlay_has(const struct node *n, node_id id);        /* in the active view */

/* What the algorithm keeps beside the model (algo/state.h), of the same moment as node_model; last: it will do nothing
 * more. Returns owned; NULL = nothing. While there is no algorithm: what node_config.method gave, or the former place
 * left. */
struct blob *node_method_state(const struct node *n, bool last);

/* True while a job is with the host. When it is not, model, method and trainer are of one moment. */
bool node_job_runs(const struct node *n);

/* A save begins with model and method as they are now: returns its mark. When it is durable, node_saved lets those
 * messages go that waited for it; a save that failed is not told, the next one serves. */
uint64_t node_saving(const struct node *n);
void node_saved(struct node *n, uint64_t mark);

/* Where another process is that uses our id, as peers say; "" = that is not known. NULL = none was heard of in the
 * last two minutes. Borrowed until the next event. */
const char *node_rival_at(const struct node *n);

/* What the node waits for, in words, as in "waiting for members: 2 of 3 known"; "" when for nothing. */
const char *node_waits_for(const struct node *n, char out[NODE_WAIT_MAX]);

#endif

/* Shared by the files of the lying network: fuzz_nodes.c (nodes, links, what happens) and fuzz_nodes_transport.c (what
 * the nodes see of it). */
#ifndef GADABOUT_TESTS_FUZZ_FUZZ_NODES_INTERNAL_H
#define GADABOUT_TESTS_FUZZ_FUZZ_NODES_INTERNAL_H

#include "agent/node/node.h"
#include "algo/topology/topology.h"
#include "base/prng.h"
#include "tests/fuzz/fuzz_nodes.h"

enum { DIM = 24, QUEUE_MAX = 24, WANTED_MAX = 64, SECOND_US = 1000000 };

struct parcel {
    enum lane lane;
    struct blob *head, *body; /* owned */
};

/* What is under way from one node to another. */
struct pipe {
    struct parcel parcel[QUEUE_MAX];
    uint32_t count;
    bool full; /* the sender waits for on_writable */
};

/* The link between two nodes, as both ends see it. */
struct pair {
    bool up, ending;
    uint32_t generation, dialler, ended_by;
    enum down_reason why;
};

struct life {
    struct transport transport; /* first */
    struct host host;
    struct net *net;
    uint32_t number;
    struct node *node;
    uint64_t boot, deadline_us, steps, lives;
    struct job *job;
    char wanted[WANTED_MAX][ADDRESS_TEXT_MAX];
    uint32_t wanted_count;
};

struct net {
    const struct fuzz_nodes_plan *plan;
    struct fuzz_nodes_tally *tally;
    struct prng prng;
    uint64_t now_us;
    bool evil;
    const struct algo_type *algo;
    struct choice algo_params, topology;
    float x0[DIM];
    struct life life[FUZZ_CLUSTER_MAX];
    struct pair pair[FUZZ_CLUSTER_MAX][FUZZ_CLUSTER_MAX]; /* [smaller][greater] */
    struct pipe pipe[FUZZ_CLUSTER_MAX][FUZZ_CLUSTER_MAX]; /* from, to */
};

static inline struct pair *pair_of(struct net *w, uint32_t a, uint32_t b)
{
    return a < b ? &w->pair[a][b] : &w->pair[b][a];
}

extern const struct transport_ops fuzz_transport_ops; /* of life.transport */
extern const struct host_ops fuzz_host_ops;           /* of life.host */
void fuzz_undial(struct transport *t, const char *address);

#endif

/* A cluster of real nodes (agent/node/node.c) in virtual time, joined by a network in memory that lies: what membership,
 * overlay, transfer and READY say is changed on its way, or said by nobody; links break, nodes start again, time
 * jumps, addresses are of nobody or of ourselves, queues are full. Then the network is honest again. */
#ifndef GADABOUT_TESTS_FUZZ_FUZZ_NODES_H
#define GADABOUT_TESTS_FUZZ_FUZZ_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define FUZZ_CLUSTER_MAX 6u
#define FUZZ_GHOSTS 40u /* ids that lies invent */

struct fuzz_nodes_plan {
    const char *algorithm, *topology; /* as on the command line */
    uint32_t nodes, min_nodes;        /* as many places as nodes */
    uint64_t seed;
    uint32_t evil_events;
    uint64_t honest_us; /* afterwards */
};

struct fuzz_nodes_tally {
    uint64_t delivered, lies, refused, restarts, trained;
    uint32_t members_most; /* that any node knew */
};

/* Runs the plan. Returns 0, or ERR_PROTO with why: after the honest time some node does not take all others for
 * ALIVE, or does not train. Checks of the nodes and sanitizers watch beside it. */
int fuzz_nodes_run(const struct fuzz_nodes_plan *plan, struct fuzz_nodes_tally *tally, struct err_text *why);

#endif

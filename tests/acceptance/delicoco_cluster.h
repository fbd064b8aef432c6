/* A cluster of real nodes in the simulated world, round by round: a local step takes a second, a message a
 * millisecond, so that between two seconds everybody has trained and mixed exactly once. */
#ifndef GADABOUT_TESTS_ACCEPTANCE_DELICOCO_CLUSTER_H
#define GADABOUT_TESTS_ACCEPTANCE_DELICOCO_CLUSTER_H

#include "agent/simulation/simulation.h"

struct cluster_setup {
    const char *algorithm, *compress, *topology; /* as the options; compress may be NULL */
    uint32_t nodes;
    size_t dim;
    const float *x0; /* (dim) common start, borrowed for life; NULL = 0 */
    uint64_t seed;
    uint32_t gossip; /* gossip steps of a round */
    /* Makes node v's trainer. */
    int (*trainer_new)(void *ctx, uint32_t v, struct trainer **out, struct err_text *why);
    void *ctx;
};

struct cluster;

/* Aborts with the reason when the setup does not fit. Returns owned. */
struct cluster *cluster_new(const struct cluster_setup *setup);
void cluster_free(struct cluster *c);

/* Runs until every node has ended round `round` (counted from 1) and has not ended the next. */
void cluster_run(struct cluster *c, uint32_t round);

struct simulation *cluster_simulation(struct cluster *c); /* borrowed */
const float *cluster_average(struct cluster *c); /* (dim) of the models; borrowed until the next call */

/* -- training on a problem --------------------------------------------------------------------- */

struct problem;

/* Node v descends on rows [v * (rows / nodes), ...) of the problem; the last one takes the remainder. */
struct descent {
    const struct problem *problem;
    uint32_t nodes;
    double step; /* eta */
};
int descent_trainer_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why); /* ctx: descent */

/* -- averaging alone ---------------------------------------------------------------------------- */

/* The first step takes node v to row v of `start` (nodes, dim), the others change nothing. */
struct averaging {
    const float *start;
    size_t dim;
};
int averaging_trainer_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why);

#endif

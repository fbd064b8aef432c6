/* Clusters of DIGEST nodes whose trainers count: one local step of node v adds 1 to coordinate v, so that
 * coordinate v of a token divided by w_v tells how many of v's steps it holds. Weights are such that sums of
 * them times whole numbers are exact in float32. */
#ifndef GADABOUT_TESTS_UNIT_DIGEST_FIXTURE_H
#define GADABOUT_TESTS_UNIT_DIGEST_FIXTURE_H

#include "algo/digest/internal.h"
#include "tests/unit/algo_harness.h"

enum { SECOND = 1000000, PATIENCE = SECOND / 2 };

extern const struct algo_type digest_type;

struct cluster {
    struct graph graph;
    struct harness *h;
    uint32_t n;
    double *weight;
};

/* compress: as --compress; NULL = none. */
void cluster_open(struct cluster *c, const char *topology, uint32_t n, const char *params,
                  const char *compress, uint64_t seed);
void cluster_close(struct cluster *c);
struct digest *cluster_node(const struct cluster *c, rank_t v);

/* How many coordinates of v's model (of all living models) and of the tokens as they left differ from the truth
 * by more than tolerance * (1 + truth). */
unsigned cluster_mistakes_at(const struct cluster *c, rank_t v, double tolerance);
unsigned cluster_mistakes(const struct cluster *c);

/* Greatest |r - q[s]|: what nodes keep back or have not told yet. */
double cluster_residual(const struct cluster *c);
uint64_t cluster_regenerated(const struct cluster *c);

/* Trains for a while, then lets the tours run until all news is everywhere. */
void cluster_settle(struct cluster *c, uint64_t train_us, uint64_t settle_us);

/* Runs until a token is on its way; returns its sender and in *to its receiver. */
rank_t cluster_catch_in_flight(struct cluster *c, rank_t *to);

#endif

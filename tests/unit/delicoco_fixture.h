/* What the tests of delicoco share: harnesses with a wide model, trainers, the agreement of the copies, the
 * spread of models and copies. */
#ifndef GADABOUT_TESTS_UNIT_DELICOCO_FIXTURE_H
#define GADABOUT_TESTS_UNIT_DELICOCO_FIXTURE_H

#include "algo/delicoco/internal.h"
#include "base/prng.h"
#include "tests/unit/gossip_fixture.h"

extern const struct algo_type delicoco_type;
extern const struct algo_type choco_type;
extern const struct algo_type dgd_type;

enum { DIM = 40 };

extern const char *const compressors[];
extern const size_t compressor_count;

struct delicoco *state_of(const struct harness *h, rank_t r);

/* A harness with DIM parameters that start at 0, 1/8, 2/8, ...; compress may be NULL. Returns owned. */
struct harness *wide(const struct algo_type *type, const char *params, const char *compress,
                     const struct graph *g, uint64_t seed);

/* Trainers; ctx is a struct prng[2 * NODE_MAX] from seed_all. Every node walks at random, each its own way: all
 * coordinates move and the models differ. Or it moves once, then does nothing: what is left is averaging alone. */
uint32_t train_randomly(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta);
uint32_t train_once(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta);
void seed_all(struct prng random[2 * NODE_MAX], uint64_t seed);

/* A hook: after every event of a node, are its copies of the neighbours what these hold, bit for bit? */
struct agreement {
    uint32_t compared, unequal;
    bool plant;       /* rank 0 adds its original, not what the others decode */
    uint64_t planted; /* version at which that was done last */
};
void check_agreement(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e);

/* sum over nodes of ||x - mean||^2 + ||x - copy||^2; *moved is how far the mean is from `mean`, which becomes it. */
double spread(const struct harness *h, uint32_t n, double mean[DIM], double *moved);

#endif

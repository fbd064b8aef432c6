/* A small algorithm over the all-reduce for its tests: train `every` steps, sum everybody's progress, add it
 * to x. With the harness's counting trainer coordinate r of x counts the steps of rank r that are in x. */
#ifndef GADABOUT_TESTS_UNIT_ALLREDUCE_FIXTURE_H
#define GADABOUT_TESTS_UNIT_ALLREDUCE_FIXTURE_H

#include "algo/allreduce/allreduce.h"
#include "tests/unit/algo_harness.h"

enum counter_bug {
    BUG_NONE,
    BUG_TWICE,   /* after a copy the own progress counts as not in it, always */
    BUG_RESTAMP, /* sums of old views pass for those of the present one */
};

extern const struct algo_type counter_type; /* counter:every=,groups=,chunk=,bug= */

enum { COUNTER_NODES_MAX = 16, KIND_FIRST = 10 };
enum { KIND_DATA = KIND_FIRST, KIND_STATUS, KIND_STATE, KIND_ASK };

struct counter {
    struct allreduce *ring;
    float *x, *pending; /* (dim) */
    size_t dim;
    uint32_t every;
    enum counter_bug bug;
    uint64_t view[2]; /* the latest seen, for BUG_RESTAMP */
    uint64_t sums, copies;
};

const struct counter *counter_at(const struct harness *h, rank_t r);
struct allreduce_counts counts_at(const struct harness *h, rank_t r);

struct verdict {
    bool agree;      /* the living that are as many rounds on have the same x */
    bool level;      /* all living are as many rounds on */
    bool honest;     /* no coordinate counts more steps than its rank has done (over all its lives) */
    uint64_t rounds; /* the least of the living */
};

/* With x0 = 0 and patience PATIENCE; dim <= 256. Returns owned. */
struct harness *ring_make(const char *text, const struct graph *g, size_t dim, uint64_t seed);
uint64_t round_at(const struct harness *h, rank_t r);
struct verdict judge(const struct harness *h, uint32_t n, size_t dim);

/* Lets what is under way end: nobody trains on, but not for so long that somebody counts as silent. */
void settle(struct harness *h);

/* All that rank r has done is in rank 0's x, but for the step that waits for its round. */
bool is_complete(const struct harness *h, rank_t r);

#endif

/* Clusters in virtual time (algo_harness.h) whose steps can be counted: every step of node v adds the same vector, so
 * that a model tells how many of v's steps it holds. One course for each method that keeps something over a restart. */
#ifndef GADABOUT_TESTS_UNIT_METHOD_STATE_FIXTURE_H
#define GADABOUT_TESTS_UNIT_METHOD_STATE_FIXTURE_H

#include <string.h>

#include "algo/state.h"
#include "algo/topology/topology.h"
#include "base/check.h"
#include "tests/unit/algo_harness.h"

extern const struct algo_type def_type, def_a_type, ef_sgd_type, step_ahead_type, ef21_type, allreduce_type;
extern const struct algo_type local_type, digest_type, async_type, choco_type, delicoco_type, gossip_type;
extern const struct algo_type walk_type, hsgd_type, dgd_type;

enum {
    NODES = 4,
    DIM = 16,
    SECOND = 1000000,
    PATIENCE = 2 * SECOND,
    PAUSE = SECOND / 3,
    VICTIM = 1,
    KILLS = 3,
    DRAIN_S = 8
};

struct cluster {
    struct graph graph;
    struct harness *h;
    bool drift;
    bool pending[NODES];    /* a step with progress is being done */
    uint64_t asked[NODES];  /* steps asked for and not lost with a life */
    uint64_t learnt[NODES]; /* such steps that got into the algorithm, over all lives */
};

static inline float progress_of(rank_t v, int i)
{
    return (float)(1 + (i * 7 + (int)v * 3) % 5) / 16.0f;
}

/* The step before has been taken in when the next one is asked for. */
static inline uint32_t train(void *ctx, rank_t v, const float *x, uint32_t max_steps, float *delta)
{
    struct cluster *c = ctx;
    (void)x;
    (void)max_steps;
    c->learnt[v] += c->pending[v];
    c->pending[v] = c->drift;
    c->asked[v]++;
    for (int i = 0; c->drift && i < DIM; i++) delta[i] = progress_of(v, i);
    return 1;
}

/* When nothing of the victim's is with nobody. */
enum moment {
    ANY,    /* whatever it is at */
    RESTED, /* nobody has trained for a while, and each step of mixing is over on both sides */
    HANDED, /* no message is on its way, and all its steps are with others */
    AGREED, /* a round is just over: somebody has the same model */
    AWAY,   /* its token is with another */
};

enum judged {
    EACH,          /* each model */
    MEAN,          /* their mean: they come together slowly */
    MEAN_AND_KEPT, /* ... and what is kept back for the sum: it never ends */
    WALKING,       /* the one that walks, and what was kept back where it went by */
};

struct course {
    const struct algo_type *type;
    const char *params, *compress, *topology;
    double share; /* of a step of each node in the models */
    bool plant;   /* a lost state shows */
    enum judged judged;
    enum moment moment;
};

static inline void cluster_open(struct cluster *c, const struct course *k, uint64_t seed)
{
    static const float origin[DIM];
    struct choice topology;
    *c = (struct cluster){.drift = true};
    CHECK(choice_parse(topology_table, topology_table_count, "", k->topology, &topology, NULL) == 0);
    CHECK(topology_build(&topology, NODES, 3, &c->graph, NULL) == 0);
    c->h = harness_new(k->type, k->params, &c->graph, NULL, DIM, origin, seed, PATIENCE);
    if (k->compress != NULL) harness_set_compress(c->h, k->compress);
    harness_set_trainer(c->h, train, c);
    harness_stop_training(c->h); /* as a node does until its links are there */
    harness_run_until(c->h, PAUSE);
    harness_resume_training(c->h);
}

static inline void cluster_close(struct cluster *c)
{
    harness_free(c->h);
    graph_deinit(&c->graph);
}

static const struct course courses[] = {
    {&def_type, "def", "block:fraction=0.25", "complete", 1.0 / NODES, true, EACH, ANY},
    {&def_type, "def:every=3,lam=0", "randk:fraction=0.2", "complete", 1.0 / NODES, true, EACH, ANY},
    {&def_a_type, "def-a", "randk:fraction=0.2", "complete", 1.0 / NODES, true, EACH, ANY},
    {&ef_sgd_type, "ef-sgd", "bernoulli:p=0.3", "complete", 1.0 / NODES, true, EACH, ANY},
    {&step_ahead_type, "step-ahead", "block:fraction=0.25", "complete", 1.0 / NODES, true, EACH, ANY},
    {&allreduce_type, "allreduce:every=7", NULL, "complete", 1.0 / NODES, true, EACH, ANY},
    {&local_type, "local:every=3", "int8:block=16", "ring", 1.0 / NODES, true, MEAN_AND_KEPT, AGREED},
    {&digest_type, "digest:streams=single,sync_every=5", "topk:fraction=0.2", "ring", 1.0 / NODES, true, EACH,
     AWAY},
    {&digest_type, "digest:streams=single,sync_every=5", NULL, "ring", 1.0 / NODES, true, EACH, AWAY},
    {&async_type, "async", "topk:fraction=0.2", "complete", 1.0, true, EACH, HANDED},
    {&walk_type, "walk:steps=3", "int8:block=16", "complete", 1.0, true, WALKING, AWAY},
    {&choco_type, "choco", "topk:fraction=0.3", "ring", 1.0 / NODES, false, MEAN, RESTED},
    {&delicoco_type, "delicoco", "topk:fraction=0.3", "ring", 1.0 / NODES, false, MEAN, RESTED},
    {&gossip_type, "gossip:mode=sync", "topk:fraction=0.3", "ring", 1.0 / NODES, false, MEAN, RESTED},
};

#define COURSES (sizeof courses / sizeof courses[0])

#endif

/* Goal: what a method keeps over a restart (algo/state.h) is all that it owes: what was sent and what was kept back are
 * together what was produced, across save, crash, restart and going on, for every method that compresses. And a state
 * that is not whole, or not of this method, changes nothing.
 * Method: clusters in virtual time (algo_harness.h). Every step of node v adds the same vector, so that a model tells
 * how many of v's steps it holds. A node is killed again and again, at moments at which its method has nothing on the
 * way, and comes back from what it saved. Then nobody learns any more, the residuals drain, and the models must hold
 * every step once. Planted: a restart that loses the state; a residual that counts although it was sent. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/def/internal.h"
#include "algo/delicoco/internal.h"
#include "algo/digest/internal.h"
#include "algo/gossip/internal.h"
#include "algo/state.h"
#include "algo/walk/internal.h"
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

/* -- a cluster whose steps can be counted ------------------------------------------------------ */

struct cluster {
    struct graph graph;
    struct harness *h;
    bool drift;
    bool pending[NODES];    /* a step with progress is being done */
    uint64_t asked[NODES];  /* steps asked for and not lost with a life */
    uint64_t learnt[NODES]; /* such steps that got into the algorithm, over all lives */
};

static float progress_of(rank_t v, int i)
{
    return (float)(1 + (i * 7 + (int)v * 3) % 5) / 16.0f;
}

/* The step before has been taken in when the next one is asked for. */
static uint32_t train(void *ctx, rank_t v, const float *x, uint32_t max_steps, float *delta)
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

static void cluster_open(struct cluster *c, const struct course *k, uint64_t seed)
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

static void cluster_close(struct cluster *c)
{
    harness_free(c->h);
    graph_deinit(&c->graph);
}

static bool agreed(const struct cluster *c)
{
    const float *x = harness_model(c->h, VICTIM);
    for (rank_t v = 0; v < NODES; v++)
        if (v != VICTIM && memcmp(harness_model(c->h, v), x, DIM * sizeof *x) == 0) return true;
    return false;
}

static bool is_here(const struct algo *a, const struct algo_type *type)
{
    if (type == &walk_type) return ((const struct walk *)a)->walk[0].custody.place != CUSTODY_AWAY;
    return ((const struct digest *)a)->own[0].custody.place != CUSTODY_AWAY;
}

static bool may_die(const struct cluster *c, enum moment moment, const struct algo_type *type)
{
    struct algo_report r;
    harness_report(c->h, VICTIM, &r);
    switch (moment) {
    case ANY:
        return true;
    case RESTED:
        return true;
    case AWAY:
        return !is_here(harness_algo(c->h, VICTIM), type);
    case HANDED:
        return harness_in_flight(c->h) == 0 && r.steps == r.steps_handed_over;
    case AGREED:
        return agreed(c);
    }
    UNREACHABLE();
}

/* The step of mixing or the round that v works on. */
static uint64_t step_of(const struct cluster *c, const struct course *k, rank_t v)
{
    const struct algo *a = harness_algo(c->h, v);
    if (k->type == &gossip_type) return ((const struct gossip *)a)->rounds.round;
    return ((const struct delicoco *)a)->step;
}

static bool in_step(const struct cluster *c, const struct course *k)
{
    bool even = true;
    for (rank_t v = 1; v < NODES; v++) even = even && step_of(c, k, v) == step_of(c, k, 0);
    return even;
}

/* Stops training at the moment that suits the method, and waits until what is on its way has come where it must. */
static void come_to_rest(struct cluster *c, const struct course *k)
{
    uint64_t limit_us = harness_now(c->h) + 60 * (uint64_t)SECOND;
    for (;;) {
        while (!may_die(c, k->moment, k->type)) harness_run_until(c->h, harness_now(c->h) + 500);
        assert_true(harness_now(c->h) < limit_us);
        harness_stop_training(c->h);
        if (k->moment == RESTED || k->moment == AGREED) harness_run_until(c->h, harness_now(c->h) + PAUSE);
        if (k->moment != RESTED || in_step(c, k)) return;
        harness_resume_training(c->h);
        harness_run_until(c->h, harness_now(c->h) + 20000);
    }
}

/* Saves, kills and restarts the victim. */
static void kill_and_restart(struct cluster *c, const struct course *k, bool plant)
{
    if (k->moment != ANY) come_to_rest(c, k);
    harness_save(c->h, VICTIM, true);
    if (plant) harness_forget_state(c->h, VICTIM);
    harness_crash(c->h, VICTIM);
    bool lost = c->asked[VICTIM] > harness_steps(c->h, VICTIM); /* it was at a step */
    c->learnt[VICTIM] += c->pending[VICTIM] && !lost;
    c->asked[VICTIM] -= lost;
    c->pending[VICTIM] = false;
    harness_restart_saved(c->h, VICTIM, true);
    if (k->moment == ANY) return;
    harness_run_until(c->h, harness_now(c->h) + PAUSE);
    harness_resume_training(c->h);
}

/* What v keeps back for the sum, in its units, from the bytes that it would save. */
static double kept_back(const struct cluster *c, const struct course *k, rank_t v, int i)
{
    struct blob *state = algo_state_save(k->type, harness_algo(c->h, v), v, DIM, true);
    CHECK(state != NULL && state->size >= 64 + DIM * sizeof(float));
    float residual;
    memcpy(&residual, state->data + 64 + (size_t)i * sizeof residual, sizeof residual);
    blob_unref(state);
    return (double)residual;
}

static double walking(const struct cluster *c, int i)
{
    double sum = 0;
    uint32_t here = 0;
    for (rank_t v = 0; v < NODES; v++) {
        const struct walking *k = &((const struct walk *)harness_algo(c->h, v))->walk[0];
        bool holds = k->custody.place == CUSTODY_HELD;
        here += holds;
        if (holds) sum += (double)k->x[i];
        if (!holds && k->owed) sum += (double)k->residual[i];
    }
    CHECK(here == 1);
    return sum;
}

static double held(const struct cluster *c, const struct course *k, rank_t v, int i)
{
    double sum = 0;
    if (k->judged == EACH) return (double)harness_model(c->h, v)[i];
    if (k->judged == WALKING) return walking(c, i);
    for (rank_t u = 0; u < NODES; u++) {
        sum += (double)harness_model(c->h, u)[i] / NODES;
        if (k->judged == MEAN_AND_KEPT) sum += kept_back(c, k, u, i);
    }
    return sum;
}

/* Greatest difference between a model and what was learnt, in steps. */
static double mistake(const struct cluster *c, const struct course *k)
{
    double most = 0;
    for (rank_t v = 0; v < NODES; v++)
        for (int i = 0; i < DIM; i++) {
            double truth = 0;
            for (rank_t u = 0; u < NODES; u++)
                truth += k->share * (double)c->learnt[u] * (double)progress_of(u, i);
            double off = fabs(held(c, k, v, i) - truth);
            if (off > most) most = off;
        }
    return most / (k->share * (double)progress_of(0, 0));
}

static double mistake_after(const struct course *k, uint64_t seed, bool plant)
{
    struct cluster c;
    cluster_open(&c, k, seed);
    for (int i = 0; i < KILLS; i++) {
        harness_run_until(c.h, harness_now(c.h) + SECOND + seed * 7777);
        kill_and_restart(&c, k, plant);
    }
    harness_run_until(c.h, harness_now(c.h) + SECOND);
    c.drift = false;
    harness_run_until(c.h, harness_now(c.h) + DRAIN_S * (uint64_t)SECOND);
    if (k->judged == MEAN_AND_KEPT || k->judged == WALKING) {
        harness_stop_training(c.h);
        harness_run_until(c.h, harness_now(c.h) + PAUSE);
    }
    double off = mistake(&c, k);
    cluster_close(&c);
    return off;
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

static void sent_and_kept_back_are_what_was_produced(void **state)
{
    (void)state;
    for (size_t k = 0; k < COURSES; k++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            double off = mistake_after(&courses[k], seed, false);
            if (off > 0.1)
                fail_msg("%s, %s, seed %d: %.2f steps off", courses[k].params,
                         courses[k].compress != NULL ? courses[k].compress : "whole", (int)seed, off);
        }
}

static void a_lost_state_is_caught(void **state)
{
    (void)state;
    for (size_t k = 0; k < COURSES; k++) {
        double off = courses[k].plant ? mistake_after(&courses[k], 1, true) : 10;
        if (off < 0.25) fail_msg("%s: a restart without its state is %.2f steps off", courses[k].params, off);
    }
}

/* -- a save that is not the last word ---------------------------------------------------------- */

/* The victim comes back with an older save. What got out since is in the sums once, what did not is lost with the
 * steps: never is an entry there twice. Returns by how many steps the victim's part is too great. */
static double too_much_after(const struct course *k, uint64_t seed, bool plant)
{
    struct cluster c;
    cluster_open(&c, k, seed);
    harness_run_until(c.h, SECOND + seed * 7777);
    harness_save(c.h, VICTIM, false);
    harness_run_until(c.h, harness_now(c.h) + SECOND / 8);
    bool at_step = c.asked[VICTIM] > harness_steps(c.h, VICTIM);
    harness_crash(c.h, VICTIM);
    c.learnt[VICTIM] += c.pending[VICTIM] && !at_step;
    c.pending[VICTIM] = false;
    harness_restart_saved(c.h, VICTIM, true);
    if (plant)
        ((struct def *)harness_algo(c.h, VICTIM))->owed_round = UINT64_MAX; /* nothing is found to be sent */
    c.drift = false;
    harness_run_until(c.h, harness_now(c.h) + DRAIN_S * (uint64_t)SECOND);
    double most = 0;
    for (int i = 0; i < DIM; i++) {
        double truth = 0;
        for (rank_t u = 0; u < NODES; u++) truth += (double)c.learnt[u] * (double)progress_of(u, i) / NODES;
        double over = ((double)harness_model(c.h, 0)[i] - truth) * NODES / (double)progress_of(VICTIM, i);
        if (over > most) most = over;
    }
    cluster_close(&c);
    return most;
}

static void nothing_is_handed_over_twice(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (size_t k = 0; k < COURSES; k++) {
            if (courses[k].moment != ANY) continue;
            double over = too_much_after(&courses[k], seed, false);
            if (over > 0.01) fail_msg("%s, seed %d: %.2f steps too much", courses[k].params, (int)seed, over);
        }
    assert_true(too_much_after(&courses[0], 1, true) > 1);
}

/* -- what is not a state of this method -------------------------------------------------------- */

static struct algo *make_algo(const struct course *k, struct graph *g, struct choice *params)
{
    static const float origin[DIM];
    static const double weight[NODES] = {0.25, 0.25, 0.25, 0.25};
    struct choice topology, compress;
    CHECK(choice_parse(topology_table, topology_table_count, "", k->topology, &topology, NULL) == 0);
    CHECK(topology_build(&topology, NODES, 3, g, NULL) == 0);
    CHECK(choice_parse(&k->type->spec, 1, "", k->params, params, NULL) == 0);
    CHECK(choice_parse(compress_table, compress_table_count, "", k->compress != NULL ? k->compress : "none",
                       &compress, NULL) == 0);
    struct algo_config config = {.rank = VICTIM,
                                 .node_count = NODES,
                                 .graph = g,
                                 .weight = weight,
                                 .dim = DIM,
                                 .x0 = origin,
                                 .seed = 7,
                                 .patience_us = PATIENCE,
                                 .compress = k->compress != NULL ? &compress : NULL,
                                 .rejoining = true};
    struct algo *a;
    CHECK(algo_create(k->type, &config, params, &a, NULL) == 0);
    return a;
}

static bool same_bytes(const struct blob *a, const struct blob *b)
{
    if (a == NULL || b == NULL) return a == b;
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* The bytes must be refused with a reason, and leave the algorithm as it was. */
static void refuse(const struct course *k, struct algo *a, size_t dim, const uint8_t *bytes, size_t size)
{
    struct blob *before = algo_state_save(k->type, a, VICTIM, DIM, true);
    struct err_text why = {""};
    assert_int_equal(algo_state_restore(k->type, a, dim, bytes, size, &why), ERR_FORMAT);
    assert_true(why.text[0] != '\0');
    struct blob *after = algo_state_save(k->type, a, VICTIM, DIM, true);
    assert_true(same_bytes(before, after));
    blob_unref(before);
    blob_unref(after);
}

static void refuse_all(const struct course *k, const struct blob *good)
{
    struct graph g;
    struct choice params;
    struct algo *a = make_algo(k, &g, &params);
    uint8_t *bytes = mem_new(good->size + 4, 1);
    for (size_t size = 0; size < good->size; size++) refuse(k, a, DIM, good->data, size);
    memcpy(bytes, good->data, good->size);
    memset(bytes + good->size, 0, 4);
    refuse(k, a, DIM, bytes, good->size + 4);
    refuse(k, a, DIM + 1, bytes, good->size);
    static const size_t wrong[] = {0, 8, 16, 31, 32, 40}; /* magic, version, name, its end, dim, last */
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memcpy(bytes, good->data, good->size);
        bytes[wrong[i]] ^= 0x42;
        refuse(k, a, DIM, bytes, good->size);
    }
    const float nan = NAN;
    memcpy(bytes, good->data, good->size);
    memcpy(bytes + good->size - sizeof nan, &nan, sizeof nan);
    refuse(k, a, DIM, bytes, good->size);
    assert_int_equal(algo_state_restore(k->type, a, DIM, good->data, good->size, NULL), 0); /* it is good */
    k->type->destroy(a);
    graph_deinit(&g);
    free(bytes);
}

static void what_is_damaged_or_foreign_changes_nothing(void **state)
{
    (void)state;
    for (size_t k = 0; k < COURSES; k++) {
        struct cluster c;
        if (courses[k].type->state_save == NULL) continue;
        cluster_open(&c, &courses[k], 1);
        harness_run_until(c.h, SECOND);
        for (int tries = 0; tries < 1000 && harness_saved_state(c.h, VICTIM) == NULL; tries++) {
            harness_run_until(c.h, harness_now(c.h) + 5000);
            harness_save(c.h, VICTIM, true);
        }
        assert_non_null(harness_saved_state(c.h, VICTIM));
        refuse_all(&courses[k], harness_saved_state(c.h, VICTIM));
        cluster_close(&c);
    }
}

/* Those whose debt is in the model itself, or belongs to their links and views. */
static void the_others_keep_nothing(void **state)
{
    (void)state;
    static const struct algo_type *const types[] = {&choco_type,  &delicoco_type, &dgd_type,
                                                    &gossip_type, &hsgd_type,     &ef21_type};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        assert_null(types[i]->state_save);
        assert_null(types[i]->state_restore);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sent_and_kept_back_are_what_was_produced),
        cmocka_unit_test(a_lost_state_is_caught),
        cmocka_unit_test(nothing_is_handed_over_twice),
        cmocka_unit_test(what_is_damaged_or_foreign_changes_nothing),
        cmocka_unit_test(the_others_keep_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

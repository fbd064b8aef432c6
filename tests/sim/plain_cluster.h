/* A plain algorithm (every node sends its model to its neighbours after each job and takes the mean of what comes
 * in), trainers that pull towards a target of their own, and a cluster made of both; for test_simulation*.c. */
#ifndef GADABOUT_TESTS_SIM_PLAIN_CLUSTER_H
#define GADABOUT_TESTS_SIM_PLAIN_CLUSTER_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/simulation/simulation.h"
#include "algo/compress/compress.h"
#include "algo/vec.h"
#include "base/check.h"
#include "base/prng.h"

#define DIM 4u
#define NODES_MAX 24u
#define SECOND 1000000u
#define EVENTS_MAX 1000000u /* of one stretch: more is messages that beget messages, and would never end */

/* -- the plain algorithm ----------------------------------------------------------------------- */

struct algo {
    struct algo_config config;
    float x[DIM];
    struct algo_report report;
    bool up[NODES_MAX];
    uint64_t boot[NODES_MAX];  /* last one seen */
    uint32_t boots[NODES_MAX]; /* how many different ones */
    bool started;
};

static int plain_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    (void)params;
    (void)why;
    struct algo *a = mem_new_zero(1, sizeof *a);
    a->config = *config;
    memcpy(a->x, config->x0, sizeof a->x);
    *out = a;
    return 0;
}

static void plain_destroy(struct algo *a)
{
    free(a);
}

static void plain_spread(struct algo *a, struct algo_actions *acts)
{
    struct blob *x = blob_copy(a->x, sizeof a->x);
    for (rank_t r = 0; r < a->config.node_count; r++) {
        if (!a->up[r]) continue;
        algo_send(acts, r, 1)->vec = blob_ref(x);
        a->report.model_transfers++;
    }
    blob_unref(x);
}

static int plain_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    CHECK(a->started == (e->kind != ALGO_START));
    switch (e->kind) {
    case ALGO_START:
        a->started = true;
        algo_train(acts, a->x, 2);
        break;
    case ALGO_PEER_UP:
        CHECK(graph_has_edge(a->config.graph, a->config.rank, e->peer));
        CHECK(!a->up[e->peer]);
        a->up[e->peer] = true;
        a->boots[e->peer] += a->boot[e->peer] != e->boot;
        a->boot[e->peer] = e->boot;
        break;
    case ALGO_PEER_DOWN:
        CHECK(a->up[e->peer]);
        a->up[e->peer] = false;
        break;
    case ALGO_MESSAGE:
        CHECK(a->up[e->peer]);
        vec_mean2(DIM, a->x, (const float *)(const void *)e->msg->vec->data, a->x);
        a->report.mixes++;
        break;
    case ALGO_TRAINED:
        for (size_t i = 0; i < DIM; i++) a->x[i] += e->trained.delta[i];
        a->report.steps += e->trained.steps;
        a->report.version = a->report.steps;
        plain_spread(a, acts);
        algo_train(acts, a->x, 2);
        break;
    case ALGO_DEADLINE:
        break;
    }
    return 0;
}

static uint64_t plain_deadline(const struct algo *a)
{
    (void)a;
    return TIME_NEVER;
}

static const float *plain_model(const struct algo *a)
{
    return a->x;
}

static void plain_report(const struct algo *a, struct algo_report *out)
{
    *out = a->report;
}

static struct algo_type plain = {.create = plain_create,
                                 .destroy = plain_destroy,
                                 .step = plain_step,
                                 .deadline_us = plain_deadline,
                                 .model = plain_model,
                                 .report = plain_report};

/* -- trainers ---------------------------------------------------------------------------------- */

/* Pulls towards (v, -v, 1, 2 v): the optimum of all is the mean. */
struct puller {
    struct trainer base;
    float target[DIM];
    bool poisoned;
};

static uint32_t puller_run(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    struct puller *p = (struct puller *)t;
    float work[DIM];
    memcpy(work, x, sizeof work);
    *loss = 0;
    for (uint32_t s = 0; s < max_steps; s++) {
        for (size_t i = 0; i < DIM; i++) work[i] += 0.05f * (p->target[i] - work[i]);
    }
    vec_sub(DIM, work, x, delta);
    *loss = vec_distance2(DIM, work, p->target);
    if (p->poisoned) delta[1] = NAN;
    return max_steps;
}

static void puller_free(struct trainer *t)
{
    free(t);
}

struct fixture {
    struct choice topology, latency, step_time, params;
    struct simulation_setup setup;
    uint32_t poisoned; /* node whose trainer gives NaN */
    uint32_t made;
};

static int puller_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)why;
    struct fixture *f = ctx;
    struct puller *p = mem_new_zero(1, sizeof *p);
    p->base.run = puller_run;
    p->base.free = puller_free;
    p->target[0] = (float)v;
    p->target[1] = -(float)v;
    p->target[2] = 1;
    p->target[3] = 2 * (float)v;
    p->poisoned = v == f->poisoned;
    f->made++;
    *out = &p->base;
    return 0;
}

static inline void fixture_init(struct fixture *f, uint32_t nodes, uint64_t seed)
{
    static const float x0[DIM] = {0, 0, 0, 0};
    struct err_text why = {""};
    memset(f, 0, sizeof *f);
    f->poisoned = UINT32_MAX;
    assert_int_equal(
        choice_parse(topology_table, topology_table_count, "--topology", "ring", &f->topology, &why), 0);
    assert_int_equal(
        choice_parse(latency_table, latency_table_count, "--latency", "exp:mean=100ms", &f->latency, &why),
        0);
    assert_int_equal(choice_parse(step_time_table, step_time_table_count, "--step-time",
                                  "uniform:low=1s,high=3s", &f->step_time, &why),
                     0);
    f->setup = (struct simulation_setup){.node_count = nodes,
                                         .algo = &plain,
                                         .algo_params = &f->params,
                                         .topology = &f->topology,
                                         .latency = &f->latency,
                                         .step_time = &f->step_time,
                                         .seed = seed,
                                         .dim = DIM,
                                         .x0 = x0,
                                         .trainer_new = puller_new,
                                         .ctx = f};
}

static inline struct simulation *open_simulation(const struct fixture *f)
{
    struct simulation *s = NULL;
    struct err_text why = {""};
    if (simulation_new(&f->setup, &s, &why) != 0) fail_msg("%s", why.text);
    return s;
}

static inline void let_go_on(struct simulation *s, double seconds)
{
    uint64_t until_us = simulation_now_us(s) + (uint64_t)(seconds * SECOND);
    for (uint32_t events = 0; simulation_step(s, until_us); events++) {
        if (events == EVENTS_MAX) fail_msg("a storm: %u events in %.0f virtual s", EVENTS_MAX, seconds);
    }
    assert_string_equal(simulation_failure(s), "");
}

static inline uint32_t nodes_with_every_link(const struct simulation *s)
{
    uint32_t good = 0;
    for (uint32_t v = 0; v < simulation_node_count(s); v++) {
        struct node_report r;
        if (simulation_node(s, v) == NULL) continue;
        node_report(simulation_node(s, v), &r);
        good += r.phase != NODE_JOINING && r.rank == v && r.neighbours > 0 && r.neighbours_up == r.neighbours;
    }
    return good;
}

static inline uint64_t refused(const struct simulation *s)
{
    struct simulation_totals t;
    simulation_totals(s, &t);
    return t.messages_refused;
}

#endif

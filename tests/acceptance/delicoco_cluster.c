/* See delicoco_cluster.h. */
#include "tests/acceptance/delicoco_cluster.h"

#include <stdlib.h>

#include "algo/compress/compress.h"
#include "algo/vec.h"
#include "base/check.h"
#include "tests/acceptance/delicoco_problem.h"

enum { STEP_US = 1000000, MESSAGE_US = 1000 };

struct cluster {
    struct cluster_setup setup;
    struct choice algorithm, compress, topology, latency, step_time;
    float *zero, *average;
    struct simulation *simulation;
};

static void must(int err, const struct err_text *why)
{
    if (err != 0) check_failed(why->text, __FILE__, __LINE__);
}

struct cluster *cluster_new(const struct cluster_setup *setup)
{
    struct cluster *c = mem_new_zero(1, sizeof *c);
    struct err_text why = {""};
    const struct algo_type *type;
    const char *compress = setup->compress != NULL ? setup->compress : "none";
    c->setup = *setup;
    must(algo_choose(setup->algorithm, &c->algorithm, &type, &why), &why);
    must(choice_parse(compress_table, compress_table_count, "compress", compress, &c->compress, &why), &why);
    must(choice_parse(topology_table, topology_table_count, "topology", setup->topology, &c->topology, &why),
         &why);
    must(choice_parse(latency_table, latency_table_count, "latency", "fixed:delay=1ms", &c->latency, &why),
         &why);
    must(choice_parse(step_time_table, step_time_table_count, "step", "constant:value=1s", &c->step_time,
                      &why),
         &why);
    c->zero = mem_new_zero(setup->dim, sizeof *c->zero);
    c->average = mem_new(setup->dim, sizeof *c->average);
    struct simulation_setup simulation = {
        .node_count = setup->nodes,
        .algo = type,
        .algo_params = &c->algorithm,
        .compress = &c->compress,
        .topology = &c->topology,
        .latency = &c->latency,
        .step_time = &c->step_time,
        .seed = setup->seed,
        .dim = setup->dim,
        .x0 = setup->x0 != NULL ? setup->x0 : c->zero,
        .trainer_new = setup->trainer_new,
        .ctx = setup->ctx,
    };
    must(simulation_new(&simulation, &c->simulation, &why), &why);
    return c;
}

void cluster_free(struct cluster *c)
{
    simulation_free(c->simulation);
    free(c->zero);
    free(c->average);
    free(c);
}

void cluster_run(struct cluster *c, uint32_t round)
{
    uint64_t round_us = STEP_US + (uint64_t)c->setup.gossip * MESSAGE_US;
    simulation_run(c->simulation, round * round_us + STEP_US / 2);
    CHECK(simulation_failure(c->simulation)[0] == '\0');
    for (uint32_t v = 0; v < c->setup.nodes; v++) {
        struct node_report report;
        node_report(simulation_node(c->simulation, v), &report);
        CHECK(report.algo.steps == round);
    }
}

struct simulation *cluster_simulation(struct cluster *c)
{
    return c->simulation;
}

const float *cluster_average(struct cluster *c)
{
    simulation_average(c->simulation, c->average);
    return c->average;
}

/* -- trainers ---------------------------------------------------------------------------------- */

struct descent_trainer {
    struct trainer base;
    struct descent descent;
    uint32_t first, count;
};

static uint32_t descent_run(struct trainer *base, const float *x, uint32_t max_steps, float *delta,
                            double *loss)
{
    const struct descent_trainer *t = (const struct descent_trainer *)base;
    CHECK(max_steps >= 1);
    problem_gradient(t->descent.problem, t->first, t->count, x, delta);
    vec_scale(t->descent.problem->dim, (float)-t->descent.step, delta);
    *loss = 0;
    return 1;
}

static void trainer_free(struct trainer *t)
{
    free(t);
}

int descent_trainer_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)why;
    struct descent_trainer *t = mem_new_zero(1, sizeof *t);
    t->base.run = descent_run;
    t->base.free = trainer_free;
    t->descent = *(const struct descent *)ctx;
    uint32_t share = t->descent.problem->rows / t->descent.nodes;
    t->first = v * share;
    t->count = v + 1 < t->descent.nodes ? share : t->descent.problem->rows - t->first;
    *out = &t->base;
    return 0;
}

struct averaging_trainer {
    struct trainer base;
    const float *start;
    size_t dim;
    bool moved;
};

static uint32_t averaging_run(struct trainer *base, const float *x, uint32_t max_steps, float *delta,
                              double *loss)
{
    struct averaging_trainer *t = (struct averaging_trainer *)base;
    (void)x;
    (void)max_steps;
    *loss = 0;
    if (t->moved)
        vec_zero(t->dim, delta);
    else
        vec_copy(t->dim, t->start, delta);
    t->moved = true;
    return 1;
}

int averaging_trainer_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)why;
    const struct averaging *a = ctx;
    struct averaging_trainer *t = mem_new_zero(1, sizeof *t);
    t->base.run = averaging_run;
    t->base.free = trainer_free;
    t->start = a->start + v * a->dim;
    t->dim = a->dim;
    *out = &t->base;
    return 0;
}

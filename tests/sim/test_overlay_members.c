/* Goal: whole nodes with real membership and --topology overlay stay one graph of bounded degree, over which gossip
 * mixes, however many they are; what a node keeps of neighbours goes by its degree, not by the number of places.
 * Method: a simulated cluster that knows only whom to dial founds an experiment; each place's trainer adds 1 to the
 * coordinate (place % DIM), so that models differ until they are mixed. Then training adds nothing more, and the models
 * must draw together by FACTOR in MIX_S virtual seconds; half are killed, and the others must be one graph again. The
 * same with all cut off from each other shows that the measure finds what it looks for.
 *
 * --nodes N: as many (60; the slow suite runs 1000). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/node/internal.h"
#include "agent/simulation/simulation.h"
#include "algo/gossip/internal.h"
#include "base/check.h"
#include "tests/sim/counter.h"

enum { DIM = 16, ACTIVE_MAX = 5, MIX_S = 20 };
#define SECOND UINT64_C(1000000)
#define FACTOR 50.0

static uint32_t nodes = 60;

/* -- the cluster ------------------------------------------------------------------------------------- */

struct cluster {
    struct choice topology, latency, step_time, algorithm;
    struct simulation_setup setup;
    struct simulation *sim;
    bool drifting;
};

static uint32_t counter_run(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    const struct counter *c = (const struct counter *)t;
    const struct cluster *cluster = c->owner;
    (void)x;
    memset(delta, 0, DIM * sizeof *delta);
    *loss = 1;
    if (cluster->drifting) delta[c->place % DIM] = (float)max_steps;
    return max_steps;
}

static int counter_new(void *ctx, uint32_t place, struct trainer **out, struct err_text *why)
{
    (void)why;
    return counter_make(counter_run, ctx, place, out);
}

static void cluster_open(struct cluster *c)
{
    static const float x0[DIM];
    struct err_text why = {""};
    *c = (struct cluster){.drifting = true};
    struct simulation_setup *s = &c->setup;
    CHECK(choice_parse(topology_table, topology_table_count, "", "overlay", &c->topology, NULL) == 0);
    CHECK(choice_parse(latency_table, latency_table_count, "", "exp:mean=10ms", &c->latency, NULL) == 0);
    CHECK(choice_parse(step_time_table, step_time_table_count, "", "uniform:low=500ms,high=1s", &c->step_time,
                       NULL) == 0);
    CHECK(algo_choose("gossip:mode=async", &c->algorithm, &s->algo, NULL) == 0);
    s->algo_params = &c->algorithm;
    s->topology = &c->topology;
    s->latency = &c->latency;
    s->step_time = &c->step_time;
    s->node_count = nodes;
    s->min_nodes = nodes / 2;
    s->dynamic = s->overlay = true;
    s->seed = 5;
    s->dim = DIM;
    s->x0 = x0;
    s->patience_us = 6 * SECOND;
    s->trainer_new = counter_new;
    s->ctx = c;
    assert_int_equal(simulation_new(s, &c->sim, &why), 0);
}

static void go_on(struct cluster *c, double seconds)
{
    simulation_run(c->sim, simulation_now_us(c->sim) + (uint64_t)(seconds * SECOND));
    assert_string_equal(simulation_failure(c->sim), "");
}

/* -- what is looked at --------------------------------------------------------------------------------- */

static uint32_t root_of(uint32_t *up, uint32_t v)
{
    while (up[v] != v) v = up[v] = up[up[v]];
    return v;
}

/* Parts of the living, by the links that their algorithms have; UINT32_MAX while one does not train. */
static uint32_t parts(const struct cluster *c)
{
    uint32_t *up = mem_new(nodes, sizeof *up), count = 0;
    bool train = true;
    for (uint32_t v = 0; v < nodes; v++) {
        const struct node *n = simulation_node(c->sim, v);
        up[v] = v;
        count += n != NULL;
        train &= n == NULL || n->algo != NULL;
    }
    for (uint32_t v = 0; v < nodes; v++) {
        const struct node *n = simulation_node(c->sim, v);
        for (const struct link *l = n != NULL ? n->oldest : NULL; l != NULL; l = l->newer) {
            if (!l->presented || simulation_node(c->sim, (uint32_t)l->peer) == NULL) continue;
            uint32_t a = root_of(up, v), b = root_of(up, (uint32_t)l->peer);
            count -= a != b;
            up[a] = b;
        }
    }
    free(up);
    return train ? count : UINT32_MAX;
}

static double settle(struct cluster *c, double seconds, const char *what)
{
    double waited = 0;
    while (parts(c) != 1 && waited < seconds) {
        go_on(c, 1);
        waited += 1;
    }
    if (parts(c) != 1) fail_msg("%s: %u parts after %.0f s", what, parts(c), seconds);
    return waited;
}

/* Nothing that a node or its algorithm keeps of others goes by the number of places. */
static void assert_bounded(const struct cluster *c)
{
    uint32_t degree_max = 0, links = 0, living = 0;
    for (uint32_t v = 0; v < nodes; v++) {
        const struct node *n = simulation_node(c->sim, v);
        if (n == NULL) continue;
        const struct gossip *g = (const struct gossip *)n->algo;
        if (n->presented_count > degree_max) degree_max = n->presented_count;
        assert_int_equal(g->peer_count, n->presented_count);
        assert_in_range(g->peer_capacity, 0, 16);
        assert_in_range(n->neighbour_capacity, 0, 32);
        assert_int_equal(n->graph->edge_count, 0);
        links += n->link_count;
        living++;
    }
    assert_in_range(degree_max, 1, ACTIVE_MAX);
    printf("%u living, degree at most %u, %.1f links of all kinds each\n", living, degree_max,
           (double)links / living);
}

/* -- tests --------------------------------------------------------------------------------------------- */

/* By how much the models draw together while nothing is learnt. */
static double drawn_together(struct cluster *c)
{
    c->drifting = false;
    go_on(c, 2); /* jobs that had begun */
    double before = simulation_consensus_distance(c->sim);
    go_on(c, MIX_S);
    double after = simulation_consensus_distance(c->sim);
    printf("models apart by %.3g, and %.3g after %d s\n", before, after, MIX_S);
    return before / after;
}

static void gossip_mixes_over_an_overlay_of_members(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c);
    printf("one graph after %.0f s\n", settle(&c, 60, "founding"));
    for (uint32_t k = 0; k < 5; k++) { /* it stays one */
        go_on(&c, 1);
        assert_int_equal(parts(&c), 1);
    }
    assert_bounded(&c);
    assert_true(drawn_together(&c) > FACTOR);
    for (uint32_t v = 0; v < nodes; v += 2) simulation_crash(c.sim, v, v % 4 == 0);
    printf("one graph %.0f s after half have died\n", settle(&c, 60, "half have died"));
    go_on(&c, 10);
    assert_int_equal(parts(&c), 1);
    assert_bounded(&c);
    simulation_free(c.sim);
}

/* Planted: all are cut off from each other, so that nothing is mixed. */
static void the_measure_finds_models_that_are_not_mixed(void **state)
{
    (void)state;
    struct cluster c;
    uint32_t all = nodes;
    nodes = 20;
    cluster_open(&c);
    settle(&c, 60, "founding");
    for (uint32_t a = 0; a < nodes; a++)
        for (uint32_t b = a + 1; b < nodes; b++) sim_cut(simulation_world(c.sim), a, b);
    assert_true(drawn_together(&c) < FACTOR);
    simulation_free(c.sim);
    nodes = all;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--nodes") == 0) nodes = (uint32_t)strtoul(argv[2], NULL, 10);
    CHECK(nodes >= 20 && nodes <= 4000);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a thousand take minutes */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gossip_mixes_over_an_overlay_of_members),
        cmocka_unit_test(the_measure_finds_models_that_are_not_mixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

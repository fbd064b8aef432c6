/* Goal: a tour of the complete graph of 100 nodes takes 99 hops and as long as its links say.
 * Method: the simulated world with the delays of DIGEST's experiments: link (a, b) has a mean m, whole and uniform
 * in 1..9 s, and a transfer takes 1 + Exp(m). Lowest rank first, so the way is known and its mean time is the sum
 * of 1 + m over its links: 99 * 6 = 594 s on average over graphs. The authors' simulator moves in ticks: its first
 * hop takes ceil(1 + Exp(m)), each later one a tick more, which is 99 + 98 + sum 1 / (1 - exp(-1/m)), 744 ticks on
 * average over graphs and 752 on theirs; here nothing is rounded. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/simulation/simulation.h"
#include "algo/digest/internal.h"
#include "base/check.h"

enum { NODES = 100, TOURS = 40, SECOND = 1000000 };

static uint32_t rest(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    (void)t;
    (void)x;
    *delta = 0;
    *loss = 1;
    return max_steps;
}

static void rest_free(struct trainer *t)
{
    free(t);
}

static int rest_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)ctx;
    (void)v;
    (void)why;
    *out = mem_new_zero(1, sizeof **out);
    (*out)->run = rest;
    (*out)->free = rest_free;
    return 0;
}

static struct stream_seat *seat_at(const struct simulation *s, rank_t v)
{
    return &((struct digest *)node_algo(simulation_node(s, v)))->own[0];
}

/* Runs until a token is parked; returns where. */
static rank_t parked_at(struct simulation *s)
{
    while (simulation_step(s, TIME_NEVER - 1)) {
        for (rank_t v = 0; v < NODES; v++)
            if (seat_at(s, v)->custody.place == CUSTODY_HELD && seat_at(s, v)->parked) return v;
    }
    fail_msg("the tokens are gone: %s", simulation_failure(s));
    return RANK_NONE;
}

/* The mean time of a tour from v, lowest rank first. */
static double expected_s(const struct graph *g, rank_t v)
{
    double sum = 0;
    rank_t here = v;
    for (rank_t next = 0; next < NODES; next++) {
        if (next == v) continue;
        sum += 1 + g->delay[graph_edge_index(g, here, next)];
        here = next;
    }
    return sum;
}

static void choose(const struct choice_spec *table, size_t count, const char *text, struct choice *out)
{
    CHECK(choice_parse(table, count, "--option", text, out, NULL) == 0);
}

static void a_tour_takes_what_its_links_take(void **state)
{
    (void)state;
    static const float x0[1] = {0};
    struct choice topology, latency, step_time, algorithm;
    struct simulation_setup setup = {
        .node_count = NODES, .dim = 1, .x0 = x0, .seed = 1, .trainer_new = rest_new};
    choose(topology_table, topology_table_count, "complete", &topology);
    choose(latency_table, latency_table_count, "transfer", &latency);
    choose(step_time_table, step_time_table_count, "constant:value=1s", &step_time);
    CHECK(algo_choose("digest:streams=single,sync_every=800", &algorithm, &setup.algo, NULL) == 0);
    setup.topology = &topology;
    setup.latency = &latency;
    setup.step_time = &step_time;
    setup.algo_params = &algorithm;
    struct simulation *s;
    assert_int_equal(simulation_new(&setup, &s, NULL), 0);
    double took = 0, expected = 0;
    for (int tour = 0; tour < TOURS; tour++) {
        struct simulation_totals before, after;
        rank_t root = parked_at(s);
        simulation_totals(s, &before);
        while (seat_at(s, root)->parked) assert_true(simulation_step(s, TIME_NEVER - 1));
        uint64_t began_us = simulation_now_us(s);
        parked_at(s);
        simulation_totals(s, &after);
        assert_int_equal(after.algo.model_transfers - before.algo.model_transfers, NODES - 1);
        took += (double)(simulation_now_us(s) - began_us) / SECOND / TOURS;
        expected += expected_s(simulation_graph(s), root) / TOURS;
    }
    /* A hop's standard deviation is m: that of a tour is sqrt(99 * 31.7) = 56 s. */
    printf("%d tours took %.1f s on average, %.1f s were expected\n", TOURS, took, expected);
    assert_true(fabs(took - expected) < 4 * 56 / sqrt(TOURS));
    assert_true(expected > 594 - 4 * 26 && expected < 594 + 4 * 26);
    simulation_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tour_takes_what_its_links_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

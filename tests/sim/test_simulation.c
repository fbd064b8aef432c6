/* Goal: a whole cluster of nodes in the simulated world joins, trains and mixes; the same seed gives the same
 * trace; a crashed node takes its old place. Method: the plain cluster of plain_cluster.h; faults at random are in
 * test_simulation_faults.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/plain_cluster.h"

static void cluster_trains_and_mixes_to_the_common_optimum(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 8, 1);
    struct simulation *s = open_simulation(&f);
    let_go_on(s, 1);
    assert_int_equal(nodes_with_every_link(s), 8);
    let_go_on(s, 400);
    float x[DIM];
    simulation_average(s, x);
    /* The mean target is (3.5, -3.5, 1, 7); nodes are of different speed, so the average is near, not on it.
     */
    assert_true(fabsf(x[0] - 3.5f) < 0.7f && fabsf(x[1] + 3.5f) < 0.7f && fabsf(x[2] - 1) < 0.01f);
    assert_true(simulation_consensus_distance(s) < 0.4); /* 0.65 when nodes stay with their own targets */
    assert_int_equal(refused(s), 0);
    simulation_free(s);
}

static void every_node_does_exactly_its_steps(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 6, 9);
    f.setup.steps_max = 7; /* jobs are of 2 steps: the last one is capped */
    struct simulation *s = open_simulation(&f);
    let_go_on(s, 5);
    assert_false(simulation_finished(s));
    let_go_on(s, 60);
    assert_true(simulation_finished(s));
    struct simulation_totals t;
    simulation_totals(s, &t);
    assert_int_equal(t.algo.steps, 42);
    assert_int_equal(t.alive, 6);
    simulation_crash(s, 2, true);
    assert_true(simulation_finished(s)); /* of those alive */
    simulation_totals(s, &t);
    assert_int_equal(t.algo.steps, 42); /* what the dead one did still counts */
    assert_int_equal(t.alive, 5);
    simulation_free(s);
}

static void run_with_crash(uint64_t seed, double crash_at_s, char hash[TRACE_HASH_TEXT], uint64_t *events)
{
    struct fixture f;
    fixture_init(&f, 10, seed);
    struct simulation *s = open_simulation(&f);
    let_go_on(s, crash_at_s);
    simulation_crash(s, 4, false);
    let_go_on(s, 200);
    assert_int_equal(simulation_restart(s, 4, NULL), 0);
    let_go_on(s, 300 - crash_at_s);
    float x[DIM];
    simulation_model(s, x);
    simulation_fold(s, x);
    simulation_trace(s, hash);
    struct sim_totals totals;
    sim_totals(simulation_world(s), &totals);
    *events = totals.events;
    simulation_free(s);
}

static void same_seed_gives_the_same_trace(void **state)
{
    (void)state;
    char first[TRACE_HASH_TEXT], again[TRACE_HASH_TEXT], other_seed[TRACE_HASH_TEXT],
        other_fault[TRACE_HASH_TEXT];
    uint64_t events[4];
    run_with_crash(5, 30, first, &events[0]);
    run_with_crash(5, 30, again, &events[1]);
    run_with_crash(6, 30, other_seed, &events[2]);
    run_with_crash(5, 31, other_fault, &events[3]); /* a checker that misses this would miss any fault */
    assert_string_equal(first, again);
    assert_int_equal(events[0], events[1]);
    assert_true(events[0] > 500);
    assert_string_not_equal(first, other_seed);
    assert_string_not_equal(first, other_fault);
}

static void folded_model_changes_the_trace(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 3, 1);
    struct simulation *s = open_simulation(&f);
    char a[TRACE_HASH_TEXT], b[TRACE_HASH_TEXT], c[TRACE_HASH_TEXT];
    simulation_trace(s, a);
    simulation_trace(s, b);
    assert_string_equal(a, b);
    float x[DIM] = {0};
    simulation_fold(s, x);
    assert_string_not_equal(simulation_trace(s, b), a);
    x[3] = 1;
    simulation_fold(s, x);
    assert_string_not_equal(simulation_trace(s, c), b);
    simulation_free(s);
}

static void crashed_node_takes_its_old_place_again(void **state)
{
    (void)state;
    for (uint32_t victim = 0; victim < 9; victim++) {
        struct fixture f;
        fixture_init(&f, 9, 20 + victim);
        struct simulation *s = open_simulation(&f);
        double patience_s = (double)simulation_patience_us(s) / SECOND;
        let_go_on(s, patience_s);
        assert_int_equal(nodes_with_every_link(s), 9);
        simulation_crash(s, victim, victim % 2 == 0);
        assert_null(simulation_node(s, victim));
        let_go_on(s, patience_s);
        assert_int_equal(nodes_with_every_link(s), 6); /* without it and its two neighbours on the ring */
        assert_int_equal(simulation_restart(s, victim, NULL), 0);
        let_go_on(s, patience_s);
        assert_int_equal(nodes_with_every_link(s), 9);
        const struct algo *neighbour = node_algo(simulation_node(s, (victim + 1) % 9));
        assert_int_equal(neighbour->boots[victim], 2); /* it was told of the new boot */
        assert_true(node_algo(simulation_node(s, victim))->config.rejoining);
        assert_false(neighbour->config.rejoining);
        assert_true(node_algo(simulation_node(s, victim))->report.mixes > 0);
        assert_int_equal(refused(s), 0);
        simulation_free(s);
    }
}

static void node_that_diverges_ends_the_run_with_its_reason(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 4, 1);
    f.poisoned = 2;
    struct simulation *s = open_simulation(&f);
    simulation_run(s, 1000 * (uint64_t)SECOND);
    assert_non_null(strstr(simulation_failure(s), "--step-size"));
    assert_false(simulation_step(s, UINT64_MAX - 1));
    float x[DIM];
    simulation_average(s, x);
    assert_true(vec_finite(DIM, x)); /* it got no further than the node that noticed */
    simulation_free(s);
}

static void impossible_topology_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 5, 1);
    struct err_text why = {""};
    assert_int_equal(
        choice_parse(topology_table, topology_table_count, "--topology", "regular:d=3", &f.topology, &why),
        0);
    struct simulation *s;
    assert_int_equal(simulation_new(&f.setup, &s, &why), ERR_USAGE); /* 5 nodes of degree 3 */
    assert_true(why.text[0] != '\0');
}

static void averages_are_weighted_and_newest_is_by_version(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 3, 1);
    const double weight[] = {0.5, 0.3, 0.2};
    f.setup.weight = weight;
    struct simulation *s = open_simulation(&f);
    const float by_hand[3] = {10, 20, 40};
    for (uint32_t v = 0; v < 3; v++) {
        struct algo *a = node_algo(simulation_node(s, v));
        for (size_t i = 0; i < DIM; i++) a->x[i] = by_hand[v];
        a->report.version = v == 1 ? 7 : 3;
    }
    float x[DIM];
    simulation_average(s, x);
    assert_true(x[0] == 19.0f); /* 5 + 6 + 8 */
    simulation_model(s, x);
    assert_true(x[0] == 19.0f);
    /* sqrt((9^2 + 1^2 + 21^2) * 4 / 3) / (19 * 2) */
    assert_true(fabs(simulation_consensus_distance(s) - sqrt(523.0 * 4 / 3) / 38) < 1e-12);
    plain.eval = ALGO_EVAL_NEWEST;
    simulation_model(s, x);
    plain.eval = ALGO_EVAL_AVERAGE;
    assert_true(x[0] == 20.0f);
    simulation_crash(s, 0, true);
    simulation_average(s, x);
    assert_true(x[0] == 28.0f); /* (6 + 8) / 0.5 */
    simulation_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_trains_and_mixes_to_the_common_optimum),
        cmocka_unit_test(every_node_does_exactly_its_steps),
        cmocka_unit_test(same_seed_gives_the_same_trace),
        cmocka_unit_test(folded_model_changes_the_trace),
        cmocka_unit_test(crashed_node_takes_its_old_place_again),
        cmocka_unit_test(node_that_diverges_ends_the_run_with_its_reason),
        cmocka_unit_test(impossible_topology_is_refused),
        cmocka_unit_test(averages_are_weighted_and_newest_is_by_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

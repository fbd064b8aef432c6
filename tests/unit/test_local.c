/* Goal: `local` trains alone with every=0; with every=H all nodes hold the same weighted average after each
 * round, computed from exactly H steps of each; crashes, restarts, pauses and partitions stop nobody for
 * good. Compressed averages stay near the exact ones for ever.
 * Method: the algorithm harness in virtual time. The default trainer adds 1 to coordinate (rank % dim) a
 * step, so that the average after k rounds is known exactly: w_v H k in coordinate v. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "tests/unit/algo_harness.h"

extern const struct algo_type local_type;

enum { NODES = 8, DIM = 8, EVERY = 4 };
#define PATIENCE UINT64_C(2000000)
#define SECOND UINT64_C(1000000)

static const float origin[DIM];
static const double weights[NODES] = {0.25, 0.125, 0.125, 0.0625, 0.0625, 0.125, 0.125, 0.125};

static void build_graph(const char *text, struct graph *g)
{
    struct choice choice;
    assert_int_equal(choice_parse(topology_table, topology_table_count, "", text, &choice, NULL), 0);
    assert_int_equal(topology_build(&choice, NODES, 3, g, NULL), 0);
}

static struct harness *start(const char *params, const struct graph *g, uint64_t seed)
{
    struct harness *h = harness_new(&local_type, params, g, weights, DIM, origin, seed, PATIENCE);
    for (rank_t v = 0; v < NODES; v++) harness_set_step_time(h, v, 1000 * (1 + v)); /* eightfold spread */
    return h;
}

static uint64_t version(const struct harness *h, rank_t v)
{
    struct algo_report report;
    harness_report(h, v, &report);
    return report.version;
}

static void every_zero_never_says_a_word(void **state)
{
    (void)state;
    struct graph g;
    build_graph("complete", &g);
    struct harness *h = start("local", &g, 1);
    harness_run_until(h, SECOND);
    assert_int_equal(harness_sent_vectors(h), 0);
    assert_int_equal(harness_sent(h, 0), 0);
    for (rank_t v = 0; v < NODES; v++) {
        assert_true(harness_steps(h, v) > 50);
        for (uint32_t i = 0; i < DIM; i++)
            assert_true((uint64_t)harness_model(h, v)[i] == (i == v ? harness_steps(h, v) : 0));
    }
    harness_free(h);
    graph_deinit(&g);
}

struct watch {
    uint64_t seen[NODES], wrong, right;
};

/* After each round: coordinate u of every model is w_u * H * rounds, exactly (all numbers are dyadic). */
static void check_average(void *ctx, struct harness *h, rank_t v, const struct algo_event *event)
{
    struct watch *w = ctx;
    uint64_t rounds = version(h, v);
    if (rounds == w->seen[v] || event->kind == ALGO_START) return;
    w->seen[v] = rounds;
    for (rank_t u = 0; u < NODES; u++) {
        bool equal = (double)harness_model(h, v)[u] == weights[u] * EVERY * (double)rounds;
        w->right += equal;
        w->wrong += !equal;
    }
}

static void every_round_gives_the_exact_weighted_average(void **state)
{
    (void)state;
    static const char *const graphs[] = {"ring", "complete", "regular:d=3", "star", "torus"};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++)
        for (uint64_t seed = 0; seed < 5; seed++) {
            struct graph g;
            struct watch w = {.wrong = 0};
            build_graph(graphs[i], &g);
            struct harness *h = start("local:every=4", &g, seed);
            harness_set_hook(h, check_average, &w);
            harness_run_until(h, 3 * SECOND);
            assert_int_equal(w.wrong, 0);
            for (rank_t v = 0; v < NODES; v++) {
                struct algo_report report;
                harness_report(h, v, &report);
                assert_true(report.version > 20);
                assert_int_equal(report.mixes, report.version);
                assert_int_equal(report.steps_handed_over, report.version * EVERY);
            }
            harness_free(h);
            graph_deinit(&g);
        }
}

static void the_average_checker_catches_a_lost_step(void **state)
{
    (void)state;
    struct graph g;
    struct watch w = {.wrong = 0};
    build_graph("ring", &g);
    struct harness *h = start("local:every=5", &g, 0); /* one step more than the checker expects */
    harness_set_hook(h, check_average, &w);
    harness_run_until(h, SECOND);
    assert_true(w.wrong > 0);
    harness_free(h);
    graph_deinit(&g);
}

struct near {
    uint64_t seen[NODES], checked;
    double worst; /* relative distance of an average from the exact one */
};

static void check_near(void *ctx, struct harness *h, rank_t v, const struct algo_event *event)
{
    struct near *w = ctx;
    uint64_t rounds = version(h, v);
    if (rounds == w->seen[v] || event->kind == ALGO_START) return;
    w->seen[v] = rounds;
    w->checked++;
    for (rank_t u = 0; u < NODES; u++) { /* of the greatest: that is what a block's scale follows */
        double exact = weights[u] * EVERY * (double)rounds, greatest = weights[0] * EVERY * (double)rounds;
        w->worst = fmax(w->worst, fabs((double)harness_model(h, v)[u] - exact) / greatest);
    }
}

/* Without the residuals the small steps of late rounds would be rounded away. */
static void compressed_rounds_stay_near_the_exact_average(void **state)
{
    (void)state;
    static const struct {
        const char *compress;
        double error_max; /* of one message, and no more after hundreds of rounds */
    } rows[] = {{"none", 0}, {"fp16", 2e-3}, {"bf16", 2e-2}, {"int8", 3e-2}, {"qsgd:bits=10", 2e-2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph g;
        struct near w = {.checked = 0};
        build_graph("regular:d=3", &g);
        struct harness *h = start("local:every=4", &g, i);
        harness_set_compress(h, rows[i].compress);
        harness_set_hook(h, check_near, &w);
        harness_run_until(h, 15 * SECOND);
        assert_true(w.checked > 200 * NODES);
        if (!(w.worst <= rows[i].error_max)) fail_msg("%s: off by %g", rows[i].compress, w.worst);
        harness_free(h);
        graph_deinit(&g);
    }
}

/* The living are in the same round, or in the one after it. */
static void assert_agreement(struct harness *h, unsigned living)
{
    rank_t first = RANK_NONE;
    for (rank_t v = 0; v < NODES; v++) {
        if (!(living >> v & 1)) continue;
        if (first == RANK_NONE) first = v;
        uint64_t mine = version(h, v), other = version(h, first);
        assert_true(mine + 1 >= other && other + 1 >= mine);
    }
}

static void a_crashed_node_holds_nobody_up_and_catches_up_after_restart(void **state)
{
    (void)state;
    for (rank_t victim = 0; victim < NODES; victim++) {
        struct graph g;
        build_graph("regular:d=3", &g);
        struct harness *h = start("local:every=4", &g, victim);
        harness_run_until(h, SECOND + victim * 7919);
        harness_crash(h, victim);
        rank_t other = (victim + 3) % NODES;
        uint64_t before = version(h, other);
        harness_run_until(h, harness_now(h) + 2 * PATIENCE);
        assert_true(version(h, other) > before + 10);
        harness_restart(h, victim, true);
        harness_run_until(h, harness_now(h) + 3 * SECOND);
        before = version(h, victim);
        assert_true(before > 20);
        assert_agreement(h, 0xff);
        struct algo_report at, later;
        harness_report(h, victim, &at);
        harness_run_until(h, harness_now(h) + 2 * SECOND);
        harness_report(h, victim, &later);
        assert_true(later.version > before + 10);
        assert_true(later.steps_handed_over > at.steps_handed_over + 10); /* it takes part again */
        harness_free(h);
        graph_deinit(&g);
    }
}

static void a_partition_trains_on_and_joins_again(void **state)
{
    (void)state;
    static const rank_t cut[][2] = {{0, 7}, {3, 4}};
    struct graph g;
    build_graph("ring", &g);
    struct harness *h = start("local:every=4", &g, 2);
    harness_run_until(h, SECOND);
    for (size_t i = 0; i < 2; i++) harness_link_down(h, cut[i][0], cut[i][1]);
    uint64_t low = version(h, 1), high = version(h, 5);
    harness_run_until(h, 5 * PATIENCE);
    assert_true(version(h, 1) > low + 5 && version(h, 5) > high + 5);
    for (size_t i = 0; i < 2; i++) harness_link_up(h, cut[i][0], cut[i][1]);
    harness_run_until(h, 10 * PATIENCE);
    assert_agreement(h, 0xff);
    struct algo_report at, later;
    for (rank_t v = 0; v < NODES; v++) {
        harness_report(h, v, &at);
        harness_run_until(h, harness_now(h) + SECOND);
        harness_report(h, v, &later);
        assert_true(later.steps_handed_over > at.steps_handed_over);
    }
    harness_free(h);
    graph_deinit(&g);
}

static void random_disturbances_leave_a_working_cluster(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 18; seed++) {
        struct graph g;
        struct prng p;
        build_graph("regular:d=3", &g);
        prng_seed(&p, seed);
        struct harness *h = start("local:every=4", &g, seed);
        harness_set_compress(h, seed < 12 ? "none" : "int8");
        for (int i = 0; i < 25; i++) {
            rank_t a = prng_below(&p, NODES), b = g.neighbour[g.offset[a] + prng_below(&p, 3)];
            uint64_t pause = prng_below(&p, 3 * (uint32_t)PATIENCE / 2);
            uint32_t what = prng_below(&p, 3);
            if (what == 0) harness_link_down(h, a, b);
            if (what == 1) harness_crash(h, a);
            if (what == 2) harness_pause(h, a);
            harness_run_until(h, harness_now(h) + pause);
            if (what == 0) harness_link_up(h, a, b);
            if (what == 1) harness_restart(h, a, true);
            if (what == 2) harness_unpause(h, a);
            harness_run_until(h, harness_now(h) + prng_below(&p, 300000));
        }
        harness_run_until(h, harness_now(h) + 6 * PATIENCE);
        assert_agreement(h, 0xff);
        for (rank_t v = 0; v < NODES; v++) {
            struct algo_report at, later;
            harness_report(h, v, &at);
            harness_run_until(h, harness_now(h) + SECOND);
            harness_report(h, v, &later);
            if (later.steps_handed_over <= at.steps_handed_over)
                fail_msg("seed %u: node %u no longer takes part", (unsigned)seed, v);
        }
        harness_free(h);
        graph_deinit(&g);
    }
}

static void a_run_is_a_function_of_its_seed(void **state)
{
    (void)state;
    uint64_t hash[3];
    struct graph g;
    build_graph("torus", &g);
    for (uint64_t i = 0; i < 3; i++) {
        struct harness *h = start("local:every=3", &g, i / 2);
        harness_run_until(h, SECOND);
        harness_crash(h, 3);
        harness_run_until(h, 3 * SECOND);
        hash[i] = harness_trace_hash(h);
        harness_free(h);
    }
    assert_true(hash[0] == hash[1] && hash[0] != hash[2]);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_zero_never_says_a_word),
        cmocka_unit_test(every_round_gives_the_exact_weighted_average),
        cmocka_unit_test(the_average_checker_catches_a_lost_step),
        cmocka_unit_test(compressed_rounds_stay_near_the_exact_average),
        cmocka_unit_test(a_crashed_node_holds_nobody_up_and_catches_up_after_restart),
        cmocka_unit_test(a_partition_trains_on_and_joins_again),
        cmocka_unit_test(random_disturbances_leave_a_working_cluster),
        cmocka_unit_test(a_run_is_a_function_of_its_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

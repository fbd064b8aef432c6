/* Goal: hierarchical SGD computes what its paper defines: limits, trajectories, equivalences, bit-identical
 * replicas, for any number of levels and any grouping.
 * Method: an exact test with float limbs, against a table of limits, against closed forms and against
 * the same rule computed by hand in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "algo/hsgd/internal.h"
#include "tests/unit/hsgd_fixture.h"

extern const struct algo_type hsgd_type;

static const uint64_t patience_us = 60000000;

/* -- running ------------------------------------------------------------------------------------ */

struct exact_run {
    struct graph *graph; /* the harness borrows it */
    struct harness *harness;
    struct exact_record *record;
};

static struct graph *complete_new(void)
{
    struct graph *graph = mem_new_zero(1, sizeof *graph);
    struct choice complete;
    struct err_text why = {""};
    assert_int_equal(
        choice_parse(topology_table, topology_table_count, "--topology", "complete", &complete, &why), 0);
    assert_int_equal(topology_build(&complete, EXACT_NODES, 1, graph, &why), 0);
    return graph;
}

static struct exact_run run_new(const char *params, const double *weight, const uint32_t *site, uint64_t seed)
{
    static const float start[LIMB_COUNT] = {0};
    struct exact_run run = {.record = exact_record_new(), .graph = complete_new()};
    run.harness = harness_new(&hsgd_type, params, run.graph, weight, LIMB_COUNT, start, seed, patience_us);
    harness_set_trainer(run.harness, exact_train, run.record);
    harness_set_site(run.harness, site);
    harness_set_delay(run.harness, 10, 5000);
    return run;
}

static void run_free(struct exact_run *run)
{
    harness_free(run->harness);
    graph_deinit(run->graph);
    free(run->graph);
    free(run->record);
}

/* Until every node has begun its job after `steps` steps. */
static void run_steps(struct exact_run *run, uint64_t steps)
{
    uint64_t limit_us = harness_now(run->harness) + (steps + 20) * 100000;
    for (rank_t j = 0; j < EXACT_NODES; j++)
        while (run->record->step[j] <= steps) {
            if (harness_now(run->harness) > limit_us) fail_msg("node %u is stuck", j);
            harness_run_until(run->harness, harness_now(run->harness) + 100000);
        }
}

static double value(const struct exact_run *run, rank_t j, uint64_t t)
{
    double v = run->record->start[j][t];
    if (isnan(v)) fail_msg("node %u began no job after %llu steps", j, (unsigned long long)t);
    return v;
}

static void assert_near(double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance)) fail_msg("%.13f is not %.13f", got, expected);
}

/* -- limits ------------------------------------------------------------------------------------- */

static double limit_of(const char *params, uint32_t longest, const uint32_t *site)
{
    struct exact_run run = run_new(params, NULL, site, 1);
    uint64_t t = 800 / longest * longest;
    if (longest == 64) t = 1280;
    run_steps(&run, t);
    double limit = value(&run, 0, t);
    for (rank_t j = 0; j < EXACT_NODES; j++)
        assert_memory_equal(run.record->limb[j][t], run.record->limb[0][t], sizeof run.record->limb[0][t]);
    run_free(&run);
    return limit;
}

static void limits_are_those_of_the_table(void **state)
{
    (void)state;
    static const struct {
        const char *params;
        uint32_t longest;
        double limit, distance;
    } rows[] = {
        {"hsgd:periods=2", 2, 1.271692236463, 0.032308},
        {"hsgd:periods=4", 4, 1.210298660553, 0.093701},
        {"hsgd:periods=16-4,groups=2", 16, 1.150305214858, 0.153695},
        {"hsgd:periods=16-8,groups=2", 16, 1.069149437482, 0.234851},
        {"hsgd:periods=16", 16, 0.935535425522, 0.368465},
        {"hsgd:periods=64-4,groups=2", 64, 1.068591630811, 0.235408},
        {"hsgd:periods=64", 64, 0.708570566310, 0.595429},
        {"hsgd:periods=32-8-2,groups=2-2", 32, 1.155034846280, 0.148965},
        {"hsgd:periods=32", 32, 0.767848440757, 0.536152},
        {"hsgd:periods=16-4,groups=8", 16, 0.935535425522, 0.368465},  /* N = n */
        {"hsgd:periods=16-4,groups=1", 16, 1.210298660553, 0.093701},  /* N = 1 */
        {"hsgd:periods=16-16,groups=2", 16, 0.935535425522, 0.368465}, /* I = G */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double limit = limit_of(rows[i].params, rows[i].longest, NULL);
        assert_near(limit, rows[i].limit, 1e-10);
        assert_near(exact_optimum - limit, rows[i].distance, 1e-6);
    }
}

/* w = [sum_i n_i/n beta_i (1 - rho_i^K) / (1 - rho_i)] / [sum_i n_i/n (1 - rho_i^K)] */
static double closed_form(uint32_t g, uint32_t i, const uint32_t *group, uint32_t groups)
{
    double above = 0, below = 0;
    for (uint32_t k = 0; k < groups; k++) {
        double rho = 0, beta = 0, size = 0;
        for (int j = 0; j < EXACT_NODES; j++) {
            if (group[j] != k) continue;
            double shrink = pow(1 - exact_gamma * exact_a[j], i);
            rho += shrink;
            beta += (1 - shrink) * exact_c[j];
            size++;
        }
        rho /= size;
        beta /= size;
        double all = 1 - pow(rho, (double)g / i);
        above += size / EXACT_NODES * beta * all / (1 - rho);
        below += size / EXACT_NODES * all;
    }
    return above / below;
}

static void limits_of_all_balanced_groupings_are_as_computed(void **state)
{
    (void)state;
    double least = 1e9, greatest = 0, sum = 0;
    for (uint32_t set = 0; set < 256; set++) {
        if ((set & 1) == 0 || __builtin_popcount(set) != 4) continue;
        uint32_t site[EXACT_NODES];
        for (uint32_t j = 0; j < EXACT_NODES; j++) site[j] = (set >> j & 1) == 0;
        double limit = limit_of("hsgd:periods=16-4,groups=2,grouping=balanced", 16, site);
        assert_near(limit, closed_form(16, 4, site, 2), 1e-10);
        double distance = fabs(limit - exact_optimum);
        sum += distance;
        if (distance < least) least = distance;
        if (distance > greatest) greatest = distance;
    }
    assert_near(least, 0.030891, 1e-6);
    assert_near(sum / 35, 0.134858, 1e-6);
    assert_near(greatest, 0.341260, 1e-6);
    /* the bound is on the mean: it lies between P = I and P = G, the best grouping does not */
    assert_true(sum / 35 > 0.093701 && sum / 35 < 0.368465 && least < 0.093701);
}

/* -- trajectories ------------------------------------------------------------------------------- */

static void first_global_round_is_as_computed(void **state)
{
    (void)state;
    static const double expected[4][2] = {{0.043166796875, 0.608980944219},
                                          {0.076690004863, 1.025871548454},
                                          {0.102724029974, 1.311262704860},
                                          {0.814787574872, 0.814787574872}};
    struct exact_run run = run_new("hsgd:periods=16-4,groups=2", NULL, NULL, 1);
    run_steps(&run, 16);
    for (uint32_t k = 0; k < 4; k++) {
        uint64_t t = 4 * (k + 1);
        for (rank_t j = 0; j < EXACT_NODES; j++) assert_near(value(&run, j, t), expected[k][j / 4], 1e-11);
    }
    run_free(&run);
}

static struct hsgd_plan plan_of(const char *params, const uint32_t *site, uint64_t seed)
{
    struct choice choice;
    struct hsgd_plan plan;
    assert_int_equal(choice_parse(&hsgd_type.spec, 1, "--algorithm", params, &choice, NULL), 0);
    assert_int_equal(hsgd_plan_read(&choice, EXACT_NODES, &plan, NULL), 0);
    plan.seed = seed;
    plan.site = site;
    assert_int_equal(hsgd_plan_check(&plan, NULL), 0);
    return plan;
}

/* At every step after which a node began a job, its model is what the rule gives. */
static void trajectories_are_the_rule_by_hand(void **state)
{
    (void)state;
    static const uint32_t site[EXACT_NODES] = {3, 3, 1, 0, 1, 0, 0, 1}; /* sizes 3, 3, 2: not powers of two */
    static const uint32_t even[EXACT_NODES] = {1, 0, 1, 0, 0, 0, 1, 1};
    static const double weight[EXACT_NODES] = {1. / 16, 3. / 16, 1. / 8,  1. / 8,
                                               3. / 32, 5. / 32, 1. / 32, 7. / 32};
    static const struct {
        const char *params;
        const uint32_t *site;
        const double *weight;
        double tolerance;
    } rows[] = {
        {"hsgd:periods=16-4,groups=2,grouping=random", NULL, NULL, 1e-11},
        {"hsgd:periods=16-4,groups=4,grouping=random,redraw=yes", NULL, NULL, 1e-11},
        {"hsgd:periods=32-8-2,groups=2-2,grouping=random,redraw=yes", NULL, NULL, 1e-11},
        {"hsgd:periods=24-4/8,groups=2", NULL, NULL, 1e-11}, /* periods of its own for each group */
        {"hsgd:periods=24-12/8-4/3/2/1,groups=2-2,grouping=tags", even, NULL, 1e-11},
        {"hsgd:periods=16-4,grouping=tags", even, NULL, 1e-11},
        {"hsgd:periods=16-4,grouping=tags", site, NULL, 1e-6}, /* thirds round */
        {"hsgd:periods=16-4,groups=2,weights=data", NULL, weight, 1e-11},
        {"hsgd:periods=16-8-4-2-1,groups=1-2-2-2", NULL, NULL, 1e-11},
        {"hsgd:periods=48-16,groups=2", NULL, NULL, 1e-11},
        {"hsgd:periods=120-60,groups=2", NULL, NULL, 1e-11}, /* longer than a job */
        {"hsgd:periods=1", NULL, NULL, 1e-11},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct exact_run run = run_new(rows[i].params, rows[i].weight, rows[i].site, 5);
        struct hsgd_plan plan = plan_of(rows[i].params, rows[i].site, 5);
        run.record->job_max = 7;
        run_steps(&run, 240);
        for (uint64_t t = 0; t <= 240; t++) {
            double w[EXACT_NODES];
            exact_by_hand(&plan, rows[i].weight, t, w);
            for (rank_t j = 0; j < EXACT_NODES; j++)
                if (!isnan(run.record->start[j][t]))
                    assert_near(run.record->start[j][t], w[j], rows[i].tolerance);
        }
        run_free(&run);
    }
}

/* Models right before the average after `steps` steps, and their divergences. */
static void divergences_by_hand(const struct hsgd_plan *plan, uint64_t steps, double *up, double *down)
{
    double w[EXACT_NODES], mean = 0, of_group[EXACT_NODES] = {0}, size[EXACT_NODES] = {0};
    uint32_t group[HSGD_LEVEL_MAX * EXACT_NODES];
    hsgd_groups_draw(plan, (steps - 1) / plan->period[0][0], group);
    const uint32_t *below = group + (plan->level_count > 1 ? EXACT_NODES : 0);
    exact_by_hand(plan, NULL, steps - 1, w);
    for (rank_t j = 0; j < EXACT_NODES; j++) {
        w[j] = exact_step(j, w[j]);
        mean += w[j] / EXACT_NODES;
        of_group[below[j]] += w[j];
        size[below[j]]++;
    }
    *up = *down = 0;
    for (rank_t j = 0; j < EXACT_NODES; j++) {
        double here = of_group[below[j]] / size[below[j]];
        *up += (here - mean) * (here - mean) / EXACT_NODES;
        *down += (w[j] - here) * (w[j] - here) / EXACT_NODES;
    }
}

/* The nodes' shares add up to the divergences right before the latest averages of their kind. */
static void divergences_are_those_before_the_averages(void **state)
{
    (void)state;
    static const uint32_t site[EXACT_NODES] = {3, 3, 1, 0, 1, 0, 0, 1};
    static const struct {
        const char *params;
        const uint32_t *site;
        uint64_t up_at, down_at; /* steps of the latest average of everybody, of a group of level 1 */
    } rows[] = {{"hsgd:periods=16-4,groups=2", NULL, 32, 44},
                {"hsgd:periods=16-4,groups=4,grouping=random", NULL, 32, 44},
                {"hsgd:periods=16-4,groups=4,grouping=random,redraw=yes", NULL, 0, 44}, /* not measured */
                {"hsgd:periods=16-4,grouping=tags", site, 32, 44},
                {"hsgd:periods=32-8-2,groups=2-2", NULL, 32, 40},
                {"hsgd:periods=4", NULL, 0, 44}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct exact_run run = run_new(rows[i].params, NULL, rows[i].site, 5);
        struct hsgd_plan plan = plan_of(rows[i].params, rows[i].site, 5);
        double up = 0, down = 0, up_by_hand = 0, down_by_hand = 0, unused;
        for (rank_t j = 0; j < EXACT_NODES; j++) {
            harness_run_until(run.harness, harness_now(run.harness) + 1000);
            const struct hsgd *h = (const struct hsgd *)harness_algo(run.harness, j);
            while (h->step < 44 || (h->step == 44 && h->resting))
                harness_run_until(run.harness, harness_now(run.harness) + 1000);
            struct algo_report report;
            harness_report(run.harness, j, &report);
            up += report.divergence_up;
            down += report.divergence_down;
        }
        if (rows[i].up_at > 0) divergences_by_hand(&plan, rows[i].up_at, &up_by_hand, &unused);
        divergences_by_hand(&plan, rows[i].down_at, &unused, &down_by_hand);
        /* squares of limbs are those of the scalar but for the first limb's grid */
        assert_near(up, up_by_hand, 2e-3 * up_by_hand);
        assert_near(down, down_by_hand, 2e-3 * down_by_hand);
        run_free(&run);
    }
}

/* -- bytes across groups ------------------------------------------------------------------------ */

enum { ACROSS_DIM = 6 * EXACT_NODES, ACROSS_STEPS = 52 };

/* Of one ring in rank order: each member sends K - 1 partial sums to the next and K - 1 sums to the one
 * before, each 1/K of the vector; groups are those of the epoch that the average ends. */
static uint64_t ring_across(const struct hsgd_plan *plan, rank_t j)
{
    uint64_t floats = 0;
    uint32_t group[HSGD_LEVEL_MAX * EXACT_NODES];
    for (uint64_t k = 0; k < ACROSS_STEPS / plan->period[0][0]; k++) {
        hsgd_groups_draw(plan, k, group);
        const uint32_t *home = group + EXACT_NODES;
        bool up = home[j] != home[(j + 1) % EXACT_NODES];
        bool down = home[j] != home[(j + EXACT_NODES - 1) % EXACT_NODES];
        floats += (uint64_t)(up + down) * (EXACT_NODES - 1) * ACROSS_DIM / EXACT_NODES;
    }
    return floats;
}

static uint64_t bytes_across_at(struct harness *harness, rank_t j)
{
    harness_run_until(harness, harness_now(harness) + 1000); /* there is one after the start */
    const struct hsgd *h = (const struct hsgd *)harness_algo(harness, j);
    while (h->step < ACROSS_STEPS || (h->step == ACROSS_STEPS && h->resting))
        harness_run_until(harness, harness_now(harness) + 1000);
    struct algo_report report;
    harness_report(harness, j, &report);
    assert_true(report.version < 64);
    return report.bytes_across;
}

/* N groups of m: 2 (N-1)/N size/m floats per member and average of everybody, and nothing else crosses. */
static void what_crosses_groups_is_the_least_there_can_be(void **state)
{
    (void)state;
    static const float zero[ACROSS_DIM] = {0};
    static const struct {
        const char *params;
        uint64_t averages, groups; /* groups 0: redrawn, one ring */
    } rows[] = {{"hsgd:periods=16-4,groups=2", 3, 2},
                {"hsgd:periods=16-4,groups=4,grouping=random", 3, 4},
                {"hsgd:periods=4-4,groups=2", 13, 2},
                {"hsgd:periods=16-8-4,groups=2-2", 3, 2}, /* those of level 2 do not count */
                {"hsgd:periods=16-4,groups=1", 3, 1},
                {"hsgd:periods=4", 13, 1},
                {"hsgd:periods=16-4,groups=4,grouping=random,redraw=yes", 3, 0},
                {"hsgd:periods=16-8-4,groups=2-2,grouping=random,redraw=yes", 3, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph *graph = complete_new();
        struct harness *harness =
            harness_new(&hsgd_type, rows[i].params, graph, NULL, ACROSS_DIM, zero, 5, patience_us);
        struct hsgd_plan plan = plan_of(rows[i].params, NULL, 5);
        for (rank_t j = 0; j < EXACT_NODES; j++) {
            uint64_t n = rows[i].groups, floats = 0;
            if (n > 0)
                floats = rows[i].averages * 2 * (n - 1) * ACROSS_DIM / EXACT_NODES; /* N m = all */
            else
                floats = ring_across(&plan, j);
            assert_int_equal(bytes_across_at(harness, j), floats * sizeof(float));
        }
        harness_free(harness);
        graph_deinit(graph);
        free(graph);
    }
}

/* P = 1 is gradient descent on the mean. */
static void period_one_is_synchronous_descent(void **state)
{
    (void)state;
    struct exact_run run = run_new("hsgd:periods=1", NULL, NULL, 1);
    run_steps(&run, 200);
    double w = 0;
    for (uint64_t t = 1; t <= 200; t++) {
        double gradient = 0;
        for (int j = 0; j < EXACT_NODES; j++) gradient += exact_a[j] * (w - exact_c[j]) / EXACT_NODES;
        w -= exact_gamma * gradient;
        for (rank_t j = 0; j < EXACT_NODES; j++) assert_near(value(&run, j, t), w, 1e-11);
    }
    run_free(&run);
}

/* N = 1 is local SGD with P = I, N = n and I = G are local SGD with P = G: the same bits all the way. */
static void limiting_cases_are_local_sgd_to_the_bit(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"hsgd:periods=16-4,groups=1", "hsgd:periods=4"},
                                          {"hsgd:periods=16-4,groups=8", "hsgd:periods=16"},
                                          {"hsgd:periods=16-16,groups=2", "hsgd:periods=16"},
                                          {"hsgd:periods=16-4-4,groups=1-4", "hsgd:periods=4"},
                                          {"hsgd:periods=16-1,groups=1", "hsgd:periods=1"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct exact_run a = run_new(rows[i][0], NULL, NULL, 1), b = run_new(rows[i][1], NULL, NULL, 2);
        a.record->job_max = b.record->job_max =
            1; /* limbs go back to their grids after every step, in both */
        run_steps(&a, 320);
        run_steps(&b, 320);
        for (uint64_t t = 16; t <= 320; t += 16)
            for (rank_t j = 0; j < EXACT_NODES; j++)
                assert_memory_equal(a.record->limb[j][t], b.record->limb[j][t], sizeof a.record->limb[j][t]);
        run_free(&a);
        run_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_those_of_the_table),
        cmocka_unit_test(limits_of_all_balanced_groupings_are_as_computed),
        cmocka_unit_test(first_global_round_is_as_computed),
        cmocka_unit_test(trajectories_are_the_rule_by_hand),
        cmocka_unit_test(divergences_are_those_before_the_averages),
        cmocka_unit_test(what_crosses_groups_is_the_least_there_can_be),
        cmocka_unit_test(period_one_is_synchronous_descent),
        cmocka_unit_test(limiting_cases_are_local_sgd_to_the_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

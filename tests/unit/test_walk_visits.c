/* Goal: several walks are aggregated as Multi-Walk says, and train one after the other where they meet; a walk comes to
 * every node as often, whatever the node's degree.
 * Method: the algorithm harness in virtual time with the counting trainer. The checker of the aggregation is shown a
 * wrong number of walks, the measure of visits a walk that takes every step that it draws. */
#include "tests/unit/walk_fixture.h"

#include <math.h>

/* -- several walks --------------------------------------------------------------------------------- */

struct aggregation {
    uint32_t walks; /* as the checker takes it */
    double x[NODES][DIM], base[NODES][DIM];
    uint32_t last, steps;
    uint32_t checked, wrong;
};

/* Follows rank 0: what each walk was when it came, the steps it did, what it was when it had trained. */
static void follow_rank_0(void *ctx, struct harness *h, rank_t r, const struct algo_event *e)
{
    struct aggregation *a = ctx;
    if (r != 0) return;
    const struct walk *w = inside(h, 0);
    if (e->kind == ALGO_TRAINED) {
        uint32_t t = w->aggregated;
        a->x[t][0] += (double)e->trained.steps;
        for (uint32_t i = 0; i < DIM; i++) {
            double expected = a->base[a->last][i] + (a->x[t][i] - a->base[t][i]) / a->walks;
            a->wrong += fabs(expected - (double)w->walk[t].base[i]) > 1e-4 * (1 + fabs(expected));
        }
        for (uint32_t i = 0; i < DIM; i++) a->x[t][i] = a->base[t][i] = (double)w->walk[t].base[i];
        a->last = t;
        a->checked++;
    }
    for (uint32_t t = 0; t < w->walk_count && e->kind == ALGO_MESSAGE; t++)
        for (uint32_t i = 0; i < DIM; i++) a->x[t][i] = (double)w->walk[t].x[i];
}

static struct aggregation run_aggregation(uint32_t taken_for)
{
    struct graph g;
    build_graph("complete", &g);
    struct aggregation a = {.walks = taken_for};
    struct harness *h = start(&walk_type, "walk:steps=2,walks=3", "none", &g, 5);
    harness_set_hook(h, follow_rank_0, &a);
    harness_run_until(h, 5 * SECOND);
    harness_free(h);
    graph_deinit(&g);
    return a;
}

static void rank_0_aggregates_as_multi_walk_says(void **state)
{
    (void)state;
    struct aggregation a = run_aggregation(3);
    assert_true(a.checked > 50);
    assert_int_equal(a.wrong, 0);
    assert_true(run_aggregation(2).wrong > 0); /* the checker would see it */
}

static void every_walk_goes_on_where_many_meet(void **state)
{
    (void)state;
    struct graph g;
    build_graph("star", &g); /* all of them pass through the middle, whose trainer takes one at a time */
    for (size_t k = 0; k < COMPRESSOR_COUNT; k += 3) {
        struct harness *h = start(&walk_type, "walk:walks=8", compressors[k], &g, 1);
        harness_run_until(h, 10 * SECOND);
        uint64_t sequence[NODES] = {0}, steps = 0, greatest = 0;
        for (uint32_t t = 0; t < NODES; t++)
            for (rank_t v = 0; v < NODES; v++) {
                uint64_t here = inside(h, v)->walk[t].custody.last.sequence;
                if (here > sequence[t]) sequence[t] = here;
                if (here > greatest) greatest = here;
            }
        for (rank_t v = 0; v < NODES; v++) steps += harness_steps(h, v);
        for (uint32_t t = 0; t < NODES; t++) {
            assert_true(sequence[t] > 50);
            steps -= sequence[t]; /* one step a stop */
        }
        assert_int_equal(steps, 0);
        uint64_t newest = 0;
        for (rank_t v = 0; v < NODES; v++)
            if (report_of(h, v).version > newest) newest = report_of(h, v).version;
        assert_int_equal(newest, greatest);
        harness_free(h);
    }
    graph_deinit(&g);
}

static void walks_go_on_without_the_aggregator_and_find_it_again(void **state)
{
    (void)state;
    struct graph g;
    build_graph("complete", &g);
    struct harness *h = start(&walk_type, "walk:walks=3", "int8", &g, 2);
    harness_run_until(h, 3 * SECOND);
    harness_crash(h, 0);
    harness_run_until(h, 30 * SECOND);
    uint64_t steps[NODES];
    for (rank_t v = 1; v < NODES; v++) steps[v] = harness_steps(h, v);
    harness_run_until(h, 40 * SECOND);
    for (rank_t v = 1; v < NODES; v++) assert_true(harness_steps(h, v) > steps[v] + 50);
    harness_restart(h, 0, true);
    harness_run_until(h, 80 * SECOND);
    assert_int_equal(inside(h, 0)->joined, 3);
    for (uint32_t t = 0; t < 3; t++) assert_non_null(inside(h, 0)->walk[t].base);
    assert_true(harness_steps(h, 0) > 500);
    harness_free(h);
    graph_deinit(&g);
}

/* -- where it goes ----------------------------------------------------------------------------------- */

static void leaves_link(struct harness *h, bool up)
{
    for (rank_t a = 1; a < NODES; a++)
        for (rank_t b = a + 1; b < NODES; b++) (up ? harness_link_up : harness_link_down)(h, a, b);
}

/* Least and greatest of the nodes' shares of the steps, times the number of nodes. In a star, or now in a star and now
 * in a complete graph. */
static void shares_of_steps(const struct algo_type *type, bool changes, double *least, double *greatest)
{
    struct graph g;
    build_graph(changes ? "complete" : "star", &g);
    struct harness *h = start(type, "walk:steps=1", "none", &g, 6);
    for (uint32_t k = 1; k <= 400; k++) {
        harness_run_until(h, k * SECOND / 2);
        if (changes) leaves_link(h, k % 2 == 0);
    }
    double sum = 0;
    for (rank_t v = 0; v < NODES; v++) sum += (double)harness_steps(h, v);
    assert_true(sum > 10000);
    *least = *greatest = (double)harness_steps(h, 0) * NODES / sum;
    for (rank_t v = 1; v < NODES; v++) {
        double share = (double)harness_steps(h, v) * NODES / sum;
        *least = fmin(*least, share);
        *greatest = fmax(*greatest, share);
    }
    harness_free(h);
    graph_deinit(&g);
}

static void every_node_trains_as_often_whatever_its_degree(void **state)
{
    (void)state;
    for (int changes = 0; changes < 2; changes++) {
        double least, greatest;
        shares_of_steps(&walk_type, changes, &least, &greatest);
        if (least < 0.75 || greatest > 1.25)
            fail_msg("changes %d: shares %g to %g", changes, least, greatest);
    }
}

static int step_accepting_all(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct walk *w = (struct walk *)a;
    for (uint32_t i = 0; i < w->peer_count; i++) w->peer[i].degree = 1;
    return walk_type.step(a, e, acts);
}

static void the_measure_finds_a_walk_that_goes_to_the_hub(void **state)
{
    (void)state;
    struct algo_type planted = walk_type;
    double least, greatest;
    planted.step = step_accepting_all;
    shares_of_steps(&planted, false, &least, &greatest);
    assert_true(greatest > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rank_0_aggregates_as_multi_walk_says),
        cmocka_unit_test(every_walk_goes_on_where_many_meet),
        cmocka_unit_test(walks_go_on_without_the_aggregator_and_find_it_again),
        cmocka_unit_test(every_node_trains_as_often_whatever_its_degree),
        cmocka_unit_test(the_measure_finds_a_walk_that_goes_to_the_hub),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

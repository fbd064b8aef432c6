/* Goal: rounds (mode=sync) are multiplications by the mixing matrix, nobody absent stops them, and both modes
 * come back to life after any sequence of faults, the same way each time.
 * Method: instances in virtual time (algo_harness.h); models are compared with the matrix product in double
 * precision at the beginning of each round, also with a wrong matrix, which must show. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "tests/unit/gossip_fixture.h"

/* -- sync ------------------------------------------------------------------------------------------ */

enum { ROUND_MAX = 12 };

/* Model of every node at the beginning of every round, by the matrix product in double. */
struct oracle {
    uint32_t n;
    double x[ROUND_MAX + 1][NODE_MAX][NODE_MAX];
    uint32_t compared;
    double worst;
};

static void oracle_fill(struct oracle *o, const struct graph *g, uint32_t every, bool uniform)
{
    memset(o, 0, sizeof *o);
    o->n = g->node_count;
    for (uint32_t k = 0; k < ROUND_MAX; k++) {
        double trained[NODE_MAX][NODE_MAX];
        memcpy(trained, o->x[k], sizeof trained);
        for (rank_t v = 0; v < o->n; v++) trained[v][v] += every;
        for (rank_t v = 0; v < o->n; v++)
            for (rank_t c = 0; c < o->n; c++) {
                double sum = 0, rest = 1;
                for (rank_t u = 0; u < o->n; u++) {
                    if (!graph_has_edge(g, v, u)) continue;
                    double w = uniform ? 1.0 / (graph_degree(g, v) + 1) : metropolis_weight(g, v, u);
                    sum += w * trained[u][c];
                    rest -= w;
                }
                o->x[k + 1][v][c] = sum + rest * trained[v][c];
            }
    }
}

/* After each mix: the model that begins round k is compared with the oracle's. */
static void oracle_compare(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    struct oracle *o = ctx;
    const struct rounds *s = &inside(h, rank)->rounds;
    if (e->kind == ALGO_START || s->round > ROUND_MAX || s->steps > 0 || s->waiting) return;
    o->compared++;
    for (rank_t c = 0; c < o->n; c++)
        o->worst = fmax(o->worst, fabs(o->x[s->round][rank][c] - (double)harness_model(h, rank)[c]));
}

static void rounds_are_the_matrix_product(void **state)
{
    (void)state;
    static const struct {
        const char *topology, *params;
        uint32_t every, job_steps;
        bool uniform, oracle_uniform, equal;
    } cases[] = {
        {"ring", "gossip:mode=sync", 1, 100, false, false, true},
        {"star", "gossip:mode=sync,every=3", 3, 100, false, false, true},
        {"star", "gossip:mode=sync,every=5", 5, 2, false, false, true}, /* jobs stop early: 2 + 2 + 1 */
        {"er:p=0.5", "gossip:mode=sync,weights=uniform", 1, 100, true, true, true},
        {"er:p=0.5", "gossip:mode=sync", 1, 100, false, false, true},
        {"star", "gossip:mode=sync,weights=uniform", 1, 100, true, false, false}, /* the wrong matrix shows */
        {"ring", "gossip:mode=sync,every=2", 3, 100, false, false, false},        /* so do missing steps */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct graph g = graph_make(cases[i].topology, 8);
        struct harness *h = harness_make(&gossip_type, cases[i].params, &g, 1);
        static struct oracle o;
        oracle_fill(&o, &g, cases[i].every, cases[i].oracle_uniform);
        harness_set_job_steps(h, cases[i].job_steps);
        harness_set_hook(h, oracle_compare, &o);
        for (rank_t r = 0; r < 8; r++) harness_set_step_time(h, r, 20000 + 7000 * (r % 3)); /* links are up */
        harness_run_until(h, 4 * SECOND);
        assert_true(o.compared >= 8 * ROUND_MAX);
        if ((o.worst < 1e-4) != cases[i].equal) fail_msg("case %zu: distance %g", i, o.worst);
        harness_free(h);
        graph_deinit(&g);
    }
}

static uint64_t round_of(const struct harness *h, rank_t r)
{
    return inside(h, r)->rounds.round;
}

static void a_dead_neighbour_does_not_block_rounds(void **state)
{
    (void)state;
    struct graph g = graph_make("star", 5);
    struct harness *h = harness_make(&gossip_type, "gossip:mode=sync", &g, 1);
    harness_run_until(h, SECOND);
    uint64_t before = round_of(h, 0);
    assert_true(before > 30);
    harness_crash(h, 3);
    harness_run_until(h, 2 * SECOND);
    assert_true(round_of(h, 0) > before + 30);
    harness_restart(h, 3, true);
    harness_run_until(h, 3 * SECOND);
    for (rank_t r = 1; r < 5; r++) assert_true(round_of(h, r) + 1 >= round_of(h, 0));
    assert_true(report_of(h, 3).mixes > 30);
    harness_crash(h, 0); /* the hub: the leaves go on alone */
    before = round_of(h, 1);
    harness_run_until(h, 4 * SECOND);
    assert_true(round_of(h, 1) > before + 30);
    harness_free(h);
    graph_deinit(&g);
}

static void a_silent_neighbour_costs_one_patience(void **state)
{
    (void)state;
    struct graph g = graph_make("ring", 5);
    struct harness *h = harness_make(&gossip_type, "gossip:mode=sync", &g, 1);
    harness_set_step_time(h, 4, 40000);
    harness_run_until(h, SECOND);
    uint64_t before = round_of(h, 0);
    harness_pause(h, 4);
    harness_run_until(h, SECOND + PATIENCE / 2);
    assert_true(round_of(h, 0) <= before + 3); /* it is waited for */
    harness_run_until(h, 2 * SECOND + 3 * PATIENCE);
    assert_true(round_of(h, 0) > before + 60); /* not once a round */
    harness_unpause(h, 4);
    harness_run_until(h, 4 * SECOND + 3 * PATIENCE);
    uint64_t mixes = report_of(h, 0).mixes;
    before = round_of(h, 0);
    harness_run_until(h, 6 * SECOND + 3 * PATIENCE);
    assert_true(round_of(h, 0) > before + 20);
    assert_true(report_of(h, 0).mixes >= mixes + 2 * (round_of(h, 0) - before)); /* waited for again */
    for (rank_t r = 0; r < 5; r++) {
        rank_t next = (r + 1) % 5;
        assert_true(round_of(h, r) <= round_of(h, next) + 1 && round_of(h, next) <= round_of(h, r) + 1);
    }
    harness_free(h);
    graph_deinit(&g);
}

static void who_comes_up_in_mid_round_takes_part(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct harness *h = harness_make(&gossip_type, "gossip:mode=sync", &g, 1);
    harness_set_step_time(h, RANK_NONE, 50000); /* the link is down when they are done */
    harness_set_step_time(h, 2, SECOND / 2);    /* both others wait for it */
    harness_link_down(h, 0, 1);
    harness_run_until(h, SECOND / 5);
    assert_int_equal(harness_sent(h, GOSSIP_ROUND), 2);
    harness_link_up(h, 0, 1);
    harness_run_until(h, SECOND / 4);
    assert_int_equal(harness_sent(h, GOSSIP_ROUND), 4);
    harness_run_until(h, SECOND / 2 + 20000);
    for (rank_t r = 0; r < 3; r++) assert_int_equal(report_of(h, r).mixes, 2);
    assert_true(consensus_error(h, 3) < 1.01); /* all of round 0, at most one step of round 1 */
    harness_free(h);
    graph_deinit(&g);
}

static void a_model_counts_once_and_in_its_round(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct harness *h = harness_make(&gossip_type, "gossip:mode=sync", &g, 1);
    harness_set_step_time(h, RANK_NONE, 50000);
    harness_set_step_time(h, 2, 400000);
    harness_run_until(h, 300000);
    assert_true(inside(h, 0)->rounds.waiting); /* for 2; the model of 1 is here */
    const float far[3] = {1000, 1000, 1000};
    struct algo_msg m = {.kind = GOSSIP_ROUND, .field_count = 1, .vec = blob_copy(far, sizeof far)};
    m.field[0] = round_of(h, 0);
    assert_int_equal(harness_inject(h, 1, 0, &m), 0);
    assert_int_equal(report_of(h, 0).duplicates_dropped, 1);
    harness_run_until(h, 440000); /* round 1 has begun */
    assert_int_equal(round_of(h, 0), 1);
    assert_int_equal(harness_inject(h, 1, 0, &m), 0);
    assert_int_equal(report_of(h, 0).duplicates_dropped, 2);
    harness_run_until(h, 2 * SECOND);
    assert_true(harness_model(h, 0)[0] < 100);
    assert_int_equal(m.vec->references, 1); /* nobody kept it */
    blob_unref(m.vec);
    harness_free(h);
    graph_deinit(&g);
}

static void a_fresh_node_joins_by_status_alone(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = harness_make(&gossip_type, "gossip:mode=sync", &g, 1);
    harness_crash(h, 1);
    harness_run_until(h, SECOND);
    harness_set_step_time(h, 0, 100 * SECOND);
    harness_run_until(h, SECOND + 10000); /* the present job ends, the next one is long */
    uint64_t models = report_of(h, 0).model_transfers;
    harness_restart(h, 1, true);
    harness_run_until(h, SECOND + 60000);
    assert_true(round_of(h, 0) > 100);
    assert_int_equal(round_of(h, 1), round_of(h, 0));
    assert_int_equal(report_of(h, 0).model_transfers, models);
    harness_free(h);
    graph_deinit(&g);
}

/* -- both ------------------------------------------------------------------------------------------ */

static void disturb(struct harness *h, const struct graph *g, struct prng *p, bool *dead)
{
    rank_t r = prng_below(p, g->node_count);
    rank_t peer = g->neighbour[g->offset[r] + prng_below(p, graph_degree(g, r))];
    switch (prng_below(p, 6)) {
    case 0:
        harness_link_down(h, r, peer);
        break;
    case 1:
        harness_link_up(h, r, peer);
        break;
    case 2:
        if (!dead[r]) harness_crash(h, r);
        dead[r] = true;
        break;
    case 3:
        if (dead[r]) harness_restart(h, r, true);
        dead[r] = false;
        break;
    case 4:
        if (!dead[r]) harness_pause(h, r);
        break;
    case 5:
        if (!dead[r]) harness_unpause(h, r);
        break;
    }
}

static void heal(struct harness *h, const struct graph *g, bool *dead)
{
    for (rank_t r = 0; r < g->node_count; r++) {
        if (dead[r])
            harness_restart(h, r, true);
        else
            harness_unpause(h, r);
        for (uint32_t i = g->offset[r]; i < g->offset[r + 1]; i++) harness_link_up(h, r, g->neighbour[i]);
    }
}

/* Random faults, then none: everybody mixes again and agreement or equal rounds follow. */
static uint64_t survive(const char *params, const char *compress, uint64_t seed, bool sync)
{
    enum { N = 8 };
    struct graph g = graph_make("regular:d=4", N);
    struct harness *h = harness_make(&gossip_type, params, &g, seed);
    harness_set_compress(h, compress);
    struct prng p;
    prng_split(&p, seed, "disturb", 0);
    bool dead[N] = {false};
    for (uint64_t t = 1; t <= 300; t++) {
        harness_run_until(h, t * 20000);
        disturb(h, &g, &p, dead);
    }
    heal(h, &g, dead);
    harness_run_until(h, 10 * SECOND);
    uint64_t mixes[N];
    for (rank_t r = 0; r < N; r++) mixes[r] = report_of(h, r).mixes;
    harness_run_until(h, 14 * SECOND);
    for (rank_t r = 0; r < N; r++) assert_true(report_of(h, r).mixes > mixes[r] + 20);
    harness_stop_training(h);
    harness_run_until(h, 200 * SECOND);
    if (!sync) assert_true(consensus_error(h, N) < 1e-2);
    uint64_t hash = harness_trace_hash(h);
    harness_free(h);
    graph_deinit(&g);
    return hash;
}

static void gossip_survives_random_faults(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        survive("gossip", "none", seed, false);
        survive("gossip:mode=sync,every=2", "none", seed, true);
    }
    for (uint64_t seed = 1; seed <= 10; seed++) {
        survive("gossip", "int8", seed, false);
        survive("gossip:gamma=0.5", "topk:fraction=0.5", seed, false);
        survive("gossip:mode=sync,every=2", "topk:fraction=0.25", seed, true);
    }
}

static void equal_seeds_give_equal_runs(void **state)
{
    (void)state;
    assert_true(survive("gossip", "none", 5, false) == survive("gossip", "none", 5, false));
    assert_true(survive("gossip", "int8", 5, false) == survive("gossip", "int8", 5, false));
    assert_true(survive("gossip", "none", 5, false) != survive("gossip", "none", 6, false));
    assert_true(survive("gossip:mode=sync", "none", 5, true) == survive("gossip:mode=sync", "none", 5, true));
}

/* One node of one, and a node whose neighbours never come. */
static void a_lone_node_trains_on(void **state)
{
    (void)state;
    static const char *const params[] = {"gossip", "gossip:mode=sync,every=4"};
    for (size_t i = 0; i < 2; i++) {
        struct graph g = graph_make("complete", 2);
        struct harness *h = harness_make(&gossip_type, params[i], &g, 1);
        harness_crash(h, 1);
        harness_run_until(h, 2 * SECOND);
        assert_true(harness_steps(h, 0) > 200);
        assert_true(harness_model(h, 0)[0] == (float)harness_steps(h, 0));
        assert_int_equal(harness_sent_vectors(h), 0);
        harness_free(h);
        graph_deinit(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_are_the_matrix_product),
        cmocka_unit_test(a_dead_neighbour_does_not_block_rounds),
        cmocka_unit_test(a_silent_neighbour_costs_one_patience),
        cmocka_unit_test(who_comes_up_in_mid_round_takes_part),
        cmocka_unit_test(a_model_counts_once_and_in_its_round),
        cmocka_unit_test(a_fresh_node_joins_by_status_alone),
        cmocka_unit_test(gossip_survives_random_faults),
        cmocka_unit_test(equal_seeds_give_equal_runs),
        cmocka_unit_test(a_lone_node_trains_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a whole cluster of nodes in the simulated world joins, trains, mixes and survives faults; the same
 * seed gives the same trace. Method: a plain algorithm of the test's own (every node sends its model to its
 * neighbours after each job and takes the mean of what comes in), trainers that pull towards a target of
 * their own, and faults in between: first safety (nothing is refused, nothing breaks), then, after healing,
 * liveness (every link is up again, everybody goes on). The same is asked of every registered algorithm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/simulation.h"
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

static void fixture_init(struct fixture *f, uint32_t nodes, uint64_t seed)
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

static struct simulation *open_simulation(const struct fixture *f)
{
    struct simulation *s = NULL;
    struct err_text why = {""};
    if (simulation_new(&f->setup, &s, &why) != 0) fail_msg("%s", why.text);
    return s;
}

static void let_go_on(struct simulation *s, double seconds)
{
    uint64_t until_us = simulation_now_us(s) + (uint64_t)(seconds * SECOND);
    for (uint32_t events = 0; simulation_step(s, until_us); events++) {
        if (events == EVENTS_MAX) fail_msg("a storm: %u events in %.0f virtual s", EVENTS_MAX, seconds);
    }
    assert_string_equal(simulation_failure(s), "");
}

static uint32_t nodes_with_every_link(const struct simulation *s)
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

static uint64_t refused(const struct simulation *s)
{
    struct simulation_totals t;
    simulation_totals(s, &t);
    return t.messages_refused;
}

/* -- tests ------------------------------------------------------------------------------------- */

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

static void nodes_that_know_only_a_seed_find_everybody(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, NODES_MAX, 3);
    f.setup.join = true;
    struct simulation *s = open_simulation(&f);
    assert_null(node_graph(simulation_node(s, 5)));
    let_go_on(s, 2 * (double)simulation_patience_us(s) / SECOND);
    assert_int_equal(nodes_with_every_link(s), NODES_MAX);
    assert_int_equal(f.made, NODES_MAX);
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
    for (uint32_t victim = 0; victim < 9; victim++) { /* 0 is everybody's seed, 1 to 8 dial it */
        struct fixture f;
        fixture_init(&f, 9, 20 + victim);
        f.setup.join = true;
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

/* -- faults at random -------------------------------------------------------------------------- */

static void fault_at_random(struct simulation *s, struct prng *p)
{
    struct sim_world *w = simulation_world(s);
    uint32_t nodes = simulation_node_count(s);
    uint32_t a = prng_below(p, nodes);
    const struct graph *g = simulation_graph(s);
    uint32_t b = g->neighbour[g->offset[a] + prng_below(p, graph_degree(g, a))];
    bool alive = simulation_node(s, a) != NULL;
    switch (prng_below(p, 7)) {
    case 0:
        if (alive) simulation_crash(s, a, prng_below(p, 2) == 0);
        break;
    case 1:
    case 2:
        if (!alive) assert_int_equal(simulation_restart(s, a, NULL), 0);
        break;
    case 3:
        sim_cut(w, a, b);
        break;
    case 4:
        sim_cut_one_way(w, a, b);
        break;
    case 5:
        sim_reset_link(w, a, b);
        break;
    case 6:
        if (alive && prng_below(p, 2) == 0)
            sim_pause(w, a);
        else if (alive)
            sim_resume(w, a);
        sim_heal(w, a, b);
        break;
    default:
        fail();
    }
}

static void heal_everything(struct simulation *s)
{
    sim_heal_all(simulation_world(s));
    for (uint32_t v = 0; v < simulation_node_count(s); v++) {
        if (simulation_node(s, v) == NULL) assert_int_equal(simulation_restart(s, v, NULL), 0);
    }
}

static void assert_everybody_goes_on(struct simulation *s, uint64_t seed, const char *what, bool all_train)
{
    uint64_t before[NODES_MAX];
    uint32_t moved = 0, nodes = simulation_node_count(s);
    struct node_report r;
    double patience_s = (double)simulation_patience_us(s) / SECOND;
    if (nodes_with_every_link(s) != nodes)
        fail_msg("%s, seed %llu: %u of %u nodes have all links", what, (unsigned long long)seed,
                 nodes_with_every_link(s), nodes);
    for (uint32_t v = 0; v < nodes; v++) {
        node_report(simulation_node(s, v), &r);
        before[v] = r.algo.steps;
    }
    let_go_on(s, 12 * patience_s);
    for (uint32_t v = 0; v < nodes; v++) {
        node_report(simulation_node(s, v), &r);
        moved += r.algo.steps > before[v];
        assert_true(vec_finite(DIM, node_model(simulation_node(s, v))));
    }
    if (moved < (all_train ? nodes : 1))
        fail_msg("%s, seed %llu: %u of %u nodes still train", what, (unsigned long long)seed, moved, nodes);
    if (refused(s) != 0)
        fail_msg("%s, seed %llu: %llu messages refused", what, (unsigned long long)seed,
                 (unsigned long long)refused(s));
}

static void swarm(struct fixture *f, uint64_t seed, const char *what, bool all_train)
{
    struct simulation *s = open_simulation(f);
    struct prng p;
    prng_split(&p, seed, "test faults", 0);
    double patience_s = (double)simulation_patience_us(s) / SECOND;
    let_go_on(s, patience_s);
    for (int i = 0; i < 40; i++) {
        fault_at_random(s, &p);
        let_go_on(s, prng_exponential(&p, patience_s / 8));
    }
    heal_everything(s);
    let_go_on(s, 3 * patience_s);
    assert_everybody_goes_on(s, seed, what, all_train);
    simulation_free(s);
}

static void cluster_recovers_from_faults_at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct fixture f;
        fixture_init(&f, 4 + (uint32_t)(seed % 6), seed);
        f.setup.join = seed % 3 == 0;
        swarm(&f, seed, "plain", true);
    }
}

/* The lossiest that fits, of two that the seed chooses from, and of those for careful methods. */
static struct choice fitting_compressor(const struct algo_type *type, size_t dim, uint64_t seed)
{
    const char *const text[] = {seed % 2 == 0 ? "qsgd:bits=4" : "topk:fraction=0.5", "block:fraction=0.5",
                                "int8", "none"};
    struct choice choice;
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        assert_int_equal(
            choice_parse(compress_table, compress_table_count, "--compress", text[i], &choice, NULL), 0);
        if (algo_fit_compress(type, &choice, dim, NULL) == 0) break;
    }
    return choice;
}

static void every_registered_algorithm_recovers_from_faults_at_random(void **state)
{
    (void)state;
    for (size_t i = 0; i < algo_type_count; i++) {
        for (uint64_t seed = 100; seed < 106; seed++) {
            struct fixture f;
            bool all_links = algo_types[i]->links == ALGO_LINKS_ALL; /* these may want even groups */
            fixture_init(&f, all_links ? 6 + 2 * (uint32_t)(seed % 2) : 5 + (uint32_t)(seed % 4), seed);
            struct err_text why = {""};
            const char *name = algo_types[i]->spec.name;
            assert_int_equal(algo_choose(name, &f.params, &f.setup.algo, &why), 0);
            const char *links = all_links ? "complete" : "ring";
            assert_int_equal(
                choice_parse(topology_table, topology_table_count, "--topology", links, &f.topology, &why),
                0);
            struct choice compress = fitting_compressor(f.setup.algo, f.setup.dim, seed);
            if (f.setup.algo->compresses) f.setup.compress = &compress;
            swarm(&f, seed, name, f.setup.algo->eval == ALGO_EVAL_AVERAGE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_trains_and_mixes_to_the_common_optimum),
        cmocka_unit_test(nodes_that_know_only_a_seed_find_everybody),
        cmocka_unit_test(every_node_does_exactly_its_steps),
        cmocka_unit_test(same_seed_gives_the_same_trace),
        cmocka_unit_test(folded_model_changes_the_trace),
        cmocka_unit_test(crashed_node_takes_its_old_place_again),
        cmocka_unit_test(node_that_diverges_ends_the_run_with_its_reason),
        cmocka_unit_test(impossible_topology_is_refused),
        cmocka_unit_test(averages_are_weighted_and_newest_is_by_version),
        cmocka_unit_test(cluster_recovers_from_faults_at_random),
        cmocka_unit_test(every_registered_algorithm_recovers_from_faults_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a whole cluster survives faults at random: crashes, restarts, cuts, resets, pauses. First safety (nothing is
 * refused, nothing breaks), then, after healing, liveness (every link is up again, everybody goes on).
 * Method: the plain cluster over 60 seeds, and every registered algorithm with a compressor that fits it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/plain_cluster.h"

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
        cmocka_unit_test(cluster_recovers_from_faults_at_random),
        cmocka_unit_test(every_registered_algorithm_recovers_from_faults_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

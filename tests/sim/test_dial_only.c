/* Goal: members that nobody can dial are members as others: with --topology overlay a quarter of them are neighbours of
 * others, direct ones or through a third, and when two fifths of all are killed the rest is one component again; in a ring
 * two of them side by side, whom no common neighbour links, find a relayer, and another one when that is gone; so do
 * two that could be dialled, but not by each other.
 * Method: whole nodes (SWIM, overlay, relay, gossip) in the simulator. Active views are looked at from outside: one
 * component, symmetric once quiet, bounded; each relayed link goes through a living member. Planted: nodes
 * that do not relay, and the same questions find two of them apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/node/internal.h"
#include "agent/simulation/simulation.h"
#include "base/check.h"
#include "base/prng.h"

enum { NODES_MAX = 60, DIM = 4, SECOND = 1000000, SEEDS_DIALLED = 8, ACTIVE_MAX = 5 };

struct cluster {
    struct choice algorithm, topology, latency, step_time;
    struct simulation_setup setup;
    struct simulation *sim;
    struct prng prng;
    bool dial_only[NODES_MAX];
};

static uint32_t still_run(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    (void)t;
    (void)x;
    for (uint32_t i = 0; i < DIM; i++) delta[i] = 0;
    *loss = 1;
    return max_steps;
}

static void still_free(struct trainer *t)
{
    free(t);
}

static int still_new(void *ctx, uint32_t place, struct trainer **out, struct err_text *why)
{
    (void)ctx;
    (void)place;
    (void)why;
    *out = mem_new_zero(1, sizeof **out);
    (*out)->run = still_run;
    (*out)->free = still_free;
    return 0;
}

static void choose(const struct choice_spec *table, size_t count, const char *text, struct choice *out)
{
    assert_int_equal(choice_parse(table, count, "", text, out, NULL), 0);
}

static void cluster_init(struct cluster *c, uint32_t nodes, const char *topology, uint64_t seed)
{
    static const float x0[DIM] = {1, 1, 1, 1};
    *c =
        (struct cluster){.setup = {.node_count = nodes, .seed = seed, .dim = DIM, .x0 = x0, .dynamic = true}};
    prng_split(&c->prng, seed, "dial only", 0);
    assert_int_equal(algo_choose("gossip:mode=async", &c->algorithm, &c->setup.algo, NULL), 0);
    choose(topology_table, topology_table_count, topology, &c->topology);
    choose(latency_table, latency_table_count, "exp:mean=5ms", &c->latency);
    choose(step_time_table, step_time_table_count, "uniform:low=200ms,high=600ms", &c->step_time);
    c->setup.algo_params = &c->algorithm;
    c->setup.topology = &c->topology;
    c->setup.latency = &c->latency;
    c->setup.step_time = &c->step_time;
    c->setup.patience_us = 6 * SECOND;
    c->setup.relay_bytes_s = 1u << 20;
    c->setup.dial_only = c->dial_only;
    c->setup.trainer_new = still_new;
}

static void cluster_open(struct cluster *c)
{
    struct err_text why = {""};
    if (simulation_new(&c->setup, &c->sim, &why) != 0) fail_msg("%s", why.text);
}

static void go_on(struct cluster *c, double seconds)
{
    simulation_run(c->sim, simulation_now_us(c->sim) + (uint64_t)(seconds * SECOND));
    assert_string_equal(simulation_failure(c->sim), "");
}

/* -- looking ----------------------------------------------------------------------------------- */

static const struct node *node_at(const struct cluster *c, uint32_t v)
{
    return simulation_node(c->sim, v);
}

struct look {
    uint32_t components, degree_max;
    uint32_t alone_dial_only; /* without a neighbour */
    uint32_t direct, relayed; /* links of neighbours, each counted at both ends */
};

static uint32_t root_of(uint32_t *root, uint32_t v)
{
    while (root[v] != v) v = root[v] = root[root[v]];
    return v;
}

static void look_at(const struct cluster *c, uint32_t v, uint32_t *root, struct look *look)
{
    const node_id *id;
    uint32_t degree = overlay_active(node_at(c, v)->overlay, &id), living = 0;
    if (degree > look->degree_max) look->degree_max = degree;
    for (uint32_t k = 0; k < degree; k++) {
        uint32_t other = (uint32_t)id[k];
        if (node_at(c, other) == NULL) continue;
        const struct link *l = node_link_of(node_at(c, v), other);
        assert_non_null(l);
        living++;
        look->direct += !l->relayed;
        look->relayed += l->relayed;
        uint32_t a = root_of(root, v), b = root_of(root, other);
        look->components -= a != b;
        root[a] = b;
    }
    look->alone_dial_only += c->dial_only[v] && living == 0;
}

static struct look look(const struct cluster *c)
{
    uint32_t root[NODES_MAX];
    struct look all = {0};
    for (uint32_t v = 0; v < c->setup.node_count; v++) {
        root[v] = v;
        all.components += node_at(c, v) != NULL;
    }
    for (uint32_t v = 0; v < c->setup.node_count; v++)
        if (node_at(c, v) != NULL) look_at(c, v, root, &all);
    return all;
}

static bool is_whole(const struct look *l)
{
    return l->components == 1 && l->alone_dial_only == 0;
}

static void one_sided_look(const struct cluster *c, bool now[NODES_MAX][NODES_MAX])
{
    for (uint32_t v = 0; v < NODES_MAX; v++)
        for (uint32_t u = 0; u < NODES_MAX; u++)
            now[v][u] = node_at(c, v) != NULL && overlay_is_active(node_at(c, v)->overlay, u) &&
                        (node_at(c, u) == NULL || !overlay_is_active(node_at(c, u)->overlay, v));
}

/* What is under way at one moment is no contradiction. */
static uint32_t one_sided(struct cluster *c)
{
    static bool before[NODES_MAX][NODES_MAX], after[NODES_MAX][NODES_MAX];
    uint32_t count = 0;
    one_sided_look(c, before);
    go_on(c, 2);
    one_sided_look(c, after);
    for (uint32_t v = 0; v < NODES_MAX; v++)
        for (uint32_t u = 0; u < NODES_MAX; u++) count += before[v][u] && after[v][u];
    return count;
}

/* Returns the virtual seconds after which it was whole for good, within `seconds`; -1 when it is not at the end. */
static double watch(struct cluster *c, double seconds, uint32_t *relayed_max)
{
    double whole_s = -1;
    for (double waited = 0.5; waited <= seconds; waited += 0.5) {
        go_on(c, 0.5);
        struct look l = look(c);
        assert_in_range(l.degree_max, 0, ACTIVE_MAX);
        if (l.relayed > *relayed_max) *relayed_max = l.relayed;
        if (!is_whole(&l))
            whole_s = -1;
        else if (whole_s < 0)
            whole_s = waited;
    }
    return whole_s;
}

/* -- overlay ----------------------------------------------------------------------------------- */

static void overlay_open(struct cluster *c, uint64_t seed)
{
    cluster_init(c, NODES_MAX, "complete", seed);
    c->setup.overlay = true;
    for (uint32_t i = 0; i < NODES_MAX / 4; i++) {
        uint32_t v = SEEDS_DIALLED + prng_below(&c->prng, NODES_MAX - SEEDS_DIALLED);
        while (c->dial_only[v]) v = SEEDS_DIALLED + (v + 1) % (NODES_MAX - SEEDS_DIALLED);
        c->dial_only[v] = true;
    }
    cluster_open(c);
}

static void overlays_take_in_members_that_only_dial(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1; seed++) {
        struct cluster c;
        uint32_t relayed = 0;
        overlay_open(&c, seed);
        double formed_s = watch(&c, 20, &relayed);
        assert_true(formed_s > 0);
        uint32_t order[NODES_MAX];
        for (uint32_t v = 0; v < NODES_MAX; v++) order[v] = v;
        prng_shuffle(&c.prng, order, NODES_MAX);
        for (uint32_t i = 0; i < NODES_MAX * 2 / 5; i++) simulation_crash(c.sim, order[i], i % 2 == 0);
        double healed_s = watch(&c, 30, &relayed);
        assert_true(healed_s > 0);
        struct look l = look(&c);
        printf("seed %u: whole after %.1f s, and %.1f s after two fifths were killed; then %u ends of direct "
               "and %u of relayed links, %u at most before\n",
               (unsigned)seed, formed_s, healed_s, l.direct, l.relayed, relayed);
        assert_true(relayed > 0 && l.direct > 10 * l.relayed);
        assert_int_equal(one_sided(&c), 0);
        simulation_free(c.sim);
    }
}

/* -- a fixed topology -------------------------------------------------------------------------- */

static const struct link *link_at(const struct cluster *c, uint32_t v, uint32_t to)
{
    return node_link_of(node_at(c, v), to);
}

static bool all_linked(const struct cluster *c, uint32_t nodes)
{
    for (uint32_t v = 0; v < nodes; v++) {
        struct node_report r;
        node_report(node_at(c, v), &r);
        if (r.phase != NODE_TRAINING || r.neighbours_up != r.neighbours) return false;
    }
    return true;
}

static bool linked_within(struct cluster *c, uint32_t nodes, double seconds)
{
    for (double waited = 0; waited < seconds && !all_linked(c, nodes); waited += 0.5) go_on(c, 0.5);
    return all_linked(c, nodes);
}

static void two_side_by_side_in_a_ring_have_a_relayer_and_another_after_it(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct cluster c;
        cluster_init(&c, 10, "ring", seed);
        c.dial_only[4] = c.dial_only[5] = true;
        cluster_open(&c);
        assert_true(linked_within(&c, 10, 20));
        go_on(&c, 40); /* links that nobody needs are closed meanwhile */
        const struct link *l = link_at(&c, 4, 5);
        assert_true(l != NULL && l->relayed && all_linked(&c, 10));
        uint64_t up_us = l->up_us;
        assert_true(simulation_now_us(c.sim) - up_us > 20 * SECOND); /* it has not flapped */
        uint32_t relayer = (uint32_t)l->relayer;
        assert_false(c.dial_only[relayer]);
        simulation_crash(c.sim, relayer, false);
        for (double waited = 0;
             waited < 20 && (link_at(&c, 4, 5) == NULL || link_at(&c, 4, 5)->up_us == up_us); waited += 0.5)
            go_on(&c, 0.5);
        go_on(&c, 2);
        l = link_at(&c, 4, 5);
        assert_true(l != NULL && l->relayed && l->relayer != relayer);
        simulation_free(c.sim);
    }
}

/* As behind NATs that nobody knows of: both have addresses, and no common neighbour. */
static void two_that_do_not_reach_each_other_meet_at_a_home(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct cluster c;
        cluster_init(&c, 10, "ring", seed);
        cluster_open(&c);
        assert_true(linked_within(&c, 10, 20));
        go_on(&c, 40); /* links of the beginning are closed */
        assert_false(link_at(&c, 4, 5)->relayed);
        sim_cut(simulation_world(c.sim), 4, 5);
        go_on(&c, 3);
        assert_null(link_at(&c, 4, 5));
        assert_true(linked_within(&c, 10, 20));
        go_on(&c, 30);
        assert_true(link_at(&c, 4, 5)->relayed && all_linked(&c, 10));
        sim_heal(simulation_world(c.sim), 4, 5);
        go_on(&c, 10);
        assert_false(link_at(&c, 4, 5)->relayed); /* the direct one is better */
        simulation_free(c.sim);
    }
}

/* -- power ------------------------------------------------------------------------------------- */

static void without_relays_two_of_them_stay_apart(void **state)
{
    (void)state;
    struct cluster c;
    cluster_init(&c, 10, "ring", 1);
    c.dial_only[4] = c.dial_only[5] = true;
    c.setup.relay_bytes_s = 0;
    cluster_open(&c);
    assert_false(linked_within(&c, 10, 20));
    assert_null(link_at(&c, 4, 5));
    simulation_free(c.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlays_take_in_members_that_only_dial),
        cmocka_unit_test(two_side_by_side_in_a_ring_have_a_relayer_and_another_after_it),
        cmocka_unit_test(two_that_do_not_reach_each_other_meet_at_a_home),
        cmocka_unit_test(without_relays_two_of_them_stay_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

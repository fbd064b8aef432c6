/* Goal: the living graph is connected whenever the base is, whoever is gone; it is the base when nobody is; a ring
 * stays a ring and a star without its hub becomes a cycle; each group of vacancies costs a vertex at most two edges
 * more; the graph depends on who is gone, not on the order of going.
 * Method: random vacancies on every kind of graph, compared with a definition that knows nothing of groups found by
 * search (labels that spread over edges). Planted: bridges left out are found by the same check. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/topology/living.h"
#include "algo/topology/make.h"
#include "base/prng.h"

enum { NODES_MAX = 40 };

static void build(const char *text, uint32_t n, uint64_t seed, struct graph *g)
{
    struct choice choice;
    struct err_text why = {""};
    assert_int_equal(choice_parse(topology_table, topology_table_count, "--topology", text, &choice, &why),
                     0);
    if (topology_build(&choice, n, seed, g, &why) != 0) fail_msg("%s of %u: %s", text, n, why.text);
}

static uint32_t vacate(struct prng *p, uint32_t n, uint8_t *vacant)
{
    uint32_t living = 0;
    double share = prng_unit(p);
    for (uint32_t v = 0; v < n; v++) {
        vacant[v] = prng_unit(p) < share;
        living += !vacant[v];
    }
    return living;
}

/* Group of each vertex that is vacant: the lowest rank in it. */
static void groups_of(const struct graph *g, const uint8_t *vacant, rank_t *group)
{
    for (rank_t v = 0; v < g->node_count; v++) group[v] = v;
    for (bool changed = true; changed;) {
        changed = false;
        for (rank_t v = 0; v < g->node_count; v++)
            for (uint32_t i = g->offset[v]; vacant[v] && i < g->offset[v + 1]; i++) {
                rank_t to = g->neighbour[i];
                if (!vacant[to] || group[to] >= group[v]) continue;
                group[v] = group[to];
                changed = true;
            }
    }
}

/* Groups around v; beside[]: the neighbours that their cycles give it. */
static uint32_t cycles_at(const struct graph *g, const uint8_t *vacant, const rank_t *group, rank_t v,
                          bool *beside)
{
    uint32_t count = 0;
    memset(beside, 0, NODES_MAX * sizeof *beside);
    for (rank_t lead = 0; lead < g->node_count; lead++) {
        bool border[NODES_MAX] = {false};
        uint32_t size = 0, at = 0, order[NODES_MAX] = {0};
        for (rank_t a = 0; a < g->node_count; a++)
            for (uint32_t i = g->offset[a]; i < g->offset[a + 1]; i++)
                border[a] |= !vacant[a] && vacant[g->neighbour[i]] && group[g->neighbour[i]] == lead;
        if (!border[v]) continue;
        count++;
        for (rank_t a = 0; a < g->node_count; a++) {
            if (!border[a]) continue;
            if (a == v) at = size;
            order[size++] = a;
        }
        beside[order[(at + 1) % size]] = beside[order[(at + size - 1) % size]] = true;
        beside[v] = false;
    }
    return count;
}

/* NULL, or what is wrong with `living` as the living graph of g. */
static const char *fault_of(const struct graph *g, const uint8_t *vacant, const struct graph *living)
{
    rank_t group[NODES_MAX];
    bool beside[NODES_MAX];
    rank_t first = RANK_NONE;
    groups_of(g, vacant, group);
    for (rank_t v = 0; v < g->node_count; v++) {
        if (vacant[v]) {
            if (graph_degree(living, v) != 0) return "a vacant vertex has edges";
            continue;
        }
        if (first == RANK_NONE) first = v;
        uint32_t cycles = cycles_at(g, vacant, group, v, beside), expected = 0;
        for (rank_t to = 0; to < g->node_count; to++) {
            bool there = beside[to] || (graph_has_edge(g, v, to) && !vacant[to]);
            if (there != graph_has_edge(living, v, to)) return "an edge is missing, or one too many";
            expected += there;
        }
        if (graph_degree(living, v) != expected) return "an edge is there twice";
        if (expected > graph_degree(g, v) + 2 * cycles) return "more than two edges for a group";
    }
    if (first == RANK_NONE) return NULL;
    double dist[NODES_MAX];
    uint32_t parent[NODES_MAX];
    shortest_paths(living, NULL, first, dist, parent);
    for (rank_t v = 0; v < g->node_count; v++)
        if (!vacant[v] && isinf(dist[v])) return "not connected";
    return NULL;
}

static const char *const kinds[] = {"ring", "torus", "complete", "star", "regular:d=4", "er:p=0.15", "exp"};

static void what_was_connected_stays_so_whoever_is_gone(void **state)
{
    (void)state;
    struct prng p;
    prng_split(&p, 1, "living", 0);
    for (uint32_t round = 0; round < 700; round++) {
        uint32_t n = 8 + 2 * prng_below(&p, (NODES_MAX - 8) / 2);
        uint8_t vacant[NODES_MAX];
        struct graph g, living;
        build(kinds[round % 7], n, round, &g);
        vacate(&p, n, vacant);
        living_graph(&g, vacant, &living);
        const char *fault = fault_of(&g, vacant, &living);
        if (fault != NULL) fail_msg("%s of %u, round %u: %s", kinds[round % 7], n, round, fault);
        graph_deinit(&living);
        graph_deinit(&g);
    }
}

static void with_nobody_gone_it_is_the_base(void **state)
{
    (void)state;
    static const uint8_t vacant[16];
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct graph g, living;
        struct living_edge *edge;
        build(kinds[k], 16, 3, &g);
        assert_int_equal(living_edges(&g, vacant, &edge), 0);
        assert_null(edge);
        living_graph(&g, vacant, &living);
        assert_int_equal(living.edge_count, g.edge_count);
        assert_memory_equal(living.offset, g.offset, 17 * sizeof *g.offset);
        assert_memory_equal(living.neighbour, g.neighbour, 2 * g.edge_count * sizeof *g.neighbour);
        assert_memory_equal(living.delay, g.delay, 2 * g.edge_count * sizeof *g.delay);
        graph_deinit(&living);
        graph_deinit(&g);
    }
}

/* Living vertices in ascending order form one cycle. */
static void assert_cycle(const struct graph *living, const uint8_t *vacant)
{
    rank_t order[NODES_MAX];
    uint32_t count = 0;
    for (rank_t v = 0; v < living->node_count; v++)
        if (!vacant[v]) order[count++] = v;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(graph_degree(living, order[i]), count > 2 ? 2 : count - 1);
        if (count > 1) assert_true(graph_has_edge(living, order[i], order[(i + 1) % count]));
    }
}

static void a_ring_stays_a_ring(void **state)
{
    (void)state;
    struct prng p;
    prng_split(&p, 2, "living", 0);
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t n = 3 + prng_below(&p, 20);
        uint8_t vacant[NODES_MAX];
        struct graph g, living;
        build("ring", n, 1, &g);
        vacate(&p, n, vacant);
        living_graph(&g, vacant, &living);
        assert_cycle(&living, vacant);
        graph_deinit(&living);
        graph_deinit(&g);
    }
}

static void a_star_without_its_hub_becomes_a_cycle(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 12; n++) {
        uint8_t vacant[NODES_MAX] = {1};
        struct graph g, living;
        build("star", n, 1, &g);
        living_graph(&g, vacant, &living);
        assert_cycle(&living, vacant);
        graph_deinit(&living);
        graph_deinit(&g);
    }
}

/* 0 - 1 - 2 and 0 - 3 - 2, delays 1, 2, 3, 4; 1 and 3 are two groups that ask for the same edge. */
static void a_bridge_is_as_long_as_the_quickest_way_to_the_rim(void **state)
{
    (void)state;
    static const uint32_t pair[][2] = {{0, 1}, {1, 2}, {0, 3}, {3, 2}};
    static const double delay[] = {1, 2, 3, 4};
    static const uint8_t vacant[4] = {0, 1, 0, 1};
    struct graph g;
    struct living_edge *edge;
    assert_int_equal(graph_from_edges(4, pair, delay, 4, &g, NULL), 0);
    assert_int_equal(living_edges(&g, vacant, &edge), 1);
    assert_int_equal(edge[0].a, 0);
    assert_int_equal(edge[0].b, 2);
    assert_true(edge[0].delay == 3);
    free(edge);
    graph_deinit(&g);
}

static void bridges_left_out_are_found(void **state)
{
    (void)state;
    static const uint8_t vacant[8] = {0, 0, 1, 0, 0, 1, 0, 0}, nobody[8];
    struct graph g, without;
    build("ring", 8, 1, &g);
    living_graph(&g, nobody, &without); /* the dead keep their edges */
    assert_non_null(fault_of(&g, vacant, &without));
    graph_deinit(&without);
    uint32_t pair[8][2], count = 0; /* the living keep theirs, and no more */
    for (rank_t v = 0; v < 8; v++) {
        if (vacant[v] || vacant[(v + 1) % 8]) continue;
        pair[count][0] = v;
        pair[count++][1] = (v + 1) % 8;
    }
    graph_rows(8, (const uint32_t(*)[2])pair, NULL, count, &without);
    assert_non_null(fault_of(&g, vacant, &without));
    graph_deinit(&without);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_connected_stays_so_whoever_is_gone),
        cmocka_unit_test(with_nobody_gone_it_is_the_base),
        cmocka_unit_test(a_ring_stays_a_ring),
        cmocka_unit_test(a_star_without_its_hub_becomes_a_cycle),
        cmocka_unit_test(a_bridge_is_as_long_as_the_quickest_way_to_the_rim),
        cmocka_unit_test(bridges_left_out_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

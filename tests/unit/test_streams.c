/* Goal: all five decompositions of any graph are accepted by the checker, and each way of docs/algorithms.md to
 * build a cycle, a gap or an untourable stream is refused with a line that names streams and nodes.
 * Method: random graphs with random delays and random dead nodes; planted faults by hand. The checker's
 * verdict is compared with an independent one (edges of the incidence graph = vertices - 1, and
 * connected). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "algo/streams/streams.h"
#include "base/prng.h"

static const enum stream_kind all_kinds[] = {STREAMS_SINGLE, STREAMS_PATH, STREAMS_STAR, STREAMS_BRANCH,
                                             STREAMS_EDGE};

static void build_graph(const char *text, uint32_t n, uint64_t seed, struct graph *g)
{
    struct choice choice;
    struct err_text why;
    assert_int_equal(choice_parse(topology_table, topology_table_count, "--topology", text, &choice, &why),
                     0);
    assert_int_equal(topology_build(&choice, n, seed, g, &why), 0);
    struct prng p;
    prng_split(&p, seed, "test delays", 0);
    for (uint32_t v = 0; v < n; v++)
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
            if (g->neighbour[i] < v) continue;
            g->delay[i] = 1 + prng_below(&p, 9);
            g->delay[graph_edge_index(g, g->neighbour[i], v)] = g->delay[i];
        }
}

static void every_decomposition_of_random_graphs_is_accepted(void **state)
{
    (void)state;
    static const char *const texts[] = {"er:p=0.2", "regular:d=4", "ring", "star", "torus", "exp"};
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct graph g;
        uint32_t n = 12 + 4 * (uint32_t)(seed % 9);
        build_graph(texts[seed % 6], n, seed, &g);
        for (size_t k = 0; k < 5; k++) {
            struct stream_set set;
            struct err_text why = {""};
            streams_build(all_kinds[k], &g, NULL, &set);
            if (streams_check(&set, &g, NULL, &why) != 0)
                fail_msg("seed %u kind %zu: %s", (unsigned)seed, k, why.text);
            assert_int_equal(set.offset[set.count], n + set.count - 1); /* a tree of n + count vertices */
            streams_deinit(&set);
        }
        graph_deinit(&g);
    }
}

static void dead_nodes_are_in_no_stream(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct graph g;
        build_graph("er:p=0.15", 30, seed, &g);
        struct prng p;
        prng_seed(&p, seed);
        uint8_t alive[30];
        for (uint32_t v = 0; v < 30; v++) alive[v] = prng_below(&p, 3) > 0;
        for (size_t k = 0; k < 5; k++) {
            struct stream_set set;
            struct err_text why = {""};
            streams_build(all_kinds[k], &g, alive, &set);
            if (streams_check(&set, &g, alive, &why) != 0)
                fail_msg("seed %u kind %zu: %s", (unsigned)seed, k, why.text);
            for (uint32_t i = 0; i < set.offset[set.count]; i++) assert_true(alive[set.member[i]]);
            streams_deinit(&set);
        }
        graph_deinit(&g);
    }
}

/* The tree 0-1-2-3-4 with 2-5-6 and 1-7: centre 2 (greatest distance 2). */
static void small_tree(struct graph *g)
{
    static const uint32_t pair[][2] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {2, 5}, {5, 6}, {1, 7}};
    assert_int_equal(graph_from_edges(8, pair, NULL, 7, g, NULL), 0);
}

static void print_set(const struct stream_set *s, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t k = 0; k < s->count; k++)
        for (uint32_t i = s->offset[k]; i < s->offset[k + 1]; i++)
            used += (size_t)snprintf(out + used, size - used, "%u%s", s->member[i],
                                     i + 1 < s->offset[k + 1] ? " " : (k + 1 < s->count ? "|" : ""));
}

static void decompositions_of_a_small_tree_are_as_defined(void **state)
{
    (void)state;
    static const char *const expected[] = {"0 1 2 3 4 5 6 7", "0 1 2|2 3 4|2 5 6|1 7",
                                           "1 2 3 5|0 1 7|3 4|5 6", "0 1 2 7|2 3 4|2 5 6",
                                           "1 2|2 3|2 5|0 1|3 4|5 6|1 7"};
    struct graph g;
    small_tree(&g);
    for (size_t k = 0; k < 5; k++) {
        struct stream_set set;
        char text[200];
        streams_build(all_kinds[k], &g, NULL, &set);
        print_set(&set, text, sizeof text);
        assert_int_equal(set.centre, 2);
        assert_string_equal(text, expected[k]);
        streams_deinit(&set);
    }
    graph_deinit(&g);
}

static void the_centre_minimises_the_greatest_distance(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct graph g;
        build_graph("er:p=0.12", 40, seed, &g);
        double best = INFINITY, dist[40];
        uint32_t parent[40], centre = 0;
        for (uint32_t v = 0; v < 40; v++) {
            double reach = 0;
            shortest_paths(&g, NULL, v, dist, parent);
            for (uint32_t u = 0; u < 40; u++) reach = fmax(reach, dist[u]);
            if (reach >= best) continue;
            best = reach;
            centre = v;
        }
        struct stream_set set;
        streams_build(STREAMS_PATH, &g, NULL, &set);
        assert_int_equal(set.centre, centre);
        streams_deinit(&set);
        graph_deinit(&g);
    }
}

static void lone_and_absent_nodes_are_handled(void **state)
{
    (void)state;
    struct graph g;
    struct stream_set set;
    build_graph("ring", 3, 0, &g);
    static const uint8_t one[] = {0, 1, 0}, none[] = {0, 0, 0};
    for (size_t k = 0; k < 5; k++) {
        streams_build(all_kinds[k], &g, one, &set);
        assert_int_equal(set.count, 1);
        assert_true(stream_has(&set, 0, 1) && !stream_has(&set, 0, 0));
        assert_int_equal(streams_check(&set, &g, one, NULL), 0);
        streams_deinit(&set);
        streams_build(all_kinds[k], &g, none, &set);
        assert_int_equal(set.count, 0);
        assert_int_equal(streams_check(&set, &g, none, NULL), 0);
        streams_deinit(&set);
    }
    graph_deinit(&g);
}

/* Writes content to a file and reads it as streams. */
static int read_text(const char *content, uint32_t n, struct stream_set *set, struct err_text *why)
{
    char path[] = "/tmp/gadabout-streams-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    close(fd);
    int err = streams_read(path, n, set, why);
    unlink(path);
    return err;
}

static void unsafe_sets_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *what, *content, *says; /* says NULL = accepted */
    } rows[] = {
        {"sound", "0 1 2\n2,3,4 # two\n\n2 5 6\n1 7", NULL},
        {"two streams share two nodes", "0 1 2 7\n1 2 3 4 5 6",
         "streams 0 and 1 close a cycle through nodes 1 and 2"},
        {"all root-to-leaf paths", "0 1 2\n1 2 7\n2 3 4\n2 5 6",
         "streams 0 and 1 close a cycle through nodes 1 and 2"},
        {"two streams over all", "0 1 2 3 4 5 6 7\n0 1 2 3 4 5 6 7",
         "streams 0 and 1 close a cycle through nodes 0 and 1"},
        {"unconnected stream", "0 1 2 7 3 4 6\n6 5",
         "in stream 0 no links inside the stream lead from node 0 to node 6"},
        {"missing node", "0 1 2 3 4 5 6", "node 7 is in no stream"},
        {"not joined", "0 1 7\n2 3 4 5 6", "streams 0 and 1 are not joined"},
    };
    struct graph g;
    small_tree(&g);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stream_set set;
        struct err_text why = {""};
        assert_int_equal(read_text(rows[i].content, 8, &set, &why), 0);
        int err = streams_check(&set, &g, NULL, &why);
        if (rows[i].says == NULL && err != 0) fail_msg("%s: %s", rows[i].what, why.text);
        if (rows[i].says != NULL && (err != ERR_USAGE || strstr(why.text, rows[i].says) == NULL))
            fail_msg("%s: '%s' does not say '%s'", rows[i].what, why.text, rows[i].says);
        streams_deinit(&set);
    }
    graph_deinit(&g);
}

static void a_true_ring_of_three_streams_is_refused(void **state)
{
    (void)state;
    struct graph g;
    struct stream_set set;
    struct err_text why;
    build_graph("ring", 6, 0, &g);
    assert_int_equal(read_text("0 1 2\n2 3 4\n4 5 0\n", 6, &set, &why), 0);
    assert_int_equal(streams_check(&set, &g, NULL, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "streams 1 and 2 close a cycle through nodes 0 and 4"));
    streams_deinit(&set);
    graph_deinit(&g);
}

/* Moves one random membership of a sound set and compares the verdict with the counting rule: an acyclic
 * connected graph has vertices - 1 edges; adding a membership to a tree always closes a cycle. */
static void any_added_membership_closes_a_cycle(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct graph g;
        build_graph("er:p=0.2", 25, seed, &g);
        struct stream_set set;
        streams_build(STREAMS_PATH, &g, NULL, &set);
        struct prng p;
        prng_seed(&p, seed);
        uint32_t s = prng_below(&p, set.count), v = prng_below(&p, 25);
        while (stream_has(&set, s, v)) v = (v + 1) % 25;
        uint32_t total = set.offset[set.count], at = set.offset[s];
        uint32_t *member = malloc((total + 1) * sizeof *member);
        while (at < set.offset[s + 1] && set.member[at] < v) at++;
        memcpy(member, set.member, at * sizeof *member);
        member[at] = v;
        memcpy(member + at + 1, set.member + at, (total - at) * sizeof *member);
        free(set.member);
        set.member = member;
        for (uint32_t k = s + 1; k <= set.count; k++) set.offset[k]++;
        struct err_text why = {""};
        assert_int_equal(streams_check(&set, &g, NULL, &why), ERR_USAGE);
        assert_non_null(strstr(why.text, "close a cycle"));
        streams_deinit(&set);
        graph_deinit(&g);
    }
}

static void stream_files_are_checked_line_by_line(void **state)
{
    (void)state;
    static const struct {
        const char *content;
        const char *says;
    } rows[] = {
        {"0 1\n1 9\n", "line 2"},     {"0 x\n", "line 1"},  {"0 1\n2 3 2\n", "line 2: a node is named twice"},
        {"# nothing\n", "no stream"}, {"0 -1\n", "line 1"}, {"99999999999999999999\n", "line 1"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stream_set set;
        struct err_text why = {""};
        assert_int_equal(read_text(rows[i].content, 8, &set, &why), ERR_FORMAT);
        if (strstr(why.text, rows[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", why.text, rows[i].says);
    }
    struct stream_set set;
    assert_int_equal(streams_read("/nonexistent/streams", 8, &set, NULL), ERR_IO);
}

static void a_thousand_nodes_are_decomposed(void **state)
{
    (void)state;
    static const char *const texts[] = {"regular:d=4", "er:p=0.02", "exp"};
    for (size_t i = 0; i < 3; i++) {
        struct graph g;
        struct stream_set set;
        build_graph(texts[i], 1000, i, &g);
        streams_build(STREAMS_PATH, &g, NULL, &set);
        assert_int_equal(streams_check(&set, &g, NULL, NULL), 0);
        streams_deinit(&set);
        graph_deinit(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_decomposition_of_random_graphs_is_accepted),
        cmocka_unit_test(dead_nodes_are_in_no_stream),
        cmocka_unit_test(decompositions_of_a_small_tree_are_as_defined),
        cmocka_unit_test(the_centre_minimises_the_greatest_distance),
        cmocka_unit_test(lone_and_absent_nodes_are_handled),
        cmocka_unit_test(unsafe_sets_are_refused_by_name),
        cmocka_unit_test(a_true_ring_of_three_streams_is_refused),
        cmocka_unit_test(any_added_membership_closes_a_cycle),
        cmocka_unit_test(stream_files_are_checked_line_by_line),
        cmocka_unit_test(a_thousand_nodes_are_decomposed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

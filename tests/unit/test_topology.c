/* Goal: every generator gives the graph its name promises, refuses sizes that do not fit with a remedy, and
 * is a pure function of (choice, n, seed); weights and spectral gap agree with closed forms.
 * Method: one checker of the graph invariants (itself shown to catch a planted bug) runs over a table of
 * choices and sizes; spectra of circulant graphs, stars and complete graphs are known exactly. */
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

#include "algo/topology/topology.h"

static int build(const char *text, uint32_t n, uint64_t seed, struct graph *g, struct err_text *why)
{
    struct choice choice;
    why->text[0] = '\0';
    int err = choice_parse(topology_table, topology_table_count, "--topology", text, &choice, why);
    assert_int_equal(err, 0);
    return topology_build(&choice, n, seed, g, why);
}

static void must_build(const char *text, uint32_t n, uint64_t seed, struct graph *g)
{
    struct err_text why;
    if (build(text, n, seed, g, &why) != 0) fail_msg("%s of %u: %s", text, n, why.text);
}

/* Undirected, no loops, no multiple edges, ascending, connected. NULL or what is wrong. */
static const char *graph_fault(const struct graph *g)
{
    if (g->offset[g->node_count] != 2 * g->edge_count) return "edge count";
    double *dist = malloc(g->node_count * sizeof *dist);
    uint32_t *parent = malloc(g->node_count * sizeof *parent);
    shortest_paths(g, NULL, 0, dist, parent);
    const char *fault = NULL;
    for (uint32_t v = 0; v < g->node_count; v++) {
        if (isinf(dist[v])) fault = "not connected";
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
            uint32_t to = g->neighbour[i];
            if (to == v) fault = "loop";
            if (i > g->offset[v] && to <= g->neighbour[i - 1]) fault = "order";
            uint32_t back = graph_edge_index(g, to, v);
            if (back == UINT32_MAX || g->delay[back] != g->delay[i]) fault = "not symmetric";
        }
    }
    free(dist);
    free(parent);
    return fault;
}

static void every_generator_gives_a_sound_graph(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t n, edges; /* 0 = not known beforehand */
    } rows[] = {
        {"ring", 1, 0},
        {"ring", 2, 1},
        {"ring", 3, 3},
        {"ring", 10, 10},
        {"ring", 65536, 65536},
        {"torus", 4, 4},
        {"torus", 6, 9},
        {"torus", 9, 18},
        {"torus", 10, 15},
        {"torus", 100, 200},
        {"complete", 1, 0},
        {"complete", 2, 1},
        {"complete", 7, 21},
        {"complete", 500, 124750},
        {"star", 1, 0},
        {"star", 2, 1},
        {"star", 50, 49},
        {"exp", 1, 0},
        {"exp", 2, 1},
        {"exp", 8, 20},
        {"exp", 16, 56},
        {"exp", 100, 0},
        {"regular:d=1", 2, 1},
        {"regular:d=2", 3, 3},
        {"regular:d=2", 1000, 1000},
        {"regular:d=3", 10, 15},
        {"regular:d=4", 100, 200},
        {"regular:d=7", 8, 28},
        {"regular:d=5", 8, 20},
        {"regular:d=50", 101, 2525},
        {"regular:d=3", 65536, 98304},
        {"er:p=0.3", 10, 0},
        {"er:p=0.05", 200, 0},
        {"er:p=1", 20, 190},
        {"er:p=0", 1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (uint64_t seed = 0; seed < (rows[i].n > 1000 ? 1 : 5); seed++) {
            struct graph g;
            must_build(rows[i].text, rows[i].n, seed, &g);
            const char *fault = graph_fault(&g);
            if (fault != NULL)
                fail_msg("%s of %u, seed %u: %s", rows[i].text, rows[i].n, (unsigned)seed, fault);
            if (rows[i].edges > 0) assert_int_equal(g.edge_count, rows[i].edges);
            graph_deinit(&g);
        }
}

static void regular_graphs_have_equal_degrees(void **state)
{
    (void)state;
    for (uint32_t n = 3; n <= 14; n++)
        for (uint32_t d = 2; d < n; d++) {
            if (n * d % 2 != 0) continue;
            char text[32];
            snprintf(text, sizeof text, "regular:d=%u", d);
            struct graph g;
            must_build(text, n, n * 100 + d, &g);
            assert_null(graph_fault(&g));
            for (uint32_t v = 0; v < n; v++) assert_int_equal(graph_degree(&g, v), d);
            graph_deinit(&g);
        }
}

static void the_graph_is_a_function_of_choice_size_and_seed(void **state)
{
    (void)state;
    static const char *const texts[] = {"regular:d=4", "regular:d=2", "er:p=0.2"};
    for (size_t i = 0; i < 3; i++) {
        struct graph a, b, other;
        must_build(texts[i], 60, 7, &a);
        must_build(texts[i], 60, 7, &b);
        must_build(texts[i], 60, 8, &other);
        assert_int_equal(a.edge_count, b.edge_count);
        assert_memory_equal(a.neighbour, b.neighbour, 2 * a.edge_count * sizeof *a.neighbour);
        assert_true(a.edge_count != other.edge_count ||
                    memcmp(a.neighbour, other.neighbour, 2 * a.edge_count * sizeof *a.neighbour) != 0);
        graph_deinit(&a);
        graph_deinit(&b);
        graph_deinit(&other);
    }
}

static void er_has_the_expected_number_of_edges(void **state)
{
    (void)state;
    double total = 0, pairs = 300.0 * 299 / 2, p = 0.1;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct graph g;
        must_build("er:p=0.1", 300, seed, &g);
        total += g.edge_count;
        graph_deinit(&g);
    }
    double sigma = sqrt(20 * pairs * p * (1 - p));
    assert_true(fabs(total - 20 * pairs * p) < 5 * sigma);
}

static void what_does_not_fit_is_refused_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t n;
        const char *says;
    } rows[] = {
        {"torus", 13, "use 12 (3 x 4) or 14 (2 x 7)"},
        {"torus", 3, "4 or more"},
        {"regular:d=8", 8, "at most d=7"},
        {"regular:d=3", 7, "use d=4"},
        {"regular:d=1", 4, "use d=3"},
        {"regular:d=4", 1, "lone node"},
        {"complete", 4097, "at most 4096"},
        {"er:p=0.001", 100, "use p=0.0461"},
        {"er:p=0", 2, "use p="},
        {"er:p=0.5", 65536, "or less"},
        {"ring", 0, "1 to 65536"},
        {"ring", 65537, "1 to 65536"},
        {"regular:d=9999", 65536, "or less"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph g;
        struct err_text why;
        assert_int_equal(build(rows[i].text, rows[i].n, 1, &g, &why), ERR_USAGE);
        if (strstr(why.text, rows[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", why.text, rows[i].says);
    }
}

static int build_file(const char *content, uint32_t n, struct graph *g, struct err_text *why)
{
    char path[] = "/tmp/gadabout-topology-XXXXXX", text[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    close(fd);
    snprintf(text, sizeof text, "file:path=%s", path);
    int err = build(text, n, 0, g, why);
    unlink(path);
    return err;
}

static void files_are_read_with_delays_and_comments(void **state)
{
    (void)state;
    struct graph g;
    struct err_text why;
    assert_int_equal(build_file("# links\n0 1\n 2\t1 2.5 # slow\r\n\n1 0 9\n2 3", 4, &g, &why), 0);
    assert_null(graph_fault(&g));
    assert_int_equal(g.edge_count, 3);
    assert_true(g.delay[graph_edge_index(&g, 0, 1)] == 1);
    assert_true(g.delay[graph_edge_index(&g, 1, 2)] == 2.5);
    graph_deinit(&g);
}

static void bad_files_are_refused_naming_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *content;
        int err;
        const char *says;
    } rows[] = {
        {"0 1\n1 4\n", ERR_FORMAT, "line 2"},
        {"0 1\nx\n", ERR_FORMAT, "line 2"},
        {"0 0\n", ERR_FORMAT, "line 1"},
        {"0 1 -1\n", ERR_FORMAT, "line 1"},
        {"0 1 nan\n", ERR_FORMAT, "line 1"},
        {"0 1 1 1\n", ERR_FORMAT, "line 1"},
        {"-1 2\n", ERR_FORMAT, "line 1"},
        {"0 18446744073709551617\n", ERR_FORMAT, "line 1"},
        {"0 1\n2 3\n", ERR_USAGE, "node 2 cannot be reached"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph g;
        struct err_text why;
        assert_int_equal(build_file(rows[i].content, 4, &g, &why), rows[i].err);
        if (strstr(why.text, rows[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", why.text, rows[i].says);
    }
    struct graph g;
    struct err_text why;
    assert_int_equal(build("file:path=/nonexistent/links", 4, 0, &g, &why), ERR_IO);
}

static void edge_lists_are_checked(void **state)
{
    (void)state;
    static const uint32_t loop[][2] = {{0, 1}, {1, 1}}, range[][2] = {{0, 3}}, apart[][2] = {{0, 1}};
    struct graph g;
    struct err_text why;
    assert_int_equal(graph_from_edges(2, loop, NULL, 2, &g, &why), ERR_USAGE);
    assert_int_equal(graph_from_edges(3, range, NULL, 1, &g, &why), ERR_USAGE);
    assert_int_equal(graph_from_edges(3, apart, NULL, 1, &g, &why), ERR_USAGE);
    assert_null(g.offset);
}

static void the_graph_checker_catches_planted_bugs(void **state)
{
    (void)state;
    struct graph g;
    must_build("ring", 6, 0, &g);
    g.delay[0] = 2;
    assert_string_equal(graph_fault(&g), "not symmetric");
    g.delay[0] = 1;
    g.neighbour[0] = 3; /* 0 - 3 without 3 - 0 */
    assert_non_null(graph_fault(&g));
    graph_deinit(&g);
}

static void metropolis_matrix_is_symmetric_and_doubly_stochastic(void **state)
{
    (void)state;
    struct graph g;
    must_build("er:p=0.3", 20, 3, &g);
    for (uint32_t a = 0; a < 20; a++) {
        double row = 0;
        for (uint32_t b = 0; b < 20; b++) {
            double w = metropolis_weight(&g, a, b);
            assert_true(w == metropolis_weight(&g, b, a) && w >= -1e-15);
            row += w;
        }
        assert_true(fabs(row - 1) < 1e-12);
    }
    graph_deinit(&g);
}

/* Circulant graph in which each node has `degree` neighbours at the offsets `hop`. */
static double circulant_gap(uint32_t n, const uint32_t *hop, uint32_t degree)
{
    double magnitude = 0;
    for (uint32_t j = 1; j < n; j++) {
        double lambda = 1;
        for (uint32_t i = 0; i < degree; i++) lambda += cos(2 * 3.14159265358979323846 * j * hop[i] / n);
        magnitude = fmax(magnitude, fabs(lambda / (degree + 1)));
    }
    return 1 - magnitude;
}

static void spectral_gaps_agree_with_closed_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t n;
    } rows[] = {{"ring", 3}, {"ring", 4}, {"ring", 10}, {"ring", 101}, {"ring", 350},   {"exp", 8},
                {"exp", 16}, {"exp", 17}, {"exp", 100}, {"exp", 1024}, {"complete", 2}, {"complete", 40}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph g;
        must_build(rows[i].text, rows[i].n, 0, &g);
        double expected =
            circulant_gap(rows[i].n, g.neighbour, graph_degree(&g, 0)); /* node 0's row = the hops */
        double gap = spectral_gap(&g);
        if (fabs(gap - expected) > 1e-6)
            fail_msg("%s of %u: %.9f, not %.9f", rows[i].text, rows[i].n, gap, expected);
        graph_deinit(&g);
    }
    struct graph star;
    must_build("star", 25, 0, &star);
    assert_true(fabs(spectral_gap(&star) - 1.0 / 25) < 1e-6);
    graph_deinit(&star);
}

static void shortest_paths_keep_to_living_nodes_and_break_ties_low(void **state)
{
    (void)state;
    static const uint32_t pair[][2] = {{0, 1}, {0, 2}, {1, 3}, {2, 3}, {3, 4}, {0, 4}};
    static const double delay[] = {1, 1, 1, 1, 1, 5};
    struct graph g;
    assert_int_equal(graph_from_edges(5, pair, delay, 6, &g, NULL), 0);
    double dist[5];
    uint32_t parent[5];
    shortest_paths(&g, NULL, 0, dist, parent);
    assert_true(dist[4] == 3 && dist[3] == 2);
    assert_int_equal(parent[3], 1);
    assert_int_equal(parent[0], RANK_NONE);
    static const uint8_t alive[] = {1, 0, 0, 1, 1};
    shortest_paths(&g, alive, 0, dist, parent);
    assert_true(dist[4] == 5 && dist[3] == 6 && isinf(dist[1]));
    assert_int_equal(parent[1], RANK_NONE);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_generator_gives_a_sound_graph),
        cmocka_unit_test(regular_graphs_have_equal_degrees),
        cmocka_unit_test(the_graph_is_a_function_of_choice_size_and_seed),
        cmocka_unit_test(er_has_the_expected_number_of_edges),
        cmocka_unit_test(what_does_not_fit_is_refused_with_a_remedy),
        cmocka_unit_test(files_are_read_with_delays_and_comments),
        cmocka_unit_test(bad_files_are_refused_naming_the_line),
        cmocka_unit_test(edge_lists_are_checked),
        cmocka_unit_test(the_graph_checker_catches_planted_bugs),
        cmocka_unit_test(metropolis_matrix_is_symmetric_and_doubly_stochastic),
        cmocka_unit_test(spectral_gaps_agree_with_closed_forms),
        cmocka_unit_test(shortest_paths_keep_to_living_nodes_and_break_ties_low),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

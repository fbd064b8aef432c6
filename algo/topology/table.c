/* The table of mixing graphs (--topology) and the generators that need no chance. */
#include <string.h>

#include "algo/topology/make.h"
#include "algo/topology/topology.h"
#include "base/check.h"
#include "base/limits.h"

enum { COMPLETE_NODE_MAX = 4096 };

static_assert((uint64_t)COMPLETE_NODE_MAX * (COMPLETE_NODE_MAX - 1) / 2 <= EDGE_COUNT_MAX,
              "the largest complete graph fits");

static const struct param_spec regular_params[] = {
    {"d", PARAM_INTEGER, "4", 1, NODE_COUNT_MAX - 1, NULL, "links of each node"},
};
static const struct param_spec er_params[] = {
    {"p", PARAM_REAL, "0.3", 0, 1, NULL, "probability of each link"},
};
static const struct param_spec file_params[] = {
    {"path", PARAM_TEXT, NULL, 0, 0, NULL, "text file, one link 'a b [mean_delay]' a line"},
};

enum {
    TOPOLOGY_RING,
    TOPOLOGY_TORUS,
    TOPOLOGY_COMPLETE,
    TOPOLOGY_STAR,
    TOPOLOGY_REGULAR,
    TOPOLOGY_ER,
    TOPOLOGY_EXP,
    TOPOLOGY_OVERLAY,
    TOPOLOGY_FILE
};

const struct choice_spec topology_table[] = {
    [TOPOLOGY_RING] = {"ring", "each node with the next one", "", NULL, 0},
    [TOPOLOGY_TORUS] = {"torus", "rows and columns, closed, as square as can be", "", NULL, 0},
    [TOPOLOGY_COMPLETE] = {"complete", "every node with every other", "", NULL, 0},
    [TOPOLOGY_STAR] = {"star", "every node with node 0", "", NULL, 0},
    [TOPOLOGY_REGULAR] = {"regular", "random, each node with d others", "Steger, Wormald 1999",
                          regular_params, 1},
    [TOPOLOGY_ER] = {"er", "each pair with probability p, redrawn until connected", "Erdos, Renyi 1959",
                     er_params, 1},
    [TOPOLOGY_EXP] = {"exp", "each node i with i +- 1, 2, 4, 8, ...", "Assran et al. 2019; Ying et al. 2021",
                      NULL, 0},
    [TOPOLOGY_OVERLAY] = {"overlay", "a few random others, renewed as members come and go",
                          "Leitao, Pereira, Rodrigues 2007 (HyParView)", NULL, 0},
    [TOPOLOGY_FILE] = {"file", "links from a text file", "", file_params, 1},
};
const size_t topology_table_count = sizeof topology_table / sizeof topology_table[0];

static void make_ring(uint32_t n, struct edge_list *out)
{
    for (uint32_t v = 1; v < n; v++) edges_add(out, v - 1, v);
    if (n > 2) edges_add(out, 0, n - 1);
}

static void make_star(uint32_t n, struct edge_list *out)
{
    for (uint32_t v = 1; v < n; v++) edges_add(out, 0, v);
}

static int make_complete(uint32_t n, struct edge_list *out, struct err_text *why)
{
    if (n > COMPLETE_NODE_MAX)
        return err_set(why, ERR_USAGE,
                       "--topology complete: %u nodes are too many (at most %d); regular:d=16 or exp mixes "
                       "nearly as well",
                       n, COMPLETE_NODE_MAX);
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = a + 1; b < n; b++) edges_add(out, a, b);
    return 0;
}

/* Greatest divisor of n that is at most its square root. */
static uint32_t torus_rows(uint32_t n)
{
    uint32_t rows = 1;
    for (uint32_t a = 2; a * a <= n; a++)
        if (n % a == 0) rows = a;
    return rows;
}

static int make_torus(uint32_t n, struct edge_list *out, struct err_text *why)
{
    uint32_t rows = torus_rows(n);
    if (n < 4)
        return err_set(why, ERR_USAGE, "--topology torus: %u nodes are too few; use 4 or more, or ring", n);
    if (rows == 1) /* a prime above 3: its neighbours are even */
        return err_set(why, ERR_USAGE,
                       "--topology torus: %u nodes make no rectangle (a prime number); use %u (%u x %u) or "
                       "%u (%u x %u) nodes",
                       n, n - 1, torus_rows(n - 1), (n - 1) / torus_rows(n - 1), n + 1, torus_rows(n + 1),
                       (n + 1) / torus_rows(n + 1));
    uint32_t columns = n / rows;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < columns; c++) {
            /* two rows or columns would give each edge twice: the graph merges them */
            edges_add(out, r * columns + c, r * columns + (c + 1) % columns);
            edges_add(out, r * columns + c, (r + 1) % rows * columns + c);
        }
    return 0;
}

static void make_exp(uint32_t n, struct edge_list *out)
{
    for (uint32_t v = 0; v < n; v++)
        for (uint32_t hop = 1; hop < n; hop *= 2) edges_add(out, v, (v + hop) % n);
}

static int make_edges(const struct choice *topology, uint32_t n, uint64_t seed, struct edge_list *out,
                      struct err_text *why)
{
    switch (topology->index) {
    case TOPOLOGY_RING:
        make_ring(n, out);
        return 0;
    case TOPOLOGY_TORUS:
        return make_torus(n, out, why);
    case TOPOLOGY_COMPLETE:
        return make_complete(n, out, why);
    case TOPOLOGY_OVERLAY:
        return 0;
    case TOPOLOGY_STAR:
        make_star(n, out);
        return 0;
    case TOPOLOGY_REGULAR:
        return edges_draw_regular(n, choice_integer(topology, "d"), seed, out, why);
    case TOPOLOGY_ER:
        return edges_draw_er(n, choice_number(topology, "p"), seed, out, why);
    case TOPOLOGY_EXP:
        make_exp(n, out);
        return 0;
    case TOPOLOGY_FILE:
        return edges_read(choice_text(topology, "path"), n, out, why);
    }
    UNREACHABLE();
}

int topology_build(const struct choice *topology, uint32_t node_count, uint64_t seed, struct graph *out,
                   struct err_text *why)
{
    memset(out, 0, sizeof *out);
    CHECK(topology->spec == &topology_table[topology->index]);
    if (node_count == 0 || node_count > NODE_COUNT_MAX)
        return err_set(why, ERR_USAGE, "--topology: %u nodes; it takes 1 to %u", node_count, NODE_COUNT_MAX);
    if (topology->index == TOPOLOGY_OVERLAY) { /* any two may meet, and the members say who does */
        graph_rows(node_count, NULL, NULL, 0, out);
        return 0;
    }
    struct edge_list edges = {0};
    int err = make_edges(topology, node_count, seed, &edges, why);
    if (err == 0)
        err = graph_from_edges(node_count, (const uint32_t(*)[2])edges.pair, edges.delay, edges.count, out,
                               why);
    edges_deinit(&edges);
    return err;
}

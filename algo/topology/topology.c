/* Graphs in compressed rows, and the Metropolis-Hastings weights on them. */
#include "algo/topology/topology.h"

#include <stdlib.h>
#include <string.h>

#include "algo/topology/make.h"
#include "base/check.h"
#include "base/limits.h"

/* -- building ---------------------------------------------------------------------------------- */

static int check_pairs(uint32_t node_count, const uint32_t (*pair)[2], size_t pair_count,
                       struct err_text *why)
{
    if (node_count == 0 || node_count > NODE_COUNT_MAX)
        return err_set(why, ERR_USAGE, "topology: %u nodes; it takes 1 to %u", node_count, NODE_COUNT_MAX);
    if (pair_count > EDGE_COUNT_MAX)
        return err_set(why, ERR_LIMIT, "topology: %zu edges; at most %u are allowed", pair_count,
                       EDGE_COUNT_MAX);
    for (size_t i = 0; i < pair_count; i++) {
        uint32_t a = pair[i][0], b = pair[i][1];
        if (a >= node_count || b >= node_count)
            return err_set(why, ERR_USAGE, "topology: edge %u - %u names a node outside 0..%u", a, b,
                           node_count - 1);
        if (a == b) return err_set(why, ERR_USAGE, "topology: edge %u - %u is a loop; remove it", a, b);
    }
    return 0;
}

/* Rows in the order of the pairs, both directions. */
static void fill_rows(const uint32_t (*pair)[2], const double *delay, size_t pair_count, struct graph *g)
{
    uint32_t n = g->node_count;
    for (size_t i = 0; i < pair_count; i++) {
        g->offset[pair[i][0] + 1]++;
        g->offset[pair[i][1] + 1]++;
    }
    for (uint32_t v = 0; v < n; v++) g->offset[v + 1] += g->offset[v];
    uint32_t *next = mem_new(n, sizeof *next);
    memcpy(next, g->offset, n * sizeof *next);
    for (size_t i = 0; i < pair_count; i++)
        for (int side = 0; side < 2; side++) {
            uint32_t at = next[pair[i][side]]++;
            g->neighbour[at] = pair[i][1 - side];
            g->delay[at] = delay != NULL ? delay[i] : 1.0;
        }
    free(next);
}

static void graph_reserve(struct graph *g, uint32_t node_count, size_t pair_count)
{
    g->node_count = node_count;
    g->edge_count = 0;
    g->offset = mem_new_zero((size_t)node_count + 1, sizeof *g->offset);
    g->neighbour = mem_new(2 * pair_count, sizeof *g->neighbour);
    g->delay = mem_new(2 * pair_count, sizeof *g->delay);
}

/* Reading the rows by ascending node and writing each entry into its partner's row leaves every row
 * ascending (a counting sort), with duplicates side by side and the first given one first. */
static void sort_rows(const struct graph *raw, struct graph *g)
{
    uint32_t n = raw->node_count;
    uint32_t *count = mem_new_zero(n, sizeof *count);
    uint32_t *next = mem_new(n, sizeof *next);
    memcpy(next, raw->offset, n * sizeof *next);
    for (uint32_t v = 0; v < n; v++)
        for (uint32_t i = raw->offset[v]; i < raw->offset[v + 1]; i++) {
            uint32_t to = raw->neighbour[i];
            if (count[to] > 0 && g->neighbour[next[to] - 1] == v) continue;
            g->neighbour[next[to]] = v;
            g->delay[next[to]++] = raw->delay[i];
            count[to]++;
        }
    uint32_t written = 0;
    for (uint32_t v = 0; v < n; v++) {
        memmove(&g->neighbour[written], &g->neighbour[raw->offset[v]], count[v] * sizeof *g->neighbour);
        memmove(&g->delay[written], &g->delay[raw->offset[v]], count[v] * sizeof *g->delay);
        g->offset[v] = written;
        written += count[v];
    }
    g->offset[n] = written;
    CHECK(written % 2 == 0);
    g->edge_count = written / 2;
    free(count);
    free(next);
}

/* Lowest node that cannot be reached from node 0, or RANK_NONE. */
static rank_t first_unreachable(const struct graph *g)
{
    uint8_t *seen = mem_new_zero(g->node_count, 1);
    uint32_t *queue = mem_new(g->node_count, sizeof *queue);
    uint32_t read = 0, written = 1;
    queue[0] = 0;
    seen[0] = 1;
    while (read < written) {
        uint32_t v = queue[read++];
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
            uint32_t to = g->neighbour[i];
            if (seen[to]) continue;
            seen[to] = 1;
            queue[written++] = to;
        }
    }
    rank_t found = RANK_NONE;
    for (uint32_t v = 0; v < g->node_count && found == RANK_NONE; v++)
        if (!seen[v]) found = v;
    free(seen);
    free(queue);
    return found;
}

void graph_rows(uint32_t node_count, const uint32_t (*pair)[2], const double *delay, size_t pair_count,
                struct graph *out)
{
    struct graph raw;
    graph_reserve(&raw, node_count, pair_count);
    graph_reserve(out, node_count, pair_count);
    fill_rows(pair, delay, pair_count, &raw);
    sort_rows(&raw, out);
    graph_deinit(&raw);
}

int graph_from_edges(uint32_t node_count, const uint32_t (*pair)[2], const double *delay, size_t pair_count,
                     struct graph *out, struct err_text *why)
{
    memset(out, 0, sizeof *out);
    int err = check_pairs(node_count, pair, pair_count, why);
    if (err != 0) return err;
    graph_rows(node_count, pair, delay, pair_count, out);
    rank_t lost = first_unreachable(out);
    if (lost == RANK_NONE) return 0;
    graph_deinit(out);
    return err_set(why, ERR_USAGE,
                   "topology: node %u cannot be reached from node 0; add an edge that joins them", lost);
}

void graph_deinit(struct graph *g)
{
    free(g->offset);
    free(g->neighbour);
    free(g->delay);
    memset(g, 0, sizeof *g);
}

/* -- asking ------------------------------------------------------------------------------------ */

uint32_t graph_edge_index(const struct graph *g, rank_t a, rank_t b)
{
    CHECK(a < g->node_count);
    uint32_t low = g->offset[a], high = g->offset[a + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->neighbour[middle] < b)
            low = middle + 1;
        else
            high = middle;
    }
    return low < g->offset[a + 1] && g->neighbour[low] == b ? low : UINT32_MAX;
}

bool graph_has_edge(const struct graph *g, rank_t a, rank_t b)
{
    return graph_edge_index(g, a, b) != UINT32_MAX;
}

static double edge_weight(const struct graph *g, rank_t a, rank_t b)
{
    uint32_t da = graph_degree(g, a), db = graph_degree(g, b);
    return 1.0 / (1.0 + (da > db ? da : db));
}

double metropolis_weight(const struct graph *g, rank_t a, rank_t b)
{
    CHECK(a < g->node_count && b < g->node_count);
    if (a != b) return graph_has_edge(g, a, b) ? edge_weight(g, a, b) : 0.0;
    double sum = 0;
    for (uint32_t i = g->offset[a]; i < g->offset[a + 1]; i++) sum += edge_weight(g, a, g->neighbour[i]);
    return 1.0 - sum;
}

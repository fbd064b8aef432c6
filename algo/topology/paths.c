/* Shortest paths by mean delay: Dijkstra with a binary heap ordered by (distance, rank), so that every
 * node of a cluster settles the same nodes in the same order. */
#include "algo/topology/paths.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { PLACE_NEW = -1, PLACE_SETTLED = -2 }; /* values of place[] for nodes outside the heap */

void paths_init(struct path_search *s, const struct graph *g, const uint8_t *alive)
{
    uint32_t n = g->node_count;
    memset(s, 0, sizeof *s);
    s->graph = g;
    s->alive = alive;
    s->dist = mem_new(n, sizeof *s->dist);
    s->parent = mem_new(n, sizeof *s->parent);
    s->order = mem_new(n, sizeof *s->order);
    s->heap = mem_new(n, sizeof *s->heap);
    s->place = mem_new(n, sizeof *s->place);
}

void paths_deinit(struct path_search *s)
{
    free(s->dist);
    free(s->parent);
    free(s->order);
    free(s->heap);
    free(s->place);
    memset(s, 0, sizeof *s);
}

static bool nearer(const struct path_search *s, uint32_t a, uint32_t b)
{
    return s->dist[a] < s->dist[b] || (s->dist[a] == s->dist[b] && a < b);
}

static void heap_put(struct path_search *s, uint32_t at, uint32_t v)
{
    s->heap[at] = v;
    s->place[v] = at;
}

static void heap_up(struct path_search *s, uint32_t at)
{
    uint32_t v = s->heap[at];
    while (at > 0 && nearer(s, v, s->heap[(at - 1) / 2])) {
        heap_put(s, at, s->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(s, at, v);
}

static void heap_pop(struct path_search *s)
{
    s->place[s->heap[0]] = (uint32_t)PLACE_SETTLED;
    uint32_t v = s->heap[--s->heap_count], at = 0;
    if (s->heap_count == 0) return;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= s->heap_count) break;
        if (child + 1 < s->heap_count && nearer(s, s->heap[child + 1], s->heap[child])) child++;
        if (!nearer(s, s->heap[child], v)) break;
        heap_put(s, at, s->heap[child]);
        at = child;
    }
    heap_put(s, at, v);
}

static void relax(struct path_search *s, uint32_t from, uint32_t to, double delay)
{
    if (s->alive != NULL && !s->alive[to]) return;
    if (s->place[to] == (uint32_t)PLACE_SETTLED) return;
    double dist = s->dist[from] + delay;
    if (dist == s->dist[to] && from < s->parent[to]) s->parent[to] = from; /* ties: lower rank */
    if (!(dist < s->dist[to])) return;
    s->dist[to] = dist;
    s->parent[to] = from;
    if (s->place[to] == (uint32_t)PLACE_NEW) heap_put(s, s->heap_count++, to);
    heap_up(s, s->place[to]);
}

double paths_run(struct path_search *s, rank_t source, double limit)
{
    const struct graph *g = s->graph;
    CHECK(source < g->node_count);
    CHECK(s->alive == NULL || s->alive[source]);
    for (uint32_t v = 0; v < g->node_count; v++) {
        s->dist[v] = INFINITY;
        s->parent[v] = RANK_NONE;
        s->place[v] = (uint32_t)PLACE_NEW;
    }
    s->dist[source] = 0;
    s->settled_count = 0;
    s->heap_count = 1;
    heap_put(s, 0, source);
    double greatest = 0;
    while (s->heap_count > 0) {
        uint32_t v = s->heap[0];
        greatest = s->dist[v];
        if (greatest >= limit) break;
        heap_pop(s);
        s->order[s->settled_count++] = v;
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) relax(s, v, g->neighbour[i], g->delay[i]);
    }
    return greatest;
}

void shortest_paths(const struct graph *g, const uint8_t *alive, rank_t source, double *dist,
                    uint32_t *parent)
{
    struct path_search s;
    paths_init(&s, g, alive);
    paths_run(&s, source, INFINITY);
    memcpy(dist, s.dist, g->node_count * sizeof *dist);
    memcpy(parent, s.parent, g->node_count * sizeof *parent);
    paths_deinit(&s);
}

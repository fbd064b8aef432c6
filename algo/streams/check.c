/* Is a set of streams safe to run? (docs/algorithms.md)
 *
 * The bipartite graph of nodes and streams must be a tree over the nodes that are to take part. Union-find
 * over its incidences: joining two elements that are joined already closes a cycle, on which an update
 * would run around and be counted again and again; elements left apart would never hear of each other.
 * Each stream must also be connected by links of its own members, or its token could not tour them. */
#include <stdlib.h>

#include "algo/streams/part.h"
#include "algo/streams/streams.h"
#include "base/check.h"
#include "base/limits.h"

struct check {
    const struct stream_set *set;
    const struct graph *graph;
    const uint8_t *alive;
    struct err_text *why;
    uint32_t *up; /* union-find: nodes 0..n-1, then streams */
};

static uint32_t root_of(uint32_t *up, uint32_t v)
{
    while (up[v] != v) v = up[v] = up[up[v]];
    return v;
}

/* -- members ----------------------------------------------------------------------------------- */

static int check_members(const struct check *c)
{
    const struct stream_set *set = c->set;
    if (set->count > STREAM_COUNT_MAX)
        return err_set(c->why, ERR_USAGE, "streams: %u streams; at most %u", set->count, STREAM_COUNT_MAX);
    for (uint32_t s = 0; s < set->count; s++) {
        if (set->offset[s] >= set->offset[s + 1])
            return err_set(c->why, ERR_USAGE, "streams: stream %u has no node; remove it", s);
        for (uint32_t i = set->offset[s]; i < set->offset[s + 1]; i++) {
            rank_t v = set->member[i];
            if (v >= c->graph->node_count)
                return err_set(c->why, ERR_USAGE, "streams: stream %u names node %u; nodes are 0..%u", s, v,
                               c->graph->node_count - 1);
            if (i > set->offset[s] && v <= set->member[i - 1])
                return err_set(c->why, ERR_USAGE, "streams: stream %u lists node %u twice or out of order", s,
                               v);
            if (c->alive != NULL && !c->alive[v])
                return err_set(c->why, ERR_USAGE,
                               "streams: stream %u has node %u, which is not alive; remove it", s, v);
        }
    }
    return 0;
}

/* -- cycles ------------------------------------------------------------------------------------ */

/* Where each element of the forest of the incidences before `limit` was reached from, in a search that
 * starts at node v. Streams have numbers n + stream. */
static uint32_t *search_from(const struct check *c, rank_t v, uint32_t limit)
{
    const struct stream_set *set = c->set;
    uint32_t n = c->graph->node_count;
    uint32_t *from = mem_new((size_t)n + set->count, sizeof *from);
    for (uint32_t i = 0; i < n + set->count; i++) from[i] = UINT32_MAX;
    from[v] = v;
    for (bool grown = true; grown;) { /* quadratic at worst; only an error comes here */
        grown = false;
        for (uint32_t s = 0; s < set->count; s++)
            for (uint32_t i = set->offset[s]; i < set->offset[s + 1] && i < limit; i++) {
                uint32_t node = set->member[i], stream = n + s;
                if ((from[node] == UINT32_MAX) == (from[stream] == UINT32_MAX)) continue;
                if (from[node] == UINT32_MAX)
                    from[node] = stream;
                else
                    from[stream] = node;
                grown = true;
            }
    }
    return from;
}

/* Member `at` of stream s joins what is joined already: the cycle leaves its node v by another stream and
 * enters s by another node. */
static int refuse_cycle(const struct check *c, uint32_t s, uint32_t at)
{
    uint32_t n = c->graph->node_count;
    rank_t v = c->set->member[at];
    uint32_t *from = search_from(c, v, at);
    CHECK(from[n + s] != UINT32_MAX);
    rank_t entry = from[n + s];
    uint32_t step = n + s;
    while (from[step] != v) step = from[step];
    CHECK(step >= n);
    uint32_t other = step - n;
    free(from);
    return err_set(
        c->why, ERR_USAGE,
        "streams: streams %u and %u close a cycle through nodes %u and %u: an update would be counted "
        "twice; remove one of them",
        other, s, entry < v ? entry : v, entry < v ? v : entry);
}

static int check_cycles(const struct check *c)
{
    uint32_t n = c->graph->node_count;
    for (uint32_t s = 0; s < c->set->count; s++)
        for (uint32_t i = c->set->offset[s]; i < c->set->offset[s + 1]; i++) {
            uint32_t a = root_of(c->up, c->set->member[i]), b = root_of(c->up, n + s);
            if (a == b) return refuse_cycle(c, s, i);
            c->up[a] = b;
        }
    return 0;
}

/* -- coverage and connection ------------------------------------------------------------------- */

static int check_joined(const struct check *c)
{
    uint32_t n = c->graph->node_count;
    for (uint32_t s = 1; s < c->set->count; s++)
        if (root_of(c->up, n) != root_of(c->up, n + s))
            return err_set(c->why, ERR_USAGE,
                           "streams: streams 0 and %u are not joined by shared nodes; let them share a node",
                           s);
    return 0;
}

static int check_covered(const struct check *c)
{
    uint32_t n = c->graph->node_count;
    uint8_t *in_part = mem_new_zero(n, 1);
    uint32_t size = streams_part(c->graph, c->alive, in_part);
    for (uint32_t i = 0; i < c->set->offset[c->set->count] && size > 0; i++) in_part[c->set->member[i]] = 0;
    rank_t missing = RANK_NONE;
    for (uint32_t v = 0; v < n && missing == RANK_NONE; v++)
        if (in_part[v]) missing = v;
    free(in_part);
    if (missing == RANK_NONE) return 0;
    return err_set(c->why, ERR_USAGE, "streams: node %u is in no stream; add it to one", missing);
}

/* Visits what the stream's first member reaches by links inside the stream: wanted[v] == s + 1 marks
 * members not yet visited. */
static uint32_t tour_size(const struct check *c, uint32_t s, uint32_t *wanted, uint32_t *queue)
{
    const struct graph *g = c->graph;
    uint32_t read = 0, written = 1;
    queue[0] = c->set->member[c->set->offset[s]];
    wanted[queue[0]] = 0;
    while (read < written) {
        uint32_t v = queue[read++];
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
            uint32_t to = g->neighbour[i];
            if (wanted[to] != s + 1) continue;
            wanted[to] = 0;
            queue[written++] = to;
        }
    }
    return written;
}

static int check_tours(const struct check *c)
{
    uint32_t n = c->graph->node_count;
    const struct stream_set *set = c->set;
    uint32_t *wanted = mem_new_zero(n, sizeof *wanted);
    uint32_t *queue = mem_new(n, sizeof *queue);
    int err = 0;
    for (uint32_t s = 0; s < set->count && err == 0; s++) {
        for (uint32_t i = set->offset[s]; i < set->offset[s + 1]; i++) wanted[set->member[i]] = s + 1;
        if (tour_size(c, s, wanted, queue) == set->offset[s + 1] - set->offset[s]) continue;
        uint32_t lost = set->offset[s];
        while (wanted[set->member[lost]] != s + 1) lost++;
        err = err_set(
            c->why, ERR_USAGE,
            "streams: in stream %u no links inside the stream lead from node %u to node %u; add the nodes "
            "between them or move one",
            s, set->member[set->offset[s]], set->member[lost]);
    }
    free(wanted);
    free(queue);
    return err;
}

int streams_check(const struct stream_set *s, const struct graph *g, const uint8_t *alive,
                  struct err_text *why)
{
    struct check c = {.set = s, .graph = g, .alive = alive, .why = why};
    int err = check_members(&c);
    if (err != 0) return err;
    c.up = mem_new((size_t)g->node_count + s->count, sizeof *c.up);
    for (uint32_t i = 0; i < g->node_count + s->count; i++) c.up[i] = i;
    err = check_cycles(&c);
    if (err == 0) err = check_joined(&c);
    if (err == 0) err = check_covered(&c);
    if (err == 0) err = check_tours(&c);
    free(c.up);
    return err;
}

/* Decompositions of a shortest-path tree into streams (docs/algorithms.md). */
#include "algo/streams/streams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/streams/part.h"
#include "algo/topology/paths.h"
#include "base/check.h"

/* -- the part and its centre ------------------------------------------------------------------- */

static uint32_t flood(const struct graph *g, const uint8_t *alive, rank_t from, uint32_t mark, uint32_t *part,
                      uint32_t *queue)
{
    uint32_t read = 0, written = 1;
    queue[0] = from;
    part[from] = mark;
    while (read < written) {
        uint32_t v = queue[read++];
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
            uint32_t to = g->neighbour[i];
            if (part[to] != 0 || (alive != NULL && !alive[to])) continue;
            part[to] = mark;
            queue[written++] = to;
        }
    }
    return written;
}

uint32_t streams_part(const struct graph *g, const uint8_t *alive, uint8_t *in_part)
{
    uint32_t n = g->node_count;
    uint32_t *part = mem_new_zero(n, sizeof *part);
    uint32_t *queue = mem_new(n, sizeof *queue);
    uint32_t marks = 0, best = 0, best_size = 0;
    for (uint32_t v = 0; v < n; v++) {
        if (part[v] != 0 || (alive != NULL && !alive[v])) continue;
        uint32_t size = flood(g, alive, v, ++marks, part, queue);
        if (size <= best_size) continue;
        best = marks;
        best_size = size;
    }
    for (uint32_t v = 0; v < n; v++) in_part[v] = best != 0 && part[v] == best;
    free(part);
    free(queue);
    return best_size;
}

/* Least greatest distance, ties: lowest rank. A search stops once its node cannot win any more. Distances
 * from earlier searches bound a node's eccentricity from below and save most searches; the margin keeps
 * the bound safe from rounding (a sum of delays depends on the direction it is taken in). */
static rank_t find_centre(struct path_search *s, const uint8_t *in_part)
{
    uint32_t n = s->graph->node_count;
    double *bound = mem_new_zero(n, sizeof *bound);
    double best = INFINITY;
    rank_t centre = RANK_NONE;
    for (uint32_t v = 0; v < n; v++) {
        if (!in_part[v] || bound[v] > best * (1 + 1e-9)) continue;
        double reach = paths_run(s, v, best);
        if (reach < best) {
            best = reach;
            centre = v;
        }
        for (uint32_t i = 0; i < s->settled_count; i++) {
            uint32_t u = s->order[i];
            double least = fmax(s->dist[u], reach - s->dist[u]);
            if (least > bound[u]) bound[u] = least;
        }
    }
    free(bound);
    CHECK(centre != RANK_NONE);
    return centre;
}

/* -- the tree ---------------------------------------------------------------------------------- */

struct tree {
    uint32_t count;         /* nodes */
    const uint32_t *order;  /* (count) parents before children; order[0] is the centre */
    const uint32_t *parent; /* (n) */
    uint32_t *heavy;        /* (n) child with the tallest subtree, RANK_NONE for a leaf */
    uint32_t *top; /* (n) child of the centre above (or at) the node; the centre itself at the centre */
    uint32_t *child_count; /* (n) */
};

/* Heights count links, not delays: what a stream costs is the length of its tour. Ties: lowest rank. */
static void tree_init(struct tree *t, const struct path_search *s)
{
    uint32_t n = s->graph->node_count;
    uint32_t *height = mem_new_zero(n, sizeof *height);
    *t = (struct tree){.count = s->settled_count, .order = s->order, .parent = s->parent};
    t->heavy = mem_new(n, sizeof *t->heavy);
    t->top = mem_new(n, sizeof *t->top);
    t->child_count = mem_new_zero(n, sizeof *t->child_count);
    for (uint32_t v = 0; v < n; v++) t->heavy[v] = RANK_NONE;
    for (uint32_t i = t->count; i-- > 1;) {
        uint32_t v = t->order[i], p = t->parent[v], rival = t->heavy[p];
        t->child_count[p]++;
        if (height[p] < height[v] + 1) height[p] = height[v] + 1;
        if (rival == RANK_NONE || height[v] > height[rival] || (height[v] == height[rival] && v < rival))
            t->heavy[p] = v;
    }
    t->top[t->order[0]] = t->order[0];
    for (uint32_t i = 1; i < t->count; i++) {
        uint32_t v = t->order[i], p = t->parent[v];
        t->top[v] = p == t->order[0] ? v : t->top[p];
    }
    free(height);
}

static void tree_deinit(struct tree *t)
{
    free(t->heavy);
    free(t->top);
    free(t->child_count);
}

/* -- writing streams --------------------------------------------------------------------------- */

/* The open stream's members run from offset[count] to offset[count + 1]. */
static void add_member(struct stream_set *s, rank_t v)
{
    s->member[s->offset[s->count + 1]++] = v;
}

static int compare_ranks(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void close_stream(struct stream_set *s)
{
    uint32_t start = s->offset[s->count], end = s->offset[s->count + 1];
    CHECK(end > start);
    qsort(&s->member[start], end - start, sizeof *s->member, compare_ranks);
    s->count++;
    s->offset[s->count + 1] = end;
}

static void single_stream(const struct tree *t, struct stream_set *out)
{
    for (uint32_t i = 0; i < t->count; i++) add_member(out, t->order[i]);
    close_stream(out);
}

static void path_streams(const struct tree *t, struct stream_set *out)
{
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t v = t->order[i], p = t->parent[v];
        if (p != RANK_NONE && t->heavy[p] == v) continue;
        if (p != RANK_NONE) add_member(out, p);
        for (; v != RANK_NONE; v = t->heavy[v]) add_member(out, v);
        close_stream(out);
    }
}

static void edge_streams(const struct tree *t, struct stream_set *out)
{
    for (uint32_t i = 1; i < t->count; i++) {
        add_member(out, t->parent[t->order[i]]);
        add_member(out, t->order[i]);
        close_stream(out);
    }
}

/* One stream for each group: the children of each internal node, or the nodes under each child of the
 * centre. `group` names a node's group, `joint` the node that glues the group to the rest. */
static void grouped_streams(const struct tree *t, const uint32_t *group, bool joint_is_group, uint32_t n,
                            struct stream_set *out)
{
    uint32_t *first = mem_new(n, sizeof *first), *last = mem_new(n, sizeof *last),
             *next = mem_new(n, sizeof *next);
    for (uint32_t v = 0; v < n; v++) first[v] = next[v] = RANK_NONE;
    for (uint32_t i = 1; i < t->count; i++) {
        uint32_t v = t->order[i], k = group[v];
        if (first[k] == RANK_NONE)
            first[k] = v;
        else
            next[last[k]] = v;
        last[k] = v;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t k = t->order[i];
        if (first[k] == RANK_NONE) continue;
        add_member(out, joint_is_group ? k : t->order[0]);
        for (uint32_t v = first[k]; v != RANK_NONE; v = next[v]) add_member(out, v);
        close_stream(out);
    }
    free(first);
    free(last);
    free(next);
}

static void decompose(enum stream_kind kind, const struct tree *t, uint32_t n, struct stream_set *out)
{
    if (t->count == 1) {
        single_stream(t, out);
        return;
    }
    switch (kind) {
    case STREAMS_SINGLE:
        single_stream(t, out);
        return;
    case STREAMS_PATH:
        path_streams(t, out);
        return;
    case STREAMS_STAR:
        grouped_streams(t, t->parent, true, n, out);
        return;
    case STREAMS_BRANCH:
        grouped_streams(t, t->top, false, n, out);
        return;
    case STREAMS_EDGE:
        edge_streams(t, out);
        return;
    }
    UNREACHABLE();
}

/* -- public ------------------------------------------------------------------------------------ */

void streams_build(enum stream_kind kind, const struct graph *g, const uint8_t *alive, struct stream_set *out)
{
    uint32_t n = g->node_count;
    *out = (struct stream_set){.centre = RANK_NONE};
    out->offset = mem_new_zero((size_t)n + 2, sizeof *out->offset);
    out->member =
        mem_new(2 * (size_t)n, sizeof *out->member); /* a tree's streams: n nodes + count - 1 joints */
    uint8_t *in_part = mem_new_zero(n, 1);
    uint32_t size = streams_part(g, alive, in_part);
    if (size > 0) {
        struct path_search search;
        struct tree tree;
        paths_init(&search, g, in_part);
        out->centre = find_centre(&search, in_part);
        paths_run(&search, out->centre, INFINITY);
        CHECK(search.settled_count == size);
        tree_init(&tree, &search);
        decompose(kind, &tree, n, out);
        tree_deinit(&tree);
        paths_deinit(&search);
    }
    free(in_part);
}

bool stream_has(const struct stream_set *s, uint32_t stream, rank_t v)
{
    CHECK(stream < s->count);
    uint32_t low = s->offset[stream], high = s->offset[stream + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->member[middle] < v)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->offset[stream + 1] && s->member[low] == v;
}

void streams_deinit(struct stream_set *s)
{
    free(s->offset);
    free(s->member);
    memset(s, 0, sizeof *s);
}

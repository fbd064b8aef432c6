/* Groups of vacant vertices are found by breadth-first search; each leaves its border as a cycle. */
#include "algo/topology/living.h"

#include <stdlib.h>

#include "algo/topology/make.h"
#include "base/check.h"

/* What is found of one group at a time. */
struct border {
    const struct graph *base;
    const uint8_t *vacant;
    uint8_t *seen;   /* (n) vacant vertices of groups so far */
    uint32_t *queue; /* (n) */
    rank_t *at;      /* (at_count) living vertices around the group; each once */
    uint32_t at_count;
    double *delay; /* (n) least delay from a border vertex into the group; < 0: it is in no border yet */
    struct living_edge *edge; /* (edge_count) */
    uint32_t edge_count, edge_capacity;
};

static int rank_order(const void *left, const void *right)
{
    rank_t a = *(const rank_t *)left, b = *(const rank_t *)right;
    return (a > b) - (a < b);
}

static int edge_order(const void *left, const void *right)
{
    const struct living_edge *a = left, *b = right;
    if (a->a != b->a) return a->a < b->a ? -1 : 1;
    if (a->b != b->b) return a->b < b->b ? -1 : 1;
    return (a->delay > b->delay) - (a->delay < b->delay);
}

static void border_touch(struct border *f, rank_t v, double delay)
{
    if (f->delay[v] < 0) f->at[f->at_count++] = v;
    if (f->delay[v] < 0 || delay < f->delay[v]) f->delay[v] = delay;
}

/* The border of the group that v belongs to, into at[] and delay[]. */
static void border_find(struct border *f, rank_t v)
{
    const struct graph *g = f->base;
    uint32_t read = 0, written = 0;
    f->queue[written++] = v;
    f->seen[v] = 1;
    while (read < written) {
        rank_t from = f->queue[read++];
        for (uint32_t i = g->offset[from]; i < g->offset[from + 1]; i++) {
            rank_t to = g->neighbour[i];
            if (!f->vacant[to]) {
                border_touch(f, to, g->delay[i]);
            } else if (!f->seen[to]) {
                f->seen[to] = 1;
                f->queue[written++] = to;
            }
        }
    }
}

static void edge_add(struct border *f, rank_t a, rank_t b)
{
    if (graph_has_edge(f->base, a, b)) return;
    if (f->edge_count == f->edge_capacity) {
        f->edge_capacity = f->edge_capacity > 0 ? 2 * f->edge_capacity : 8;
        f->edge = mem_resize(f->edge, f->edge_capacity, sizeof *f->edge);
    }
    f->edge[f->edge_count++] = (struct living_edge){a, b, f->delay[a] + f->delay[b]};
}

/* The cycle through the border, which is forgotten then. */
static void border_close(struct border *f)
{
    qsort(f->at, f->at_count, sizeof *f->at, rank_order);
    for (uint32_t i = 1; i < f->at_count; i++) edge_add(f, f->at[i - 1], f->at[i]);
    if (f->at_count > 2) edge_add(f, f->at[0], f->at[f->at_count - 1]);
    for (uint32_t i = 0; i < f->at_count; i++) f->delay[f->at[i]] = -1;
    f->at_count = 0;
}

/* Two groups may ask for one edge: the quicker one counts. */
static void edges_unite(struct border *f)
{
    if (f->edge_count == 0) return;
    qsort(f->edge, f->edge_count, sizeof *f->edge, edge_order);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < f->edge_count; i++) {
        const struct living_edge *last = &f->edge[kept - 1];
        if (f->edge[i].a != last->a || f->edge[i].b != last->b) f->edge[kept++] = f->edge[i];
    }
    f->edge_count = kept;
}

uint32_t living_edges(const struct graph *base, const uint8_t *vacant, struct living_edge **edge)
{
    uint32_t n = base->node_count;
    struct border f = {.base = base, .vacant = vacant};
    f.seen = mem_new_zero(n, 1);
    f.queue = mem_new(n, sizeof *f.queue);
    f.at = mem_new(n, sizeof *f.at);
    f.delay = mem_new(n, sizeof *f.delay);
    for (rank_t v = 0; v < n; v++) f.delay[v] = -1;
    for (rank_t v = 0; v < n; v++) {
        if (!vacant[v] || f.seen[v]) continue;
        border_find(&f, v);
        border_close(&f);
    }
    edges_unite(&f);
    free(f.seen);
    free(f.queue);
    free(f.at);
    free(f.delay);
    *edge = f.edge;
    return f.edge_count;
}

static void edge_take(struct edge_list *list, double *delay, rank_t a, rank_t b, double edge_delay)
{
    delay[list->count] = edge_delay;
    edges_add(list, a, b);
}

void living_graph(const struct graph *base, const uint8_t *vacant, struct graph *out)
{
    struct living_edge *extra;
    uint32_t extra_count = living_edges(base, vacant, &extra);
    struct edge_list list = {0};
    double *delay = mem_new((size_t)base->edge_count + extra_count, sizeof *delay);
    for (rank_t v = 0; v < base->node_count; v++)
        for (uint32_t i = base->offset[v]; i < base->offset[v + 1]; i++) {
            rank_t to = base->neighbour[i];
            if (v < to && !vacant[v] && !vacant[to]) edge_take(&list, delay, v, to, base->delay[i]);
        }
    for (uint32_t i = 0; i < extra_count; i++)
        edge_take(&list, delay, extra[i].a, extra[i].b, extra[i].delay);
    graph_rows(base->node_count, (const uint32_t(*)[2])list.pair, delay, list.count, out);
    edges_deinit(&list);
    free(delay);
    free(extra);
}

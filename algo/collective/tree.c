/* The tree of the collective and the arithmetic on it. */
#include <stdlib.h>
#include <string.h>

#include "algo/collective/parts.h"
#include "base/check.h"

/* -- tree -------------------------------------------------------------------------------------- */

/* Breadth-first search; parent (n) gets who discovered each node, `from` itself at the start. Returns the
 * lowest rank reached. */
static rank_t discover(const struct graph *g, const uint8_t *out, rank_t from, uint32_t *parent,
                       uint32_t *queue)
{
    for (uint32_t v = 0; v < g->node_count; v++) parent[v] = RANK_NONE;
    uint32_t read = 0, written = 1;
    rank_t lowest = from;
    queue[0] = from;
    parent[from] = from;
    while (read < written) {
        uint32_t v = queue[read++];
        if (v < lowest) lowest = v;
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
            uint32_t to = g->neighbour[i];
            if (parent[to] != RANK_NONE || bit_get(out, to)) continue;
            parent[to] = v;
            queue[written++] = to;
        }
    }
    return lowest;
}

void collective_plan_tree(struct collective *c, const struct slot *s)
{
    const struct graph *g = c->config.graph;
    rank_t me = c->config.rank;
    CHECK(!bit_get(s->out, me));
    uint32_t *parent = mem_new(g->node_count, sizeof *parent);
    uint32_t *queue = mem_new(g->node_count, sizeof *queue);
    rank_t root = s->out_any ? discover(g, s->out, me, parent, queue) : 0; /* a whole graph is connected */
    discover(g, s->out, root, parent, queue);
    c->parent = UINT32_MAX;
    for (uint32_t i = 0; i < c->degree; i++) {
        rank_t v = c->rank_of[i];
        c->child[i] = parent[v] == me;
        if (me != root && parent[me] == v) c->parent = i;
    }
    CHECK((me == root) == (c->parent == UINT32_MAX));
    c->tree_valid = true;
    c->tree_whole = !s->out_any;
    free(parent);
    free(queue);
}

/* -- sums -------------------------------------------------------------------------------------- */

struct blob *collective_add_up(const struct collective *c, const struct slot *s, double *weight)
{
    const struct share **child = mem_new(c->degree, sizeof *child);
    uint32_t count = 0;
    double own = c->config.weight;
    *weight = own;
    for (uint32_t i = 0; i < c->degree; i++) {
        if (!c->child[i]) continue;
        CHECK(s->share[i].sum != NULL);
        *weight += s->share[i].weight;
        child[count++] = &s->share[i];
    }
    struct blob *out = blob_new(c->config.dim * sizeof(float));
    float *to = blob_floats_own(out);
    for (size_t i = 0; i < c->config.dim; i++) {
        double sum = own * (double)c->x[i];
        if (c->residual != NULL) sum += (double)c->residual[i];
        for (uint32_t k = 0; k < count; k++) sum += (double)blob_floats(child[k]->sum)[i];
        to[i] = (float)sum;
    }
    free(child);
    return out;
}

struct blob *collective_divide(const struct blob *sum, double weight, size_t dim)
{
    CHECK(weight > 0);
    struct blob *out = blob_new(dim * sizeof(float));
    const float *from = blob_floats(sum);
    float *to = blob_floats_own(out);
    for (size_t i = 0; i < dim; i++) to[i] = (float)((double)from[i] / weight);
    return out;
}

void slot_drop_sums(const struct collective *c, struct slot *s)
{
    for (uint32_t i = 0; i < c->degree; i++) {
        blob_unref(s->share[i].sum);
        s->share[i].sum = NULL;
    }
}

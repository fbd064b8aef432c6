/* DIGEST's plan: which edges of the topology are in use and what follows from it: connected parts, weights,
 * the streams of our part and our own seats. Every node that knows (epoch, edges left out, base)
 * computes the same streams. How plans change is told in rebase.c.
 *
 * Failure courses
 *  - a node comes back into a plan that may be running (late): it makes no token of its own, takes the first
 *    token of each stream as it comes without relaying news between streams (fresh; it does not know what
 *    they have told each other, so news might be counted twice), and while it has synced with none (blank)
 *    its aggregate counts for nothing in a merge and it proposes no plan for BLANK_WAIT patiences.
 */
#include <stdlib.h>
#include <string.h>

#include "algo/digest/internal.h"
#include "base/check.h"

enum { BLANK_WAIT = 8 }; /* patiences: a lost token is searched for by then */

int epoch_compare(const struct epoch *a, const struct epoch *b)
{
    if (a->number != b->number) return a->number < b->number ? -1 : 1;
    if (a->proposer != b->proposer) return a->proposer < b->proposer ? -1 : 1;
    return 0;
}

/* -- edges left out ---------------------------------------------------------------------------- */

struct edge edge_of(rank_t v, rank_t w)
{
    return v < w ? (struct edge){v, w} : (struct edge){w, v};
}

int edge_compare(const void *left, const void *right)
{
    const struct edge *p = left, *q = right;
    if (p->a != q->a) return p->a < q->a ? -1 : 1;
    if (p->b != q->b) return p->b < q->b ? -1 : 1;
    return 0;
}

bool edge_listed(const struct edge *list, uint32_t count, struct edge e)
{
    return count > 0 && bsearch(&e, list, count, sizeof e, edge_compare) != NULL;
}

uint32_t edge_add(struct edge *list, uint32_t count, struct edge e)
{
    list[count++] = e;
    qsort(list, count, sizeof *list, edge_compare);
    return count;
}

uint32_t edge_add_all_of(const struct graph *g, rank_t v, struct edge *list, uint32_t count)
{
    uint32_t before = count;
    for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
        struct edge e = edge_of(v, g->neighbour[i]);
        if (!edge_listed(list, before, e)) list[count++] = e;
    }
    qsort(list, count, sizeof *list, edge_compare);
    return count;
}

/* Labels each node with the lowest rank of its component in g without the listed edges. */
static void parts_label(const struct graph *g, const struct edge *down, uint32_t count, uint32_t *part)
{
    uint32_t *stack = mem_new(g->node_count, sizeof *stack);
    for (uint32_t v = 0; v < g->node_count; v++) part[v] = RANK_NONE;
    for (uint32_t root = 0; root < g->node_count; root++) {
        if (part[root] != RANK_NONE) continue;
        uint32_t height = 0;
        part[root] = root;
        stack[height++] = root;
        while (height > 0) {
            uint32_t v = stack[--height];
            for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
                uint32_t w = g->neighbour[i];
                if (part[w] != RANK_NONE || edge_listed(down, count, edge_of(v, w))) continue;
                part[w] = root;
                stack[height++] = w;
            }
        }
    }
    free(stack);
}

/* -- memory that actions point into -------------------------------------------------------------- */

void digest_spend(struct digest *d, void *memory)
{
    d->spent = mem_resize(d->spent, d->spent_count + 1, sizeof *d->spent);
    d->spent[d->spent_count++] = memory;
}

void digest_spent_free(struct digest *d)
{
    while (d->spent_count > 0) free(d->spent[--d->spent_count]);
}

/* -- streams of this node ---------------------------------------------------------------------- */

static void own_streams_free(struct digest *d)
{
    for (uint32_t i = 0; i < d->own_count; i++) {
        free(d->own[i].member);
        digest_spend(d, d->own[i].visited);
        digest_lines_close(d, &d->own[i]);
        blob_unref(d->own[i].snapshot);
    }
    free(d->own);
    d->own = NULL;
    d->own_count = 0;
}

static void own_stream_add(struct digest *d, const struct stream_set *set, uint32_t s)
{
    d->own = mem_resize(d->own, d->own_count + 1, sizeof *d->own);
    struct stream_seat *m = &d->own[d->own_count++];
    uint32_t count = set->offset[s + 1] - set->offset[s];
    *m = (struct stream_seat){.stream = s, .member_count = count, .parent = RANK_NONE};
    m->member = mem_new(count, sizeof *m->member);
    memcpy(m->member, set->member + set->offset[s], count * sizeof *m->member);
    m->visited = mem_new_zero(d->bits_size + digest_claims_size_max(d), 1);
    m->snapshot = blob_ref(d->reference);
    digest_lines_open(d, m);
    /* A late node must not make a second token of a stream that runs already; should there be none, it will
     * be searched for. */
    m->fresh = d->late;
    bool here = m->member[0] == d->rank && (!d->late || count == 1);
    custody_init(&m->custody, d->rank, here, d->patience_us, d->now_us);
    if (m->custody.place == CUSTODY_HELD) digest_token_park(d, m);
    digest_await_first(d, m);
}

/* A copy of the graph without the plan's edges, restricted to what streams_build looks at. */
static struct graph graph_in_use(const struct digest *d)
{
    const struct graph *g = d->graph;
    struct graph used = {.node_count = g->node_count};
    used.offset = mem_new(g->node_count + 1, sizeof *used.offset);
    used.neighbour = mem_new(2 * (size_t)g->edge_count, sizeof *used.neighbour);
    used.delay = mem_new(2 * (size_t)g->edge_count, sizeof *used.delay);
    uint32_t count = 0;
    for (uint32_t v = 0; v < g->node_count; v++) {
        used.offset[v] = count;
        for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++) {
            if (edge_listed(d->plan.down, d->plan.down_count, edge_of(v, g->neighbour[i]))) continue;
            used.neighbour[count] = g->neighbour[i];
            used.delay[count++] = g->delay[i];
        }
    }
    used.offset[g->node_count] = count;
    used.edge_count = count / 2;
    return used;
}

/* The streams of our part; every node of the part numbers them alike. */
static void streams_settle(struct digest *d)
{
    if (d->given.count > 0 && d->plan.epoch.number == 0) {
        d->plan.streams = d->given;
        return;
    }
    struct graph used = graph_in_use(d);
    uint8_t *alive = mem_new(d->node_count, 1);
    for (uint32_t v = 0; v < d->node_count; v++) alive[v] = d->plan.part[v] == d->plan.part[d->rank];
    streams_build(d->kind, &used, alive, &d->plan.streams);
    free(alive);
    graph_deinit(&used);
}

void digest_streams_drop(struct digest *d)
{
    if (d->plan.streams.member != d->given.member) streams_deinit(&d->plan.streams);
    d->plan.streams = (struct stream_set){.count = 0};
}

double digest_part_weight(const struct digest *d)
{
    double sum = 0;
    for (uint32_t v = 0; v < d->node_count; v++)
        if (d->plan.part[v] == d->plan.part[d->rank]) sum += d->weight[v];
    return sum;
}

bool digest_plan_blank(const struct digest *d)
{
    for (uint32_t i = 0; i < d->own_count; i++)
        if (!d->own[i].fresh) return false;
    return d->own_count > 0;
}

double digest_data_behind(const struct digest *d)
{
    return digest_plan_blank(d) ? 0 : digest_part_weight(d);
}

void digest_plan_settle(struct digest *d)
{
    parts_label(d->graph, d->plan.down, d->plan.down_count, d->plan.part);
    double sum = digest_part_weight(d);
    d->share = d->reweigh && sum > 0 ? d->weight[d->rank] / sum : d->weight[d->rank];
    streams_settle(d);
    own_streams_free(d);
    free(d->heard);
    d->heard = mem_new_zero(d->plan.streams.count, sizeof *d->heard);
    for (uint32_t s = 0; s < d->plan.streams.count; s++)
        if (stream_has(&d->plan.streams, s, d->rank)) own_stream_add(d, &d->plan.streams, s);
    d->propose_us = TIME_NEVER;
    d->blank_until_us = d->now_us + BLANK_WAIT * d->patience_us;
    d->forced = false;
    for (size_t i = 0; i < neighbour_count(d); i++) d->judged[i] = false;
}

void digest_plan_init(struct digest *d, const float *x0)
{
    d->plan = (struct plan){.epoch = {0, 0}};
    d->plan.part = mem_new(d->node_count, sizeof *d->plan.part);
    d->reference = blob_copy(x0, d->dim * sizeof(float));
    digest_plan_settle(d);
}

void digest_plan_free(struct digest *d)
{
    own_streams_free(d);
    digest_ledger_free(d);
    digest_streams_drop(d);
    free(d->plan.down);
    free(d->plan.part);
    digest_spent_free(d);
    free(d->spent);
    blob_unref(d->plan.base);
    blob_unref(d->offer);
    blob_unref(d->reference);
}

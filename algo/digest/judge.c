/* DIGEST: does a neighbour that is gone break the plan? Pure questions about the plan and our links; rebase.c acts. */
#include <stdlib.h>

#include "algo/digest/internal.h"
#include "base/check.h"

bool digest_gone(const struct digest *d, size_t slot)
{
    return d->down_us[slot] != TIME_NEVER && d->now_us - d->down_us[slot] >= d->patience_us;
}

/* Do the members of stream s stay connected in the plan's graph without node `lost` (RANK_NONE = none) and
 * without the edge `cut`? */
static bool stream_survives(const struct digest *d, uint32_t s, rank_t lost, struct edge cut)
{
    const struct stream_set *set = &d->plan.streams;
    uint32_t count = set->offset[s + 1] - set->offset[s], height = 0, reached = 0;
    uint32_t *stack = mem_new(count, sizeof *stack);
    uint8_t *seen = mem_new_zero(d->bits_size, 1);
    rank_t root = set->member[set->offset[s]];
    if (root == lost && count > 1) root = set->member[set->offset[s] + 1];
    bit_set(seen, root);
    stack[height++] = root;
    while (height > 0) {
        rank_t v = stack[--height];
        reached++;
        for (uint32_t i = d->graph->offset[v]; i < d->graph->offset[v + 1]; i++) {
            rank_t w = d->graph->neighbour[i];
            struct edge e = edge_of(v, w);
            if (w == lost || bit_get(seen, w) || !stream_has(set, s, w)) continue;
            if (edge_compare(&e, &cut) == 0 || edge_listed(d->plan.down, d->plan.down_count, e)) continue;
            bit_set(seen, w);
            stack[height++] = w;
        }
    }
    free(stack);
    free(seen);
    return reached + (lost != RANK_NONE) >= count;
}

uint32_t digest_streams_of(const struct digest *d, rank_t v)
{
    uint32_t count = 0;
    for (uint32_t s = 0; s < d->plan.streams.count; s++) count += stream_has(&d->plan.streams, s, v);
    return count;
}

/* Does the plan break with the loss of this neighbour? At first it is taken for dead: a node in two streams
 * is missed as glue, an inner node of one stream as a bridge, any other is passed over by the tours. Once
 * others have vouched for it (guessed), the edge alone counts. */
bool digest_loss_matters(const struct digest *d, size_t slot)
{
    rank_t peer = neighbour_at(d, slot);
    struct edge cut = edge_of(d->rank, peer);
    rank_t lost = d->guessed[slot] ? RANK_NONE : peer;
    if (lost != RANK_NONE && digest_streams_of(d, peer) > 1) return true;
    for (uint32_t s = 0; s < d->plan.streams.count; s++)
        if (stream_has(&d->plan.streams, s, peer) && !stream_survives(d, s, lost, cut)) return true;
    return false;
}

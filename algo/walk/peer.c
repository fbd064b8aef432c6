/* The peers that are up, a short sorted list: memory goes by the degree. A mirror lives as long as its link, and so
 * does the entry. */
#include <stdlib.h>
#include <string.h>

#include "algo/walk/internal.h"
#include "base/check.h"

/* Position of the first peer whose rank is not below `rank`. */
static uint32_t peer_position(const struct walk *w, rank_t rank)
{
    uint32_t low = 0, high = w->peer_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (w->peer[middle].rank < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct walk_peer *walk_peer_find(const struct walk *w, rank_t rank)
{
    uint32_t at = peer_position(w, rank);
    return at < w->peer_count && w->peer[at].rank == rank ? &w->peer[at] : NULL;
}

struct walk_peer *walk_peer_add(struct walk *w, rank_t rank, uint64_t boot)
{
    CHECK(rank < w->node_count && rank != w->rank);
    CHECK(walk_peer_find(w, rank) == NULL);
    uint32_t at = peer_position(w, rank);
    if (w->peer_count == w->peer_capacity) {
        w->peer_capacity = w->peer_capacity > 0 ? 2 * w->peer_capacity : 8;
        w->peer = mem_resize(w->peer, w->peer_capacity, sizeof *w->peer);
    }
    struct walk_peer *p = &w->peer[at];
    memmove(p + 1, p, (w->peer_count - at) * sizeof *p);
    w->peer_count++;
    *p = (struct walk_peer){.rank = rank, .boot = boot};
    mirror_init(&p->in, w->pack, w->dim, w->seed, rank, w->rank, 0);
    mirror_init(&p->out, w->pack, w->dim, w->seed, w->rank, rank, 0);
    return p;
}

void walk_peer_remove(struct walk *w, rank_t rank)
{
    struct walk_peer *p = walk_peer_find(w, rank);
    CHECK(p != NULL);
    mirror_forget(&p->in);
    mirror_forget(&p->out);
    w->peer_count--;
    memmove(p, p + 1, (size_t)(&w->peer[w->peer_count] - p) * sizeof *p);
}

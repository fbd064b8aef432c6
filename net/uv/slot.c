/* The slots of the libuv transport: each link has one for life, and an id of slot and generation, so that an id that is
 * kept too long finds nothing. */
#include <string.h>

#include "base/check.h"
#include "net/uv/internal.h"

uint32_t slot_take(struct uv_tcp *t)
{
    for (uint32_t i = 0; i < t->slot_count; i++) {
        uint32_t slot = (t->free_hint + i) % t->slot_count;
        if (t->slots[slot].link == NULL) return slot;
    }
    uint32_t grown = t->slot_count > 0 ? 2 * t->slot_count : 16;
    t->slots = mem_resize(t->slots, grown, sizeof *t->slots);
    memset(t->slots + t->slot_count, 0, (grown - t->slot_count) * sizeof *t->slots);
    uint32_t slot = t->slot_count;
    t->slot_count = grown;
    return slot;
}

struct link *link_find(const struct uv_tcp *t, struct link_id id)
{
    if (id.slot >= t->slot_count) return NULL;
    struct link *l = t->slots[id.slot].link;
    return l != NULL && t->slots[id.slot].generation == id.generation && l->state == LINK_UP ? l : NULL;
}

struct link *link_of_peer(const struct uv_tcp *t, node_id peer)
{
    for (uint32_t i = 0; i < t->slot_count; i++) {
        struct link *l = t->slots[i].link;
        if (l != NULL && l->state == LINK_UP && l->peer.id == peer) return l;
    }
    return NULL;
}

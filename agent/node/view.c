/* Views of a node's links. */
#include "agent/node/view.h"

#include <stdio.h>

#include "agent/node/internal.h"

static void view_fill(const struct node *n, const struct link *l, struct node_link_view *out)
{
    const struct member *m = n->membership != NULL ? membership_find(n->membership, l->peer) : NULL;
    uint64_t now_us = node_now_us(n);
    snprintf(out->address, sizeof out->address, "%s",
             m != NULL && m->address[0] != '\0' ? m->address : l->address);
    out->link = l->id;
    out->peer = l->peer;
    out->boot = l->boot;
    out->rank = places_of(&n->places, l->peer);
    out->dialled = l->dialled;
    out->neighbour = l->presented;
    out->heard_us = now_us > out->stats.last_word_us ? now_us - out->stats.last_word_us : 0;
}

uint32_t node_link_views(const struct node *n, struct node_link_view *out, uint32_t max)
{
    uint32_t count = 0;
    for (const struct link *l = n->oldest; l != NULL && count < max; l = l->newer) {
        struct node_link_view *view = &out[count];
        *view = (struct node_link_view){0};
        if (l->closing || n->transport->ops->stats(n->transport, l->id, &view->stats) != 0) continue;
        view_fill(n, l, view);
        count++;
    }
    return count;
}

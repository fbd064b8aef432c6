/* Views of a node: its links, and what it waits for in words. */
#include "agent/node/view.h"

#include <stdio.h>

#include "agent/node/internal.h"
#include "base/check.h"

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

const char *node_rival_at(const struct node *n)
{
    return node_now_us(n) < n->rival_until_us ? n->rival : NULL;
}

/* -- waiting -------------------------------------------------------------------------------------- */

static void fetch_text(const struct node *n, char out[NODE_WAIT_MAX])
{
    uint64_t chunks = 0, of = 0;
    uint32_t donors = 0;
    if (n->fetch != NULL) fetch_progress(n->fetch, &chunks, &of, &donors);
    if (donors == 0)
        snprintf(out, NODE_WAIT_MAX, "fetching the model: nobody has offered it yet");
    else
        snprintf(out, NODE_WAIT_MAX, "fetching the model from %u donor%s: %u %%", donors,
                 donors > 1 ? "s" : "", of > 0 ? (unsigned)(100 * chunks / of) : 0);
}

/* Sites follow from all tags, alike for all: a place that was nobody's yet is waited for, whatever min_nodes is. */
static void tags_text(const struct node *n, char out[NODE_WAIT_MAX])
{
    rank_t r = 0;
    while (r + 1 < n->config.node_count && node_place_tag(n, r)[0] != '\0') r++;
    bool held = places_state(&n->places, r) == PLACE_HELD;
    snprintf(out, NODE_WAIT_MAX, "waiting for the tags of all %u places: %s %u %s", n->config.node_count,
             held ? "who holds place" : "place", r, held ? "has none" : "has had no member yet");
}

const char *node_phase_name(enum node_phase phase)
{
    switch (phase) {
    case NODE_JOINING:
        return "joining";
    case NODE_FETCHING:
        return "fetching";
    case NODE_TRAINING:
        return "training";
    case NODE_FINISHED:
        return "finished";
    case NODE_KEEPING:
        return "keeping";
    }
    UNREACHABLE();
}

const char *node_waits_for(const struct node *n, char out[NODE_WAIT_MAX])
{
    uint32_t places = n->config.node_count;
    out[0] = '\0';
    if (n->config.keeper) (n->fetch != NULL ? fetch_text : node_keep_text)(n, out);
    switch (n->algo == NULL ? n->wait : WAIT_NONE) {
    case WAIT_NONE:
        break;
    case WAIT_MEMBERS:
        snprintf(out, NODE_WAIT_MAX, "waiting for members: %u of %u known", n->places.living,
                 n->config.min_nodes);
        break;
    case WAIT_KNOWLEDGE:
        snprintf(out, NODE_WAIT_MAX, "waiting to hear from one of those that train: %u known",
                 node_trainers(n));
        break;
    case WAIT_PLACE:
        snprintf(out, NODE_WAIT_MAX, "all %u places are taken: waiting for one", places);
        break;
    case WAIT_TAGS:
        tags_text(n, out);
        break;
    case WAIT_BEST:
        snprintf(out, NODE_WAIT_MAX, "waiting for the member with most progress to begin");
        break;
    case WAIT_MODEL:
        fetch_text(n, out);
        break;
    case WAIT_ROWS:
        snprintf(out, NODE_WAIT_MAX, "loading the rows of place %u", n->rank);
        break;
    }
    return out;
}

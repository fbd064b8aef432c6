/* The lists of the overlay: links, active view, passive view, questions under way. All are small arrays,
 * bounded by the configuration; the links alone are sorted, since each message looks its sender up there. */
#include <string.h>

#include "base/check.h"
#include "net/overlay/internal.h"

#define SAMPLE_ACTIVE 3u /* of a shuffle, as in the paper */
#define SAMPLE_PASSIVE 4u

static struct overlay_action *action_append(struct overlay *o, enum overlay_action_kind kind, node_id id)
{
    struct overlay_actions *acts = o->acts;
    if (acts->count == acts->capacity) {
        acts->capacity = acts->capacity > 0 ? 2 * acts->capacity : 8;
        acts->item = mem_resize(acts->item, acts->capacity, sizeof *acts->item);
    }
    struct overlay_action *action = &acts->item[acts->count++];
    *action = (struct overlay_action){.kind = kind, .id = id};
    return action;
}

void overlay_send(struct overlay *o, node_id to, const struct overlay_msg *msg)
{
    CHECK(msg->peer_count <= OVERLAY_PEER_MAX);
    action_append(o, OVERLAY_SEND, to)->msg = *msg;
}

void overlay_say(struct overlay *o, node_id to, enum overlay_kind kind)
{
    overlay_send(o, to, &(struct overlay_msg){.kind = kind});
}

void overlay_connect(struct overlay *o, const struct ask *ask)
{
    action_append(o, OVERLAY_CONNECT, ask->peer.id)->address = ask->peer.address;
}

struct overlay_peer *overlay_list(struct overlay *o)
{
    CHECK(o->out_count < OUT_LIST_MAX);
    return o->out[o->out_count++];
}

/* -- links ----------------------------------------------------------------------------------------- */

/* Position of the first link whose id is not below `id`. */
static uint32_t link_position(const struct overlay *o, node_id id)
{
    uint32_t low = 0, high = o->link_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (o->link[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct overlay_peer *overlay_link_find(const struct overlay *o, node_id id)
{
    uint32_t at = link_position(o, id);
    return at < o->link_count && o->link[at].id == id ? &o->link[at] : NULL;
}

void overlay_link_put(struct overlay *o, const struct overlay_peer *peer)
{
    uint32_t at = link_position(o, peer->id);
    if (at == o->link_count || o->link[at].id != peer->id) {
        if (o->link_count == o->link_capacity) {
            o->link_capacity = o->link_capacity > 0 ? 2 * o->link_capacity : 8;
            o->link = mem_resize(o->link, o->link_capacity, sizeof *o->link);
        }
        memmove(&o->link[at + 1], &o->link[at], (o->link_count - at) * sizeof *o->link);
        o->link_count++;
    }
    o->link[at] = *peer;
}

void overlay_link_drop(struct overlay *o, node_id id)
{
    uint32_t at = link_position(o, id);
    if (at == o->link_count || o->link[at].id != id) return;
    o->link_count--;
    memmove(&o->link[at], &o->link[at + 1], (o->link_count - at) * sizeof *o->link);
}

/* -- passive view ---------------------------------------------------------------------------------- */

struct spare *spare_find(struct overlay *o, node_id id)
{
    for (uint32_t i = 0; i < o->passive_count; i++)
        if (o->passive[i].peer.id == id) return &o->passive[i];
    return NULL;
}

void spare_add(struct overlay *o, const struct overlay_peer *peer, uint64_t rest_us)
{
    if (peer->id == o->config.id || overlay_is_active(o, peer->id)) return;
    struct spare *spare = spare_find(o, peer->id);
    if (spare != NULL) {
        if (peer->address[0] != '\0') spare->peer = *peer;
        if (rest_us > spare->rest_us) spare->rest_us = rest_us;
        return;
    }
    uint32_t at = o->passive_count;
    if (at == o->config.passive_max)
        at = prng_below(&o->prng, at);
    else
        o->passive_count++;
    o->passive[at] = (struct spare){.peer = *peer, .rest_us = rest_us};
}

void spare_drop(struct overlay *o, node_id id)
{
    struct spare *spare = spare_find(o, id);
    if (spare != NULL) *spare = o->passive[--o->passive_count];
}

bool overlay_can_reach(const struct overlay *o, const struct overlay_peer *peer)
{
    return o->config.relayed || peer->address[0] != '\0' || overlay_link_find(o, peer->id) != NULL;
}

static bool spare_usable(const struct overlay *o, const struct spare *spare)
{
    return !ask_waits(o, spare->peer.id) && overlay_can_reach(o, &spare->peer);
}

static struct spare *spare_draw_of(struct overlay *o, bool direct)
{
    struct spare *chosen = NULL;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < o->passive_count; i++) {
        struct spare *spare = &o->passive[i];
        if (spare->rest_us > o->now_us || !spare_usable(o, spare)) continue;
        if (direct != (spare->peer.address[0] != '\0' || overlay_link_find(o, spare->peer.id) != NULL))
            continue;
        if (prng_below(&o->prng, ++seen) == 0) chosen = spare;
    }
    return chosen;
}

/* A relayed link costs a third member bytes. */
struct spare *spare_draw(struct overlay *o)
{
    struct spare *spare = spare_draw_of(o, true);
    return spare != NULL || !o->config.relayed ? spare : spare_draw_of(o, false);
}

uint64_t spare_next_us(const struct overlay *o)
{
    uint64_t next_us = TIME_NEVER;
    for (uint32_t i = 0; i < o->passive_count; i++)
        if (o->passive[i].rest_us < next_us && spare_usable(o, &o->passive[i]))
            next_us = o->passive[i].rest_us;
    return next_us;
}

/* -- active view ----------------------------------------------------------------------------------- */

bool overlay_is_active(const struct overlay *o, node_id id)
{
    for (uint32_t i = 0; i < o->active_count; i++)
        if (o->active[i] == id) return true;
    return false;
}

void active_drop(struct overlay *o, node_id id)
{
    uint32_t at = 0;
    while (at < o->active_count && o->active[at] != id) at++;
    CHECK(at < o->active_count);
    o->active[at] = o->active[--o->active_count];
    o->refusals = 0;
    o->quiet_us = 0; /* a place is free: look for someone at once */
    action_append(o, OVERLAY_REMOVED, id);
}

void active_add(struct overlay *o, node_id id)
{
    CHECK(!overlay_is_active(o, id) && id != o->config.id);
    const struct overlay_peer *link = overlay_link_find(o, id);
    CHECK(link != NULL);
    spare_drop(o, id);
    if (o->active_count == o->config.active_max) {
        node_id out = o->active[prng_below(&o->prng, o->active_count)];
        overlay_say(o, out, OVERLAY_DISCONNECT);
        active_drop(o, out);
        spare_add(o, overlay_link_find(o, out), o->now_us + o->config.shuffle_us);
    }
    o->active[o->active_count++] = id;
    o->refusals = 0;
    action_append(o, OVERLAY_ADDED, id);
}

bool active_draw(struct overlay *o, node_id not_a, node_id not_b, node_id *out)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < o->active_count; i++) {
        if (o->active[i] == not_a || o->active[i] == not_b) continue;
        if (prng_below(&o->prng, ++seen) == 0) *out = o->active[i];
    }
    return seen > 0;
}

/* -- samples --------------------------------------------------------------------------------------- */

static bool list_has(const struct overlay_peer *list, uint32_t count, node_id id)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i].id == id) return true;
    return false;
}

/* Who can neither be dialled nor relayed to is of no use to others. */
static bool list_takes(const struct overlay *o, const struct overlay_peer *list, uint32_t count,
                       const struct overlay_peer *peer, node_id to)
{
    bool useful = peer->address[0] != '\0' || o->config.relayed;
    return peer->id != to && useful && !list_has(list, count, peer->id);
}

uint32_t sample_fill(struct overlay *o, node_id to, struct overlay_peer *list, uint32_t at)
{
    uint32_t start = o->active_count > 0 ? prng_below(&o->prng, o->active_count) : 0;
    for (uint32_t i = 0, taken = 0; i < o->active_count && taken < SAMPLE_ACTIVE; i++) {
        const struct overlay_peer *peer = overlay_link_find(o, o->active[(start + i) % o->active_count]);
        if (!list_takes(o, list, at, peer, to)) continue;
        list[at++] = *peer;
        taken++;
    }
    start = o->passive_count > 0 ? prng_below(&o->prng, o->passive_count) : 0;
    for (uint32_t i = 0, taken = 0; i < o->passive_count && taken < SAMPLE_PASSIVE; i++) {
        const struct overlay_peer *peer = &o->passive[(start + i) % o->passive_count].peer;
        if (!list_takes(o, list, at, peer, to)) continue;
        list[at++] = *peer;
        taken++;
    }
    return at;
}

/* Who is to become a neighbour of ours: questions under way, pauses after refusals, and the repair that
 * starts questions while there are free places.
 *
 *  - a question waits for a link if there is none, then for the answer, answer_us each.
 *  - no link came: the spare goes. No answer came, or a refusal: it rests, others are asked first.
 *  - refusals one after the other: the pauses double, unless nobody is our neighbour. */
#include "base/check.h"
#include "net/overlay/internal.h"

#define REFUSAL_PAUSE_US 500000u /* the first one; doubled with each refusal */
#define REFUSALS_LONELY 2u
#define REFUSAL_PAUSE_SHUFFLES 4u
#define REFUSAL_REST_SHUFFLES 3u /* before the same one is asked again */

uint64_t overlay_soon(struct overlay *o, uint64_t wait_us)
{
    if (wait_us >= TIME_NEVER / 2) return TIME_NEVER;
    return time_after(o->now_us, (uint64_t)((double)wait_us * prng_uniform(&o->prng, 0.9, 1.1)));
}

struct ask *ask_find(struct overlay *o, node_id id)
{
    for (uint32_t i = 0; i < ASK_MAX; i++)
        if (o->ask[i].phase != ASK_FREE && o->ask[i].peer.id == id) return &o->ask[i];
    return NULL;
}

bool ask_waits(const struct overlay *o, node_id id)
{
    for (uint32_t i = 0; i < ASK_MAX; i++)
        if (o->ask[i].phase != ASK_FREE && o->ask[i].peer.id == id) return true;
    return false;
}

static uint32_t ask_count(const struct overlay *o)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < ASK_MAX; i++)
        if (o->ask[i].phase != ASK_FREE) count++;
    return count;
}

bool ask_urgent_waits(const struct overlay *o)
{
    for (uint32_t i = 0; i < ASK_MAX; i++)
        if (o->ask[i].phase == ASK_ANSWER && o->ask[i].urgent) return true;
    return false;
}

static bool is_lonely(const struct overlay *o)
{
    if (o->active_count == 0) return true;
    return o->refusals >= REFUSALS_LONELY && 2 * o->active_count < o->config.active_max;
}

/* One urgent question at a time: each of them costs somebody a neighbour. */
static void ask_put(struct overlay *o, struct ask *ask)
{
    ask->phase = ASK_ANSWER;
    ask->deadline_us = time_after(o->now_us, o->config.answer_us);
    ask->urgent = !ask_urgent_waits(o) && (is_lonely(o) || ask->why == ASK_EXCHANGE);
    if (ask->urgent && !o->joined)
        overlay_say(o, ask->peer.id, OVERLAY_JOIN);
    else
        overlay_send(o, ask->peer.id,
                     &(struct overlay_msg){.kind = OVERLAY_NEIGHBOUR, .urgent = ask->urgent});
}

static struct ask *ask_slot(struct overlay *o)
{
    for (uint32_t i = 0; i < ASK_MAX; i++)
        if (o->ask[i].phase == ASK_FREE) return &o->ask[i];
    return NULL;
}

bool ask_begin(struct overlay *o, const struct overlay_peer *peer, enum ask_why why)
{
    if (overlay_is_active(o, peer->id) || ask_waits(o, peer->id)) return true;
    bool linked = overlay_link_find(o, peer->id) != NULL;
    struct ask *ask = ask_slot(o);
    if (ask == NULL || !overlay_can_reach(o, peer)) return false;
    *ask = (struct ask){.peer = *peer, .why = why};
    if (linked) {
        ask_put(o, ask);
        return true;
    }
    ask->phase = ASK_LINK;
    ask->deadline_us = time_after(o->now_us, o->config.answer_us);
    overlay_connect(o, ask);
    return true;
}

bool ask_linked(struct overlay *o, node_id id)
{
    struct ask *ask = ask_find(o, id);
    if (ask == NULL) return false;
    if (ask->phase == ASK_LINK) ask_put(o, ask);
    return true;
}

void ask_end(struct overlay *o, node_id id)
{
    struct ask *ask = ask_find(o, id);
    if (ask != NULL) ask->phase = ASK_FREE;
}

void spare_rest(struct overlay *o, const struct overlay_peer *peer)
{
    uint64_t wait_us = o->config.shuffle_us;
    wait_us = wait_us < TIME_NEVER / REFUSAL_REST_SHUFFLES ? REFUSAL_REST_SHUFFLES * wait_us : TIME_NEVER;
    spare_add(o, peer, overlay_soon(o, wait_us));
}

void ask_refused(struct overlay *o)
{
    uint64_t most_us = o->config.shuffle_us;
    most_us = most_us < TIME_NEVER / REFUSAL_PAUSE_SHUFFLES ? REFUSAL_PAUSE_SHUFFLES * most_us : TIME_NEVER;
    uint64_t pause_us = (uint64_t)REFUSAL_PAUSE_US << (o->refusals < 16 ? o->refusals : 16);
    if (o->refusals < UINT32_MAX) o->refusals++;
    o->quiet_us = overlay_soon(o, pause_us < most_us ? pause_us : most_us);
}

static bool has_place(const struct overlay *o)
{
    uint32_t asks = ask_count(o);
    return asks < ASK_MAX && o->active_count + asks < o->config.active_max;
}

void overlay_repair(struct overlay *o)
{
    while (has_place(o)) {
        if (o->active_count > 0 && o->now_us < o->quiet_us) return;
        const struct spare *spare = spare_draw(o);
        if (spare == NULL || !ask_begin(o, &spare->peer, ASK_REPAIR)) return;
    }
}

void ask_expire(struct overlay *o)
{
    for (uint32_t i = 0; i < ASK_MAX; i++) {
        struct ask *ask = &o->ask[i];
        if (ask->phase == ASK_FREE || o->now_us < ask->deadline_us) continue;
        if (ask->phase == ASK_LINK)
            spare_drop(o, ask->peer.id);
        else
            spare_rest(o, &ask->peer);
        ask->phase = ASK_FREE;
    }
}

uint64_t ask_next_us(const struct overlay *o)
{
    uint64_t next_us = TIME_NEVER;
    for (uint32_t i = 0; i < ASK_MAX; i++)
        if (o->ask[i].phase != ASK_FREE && o->ask[i].deadline_us < next_us) next_us = o->ask[i].deadline_us;
    if (!has_place(o)) return next_us;
    uint64_t repair_us = spare_next_us(o);
    if (o->active_count > 0 && repair_us < o->quiet_us) repair_us = o->quiet_us;
    return repair_us < next_us ? repair_us : next_us;
}

/* HyParView: messages, repair and shuffles. overlay.h has the courses; overlay/view.c the lists,
 * overlay/ask.c who is to become a neighbour.
 *
 * Every step ends with overlay_repair(): free places of the active view against spares that may be asked.
 * Questions are known by whom they went to, and links keep their order, so that an answer without a question
 * can only be a late one: it is undone with DISCONNECT, which never harms a newer agreement (that comes later
 * on the same link). */
#include "net/overlay/overlay.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/overlay/internal.h"

void overlay_defaults(struct overlay_config *c)
{
    *c = (struct overlay_config){.active_max = 5,
                                 .passive_max = 30,
                                 .arwl = 6,
                                 .prwl = 3,
                                 .shuffle_us = 10000000,
                                 .exchange_us = 30000000,
                                 .answer_us = 5000000};
}

struct overlay *overlay_new(const struct overlay_config *config)
{
    CHECK(config->active_max >= 1 && config->active_max <= LINK_COUNT_MAX);
    CHECK(config->passive_max >= 1 && config->passive_max <= OVERLAY_PASSIVE_MAX);
    CHECK(config->arwl <= OVERLAY_TTL_MAX && config->prwl <= config->arwl);
    CHECK(config->shuffle_us > 0 && config->exchange_us > 0 && config->answer_us > 0);
    struct overlay *o = mem_new_zero(1, sizeof *o);
    o->config = *config;
    prng_split(&o->prng, config->seed, "overlay", config->id);
    o->active = mem_new_zero(config->active_max, sizeof *o->active);
    o->passive = mem_new_zero(config->passive_max, sizeof *o->passive);
    o->shuffle_us = o->exchange_us = TIME_NEVER;
    return o;
}

void overlay_free(struct overlay *o)
{
    if (o == NULL) return;
    free(o->active);
    free(o->passive);
    free(o->link);
    free(o);
}

void overlay_set_address(struct overlay *o, const char *address)
{
    CHECK(strlen(address) < sizeof o->config.address);
    memcpy(o->config.address, address, strlen(address) + 1);
}

void overlay_actions_clear(struct overlay_actions *acts)
{
    acts->count = 0;
}

void overlay_actions_deinit(struct overlay_actions *acts)
{
    free(acts->item);
    *acts = (struct overlay_actions){0};
}

uint32_t overlay_active(const struct overlay *o, const node_id **id)
{
    *id = o->active;
    return o->active_count;
}

uint32_t overlay_passive_count(const struct overlay *o)
{
    return o->passive_count;
}

/* -- messages -------------------------------------------------------------------------------------- */

static void learn(struct overlay *o, const struct overlay_msg *msg)
{
    for (uint32_t i = 0; i < msg->peer_count; i++) {
        const struct overlay_peer *peer = &msg->peer[i];
        if (overlay_can_reach(o, peer)) spare_add(o, peer, 0);
    }
}

static void answer(struct overlay *o, node_id to, enum overlay_kind kind)
{
    struct overlay_msg msg = {.kind = kind, .peer = overlay_list(o)};
    msg.peer_count = sample_fill(o, to, o->out[o->out_count - 1], 0);
    overlay_send(o, to, &msg);
}

static void become_active(struct overlay *o, node_id id)
{
    ask_end(o, id);
    active_add(o, id);
    o->joined = true;
}

static void on_join(struct overlay *o, node_id from)
{
    bool again = overlay_is_active(o, from);
    if (!again) become_active(o, from);
    answer(o, from, OVERLAY_ACCEPT);
    if (again) return; /* no second walks for one newcomer */
    struct overlay_peer *newcomer = overlay_list(o);
    *newcomer = *overlay_link_find(o, from);
    struct overlay_msg msg = {
        .kind = OVERLAY_FORWARD_JOIN, .ttl = o->config.arwl, .peer = newcomer, .peer_count = 1};
    for (uint32_t i = 0; i < o->active_count; i++)
        if (o->active[i] != from) overlay_send(o, o->active[i], &msg);
}

static void on_forward_join(struct overlay *o, node_id from, const struct overlay_msg *msg)
{
    const struct overlay_peer *newcomer = &msg->peer[0];
    node_id next;
    if (msg->ttl == 0 || !active_draw(o, from, newcomer->id, &next)) {
        if (!ask_begin(o, newcomer, ASK_WALK_END)) learn(o, msg);
        return;
    }
    if (msg->ttl == o->config.prwl) learn(o, msg);
    struct overlay_peer *list = overlay_list(o);
    *list = *newcomer;
    overlay_send(o, next,
                 &(struct overlay_msg){
                     .kind = OVERLAY_FORWARD_JOIN, .ttl = msg->ttl - 1, .peer = list, .peer_count = 1});
}

static void on_neighbour(struct overlay *o, node_id from, const struct overlay_msg *msg)
{
    bool active = overlay_is_active(o, from);
    if (!active && !msg->urgent && o->active_count == o->config.active_max) {
        answer(o, from, OVERLAY_REJECT);
        return;
    }
    if (!active) become_active(o, from);
    answer(o, from, OVERLAY_ACCEPT);
}

static void on_accept(struct overlay *o, node_id from, const struct overlay_msg *msg)
{
    const struct ask *ask = ask_find(o, from);
    if (overlay_is_active(o, from)) {
        learn(o, msg);
        return;
    }
    bool wanted = ask != NULL && ask->phase == ASK_ANSWER;
    bool room = o->active_count < o->config.active_max;
    if (wanted && (room || ask->why != ASK_REPAIR)) {
        become_active(o, from);
    } else {
        ask_end(o, from);
        overlay_say(o, from, OVERLAY_DISCONNECT);
        spare_rest(o, overlay_link_find(o, from));
    }
    learn(o, msg);
}

static void on_reject(struct overlay *o, node_id from, const struct overlay_msg *msg)
{
    learn(o, msg);
    if (!ask_waits(o, from)) return;
    ask_end(o, from);
    spare_rest(o, overlay_link_find(o, from));
    ask_refused(o);
}

static void on_disconnect(struct overlay *o, node_id from)
{
    if (!overlay_is_active(o, from)) return;
    active_drop(o, from);
    spare_rest(o, overlay_link_find(o, from));
}

static void on_shuffle(struct overlay *o, node_id from, const struct overlay_msg *msg)
{
    node_id next;
    if (msg->ttl <= 1 || !active_draw(o, from, msg->peer[0].id, &next)) {
        answer(o, from, OVERLAY_SHUFFLE_REPLY);
        learn(o, msg);
        return;
    }
    struct overlay_peer *list = overlay_list(o);
    uint32_t count = 0;
    for (uint32_t i = 0; i < msg->peer_count; i++)
        if (msg->peer[i].id != next) list[count++] = msg->peer[i];
    overlay_send(o, next,
                 &(struct overlay_msg){
                     .kind = OVERLAY_SHUFFLE, .ttl = msg->ttl - 1, .peer = list, .peer_count = count});
}

/* Walks go between neighbours only: from anybody else they show that our views differ. */
static bool walk_is_stray(struct overlay *o, node_id from)
{
    if (overlay_is_active(o, from)) return false;
    overlay_say(o, from, OVERLAY_DISCONNECT);
    return true;
}

static void on_message(struct overlay *o, node_id from, const struct overlay_msg *msg)
{
    switch (msg->kind) {
    case OVERLAY_JOIN:
        on_join(o, from);
        break;
    case OVERLAY_FORWARD_JOIN:
        if (!walk_is_stray(o, from)) on_forward_join(o, from, msg);
        break;
    case OVERLAY_NEIGHBOUR:
        on_neighbour(o, from, msg);
        break;
    case OVERLAY_ACCEPT:
        on_accept(o, from, msg);
        break;
    case OVERLAY_REJECT:
        on_reject(o, from, msg);
        break;
    case OVERLAY_DISCONNECT:
        on_disconnect(o, from);
        break;
    case OVERLAY_SHUFFLE:
        if (!walk_is_stray(o, from)) on_shuffle(o, from, msg);
        break;
    case OVERLAY_SHUFFLE_REPLY:
        learn(o, msg);
        break;
    }
}

/* How many peers the list of a message of this kind has. The number may come from a peer. */
static bool list_length_is_valid(const struct overlay_msg *msg)
{
    switch (msg->kind) {
    case OVERLAY_JOIN:
    case OVERLAY_NEIGHBOUR:
    case OVERLAY_DISCONNECT:
        return msg->peer_count == 0;
    case OVERLAY_FORWARD_JOIN:
        return msg->peer_count == 1;
    case OVERLAY_SHUFFLE:
        return msg->peer_count >= 1 && msg->peer_count <= OVERLAY_PEER_MAX;
    case OVERLAY_ACCEPT:
    case OVERLAY_REJECT:
    case OVERLAY_SHUFFLE_REPLY:
        return msg->peer_count <= OVERLAY_PEER_MAX;
    default:
        return false;
    }
}

static int message_check(const struct overlay *o, node_id from, const struct overlay_msg *msg)
{
    if (overlay_link_find(o, from) == NULL || !list_length_is_valid(msg) || msg->ttl > OVERLAY_TTL_MAX)
        return ERR_PROTO;
    for (uint32_t i = 0; i < msg->peer_count; i++) {
        const struct overlay_peer *peer = &msg->peer[i];
        if (peer->id == o->config.id) return ERR_PROTO;
        if (memchr(peer->address, '\0', sizeof peer->address) == NULL) return ERR_PROTO;
        for (uint32_t k = 0; k < i; k++)
            if (msg->peer[k].id == peer->id) return ERR_PROTO;
    }
    return 0;
}

/* -- events ---------------------------------------------------------------------------------------- */

static void on_link_up(struct overlay *o, const struct overlay_peer *peer)
{
    overlay_link_put(o, peer);
    if (overlay_is_active(o, peer->id)) return;
    if (ask_linked(o, peer->id)) return;
    spare_add(o, peer, 0);
    if (o->active_count == 0 && !ask_urgent_waits(o)) ask_begin(o, peer, ASK_REPAIR);
}

/* A neighbour whose link broke may come back at once: it is kept as a spare where that costs no other one. */
static void on_link_down(struct overlay *o, node_id id)
{
    const struct overlay_peer *link = overlay_link_find(o, id);
    if (link == NULL) return;
    struct overlay_peer peer = *link;
    overlay_link_drop(o, id);
    ask_end(o, id);
    if (overlay_is_active(o, id)) {
        active_drop(o, id);
        if (overlay_can_reach(o, &peer) && o->passive_count < o->config.passive_max) spare_add(o, &peer, 0);
        if (o->active_count == 0)
            trace_line(o->config.trace, TRACE_INFO, "overlay: no neighbour is left; %u others are known",
                       o->passive_count);
    }
    if (!overlay_can_reach(o, &peer)) spare_drop(o, id);
}

static void on_unreachable(struct overlay *o, node_id id)
{
    if (overlay_link_find(o, id) != NULL) return; /* it has dialled us meanwhile */
    ask_end(o, id);
    spare_drop(o, id);
}

static void on_known(struct overlay *o, const struct overlay_peer *peer)
{
    if (overlay_can_reach(o, peer)) spare_add(o, peer, 0);
}

static void on_forget(struct overlay *o, node_id id)
{
    ask_end(o, id);
    if (overlay_is_active(o, id)) {
        overlay_say(o, id, OVERLAY_DISCONNECT); /* its link is still up: it may be alive after all */
        active_drop(o, id);
    }
    spare_drop(o, id);
}

static void shuffle(struct overlay *o)
{
    o->shuffle_us = overlay_soon(o, o->config.shuffle_us);
    if (o->active_count == 0) return;
    node_id to = o->active[o->shuffle_turn++ % o->active_count];
    struct overlay_peer *list = overlay_list(o);
    list[0].id = o->config.id;
    memcpy(list[0].address, o->config.address, sizeof list[0].address);
    uint32_t count = sample_fill(o, to, list, 1);
    uint32_t ttl = o->config.arwl > 0 ? o->config.arwl : 1;
    overlay_send(
        o, to, &(struct overlay_msg){.kind = OVERLAY_SHUFFLE, .ttl = ttl, .peer = list, .peer_count = count});
}

static void exchange(struct overlay *o)
{
    o->exchange_us = overlay_soon(o, o->config.exchange_us);
    const struct spare *spare = o->active_count > 0 ? spare_draw(o) : NULL;
    if (spare != NULL) ask_begin(o, &spare->peer, ASK_EXCHANGE);
}

static void on_deadline(struct overlay *o)
{
    ask_expire(o);
    if (o->now_us >= o->shuffle_us) shuffle(o);
    if (o->now_us >= o->exchange_us) exchange(o);
}

/* At a random moment of the first period: nodes that start together are not in step. */
static uint64_t first_time(struct overlay *o, uint64_t period_us)
{
    if (period_us >= TIME_NEVER / 2) return TIME_NEVER;
    return time_after(o->now_us, (uint64_t)((double)period_us * prng_uniform(&o->prng, 0.1, 1.1)));
}

static void start(struct overlay *o)
{
    o->started = true;
    o->shuffle_us = first_time(o, o->config.shuffle_us);
    o->exchange_us = first_time(o, o->config.exchange_us);
}

int overlay_step(struct overlay *o, const struct overlay_event *event, struct overlay_actions *acts)
{
    if (event->kind == OVERLAY_MESSAGE && message_check(o, event->peer.id, event->msg) != 0) return ERR_PROTO;
    CHECK(event->kind == OVERLAY_DEADLINE || event->peer.id != o->config.id);
    o->now_us = event->now_us;
    o->acts = acts;
    o->out_count = 0;
    if (!o->started) start(o);
    switch (event->kind) {
    case OVERLAY_LINK_UP:
        on_link_up(o, &event->peer);
        break;
    case OVERLAY_LINK_DOWN:
        on_link_down(o, event->peer.id);
        break;
    case OVERLAY_UNREACHABLE:
        on_unreachable(o, event->peer.id);
        break;
    case OVERLAY_MESSAGE:
        on_message(o, event->peer.id, event->msg);
        break;
    case OVERLAY_KNOWN:
        on_known(o, &event->peer);
        break;
    case OVERLAY_FORGET:
        on_forget(o, event->peer.id);
        break;
    case OVERLAY_DEADLINE:
        on_deadline(o);
        break;
    }
    overlay_repair(o);
    o->acts = NULL;
    return 0;
}

uint64_t overlay_deadline_us(const struct overlay *o)
{
    uint64_t next_us = ask_next_us(o);
    if (o->shuffle_us < next_us) next_us = o->shuffle_us;
    return o->exchange_us < next_us ? o->exchange_us : next_us;
}

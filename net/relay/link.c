/* Our ends of relayed links.
 *
 * Normal course
 *  - send() queues; what the window at the relayer takes goes there at once, the rest as credit comes back.
 *  - DATA comes in order in each lane and goes to the owner.
 *  - the end that was dialled sends from CONFIRM on: a bulk message could overtake its ACCEPT.
 * Failure courses
 *  - the queue is over LINK_QUEUE_MAX: ERR_FULL, and one on_writable when a refused message would fit.
 *  - the real link to the relayer is full: its on_writable goes on; a word that could not be said is said then.
 *  - the relayer's link is lost, or CLOSED comes: on_down, what is queued is dropped.
 *  - the owner ends it: CLOSED goes out, on_down comes from the next tick.
 *  - no CONFIRM in time: the link goes down as silent.
 *  - an injected fault holds messages, going out or come, or ends the link: relay/fault.c.
 *  - a sequence that is not the next, credit for more than was sent: ERR_PROTO, nothing changed. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/relay/internal.h"

static struct relay_link *link_of_call(struct relay *r, struct link_id real, uint64_t call)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++) {
        struct relay_link *l = &r->link[i];
        if (l->used && l->up && l->call == call && relay_same(l->real, real)) return l;
    }
    return NULL;
}

struct relay_link *relay_link_of(struct relay *r, struct link_id id)
{
    uint32_t at = id.slot - RELAY_SLOT;
    if (at >= RELAY_LINK_MAX) return NULL;
    struct relay_link *l = &r->link[at];
    return l->used && l->up && l->id.generation == id.generation ? l : NULL;
}

struct relay_link *relay_link_peer(struct relay *r, node_id peer)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++)
        if (r->link[i].used && r->link[i].up && r->link[i].peer.id == peer) return &r->link[i];
    return NULL;
}

/* -- words ------------------------------------------------------------------------------------- */

static void link_drop(struct relay_link *l)
{
    for (int i = 0; i < 2; i++) {
        relay_queue_deinit(&l->lane[i].queue);
        relay_queue_deinit(&l->lane[i].in);
    }
}

static void link_free_if_done(struct relay_link *l)
{
    if (!l->used || l->up || l->down_owed || l->owes_word) return;
    l->used = false;
}

/* CONFIRM or CLOSED; when the lane is full it stays owed. */
static void link_say(struct relay *r, struct relay_link *l)
{
    struct relay_frame f = {
        .kind = l->up ? RELAY_CONFIRM : RELAY_CLOSED, .call = l->call, .why = l->said_why};
    l->owes_word = relay_say(r, l->real, &f) == ERR_FULL;
}

/* -- sending ----------------------------------------------------------------------------------- */

/* Returns false when the other lane cannot go on either. */
static bool lane_pump(struct relay *r, struct relay_link *l, enum lane lane)
{
    struct relay_lane *out = &l->lane[lane];
    const struct relay_message *m;
    while ((m = relay_queue_first(&out->queue)) != NULL) {
        if (!relay_window_takes(out->flying, out->flying_bytes, m->cost)) return true;
        enum relay_fate fate = relay_fault_fate(r, l, FAULT_OUT, m);
        if (fate == RELAY_CORRUPT) relay_link_end(r, l, DOWN_RESET, DOWN_PROTOCOL);
        if (fate == RELAY_SWALLOWED) relay_queue_pop(&out->queue);
        if (fate == RELAY_SWALLOWED) continue;
        if (fate != RELAY_GOES) return fate == RELAY_LATER;
        if (r->inner->ops->send(r->inner, l->real, lane, m->head, m->body) != 0) return false;
        relay_fault_gone(r, l, FAULT_OUT, m->cost);
        out->flying++;
        out->flying_bytes += m->cost;
        l->stats.messages_sent++;
        l->stats.bytes_sent += m->cost;
        relay_queue_pop(&out->queue);
    }
    return true;
}

static void link_pump(struct relay *r, struct relay_link *l)
{
    if (l->owes_word) link_say(r, l);
    if (l->owes_word || !l->up || !l->confirmed) return;
    if (lane_pump(r, l, LANE_CONTROL)) lane_pump(r, l, LANE_BULK);
}

static size_t waiting_bytes(const struct relay_link *l)
{
    return l->lane[0].queue.bytes + l->lane[1].queue.bytes;
}

static bool lane_is_empty(const struct relay_lane *lane)
{
    return lane->queue.count == 0 && lane->flying == 0;
}

int relay_link_send(struct relay *r, struct relay_link *l, enum lane lane, struct blob *head,
                    struct blob *body)
{
    struct relay_lane *out = &l->lane[lane];
    CHECK(head->size >= 1 && head->size <= RELAY_HEAD_MAX);
    size_t cost = relay_message_cost(RELAY_DATA_SIZE + head->size, body);
    if (!lane_is_empty(out) && waiting_bytes(l) + cost > LINK_QUEUE_MAX) {
        if (out->refused == 0 || cost < out->refused) out->refused = cost;
        return ERR_FULL;
    }
    struct relay_frame f = {.kind = RELAY_DATA,
                            .call = l->call,
                            .sequence = ++out->sent,
                            .head = head->data,
                            .head_size = head->size};
    relay_queue_put(&out->queue, relay_frame_encode(&f), body, cost,
                    relay_fault_due_us(r, l->peer.id, FAULT_OUT, cost));
    link_pump(r, l);
    if (r->faults.live > 0) relay_settle(r);
    return 0;
}

/* As a real link's: half the limit, so that a sender is woken for many messages and not for each one. */
static bool link_take_writable(struct relay_link *l)
{
    bool writable = false;
    size_t waiting = waiting_bytes(l);
    for (int i = 0; i < 2; i++) {
        const struct relay_lane *out = &l->lane[i];
        if (out->refused == 0) continue;
        bool fits = waiting + out->refused <= LINK_QUEUE_MAX && waiting <= LINK_QUEUE_MAX / 2;
        writable |= fits || lane_is_empty(out);
    }
    if (writable) l->lane[0].refused = l->lane[1].refused = 0;
    return writable;
}

/* The owner may do anything in on_writable: l may have ended after it. */
static void link_go_on(struct relay *r, struct relay_link *l)
{
    link_pump(r, l);
    if (l->up && link_take_writable(l)) r->sink.on_writable(r->sink.ctx, l->id);
}

/* -- what an injected fault has held ----------------------------------------------------------- */

/* Returns false when the other lane cannot go on either, or the link has ended: the owner may do anything meanwhile. */
static bool lane_release(struct relay *r, struct relay_link *l, enum lane lane)
{
    struct link_id id = l->id;
    struct relay_queue *in = &l->lane[lane].in;
    const struct relay_message *first;
    while ((first = relay_queue_first(in)) != NULL) {
        enum relay_fate fate = relay_fault_fate(r, l, FAULT_IN, first);
        if (fate == RELAY_CORRUPT) relay_link_end(r, l, DOWN_PROTOCOL, DOWN_RESET);
        if (fate != RELAY_GOES) return fate == RELAY_LATER;
        relay_fault_gone(r, l, FAULT_IN, first->cost);
        struct blob *head = blob_ref(first->head), *body = blob_ref(first->body);
        relay_queue_pop(in);
        r->sink.on_message(r->sink.ctx, id, lane, head->data, head->size, body);
        blob_unref(head);
        blob_unref(body);
        if (!relay_same(l->id, id) || !l->up) return false;
    }
    return true;
}

static void link_release(struct relay *r, struct relay_link *l)
{
    if (lane_release(r, l, LANE_CONTROL)) lane_release(r, l, LANE_BULK);
    if (l->up && l->lane[0].in.bytes + l->lane[1].in.bytes > LINK_QUEUE_MAX)
        relay_link_end(r, l, DOWN_SILENT, DOWN_SILENT); /* a real one would not read on */
}

static void link_fault_tick(struct relay *r, struct relay_link *l, uint64_t now_us)
{
    struct link_id id = l->id;
    if (l->blocked_us > 0 && now_us >= time_after(l->blocked_us, r->config.answer_us)) {
        relay_link_end(r, l, DOWN_SILENT, DOWN_SILENT);
        return;
    }
    if (l->lane[0].in.count + l->lane[1].in.count > 0) link_release(r, l);
    if (l->up && relay_same(l->id, id)) link_go_on(r, l);
}

/* -- beginning and ending ---------------------------------------------------------------------- */

struct relay_link *relay_link_begin(struct relay *r, struct link_id real, uint64_t call, node_id peer,
                                    uint64_t boot, bool dialled)
{
    uint32_t at = 0;
    while (at < RELAY_LINK_MAX && r->link[at].used) at++;
    if (at == RELAY_LINK_MAX) return NULL;
    struct relay_link *l = &r->link[at];
    struct link_id id = {.slot = RELAY_SLOT + at, .generation = l->id.generation + 1};
    *l = (struct relay_link){.id = id,
                             .call = call,
                             .real = real,
                             .peer = {.id = peer,
                                      .boot = boot,
                                      .dialled = dialled,
                                      .relayed = true,
                                      .relayer = relay_real_of(r, real)->peer},
                             .used = true,
                             .up = true,
                             .confirmed = dialled,
                             .confirm_by_us = time_after(relay_now_us(r), 2 * r->config.answer_us)};
    l->stats.last_word_us = relay_now_us(r);
    r->links_up++;
    if (dialled) link_say(r, l);
    return l;
}

void relay_link_end(struct relay *r, struct relay_link *l, enum down_reason why, enum down_reason said_why)
{
    CHECK(l->used && l->up);
    l->up = false;
    r->links_up--;
    relay_fault_drops(r, l);
    link_drop(l);
    l->down_owed = true;
    l->why = why;
    l->said_why = said_why;
    link_say(r, l);
}

static void link_tell_down(struct relay *r, struct relay_link *l)
{
    struct link_id id = l->id;
    node_id peer = l->peer.id;
    enum down_reason why = l->why;
    l->down_owed = false;
    link_free_if_done(l);
    relay_dials_again(r, peer);
    r->sink.on_down(r->sink.ctx, id, why);
}

void relay_link_lost(struct relay *r, struct relay_link *l, enum down_reason why)
{
    CHECK(l->used);
    l->owes_word = false;
    if (l->up) {
        l->up = false;
        r->links_up--;
        if (why != DOWN_CLOSED) r->links_lost++;
        relay_fault_drops(r, l);
        link_drop(l);
        l->why = why;
        l->down_owed = true;
    }
    if (l->down_owed)
        link_tell_down(r, l);
    else
        link_free_if_done(l);
}

void relay_links_real_down(struct relay *r, struct link_id real, enum down_reason why)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++)
        if (r->link[i].used && relay_same(r->link[i].real, real)) relay_link_lost(r, &r->link[i], why);
}

void relay_links_writable(struct relay *r, struct link_id real)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++) {
        struct relay_link *l = &r->link[i];
        if (!l->used || !relay_same(l->real, real)) continue;
        link_go_on(r, l);
        link_free_if_done(l);
    }
}

void relay_links_tick(struct relay *r, uint64_t now_us)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++) {
        struct relay_link *l = &r->link[i];
        if (l->used && l->up && !l->confirmed && now_us >= l->confirm_by_us)
            relay_link_end(r, l, DOWN_SILENT, DOWN_SILENT);
        if (l->used && l->up) link_fault_tick(r, l, now_us);
        if (l->used && l->down_owed) link_tell_down(r, l);
    }
}

uint64_t relay_links_deadline_us(const struct relay *r)
{
    uint64_t at_us = TIME_NEVER;
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++) {
        const struct relay_link *l = &r->link[i];
        if (l->used && l->down_owed) return 0;
        if (!l->used || !l->up) continue;
        if (!l->confirmed && l->confirm_by_us < at_us) at_us = l->confirm_by_us;
        uint64_t fault_us = r->faults.live > 0 ? relay_fault_deadline_us(r, l) : TIME_NEVER;
        if (fault_us < at_us) at_us = fault_us;
    }
    return at_us;
}

void relay_links_end(struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++)
        if (r->link[i].used && r->link[i].up) relay_link_end(r, &r->link[i], DOWN_LOCAL, DOWN_CLOSED);
}

bool relay_links_room(const struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++)
        if (!r->link[i].used) return true;
    return false;
}

void relay_links_deinit(struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++) link_drop(&r->link[i]);
}

/* -- hearing ----------------------------------------------------------------------------------- */

static int data_heard(struct relay *r, struct relay_link *l, enum lane lane, const struct relay_frame *f,
                      struct blob *body)
{
    struct relay_lane *in = &l->lane[lane];
    if (f->sequence != in->received + 1) return ERR_PROTO;
    size_t cost = relay_message_cost(RELAY_DATA_SIZE + f->head_size, body);
    in->received++;
    l->stats.messages_received++;
    l->stats.bytes_received += cost;
    if (r->faults.live == 0 && in->in.count == 0) {
        r->sink.on_message(r->sink.ctx, l->id, lane, f->head, f->head_size, body);
        return 0;
    }
    relay_queue_put(&in->in, blob_copy(f->head, f->head_size), body, cost,
                    relay_fault_due_us(r, l->peer.id, FAULT_IN, cost));
    link_release(r, l);
    return 0;
}

static int credit_heard(struct relay *r, struct relay_link *l, const struct relay_frame *f)
{
    struct relay_lane *out = &l->lane[f->lane];
    if (f->messages > out->flying || f->bytes > out->flying_bytes) return ERR_PROTO;
    if ((f->messages == out->flying) != (f->bytes == out->flying_bytes)) return ERR_PROTO;
    out->flying -= f->messages;
    out->flying_bytes -= f->bytes;
    link_go_on(r, l);
    return 0;
}

int relay_link_heard(struct relay *r, struct link_id real, enum lane lane, const struct relay_frame *f,
                     struct blob *body)
{
    struct relay_link *l = link_of_call(r, real, f->call);
    if (l == NULL) return ERR_NOT_FOUND;
    l->stats.last_word_us = relay_now_us(r);
    switch (f->kind) {
    case RELAY_CONFIRM:
        if (l->confirmed) return ERR_PROTO;
        l->confirmed = true;
        link_go_on(r, l);
        return 0;
    case RELAY_CLOSED:
        relay_link_lost(r, l, f->why);
        return 0;
    case RELAY_CREDIT:
        return credit_heard(r, l, f);
    case RELAY_DATA:
        return data_heard(r, l, lane, f, body);
    case RELAY_OPEN:
    case RELAY_ACCEPT:
    case RELAY_REFUSE:
        return ERR_PROTO;
    }
    return ERR_PROTO;
}

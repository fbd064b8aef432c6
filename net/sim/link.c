/* Links of the simulated world: pairs of nodes, their lanes, and how an end goes up and down.
 *
 * Normal course
 *  - a message accepted by send() joins its lane with the time at which it would arrive alone.
 *  - only the first message of a lane has an entry in the heap; its delivery arms the next, for its own time
 *    or now if that has passed. So a lane is FIFO as over TCP, while control may overtake bulk.
 *  - a message counts as queued until it is delivered: the drawn delay models its transfer.
 *  - heartbeats are not events: a quiet link that gets through is never silent.
 * Failure courses
 *  - the direction is cut when a message comes up: the lane is held, in order, until it is healed.
 *  - nothing gets through (cut, pause, crash, other end gone): the end is starved, and goes down as silent
 *    link_silence_us (and up to a sixteenth of slack) after the later of that and the last delivery.
 *  - one end went down: the link is not live, what is under way is lost in both directions (a tail of each
 *    lane), and the other end hears of it after a control delay, unless a cut or a crash keeps it half-open.
 *  - a body over the receiver's limit: the receiver's end goes down as a protocol error.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/err.h"
#include "net/link/frame.h"
#include "net/sim/internal.h"

static struct sim_transport *transport_at(const struct sim_world *w, const struct sim_pair *p, uint32_t side)
{
    struct sim_transport *t = w->node[p->node[side]].transport;
    CHECK(t != NULL);
    return t;
}

/* -- pairs ------------------------------------------------------------------------------------- */

uint64_t sim_ordered_index(const struct sim_world *w, uint32_t from, uint32_t to)
{
    return (uint64_t)from * w->options.node_count + to;
}

static uint32_t table_slot(const struct sim_world *w, uint32_t a, uint32_t b)
{
    uint64_t key = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    uint32_t mask = w->pair_table_size - 1, slot = (uint32_t)(key >> 32) & mask;
    for (;; slot = (slot + 1) & mask) {
        uint32_t index = w->pair_table[slot];
        if (index == SIM_NONE) return slot;
        if (w->pair[index]->node[0] == a && w->pair[index]->node[1] == b) return slot;
    }
}

static void table_grow(struct sim_world *w)
{
    w->pair_table_size = w->pair_table_size == 0 ? 64 : w->pair_table_size * 2;
    free(w->pair_table);
    w->pair_table = mem_new(w->pair_table_size, sizeof *w->pair_table);
    for (uint32_t i = 0; i < w->pair_table_size; i++) w->pair_table[i] = SIM_NONE;
    for (uint32_t i = 0; i < w->pair_count; i++)
        w->pair_table[table_slot(w, w->pair[i]->node[0], w->pair[i]->node[1])] = i;
}

static void node_add_pair(struct sim_node *node, uint32_t index)
{
    if (node->pair_count == node->pair_capacity) {
        node->pair_capacity = node->pair_capacity == 0 ? 8 : node->pair_capacity * 2;
        node->pair = mem_resize(node->pair, node->pair_capacity, sizeof *node->pair);
    }
    node->pair[node->pair_count++] = index;
}

static struct sim_pair *pair_new(struct sim_world *w, uint32_t a, uint32_t b)
{
    struct sim_pair *p = mem_new_zero(1, sizeof *p);
    p->index = w->pair_count;
    p->node[0] = a;
    p->node[1] = b;
    p->mean_s = sim_link_mean_s(w, a, b);
    for (uint32_t side = 0; side < 2; side++) {
        struct sim_end *e = &p->end[side];
        uint64_t index = sim_ordered_index(w, p->node[side], p->node[1 - side]);
        prng_split(&e->latency, w->options.seed, "sim latency", index);
        prng_split(&e->trouble, w->options.seed, "sim trouble", index);
        prng_split(&e->quiet, w->options.seed, "sim quiet", index);
        prng_split(&e->chance, w->options.seed, "sim chance", index);
        for (int lane = 0; lane < 2; lane++) e->lane[lane].first = e->lane[lane].last = SIM_NONE;
    }
    if (w->pair_count == w->pair_capacity) {
        w->pair_capacity = w->pair_capacity == 0 ? 64 : w->pair_capacity * 2;
        w->pair = mem_resize(w->pair, w->pair_capacity, sizeof *w->pair);
    }
    w->pair[w->pair_count++] = p;
    node_add_pair(&w->node[a], p->index);
    node_add_pair(&w->node[b], p->index);
    return p;
}

struct sim_pair *sim_pair_get(struct sim_world *w, uint32_t a, uint32_t b)
{
    CHECK(a != b);
    CHECK(a < w->options.node_count && b < w->options.node_count);
    if (a > b) return sim_pair_get(w, b, a);
    if (2 * (w->pair_count + 1) > w->pair_table_size) table_grow(w);
    uint32_t slot = table_slot(w, a, b);
    if (w->pair_table[slot] != SIM_NONE) return w->pair[w->pair_table[slot]];
    struct sim_pair *p = pair_new(w, a, b);
    w->pair_table[slot] = p->index;
    sim_inject_look(w, p);
    return p;
}

void sim_pair_free(struct sim_world *w, struct sim_pair *p)
{
    sim_end_clear(w, &p->end[0]);
    sim_end_clear(w, &p->end[1]);
    free(p->end[0].shape);
    free(p->end[1].shape);
    free(p);
}

uint32_t sim_side_of(const struct sim_pair *p, uint32_t v)
{
    CHECK(p->node[0] == v || p->node[1] == v);
    return p->node[0] == v ? 0 : 1;
}

/* -- lanes ------------------------------------------------------------------------------------- */

static uint32_t message_new(struct sim_world *w)
{
    uint32_t m = w->message_free;
    if (m != SIM_NONE) {
        w->message_free = w->message[m].next;
        return m;
    }
    if (w->message_count == w->message_capacity) {
        CHECK(w->message_capacity < SIM_NONE / 2);
        w->message_capacity = w->message_capacity == 0 ? 256 : w->message_capacity * 2;
        w->message = mem_resize(w->message, w->message_capacity, sizeof *w->message);
    }
    return w->message_count++;
}

static void message_free(struct sim_world *w, uint32_t m)
{
    w->message[m].next = w->message_free;
    w->message_free = m;
}

void sim_end_clear(struct sim_world *w, struct sim_end *e)
{
    if (e->shape != NULL) sim_shape_held(e);
    for (int lane = 0; lane < 2; lane++) {
        struct sim_lane *l = &e->lane[lane];
        while (l->first != SIM_NONE) {
            uint32_t m = l->first;
            l->first = w->message[m].next;
            blob_unref(w->message[m].head);
            blob_unref(w->message[m].body);
            message_free(w, m);
        }
        l->last = SIM_NONE;
        l->held = false;
    }
    e->waiting_bytes = 0;
    e->queue_bytes = 0;
}

/* As framed on a real link: one frame for the head, one per 64 KiB of body. */
static uint64_t wire_bytes(const struct blob *head, const struct blob *body)
{
    uint64_t body_size = body == NULL ? 0 : body->size;
    uint64_t frames = 1 + (body_size + FRAME_CHUNK_MAX - 1) / FRAME_CHUNK_MAX;
    return head->size + body_size + frames * FRAME_HEADER_SIZE;
}

/* When the last byte leaves. Control slips in between the chunks of a bulk message: it waits for control
 * only, and pushes back the bulk that follows. */
static uint64_t bytes_leave_us(const struct sim_world *w, struct sim_end *e, enum lane lane, uint64_t bytes)
{
    uint64_t rate = w->options.bandwidth_bytes_s, now = w->now_us;
    if (e->shape != NULL) rate = sim_shape_rate(e, rate);
    if (rate == 0) return now;
    uint64_t takes_us = (bytes * 1000000u + rate - 1) / rate;
    struct sim_lane *control = &e->lane[LANE_CONTROL], *bulk = &e->lane[LANE_BULK];
    uint64_t start = control->free_us > now ? control->free_us : now;
    if (lane == LANE_CONTROL) {
        control->free_us = start + takes_us;
        if (bulk->free_us > now) bulk->free_us += takes_us;
        return control->free_us;
    }
    if (bulk->free_us > start) start = bulk->free_us;
    bulk->free_us = start + takes_us;
    return bulk->free_us;
}

/* Puts the first message of side's lane into the heap. */
static void lane_arm(struct sim_world *w, const struct sim_pair *p, const struct sim_lane *l)
{
    const struct sim_message *m = &w->message[l->first];
    sim_push(w, (struct sim_event){.time_us = m->time_us > w->now_us ? m->time_us : w->now_us,
                                   .order = m->order,
                                   .index = p->index,
                                   .generation = p->generation});
}

int sim_link_send(struct sim_world *w, struct sim_pair *p, uint32_t side, enum lane lane, struct blob *head,
                  struct blob *body)
{
    struct sim_end *e = &p->end[side];
    struct sim_lane *l = &e->lane[lane];
    uint64_t bytes = wire_bytes(head, body);
    if (l->first != SIM_NONE) {
        if (e->waiting_bytes + bytes > LINK_QUEUE_MAX) {
            e->full = true;
            return ERR_FULL;
        }
        e->waiting_bytes += bytes;
    }
    uint64_t delay_us = sim_latency_draw_us(&w->latency, &e->latency, p->mean_s, body != NULL);
    if (e->shape != NULL) delay_us += sim_shape_delay_us(e, bytes);
    uint64_t time_us = bytes_leave_us(w, e, lane, bytes) + delay_us;
    if (lane == LANE_CONTROL) e->control_delay_us = delay_us;
    uint32_t m = message_new(w);
    w->message[m] = (struct sim_message){.time_us = time_us,
                                         .order = sim_take_order(w, SIM_MESSAGE, lane, 1 - side),
                                         .head = blob_ref(head),
                                         .body = blob_ref(body),
                                         .bytes = bytes,
                                         .next = SIM_NONE};
    bool first = l->first == SIM_NONE;
    if (first)
        l->first = m;
    else
        w->message[l->last].next = m;
    l->last = m;
    e->queue_bytes += bytes;
    e->stats.bytes_sent += bytes;
    e->stats.messages_sent++;
    transport_at(w, p, side)->totals.bytes_sent += bytes;
    if (first && p->live) lane_arm(w, p, l);
    return 0;
}

void sim_link_release(struct sim_world *w, struct sim_pair *p)
{
    for (uint32_t side = 0; side < 2; side++)
        for (int lane = 0; lane < 2; lane++) {
            struct sim_lane *l = &p->end[side].lane[lane];
            if (!l->held || p->end[1 - side].cut) continue;
            l->held = false;
            lane_arm(w, p, l);
        }
}

/* Takes the first message out of from's lane and arms what follows. */
static struct sim_message lane_take(struct sim_world *w, struct sim_pair *p, uint32_t from, enum lane lane)
{
    struct sim_end *s = &p->end[from];
    struct sim_lane *l = &s->lane[lane];
    uint32_t index = l->first;
    CHECK(index != SIM_NONE);
    struct sim_message m = w->message[index];
    message_free(w, index);
    l->first = m.next;
    s->queue_bytes -= m.bytes;
    if (l->first == SIM_NONE) {
        l->last = SIM_NONE;
    } else {
        s->waiting_bytes -= w->message[l->first].bytes;
        lane_arm(w, p, l);
    }
    if (s->full && !s->writable_coming && s->waiting_bytes <= LINK_QUEUE_MAX / 2) {
        s->writable_coming = true;
        sim_schedule(w, w->now_us, SIM_WRITABLE, p->index, from, p->generation);
    }
    return m;
}

/* It is gone, and what the sender has to say next comes up. The link ends before anything else is delivered. */
static void message_swallow(struct sim_world *w, struct sim_pair *p, uint32_t from, enum lane lane)
{
    struct sim_message m = lane_take(w, p, from, lane);
    sim_shape_swallow(&p->end[from], m.bytes);
    blob_unref(m.head);
    blob_unref(m.body);
}

bool sim_message_event(struct sim_world *w, struct sim_pair *p, const struct sim_event *event)
{
    enum lane lane = (event->order >> 1 & 1) == LANE_BULK ? LANE_BULK : LANE_CONTROL;
    uint32_t to = (uint32_t)(event->order & 1), from = 1 - to;
    struct sim_end *r = &p->end[to];
    if (event->generation != p->generation || !p->live) return false;
    struct sim_shape *shape = p->end[from].shape;
    if (r->cut && !r->cut_asked && shape != NULL && shape->swallower != NULL) {
        message_swallow(w, p, from, lane);
        return false;
    }
    if (r->cut) {
        p->end[from].lane[lane].held = true;
        return false;
    }
    if (r->state == END_COMING) { /* its on_up was held by a pause and is due now, behind us */
        struct sim_event later = *event;
        later.order = sim_take_order(w, SIM_MESSAGE, lane, to);
        sim_push(w, later);
        return false;
    }
    CHECK(r->state == END_UP);
    struct sim_transport *t = transport_at(w, p, to);
    struct sim_message m = lane_take(w, p, from, lane);
    r->word_us = w->now_us;
    r->stats.bytes_received += m.bytes;
    r->stats.messages_received++;
    t->totals.bytes_received += m.bytes;
    bool corrupt = shape != NULL && sim_shape_corrupts(&p->end[from], m.bytes);
    if (corrupt || (m.body != NULL && m.body->size > t->config.body_size_max)) {
        sim_end_down(w, p, to, DOWN_PROTOCOL);
    } else {
        w->totals.messages++;
        w->totals.bodies += m.body != NULL;
        w->totals.bytes += m.bytes;
        sim_tell(w, SIM_MESSAGE, p->node[to], p->node[from], lane, m.head, m.body);
        t->sink.on_message(t->sink.ctx, sim_link_id(p), lane, m.head->data, m.head->size, m.body);
    }
    blob_unref(m.head);
    blob_unref(m.body);
    return true;
}

bool sim_writable_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation)
{
    struct sim_end *e = &p->end[side];
    if (generation != p->generation || e->state != END_UP) return false;
    e->full = false;
    e->writable_coming = false;
    struct sim_transport *t = transport_at(w, p, side);
    sim_tell(w, SIM_WRITABLE, p->node[side], p->node[1 - side], 0, NULL, NULL);
    t->sink.on_writable(t->sink.ctx, sim_link_id(p));
    return true;
}

/* The send side of a link, see outbox.h. Pure.
 *
 * Normal course
 *  - outbox_put queues a message in its lane.
 *  - outbox_plan cuts messages into frames: all of the control lane first, then bulk, in chunks.
 *  - outbox_peek shows the bytes of the planned frames, outbox_sent forgets those that the socket took.
 *
 * Failures
 *  - a lane over its limit: ERR_FULL, and one notice when the refused message would fit.
 *  - the link closes: outbox_drop_lanes; a body cut short is never delivered by the receiver. */
#include "net/link/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static_assert(OUTBOX_PLAN_MAX >= FRAME_CHUNK_MAX, "a whole chunk fits the plan");

void outbox_init(struct outbox *o)
{
    memset(o, 0, sizeof *o);
}

void outbox_deinit(struct outbox *o)
{
    outbox_drop_lanes(o);
    for (size_t i = 0; i < o->count; i++) blob_unref(o->frame[(o->first + i) % OUTBOX_FRAME_MAX].hold);
    for (int i = 0; i < 2; i++) free(o->lane[i].item);
    outbox_init(o);
}

/* -- lanes ------------------------------------------------------------------------------------- */

static struct out_message *lane_at(struct out_lane *l, size_t index)
{
    return &l->item[(l->first + index) & (l->capacity - 1)];
}

static size_t message_cost(const struct blob *head, const struct blob *body)
{
    return head->size + (body != NULL ? body->size : 0) + OUTBOX_MESSAGE_COST;
}

static void lane_grow(struct out_lane *l)
{
    size_t capacity = l->capacity > 0 ? 2 * l->capacity : 16;
    struct out_message *item = mem_new(capacity, sizeof *item);
    for (size_t i = 0; i < l->count; i++) item[i] = *lane_at(l, i);
    free(l->item);
    l->item = item;
    l->capacity = capacity;
    l->first = 0;
}

static void lane_pop(struct out_lane *l)
{
    CHECK(l->count > 0);
    struct out_message *m = lane_at(l, 0);
    l->bytes -= message_cost(m->head, m->body);
    blob_unref(m->head);
    blob_unref(m->body);
    l->first = (l->first + 1) & (l->capacity - 1);
    l->count--;
}

/* Bytes behind the first message of each lane: what the limit is about. */
static size_t waiting_bytes(struct outbox *o)
{
    size_t total = 0;
    for (int i = 0; i < 2; i++) {
        struct out_lane *l = &o->lane[i];
        if (l->count > 0) total += l->bytes - message_cost(lane_at(l, 0)->head, lane_at(l, 0)->body);
    }
    return total;
}

int outbox_put(struct outbox *o, enum lane lane, struct blob *head, struct blob *body)
{
    struct out_lane *l = &o->lane[lane];
    size_t cost = message_cost(head, body);
    CHECK(head->size > 0 && head->size <= MESSAGE_HEAD_MAX);
    if (l->count > 0 && waiting_bytes(o) + cost > LINK_QUEUE_MAX) {
        if (l->refused == 0 || cost < l->refused) l->refused = cost;
        return ERR_FULL;
    }
    if (l->count == l->capacity) lane_grow(l);
    *lane_at(l, l->count) = (struct out_message){.head = blob_ref(head), .body = blob_ref(body)};
    l->count++;
    l->bytes += cost;
    return 0;
}

bool outbox_take_writable(struct outbox *o)
{
    bool writable = false;
    size_t waiting = waiting_bytes(o);
    for (int i = 0; i < 2; i++) {
        const struct out_lane *l = &o->lane[i];
        if (l->refused == 0) continue;
        /* Half the limit, so that a sender is woken for many messages and not for each one. */
        bool fits = waiting + l->refused <= LINK_QUEUE_MAX && waiting <= LINK_QUEUE_MAX / 2;
        if (l->count == 0 || fits) writable = true;
    }
    if (writable) o->lane[0].refused = o->lane[1].refused = 0;
    return writable;
}

void outbox_drop_lanes(struct outbox *o)
{
    for (int i = 0; i < 2; i++)
        while (o->lane[i].count > 0) lane_pop(&o->lane[i]);
}

bool outbox_lanes_empty(const struct outbox *o)
{
    return o->lane[0].count == 0 && o->lane[1].count == 0;
}

size_t outbox_bytes(const struct outbox *o)
{
    return o->lane[0].bytes + o->lane[1].bytes + o->frame_bytes;
}

/* -- frames ------------------------------------------------------------------------------------ */

bool outbox_has_room(const struct outbox *o)
{
    return o->count < OUTBOX_FRAME_MAX;
}

/* Takes `hold`, which owns payload. */
static void push_frame(struct outbox *o, const struct frame_header *h, struct blob *hold,
                       const uint8_t *payload)
{
    CHECK(outbox_has_room(o));
    struct out_frame *f = &o->frame[(o->first + o->count) % OUTBOX_FRAME_MAX];
    frame_encode(h, payload, f->header);
    f->hold = hold;
    f->payload = payload;
    f->payload_size = h->length;
    o->count++;
    o->frame_bytes += FRAME_HEADER_SIZE + h->length;
}

void outbox_put_frame(struct outbox *o, enum frame_type type, uint64_t value, struct blob *payload)
{
    struct frame_header h = {.type = (uint8_t)type, .value = value};
    if (payload != NULL) h.length = (uint32_t)payload->size;
    push_frame(o, &h, payload, payload != NULL ? payload->data : NULL);
}

/* Plans the next frame of a lane; the lane must hold a message. */
static void plan_frame(struct outbox *o, enum lane lane)
{
    struct out_lane *l = &o->lane[lane];
    struct out_message *m = lane_at(l, 0);
    size_t body_size = m->body != NULL ? m->body->size : 0;
    struct frame_header h = {0};
    if (!m->head_planned) {
        h.type = (uint8_t)(FRAME_HEAD_CONTROL + lane);
        h.flags = m->body != NULL ? FRAME_WITH_BODY : 0;
        h.value = body_size;
        h.length = (uint32_t)m->head->size;
        push_frame(o, &h, blob_ref(m->head), m->head->data);
        m->head_planned = true;
    } else {
        size_t left = body_size - m->body_planned;
        h.type = (uint8_t)(FRAME_BODY_CONTROL + lane);
        h.value = m->body_planned;
        h.length = (uint32_t)(left < FRAME_CHUNK_MAX ? left : FRAME_CHUNK_MAX);
        push_frame(o, &h, blob_ref(m->body), m->body->data + m->body_planned);
        m->body_planned += h.length;
    }
    if (m->body_planned < body_size) return;
    o->messages++;
    lane_pop(l);
}

void outbox_plan(struct outbox *o)
{
    while (outbox_has_room(o) && o->frame_bytes < OUTBOX_PLAN_MAX && !outbox_lanes_empty(o))
        plan_frame(o, o->lane[LANE_CONTROL].count > 0 ? LANE_CONTROL : LANE_BULK);
}

static size_t add_rest(struct iov *iov, size_t count, size_t max, const uint8_t *base, size_t size,
                       size_t *skip)
{
    size_t skipped = *skip < size ? *skip : size;
    *skip -= skipped;
    if (skipped == size || count == max) return count;
    iov[count] = (struct iov){base + skipped, size - skipped};
    return count + 1;
}

size_t outbox_peek(const struct outbox *o, struct iov *iov, size_t max)
{
    size_t count = 0, skip = o->first_sent;
    for (size_t i = 0; i < o->count && count < max; i++) {
        const struct out_frame *f = &o->frame[(o->first + i) % OUTBOX_FRAME_MAX];
        count = add_rest(iov, count, max, f->header, FRAME_HEADER_SIZE, &skip);
        if (f->payload_size > 0) count = add_rest(iov, count, max, f->payload, f->payload_size, &skip);
    }
    return count;
}

void outbox_sent(struct outbox *o, size_t bytes)
{
    CHECK(bytes <= o->frame_bytes);
    o->frame_bytes -= bytes;
    o->first_sent += bytes;
    while (o->count > 0) {
        struct out_frame *f = &o->frame[o->first];
        size_t size = FRAME_HEADER_SIZE + f->payload_size;
        if (o->first_sent < size) break;
        o->first_sent -= size;
        blob_unref(f->hold);
        f->hold = NULL;
        o->first = (o->first + 1) % OUTBOX_FRAME_MAX;
        o->count--;
    }
}

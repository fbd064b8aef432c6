/* The frames of the relay as bytes, and its queues. See relay/internal.h for the layout.
 *
 * Failure course: a frame of another length than its kind has, of an unknown kind, with a body or in a lane that it
 * cannot have, or with a number out of its range is ERR_PROTO. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/relay/internal.h"

#define PREFIX 10u
#define MESSAGE_COST 64u /* beside its bytes */

static_assert(RELAY_HEAD_MAX + RELAY_DATA_SIZE <= MESSAGE_HEAD_MAX, "DATA with any head fits");

static const size_t kind_size[] = {
    [RELAY_OPEN] = PREFIX + 24,     [RELAY_ACCEPT] = PREFIX + 8, [RELAY_CONFIRM] = PREFIX,
    [RELAY_REFUSE] = PREFIX + 1,    [RELAY_CLOSED] = PREFIX + 1, [RELAY_CREDIT] = PREFIX + 13,
    [RELAY_DATA] = RELAY_DATA_SIZE,
};

static uint64_t get(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | at[i];
    return value;
}

static void put(uint8_t *at, size_t size, uint64_t value)
{
    for (size_t i = 0; i < size; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static int fields_parse(const uint8_t *at, size_t size, struct relay_frame *f)
{
    switch (f->kind) {
    case RELAY_OPEN:
        f->target = get(at, 8);
        f->from = get(at + 8, 8);
        f->boot = get(at + 16, 8);
        return f->target != f->from ? 0 : ERR_PROTO;
    case RELAY_ACCEPT:
        f->boot = get(at, 8);
        return 0;
    case RELAY_CONFIRM:
        return 0;
    case RELAY_REFUSE:
        f->refusal = (enum relay_refusal)at[0];
        return at[0] >= REFUSAL_NO_LINK && at[0] <= REFUSAL_NOT_NEEDED ? 0 : ERR_PROTO;
    case RELAY_CLOSED:
        f->why = (enum down_reason)at[0];
        return at[0] <= DOWN_REPLACED ? 0 : ERR_PROTO;
    case RELAY_CREDIT:
        f->lane = (enum lane)at[0];
        f->messages = (uint32_t)get(at + 1, 4);
        f->bytes = get(at + 5, 8);
        return at[0] <= LANE_BULK ? 0 : ERR_PROTO;
    case RELAY_DATA:
        f->sequence = get(at, 8);
        f->head = at + 8;
        f->head_size = size - 8;
        return 0;
    }
    return ERR_PROTO;
}

int relay_frame_parse(const uint8_t *head, size_t size, enum lane lane, const struct blob *body,
                      struct relay_frame *out)
{
    if (size < PREFIX || head[0] != RELAY_MARK || head[1] < RELAY_OPEN || head[1] > RELAY_DATA)
        return ERR_PROTO;
    struct relay_frame f = {.kind = (enum relay_kind)head[1], .call = get(head + 2, 8)};
    bool data = f.kind == RELAY_DATA;
    if (data ? size <= RELAY_DATA_SIZE : size != kind_size[f.kind]) return ERR_PROTO;
    if (!data && (body != NULL || lane != LANE_CONTROL)) return ERR_PROTO;
    int err = fields_parse(head + PREFIX, size - PREFIX, &f);
    if (err == 0) *out = f;
    return err;
}

static void fields_encode(uint8_t *at, const struct relay_frame *f)
{
    switch (f->kind) {
    case RELAY_OPEN:
        put(at, 8, f->target);
        put(at + 8, 8, f->from);
        put(at + 16, 8, f->boot);
        return;
    case RELAY_ACCEPT:
        put(at, 8, f->boot);
        return;
    case RELAY_CONFIRM:
        return;
    case RELAY_REFUSE:
        at[0] = (uint8_t)f->refusal;
        return;
    case RELAY_CLOSED:
        at[0] = (uint8_t)f->why;
        return;
    case RELAY_CREDIT:
        at[0] = (uint8_t)f->lane;
        put(at + 1, 4, f->messages);
        put(at + 5, 8, f->bytes);
        return;
    case RELAY_DATA:
        put(at, 8, f->sequence);
        memcpy(at + 8, f->head, f->head_size);
        return;
    }
}

struct blob *relay_frame_encode(const struct relay_frame *f)
{
    struct blob *b = blob_new(kind_size[f->kind] + (f->kind == RELAY_DATA ? f->head_size : 0));
    b->data[0] = RELAY_MARK;
    b->data[1] = (uint8_t)f->kind;
    put(b->data + 2, 8, f->call);
    fields_encode(b->data + PREFIX, f);
    return b;
}

/* -- queues ------------------------------------------------------------------------------------ */

size_t relay_message_cost(size_t head_size, const struct blob *body)
{
    return head_size + (body != NULL ? body->size : 0) + MESSAGE_COST;
}

static void queue_grow(struct relay_queue *q)
{
    uint32_t capacity = q->capacity > 0 ? 2 * q->capacity : 8;
    struct relay_message *item = mem_new(capacity, sizeof *item);
    for (uint32_t i = 0; i < q->count; i++) item[i] = q->item[(q->first + i) & (q->capacity - 1)];
    free(q->item);
    q->item = item;
    q->capacity = capacity;
    q->first = 0;
}

void relay_queue_put(struct relay_queue *q, struct blob *head, struct blob *body, size_t cost,
                     uint64_t due_us)
{
    if (q->count == q->capacity) queue_grow(q);
    q->item[(q->first + q->count) & (q->capacity - 1)] =
        (struct relay_message){.head = head, .body = blob_ref(body), .cost = cost, .due_us = due_us};
    q->count++;
    q->bytes += cost;
}

const struct relay_message *relay_queue_first(const struct relay_queue *q)
{
    return q->count > 0 ? &q->item[q->first] : NULL;
}

void relay_queue_pop(struct relay_queue *q)
{
    CHECK(q->count > 0);
    const struct relay_message *m = &q->item[q->first];
    q->bytes -= m->cost;
    blob_unref(m->head);
    blob_unref(m->body);
    q->first = (q->first + 1) & (q->capacity - 1);
    q->count--;
}

void relay_queue_deinit(struct relay_queue *q)
{
    while (q->count > 0) relay_queue_pop(q);
    free(q->item);
    *q = (struct relay_queue){0};
}

/* The same rule at the sender, for what it has credit for, and at the relayer, for what it holds. */
bool relay_window_takes(uint32_t messages, size_t bytes, size_t cost)
{
    return messages == 0 || (messages < RELAY_WINDOW_MESSAGES && bytes + cost <= RELAY_WINDOW_BYTES);
}

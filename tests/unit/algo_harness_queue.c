#include "tests/unit/algo_harness_internal.h"

#include <stdlib.h>

#include "base/check.h"

static bool earlier(const struct harness_item *a, const struct harness_item *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->sequence < b->sequence;
}

void harness_queue_push(struct harness_queue *q, const struct harness_item *item)
{
    if (q->count == q->capacity) {
        q->capacity = q->capacity > 0 ? 2 * q->capacity : 64;
        q->item = mem_resize(q->item, q->capacity, sizeof *q->item);
    }
    size_t i = q->count++;
    for (; i > 0 && earlier(item, &q->item[(i - 1) / 2]); i = (i - 1) / 2) q->item[i] = q->item[(i - 1) / 2];
    q->item[i] = *item;
}

struct harness_item harness_queue_pop(struct harness_queue *q)
{
    CHECK(q->count > 0);
    struct harness_item first = q->item[0];
    struct harness_item last = q->item[--q->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= q->count) break;
        if (child + 1 < q->count && earlier(&q->item[child + 1], &q->item[child])) child++;
        if (!earlier(&q->item[child], &last)) break;
        q->item[i] = q->item[child];
        i = child;
    }
    if (q->count > 0) q->item[i] = last;
    return first;
}

void harness_item_release(struct harness_item *item)
{
    union {
        const uint8_t *borrowed;
        void *owned;
    } bits = {.borrowed = item->msg.bits};
    free(bits.owned);
    blob_unref(item->msg.vec);
    blob_unref(item->msg.packed);
    item->msg.bits = NULL;
    item->msg.vec = NULL;
    item->msg.packed = NULL;
}

void harness_queue_deinit(struct harness_queue *q)
{
    for (size_t i = 0; i < q->count; i++) harness_item_release(&q->item[i]);
    free(q->item);
}

/* The events of the cluster: a heap by (time, sequence). */
#include "tests/sim/swim_internal.h"

#include <stdlib.h>

#include "base/check.h"

static bool is_earlier(const struct swim_event *a, const struct swim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

void swim_push(struct swim_cluster *c, struct swim_event e)
{
    if (c->heap_count == c->heap_capacity) {
        c->heap_capacity = c->heap_capacity == 0 ? 256 : c->heap_capacity * 2;
        c->heap = mem_resize(c->heap, c->heap_capacity, sizeof *c->heap);
    }
    e.sequence = ++c->sequence;
    if (e.at_us < c->now_us) e.at_us = c->now_us;
    uint32_t at = c->heap_count++;
    for (; at > 0 && is_earlier(&e, &c->heap[(at - 1) / 2]); at = (at - 1) / 2)
        c->heap[at] = c->heap[(at - 1) / 2];
    c->heap[at] = e;
}

struct swim_event swim_pop(struct swim_cluster *c)
{
    struct swim_event top = c->heap[0], last = c->heap[--c->heap_count];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < c->heap_count; at = child) {
        if (child + 1 < c->heap_count && is_earlier(&c->heap[child + 1], &c->heap[child])) child++;
        if (!is_earlier(&c->heap[child], &last)) break;
        c->heap[at] = c->heap[child];
    }
    c->heap[at] = last;
    return top;
}

void swim_event_free(struct swim_event *e)
{
    if (e->parcel != NULL && --e->parcel->references == 0) free(e->parcel);
    free(e->msg);
    e->parcel = NULL;
    e->msg = NULL;
}

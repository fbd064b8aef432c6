/* A sorted array: it is read and written once a second at most. */
#include "agent/control/heard.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* The first entry that is not before id. */
static uint32_t find(const struct heard *h, node_id id)
{
    uint32_t low = 0, high = h->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (h->entry[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void forget_oldest(struct heard *h)
{
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < h->count; i++)
        if (h->entry[i].at_us < h->entry[oldest].at_us) oldest = i;
    h->count--;
    memmove(&h->entry[oldest], &h->entry[oldest + 1], (h->count - oldest) * sizeof *h->entry);
}

void heard_note(struct heard *h, node_id id, uint64_t at_us)
{
    uint32_t at = find(h, id);
    if (at < h->count && h->entry[at].id == id) {
        if (at_us > h->entry[at].at_us) h->entry[at].at_us = at_us;
        return;
    }
    if (h->count == HEARD_MAX) {
        forget_oldest(h);
        at = find(h, id);
    }
    if (h->count == h->room) {
        h->room = h->room > 0 ? 2 * h->room : 16;
        h->entry = mem_resize(h->entry, h->room, sizeof *h->entry);
    }
    memmove(&h->entry[at + 1], &h->entry[at], (h->count - at) * sizeof *h->entry);
    h->entry[at] = (struct heard_entry){id, at_us};
    h->count++;
}

uint64_t heard_at_us(const struct heard *h, node_id id)
{
    uint32_t at = find(h, id);
    return at < h->count && h->entry[at].id == id ? h->entry[at].at_us : 0;
}

void heard_deinit(struct heard *h)
{
    free(h->entry);
    *h = (struct heard){0};
}

/* Messages of a group whose others have had the average above already, while this node has not.
 *
 * Normal course
 *  - they are held, in order; when this node gets there the slot is made and is given them.
 *  - a node that has just started asks at once instead: its group may have the model before everybody meets.
 * Failure courses
 *  - messages of a still later start: what was held is void, this node will hear of a copy.
 *  - more are held than a round can take: they are dropped, and the slot asks for a copy when it is made.
 *  - the link of a sender goes down: what it sent is void.
 *  - one that turns out to be malformed when it is given: dropped, its link stays (it cannot be named any
 *    more). */
#include <stdlib.h>
#include <string.h>

#include "algo/hsgd/internal.h"
#include "base/check.h"

static void held_release(struct hsgd_held *e)
{
    free((void *)(uintptr_t)e->msg.bits);
    blob_unref(e->msg.vec);
    blob_unref(e->msg.packed);
}

static void held_drop(struct hsgd_level *l)
{
    for (size_t i = 0; i < l->held_count; i++) held_release(&l->held[i]);
    l->held_count = l->held_bytes = 0;
}

void hsgd_next_end(struct hsgd *h, uint32_t level)
{
    held_drop(&h->level[level]);
    hsgd_slot_end(h, &h->level[level].next);
}

static size_t body_bytes(const struct algo_msg *m)
{
    return m->bits_size + (m->vec != NULL ? m->vec->size : 0) + (m->packed != NULL ? m->packed->size : 0);
}

/* A round sends a member each float twice at most, in chunks, and a few words from everybody. */
static bool is_too_much(const struct hsgd *h, const struct hsgd_level *l, const struct algo_msg *m)
{
    size_t words = 64 + 32 * (size_t)l->next.member_count;
    return l->held_count >= words + 4 * (h->dim / 1024) ||
           l->held_bytes + body_bytes(m) > 4 * h->dim * sizeof(float) + words * ALGO_BITS_MAX;
}

static void hold(struct hsgd *h, struct hsgd_level *l, rank_t from, const struct algo_msg *m)
{
    if (is_too_much(h, l, m)) {
        h->late_dropped += l->held_count + 1;
        held_drop(l);
        l->next.fresh = true;
        return;
    }
    if (l->held_count == l->held_capacity) {
        l->held_capacity = 2 * l->held_capacity + 16;
        l->held = mem_resize(l->held, l->held_capacity, sizeof *l->held);
    }
    struct hsgd_held *e = &l->held[l->held_count++];
    *e = (struct hsgd_held){.from = from, .msg = *m};
    e->msg.bits = NULL;
    if (m->bits_size > 0) {
        uint8_t *bits = mem_new(m->bits_size, 1);
        memcpy(bits, m->bits, m->bits_size);
        e->msg.bits = bits;
    }
    blob_ref(m->vec);
    blob_ref(m->packed);
    l->held_bytes += body_bytes(m);
}

/* The slot in advance is to be of this start. */
static int next_begin(struct hsgd *h, uint32_t level, uint64_t start, rank_t from, struct algo_actions *acts)
{
    struct hsgd_slot made;
    int err = hsgd_slot_frame(h, level, start, &made);
    if (err != 0) return err;
    if (!hsgd_slot_has(&made, from)) {
        hsgd_slot_end(h, &made);
        return ERR_PROTO;
    }
    hsgd_next_end(h, level);
    h->level[level].next = made;
    if (made.fresh) hsgd_slot_open(h, level, &h->level[level].next, acts);
    return 0;
}

int hsgd_next_take(struct hsgd *h, uint32_t level, uint64_t start, const struct algo_event *e,
                   struct algo_actions *acts)
{
    struct hsgd_level *l = &h->level[level];
    bool known = l->next.member != NULL;
    if (known && start < l->next.start) {
        h->late_dropped++;
        return 0;
    }
    if (known && start == l->next.start && !hsgd_slot_has(&l->next, e->peer)) return ERR_PROTO;
    if (!known || start > l->next.start) {
        int err = next_begin(h, level, start, e->peer, acts);
        if (err != 0) return err;
    }
    enum allreduce_outcome outcome;
    if (l->next.sum != NULL) {
        if (hsgd_slot_step(h, &l->next, e, acts, &outcome) != 0) h->late_dropped++;
    } else if (!l->next.fresh) {
        hold(h, l, e->peer, e->msg);
    }
    return 0;
}

void hsgd_next_peer_down(struct hsgd *h, rank_t peer)
{
    for (uint32_t k = 0; k < h->plan.level_count; k++) {
        struct hsgd_level *l = &h->level[k];
        size_t left = 0;
        for (size_t i = 0; i < l->held_count; i++) {
            if (l->held[i].from == peer)
                held_release(&l->held[i]);
            else
                l->held[left++] = l->held[i];
        }
        l->held_count = left;
    }
}

void hsgd_next_reach(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    struct hsgd_level *l = &h->level[level];
    l->now = l->next;
    l->next = (struct hsgd_slot){0};
    if (l->now.sum == NULL) {
        l->now.known = l->now.start == h->step;
        hsgd_slot_open(h, level, &l->now, acts);
    } else if (l->now.start == h->step) {
        hsgd_slot_keep_step(h, level, &l->now);
    }
    for (size_t i = 0; i < l->held_count; i++) {
        struct algo_event e = {
            .kind = ALGO_MESSAGE, .now_us = h->now_us, .peer = l->held[i].from, .msg = &l->held[i].msg};
        if (hsgd_slot_tell(h, &l->now, &e, acts) != 0) h->late_dropped++;
    }
    held_drop(l);
}

/* When a new view is due, and with whom. Everything here is a function of the state, asked after every event:
 * a cause that passes (a link that comes back, an answer) needs no cancelling.
 *
 * A cause ripens at some time; then the lowest rank of those to be in the new view proposes at once, the
 * others later by patience/16 for each lower rank there, so that as a rule only one does. */
#include "algo/allreduce/internal.h"

#include <string.h>

#include "base/check.h"

/* -- who --------------------------------------------------------------------------------------- */

static bool was_silent(const struct allreduce *a, const struct participant *p);

static bool is_linked_to_all(const struct allreduce *a, const struct participant *p, const uint8_t *map)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (bit_get(map, a->member[i].rank) && !bit_get(p->links, a->member[i].rank)) return false;
    return true;
}

/* Outside our view: is it to be taken in? Who was left out because it did not begin has to begin first, or to
 * wait for others elsewhere. */
static bool is_takeable(const struct allreduce *a, const struct participant *p)
{
    if (p->in_view || !p->up || !p->heard || p->suspect || was_silent(a, p)) return false;
    return a->phase == PHASE_OUT || (p->flags & (FLAG_BEGUN | FLAG_READY | FLAG_FRESH)) != 0 ||
           p->changed_us >= a->adopted_us;
}

/* First the living of our view, then everybody else who is linked to all of those. */
uint32_t candidates(const struct allreduce *a, uint8_t *map)
{
    memset(map, 0, a->map_size);
    bit_set(map, a->config.rank);
    uint32_t count = 1;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct participant *p = &a->member[i];
        if (i == a->self || !p->in_view || !p->up || p->suspect || was_silent(a, p)) continue;
        bit_set(map, p->rank);
        count++;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        const struct participant *p = &a->member[i];
        if (i == a->self || !is_takeable(a, p)) continue;
        if (!is_linked_to_all(a, p, map)) continue;
        bit_set(map, p->rank);
        count++;
    }
    return count;
}

bool others_wait(const struct allreduce *a, uint64_t since_us)
{
    for (uint32_t i = 0; i < a->count; i++) {
        const struct participant *p = &a->member[i];
        if (i == a->self || p->heard_us < since_us || !is_takeable(a, p)) continue;
        bool linked = true;
        for (uint32_t k = 0; k < a->count && linked; k++)
            linked = !a->member[k].in_view || bit_get(p->links, a->member[k].rank);
        if (linked) return true;
    }
    return false;
}

/* Goes on with a view that is not ours, as far as this node knows. */
bool is_keeper(const struct allreduce *a, const struct participant *p)
{
    return p->up && p->heard && !p->suspect && (p->flags & FLAG_OUTSIDE) == 0 && !was_silent(a, p);
}

/* COPY: who is to send the state, the lowest of those with the greatest history. */
static const struct participant *source_of(const struct allreduce *a)
{
    const struct participant *source = NULL;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct participant *p = &a->member[i];
        if (!p->in_view || i == a->self) continue;
        if (source == NULL || history_compare(p->history, source->history) > 0) source = p;
    }
    return source;
}

/* Not heard in time, in the phase and the question of the moment. */
static bool was_silent(const struct allreduce *a, const struct participant *p)
{
    uint64_t patience = a->config.patience_us;
    switch (a->phase) {
    case PHASE_SYNC:
        return p->in_view && !p->synced && a->now_us >= time_after(a->entered_us, patience);
    case PHASE_COPY: /* who had it did not send it */
        return p == source_of(a) && a->now_us >= time_after(a->entered_us, patience);
    case PHASE_RUN:
        if (!p->in_view || a->now_us < time_after(a->asked_us, patience)) return false;
        if (p->heard_us < a->asked_us || (p->flags & FLAG_OUTSIDE) != 0) return true;
        /* who is ahead has begun this round, and has ended it */
        return (p->flags & FLAG_BEGUN) == 0 && history_compare(p->history, a->history) <= 0;
    case PHASE_OUT:
        return p->heard && a->now_us >= time_after(a->asked_us, patience) && p->heard_us < a->asked_us;
    }
    UNREACHABLE();
}

/* -- when -------------------------------------------------------------------------------------- */

static uint64_t later(uint64_t x, uint64_t y)
{
    return x > y ? x : y;
}

/* A link that the round (or the copy) needs. */
static uint64_t link_us(const struct allreduce *a, const struct participant *p, uint64_t since_us)
{
    uint64_t grace = a->config.patience_us / 8;
    if (p->up) return p->lost ? p->changed_us : TIME_NEVER;
    if (!p->ever_up) return time_after(since_us, a->config.patience_us);
    return time_after(p->changed_us, grace);
}

static uint64_t member_us(const struct allreduce *a, const struct participant *p)
{
    uint64_t patience = a->config.patience_us;
    if (p->replaced && p->up) return p->changed_us;
    switch (a->phase) {
    case PHASE_RUN:
        if (p->up && p->heard && (p->flags & FLAG_FRESH) != 0) return p->heard_us;
        return a->begun && p->adjacent ? link_us(a, p, a->progress_us) : TIME_NEVER;
    case PHASE_SYNC:
        if (p->synced) return TIME_NEVER;
        if (!p->up) return time_after(later(p->changed_us, a->entered_us), patience / 8);
        /* It came back since, as another, which does not take up this view. */
        if (p->heard && (p->flags & FLAG_FRESH) != 0 && p->changed_us > a->entered_us) return p->heard_us;
        return time_after(a->entered_us, patience);
    case PHASE_COPY:
        if (p != source_of(a)) return TIME_NEVER;
        if (!p->up || p->lost) return link_us(a, p, a->entered_us);
        return time_after(a->entered_us, patience);
    case PHASE_OUT:
        return TIME_NEVER;
    }
    UNREACHABLE();
}

/* As cause_us, outside. All the others are here and outside too: there is nobody to wait for. */
static uint64_t outside_us(const struct allreduce *a)
{
    bool keepers = false, all_outside = true;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct participant *p = &a->member[i];
        if (i == a->self) continue;
        keepers = keepers || is_keeper(a, p);
        all_outside = all_outside && p->up && p->heard && (p->flags & FLAG_OUTSIDE) != 0;
    }
    if (keepers) return TIME_NEVER;
    if (all_outside) return a->entered_us;
    return time_after(a->keeper_us, a->fresh ? a->config.patience_us : a->config.patience_us / 8);
}

/* Since when there is cause for a new view; may lie ahead; TIME_NEVER. */
static uint64_t cause_us(const struct allreduce *a)
{
    uint64_t patience = a->config.patience_us, first = TIME_NEVER;
    if (a->phase == PHASE_OUT) return outside_us(a);
    for (uint32_t i = 0; i < a->count; i++) {
        if (i == a->self || !a->member[i].in_view) continue;
        uint64_t due = member_us(a, &a->member[i]);
        if (due < first) first = due;
    }
    if (a->conflict && a->entered_us < first) first = a->entered_us;
    if (a->phase == PHASE_RUN && a->merge_us < first) first = a->merge_us;
    /* With no round begun here they need not wait for the end of one: there may be none for long. */
    if (a->phase == PHASE_RUN && !a->begun && a->entered_us < first && others_wait(a, a->adopted_us))
        first = a->entered_us;
    if (a->phase == PHASE_RUN && a->begun && time_after(a->asked_us, patience) < first)
        first = time_after(a->asked_us, patience);
    return first;
}

/* Its own turn to propose, in a view for a cause of that time. */
static uint64_t turn_us(const struct allreduce *a, uint64_t cause)
{
    if (cause == TIME_NEVER) return cause;
    uint32_t lower = 0;
    for (uint32_t i = 0; i < a->self; i++) {
        const struct participant *p = &a->member[i];
        bool there = p->up && !p->suspect && !was_silent(a, p) && (p->in_view || a->phase == PHASE_OUT);
        lower += there && (p->flags & FLAG_FRESH) == (a->fresh ? FLAG_FRESH : 0);
    }
    return time_after(cause, (lower < 16 ? lower : 16) * (a->config.patience_us / 16));
}

/* When to ask: nothing has moved for the patience. */
static uint64_t ask_us(const struct allreduce *a)
{
    uint64_t patience = a->config.patience_us;
    if (a->phase == PHASE_RUN && a->begun && a->asked_us == TIME_NEVER)
        return time_after(a->progress_us, patience);
    if (a->phase == PHASE_OUT)
        return time_after(a->asked_us == TIME_NEVER ? a->entered_us : a->asked_us, patience);
    return TIME_NEVER;
}

uint64_t watch_us(const struct allreduce *a)
{
    uint64_t turn = turn_us(a, cause_us(a)), ask = ask_us(a);
    return turn < ask ? turn : ask;
}

static void suspects_note(struct allreduce *a)
{
    for (uint32_t i = 0; i < a->count; i++) {
        struct participant *p = &a->member[i];
        if (i != a->self && p->up && was_silent(a, p)) p->suspect = true;
    }
}

static void ask_all(struct allreduce *a, struct algo_actions *acts)
{
    suspects_note(a); /* who did not answer the last time */
    a->asked_us = a->now_us;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->member[i].up && (a->member[i].in_view || a->phase == PHASE_OUT))
            message_new(a, i, MSG_ASK, acts);
}

void watch(struct allreduce *a, struct algo_actions *acts)
{
    if (a->phase == PHASE_OUT)
        for (uint32_t i = 0; i < a->count; i++)
            if (i != a->self && is_keeper(a, &a->member[i])) a->keeper_us = a->now_us;
    if (a->outcome == ALLREDUCE_NONE && turn_us(a, cause_us(a)) <= a->now_us) {
        suspects_note(a);
        view_propose(a, acts);
    } else if (ask_us(a) <= a->now_us) {
        ask_all(a, acts);
    }
}

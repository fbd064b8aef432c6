/* Agreement on the members and on the history that counts: STATUS, STATE, ASK. The courses are told in
 * allreduce.c. */
#include "algo/allreduce/internal.h"

#include <string.h>

#include "base/check.h"

enum { ENTRY_SIZE = 12 }; /* of the map in STATE: round + 1, view number, proposer, all cut to 4 bytes */

/* -- STATUS ------------------------------------------------------------------------------------ */

void status_send(struct allreduce *a, uint32_t to, uint8_t flags, struct algo_actions *acts)
{
    uint8_t *bits = spent_new(a, 2 * (size_t)a->map_size);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct participant *p = &a->member[i];
        /* Of its place, the view has the one before it. */
        if (p->in_view && !(i == to && p->replaced)) bit_set(bits, p->rank);
        if (p->up || i == a->self) bit_set(bits + a->map_size, p->rank);
    }
    struct algo_msg *m = message_new(a, to, MSG_STATUS, acts);
    m->field_count = 6;
    m->field[2] = a->history.round;
    m->field[3] = a->history.done.number;
    m->field[4] = a->history.done.proposer;
    m->field[5] = flags | (a->begun ? FLAG_BEGUN : 0) | (a->phase == PHASE_OUT ? FLAG_OUTSIDE : 0) |
                  (a->fresh ? FLAG_FRESH : 0) | (a->ready ? FLAG_READY : 0);
    m->bits = bits;
    m->bits_size = 2 * a->map_size;
}

void status_spread(struct allreduce *a, uint8_t flags, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (a->member[i].up) status_send(a, i, flags, acts);
}

/* What all changes of view have in common. */
static void leave_view(struct allreduce *a)
{
    run_stop(a);
    kept_drop(a, true);
    plan_clear(a);
    for (uint32_t i = 0; i < a->count; i++) {
        struct participant *p = &a->member[i];
        p->in_view = p->adjacent = p->synced = p->lost = p->replaced = false;
        if (!p->up) p->boot = 0;
    }
    a->conflict = a->skipped = false;
    a->merge_us = a->asked_us = TIME_NEVER;
    a->entered_us = a->progress_us = a->now_us;
}

static void go_outside(struct allreduce *a, struct algo_actions *acts)
{
    trace_line(a->config.trace, TRACE_INFO,
               "all-reduce: the others go on without this node; it waits for them");
    leave_view(a);
    a->view_count = 0;
    a->phase = PHASE_OUT;
    a->keeper_us = a->now_us;
    status_spread(a, 0, acts);
}

/* Whether its STATUS of our view came before we took that up. */
static bool is_there_already(const struct allreduce *a, const struct participant *p)
{
    bool inside = p->in_view && p->up && p->heard && (p->flags & FLAG_OUTSIDE) == 0;
    return inside && view_compare(p->view, a->view) == 0;
}

static void adopt(struct allreduce *a, struct view_id view, const uint8_t *map, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (a->member[i].in_view && !bit_get(map, a->member[i].rank)) a->counts.left_out++;
    leave_view(a);
    a->view = view;
    a->adopted_us = a->now_us;
    a->view_count = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        a->member[i].in_view = bit_get(map, a->member[i].rank);
        a->member[i].synced = is_there_already(a, &a->member[i]);
        a->view_count += a->member[i].in_view;
    }
    a->counts.views++;
    a->phase = PHASE_SYNC;
    a->member[a->self].synced = true;
    a->member[a->self].history = a->history;
    plan_make(a);
    trace_line(a->config.trace, TRACE_INFO, "all-reduce: view %llu by node %u has %u members",
               (unsigned long long)view.number, (unsigned)(view.proposer >> LIFE_BITS), a->view_count);
    status_spread(a, FLAG_NEW, acts);
}

void view_propose(struct allreduce *a, struct algo_actions *acts)
{
    uint8_t *map = spent_new(a, a->map_size);
    uint32_t count = candidates(a, map);
    CHECK(count > 0);
    a->number_max++;
    uint64_t proposer = (uint64_t)a->config.rank << LIFE_BITS | life_token(a->config.life);
    adopt(a, (struct view_id){a->number_max, proposer}, map, acts);
    sync_try(a, acts);
}

/* Whether all of a view's members are known to the configuration. */
static bool map_fits(const struct allreduce *a, const uint8_t *map)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < 8 * a->map_size; i++) count += bit_get(map, i);
    for (uint32_t i = 0; i < a->count; i++) count -= bit_get(map, a->member[i].rank);
    return count == 0;
}

static bool map_is_ours(const struct allreduce *a, const uint8_t *map)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (a->member[i].in_view != bit_get(map, a->member[i].rank)) return false;
    return true;
}

static bool status_fits(const struct allreduce *a, const struct algo_msg *m)
{
    if (m->field_count != 6 || m->vec != NULL || m->packed != NULL) return false;
    if (m->bits_size != 2 * a->map_size || m->field[5] > FLAG_ALL) return false;
    if (!view_fits(a, (struct view_id){m->field[0], m->field[1]})) return false;
    if (!history_fits(a, (struct history){m->field[2], {m->field[3], m->field[4]}})) return false;
    return map_fits(a, m->bits) && map_fits(a, m->bits + a->map_size);
}

/* A view that the sender is in. */
static void view_heard(struct allreduce *a, uint32_t from, struct view_id view, const struct algo_msg *m,
                       struct algo_actions *acts)
{
    struct participant *p = &a->member[from];
    int order = view_compare(view, a->view);
    bool is_new = (m->field[5] & FLAG_NEW) != 0;
    /* A fresh node takes up what was proposed since it is here: in older views its place was that of its
     * former life. */
    bool fits = order > 0 && view.number > 0 && (!a->fresh || is_new);
    if (fits && p->has_us) adopt(a, view, m->bits, acts);
    if (fits && !p->has_us && a->phase != PHASE_OUT) go_outside(a, acts);
    if (a->phase == PHASE_OUT) return;
    if (order != 0 && view.number == 0 && a->view.number == 0) a->conflict = true; /* founded apart from us */
    if (view_compare(view, a->view) != 0) return;
    if (!map_is_ours(a, m->bits)) {
        a->conflict = true;
        return;
    }
    if (a->phase == PHASE_RUN && !p->synced) p->flags &= (uint8_t)~FLAG_FRESH; /* late, not fresh again */
    p->synced = true;
}

int on_status(struct allreduce *a, uint32_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    struct participant *p = &a->member[from];
    if (!status_fits(a, m)) return ERR_PROTO;
    bool outside = (m->field[5] & FLAG_OUTSIDE) != 0;
    bool in_it = bit_get(m->bits, p->rank);
    if (in_it == outside) return ERR_PROTO;
    struct history history = {m->field[2], {m->field[3], m->field[4]}};
    if (m->field[0] > a->number_max) a->number_max = m->field[0];
    if (history.done.number > a->number_max) a->number_max = history.done.number;
    struct view_id view = {m->field[0], m->field[1]};
    /* What the view began with is what counts for it, until all agree; after that, where the member is. */
    bool frozen = a->phase != PHASE_RUN && p->synced && !outside && view_compare(view, a->view) == 0;
    p->heard = true;
    p->has_us = bit_get(m->bits, a->config.rank);
    p->flags = (uint8_t)m->field[5];
    p->view = view;
    p->heard_us = a->now_us;
    p->suspect = false;
    if (!frozen) p->history = history;
    memcpy(p->links, m->bits + a->map_size, a->map_size);
    if (!outside) view_heard(a, from, view, m, acts);
    sync_try(a, acts);
    return 0;
}

/* -- the history that counts ------------------------------------------------------------------- */

static void put_number(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)at[i] << 8 * i;
    return value;
}

/* As many members as fit in a map; what is told of the others is nothing. */
static uint32_t entries(const struct allreduce *a)
{
    return a->count < ALGO_BITS_MAX / ENTRY_SIZE ? a->count : ALGO_BITS_MAX / ENTRY_SIZE;
}

static void state_send(struct allreduce *a, uint32_t to, struct blob *state, struct algo_actions *acts)
{
    uint32_t count = entries(a);
    uint8_t *bits = spent_new(a, (size_t)count * ENTRY_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        const struct history_mark *c = &a->member[i].contribution;
        put_number(bits + (size_t)i * ENTRY_SIZE, c->round, 4);
        put_number(bits + (size_t)i * ENTRY_SIZE + 4, c->number, 4);
        put_number(bits + (size_t)i * ENTRY_SIZE + 8, c->proposer, 4);
    }
    struct algo_msg *m = message_new(a, to, MSG_STATE, acts);
    m->field_count = 5;
    m->field[2] = a->history.round;
    m->field[3] = a->history.done.number;
    m->field[4] = a->history.done.proposer;
    m->bits = bits;
    m->bits_size = count * ENTRY_SIZE;
    m->vec = blob_ref(state);
    a->counts.vectors++;
    crossing_count(a, to, a->config.state_dim);
}

static void states_send(struct allreduce *a, struct algo_actions *acts)
{
    struct blob *state = NULL;
    for (uint32_t i = 0; i < a->count; i++) {
        struct participant *p = &a->member[i];
        if (i == a->self || !p->in_view || history_compare(p->history, a->history) == 0) continue;
        CHECK(a->state != NULL); /* told with allreduce_set_state */
        if (state == NULL) state = blob_copy(a->state, a->config.state_dim * sizeof(float));
        state_send(a, i, state, acts);
    }
    blob_unref(state);
}

/* Those who came fresh have been taken in: only a STATUS to come can say that one is fresh again. */
static void flags_settle(struct allreduce *a)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (a->member[i].in_view) a->member[i].flags &= (uint8_t)~FLAG_FRESH;
}

void sync_try(struct allreduce *a, struct algo_actions *acts)
{
    if (a->phase != PHASE_SYNC) return;
    struct history greatest = a->history;
    uint32_t source = a->self;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct participant *p = &a->member[i];
        if (!p->in_view) continue;
        if (!p->synced) return;
        int order = history_compare(p->history, greatest);
        if (order > 0 || (order == 0 && i < source)) source = i;
        if (order > 0) greatest = p->history;
    }
    a->entered_us = a->progress_us = a->now_us;
    if (history_compare(greatest, a->history) > 0) {
        a->phase = PHASE_COPY;
        return;
    }
    a->phase = PHASE_RUN;
    a->fresh = false;
    flags_settle(a);
    if (source == a->self) states_send(a, acts);
    run_try(a, acts);
}

/* Whether this node's vector of the round begun is in a history that holds our part of `c`. */
static bool is_counted(const struct allreduce *a, struct history_mark c)
{
    for (size_t i = 0; a->begun && i < a->ran_count; i++) {
        struct history_mark ours = history_mark((struct history){a->history.round + 1, a->ran[i]});
        if (ours.round == c.round && ours.number == c.number && ours.proposer == c.proposer) return true;
    }
    return false;
}

static struct history_mark entry_read(const uint8_t *at)
{
    return (struct history_mark){(uint32_t)get_number(at, 4), (uint32_t)get_number(at + 4, 4),
                                 (uint32_t)get_number(at + 8, 4)};
}

int on_state(struct allreduce *a, uint32_t from, const struct algo_msg *m)
{
    uint32_t count = entries(a);
    if (m->field_count != 5 || m->vec == NULL || m->bits_size != count * ENTRY_SIZE) return ERR_PROTO;
    struct view_id view = {m->field[0], m->field[1]};
    struct history history = {m->field[2], {m->field[3], m->field[4]}};
    if (!view_fits(a, view) || !history_fits(a, history)) return ERR_PROTO;
    const struct participant *p = &a->member[from];
    bool ours = view_compare(view, a->view) == 0 && p->in_view && !p->replaced;
    /* The sender has heard everybody: so may this node in SYNC take it. */
    bool awaited = a->phase == PHASE_COPY || a->phase == PHASE_SYNC;
    if (!ours || !awaited || history_compare(history, a->history) <= 0) {
        a->counts.dropped++;
        return 0;
    }
    if (m->vec->size != a->config.state_dim * sizeof(float)) return ERR_PROTO;
    /* Told of nothing (too many members): rather lost than twice. */
    struct history_mark mine =
        history_mark((struct history){a->history.round + 1, a->ran_count > 0 ? a->ran[0] : a->view});
    if (a->self < count) mine = entry_read(m->bits + (size_t)a->self * ENTRY_SIZE);
    a->contributed = is_counted(a, mine);
    a->counts.contributed += a->contributed;
    for (uint32_t i = 0; i < count; i++)
        a->member[i].contribution = entry_read(m->bits + (size_t)i * ENTRY_SIZE);
    if (a->self >= count) a->member[a->self].contribution = history_mark(history);
    a->history = history;
    a->begun = false;
    blob_unref(a->copy);
    a->copy = blob_ref(m->vec);
    a->outcome = ALLREDUCE_COPY;
    a->phase = PHASE_RUN;
    a->fresh = false;
    a->entered_us = a->progress_us = a->now_us;
    flags_settle(a);
    kept_drop(a, false);
    return 0;
}

int on_ask(struct allreduce *a, uint32_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 2 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    a->member[from].curious = !a->begun;
    status_send(a, from, 0, acts);
    return 0;
}

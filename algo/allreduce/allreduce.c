/* The all-reduce from the outside: making it, its events, its rounds.
 *
 * Members agree on views: (number, proposer) and a set of members. A round belongs to one view; a member that
 * has all sums of a round has the history (rounds over, view of the last one).
 *
 * Normal course
 *  - everybody is in view (0, origin) with all members. allreduce_begin starts the round as soon as the links of
 *    the plan are up: DATA goes up and down the slices' trees (plan.c, run.c).
 *  - DATA for a round not begun here is kept; a window bounds how much that is.
 *  - all sums are here: ALLREDUCE_SUM.
 * Failure courses (watch.c says when, view.c what)
 *  - a link of the plan goes down during a round: after patience/8, or as soon as it is back (what was on it
 *    is lost), a new view. The proposer adopts it and tells all it is linked to: STATUS. Everybody adopts the
 *    greatest view, voids partial sums and sends its own STATUS.
 *  - all members' STATUS is here: the greatest history counts. Who is not at it gets STATE from the lowest
 *    rank that is, the others run the round again with the same x. Every vector is in a sum once: it is added
 *    only within one view, and a copied state says of each member which of its rounds it holds.
 *  - a STATUS or STATE does not come, from a member whose link is gone for patience/8 or that is silent for
 *    patience: the next view, without it.
 *  - a round makes no progress for patience: ASK. Who does not answer within patience, or has not begun by
 *    then, is left out. All have answered and begun: the same members, from scratch.
 *  - a node hears of a greater view without it: it waits outside, and is taken in with a new view at the end
 *    of a round there, once it is linked to all members and has begun (or waits for others elsewhere, was cut
 *    off, or is fresh): who trains no more holds nobody up twice. Those inside gone or silent too: it makes a
 *    view itself.
 *  - a node that starts afresh waits outside likewise. A member that turns out to be fresh: a new view at
 *    once. One that is being agreed on by then may be of its former life: it does not take that up.
 *  - two halves of a partition go on. When they meet, the lesser view's members are outside; in the view of
 *    all the greater history counts.
 *  - two groups were founded apart, from other states (origins): a new view, in which the greater history counts. No
 *    two views are alike, whoever proposed them from whatever place, so equal histories are equal states.
 *  - another process holds a member's place by now (boot): nothing of it counts in this view, it is told that the view
 *    is none of its own, and a new one is made at once.
 *  - a number far beyond what a member could have reached: ERR_PROTO, as it would use up the numbers there are.
 *  - a lone member goes on alone.
 *  - a malformed message: ERR_PROTO, nothing changed. */
#include "algo/allreduce/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

int32_t member_find(const struct allreduce *a, rank_t rank)
{
    uint32_t low = 0, high = a->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (a->member[middle].rank < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a->count && a->member[low].rank == rank ? (int32_t)low : NO_MEMBER;
}

/* -- messages ---------------------------------------------------------------------------------- */

uint8_t *spent_new(struct allreduce *a, size_t size)
{
    struct spent *s = mem_new_zero(1, sizeof *s + size);
    s->next = a->spent;
    a->spent = s;
    return s->bits;
}

static void spent_free(struct allreduce *a)
{
    while (a->spent != NULL) {
        struct spent *next = a->spent->next;
        free(a->spent);
        a->spent = next;
    }
}

struct algo_msg *message_new(struct allreduce *a, uint32_t to, enum message kind, struct algo_actions *acts)
{
    CHECK(to != a->self);
    CHECK(a->member[to].up);
    struct algo_msg *m = algo_send(acts, a->member[to].rank, (uint8_t)(a->config.first_kind + kind));
    m->field_count = 2;
    m->field[0] = a->view.number;
    m->field[1] = a->view.proposer;
    return m;
}

/* -- making ------------------------------------------------------------------------------------ */

static void members_make(struct allreduce *a)
{
    const struct allreduce_config *c = &a->config;
    a->member = mem_new_zero(a->count, sizeof *a->member);
    a->map_size = (c->node_count + 7) / 8;
    CHECK(2 * a->map_size <= ALGO_BITS_MAX);
    CHECK(c->node_count <= UINT32_C(1) << (64 - LIFE_BITS));
    for (uint32_t i = 0; i < a->count; i++) {
        CHECK(i == 0 || c->member[i - 1] < c->member[i]);
        CHECK(c->member[i] < c->node_count);
        a->member[i].rank = c->member[i];
        a->member[i].group = a->member[i].home = c->group != NULL ? c->group[i] : 0;
        a->member[i].links = mem_new_zero(a->map_size, 1);
        a->member[i].in_view = !c->rejoining;
    }
    int32_t self = member_find(a, c->rank);
    CHECK(self != NO_MEMBER);
    a->self = (uint32_t)self;
}

struct allreduce *allreduce_new(const struct allreduce_config *config)
{
    CHECK(config->member_count > 0 && config->size_max > 0);
    struct allreduce *a = mem_new_zero(1, sizeof *a);
    a->config = *config;
    a->count = config->member_count;
    members_make(a);
    a->config.member = NULL; /* copied */
    a->config.group = NULL;
    a->merge_us = a->asked_us = TIME_NEVER;
    a->fresh = config->rejoining;
    a->phase = config->rejoining ? PHASE_OUT : PHASE_RUN;
    a->history.done.proposer = life_token(config->origin);
    if (!config->rejoining) {
        a->view = a->history.done;
        a->history.round = config->round;
    }
    a->sum = mem_new_zero(config->size_max, sizeof *a->sum);
    if (config->measures) a->group_sum = mem_new_zero(config->size_max, sizeof *a->group_sum);
    if (config->rejoining) {
        a->entered_us = a->keeper_us = TIME_NEVER; /* the first event tells the time */
        return a;
    }
    a->view_count = a->count;
    plan_make(a);
    return a;
}

void allreduce_free(struct allreduce *a)
{
    if (a == NULL) return;
    run_stop(a);
    kept_drop(a, true);
    plan_clear(a);
    spent_free(a);
    for (uint32_t i = 0; i < a->count; i++) free(a->member[i].links);
    blob_unref(a->copy);
    free(a->member);
    free(a->ran);
    free(a->kept);
    free(a->sum);
    free(a->group_sum);
    free(a);
}

/* -- events ------------------------------------------------------------------------------------ */

static void clock_set(struct allreduce *a, uint64_t now_us)
{
    a->now_us = now_us;
    if (a->entered_us == TIME_NEVER) a->entered_us = now_us;
    if (a->keeper_us == TIME_NEVER) a->keeper_us = now_us;
}

static enum allreduce_outcome outcome_take(struct allreduce *a)
{
    enum allreduce_outcome out = a->outcome;
    a->outcome = ALLREDUCE_NONE;
    return out;
}

/* What it said and sent before in this view is not known to who holds its place now: neither goes on from it. */
static void life_note(struct participant *p, uint64_t boot)
{
    if (p->boot != 0 && p->boot != boot && p->in_view) p->replaced = true;
    p->boot = boot;
}

static void peer_up(struct allreduce *a, uint32_t i, uint64_t boot, struct algo_actions *acts)
{
    struct participant *p = &a->member[i];
    CHECK(!p->up);
    life_note(p, boot);
    p->up = p->ever_up = true;
    p->changed_us = a->now_us;
    p->heard = p->suspect = false;
    p->flags = 0;
    /* Not as new: it may have been in this view in its former life. */
    status_send(a, i, 0, acts);
    /* Whether others may take us in depends on whom we are linked to. */
    for (uint32_t k = 0; k < a->count; k++) {
        const struct participant *q = &a->member[k];
        if (k != i && q->up && (a->phase == PHASE_OUT || (!p->in_view && !q->in_view)))
            status_send(a, k, 0, acts);
    }
    run_try(a, acts);
}

static void peer_down(struct allreduce *a, uint32_t i)
{
    struct participant *p = &a->member[i];
    CHECK(p->up);
    p->up = p->heard = p->curious = false;
    p->flags = 0;
    p->changed_us = a->now_us;
    if (a->phase == PHASE_SYNC) p->synced = false; /* it may come back as another */
    if (a->phase == PHASE_RUN) p->synced = true;   /* and say so, which must not pass for late news */
    p->lost = p->lost || (a->running && p->adjacent) || a->phase == PHASE_COPY;
}

static int on_message(struct allreduce *a, uint32_t i, const struct algo_msg *m, struct algo_actions *acts)
{
    if (!a->member[i].up || m->field_count < 2) return ERR_PROTO;
    switch (m->kind - a->config.first_kind) { /* a peer's raw number */
    case MSG_DATA:
        return on_data(a, i, m, acts);
    case MSG_STATUS:
        return on_status(a, i, m, acts);
    case MSG_STATE:
        return on_state(a, i, m);
    case MSG_ASK:
        return on_ask(a, i, m, acts);
    default:
        return ERR_PROTO;
    }
}

int allreduce_step(struct allreduce *a, const struct algo_event *event, struct algo_actions *acts,
                   enum allreduce_outcome *out)
{
    *out = ALLREDUCE_NONE;
    spent_free(a);
    bool of_peer =
        event->kind == ALGO_PEER_UP || event->kind == ALGO_PEER_DOWN || event->kind == ALGO_MESSAGE;
    int32_t i = of_peer ? member_find(a, event->peer) : NO_MEMBER;
    if (of_peer && (i == NO_MEMBER || (uint32_t)i == a->self))
        return event->kind == ALGO_MESSAGE ? ERR_PROTO : 0;
    clock_set(a, event->now_us);
    if (event->kind == ALGO_PEER_UP) peer_up(a, (uint32_t)i, event->boot, acts);
    if (event->kind == ALGO_PEER_DOWN) peer_down(a, (uint32_t)i);
    int err = event->kind == ALGO_MESSAGE ? on_message(a, (uint32_t)i, event->msg, acts) : 0;
    if (err != 0) return err;
    watch(a, acts);
    *out = outcome_take(a);
    return 0;
}

/* Who was asked and had not begun says so now. */
static void begun_tell(struct allreduce *a, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < a->count; i++) {
        struct participant *p = &a->member[i];
        if (p->curious && p->up) status_send(a, i, 0, acts);
        p->curious = false;
    }
}

enum allreduce_outcome allreduce_begin(struct allreduce *a, uint64_t now_us, const float *x, size_t size,
                                       double weight, struct algo_actions *acts)
{
    CHECK(!a->begun);
    CHECK(size > 0 && size <= a->config.size_max);
    CHECK(weight >= 0);
    clock_set(a, now_us);
    a->x = x;
    a->size = size;
    a->weight = weight;
    a->begun = true;
    a->ready = false;
    a->ran_count = 0;
    a->progress_us = now_us;
    a->asked_us = TIME_NEVER;
    begun_tell(a, acts);
    if (a->phase == PHASE_OUT) status_spread(a, 0, acts); /* they take in who has begun */
    if (a->skipped) view_propose(a, acts);
    run_try(a, acts);
    watch(a, acts);
    return outcome_take(a);
}

void allreduce_set_ready(struct allreduce *a, bool ready, struct algo_actions *acts)
{
    CHECK(!a->begun);
    bool is_news = ready && !a->ready && a->phase == PHASE_OUT;
    a->ready = ready;
    if (is_news) status_spread(a, 0, acts);
}

/* -- looking ----------------------------------------------------------------------------------- */

void allreduce_set_state(struct allreduce *a, const float *state)
{
    a->state = state;
}

uint64_t allreduce_deadline_us(const struct allreduce *a)
{
    return a->entered_us == TIME_NEVER ? 0 : watch_us(a);
}

void allreduce_set_crossing(struct allreduce *a, const uint32_t *group)
{
    for (uint32_t i = 0; i < a->count; i++) a->member[i].home = group[i];
}

bool allreduce_waiting(const struct allreduce *a)
{
    return a->begun;
}

uint64_t allreduce_round(const struct allreduce *a)
{
    return a->history.round;
}

void allreduce_set_round(struct allreduce *a, uint64_t round)
{
    CHECK(!a->begun && round >= a->history.round);
    if (a->phase == PHASE_COPY || round == a->history.round) return;
    a->skipped = a->phase != PHASE_OUT && a->view_count > 1 && round > 1;
    a->history.round = round;
    kept_drop(a, false);
}

const float *allreduce_sum(const struct allreduce *a)
{
    return a->sum;
}

double allreduce_spread(const struct allreduce *a)
{
    CHECK(a->group_sum != NULL);
    double squares = 0;
    for (uint32_t k = 0; k < a->view_count; k++) {
        const struct slice *s = &a->slice[k];
        if (!slice_leaves_group(a, s)) continue;
        for (size_t i = s->start; i < s->start + s->count; i++) {
            double gap = (double)a->group_sum[i] / a->group_weight - (double)a->sum[i] / a->sum_weight;
            squares += gap * gap;
        }
    }
    return squares > 0 ? squares * a->group_weight / a->sum_weight : 0;
}

double allreduce_weight(const struct allreduce *a)
{
    return a->sum_weight;
}

uint32_t allreduce_contributors(const struct allreduce *a)
{
    return a->sum_contributors;
}

struct view_id allreduce_view(const struct allreduce *a)
{
    return a->history.done; /* a->view may be the next one by now */
}

bool allreduce_contributed(const struct allreduce *a)
{
    return a->contributed;
}

uint64_t allreduce_counted(const struct allreduce *a)
{
    uint32_t round = a->member[a->self].contribution.round; /* cut: the last one like it that is over */
    uint32_t ago = (uint32_t)a->history.round - round;
    return round == 0 || ago > a->history.round ? 0 : a->history.round - ago;
}

const float *allreduce_copy(const struct allreduce *a)
{
    CHECK(a->copy != NULL);
    return blob_floats(a->copy);
}

void allreduce_counts(const struct allreduce *a, struct allreduce_counts *out)
{
    *out = a->counts;
    out->vectors += (a->counts.floats_sent + a->config.size_max / 2) / a->config.size_max;
}

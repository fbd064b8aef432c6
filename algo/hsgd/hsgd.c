/* Hierarchical SGD: local steps, averages within groups often, averages over everybody seldom.
 * Source: Wang et al., arXiv 2010.12998.
 *
 * After each local step t, only the highest level l whose period P_l divides t communicates:
 *     x_j <- weighted mean of x over the group of j at level l            (level 0: everybody)
 * by an exact all-reduce over direct links; the sums of level l go through the groups of level l + 1 first,
 * so that links between groups carry least. All members of a group end with the same bits.
 *
 * Normal course
 *  - TRAIN asks for the steps up to the next average; then training rests until that average is over.
 *  - when an average of level l is over at t, the averages below it begin anew: their all-reduces are made
 *    for the groups in force from t on (drawn anew after an average of level 0 with redraw=yes).
 *  - a message of an average that begins later than ours is held until this node gets there (next.c).
 * Failure courses
 *  - a member is gone, or silent for the patience (each level has twice that of the next below, so that
 *    the smallest group finds out first): the others' view leaves it out (allreduce.h); the mean is over
 *    those who are there, with their weights. It is waited for again when the next all-reduce of its group
 *    begins.
 *  - a member has gone on past the average above while this node still waits for it in the group: it will not
 *    come back, and is left out like one whose link is down.
 *  - this node was left out while it waited for others at a level below: it is taken in again at once, as
 *    what it waits for may never come.
 *  - this node was left out: it takes over the group's average and its count of steps, and goes on from
 *    there; progress of a job that ran meanwhile is added, and the count waits at the next average.
 *  - a node that restarts asks everybody and its groups, takes the first copy, then any of a later step, and
 *    trains only when it has one, or when nobody answered for the patience.
 *  - a copy that is not later than what this node has done, unless it waits for it: kept for others only.
 *  - a message of an average that is over: dropped. One of a group that is not ours, or of a start that
 *    cannot be: ERR_PROTO, nothing changed.
 *  - a copy whose count of rounds cannot be (beyond the next average above, or any step): it is not gone on
 *    from; the all-reduce is made anew and asks. */
#include "algo/hsgd/internal.h"

#include <stdlib.h>

#include "algo/vec.h"
#include "base/check.h"

enum { JOB_STEP_MAX = 16 }; /* keeps the model that others evaluate fresh */

/* -- training ---------------------------------------------------------------------------------- */

static uint32_t steps_to_due(const struct hsgd *h)
{
    const struct hsgd_slot *lowest = &h->level[h->plan.level_count - 1].now;
    return lowest->period - (uint32_t)((h->step - lowest->start) % lowest->period);
}

/* Before it died, a node can have been one average of everybody ahead of the others. Later averages say
 * nothing more about that: were each to count, who copies often would be fresh, and so late, for ever. */
static void fresh_set(struct hsgd *h, bool settled)
{
    if (!h->fresh_settled) h->fresh_until = h->step + hsgd_period(&h->plan, 0, 0);
    h->fresh_settled = h->fresh_settled || settled;
}

/* Whether this node waits at a level below these, the first `count`. */
static void ready_set(struct hsgd *h, uint32_t count, bool ready, struct algo_actions *acts)
{
    for (uint32_t l = 0; l < count; l++) hsgd_slot_ready(h, &h->level[l].now, ready, acts);
}

static void train(struct hsgd *h, struct algo_actions *acts)
{
    if (h->training || h->resting) return;
    ready_set(h, h->plan.level_count, false, acts);
    if (h->joining_until_us != TIME_NEVER) fresh_set(h, false);
    uint32_t left = steps_to_due(h);
    algo_train(acts, h->x, left < JOB_STEP_MAX ? left : JOB_STEP_MAX);
    h->training = true;
    h->stale = false;
    h->joining_until_us = TIME_NEVER;
}

/* -- going on from an average ------------------------------------------------------------------ */

/* Makes `level` begin at `start`, where this node is or was last. */
static void level_renew(struct hsgd *h, uint32_t level, uint64_t start, struct algo_actions *acts)
{
    struct hsgd_level *l = &h->level[level];
    if (l->now.start == start) return;
    hsgd_slot_end(h, &l->now);
    vec_copy(h->dim, h->x, l->state);
    if (l->next.member != NULL && l->next.start == start) {
        hsgd_next_reach(h, level, acts);
        return;
    }
    if (l->next.member != NULL && l->next.start < start) hsgd_next_end(h, level);
    int err = hsgd_slot_frame(h, level, start, &l->now);
    CHECK(err == 0);
    l->now.known = start == h->step;
    l->now.fresh = l->now.fresh || !l->now.known;
    hsgd_slot_open(h, level, &l->now, acts);
}

/* Of a copy that the present slot of `level` has: whether it is of use. A group cannot be past the next
 * average above; and of a step that this node has done too, it tells nothing new. */
static bool copy_is_useful(const struct hsgd *h, uint32_t level)
{
    const struct hsgd_slot *s = &h->level[level].now;
    bool awaited = h->joining_until_us != TIME_NEVER || (h->resting && h->due == level);
    return s->copy_step < s->end && (s->copy_step > h->step || (s->copy_step == h->step && awaited));
}

/* The state of `level` is its latest average, which laggards are given. */
static void state_set(struct hsgd *h, uint32_t level, const float *average)
{
    struct hsgd_level *l = &h->level[level];
    vec_copy(h->dim, average, l->state);
    allreduce_set_state(l->now.sum, l->state);
}

static void copy_drop(struct hsgd *h, uint32_t level)
{
    struct hsgd_slot *s = &h->level[level].now;
    state_set(h, level, s->copy);
    free(s->copy);
    s->copy = NULL;
}

static void copy_take(struct hsgd *h, uint32_t level)
{
    const struct hsgd_slot *s = &h->level[level].now;
    CHECK(!h->resting || h->due >= level);
    vec_copy(h->dim, s->copy, h->x);
    h->step = s->copy_step;
    h->resting = false;
    h->stale = h->training;
    if (level == 0) fresh_set(h, true);
    h->report.mixes++;
    if (allreduce_contributed(s->sum)) h->report.steps_handed_over = h->report.steps;
    copy_drop(h, level);
}

/* A count of rounds that cannot be: the slot asks again, as if this node knew nothing. */
static void slot_ask_again(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    struct hsgd_slot *s = &h->level[level].now;
    trace_line(h->trace, TRACE_WARN,
               "hsgd: level %u: told of more averages since step %llu than there can be; asking again",
               level + 1, (unsigned long long)s->start);
    uint64_t start = s->start;
    hsgd_slot_end(h, s);
    int err = hsgd_slot_frame(h, level, start, s);
    CHECK(err == 0);
    s->fresh = true;
    hsgd_slot_open(h, level, s, acts);
}

/* A copy that is of no use: it is what laggards are given, unless it cannot be. */
static void copy_refuse(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    const struct hsgd_slot *s = &h->level[level].now;
    if (s->copy_step < s->end)
        copy_drop(h, level);
    else
        slot_ask_again(h, level, acts);
}

/* The levels below `level` begin anew at the present step. A copy that one of them has already is later than
 * that: it is taken, and the levels below it begin there. */
static void descend(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    for (uint32_t l = level + 1; l < h->plan.level_count; l++) {
        level_renew(h, l, h->step, acts);
        if (h->level[l].now.copy == NULL) continue;
        if (copy_is_useful(h, l))
            copy_take(h, l);
        else
            copy_refuse(h, l, acts);
    }
}

/* The outcome of the average of `level`: the mean over those who took part. */
static void average_take(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    const struct allreduce *sum = h->level[level].now.sum;
    CHECK(h->resting && h->due == level);
    const float *total = allreduce_sum(sum);
    double inverse = 1.0 / allreduce_weight(sum), squares = 0;
    for (size_t i = 0; i < h->dim; i++) {
        float mean = (float)((double)total[i] * inverse);
        double gap = (double)h->x[i] - (double)mean;
        squares += gap * gap;
        h->x[i] = mean;
    }
    /* Upward: of the groups of level 1, right before each average of everybody (not with redraw: 0).
     * Downward: of the models in these groups, right before each average of such a group; with one level
     * everybody is it. */
    bool measured = level == 0 && h->plan.level_count > 1 && !h->plan.redraw;
    if (measured) h->report.divergence_up = allreduce_spread(sum);
    if (level == 1 || h->plan.level_count == 1) h->report.divergence_down = h->share * squares;
    state_set(h, level, h->x);
    if (level == 0) fresh_set(h, true);
    h->resting = false;
    h->report.rounds++;
    h->report.mixes += allreduce_contributors(sum) > 1;
    h->report.steps_handed_over = h->report.steps;
    descend(h, level, acts);
    train(h, acts);
}

static void average_begin(struct hsgd *h, uint32_t level, struct algo_actions *acts);

/* The present slot of `level` has a copy. */
static void copy_came(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    const struct hsgd_slot *s = &h->level[level].now;
    if (copy_is_useful(h, level)) {
        copy_take(h, level);
        descend(h, level, acts);
        train(h, acts);
        return;
    }
    copy_refuse(h, level, acts);
    if (h->resting && h->due == level && !allreduce_waiting(s->sum)) average_begin(h, level, acts);
}

static void outcome_take(struct hsgd *h, uint32_t level, enum allreduce_outcome outcome,
                         struct algo_actions *acts)
{
    switch (outcome) {
    case ALLREDUCE_NONE:
        return;
    case ALLREDUCE_SUM:
        average_take(h, level, acts);
        return;
    case ALLREDUCE_COPY:
        copy_came(h, level, acts);
        return;
    }
    UNREACHABLE();
}

/* The slot's rounds keep step with the local steps, also when it was made afresh and nobody there could tell
 * of former rounds. While a copy is on its way this node may begin a round of an old number: the copy ends it,
 * and it begins again. */
static void average_begin(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    struct hsgd_slot *s = &h->level[level].now;
    h->resting = true;
    h->due = level;
    ready_set(h, level, true, acts);
    hsgd_slot_keep_step(h, level, s);
    outcome_take(h, level, hsgd_slot_begin(h, s, acts), acts);
}

/* -- events ------------------------------------------------------------------------------------ */

static void trained(struct hsgd *h, const struct algo_event *e, struct algo_actions *acts)
{
    CHECK(h->training && !h->resting);
    uint32_t left = steps_to_due(h), done = e->trained.steps;
    CHECK(h->stale || done <= left);
    h->training = false;
    for (size_t i = 0; i < h->dim; i++) h->x[i] += e->trained.delta[i];
    h->report.steps += done;
    h->step += done < left ? done : left;
    uint32_t group_of[HSGD_LEVEL_MAX];
    hsgd_groups_of(h, h->level[h->plan.level_count - 1].now.start, group_of);
    uint32_t due = hsgd_due_level(&h->plan, group_of, h->step);
    if (due < h->plan.level_count)
        average_begin(h, due, acts);
    else
        train(h, acts);
}

/* Whether the slot need not hear of it: to it, the link of who is past it is down already. */
static bool is_told(const struct hsgd *h, const struct hsgd_slot *s, const struct algo_event *e)
{
    bool of_peer = e->kind == ALGO_PEER_UP || e->kind == ALGO_PEER_DOWN;
    return s->sum == NULL || (of_peer && hsgd_slot_is_behind(h, s, e->peer));
}

/* Gives an event to the all-reduces of all levels, the lowest first: what an upper one makes anew has heard
 * of the links already. */
static void pass_to_all(struct hsgd *h, const struct algo_event *e, struct algo_actions *acts)
{
    for (uint32_t l = h->plan.level_count; l-- > 0;) {
        enum allreduce_outcome outcome = ALLREDUCE_NONE;
        struct hsgd_level *level = &h->level[l];
        int err = is_told(h, &level->next, e) ? 0 : hsgd_slot_step(h, &level->next, e, acts, &outcome);
        CHECK(err == 0 && outcome != ALLREDUCE_SUM);
        outcome = ALLREDUCE_NONE;
        err = is_told(h, &level->now, e) ? 0 : hsgd_slot_step(h, &level->now, e, acts, &outcome);
        CHECK(err == 0);
        outcome_take(h, l, outcome, acts);
    }
}

/* The peer has had the average at `start`: to slots that end there or before it does not come back, and they
 * need not wait for the patience to find out. Two halves of a group would else wait for each other in turn,
 * for ever. Lower levels first, as what upper ones make anew knows it. */
static void peer_moves(struct hsgd *h, rank_t peer, uint64_t start, struct algo_actions *acts)
{
    struct algo_event e = {.kind = ALGO_PEER_DOWN, .now_us = h->now_us, .peer = peer};
    uint64_t before = h->link[peer].start;
    if (start <= before) return;
    h->link[peer].start = start;
    for (uint32_t l = h->plan.level_count; l-- > 1;) {
        struct hsgd_slot *slot[2] = {&h->level[l].next, &h->level[l].now};
        for (uint32_t k = 0; k < 2; k++) {
            if (slot[k]->sum == NULL || before >= slot[k]->end || start < slot[k]->end) continue;
            size_t first = acts->count;
            enum allreduce_outcome outcome;
            int err = hsgd_slot_step(h, slot[k], &e, acts, &outcome);
            CHECK(err == 0 && (k == 1 || outcome != ALLREDUCE_SUM));
            hsgd_bits_keep(h, acts, first);
            if (k == 1) outcome_take(h, l, outcome, acts);
        }
    }
}

/* A node that rejoins goes on from the first copy there is, be it of its group before that of everybody. The
 * levels between have begun at the last average above each. */
static void join_early(struct hsgd *h, uint32_t level, struct algo_actions *acts)
{
    const struct hsgd_slot *next = &h->level[level].next;
    if (h->joining_until_us == TIME_NEVER || next->copy == NULL || next->copy_step >= next->end) return;
    uint64_t start = next->start;
    h->step = next->copy_step;
    vec_copy(h->dim, next->copy, h->x);
    uint32_t group_of[HSGD_LEVEL_MAX];
    hsgd_groups_of(h, start, group_of);
    for (uint32_t l = 1; l < level; l++) {
        uint32_t above = hsgd_period(&h->plan, l - 1, group_of[l - 1]);
        level_renew(h, l, h->step / above * above, acts);
    }
    level_renew(h, level, start, acts);
    copy_take(h, level);
    descend(h, level, acts);
    train(h, acts);
}

static int on_message(struct hsgd *h, const struct algo_event *e, struct algo_actions *acts)
{
    uint32_t level = e->msg->kind / ALLREDUCE_KIND_COUNT;
    if (level >= h->plan.level_count || e->msg->field_count == 0 || !h->link[e->peer].up) return ERR_PROTO;
    struct algo_msg inner = *e->msg;
    uint64_t start = inner.field[--inner.field_count];
    bool in_advance = (start & HSGD_IN_ADVANCE) != 0;
    start &= ~HSGD_IN_ADVANCE;
    struct algo_event event = *e;
    event.msg = &inner;
    struct hsgd_slot *now = &h->level[level].now;
    if (start > now->start) {
        int err = hsgd_next_take(h, level, start, &event, acts);
        if (err != 0) return err;
        if (!in_advance) peer_moves(h, e->peer, start, acts);
        join_early(h, level, acts);
        return 0;
    }
    if (start < now->start || hsgd_slot_is_behind(h, now, e->peer)) {
        h->late_dropped++;
        return 0;
    }
    if (!hsgd_slot_has(now, e->peer)) return ERR_PROTO;
    enum allreduce_outcome outcome;
    int err = hsgd_slot_step(h, now, &event, acts, &outcome);
    if (err == 0) outcome_take(h, level, outcome, acts);
    return err;
}

static void start(struct hsgd *h, struct algo_actions *acts)
{
    for (rank_t r = 0; r < h->plan.node_count; r++) h->link[r].changed_us = h->now_us;
    h->fresh_until = UINT64_MAX; /* until it is known where the others are */
    for (uint32_t l = 0; l < h->plan.level_count; l++) {
        vec_copy(h->dim, h->x, h->level[l].state);
        int err = hsgd_slot_frame(h, l, 0, &h->level[l].now);
        CHECK(err == 0);
        h->level[l].now.known = true;
        hsgd_slot_open(h, l, &h->level[l].now, acts);
    }
    if (h->rejoining && h->plan.node_count > 1)
        h->joining_until_us =
            h->patience_us < TIME_NEVER - h->now_us ? h->now_us + h->patience_us : TIME_NEVER - 1;
    else
        train(h, acts);
}

int hsgd_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct hsgd *h = (struct hsgd *)a;
    h->now_us = e->now_us;
    hsgd_slots_free_ended(h);
    switch (e->kind) {
    case ALGO_START:
        start(h, acts);
        return 0;
    case ALGO_PEER_UP:
    case ALGO_PEER_DOWN:
        h->link[e->peer].up = e->kind == ALGO_PEER_UP;
        if (e->kind == ALGO_PEER_UP) h->link[e->peer].boot = e->boot;
        h->link[e->peer].changed_us = e->now_us;
        if (!h->link[e->peer].up) hsgd_next_peer_down(h, e->peer);
        pass_to_all(h, e, acts);
        h->link[e->peer].start = 0;
        return 0;
    case ALGO_DEADLINE:
        if (h->joining_until_us <= e->now_us) train(h, acts);
        pass_to_all(h, e, acts);
        return 0;
    case ALGO_MESSAGE:
        return on_message(h, e, acts);
    case ALGO_TRAINED:
        trained(h, e, acts);
        return 0;
    }
    UNREACHABLE();
}

uint64_t hsgd_deadline_us(const struct algo *a)
{
    const struct hsgd *h = (const struct hsgd *)a;
    uint64_t at_us = h->joining_until_us;
    for (uint32_t l = 0; l < h->plan.level_count; l++) {
        const struct hsgd_slot *slot[2] = {&h->level[l].now, &h->level[l].next};
        for (uint32_t k = 0; k < 2; k++) {
            uint64_t own_us = slot[k]->sum != NULL ? allreduce_deadline_us(slot[k]->sum) : TIME_NEVER;
            if (own_us < at_us) at_us = own_us;
        }
    }
    return at_us;
}

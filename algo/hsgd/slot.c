/* The all-reduce of one level's group between two averages of the level above.
 *
 * Normal course
 *  - a slot is made when the average above is over, or when a message of its start comes before that here.
 *  - every message carries the slot's start as its last field, so that one of another start is never
 *    mistaken, and whether its sender has got there.
 *  - the members are those of the group in the epoch of the start; links that are up are told at once.
 * Failure courses
 *  - a start that is no multiple of the period above: ERR_PROTO, nothing is made.
 *  - a slot may end within the very step in which it sent: its all-reduce is freed one step later, because
 *    an action may point into it. */
#include <stdlib.h>
#include <string.h>

#include "algo/hsgd/internal.h"
#include "algo/vec.h"
#include "base/check.h"

/* -- groups ------------------------------------------------------------------------------------ */

/* The groups in force at local step `start`, (level_count, node_count); redrawn only when the epoch changed.
 */
static const uint32_t *groups_at(struct hsgd *h, uint64_t start)
{
    uint64_t epoch = h->plan.redraw ? start / hsgd_period(&h->plan, 0, 0) : 0;
    if (epoch != h->group_epoch) {
        hsgd_groups_draw(&h->plan, epoch, h->group);
        h->group_epoch = epoch;
    }
    return h->group;
}

void hsgd_groups_of(struct hsgd *h, uint64_t start, uint32_t group_of[HSGD_LEVEL_MAX])
{
    const uint32_t *group = groups_at(h, start);
    for (uint32_t l = 0; l < h->plan.level_count; l++)
        group_of[l] = group[(size_t)l * h->plan.node_count + h->rank];
}

/* -- making and ending ------------------------------------------------------------------------- */

static void mark(const struct hsgd *h, const struct hsgd_slot *s, struct algo_actions *acts, size_t first)
{
    uint64_t start = s->start > h->step ? s->start | HSGD_IN_ADVANCE : s->start;
    for (size_t i = first; i < acts->count; i++) {
        struct algo_msg *m = &acts->item[i].msg;
        CHECK(acts->item[i].kind == ALGO_SEND && m->field_count < ALGO_FIELD_MAX);
        m->field[m->field_count++] = start;
    }
}

static void members_find(const struct hsgd *h, const uint32_t *group_row, struct hsgd_slot *s)
{
    uint32_t n = h->plan.node_count;
    s->member_count = 0;
    for (rank_t r = 0; r < n; r++) s->member_count += group_row[r] == group_row[h->rank];
    s->member = mem_new(s->member_count, sizeof *s->member);
    uint32_t at = 0;
    for (rank_t r = 0; r < n; r++)
        if (group_row[r] == group_row[h->rank]) s->member[at++] = r;
}

/* The groups below, or NULL at the lowest level: sums go through these first. Owned. NULL too where they
 * change while the slot lives: groups drawn by chance have no slow links between them. */
static uint32_t *groups_below(const struct hsgd *h, uint32_t level, const uint32_t *group,
                              const struct hsgd_slot *s)
{
    if (level + 1 == h->plan.level_count || (level == 0 && h->plan.redraw)) return NULL;
    uint32_t *below = mem_new(s->member_count, sizeof *below);
    for (uint32_t i = 0; i < s->member_count; i++)
        below[i] = group[(size_t)(level + 1) * h->plan.node_count + s->member[i]];
    return below;
}

void hsgd_bits_keep(struct hsgd *h, struct algo_actions *acts, size_t first)
{
    for (size_t i = first; i < acts->count; i++) {
        struct algo_msg *m = &acts->item[i].msg;
        if (m->bits_size == 0) continue;
        struct hsgd_bits *kept = mem_new(1, sizeof *kept + m->bits_size);
        memcpy(kept->byte, m->bits, m->bits_size);
        kept->next = h->bits;
        h->bits = kept;
        m->bits = kept->byte;
    }
}

int hsgd_slot_tell(struct hsgd *h, struct hsgd_slot *s, const struct algo_event *event,
                   struct algo_actions *acts)
{
    enum allreduce_outcome outcome;
    size_t first = acts->count;
    int err = hsgd_slot_step(h, s, event, acts, &outcome);
    CHECK(err != 0 || outcome != ALLREDUCE_SUM); /* nothing was begun */
    hsgd_bits_keep(h, acts, first);
    return err;
}

static void tell(struct hsgd *h, struct hsgd_slot *s, enum algo_event_kind kind, uint64_t time_us,
                 rank_t peer, struct algo_actions *acts)
{
    struct algo_event event = {.kind = kind, .now_us = time_us, .peer = peer, .boot = h->link[peer].boot};
    int err = hsgd_slot_tell(h, s, &event, acts);
    CHECK(err == 0);
}

static void actions_cut(struct algo_actions *acts, size_t count)
{
    for (size_t i = count; i < acts->count; i++) {
        blob_unref(acts->item[i].msg.vec);
        blob_unref(acts->item[i].msg.packed);
    }
    acts->count = count;
}

/* The member whose link went down first after (time_us, rank), or RANK_NONE. */
static rank_t next_gone(const struct hsgd *h, const struct hsgd_slot *s, uint64_t time_us, rank_t rank)
{
    rank_t found = RANK_NONE;
    for (uint32_t i = 0; i < s->member_count; i++) {
        rank_t r = s->member[i];
        uint64_t at_us = h->link[r].changed_us;
        if (r == h->rank || h->link[r].up || at_us < time_us ||
            (at_us == time_us && rank != RANK_NONE && r <= rank))
            continue;
        if (found == RANK_NONE || at_us < h->link[found].changed_us) found = r;
    }
    return found;
}

/* Members whose links are down since before this slot count as gone since then, not as late at a start. */
static void tell_gone(struct hsgd *h, struct hsgd_slot *s, struct algo_actions *acts)
{
    size_t count = acts->count;
    rank_t r = RANK_NONE;
    uint64_t at_us = 0;
    while ((r = next_gone(h, s, at_us, r)) != RANK_NONE) {
        at_us = h->link[r].changed_us;
        tell(h, s, ALGO_PEER_UP, at_us, r, acts);
        tell(h, s, ALGO_PEER_DOWN, at_us, r, acts);
    }
    actions_cut(acts, count); /* nobody is there to hear it */
}

/* Who has gone on past the slot was there, and is not waited for as one who is late at a start. */
static void tell_ahead(struct hsgd *h, struct hsgd_slot *s, rank_t r, struct algo_actions *acts)
{
    size_t count = acts->count;
    tell(h, s, ALGO_PEER_UP, h->now_us, r, acts);
    tell(h, s, ALGO_PEER_DOWN, h->now_us, r, acts);
    actions_cut(acts, count);
}

static void tell_links(struct hsgd *h, struct hsgd_slot *s, struct algo_actions *acts)
{
    if (s->start > 0 && !s->fresh) tell_gone(h, s, acts);
    for (uint32_t i = 0; i < s->member_count; i++) {
        rank_t r = s->member[i];
        if (!h->link[r].up) continue;
        if (hsgd_slot_is_behind(h, s, r))
            tell_ahead(h, s, r, acts);
        else
            tell(h, s, ALGO_PEER_UP, h->now_us, r, acts);
    }
}

/* Who is late for an average may be so because one of a group below had to do without somebody, which takes
 * twice the patience there: each level waits twice as long as the next below, so that the smallest group
 * finds out who is gone and nobody else is left out for that. */
static uint64_t patience_of(const struct hsgd *h, uint32_t level)
{
    uint32_t above = h->plan.level_count - 1 - level;
    return h->patience_us < TIME_NEVER >> HSGD_LEVEL_MAX ? h->patience_us << above : h->patience_us;
}

static struct allreduce *sum_make(struct hsgd *h, uint32_t level, const uint32_t *group,
                                  const struct hsgd_slot *s)
{
    uint32_t *below = groups_below(h, level, group, s);
    struct allreduce_config config = {.rank = h->rank,
                                      .node_count = h->plan.node_count,
                                      .graph = h->graph,
                                      .member = s->member,
                                      .member_count = s->member_count,
                                      .group = below,
                                      .size_max = h->dim,
                                      .state_dim = h->dim,
                                      .patience_us = patience_of(h, level),
                                      .first_kind = (uint8_t)(level * ALLREDUCE_KIND_COUNT),
                                      .measures = level == 0 && below != NULL,
                                      .rejoining = s->fresh,
                                      .life = h->life,
                                      .trace = h->trace};
    struct allreduce *sum = allreduce_new(&config);
    free(below);
    return sum;
}

int hsgd_slot_frame(struct hsgd *h, uint32_t level, uint64_t start, struct hsgd_slot *out)
{
    uint32_t own[HSGD_LEVEL_MAX];
    hsgd_groups_of(h, start, own);
    uint32_t above = level == 0 ? 0 : hsgd_period(&h->plan, level - 1, own[level - 1]);
    if (!number_fits(start, h->step) || (level == 0 ? start != 0 : start % above != 0)) return ERR_PROTO;
    *out = (struct hsgd_slot){.start = start,
                              .period = hsgd_period(&h->plan, level, own[level]),
                              .end = level == 0 ? UINT64_MAX : start + above,
                              .fresh = h->rejoining && start <= h->fresh_until};
    members_find(h, groups_at(h, start) + (size_t)level * h->plan.node_count, out);
    return 0;
}

void hsgd_slot_open(struct hsgd *h, uint32_t level, struct hsgd_slot *s, struct algo_actions *acts)
{
    CHECK(s->sum == NULL);
    s->sum = sum_make(h, level, groups_at(h, s->start), s);
    if (s->known) {
        allreduce_set_round(s->sum, 1);
        allreduce_set_state(s->sum, h->level[level].state);
    }
    tell_links(h, s, acts);
}

static void counts_add(struct allreduce_counts *to, const struct allreduce_counts *from)
{
    to->vectors += from->vectors;
    to->floats_sent += from->floats_sent;
    to->left_out += from->left_out;
    to->views += from->views;
    to->contributed += from->contributed;
    to->dropped += from->dropped;
}

/* Of the all-reduce of everybody: what it sent across the groups of level 1. */
static uint64_t slot_across(const struct hsgd_slot *s)
{
    if (s->sum == NULL || s->end != UINT64_MAX) return 0;
    struct allreduce_counts counts;
    allreduce_counts(s->sum, &counts);
    return counts.floats_sent_across;
}

void hsgd_slot_end(struct hsgd *h, struct hsgd_slot *s)
{
    h->across_gone += slot_across(s);
    if (s->sum != NULL) {
        if (h->ended_count == h->ended_capacity) {
            h->ended_capacity = h->ended_capacity == 0 ? 4 : 2 * h->ended_capacity;
            h->ended = mem_resize(h->ended, h->ended_capacity, sizeof *h->ended);
        }
        h->ended[h->ended_count++] = s->sum;
    }
    free(s->member);
    free(s->copy);
    *s = (struct hsgd_slot){0};
}

void hsgd_slots_free_ended(struct hsgd *h)
{
    while (h->bits != NULL) {
        struct hsgd_bits *next = h->bits->next;
        free(h->bits);
        h->bits = next;
    }
    for (size_t i = 0; i < h->ended_count; i++) {
        struct allreduce_counts counts;
        allreduce_counts(h->ended[i], &counts);
        counts_add(&h->gone, &counts);
        allreduce_free(h->ended[i]);
    }
    h->ended_count = 0;
}

/* -- use --------------------------------------------------------------------------------------- */

bool hsgd_slot_has(const struct hsgd_slot *s, rank_t r)
{
    uint32_t low = 0, high = s->member_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->member[middle] < r)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->member_count && s->member[low] == r;
}

bool hsgd_slot_is_behind(const struct hsgd *h, const struct hsgd_slot *s, rank_t r)
{
    return h->link[r].start >= s->end;
}

/* Paths over everybody are laid through no groups that are drawn anew: members are at different rounds when
 * they lay them. What crosses the groups that end here is counted all the same. */
static void crossing_set(struct hsgd *h, struct hsgd_slot *s)
{
    if (!h->plan.redraw || s->end != UINT64_MAX || h->plan.level_count == 1 || h->step == 0) return;
    allreduce_set_crossing(s->sum, groups_at(h, h->step - 1) + h->plan.node_count);
}

enum allreduce_outcome hsgd_slot_begin(struct hsgd *h, struct hsgd_slot *s, struct algo_actions *acts)
{
    crossing_set(h, s);
    size_t first = acts->count;
    enum allreduce_outcome outcome = allreduce_begin(s->sum, h->now_us, h->x, h->dim, h->weight, acts);
    mark(h, s, acts, first);
    return outcome;
}

void hsgd_slot_keep_step(struct hsgd *h, uint32_t level, struct hsgd_slot *s)
{
    uint64_t round = h->step == s->start ? 1 : (h->step - s->start + s->period - 1) / s->period;
    if (allreduce_round(s->sum) >= round) return;
    allreduce_set_state(s->sum, h->level[level].state);
    allreduce_set_round(s->sum, round);
}

void hsgd_slot_ready(struct hsgd *h, struct hsgd_slot *s, bool ready, struct algo_actions *acts)
{
    size_t first = acts->count;
    allreduce_set_ready(s->sum, ready, acts);
    hsgd_bits_keep(h, acts, first);
    mark(h, s, acts, first);
}

/* The step of a history of so many rounds; UINT64_MAX, which is past every end, for one that cannot be. */
static uint64_t step_of_round(const struct hsgd *h, const struct hsgd_slot *s, uint64_t rounds)
{
    if (rounds == 0 || rounds - 1 > (NUMBER_TOP - s->start) / s->period) return UINT64_MAX;
    uint64_t step = s->start + (rounds - 1) * s->period;
    return number_fits(step, h->step) ? step : UINT64_MAX;
}

/* The copy is the all-reduce's until its next call, and may be taken over only later. */
static void copy_keep(const struct hsgd *h, struct hsgd_slot *s)
{
    if (s->copy == NULL) s->copy = mem_new(h->dim, sizeof *s->copy);
    vec_copy(h->dim, allreduce_copy(s->sum), s->copy);
    s->copy_step = step_of_round(h, s, allreduce_round(s->sum));
    allreduce_set_state(s->sum, s->copy);
}

int hsgd_slot_step(struct hsgd *h, struct hsgd_slot *s, const struct algo_event *event,
                   struct algo_actions *acts, enum allreduce_outcome *outcome)
{
    size_t first = acts->count;
    int err = allreduce_step(s->sum, event, acts, outcome);
    if (err != 0) return err;
    mark(h, s, acts, first);
    if (*outcome == ALLREDUCE_COPY) copy_keep(h, s);
    return 0;
}

void hsgd_slots_count(const struct hsgd *h, struct allreduce_counts *out)
{
    *out = h->gone;
    out->floats_sent_across = h->across_gone + slot_across(&h->level[0].now);
    struct allreduce_counts counts;
    for (size_t i = 0; i < h->ended_count; i++) {
        allreduce_counts(h->ended[i], &counts);
        counts_add(out, &counts);
    }
    for (uint32_t l = 0; l < h->plan.level_count; l++) {
        const struct hsgd_slot *slot[2] = {&h->level[l].now, &h->level[l].next};
        for (uint32_t k = 0; k < 2; k++) {
            if (slot[k]->sum == NULL) continue;
            allreduce_counts(slot[k]->sum, &counts);
            counts_add(out, &counts);
        }
    }
}

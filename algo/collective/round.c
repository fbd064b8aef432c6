/* One round of the collective from the inside: what this node sends, whom it leaves out, how it ends. The
 * courses are told in collective.c. */
#include <stdlib.h>
#include <string.h>

#include "algo/collective/parts.h"
#include "base/check.h"

/* -- slots ------------------------------------------------------------------------------------- */

static void slot_clear(const struct collective *c, struct slot *s, uint64_t round)
{
    slot_drop_sums(c, s);
    memset(s->out, 0, c->out_size);
    memset(s->share, 0, c->degree * sizeof *s->share);
    s->out_any = false;
    s->round = round;
}

struct slot *slot_of(struct collective *c, uint64_t round)
{
    CHECK(round == c->round || round == c->round + 1);
    struct slot *s = &c->slot[round % 2];
    if (s->round != round) slot_clear(c, s, round);
    return s;
}

static const struct slot *slot_now(const struct collective *c)
{
    return &c->slot[c->round % 2];
}

bool slot_grow(struct collective *c, struct slot *s, const uint8_t *bits)
{
    bool grew = false;
    for (uint32_t i = 0; bits != NULL && i < c->out_size; i++) {
        grew = grew || (bits[i] & ~s->out[i]) != 0;
        s->out[i] |= bits[i];
    }
    if (!grew) return false;
    s->out_any = true;
    slot_drop_sums(c, s);
    if (s->round == c->round) c->tree_valid = c->sent_up = false;
    return true;
}

/* -- sending ----------------------------------------------------------------------------------- */

static struct algo_msg *send(struct collective *c, struct algo_actions *acts, uint32_t to, int kind,
                             uint64_t round)
{
    CHECK(c->link[to].up);
    struct algo_msg *m = algo_send(acts, c->rank_of[to], (uint8_t)(c->config.first_kind + kind));
    m->field_count = 2;
    m->field[0] = round;
    return m;
}

static void attach_out(const struct collective *c, struct algo_msg *m, const uint8_t *out, bool any)
{
    m->bits = any ? out : NULL;
    m->bits_size = any ? c->out_size : 0;
}

/* packed: NULL = whole. */
static void attach_vector(struct collective *c, struct algo_msg *m, struct blob *vec, struct blob *packed,
                          double weight)
{
    memcpy(&m->field[1], &weight, sizeof weight);
    m->vec = packed == NULL ? blob_ref(vec) : NULL;
    m->packed = blob_ref(packed);
    c->counts.model_transfers++;
}

void collective_send_state(struct collective *c, struct algo_actions *acts, uint32_t to, uint64_t flags)
{
    const struct slot *s = slot_of(c, c->round);
    struct algo_msg *m = send(c, acts, to, MSG_STATE, c->round);
    m->field[1] = flags | (c->phase != PHASE_IDLE ? FLAG_BEGUN : 0) | (c->again ? FLAG_AGAIN : 0);
    attach_out(c, m, s->out, s->out_any);
}

static void send_sum(struct collective *c, struct algo_actions *acts)
{
    const struct slot *s = slot_of(c, c->round);
    double weight;
    struct blob *sum = collective_add_up(c, s, &weight);
    struct blob *packed = collective_pack_sum(c, sum);
    struct algo_msg *m = send(c, acts, c->parent, MSG_SUM, c->round);
    attach_out(c, m, s->out, s->out_any);
    attach_vector(c, m, sum, packed, weight);
    blob_unref(sum);
    blob_unref(packed);
    c->sent_up = true;
}

void collective_send_result(struct collective *c, struct algo_actions *acts, uint32_t to)
{
    struct algo_msg *m = send(c, acts, to, MSG_RESULT, c->last_round);
    attach_out(c, m, c->last_out, true);
    attach_vector(c, m, c->last, c->last_packed, c->last_weight);
}

static void spread_state(struct collective *c, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < c->degree; i++)
        if (c->link[i].up) collective_send_state(c, acts, i, 0);
}

/* Says again what a neighbour may have missed. */
static void restate(struct collective *c, struct algo_actions *acts, uint32_t to)
{
    collective_send_state(c, acts, to, 0);
    if (c->tree_valid && c->sent_up && c->parent == to) send_sum(c, acts);
}

/* -- ends of a round --------------------------------------------------------------------------- */

/* The result holds our vector: what compression dropped of it is what we owe from now on. */
static void contributed(struct collective *c, bool told)
{
    c->counts.contributed++;
    if (c->pack == NULL || !told) return;
    float *before = c->residual;
    c->residual = c->left;
    c->left = before;
}

static void replace(struct blob **at, struct blob *with)
{
    blob_ref(with);
    blob_unref(*at);
    *at = with;
}

enum collective_outcome collective_finish(struct collective *c, uint64_t round, struct blob *vec,
                                          struct blob *packed, double weight, const uint8_t *out,
                                          uint32_t from, struct algo_actions *acts)
{
    CHECK(round >= c->round);
    bool in_tree = c->phase != PHASE_IDLE && round == c->round && c->tree_valid;
    bool mine = in_tree && (c->sent_up || c->parent == NO_POSITION);
    struct slot *s = slot_of(c, c->round);
    collective_settle_former(c, round, out, mine);
    if (mine && memcmp(out, s->out, c->out_size) == 0) contributed(c, c->sent_up || from == NO_POSITION);
    if (out != c->last_out) memcpy(c->last_out, out, c->out_size);
    replace(&c->last, vec);
    replace(&c->last_packed, packed);
    c->last_round = round;
    c->last_weight = weight;
    for (uint32_t i = 0; i < c->degree; i++) {
        struct neighbour *l = &c->link[i];
        bool awaits = l->wants || (in_tree && c->child[i]) || (round == c->round && s->share[i].sum != NULL);
        if (i != from && l->up && awaits) collective_send_result(c, acts, i);
        l->wants = l->answered = l->ahead = false;
    }
    slot_drop_sums(c, s);
    bool as_planned = in_tree && from == c->parent;
    c->round = round + 1;
    c->phase = PHASE_IDLE;
    c->sent_up = c->again = false;
    c->asked = NO_POSITION;
    c->tree_valid = c->tree_valid && c->tree_whole && !slot_of(c, c->round)->out_any;
    /* Off the tree's way: the others may be waiting for this node's part in vain. */
    for (uint32_t i = 0; i < c->degree && !as_planned; i++)
        if (c->link[i].up && i != from) collective_send_state(c, acts, i, FLAG_LATE);
    return COLLECTIVE_AVERAGE;
}

enum collective_outcome collective_give_up(struct collective *c)
{
    struct slot *s = slot_of(c, c->round);
    if (s->out_any) {
        slot_drop_sums(c, s);
        c->again = true;
        memset(s->out, 0, c->out_size); /* messages of this very step then say so too, which is right */
        s->out_any = false;
        c->tree_valid = false;
    }
    c->phase = PHASE_IDLE;
    c->sent_up = false;
    c->asked = NO_POSITION;
    return COLLECTIVE_ALONE;
}

void collective_ask(struct collective *c, uint32_t whom, uint64_t now_us, struct algo_actions *acts)
{
    if (c->phase == PHASE_REDUCE) {
        c->phase = PHASE_ASKING;
        c->ask_us = now_us;
    }
    c->asked = whom;
    send(c, acts, whom, MSG_ASK, c->round)->field_count = 1;
}

/* Asks the lowest neighbour there is, if possible one that takes part itself. */
enum collective_outcome collective_ask_somebody(struct collective *c, uint64_t now_us,
                                                struct algo_actions *acts)
{
    uint32_t whom = NO_POSITION;
    const struct slot *s = slot_of(c, c->round);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < c->degree && whom == NO_POSITION; i++)
            if (c->link[i].up && (pass == 1 || !bit_get(s->out, c->rank_of[i]))) whom = i;
    if (whom == NO_POSITION) return collective_give_up(c);
    collective_ask(c, whom, now_us, acts);
    return COLLECTIVE_NONE;
}

/* -- progress ---------------------------------------------------------------------------------- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* When the tree neighbour at position i counts as absent; see the head comment for the four cases. */
static uint64_t absent_us(const struct collective *c, const struct slot *s, uint32_t i)
{
    const struct neighbour *l = &c->link[i];
    uint64_t patience = c->config.patience_us;
    bool parent = i == c->parent;
    if (!parent && s->share[i].sum != NULL) return TIME_NEVER;
    if (!l->up && !parent) return time_after(l->changed_us, patience / 2);
    /* Long down: only this link, or the node? If the last round went without it, the node. */
    if (!l->up && bit_get(c->last_out, c->rank_of[i])) return time_after(l->changed_us, patience);
    if (!l->up) return later(time_after(l->changed_us, patience), time_after(c->begin_us, patience / 4));
    if (s->share[i].ready) return TIME_NEVER;
    uint64_t full = time_after(later(c->begin_us, l->changed_us), patience);
    return parent ? time_after(full, patience / 2) : full;
}

/* A tree neighbour that has long begun the next round owes nothing to this one: the message with the
 * result was lost on the way, or took another. */
static uint64_t runaway_us(const struct collective *c, uint32_t i)
{
    const struct neighbour *l = &c->link[i];
    return l->up && l->ahead ? time_after(l->ahead_us, c->config.patience_us) : TIME_NEVER;
}

static bool ask_runaway(struct collective *c, uint64_t now_us, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < c->degree && c->tree_valid; i++) {
        if ((i != c->parent && !c->child[i]) || runaway_us(c, i) > now_us) continue;
        collective_ask(c, i, now_us, acts);
        return true;
    }
    return false;
}

/* Leaves out who is overdue, until the tree has nobody overdue next to this node. Returns whether the map
 * grew. */
static bool leave_out_overdue(struct collective *c, struct slot *s, uint64_t now_us)
{
    bool grew = false;
    for (bool again = true; again && !bit_get(s->out, c->config.rank);) {
        again = false;
        if (!c->tree_valid) collective_plan_tree(c, s);
        for (uint32_t i = 0; i < c->degree; i++) {
            if ((i != c->parent && !c->child[i]) || absent_us(c, s, i) > now_us) continue;
            bit_set(s->out, c->rank_of[i]);
            c->counts.left_out++;
            trace_line(c->config.trace, TRACE_INFO, "averaging round %llu goes on without node %u",
                       (unsigned long long)c->round, c->rank_of[i]);
            again = true;
        }
        if (!again) continue;
        s->out_any = grew = true;
        slot_drop_sums(c, s);
        c->tree_valid = c->sent_up = false;
    }
    return grew;
}

static enum collective_outcome root_finish(struct collective *c, const struct slot *s,
                                           struct algo_actions *acts)
{
    bool lone = true;
    for (uint32_t i = 0; i < c->degree; i++) lone = lone && !c->child[i];
    double weight;
    struct blob *sum = collective_add_up(c, s, &weight);
    enum collective_outcome outcome;
    if (lone || !(weight > 0)) {
        outcome = collective_give_up(c);
    } else {
        struct blob *average = collective_divide(sum, weight, c->config.dim);
        struct blob *packed = collective_pack_average(c, &average, weight);
        outcome = collective_finish(c, c->round, average, packed, weight, s->out, NO_POSITION, acts);
        blob_unref(average);
        blob_unref(packed);
    }
    blob_unref(sum);
    return outcome;
}

enum collective_outcome collective_progress(struct collective *c, uint64_t now_us, bool announce,
                                            uint32_t restate_to, struct algo_actions *acts)
{
    CHECK(c->phase == PHASE_REDUCE);
    if (ask_runaway(c, now_us, acts)) return COLLECTIVE_NONE;
    struct slot *s = slot_of(c, c->round);
    bool grew = leave_out_overdue(c, s, now_us);
    if (announce || grew)
        spread_state(c, acts);
    else if (restate_to != NO_POSITION)
        restate(c, acts, restate_to);
    if (bit_get(s->out, c->config.rank)) return collective_ask_somebody(c, now_us, acts);
    for (uint32_t i = 0; i < c->degree; i++)
        if (c->child[i] && s->share[i].sum == NULL) return COLLECTIVE_NONE;
    if (c->parent == NO_POSITION) return root_finish(c, s, acts);
    if (!c->sent_up && c->link[c->parent].up) send_sum(c, acts);
    return COLLECTIVE_NONE;
}

uint64_t collective_deadline_us(const struct collective *c)
{
    if (c->phase == PHASE_IDLE) return TIME_NEVER;
    if (c->phase == PHASE_ASKING) return time_after(c->ask_us, c->config.patience_us);
    CHECK(c->tree_valid);
    uint64_t first = TIME_NEVER;
    for (uint32_t i = 0; i < c->degree; i++) {
        if (i != c->parent && !c->child[i]) continue;
        uint64_t due = absent_us(c, slot_now(c), i);
        if (runaway_us(c, i) < due) due = runaway_us(c, i);
        if (due < first) first = due;
    }
    return first;
}

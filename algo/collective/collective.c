/* Tree all-reduce as a state machine.
 *
 * Normal course of round k
 * - A node that begins sends STATE(k) to all neighbours. A leaf of the tree sends SUM(k) to its parent, an
 *   inner node once it has the sums of all its children. The tree follows from the graph: breadth-first
 *   from the lowest rank.
 * - Sums that arrive before this node has begun are kept; a neighbour may be one round ahead.
 * - The root divides by the sum of the weights and sends RESULT(k) down; each node passes it on and is in
 *   round k + 1.
 *
 * With compression (pack.c) a sum is packed at each node, the average once, at the root; every
 * node passes on the same bytes, so that all hold the same bits. What was dropped is owed only when the
 * result holds it: a sum that is sent again, for another tree, begins with the same residual.
 *
 * Failure courses
 * - A node that is absent (link down, or up but not begun) is left out by its tree neighbours: a child that
 *   is down for half of patience, a parent for all of it (so that of two living ends of a dead link only the
 *   lower one is left out); one that is up but does not begin after patience, a parent after one and a half.
 *   A node that has begun is waited for while its link is up: it does the same to those under it.
 * - A parent that has been down for long gets a quarter of patience from the beginning of each round, in
 * which it may be the one to leave this node out; none if the last round went without it.
 * - Who is left out travels as a bit map in every message. Maps only grow within a round; a node whose map
 *   grows drops the sums it holds, tells all neighbours, and sends again over the tree that follows from the
 *   new map. Sums of another map than the own are dropped and counted.
 * - A node that gives a round up drops the sums it holds and forgets who was left out. When it begins again
 *   its STATE says so, and its children send their sums again.
 * - A link that comes back: a begun node says STATE, and SUM again if that was sent to this parent.
 * - A node that finds itself left out asks a neighbour for the result (ASK) and takes it when it comes;
 *   without an answer within patience it goes on alone with its own vector, in the same round.
 * - A node that gets a result by any other way than from its parent tells its neighbours (STATE with the
 *   late flag), as some of them may wait for its sum; those that lack the result ask for it.
 * - A message of a finished round is dropped and counted; its sender is told once (STATE with the late flag)
 *   and then asks for the result. A message from two or more rounds ahead shows that this node has missed
 *   something: it moves up and asks.
 * - Parts that cannot reach each other average among themselves; when they meet, the part that has done
 *   more rounds wins. A lone node does not count rounds, so that it never overrides others. */
#include "algo/collective/collective.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/collective/parts.h"
#include "base/check.h"

#define ROUND_MAX (UINT64_C(1) << 53)

static_assert((int)MSG_KIND_COUNT == (int)COLLECTIVE_KIND_COUNT, "the owner leaves room for every kind");

enum collective_outcome collective_begin(struct collective *c, uint64_t now_us, const float *x,
                                         struct algo_actions *acts)
{
    CHECK(c->phase == PHASE_IDLE);
    c->phase = PHASE_REDUCE;
    c->begin_us = now_us;
    c->x = x;
    return collective_progress(c, now_us, true, NO_POSITION, acts);
}

/* -- messages ---------------------------------------------------------------------------------- */

static double weight_of(const struct algo_msg *m)
{
    double weight;
    memcpy(&weight, &m->field[1], sizeof weight);
    return weight;
}

static bool well_formed(const struct collective *c, const struct algo_msg *m, int kind)
{
    bool has_vector = kind == MSG_SUM || kind == MSG_RESULT;
    if (kind < 0 || kind >= MSG_KIND_COUNT) return false;
    if (m->field_count != (kind == MSG_ASK ? 1 : 2) || m->field[0] > ROUND_MAX) return false;
    if (!number_fits(m->field[0], c->round)) return false;
    if ((m->vec != NULL) + (m->packed != NULL) != has_vector) return false;
    if (has_vector && (!isfinite(weight_of(m)) || weight_of(m) < 0)) return false;
    if (m->bits_size != c->out_size) return m->bits_size == 0 && kind != MSG_RESULT;
    uint32_t odd = c->config.graph->node_count % 8;
    return odd == 0 || m->bits[c->out_size - 1] >> odd == 0;
}

static void take_ask(struct collective *c, uint32_t from, uint64_t round, struct algo_actions *acts)
{
    if (c->last != NULL && c->last_round >= round)
        collective_send_result(c, acts, from);
    else
        c->link[from].wants = true;
}

/* A message of a finished round: its sender has missed the result. */
static void take_late(struct collective *c, uint32_t from, uint64_t round, struct algo_actions *acts)
{
    c->counts.late_dropped++;
    if (c->link[from].answered || c->last == NULL || c->last_round < round) return;
    c->link[from].answered = true;
    collective_send_state(c, acts, from, FLAG_LATE);
}

/* A neighbour is in `round`, two or more ahead: the rounds up to round - 1 are over elsewhere. */
static void move_up(struct collective *c, uint32_t from, uint64_t round, uint64_t now_us,
                    struct algo_actions *acts)
{
    c->round = round - 1;
    c->tree_valid = c->sent_up = c->again = false;
    slot_of(c, c->round);
    for (uint32_t i = 0; i < c->degree; i++) c->link[i].answered = c->link[i].ahead = false;
    collective_ask(c, from, now_us, acts);
}

static bool same_out(const struct collective *c, const struct slot *s, const struct algo_msg *m)
{
    return m->bits_size == 0 ? !s->out_any : memcmp(m->bits, s->out, c->out_size) == 0;
}

/* STATE or SUM of this round or the next. */
static enum collective_outcome take_share(struct collective *c, uint32_t from, const struct algo_event *event,
                                          bool is_sum, struct algo_actions *acts)
{
    const struct algo_msg *m = event->msg;
    bool current = m->field[0] == c->round;
    bool late = !is_sum && (m->field[1] & FLAG_LATE) != 0;
    struct slot *s = slot_of(c, m->field[0]);
    if (is_sum || (m->field[1] & FLAG_BEGUN) != 0) s->share[from].ready = true;
    bool grew = slot_grow(c, s, m->bits_size > 0 ? m->bits : NULL);
    bool agree = same_out(c, s, m);
    if (!current && s->share[from].ready && !c->link[from].ahead) {
        c->link[from].ahead = true;
        c->link[from].ahead_us = event->now_us;
    }
    if (is_sum && agree) {
        struct blob *old = s->share[from].sum;
        s->share[from].sum = blob_ref(m->vec);
        s->share[from].weight = weight_of(m);
        blob_unref(old);
    } else if (is_sum) {
        c->counts.late_dropped++;
    }
    if (c->phase != PHASE_REDUCE) return COLLECTIVE_NONE;
    /* told that it is late: the result is there, the tree is no longer needed */
    if (!current && late) collective_ask(c, from, event->now_us, acts);
    if (!current) return COLLECTIVE_NONE;
    if (!is_sum && (m->field[1] & FLAG_AGAIN) != 0 && c->tree_valid && c->parent == from) c->sent_up = false;
    return collective_progress(c, event->now_us, grew, agree ? NO_POSITION : from, acts);
}

static enum collective_outcome take_message(struct collective *c, uint32_t from, int kind,
                                            const struct algo_event *event, struct algo_actions *acts)
{
    const struct algo_msg *m = event->msg;
    uint64_t round = m->field[0];
    if (kind == MSG_ASK) {
        take_ask(c, from, round, acts);
        return COLLECTIVE_NONE;
    }
    if (kind == MSG_RESULT && round >= c->round)
        return collective_finish(c, round, m->vec, m->packed, weight_of(m), m->bits, from, acts);
    if (kind == MSG_RESULT) {
        c->counts.late_dropped++;
        return COLLECTIVE_NONE;
    }
    if (round < c->round) {
        take_late(c, from, round, acts);
        return COLLECTIVE_NONE;
    }
    if (round > c->round + 1) move_up(c, from, round, event->now_us, acts);
    return take_share(c, from, event, kind == MSG_SUM, acts);
}

/* -- links and time ---------------------------------------------------------------------------- */

static enum collective_outcome peer_up(struct collective *c, uint32_t i, uint64_t now_us,
                                       struct algo_actions *acts)
{
    c->link[i] = (struct neighbour){.up = true, .changed_us = now_us};
    if (c->phase == PHASE_IDLE && c->config.curious && c->last == NULL && c->asked == NO_POSITION)
        collective_ask(c, i, now_us, acts);
    if (c->phase != PHASE_REDUCE) return COLLECTIVE_NONE;
    return collective_progress(c, now_us, false, i, acts);
}

static enum collective_outcome peer_down(struct collective *c, uint32_t i, uint64_t now_us,
                                         struct algo_actions *acts)
{
    c->link[i] = (struct neighbour){.up = false, .changed_us = now_us};
    for (int k = 0; k < 2; k++) c->slot[k].share[i].ready = false;
    bool asked = c->asked == i;
    if (asked) c->asked = NO_POSITION;
    if (c->phase == PHASE_ASKING && asked) return collective_ask_somebody(c, now_us, acts);
    return c->phase == PHASE_REDUCE ? collective_progress(c, now_us, false, NO_POSITION, acts)
                                    : COLLECTIVE_NONE;
}

static enum collective_outcome deadline(struct collective *c, uint64_t now_us, struct algo_actions *acts)
{
    if (now_us < collective_deadline_us(c)) return COLLECTIVE_NONE;
    return c->phase == PHASE_ASKING ? collective_give_up(c)
                                    : collective_progress(c, now_us, false, NO_POSITION, acts);
}

int collective_step(struct collective *c, const struct algo_event *event, struct algo_actions *acts,
                    enum collective_outcome *out)
{
    *out = COLLECTIVE_NONE;
    if (event->kind == ALGO_DEADLINE) {
        *out = deadline(c, event->now_us, acts);
        return 0;
    }
    uint32_t index = graph_edge_index(c->config.graph, c->config.rank, event->peer);
    CHECK(index != UINT32_MAX);
    uint32_t i = index - c->config.graph->offset[c->config.rank];
    if (event->kind == ALGO_PEER_UP) {
        *out = peer_up(c, i, event->now_us, acts);
    } else if (event->kind == ALGO_PEER_DOWN) {
        *out = peer_down(c, i, event->now_us, acts);
    } else {
        CHECK(event->kind == ALGO_MESSAGE);
        int kind = (int)event->msg->kind - (int)c->config.first_kind;
        if (!c->link[i].up || !well_formed(c, event->msg, kind)) return ERR_PROTO;
        struct algo_msg opened = *event->msg; /* with the vector beside the bytes it came as */
        int err = collective_unpack(c, event->msg, &opened.vec);
        if (err != 0) return err;
        struct algo_event known = *event;
        known.msg = &opened;
        *out = take_message(c, i, kind, &known, acts);
        blob_unref(opened.vec);
    }
    return 0;
}

/* -- life -------------------------------------------------------------------------------------- */

struct collective *collective_new(const struct collective_config *config)
{
    CHECK(config->rank < config->graph->node_count);
    CHECK(config->weight >= 0);
    CHECK(config->first_kind <= UINT8_MAX - COLLECTIVE_KIND_COUNT);
    struct collective *c = mem_new_zero(1, sizeof *c);
    c->config = *config;
    c->degree = graph_degree(config->graph, config->rank);
    c->rank_of = config->graph->neighbour + config->graph->offset[config->rank];
    c->out_size = (config->graph->node_count + 7) / 8;
    c->link = mem_new_zero(c->degree, sizeof *c->link);
    c->child = mem_new_zero(c->degree, sizeof *c->child);
    c->last_out = mem_new_zero(c->out_size, 1);
    for (uint32_t k = 0; k < 2; k++) {
        c->slot[k].round = k;
        c->slot[k].out = mem_new_zero(c->out_size, 1);
        c->slot[k].share = mem_new_zero(c->degree, sizeof *c->slot[k].share);
    }
    c->asked = NO_POSITION;
    if (compress_is_none(config->compress)) return c;
    c->pack = pack_new(config->compress, config->dim, config->tensor, config->tensor_count);
    c->residual = mem_new_zero(config->dim, sizeof *c->residual);
    c->left = mem_new_zero(config->dim, sizeof *c->left);
    return c;
}

void collective_free(struct collective *c)
{
    if (c == NULL) return;
    for (int k = 0; k < 2; k++) {
        slot_drop_sums(c, &c->slot[k]);
        free(c->slot[k].out);
        free(c->slot[k].share);
    }
    blob_unref(c->last);
    blob_unref(c->last_packed);
    pack_free(c->pack);
    free(c->residual);
    free(c->left);
    free(c->former);
    free(c->last_out);
    free(c->child);
    free(c->link);
    free(c);
}

bool collective_waiting(const struct collective *c)
{
    return c->phase != PHASE_IDLE;
}

uint64_t collective_round(const struct collective *c)
{
    return c->round;
}

const float *collective_average(const struct collective *c)
{
    return c->last != NULL ? blob_floats(c->last) : NULL;
}

void collective_counts(const struct collective *c, struct collective_counts *out)
{
    *out = c->counts;
}

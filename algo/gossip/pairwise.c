/* Gossip, mode=async: two neighbours average their models while both go on training (AD-PSGD).
 *
 * Normal course
 *  - TRAINED: the delta is added; when `every` steps have passed since the last attempt, a uniform neighbour that is
 *    up gets REQUEST(id), at once or when the exchange that is under way is over. TRAIN goes out again at once.
 *  - REQUEST at a node whose model is in no exchange: it answers ACCEPT(id) and right behind it MODEL(id, x0_j). A
 *    request of its own to another may wait for its answer meanwhile: would it refuse for that, nodes that ask at the
 *    same moments, or far from each other, would all refuse each other. So its model may be in two exchanges at once,
 *    and never in a third before both are over: it takes back half of itself twice at most, all of it and no more.
 *  - ACCEPT: the initiator sends MODEL(id, x0_i).
 *  - MODEL: x <- x + (x0_other - x0_own) / 2, that is z + (x_now - x0_own) with z the mean of both: what was
 *    learnt meanwhile is kept. Both ends add opposite amounts, so the sum over all nodes stays.
 *    The blob that was sent is the memory of x0_own. With compression x0 is the model as both ends know it,
 *    and gamma scales the change.
 *  - The trainer is silent for the patience (it has finished): an idle node starts an exchange all the
 *    same, and again four times per patience, so that the models go on drawing together.
 * Failure courses
 *  - REQUEST at a node that has accepted one, or whose own is open: BUSY(id); the initiator tries elsewhere later.
 *  - REQUESTs of two nodes cross: the lower rank's counts. The higher rank gives its own up and accepts, the
 *    lower one ignores what it got. The higher rank asks anew when that exchange is over: of two alone with each
 *    other, who train at one pace, only one would ever get its wish.
 *  - MODEL overtakes ACCEPT: it accepts as well.
 *  - The link goes down, or the patience passes, before the exchange is over: it is given up; once our model is
 *    out, the peer may have applied what we did not, which exchanges_torn counts.
 *  - A word about an exchange that is not the present one (late, repeated): dropped and counted; a model is
 *    taken down first, as the next one may be told as a difference to it.
 *  - A malformed message, an id that names neither of the two as initiator: ERR_PROTO, nothing changed. */
#include <stdlib.h>

#include "algo/gossip/internal.h"
#include "base/check.h"

/* -- the exchange ------------------------------------------------------------------------------ */

static void exchange_close(struct exchange *e)
{
    blob_unref(e->own);
    e->own = NULL;
    e->state = EXCHANGE_NONE;
}

/* Gives an exchange up. Only one whose model went out can have had an effect at the other end. */
static void exchange_abandon(struct gossip *g, struct exchange *e, uint64_t now_us, const char *why)
{
    CHECK(e->state != EXCHANGE_NONE);
    if (e->state == EXCHANGE_OPEN) {
        g->report.exchanges_torn++;
        trace_limited(&g->pairwise.torn_said, now_us, g->trace, TRACE_INFO,
                      "gossip: exchange with rank %u is torn: %s", e->peer, why);
    }
    exchange_close(e);
}

static void exchange_begin(const struct gossip *g, struct exchange *e, uint64_t now_us, uint32_t place,
                           uint64_t id)
{
    CHECK(e->state == EXCHANGE_NONE);
    e->state = EXCHANGE_REQUESTED;
    e->peer = g->peer[place].rank;
    e->id = id;
    e->expires_us = time_after(now_us, g->patience_us);
}

/* Sends our model; the blob stays as the memory of what was sent. */
static void exchange_open(struct gossip *g, struct exchange *e, struct algo_actions *acts)
{
    CHECK(e->state == EXCHANGE_REQUESTED);
    CHECK(e->own == NULL);
    e->own = gossip_send_model(g, acts, gossip_place(g, e->peer), GOSSIP_MODEL, e->id, NULL);
    e->steps_sent = g->report.steps;
    e->state = EXCHANGE_OPEN;
}

static void exchange_apply(struct gossip *g, struct exchange *e, const struct blob *other)
{
    CHECK(e->state == EXCHANGE_OPEN);
    const float *theirs = blob_floats(other), *ours = blob_floats(e->own);
    float *x = g->x, half = 0.5f * g->gamma;
    for (size_t i = 0; i < g->dim; i++) x[i] += (theirs[i] - ours[i]) * half;
    g->report.mixes++;
    if (e->steps_sent > g->report.steps_handed_over) g->report.steps_handed_over = e->steps_sent;
    exchange_close(e);
}

static bool is_with(const struct exchange *e, rank_t peer)
{
    return e->state != EXCHANGE_NONE && e->peer == peer;
}

static bool is_idle(const struct pairwise *p)
{
    return p->asked.state == EXCHANGE_NONE && p->given.state == EXCHANGE_NONE;
}

/* Asks a uniform neighbour that is up; only when idle. */
static void exchange_request(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    if (!is_idle(p) || g->peer_count == 0) return;
    uint32_t place = prng_below(&g->random, g->peer_count);
    p->steps = 0;
    exchange_begin(g, &p->asked, now_us, place, ++p->counter * g->node_count + g->rank);
    gossip_send(g, acts, place, GOSSIP_REQUEST, p->asked.id);
}

/* -- messages ---------------------------------------------------------------------------------- */

/* Whether the message is about this exchange; counts it when not. */
static bool is_present(struct gossip *g, const struct exchange *e, uint32_t place, uint64_t id)
{
    if (is_with(e, g->peer[place].rank) && e->id == id) return true;
    g->report.duplicates_dropped++;
    return false;
}

static void on_request(struct gossip *g, uint64_t now_us, uint32_t place, uint64_t id,
                       struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    rank_t peer = g->peer[place].rank;
    if (id <= g->peer[place].request_seen) { /* ids of one initiator grow: this is a repeat */
        g->report.duplicates_dropped++;
        return;
    }
    g->peer[place].request_seen = id;
    if (is_with(&p->asked, peer) && p->asked.state == EXCHANGE_REQUESTED) { /* the two requests crossed */
        if (g->rank < peer) return;
        exchange_close(&p->asked);
        p->steps = g->every;
    }
    if (p->given.state != EXCHANGE_NONE || p->asked.state == EXCHANGE_OPEN) {
        gossip_send(g, acts, place, GOSSIP_BUSY, id);
        return;
    }
    exchange_begin(g, &p->given, now_us, place, id);
    gossip_send(g, acts, place, GOSSIP_ACCEPT, id);
    exchange_open(g, &p->given, acts);
}

/* ACCEPT and BUSY answer a REQUEST; once the exchange is open they are repeats. */
static void on_answer(struct gossip *g, uint32_t place, uint64_t id, bool accepted, struct algo_actions *acts)
{
    struct exchange *e = &g->pairwise.asked;
    if (!is_present(g, e, place, id)) return;
    if (e->state != EXCHANGE_REQUESTED) {
        g->report.duplicates_dropped++;
        return;
    }
    if (accepted)
        exchange_open(g, e, acts);
    else
        exchange_close(e);
}

static int on_model(struct gossip *g, uint64_t now_us, struct exchange *e, uint32_t place,
                    const struct algo_msg *m, struct algo_actions *acts)
{
    struct blob *model;
    int err = mirror_receive(&g->peer[place].in, m, &model);
    if (err != 0) return err;
    if (is_present(g, e, place, m->field[0])) {
        if (e->state == EXCHANGE_REQUESTED) exchange_open(g, e, acts);
        exchange_apply(g, e, model);
    }
    blob_unref(model);
    if (g->pairwise.steps >= g->every) exchange_request(g, now_us, acts);
    return 0;
}

int pairwise_message(struct gossip *g, uint64_t now_us, uint32_t place, const struct algo_msg *m,
                     struct algo_actions *acts)
{
    uint64_t id = m->field[0];
    rank_t initiator = (rank_t)(id % g->node_count);
    bool ours = initiator == g->rank, theirs = initiator == g->peer[place].rank;
    if (m->kind != GOSSIP_MODEL && (m->vec != NULL || m->packed != NULL)) return ERR_PROTO;
    switch (m->kind) {
    case GOSSIP_REQUEST:
        if (!theirs) return ERR_PROTO;
        on_request(g, now_us, place, id, acts);
        return 0;
    case GOSSIP_ACCEPT:
    case GOSSIP_BUSY:
        if (!ours) return ERR_PROTO;
        on_answer(g, place, id, m->kind == GOSSIP_ACCEPT, acts);
        return 0;
    case GOSSIP_MODEL:
        if (!ours && !theirs) return ERR_PROTO;
        return on_model(g, now_us, ours ? &g->pairwise.asked : &g->pairwise.given, place, m, acts);
    }
    return ERR_PROTO;
}

/* -- the other events -------------------------------------------------------------------------- */

void pairwise_deinit(struct gossip *g)
{
    exchange_close(&g->pairwise.asked);
    exchange_close(&g->pairwise.given);
}

void pairwise_start(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    g->pairwise.rest_us = time_after(now_us, g->patience_us);
    algo_train(acts, g->x, g->every);
}

void pairwise_peer_down(struct gossip *g, uint64_t now_us, rank_t peer)
{
    struct pairwise *p = &g->pairwise;
    if (is_with(&p->asked, peer)) exchange_abandon(g, &p->asked, now_us, "the link went down");
    if (is_with(&p->given, peer)) exchange_abandon(g, &p->given, now_us, "the link went down");
}

/* An exchange that is overdue must not wait for its timer when any other event shows the time. */
static void expire(struct gossip *g, struct exchange *e, uint64_t now_us)
{
    if (e->state != EXCHANGE_NONE && now_us >= e->expires_us)
        exchange_abandon(g, e, now_us, "no answer in time");
}

static void expire_both(struct gossip *g, uint64_t now_us)
{
    expire(g, &g->pairwise.asked, now_us);
    expire(g, &g->pairwise.given, now_us);
}

void pairwise_trained(struct gossip *g, const struct algo_event *e, struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    expire_both(g, e->now_us);
    p->rest_us = time_after(e->now_us, g->patience_us);
    p->steps = e->trained.steps < UINT32_MAX - p->steps ? p->steps + e->trained.steps : UINT32_MAX;
    if (p->steps >= g->every) exchange_request(g, e->now_us, acts);
    algo_train(acts, g->x, g->every);
}

void pairwise_deadline(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    expire_both(g, now_us);
    if (!is_idle(p) || now_us < p->rest_us) return;
    p->rest_us = time_after(now_us, g->patience_us / 4 + 1);
    exchange_request(g, now_us, acts);
}

uint64_t pairwise_deadline_us(const struct gossip *g)
{
    const struct pairwise *p = &g->pairwise;
    uint64_t at_us = TIME_NEVER;
    if (is_idle(p) && g->peer_count > 0) at_us = p->rest_us;
    if (p->asked.state != EXCHANGE_NONE) at_us = p->asked.expires_us;
    if (p->given.state != EXCHANGE_NONE && p->given.expires_us < at_us) at_us = p->given.expires_us;
    return at_us;
}

/* Gossip, mode=async: two neighbours average their models while both go on training (AD-PSGD).
 *
 * Normal course
 *  - TRAINED: the delta is added; when idle and `every` steps have passed since the last attempt, a uniform
 *    neighbour that is up gets REQUEST(id) and we are busy. TRAIN goes out again at once.
 *  - REQUEST at an idle node: it is busy too, answers ACCEPT(id) and right behind it MODEL(id, x0_j).
 *  - ACCEPT: the initiator sends MODEL(id, x0_i).
 *  - MODEL: x <- x + (x0_other - x0_own) / 2, that is z + (x_now - x0_own) with z the mean of both: what was
 *    learnt meanwhile is kept. Both ends add opposite amounts, so the sum over all nodes stays. Idle again.
 *    The blob that was sent is the memory of x0_own. With compression x0 is the model as both ends know it,
 *    and gamma scales the change.
 *  - The trainer is silent for the patience (it has finished): an idle node starts an exchange all the
 *    same, and again four times per patience, so that the models go on drawing together.
 * Failure courses
 *  - REQUEST at a busy node: BUSY(id); the initiator is idle again and tries elsewhere later.
 *  - REQUESTs of two nodes cross: the lower rank's counts. The higher rank gives its own up and accepts, the
 *    lower one ignores what it got.
 *  - MODEL overtakes ACCEPT: it accepts as well.
 *  - The link goes down, or the patience passes, before the exchange is over: idle again; once our model is
 *    out, the peer may have applied what we did not, which exchanges_torn counts.
 *  - A word about an exchange that is not the present one (late, repeated): dropped and counted; a model is
 *    taken down first, as the next one may be told as a difference to it.
 *  - A malformed message, an id that names neither of the two as initiator: ERR_PROTO, nothing changed. */
#include <stdlib.h>

#include "algo/gossip/internal.h"
#include "base/check.h"

/* -- the exchange ------------------------------------------------------------------------------ */

static void exchange_close(struct gossip *g)
{
    struct pairwise *p = &g->pairwise;
    blob_unref(p->own);
    p->own = NULL;
    p->state = EXCHANGE_NONE;
}

/* Gives the present exchange up. Only one whose model went out can have had an effect at the other end. */
static void exchange_abandon(struct gossip *g, uint64_t now_us, const char *why)
{
    struct pairwise *p = &g->pairwise;
    CHECK(p->state != EXCHANGE_NONE);
    if (p->state == EXCHANGE_OPEN) {
        g->report.exchanges_torn++;
        trace_limited(&p->torn_said, now_us, g->trace, TRACE_INFO,
                      "gossip: exchange with rank %u is torn: %s", p->peer, why);
    }
    exchange_close(g);
}

static void exchange_begin(struct gossip *g, uint64_t now_us, uint32_t place, uint64_t id)
{
    struct pairwise *p = &g->pairwise;
    CHECK(p->state == EXCHANGE_NONE);
    p->state = EXCHANGE_REQUESTED;
    p->peer = g->peer[place].rank;
    p->id = id;
    p->expires_us = time_after(now_us, g->patience_us);
}

/* Sends our model; the blob stays as the memory of what was sent. */
static void exchange_open(struct gossip *g, struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    CHECK(p->state == EXCHANGE_REQUESTED);
    CHECK(p->own == NULL);
    p->own = gossip_send_model(g, acts, gossip_place(g, p->peer), GOSSIP_MODEL, p->id, NULL);
    p->steps_sent = g->report.steps;
    p->state = EXCHANGE_OPEN;
}

static void exchange_apply(struct gossip *g, const struct blob *other)
{
    struct pairwise *p = &g->pairwise;
    CHECK(p->state == EXCHANGE_OPEN);
    const float *theirs = blob_floats(other), *ours = blob_floats(p->own);
    float *x = g->x, half = 0.5f * g->gamma;
    for (size_t i = 0; i < g->dim; i++) x[i] += (theirs[i] - ours[i]) * half;
    g->report.mixes++;
    if (p->steps_sent > g->report.steps_handed_over) g->report.steps_handed_over = p->steps_sent;
    exchange_close(g);
}

/* Asks a uniform neighbour that is up; only when idle. */
static void exchange_request(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    if (p->state != EXCHANGE_NONE || g->peer_count == 0) return;
    uint32_t place = prng_below(&g->random, g->peer_count);
    p->steps = 0;
    exchange_begin(g, now_us, place, ++p->counter * g->node_count + g->rank);
    gossip_send(g, acts, place, GOSSIP_REQUEST, p->id);
}

/* -- messages ---------------------------------------------------------------------------------- */

/* Whether the message is about the present exchange; counts it when not. */
static bool is_present(struct gossip *g, uint32_t place, uint64_t id)
{
    const struct pairwise *p = &g->pairwise;
    if (p->state != EXCHANGE_NONE && p->peer == g->peer[place].rank && p->id == id) return true;
    g->report.duplicates_dropped++;
    return false;
}

static void on_request(struct gossip *g, uint64_t now_us, uint32_t place, uint64_t id,
                       struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    if (id <= g->peer[place].request_seen) { /* ids of one initiator grow: this is a repeat */
        g->report.duplicates_dropped++;
        return;
    }
    g->peer[place].request_seen = id;
    if (p->state == EXCHANGE_REQUESTED && p->peer == g->peer[place].rank) { /* the two requests crossed */
        if (g->rank < p->peer) return;
        exchange_close(g);
    }
    if (p->state != EXCHANGE_NONE) {
        gossip_send(g, acts, place, GOSSIP_BUSY, id);
        return;
    }
    exchange_begin(g, now_us, place, id);
    gossip_send(g, acts, place, GOSSIP_ACCEPT, id);
    exchange_open(g, acts);
}

/* ACCEPT and BUSY answer a REQUEST; once the exchange is open they are repeats. */
static void on_answer(struct gossip *g, uint32_t place, uint64_t id, bool accepted, struct algo_actions *acts)
{
    if (!is_present(g, place, id)) return;
    if (g->pairwise.state != EXCHANGE_REQUESTED) {
        g->report.duplicates_dropped++;
        return;
    }
    if (accepted)
        exchange_open(g, acts);
    else
        exchange_close(g);
}

static int on_model(struct gossip *g, uint32_t place, const struct algo_msg *m, struct algo_actions *acts)
{
    struct blob *model;
    int err = mirror_receive(&g->peer[place].in, m, &model);
    if (err != 0) return err;
    if (is_present(g, place, m->field[0])) {
        if (g->pairwise.state == EXCHANGE_REQUESTED) exchange_open(g, acts);
        exchange_apply(g, model);
    }
    blob_unref(model);
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
        return on_model(g, place, m, acts);
    }
    return ERR_PROTO;
}

/* -- the other events -------------------------------------------------------------------------- */

void pairwise_deinit(struct gossip *g)
{
    exchange_close(g);
}

void pairwise_start(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    g->pairwise.rest_us = time_after(now_us, g->patience_us);
    algo_train(acts, g->x, g->every);
}

void pairwise_peer_down(struct gossip *g, uint64_t now_us, rank_t peer)
{
    struct pairwise *p = &g->pairwise;
    if (p->state != EXCHANGE_NONE && p->peer == peer) exchange_abandon(g, now_us, "the link went down");
}

/* An exchange that is overdue must not wait for its timer when any other event shows the time. */
static void expire(struct gossip *g, uint64_t now_us)
{
    const struct pairwise *p = &g->pairwise;
    if (p->state != EXCHANGE_NONE && now_us >= p->expires_us)
        exchange_abandon(g, now_us, "no answer in time");
}

void pairwise_trained(struct gossip *g, const struct algo_event *e, struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    expire(g, e->now_us);
    p->rest_us = time_after(e->now_us, g->patience_us);
    p->steps = e->trained.steps < UINT32_MAX - p->steps ? p->steps + e->trained.steps : UINT32_MAX;
    if (p->steps >= g->every) exchange_request(g, e->now_us, acts);
    algo_train(acts, g->x, g->every);
}

void pairwise_deadline(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    struct pairwise *p = &g->pairwise;
    expire(g, now_us);
    if (p->state != EXCHANGE_NONE || now_us < p->rest_us) return;
    p->rest_us = time_after(now_us, g->patience_us / 4 + 1);
    exchange_request(g, now_us, acts);
}

uint64_t pairwise_deadline_us(const struct gossip *g)
{
    const struct pairwise *p = &g->pairwise;
    if (p->state != EXCHANGE_NONE) return p->expires_us;
    return g->peer_count > 0 ? p->rest_us : TIME_NEVER;
}

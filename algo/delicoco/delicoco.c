/* DeLi-CoCo: local steps, then Q gossip steps in which only compressed differences travel. CHOCO-SGD is the
 * same with Q = 1, DGD with Q = 1, gamma = 1 and nothing compressed.
 * Sources: Hashemi et al. 2021 (arXiv 2011.10643); Koloskova, Stich, Jaggi 2019 (arXiv 1902.00340).
 *
 * State: the model x_i, its public copy h_i (what the neighbours know of it) and the copy h_j of every
 * neighbour. One gossip step (standard order):
 *     m_i = C(x_i - h_i), sent to all neighbours;   h_j += m_j for i and its neighbours
 *     x_i += gamma sum_j w_ij (h_j - h_i)           w: Metropolis-Hastings
 * order=overlapped is what the authors of CHOCO run: a step begins with the mixing, with the copies of the
 * step before, and ends with the sending; the deltas travel while the next gradients are computed, and each
 * gossip step is one behind.
 *
 * All copies start at the common start; that of a node which starts elsewhere (a fetched model) is sent whole
 * and counts as its version 1. h_j is kept for each neighbour, not s_i = sum_j w_ij h_j alone: when a
 * link goes, its share leaves the sum exactly. Both ends of a link add the same decoded message by the same
 * function, so the copies agree bit for bit. Making and parameters: make.c.
 *
 * Normal course
 *  - TRAIN asks for the local steps of the round; then DELTA(step, version) goes to all neighbours.
 *  - when the deltas of this step of all of these are here: mix, and the next step, or the next round.
 *  - overlapped: TRAIN comes straight after the last DELTA of the round, the wait for the others' when it has ended.
 *    Before the first there is nothing to wait for: all copies hold step 1 from the start.
 *  - a neighbour may be one step ahead: its delta is checked and kept until our step is over.
 *  - PEER_UP: both ends send REFERENCE, their whole copy, before any delta; nothing of the old link counts.
 *    A node at the common start that has made no delta yet sends none: its copy is that start, so the first delta
 *    (version 1) may overtake that REFERENCE, which travels in the other lane.
 * Failure courses
 *  - a neighbour is down: it has no part in the step, its weight stays with us.
 *  - a neighbour is silent for the patience: the same, and it is not waited for until it speaks of our step or
 *    a later one. Its deltas are added whenever they come: the copies stay in step.
 *  - a neighbour is two or more steps ahead: we join its step, and send a delta under the new number if ours
 *    was out already.
 *  - x is not finite or far out (gamma or the step size too large): nothing is sent, the steps pass, and
 *    the trainer says what is wrong.
 *  - a delta that does not decode, one whose version is not the next, a step that goes
 *    back: ERR_PROTO, nothing changed; the link closes, and its next REFERENCE puts the copies in step. */
#include "algo/delicoco/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* -- copies ------------------------------------------------------------------------------------ */

/* What both ends know of a delta beside its bytes; positions and roundings are the sender's own. */
static struct compress_context context_of(const struct delicoco *d, rank_t sender, uint64_t step)
{
    return (struct compress_context){.seed = d->seed + sender, .round = step, .dither = sender};
}

/* Adds a delta to a copy, on either end of the link. */
static int copy_add(const struct delicoco *d, rank_t sender, uint64_t step, const struct blob *delta,
                    float *copy)
{
    struct compress_context context = context_of(d, sender, step);
    return pack_decode_add(d->pack, &context, delta->data, delta->size, 1.0f, copy);
}

static void hat_begin(const struct delicoco *d, struct delicoco_peer *p, const float *from)
{
    if (p->hat == NULL) p->hat = mem_new(d->dim, sizeof *p->hat);
    memcpy(p->hat, from, d->dim * sizeof *p->hat);
}

static bool decodes(const struct delicoco *d, rank_t sender, uint64_t step, const struct blob *delta)
{
    struct compress_context context = context_of(d, sender, step);
    return pack_check(d->pack, &context, delta->data, delta->size) == 0;
}

/* Adds a delta that was kept, if it is of this step or an earlier one. */
static void early_apply(struct delicoco *d, uint32_t place, uint64_t step)
{
    struct delicoco_peer *p = &d->peer[place];
    if (p->early == NULL || p->early_step > step) return;
    CHECK(copy_add(d, d->neighbour[place], p->early_step, p->early, p->hat) == 0); /* it decodes */
    p->at = p->early_step;
    blob_unref(p->early);
    p->early = NULL;
}

static bool takes_part(const struct delicoco *d, const struct delicoco_peer *p)
{
    return p->up && p->known && p->at == d->step;
}

/* x += gamma sum_j w_j (h_j - h) over the neighbours that are in this step, in ascending rank; block by block,
 * so that x and h are read once and stay in the first cache while the copies stream by. */
static void mix(struct delicoco *d)
{
    enum { BLOCK = 1024 };
    uint64_t mixed = 0;
    for (uint32_t k = 0; k < d->degree; k++) mixed += takes_part(d, &d->peer[k]);
    for (size_t start = 0; mixed > 0 && start < d->dim; start += BLOCK) {
        size_t end = d->dim - start < BLOCK ? d->dim : start + BLOCK;
        for (uint32_t k = 0; k < d->degree; k++) {
            const struct delicoco_peer *p = &d->peer[k];
            if (!takes_part(d, p)) continue;
            float weight = d->gamma * (float)p->weight;
            for (size_t i = start; i < end; i++) d->x[i] += weight * (p->hat[i] - d->hat[i]);
        }
    }
    d->report.mixes += mixed;
    if (mixed > 0) d->report.steps_handed_over = d->report.steps;
}

/* -- steps ------------------------------------------------------------------------------------- */

/* Whether this neighbour still owes us its delta of the present step. */
static bool is_owed(const struct delicoco *d, uint32_t place)
{
    const struct delicoco_peer *p = &d->peer[place];
    return p->up && !p->absent && p->told <= d->step && p->at < d->step;
}

static bool any_owed(const struct delicoco *d)
{
    for (uint32_t i = 0; i < d->degree; i++)
        if (is_owed(d, i)) return true;
    return false;
}

static void wait_begin(struct delicoco *d, uint64_t now_us)
{
    d->waiting = true;
    d->expires_us = time_after(now_us, d->patience_us);
}

/* C(x - h), as one owned blob; NULL: the model is out of the compressor's reach. */
static struct blob *delta_make(struct delicoco *d)
{
    for (size_t i = 0; i < d->dim; i++) d->scratch[i] = d->x[i] - d->hat[i];
    struct compress_context context = context_of(d, d->rank, d->step);
    struct blob *delta = blob_new(pack_size_max(d->pack));
    size_t size = 0;
    if (pack_encode(d->pack, &context, d->scratch, delta->data, &size, NULL) != 0) {
        blob_unref(delta);
        return NULL;
    }
    delta->size = size;
    return delta;
}

/* Makes the delta of this step, adds it to our copy and sends it. */
static void delta_send(struct delicoco *d, uint64_t now_us, struct algo_actions *acts)
{
    struct blob *delta = delta_make(d);
    if (delta == NULL) {
        trace_line(d->trace, TRACE_WARN,
                   "delicoco: the model grows without bound in step %llu; try a smaller "
                   "gamma or step size",
                   (unsigned long long)d->step);
        d->expires_us = now_us; /* nobody will answer what was not sent */
        return;
    }
    CHECK(copy_add(d, d->rank, d->step, delta, d->hat) == 0);
    d->version++;
    d->at = d->step;
    for (uint32_t i = 0; i < d->degree; i++) {
        if (!d->peer[i].up) continue;
        struct algo_msg *m = algo_send(acts, d->neighbour[i], DELICOCO_DELTA);
        m->field_count = 2;
        m->field[0] = d->step;
        m->field[1] = d->version;
        m->packed = blob_ref(delta);
        d->report.model_transfers++;
    }
    blob_unref(delta);
}

/* Ends the step; returns whether the next one is of the same round. */
static bool step_finish(struct delicoco *d)
{
    mix(d);
    d->step++;
    for (uint32_t i = 0; i < d->degree; i++) early_apply(d, i, d->step);
    return (d->step - 1) % d->gossip != 0;
}

/* Goes on as far as nothing keeps us: through the gossip steps, then to training. */
static void advance(struct delicoco *d, uint64_t now_us, struct algo_actions *acts)
{
    while (d->waiting && !any_owed(d)) {
        bool same_round = step_finish(d);
        if (same_round || d->overlapped) {
            wait_begin(d, now_us);
            delta_send(d, now_us, acts);
        }
        if (same_round) continue;
        d->waiting = false;
        d->steps = 0;
        algo_train(acts, d->x, d->every);
    }
}

/* Joins a later step, at least two ahead. Those who overlap wait for our delta of it while we train. */
static void step_join(struct delicoco *d, uint64_t now_us, uint64_t step, struct algo_actions *acts)
{
    CHECK(step > d->step + 1);
    trace_line(d->trace, TRACE_INFO, "delicoco: joins step %llu from step %llu", (unsigned long long)step,
               (unsigned long long)d->step);
    d->step = step;
    for (uint32_t i = 0; i < d->degree; i++) early_apply(d, i, step);
    if (d->waiting) wait_begin(d, now_us);
    if (d->waiting || d->overlapped) delta_send(d, now_us, acts);
}

/* -- messages ---------------------------------------------------------------------------------- */

static void note_step(struct delicoco *d, uint64_t now_us, uint32_t place, uint64_t step,
                      struct algo_actions *acts)
{
    struct delicoco_peer *p = &d->peer[place];
    if (step > p->told) p->told = step;
    if (step >= d->step) p->absent = false;
    if (step > d->step + 1) step_join(d, now_us, step, acts);
}

static int on_reference(struct delicoco *d, uint64_t now_us, uint32_t place, const struct algo_msg *m,
                        struct algo_actions *acts)
{
    struct delicoco_peer *p = &d->peer[place];
    uint64_t step = m->field[0], version = m->field[1];
    if (m->field_count != 3 || m->packed != NULL || m->field[2] > 1) return ERR_PROTO;
    if (step < 1 || !number_fits(step, d->step) || !number_fits(version, d->version) ||
        (version == 0) != (m->vec == NULL))
        return ERR_PROTO;
    if (p->known) return version == 0 ? 0 : ERR_PROTO; /* without a body it may come behind the first delta */
    hat_begin(d, p, m->vec != NULL ? blob_floats(m->vec) : d->x0);
    p->known = true;
    p->version = version;
    p->at = m->field[2] == 1 ? step : step - 1;
    note_step(d, now_us, place, step, acts);
    return 0;
}

static int on_delta(struct delicoco *d, uint64_t now_us, uint32_t place, const struct algo_msg *m,
                    struct algo_actions *acts)
{
    struct delicoco_peer *p = &d->peer[place];
    uint64_t step = m->field[0];
    if (m->field_count != 2 || m->vec != NULL || m->packed == NULL) return ERR_PROTO;
    if (!number_fits(step, d->step) || m->field[1] != p->version + 1) return ERR_PROTO;
    if (step <= p->at || (p->early != NULL && step <= p->early_step)) return ERR_PROTO;
    if (!p->known) hat_begin(d, p, d->x0); /* a first delta: nobody's copy is anything else before it */
    if (step <= d->step) {
        if (copy_add(d, d->neighbour[place], step, m->packed, p->hat) != 0) return ERR_PROTO;
        p->at = step;
    } else { /* it must decode later, when it is too late to refuse it */
        if (!decodes(d, d->neighbour[place], step, m->packed)) return ERR_PROTO;
        early_apply(d, place, d->step + 1);
        p->early = blob_ref(m->packed);
        p->early_step = step;
    }
    p->known = true;
    p->version++;
    note_step(d, now_us, place, step, acts);
    return 0;
}

/* Place of a rank among the neighbours, or the degree. */
static uint32_t place_of(const struct delicoco *d, rank_t peer)
{
    uint32_t edge = graph_edge_index(d->graph, d->rank, peer);
    return edge != UINT32_MAX ? edge - d->graph->offset[d->rank] : d->degree;
}

static int on_message(struct delicoco *d, const struct algo_event *e, struct algo_actions *acts)
{
    uint32_t place = place_of(d, e->peer);
    if (place == d->degree || !d->peer[place].up || e->msg->bits_size != 0) return ERR_PROTO;
    int err = ERR_PROTO;
    if (e->msg->kind == DELICOCO_REFERENCE) err = on_reference(d, e->now_us, place, e->msg, acts);
    if (e->msg->kind == DELICOCO_DELTA) err = on_delta(d, e->now_us, place, e->msg, acts);
    if (err == 0) advance(d, e->now_us, acts);
    return err;
}

/* -- the other events -------------------------------------------------------------------------- */

static void peer_up(struct delicoco *d, rank_t peer, struct algo_actions *acts)
{
    uint32_t place = place_of(d, peer);
    CHECK(place < d->degree);
    struct delicoco_peer *p = &d->peer[place];
    CHECK(!p->up && p->early == NULL);
    p->up = true;
    p->known = p->absent = false;
    p->told = p->at = p->version = 0;
    struct algo_msg *m = algo_send(acts, peer, DELICOCO_REFERENCE);
    m->field_count = 3;
    m->field[0] = d->step;
    m->field[1] = d->version;
    m->field[2] = d->at == d->step;
    if (d->version == 0) return;
    m->vec = blob_copy(d->hat, d->dim * sizeof *d->hat);
    d->report.model_transfers++;
}

static void peer_down(struct delicoco *d, uint64_t now_us, rank_t peer, struct algo_actions *acts)
{
    uint32_t place = place_of(d, peer);
    CHECK(place < d->degree);
    struct delicoco_peer *p = &d->peer[place];
    CHECK(p->up);
    p->up = p->known = false;
    blob_unref(p->early);
    p->early = NULL;
    advance(d, now_us, acts);
}

static void trained(struct delicoco *d, const struct algo_event *e, struct algo_actions *acts)
{
    CHECK(!d->waiting);
    CHECK(e->trained.steps >= 1 && e->trained.steps <= d->every - d->steps);
    for (size_t i = 0; i < d->dim; i++) d->x[i] += e->trained.delta[i];
    d->report.steps += e->trained.steps;
    d->steps += e->trained.steps;
    if (d->steps < d->every) {
        algo_train(acts, d->x, d->every - d->steps);
        return;
    }
    wait_begin(d, e->now_us);
    if (!d->overlapped) delta_send(d, e->now_us, acts);
    advance(d, e->now_us, acts);
}

static void deadline(struct delicoco *d, uint64_t now_us, struct algo_actions *acts)
{
    if (!d->waiting || now_us < d->expires_us) return;
    for (uint32_t i = 0; i < d->degree; i++) {
        if (!is_owed(d, i)) continue;
        d->peer[i].absent = true;
        trace_line(d->trace, TRACE_INFO, "delicoco: rank %u missed step %llu", d->neighbour[i],
                   (unsigned long long)d->step);
    }
    advance(d, now_us, acts);
}

int delicoco_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct delicoco *d = (struct delicoco *)a;
    switch (e->kind) {
    case ALGO_START:
        algo_train(acts, d->x, d->every);
        return 0;
    case ALGO_PEER_UP:
        peer_up(d, e->peer, acts);
        return 0;
    case ALGO_PEER_DOWN:
        peer_down(d, e->now_us, e->peer, acts);
        return 0;
    case ALGO_MESSAGE:
        return on_message(d, e, acts);
    case ALGO_TRAINED:
        trained(d, e, acts);
        return 0;
    case ALGO_DEADLINE:
        deadline(d, e->now_us, acts);
        return 0;
    }
    UNREACHABLE();
}

uint64_t delicoco_deadline_us(const struct algo *a)
{
    const struct delicoco *d = (const struct delicoco *)a;
    return d->waiting ? d->expires_us : TIME_NEVER;
}

const float *delicoco_model(const struct algo *a)
{
    return ((const struct delicoco *)a)->x;
}

void delicoco_report(const struct algo *a, struct algo_report *out)
{
    *out = ((const struct delicoco *)a)->report;
}

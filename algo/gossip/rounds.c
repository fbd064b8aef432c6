/* Gossip, mode=sync: rounds of `every` local steps and one averaging over the neighbourhood (D-PSGD).
 *
 * Normal course
 *  - TRAIN asks for exactly the steps the round still lacks. When they are done, ROUND(r, x) goes to every
 *    neighbour that is up, and training rests.
 *  - When the models of round r of all of these are here: x <- x + gamma sum_j W_ij (x_j - x), neighbours in
 *    ascending rank; W are Metropolis-Hastings weights, or 1 / (degree + 1). Round r + 1 begins.
 *    With compression x_j and x are the models as told on the link of i and j: x may differ from link to
 *    link, but not between the ends of one.
 *  - A neighbour may be one round ahead: its model is kept (at most two per neighbour).
 *  - PEER_UP: both ends tell their round by STATUS; one that is waiting sends its model behind it.
 * Failure courses
 *  - A neighbour is down: it has no part in the round, its weight stays with us.
 *  - A neighbour is silent for the patience: the same, and it is not waited for again until it speaks of
 *    our round or a later one.
 *  - A neighbour speaks of a later round than the one it owes us: it left ours without us and is not waited
 *    for. Two or more rounds ahead: we join its round with what we have, and send our model again under the
 *    new number if it was out already. So a node that was frozen or restarted falls in with the others.
 *  - A model of a past round, or a second one of the same: dropped and counted.
 *  - A malformed message or an absurd round: ERR_PROTO, nothing changed. */
#include <stdlib.h>
#include <string.h>

#include "algo/gossip/internal.h"
#include "base/check.h"

/* -- mixing ------------------------------------------------------------------------------------ */

/* x += sum_k weight_k (theirs_k - ours_k), each (dim), in one pass: the block's sum stays in the first cache
 * while the parts stream by. The form keeps x exactly when all are equal. */
static void mix(size_t dim, float *x, uint32_t count, const struct round_part *part)
{
    enum { BLOCK = 512 };
    float sum[BLOCK];
    for (size_t start = 0; start < dim; start += BLOCK) {
        size_t size = dim - start < BLOCK ? dim - start : BLOCK;
        float *here = x + start;
        memset(sum, 0, size * sizeof *sum);
        for (uint32_t k = 0; k < count; k++) {
            const float *theirs = part[k].theirs + start, *ours = part[k].ours + start;
            for (size_t i = 0; i < size; i++) sum[i] += part[k].weight * (theirs[i] - ours[i]);
        }
        for (size_t i = 0; i < size; i++) here[i] += sum[i];
    }
}

static void vec_drop(struct blob **vec)
{
    blob_unref(*vec);
    *vec = NULL;
}

/* Mixes with the models that are here and begins the next round. */
static void round_finish(struct gossip *g, struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    CHECK(s->waiting);
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->peer_count; i++) {
        const struct round_peer *peer = &s->peer[i];
        if (peer->vec[0] == NULL) continue;
        CHECK(peer->sent != NULL); /* the link is up, and who waits has told everybody */
        s->part[count++] = (struct round_part){.theirs = blob_floats(peer->vec[0]),
                                               .ours = blob_floats(peer->sent),
                                               .weight = g->gamma * (float)s->weight[i]};
    }
    if (count > 0) {
        mix(g->dim, g->x, count, s->part);
        g->report.mixes += count;
        g->report.steps_handed_over = g->report.steps;
    }
    for (uint32_t i = 0; i < g->peer_count; i++) {
        vec_drop(&s->peer[i].sent);
        vec_drop(&s->peer[i].vec[0]);
        s->peer[i].vec[0] = s->peer[i].vec[1];
        s->peer[i].vec[1] = NULL;
    }
    s->waiting = false;
    s->round++;
    s->steps = 0;
    algo_train(acts, g->x, g->every);
}

/* Whether this neighbour still owes us its model of the present round. */
static bool is_owed(const struct gossip *g, uint32_t place)
{
    const struct round_peer *peer = &g->rounds.peer[place];
    return g->peer[place].up && !peer->absent && peer->vec[0] == NULL && peer->told <= g->rounds.round;
}

/* Finishes the round if nothing keeps us. */
static void round_check(struct gossip *g, struct algo_actions *acts)
{
    if (!g->rounds.waiting) return;
    for (uint32_t i = 0; i < g->peer_count; i++)
        if (is_owed(g, i)) return;
    round_finish(g, acts);
}

/* Tells one neighbour our model of the round. `whole`: as mirror_send. */
static void own_send_to(struct gossip *g, uint32_t place, struct blob *whole, struct algo_actions *acts)
{
    struct round_peer *peer = &g->rounds.peer[place];
    CHECK(g->rounds.waiting);
    vec_drop(&peer->sent);
    peer->sent = gossip_send_model(g, acts, place, GOSSIP_ROUND, g->rounds.round, whole);
}

static void own_send(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    struct blob *whole = NULL; /* made once for all who need it */
    s->expires_us = time_after(now_us, g->patience_us);
    for (uint32_t i = 0; i < g->peer_count; i++) {
        if (!g->peer[i].up) continue;
        if (whole == NULL && mirror_sends_whole(&g->peer[i].out))
            whole = blob_copy(g->x, g->dim * sizeof *g->x);
        own_send_to(g, i, whole, acts);
    }
    blob_unref(whole);
}

/* Joins a later round, at least two ahead: whatever is here belongs to rounds that are over. */
static void round_join(struct gossip *g, uint64_t now_us, uint64_t round, struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    CHECK(round > s->round + 1);
    trace_line(g->trace, TRACE_INFO, "gossip: joins round %llu from round %llu", (unsigned long long)round,
               (unsigned long long)s->round);
    for (uint32_t i = 0; i < g->peer_count; i++) {
        vec_drop(&s->peer[i].vec[0]);
        vec_drop(&s->peer[i].vec[1]);
    }
    s->round = round;
    if (s->waiting) own_send(g, now_us, acts);
}

/* -- messages ---------------------------------------------------------------------------------- */

static void note_round(struct gossip *g, uint64_t now_us, uint32_t place, uint64_t round,
                       struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    struct round_peer *peer = &s->peer[place];
    if (round > peer->told) peer->told = round;
    if (round >= s->round) peer->absent = false;
    if (round > s->round + 1) round_join(g, now_us, round, acts);
}

static int on_round(struct gossip *g, uint64_t now_us, uint32_t place, const struct algo_msg *m,
                    struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    uint64_t round = m->field[0];
    struct blob *model; /* taken down also when it is late: the next one may be told as a difference to it */
    int err = mirror_receive(&g->peer[place].in, m, &model);
    if (err != 0) return err;
    note_round(g, now_us, place, round, acts);
    CHECK(round <= s->round + 1);
    struct blob **slot = round < s->round ? NULL : &s->peer[place].vec[round - s->round];
    if (slot == NULL || *slot != NULL) {
        g->report.duplicates_dropped++;
        blob_unref(model);
    } else {
        *slot = model;
    }
    return 0;
}

int rounds_message(struct gossip *g, uint64_t now_us, uint32_t place, const struct algo_msg *m,
                   struct algo_actions *acts)
{
    if (!number_fits(m->field[0], g->rounds.round)) return ERR_PROTO;
    if (m->kind != GOSSIP_ROUND && m->kind != GOSSIP_STATUS) return ERR_PROTO;
    if (m->kind == GOSSIP_ROUND) {
        int err = on_round(g, now_us, place, m, acts);
        if (err != 0) return err;
    } else {
        if (m->vec != NULL || m->packed != NULL) return ERR_PROTO;
        note_round(g, now_us, place, m->field[0], acts);
    }
    round_check(g, acts);
    return 0;
}

/* -- the other events -------------------------------------------------------------------------- */

void rounds_init(struct gossip *g, const struct graph *graph, bool uniform)
{
    struct rounds *s = &g->rounds;
    s->weight = mem_new(g->peer_count, sizeof *s->weight);
    s->part = mem_new(g->peer_count, sizeof *s->part);
    s->peer = mem_new_zero(g->peer_count, sizeof *s->peer);
    for (uint32_t i = 0; i < g->peer_count; i++)
        s->weight[i] =
            uniform ? 1.0 / (g->peer_count + 1.0) : metropolis_weight(graph, g->rank, g->peer[i].rank);
}

void rounds_deinit(struct gossip *g)
{
    struct rounds *s = &g->rounds;
    for (uint32_t i = 0; i < g->peer_count; i++) {
        vec_drop(&s->peer[i].sent);
        vec_drop(&s->peer[i].vec[0]);
        vec_drop(&s->peer[i].vec[1]);
    }
    free(s->weight);
    free(s->part);
    free(s->peer);
}

void rounds_start(struct gossip *g, struct algo_actions *acts)
{
    algo_train(acts, g->x, g->every);
}

void rounds_peer_up(struct gossip *g, uint32_t place, struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    CHECK(s->peer[place].vec[0] == NULL && s->peer[place].vec[1] == NULL);
    s->peer[place].told = 0;
    s->peer[place].absent = false;
    gossip_send(g, acts, place, GOSSIP_STATUS, s->round);
    if (s->waiting) own_send_to(g, place, NULL, acts);
}

void rounds_peer_down(struct gossip *g, uint32_t place, struct algo_actions *acts)
{
    vec_drop(&g->rounds.peer[place].sent);
    vec_drop(&g->rounds.peer[place].vec[0]);
    vec_drop(&g->rounds.peer[place].vec[1]);
    round_check(g, acts);
}

void rounds_trained(struct gossip *g, const struct algo_event *e, struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    CHECK(!s->waiting);
    CHECK(e->trained.steps <= g->every - s->steps);
    s->steps += e->trained.steps;
    if (s->steps < g->every) {
        algo_train(acts, g->x, g->every - s->steps);
        return;
    }
    s->waiting = true;
    own_send(g, e->now_us, acts);
    round_check(g, acts);
}

void rounds_deadline(struct gossip *g, uint64_t now_us, struct algo_actions *acts)
{
    struct rounds *s = &g->rounds;
    if (!s->waiting || now_us < s->expires_us) return;
    for (uint32_t i = 0; i < g->peer_count; i++) {
        if (!is_owed(g, i)) continue;
        s->peer[i].absent = true;
        trace_line(g->trace, TRACE_INFO, "gossip: rank %u missed round %llu", g->peer[i].rank,
                   (unsigned long long)s->round);
    }
    round_check(g, acts);
}

uint64_t rounds_deadline_us(const struct gossip *g)
{
    return g->rounds.waiting ? g->rounds.expires_us : TIME_NEVER;
}

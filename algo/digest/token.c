/* DIGEST's token: the sync rule and the tour (docs/algorithms.md).
 *
 * Normal course
 *  - a parked token starts a tour when its holder's local steps pass the next multiple of H.
 *  - at every stop, backtracking stops included: g += w (x - r) + (r - q[s]); q[s] = r = x = g. The result
 *    is written once, into the blob that is sent on; q[s] and r are references to that blob.
 *  - next hop, depth first: the lowest unvisited neighbour of the stream, else back to the parent, else the
 *    tour is over and the token parks here. Policy `walk`: a Metropolis-Hastings step within the stream.
 * Failure courses
 *  - a neighbour whose link is down is passed over in this tour.
 *  - no way left although nodes are unvisited (they are cut off): the tour ends here.
 *  - a token seen before, or of an older generation: acknowledged, dropped, counted (token.h).
 *  - a token of another plan: answered by digest_epoch_matches, not accepted.
 */
#include <string.h>

#include "algo/digest/internal.h"
#include "base/check.h"

enum {
    WALK_HOPS_PER_MEMBER = 4, /* a walk's tour ends after that many hops per member at the latest */
    UNKNOWN_WAIT = 16,        /* patiences that a parked token waits for a first sign of training */
};

/* -- sync -------------------------------------------------------------------------------------- */

/* One pass: out = g + w (x - r) + (r - q), x = out. All arrays (n). r == q for a node in one stream. */
static void sync_pass(size_t n, float w, const float *g, const float *r, const float *q, float *x, float *out)
{
    if (r == q) {
        for (size_t j = 0; j < n; j++) x[j] = out[j] = g[j] + w * (x[j] - r[j]);
        return;
    }
    for (size_t j = 0; j < n; j++) x[j] = out[j] = g[j] + w * (x[j] - r[j]) + (r[j] - q[j]);
}

/* Folds v's progress and its news from other streams into the token `g` of stream m. */
static void sync_with(struct digest *d, struct stream_seat *m, const float *g)
{
    struct blob *out = blob_new(d->dim * sizeof(float));
    const struct blob *known = m->fresh ? d->reference : m->snapshot;
    digest_ledger_open(d);
    sync_pass(d->dim, (float)d->share, g, blob_floats(d->reference), blob_floats(known), d->x,
              blob_floats_own(out));
    m->fresh = d->owes = false;
    blob_unref(m->snapshot);
    m->snapshot = out;
    blob_unref(d->reference);
    d->reference = blob_ref(out);
    d->steps_handed_over = d->steps;
    custody_advance(&m->custody);
    digest_heard_merge(d, m);
    digest_ledger_close(d, m);
}

/* -- next hop ---------------------------------------------------------------------------------- */

static bool reachable(const struct digest *d, const struct stream_seat *m, size_t slot)
{
    return d->up[slot] && seat_has(m, neighbour_at(d, slot)) && (!m->along || m->line[slot].in_tree);
}

static rank_t hop_depth_first(const struct digest *d, const struct stream_seat *m)
{
    for (size_t i = 0; i < neighbour_count(d); i++)
        if (reachable(d, m, i) && !bit_get(m->visited, neighbour_at(d, i))) return neighbour_at(d, i);
    for (uint32_t i = 0; i < m->member_count; i++) {
        if (bit_get(m->visited, m->member[i])) continue;
        if (m->parent == RANK_NONE) return RANK_NONE;
        return d->up[digest_slot(d, m->parent)] ? m->parent : RANK_NONE;
    }
    return RANK_NONE; /* everybody has been visited */
}

static uint32_t degree_within(const struct digest *d, const struct stream_seat *m, rank_t v)
{
    uint32_t degree = 0;
    for (uint32_t i = d->graph->offset[v]; i < d->graph->offset[v + 1]; i++)
        degree += seat_has(m, d->graph->neighbour[i]);
    return degree;
}

static bool all_visited(const struct stream_seat *m)
{
    for (uint32_t i = 0; i < m->member_count; i++)
        if (!bit_get(m->visited, m->member[i])) return false;
    return true;
}

/* Metropolis-Hastings: propose a uniform neighbour, accept with min(1, deg_i / deg_j); a refusal would be
 * a step on the spot, which costs nothing here, so draw until it moves. */
static rank_t hop_walk(struct digest *d, const struct stream_seat *m)
{
    if (all_visited(m) || m->hops >= (uint64_t)WALK_HOPS_PER_MEMBER * m->member_count) return RANK_NONE;
    uint32_t choices = 0;
    for (size_t i = 0; i < neighbour_count(d); i++) choices += reachable(d, m, i);
    if (choices == 0) return RANK_NONE;
    double here = degree_within(d, m, d->rank);
    for (;;) {
        uint32_t pick = prng_below(&d->prng, choices);
        for (size_t i = 0; i < neighbour_count(d); i++) {
            if (!reachable(d, m, i) || pick-- > 0) continue;
            rank_t to = neighbour_at(d, i);
            if (prng_unit(&d->prng) * degree_within(d, m, to) < here) return to;
            break;
        }
    }
}

/* -- tour -------------------------------------------------------------------------------------- */

static void token_send(struct digest *d, struct stream_seat *m, struct algo_actions *acts)
{
    struct algo_msg *msg = algo_send(acts, m->custody.sent_to, DIGEST_TOKEN);
    const struct token_stamp *stamp = &m->custody.last;
    msg->field_count = TOKEN_FIELDS;
    msg->field[FIELD_EPOCH] = d->plan.epoch.number;
    msg->field[FIELD_PROPOSER] = d->plan.epoch.proposer;
    msg->field[FIELD_STREAM] = m->stream;
    msg->field[FIELD_GENERATION] = stamp->generation;
    msg->field[FIELD_MAKER] = stamp->maker;
    msg->field[FIELD_SEQUENCE] = stamp->sequence;
    msg->field[FIELD_ROUND] = m->round;
    msg->field[FIELD_HOPS] = m->hops;
    msg->field[FIELD_FORK_GENERATION] = m->fork.generation;
    msg->field[FIELD_FORK_MAKER] = m->fork.maker;
    msg->field[FIELD_FORK_SEQUENCE] = m->fork.sequence;
    msg->bits = m->visited;
    msg->bits_size = (uint32_t)d->bits_size + digest_claims_size(d, m);
    digest_line_send(d, m, msg);
    d->counters.model_transfers++;
}

void digest_token_repeat(struct digest *d, struct stream_seat *m, struct algo_actions *acts)
{
    digest_line_forget(m, digest_slot(d, m->custody.sent_to));
    token_send(d, m, acts);
}

void digest_token_park(struct digest *d, struct stream_seat *m)
{
    m->parked = true;
    m->tour_step = (d->steps / d->sync_every + 1) * d->sync_every;
    /* Should our training have stopped, the token must not rest here for ever: allow twice the time that
     * the missing steps usually take. */
    uint64_t usual_us = 2 * (m->tour_step - d->steps) * d->step_us;
    m->tour_us = d->now_us + (usual_us > 0 ? usual_us : UNKNOWN_WAIT * d->patience_us);
}

static void forward(struct digest *d, struct stream_seat *m, struct algo_actions *acts)
{
    rank_t to = d->hop == HOP_DFS ? hop_depth_first(d, m) : hop_walk(d, m);
    if (to == RANK_NONE) {
        digest_token_park(d, m);
        return;
    }
    m->parked = false;
    m->hops++;
    custody_send(&m->custody, to);
    token_send(d, m, acts);
}

void digest_tour_begin(struct digest *d, struct stream_seat *m, bool whole, struct algo_actions *acts)
{
    CHECK(m->custody.place == CUSTODY_HELD);
    /* Whom a tour along the tree did not reach, one by any edge may. */
    m->along = m->line != NULL && !whole && !(m->along && !all_visited(m));
    if (m->line != NULL && !m->along) digest_lines_forget(d, m);
    m->round++;
    m->hops = 0;
    m->parent = RANK_NONE;
    memset(m->visited, 0, d->bits_size);
    bit_set(m->visited, d->rank);
    struct blob *token = blob_ref(m->snapshot); /* a parked token equals the snapshot */
    sync_with(d, m, blob_floats(token));
    blob_unref(token);
    forward(d, m, acts);
}

void digest_start_due_tours(struct digest *d, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < d->own_count; i++) {
        struct stream_seat *m = &d->own[i];
        if (m->custody.place != CUSTODY_HELD || !m->parked) continue;
        if (d->steps >= m->tour_step || d->now_us >= m->tour_us) digest_tour_begin(d, m, false, acts);
    }
}

/* -- arrival ----------------------------------------------------------------------------------- */

/* ACK or AGAIN. */
static void answer(rank_t to, enum digest_message kind, const struct algo_msg *token,
                   struct algo_actions *acts)
{
    struct algo_msg *msg = algo_send(acts, to, (uint8_t)kind);
    msg->field_count = ACK_FIELDS;
    memcpy(msg->field, token->field, ACK_FIELDS * sizeof msg->field[0]);
}

static bool token_is_sound(const struct digest *d, const struct algo_msg *msg)
{
    return msg->field_count == TOKEN_FIELDS && msg->bits_size >= d->bits_size &&
           msg->field[FIELD_GENERATION] <= UINT32_MAX && msg->field[FIELD_MAKER] < d->node_count &&
           msg->field[FIELD_SEQUENCE] < UINT64_MAX / 2 && msg->field[FIELD_ROUND] < UINT64_MAX / 2 &&
           msg->field[FIELD_HOPS] < UINT64_MAX / 2 && msg->field[FIELD_NUMBER] < UINT64_MAX / 4 &&
           msg->field[FIELD_FORK_GENERATION] <= UINT32_MAX && msg->field[FIELD_FORK_MAKER] < d->node_count;
}

/* Stores an accepted token: tour state, then the sync. */
static void arrive(struct digest *d, struct stream_seat *m, rank_t from, const struct algo_msg *msg,
                   const struct blob *token)
{
    bool first_here = !bit_get(msg->bits, d->rank);
    memcpy(m->visited, msg->bits, msg->bits_size);
    m->round = msg->field[FIELD_ROUND];
    m->hops = msg->field[FIELD_HOPS];
    if (first_here) {
        m->parent = from;
        bit_set(m->visited, d->rank);
    } else if (m->parent != RANK_NONE && digest_slot(d, m->parent) == SIZE_MAX) {
        m->parent = RANK_NONE;
    }
    m->along = msg->field[FIELD_NUMBER] > 0;
    sync_with(d, m, blob_floats(token));
    d->counters.mixes++;
    uint32_t syncs = (uint32_t)m->custody.last.sequence; /* of this life: digest.stamps_behind */
    if (syncs > d->counters.version) d->counters.version = syncs;
}

int digest_token_message(struct digest *d, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    if (!token_is_sound(d, msg)) return ERR_PROTO;
    if (!digest_epoch_matches(d, from, msg, acts)) return 0;
    struct stream_seat *m = digest_seat(d, msg->field[FIELD_STREAM]);
    if (m == NULL || !seat_has(m, from) || !digest_claims_are_sound(d, msg)) return ERR_PROTO;
    struct token_stamp stamp = {(uint32_t)msg->field[FIELD_GENERATION], (rank_t)msg->field[FIELD_MAKER],
                                msg->field[FIELD_SEQUENCE]};
    if (!custody_stamp_fits(&m->custody, &stamp)) return ERR_PROTO;
    struct blob *token;
    int err = digest_line_receive(d, m, from, msg, &token); /* before the fence: the sender's line goes on */
    if (err != 0) return err;
    if (token == NULL) {
        answer(from, DIGEST_AGAIN, msg, acts);
        return 0;
    }
    struct token_stamp fork = {(uint32_t)msg->field[FIELD_FORK_GENERATION],
                               (rank_t)msg->field[FIELD_FORK_MAKER], msg->field[FIELD_FORK_SEQUENCE]};
    struct token_stamp last = m->custody.last;
    bool was_searched = m->custody.seeking;
    answer(from, DIGEST_ACK, msg, acts);
    if (custody_receive(&m->custody, &stamp, d->now_us) == CUSTODY_REPEAT) {
        d->counters.duplicates_dropped++;
        blob_unref(token);
        return 0;
    }
    m->parked = false;
    m->fork = fork;
    digest_claims_read(d, m, msg);
    digest_line_heed_fork(d, m, from, &last);
    if (stamp.generation != last.generation || stamp.maker != last.maker) digest_ledger_heed_token(d, m);
    arrive(d, m, from, msg, token);
    blob_unref(token);
    if (was_searched)
        trace_line(d->trace, TRACE_INFO, "stream %u: the token that was searched for is here", m->stream);
    forward(d, m, acts);
    return 0;
}

/* ACK and AGAIN: 0 or ERR_PROTO; *m = NULL when it belongs to another plan. */
static int answer_read(struct digest *d, const struct algo_msg *msg, struct stream_seat **m,
                       struct token_stamp *stamp)
{
    *m = NULL;
    if (msg->field_count != ACK_FIELDS || msg->field[FIELD_GENERATION] > UINT32_MAX ||
        msg->field[FIELD_MAKER] >= d->node_count)
        return ERR_PROTO;
    if (msg->field[FIELD_EPOCH] != d->plan.epoch.number ||
        msg->field[FIELD_PROPOSER] != d->plan.epoch.proposer)
        return 0;
    *m = digest_seat(d, msg->field[FIELD_STREAM]);
    if (*m == NULL) return ERR_PROTO;
    *stamp = (struct token_stamp){(uint32_t)msg->field[FIELD_GENERATION], (rank_t)msg->field[FIELD_MAKER],
                                  msg->field[FIELD_SEQUENCE]};
    return 0;
}

int digest_ack_message(struct digest *d, rank_t from, const struct algo_msg *msg)
{
    struct stream_seat *m;
    struct token_stamp stamp;
    int err = answer_read(d, msg, &m, &stamp);
    if (err != 0 || m == NULL) return err;
    digest_line_acknowledged(d, m, from, &stamp);
    custody_acknowledged(&m->custody, from, &stamp, d->now_us);
    return 0;
}

int digest_again_message(struct digest *d, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    struct stream_seat *m;
    struct token_stamp stamp;
    int err = answer_read(d, msg, &m, &stamp);
    if (err != 0 || m == NULL) return err;
    const struct custody *c = &m->custody;
    if (c->place == CUSTODY_SENT && c->sent_to == from && token_stamp_compare(&stamp, &c->last) == 0)
        digest_token_repeat(d, m, acts);
    return 0;
}

/* What walking models say over links: hand-over, acknowledgement, search, degrees. Courses: walk.c and token.h.
 *
 * Every model that comes is taken down in the link's mirror, also one that is fenced or repeated: the next
 * may be told as a difference to it. A malformed message is ERR_PROTO with nothing changed. */
#include <string.h>

#include "algo/walk/internal.h"
#include "base/check.h"

enum { FIELD_GENERATION, FIELD_MAKER, FIELD_SEQUENCE, FIELD_WALK, STAMP_FIELDS };
enum { FIELD_CLAIMANT = STAMP_FIELDS, FIELD_LIVING, FIELD_AGE, SEEK_FIELDS };

static void stamp_write(struct algo_msg *msg, const struct token_stamp *stamp, uint32_t t)
{
    msg->field_count = STAMP_FIELDS;
    msg->field[FIELD_GENERATION] = stamp->generation;
    msg->field[FIELD_MAKER] = stamp->maker;
    msg->field[FIELD_SEQUENCE] = stamp->sequence;
    msg->field[FIELD_WALK] = t;
}

static bool stamp_read(const struct walk *w, const struct algo_msg *msg, struct token_stamp *stamp,
                       uint32_t *t)
{
    if (msg->field_count < STAMP_FIELDS || msg->field[FIELD_GENERATION] > UINT32_MAX ||
        msg->field[FIELD_MAKER] >= w->node_count || msg->field[FIELD_SEQUENCE] >= UINT64_MAX / 2 ||
        msg->field[FIELD_WALK] >= w->walk_count)
        return false;
    stamp->generation = (uint32_t)msg->field[FIELD_GENERATION];
    stamp->maker = (rank_t)msg->field[FIELD_MAKER];
    stamp->sequence = msg->field[FIELD_SEQUENCE];
    *t = (uint32_t)msg->field[FIELD_WALK];
    return true;
}

/* -- sending ----------------------------------------------------------------------------------- */

static struct algo_msg *model_message(struct walk *w, uint32_t t, struct algo_actions *acts)
{
    const struct custody *c = &w->walk[t].custody;
    struct algo_msg *msg = algo_send(acts, c->sent_to, WALK_MODEL);
    stamp_write(msg, &c->last, t);
    w->counters.model_transfers++;
    return msg;
}

void walk_hand_over(struct walk *w, uint32_t t, struct algo_actions *acts)
{
    struct walking *k = &w->walk[t];
    CHECK(k->custody.place == CUSTODY_SENT && !k->owed);
    struct walk_peer *to = walk_peer_find(w, k->custody.sent_to);
    CHECK(to != NULL);
    k->sent_boot = to->boot;
    blob_unref(k->copy);
    k->copy = mirror_send(&to->out, k->x, NULL, model_message(w, t, acts));
    if (k->residual == NULL) return;
    const float *told = blob_floats(k->copy);
    for (size_t i = 0; i < w->dim; i++) k->residual[i] = k->x[i] - told[i];
    k->owed = true;
}

void walk_hand_over_again(struct walk *w, uint32_t t, struct algo_actions *acts)
{
    struct walking *k = &w->walk[t];
    CHECK(k->custody.place == CUSTODY_SENT && k->copy != NULL);
    struct walk_peer *to = walk_peer_find(w, k->custody.sent_to);
    CHECK(to != NULL);
    mirror_send_whole(&to->out, k->copy, model_message(w, t, acts));
}

static void seek_send(const struct walk *w, rank_t to, uint32_t t, bool living, struct algo_actions *acts)
{
    const struct custody *c = &w->walk[t].custody;
    struct algo_msg *msg = algo_send(acts, to, WALK_SEEK);
    stamp_write(msg, living ? &c->known : &c->best, t);
    msg->field_count = SEEK_FIELDS;
    msg->field[FIELD_CLAIMANT] = living ? w->rank : c->best_at;
    msg->field[FIELD_LIVING] = living;
    msg->field[FIELD_AGE] = living ? custody_age_us(c, w->now_us) : 0;
}

void walk_seek_flood(struct walk *w, uint32_t t, bool living, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < w->peer_count; i++) seek_send(w, w->peer[i].rank, t, living, acts);
}

void walk_tell_degree(const struct walk *w, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < w->peer_count; i++) {
        struct algo_msg *msg = algo_send(acts, w->peer[i].rank, WALK_DEGREE);
        msg->field_count = 1;
        msg->field[0] = w->peer_count;
    }
}

/* -- receiving --------------------------------------------------------------------------------- */

static void store(struct walk *w, struct walking *k, const float *model)
{
    if (k->owed) /* what stayed here when it was here last */
        for (size_t i = 0; i < w->dim; i++) k->x[i] = model[i] + k->residual[i];
    else
        memcpy(k->x, model, w->dim * sizeof *k->x);
    k->owed = false;
    k->steps = 0;
}

static int take_model(struct walk *w, struct walk_peer *from, const struct algo_msg *msg,
                      struct algo_actions *acts)
{
    struct token_stamp stamp;
    uint32_t t;
    struct blob *model;
    if (msg->field_count != STAMP_FIELDS || !stamp_read(w, msg, &stamp, &t)) return ERR_PROTO;
    if (!custody_stamp_fits(&w->walk[t].custody, &stamp)) return ERR_PROTO;
    int err = mirror_receive(&from->in, msg, &model);
    if (err != 0) return err;
    struct walking *k = &w->walk[t];
    uint64_t left_at = k->custody.last.sequence;
    if (custody_receive(&k->custody, &stamp, w->now_us) == CUSTODY_REPEAT) {
        w->counters.duplicates_dropped++;
    } else {
        if (k->owed_at > left_at) left_at = k->owed_at;
        k->owed_at = 0;
        if (stamp.sequence <= left_at) k->owed = false; /* it does not come from what we handed over */
        store(w, k, blob_floats(model));
        w->counters.mixes++;
        walk_note_version(w, t);
        walk_train(w, t, acts);
    }
    blob_unref(model);
    stamp_write(algo_send(acts, from->rank, WALK_ACK), &stamp, t);
    return 0;
}

static int take_acknowledgement(struct walk *w, rank_t from, const struct algo_msg *msg)
{
    struct token_stamp stamp;
    uint32_t t;
    if (msg->field_count != STAMP_FIELDS || !stamp_read(w, msg, &stamp, &t)) return ERR_PROTO;
    if (!custody_acknowledged(&w->walk[t].custody, from, &stamp, w->now_us)) return 0;
    blob_unref(w->walk[t].copy); /* x serves as the snapshot from now on */
    w->walk[t].copy = NULL;
    return 0;
}

static int take_seek(struct walk *w, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    struct token_stamp stamp;
    uint32_t t;
    if (msg->field_count != SEEK_FIELDS || !stamp_read(w, msg, &stamp, &t) ||
        !custody_stamp_fits(&w->walk[t].custody, &stamp) || msg->field[FIELD_CLAIMANT] >= w->node_count ||
        msg->field[FIELD_LIVING] > 1)
        return ERR_PROTO;
    rank_t claimant = (rank_t)msg->field[FIELD_CLAIMANT];
    switch (custody_heard(&w->walk[t].custody, &stamp, claimant, msg->field[FIELD_LIVING] == 1,
                          msg->field[FIELD_AGE], w->now_us)) {
    case CUSTODY_QUIET:
        break;
    case CUSTODY_FLOOD:
        walk_seek_flood(w, t, false, acts);
        break;
    case CUSTODY_FLOOD_LIVE:
        walk_seek_flood(w, t, true, acts);
        break;
    case CUSTODY_ANSWER_LIVE:
        seek_send(w, from, t, true, acts);
        break;
    }
    return 0;
}

static int take_degree(const struct walk *w, struct walk_peer *from, const struct algo_msg *msg)
{
    uint64_t degree = msg->field[0];
    if (msg->field_count != 1 || degree == 0 || degree >= w->node_count) return ERR_PROTO;
    from->degree = (uint32_t)degree;
    return 0;
}

int walk_take_message(struct walk *w, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    struct walk_peer *peer = walk_peer_find(w, from);
    bool body = msg->vec != NULL || msg->packed != NULL;
    if (peer == NULL || body != (msg->kind == WALK_MODEL)) return ERR_PROTO;
    switch (msg->kind) {
    case WALK_MODEL:
        return take_model(w, peer, msg, acts);
    case WALK_ACK:
        return take_acknowledgement(w, from, msg);
    case WALK_SEEK:
        return take_seek(w, from, msg, acts);
    case WALK_DEGREE:
        return take_degree(w, peer, msg);
    default: /* a peer's number, not an enumeration of ours */
        return ERR_PROTO;
    }
}

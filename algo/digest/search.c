/* Search for a lost token among the members of its stream (token.h tells the courses; docs/algorithms.md).
 *
 * The search floods along the stream's edges. With one stream the winner makes the token anew from its
 * snapshot: exact when no node died, short of the dead nodes' last contributions otherwise. With several it
 * proposes a re-base. */
#include "algo/digest/internal.h"
#include "base/check.h"

static void seek_send(const struct digest *d, const struct stream_seat *m, rank_t to,
                      const struct token_stamp *stamp, rank_t claimant, bool living,
                      struct algo_actions *acts)
{
    struct algo_msg *msg = algo_send(acts, to, DIGEST_SEEK);
    msg->field_count = SEEK_FIELDS;
    msg->field[FIELD_EPOCH] = d->plan.epoch.number;
    msg->field[FIELD_PROPOSER] = d->plan.epoch.proposer;
    msg->field[FIELD_STREAM] = m->stream;
    msg->field[FIELD_GENERATION] = stamp->generation;
    msg->field[FIELD_MAKER] = stamp->maker;
    msg->field[FIELD_SEQUENCE] = stamp->sequence;
    msg->field[FIELD_CLAIMANT] = claimant;
    msg->field[FIELD_LIVING] = living;
    msg->field[FIELD_AGE] = living ? custody_age_us(&m->custody, d->now_us) : 0;
}

static void seek_flood(const struct digest *d, const struct stream_seat *m, const struct token_stamp *stamp,
                       rank_t claimant, bool living, struct algo_actions *acts)
{
    for (size_t i = 0; i < neighbour_count(d); i++)
        if (d->up[i] && seat_has(m, neighbour_at(d, i)))
            seek_send(d, m, neighbour_at(d, i), stamp, claimant, living, acts);
}

int digest_seek_message(struct digest *d, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    if (msg->field_count != SEEK_FIELDS || msg->field[FIELD_GENERATION] > UINT32_MAX ||
        msg->field[FIELD_MAKER] >= d->node_count || msg->field[FIELD_CLAIMANT] >= d->node_count ||
        msg->field[FIELD_LIVING] > 1)
        return ERR_PROTO;
    if (!digest_epoch_matches(d, from, msg, acts)) return 0;
    struct stream_seat *m = digest_seat(d, msg->field[FIELD_STREAM]);
    if (m == NULL || !seat_has(m, from)) return ERR_PROTO;
    struct token_stamp stamp = {(uint32_t)msg->field[FIELD_GENERATION], (rank_t)msg->field[FIELD_MAKER],
                                msg->field[FIELD_SEQUENCE]};
    rank_t claimant = (rank_t)msg->field[FIELD_CLAIMANT];
    struct custody *c = &m->custody;
    if (!custody_stamp_fits(c, &stamp)) return ERR_PROTO;
    switch (
        custody_heard(c, &stamp, claimant, msg->field[FIELD_LIVING] == 1, msg->field[FIELD_AGE], d->now_us)) {
    case CUSTODY_QUIET:
        break;
    case CUSTODY_FLOOD:
        seek_flood(d, m, &c->best, c->best_at, false, acts);
        break;
    case CUSTODY_FLOOD_LIVE:
        seek_flood(d, m, &c->known, d->rank, true, acts);
        break;
    case CUSTODY_ANSWER_LIVE:
        seek_send(d, m, from, &c->known, d->rank, true, acts);
        break;
    }
    return 0;
}

/* With one stream the newest snapshot is all there is to know. With several, whoever died or is out of reach
 * took news between streams along, so that the others would for ever count on what this one lacks: all
 * streams begin anew from one base instead. */
static void regenerate(struct digest *d, struct stream_seat *m, struct algo_actions *acts)
{
    d->counters.tokens_regenerated++;
    trace_line(d->trace, TRACE_WARN,
               "stream %u: token lost; made anew from the newest snapshot, generation %u", m->stream,
               m->custody.last.generation);
    if (d->plan.streams.count > 1)
        digest_rebase_force(d, acts);
    else
        digest_tour_begin(d, m, true, acts);
}

/* Its first member makes a stream's token, unless it came late. */
void digest_await_first(struct digest *d, struct stream_seat *m)
{
    rank_t first = m->member[0];
    size_t slot = first != d->rank ? digest_slot(d, first) : SIZE_MAX;
    bool missing = first == d->rank || (slot != SIZE_MAX && !d->up[slot]);
    custody_await_first(&m->custody, missing, d->now_us);
}

void digest_search_tick(struct digest *d, struct algo_actions *acts)
{
    for (uint32_t i = 0; i < d->own_count; i++) {
        struct stream_seat *m = &d->own[i];
        if (m->member_count < 2) continue;
        struct token_stamp snapshot = m->custody.last;
        switch (custody_tick(&m->custody, d->now_us)) {
        case CUSTODY_NOT_DUE:
            break;
        case CUSTODY_SEARCH:
            seek_flood(d, m, &m->custody.best, m->custody.best_at, false, acts);
            break;
        case CUSTODY_REGENERATE:
            digest_claims_fork(d, m, &snapshot);
            regenerate(d, m, acts);
            return; /* our streams may be others now */
        }
    }
}

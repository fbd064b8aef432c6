/* What must hold for DIGEST in a storm:
 *  - no aggregate holds more than weight times what the nodes have handed over (unless tokens are rounded: they
 *    overshoot);
 *  - per node and life: epochs, and within one the fences and stamps of its streams, never go back;
 *  - at rest, one place holds each stream's token, all nodes follow one plan, and no work is lost any more: what
 *    is missing of a node's work stays what it was;
 *  - in the end tokens and models are the same, and everything was handed over. */
#include <math.h>

#include "tests/sim/laws.h"
#include "tests/sim/storm.h"

/* -- always ------------------------------------------------------------------------------------ */

/* ... nor of any slice of time: what is lost elsewhere hides nothing. */
static void slices_check(struct storm *s, rank_t v, const char *what, const float *slice)
{
    for (uint32_t i = 0; s->slices && i < STORM_DIM - STORM_NODES; i++) {
        rank_t u = i / STORM_SLICES;
        double done = (double)s->sliced[i], held = (double)slice[i] / s->weight[u];
        if (held > done + checkers_slack(done) || held < -checkers_slack(done))
            storm_fail(s,
                       "counted twice: %s of node %u holds %.2f steps of slice %u of node %u, which did %.0f",
                       what, v, held, i % STORM_SLICES, u, done);
    }
}

/* An aggregate holds at most weight times what was handed over. */
static void aggregate_check(struct storm *s, rank_t v, const char *what, const float *x)
{
    checkers_vector(s, v, what, x);
    for (rank_t u = 0; u < STORM_NODES; u++) {
        double handed = (double)storm_handed_over(s, u), held = (double)x[u] / s->weight[u];
        if (held > handed + checkers_slack(handed))
            storm_fail(s, "counted twice: %s of node %u holds %.2f steps of node %u, which handed over %.0f",
                       what, v, held, u, handed);
    }
    slices_check(s, v, what, x + STORM_NODES);
}

static void amounts_check(struct storm *s, rank_t v, const struct digest *d)
{
    aggregate_check(s, v, "the reference", blob_floats(d->reference));
    for (uint32_t i = 0; i < d->own_count; i++)
        if (d->own[i].snapshot != d->reference)
            aggregate_check(s, v, "a snapshot", blob_floats(d->own[i].snapshot));
}

static void stamp_check(struct storm *s, rank_t v, const char *what, const struct token_stamp *seen,
                        const struct token_stamp *now)
{
    if (token_stamp_compare(now, seen) >= 0) return;
    storm_fail(s, "node %u: %s goes back from %u.%u.%llu to %u.%u.%llu", v, what, seen->generation,
               seen->maker, (unsigned long long)seen->sequence, now->generation, now->maker,
               (unsigned long long)now->sequence);
}

static void stamps_check(struct storm *s, rank_t v, const struct digest *d, struct checkers_node *seen)
{
    int order = epoch_compare(&d->plan.epoch, &seen->epoch);
    if (order < 0) storm_fail(s, "node %u: its epoch goes back to %u", v, d->plan.epoch.number);
    for (uint32_t i = 0; i < d->own_count && i < CHECKERS_STREAMS; i++) {
        const struct custody *c = &d->own[i].custody;
        if (order == 0) stamp_check(s, v, "a fence", &seen->known[i], &c->known);
        if (order == 0) stamp_check(s, v, "a stamp", &seen->last[i], &c->last);
        seen->known[i] = c->known;
        seen->last[i] = c->last;
    }
    seen->epoch = d->plan.epoch;
}

void digest_look(struct storm *s, rank_t v)
{
    const struct digest *d = storm_digest(s, v);
    if (!s->rounded) amounts_check(s, v, d);
    stamps_check(s, v, d, &s->checkers.node[v]);
    digest_losses_look(s, v);
}

/* -- at rest ----------------------------------------------------------------------------------- */

static const struct custody *custody_at(const struct storm *s, rank_t v, uint32_t stream)
{
    struct digest *d = storm_digest(s, v);
    struct stream_seat *m = d == NULL ? NULL : digest_seat(d, stream);
    return m == NULL ? NULL : &m->custody;
}

struct census {
    uint32_t members, held, living;
    struct token_stamp newest;
};

static struct census census_of(const struct storm *s, uint32_t stream)
{
    struct census out = {.members = 0};
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct custody *c = custody_at(s, v, stream);
        if (c == NULL) continue;
        out.members++;
        out.held += c->place == CUSTODY_HELD;
        if (token_stamp_compare(&c->last, &out.newest) > 0) out.newest = c->last;
    }
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct custody *c = custody_at(s, v, stream);
        out.living += c != NULL && custody_living(c) && c->last.generation == out.newest.generation;
    }
    return out;
}

void digest_look_at_rest(struct storm *s, rank_t v)
{
    const struct digest *d = storm_digest(s, v);
    for (uint32_t i = 0; i < d->own_count; i++) {
        if (d->own[i].custody.place != CUSTODY_HELD) continue;
        struct census c = census_of(s, d->own[i].stream);
        if (c.held > 1) storm_fail(s, "stream %u: %u nodes hold its token at once", d->own[i].stream, c.held);
    }
}

/* Everybody has been visited by the newest token. */
static bool known_to_all(const struct storm *s, uint32_t stream, const struct token_stamp *newest)
{
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct custody *c = custody_at(s, v, stream);
        if (c == NULL) continue;
        if (c->last.generation != newest->generation || c->last.maker != newest->maker ||
            c->last.sequence == 0)
            return false;
    }
    return true;
}

const char *digest_unrest(struct storm *s)
{
    const struct digest *first = storm_digest(s, 0);
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct digest *d = storm_digest(s, v);
        if (epoch_compare(&d->plan.epoch, &first->plan.epoch) != 0) return "nodes follow different plans";
        if (d->plan.down_count > 0) return "the plan leaves edges out";
    }
    for (uint32_t i = 0; i < first->plan.streams.count; i++) {
        struct census c = census_of(s, i);
        if (c.living == 0 && c.members > 1) return "a token is lost";
        if (c.held > 1) return "a token is held twice";
        if (c.members > 1 && !known_to_all(s, i, &c.newest)) return "a token has not been everywhere";
    }
    return NULL;
}

/* Coordinate u of a stream's token, as it left the last node that has seen it. */
static double token_of(const struct storm *s, uint32_t stream, rank_t u)
{
    struct token_stamp newest = {0, 0, 0};
    double value = 0;
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct stream_seat *m = digest_seat(storm_digest(s, v), stream);
        if (m == NULL || token_stamp_compare(&m->custody.last, &newest) < 0) continue;
        newest = m->custody.last;
        value = (double)blob_floats(m->snapshot)[u];
    }
    return value;
}

/* Steps that u has handed over but the cluster lacks: constant unless work gets lost or doubled. Tokens, news
 * between streams and what compressed tokens left behind are sum_s g_s + sum_v (r_v - sum_s q_v[s]). */
static double missing_of(const struct storm *s, rank_t u)
{
    double held = 0;
    for (uint32_t i = 0; i < storm_digest(s, 0)->plan.streams.count; i++) held += token_of(s, i, u);
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct digest *d = storm_digest(s, v);
        held += (double)blob_floats(d->reference)[u];
        for (uint32_t i = 0; i < d->own_count; i++) held -= (double)blob_floats(d->own[i].snapshot)[u];
    }
    return (double)storm_handed_over(s, u) - held / s->weight[u];
}

void digest_quiet(struct storm *s)
{
    double missing = 0, handed = 0;
    for (rank_t u = 0; u < STORM_NODES; u++) {
        s->checkers.missing[u] = missing_of(s, u);
        missing += s->weight[u] * s->checkers.missing[u];
        handed += s->weight[u] * (double)storm_handed_over(s, u);
    }
    s->tally->missing += missing;
    s->tally->handed += handed;
    s->tally->missing_share_max = fmax(s->tally->missing_share_max, missing / handed);
}

/* -- the end ----------------------------------------------------------------------------------- */

const char *digest_disagreement(struct storm *s)
{
    const float *x = storm_digest(s, 0)->x;
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct digest *d = storm_digest(s, v);
        for (uint32_t i = 0; i < d->own_count; i++)
            if (checkers_differ(s, blob_floats(d->own[i].snapshot), x))
                return "a token differs from the models";
        if (d->steps_handed_over < s->counted_life[v]) return "a node has not handed its work over";
    }
    return NULL;
}

void digest_end(struct storm *s)
{
    for (rank_t u = 0; u < STORM_NODES; u++) {
        double before = s->checkers.missing[u], after = missing_of(s, u);
        if (fabs(after - before) > 2 * checkers_slack((double)s->counted[u]))
            storm_fail(s, "work lost at rest: of node %u %.2f steps were missing, then %.2f", u, before,
                       after);
    }
}

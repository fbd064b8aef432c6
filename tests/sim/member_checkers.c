/* What must hold in a storm of members (member_storm.h).
 *
 * Always, after every event:
 *  - no node failed; no honest node's message was refused; queues, links, dials and records are short.
 *  - a node says of itself the place that it has; a place that is kept keeps the time of its claim; a claim from the
 *    disk keeps its time too.
 *  - who knows of an earlier claim to its place gives it up soon.
 *  - steps never go back in a life, and go on from what was saved.
 *  - who comes while others train has a model that somebody held lately, and says so only after it has come.
 *  - no model is infinite or holds more of a place's work than was done at it.
 *  - a leave over a sound network is heard.
 *  - a keeper never has a place, an algorithm or a job. Nobody begins without a model that knows a keeper with more
 *    steps than it has, unless it has asked in vain for long.
 * What must hold at rest after healing: member_rest.c. */
#include <string.h>

#include "agent/node/internal.h"
#include "algo/vec.h"
#include "base/check.h"
#include "tests/sim/member_storm.h"

enum {
    QUEUE_BYTES_MAX = 256 * 1024,
    EVENTS_PER_SECOND_MAX = 30000,
    DISPUTE_US_MAX = 5 * MEMBER_SECOND, /* a job, and to say so */
    FRESH_US_MAX = 20 * MEMBER_SECOND,  /* a fetched model: since when nobody holds it */
    DIALS_MAX = 4 * MEMBER_SLOTS_MAX,
    ASK_US = 30 * MEMBER_SECOND, /* founders ask keepers */
};

static struct node *node_of(const struct member_storm *s, uint32_t v)
{
    return simulation_node(s->sim, v);
}

double member_slack(const struct member_storm *s, uint32_t place)
{
    return 0.5 + 2e-4 * (double)s->counted[place];
}

/* -- models lately held ------------------------------------------------------------------------ */

static uint64_t model_hash(const float *x)
{
    uint64_t hash = 1;
    for (uint32_t i = 0; i < MEMBER_DIM; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = (hash ^ bits) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return hash != 0 ? hash : 1;
}

static struct member_model *model_find(struct member_storm *s, uint64_t hash, bool make)
{
    struct member_model *bucket = s->model[hash % MEMBER_MODEL_BUCKETS], *oldest = bucket;
    for (uint32_t i = 0; i < MEMBER_MODEL_WAYS; i++) {
        if (bucket[i].hash == hash) return &bucket[i];
        if (bucket[i].last_us < oldest->last_us) oldest = &bucket[i];
    }
    if (!make) return NULL;
    oldest->hash = hash;
    return oldest;
}

static void model_held(struct member_storm *s, struct member_seen *seen, const struct node *n)
{
    uint64_t hash = model_hash(node_model(n)), now_us = member_storm_now_us(s);
    if (hash == seen->model) return;
    if (seen->model != 0) model_find(s, seen->model, true)->last_us = now_us;
    seen->model = hash;
    model_find(s, hash, true)->last_us = now_us;
}

static bool model_is_known(struct member_storm *s, uint64_t hash)
{
    for (uint32_t v = 0; v < s->slots; v++)
        if (s->seen[v].alive && s->seen[v].model == hash) return true;
    const struct member_model *m = model_find(s, hash, false);
    return m != NULL && member_storm_now_us(s) - m->last_us <= FRESH_US_MAX;
}

/* -- lives ------------------------------------------------------------------------------------- */

void member_checkers_begun(struct member_storm *s, uint32_t v, const struct member_disk *from)
{
    s->seen[v] = (struct member_seen){.alive = true, .from = *from, .place = RANK_NONE};
    if (from->any) s->seen[v].began_steps = s->seen[v].progress = from->steps;
}

void member_checkers_ended(struct member_storm *s, uint32_t v)
{
    struct member_seen *seen = &s->seen[v];
    if (seen->model != 0) model_find(s, seen->model, true)->last_us = member_storm_now_us(s);
    const struct membership *m = node_membership(node_of(s, v));
    struct membership_totals totals;
    membership_totals(m, &totals);
    s->tally->refutations += totals.refutations;
    s->tally->deaths += totals.deaths;
    *seen = (struct member_seen){.alive = false};
    relay_checkers_begin(s, v);
}

void member_checkers_resumed(struct member_storm *s, uint32_t v)
{
    s->seen[v].disputed_us = 0;
    relay_checkers_begin(s, v);
}

void member_checkers_left(struct member_storm *s, uint32_t v)
{
    for (uint32_t u = 0; u < s->slots; u++) {
        if ((s->slot[v].witnesses >> u & 1) == 0 || !member_storm_lives(s, u)) continue;
        const struct member *m = membership_find(node_membership(node_of(s, u)), s->slot[v].id);
        if (m == NULL || m->state != MEMBER_LEFT)
            member_storm_fail(s, "slot %u has not heard that slot %u leaves: %s", u, v,
                              m == NULL ? "nothing" : member_state_name(m->state));
    }
}

/* -- always: limits ---------------------------------------------------------------------------- */

/* Honest nodes understand each other, whatever has become of them meanwhile. */
static void refused_check(struct member_storm *s, uint32_t v)
{
    uint64_t refused = node_of(s, v)->refused;
    if (refused == s->seen[v].refused) return;
    s->tally->refused += refused - s->seen[v].refused;
    s->seen[v].refused = refused;
    member_storm_fail(s, "slot %u refused a message: %s", v, s->refusal);
}

static void limits_check(struct member_storm *s, uint32_t v)
{
    const struct node *n = node_of(s, v);
    refused_check(s, v);
    if (n->link_count > 2 * s->slots) member_storm_fail(s, "slot %u has %u links", v, n->link_count);
    if (n->contact_count > DIALS_MAX || n->probe_count > DIALS_MAX)
        member_storm_fail(s, "slot %u dials %u addresses, %u probes", v, n->contact_count, n->probe_count);
    if (membership_count(n->membership) > s->used_count) member_storm_fail(s, "slot %u knows strangers", v);
    for (const struct link *l = n->oldest; l != NULL; l = l->newer) {
        struct link_stats stats;
        if (n->transport->ops->stats(n->transport, l->id, &stats) != 0) continue;
        if (stats.queue_bytes > QUEUE_BYTES_MAX)
            member_storm_fail(s, "slot %u: %zu bytes wait for one peer", v, stats.queue_bytes);
    }
}

static void flood_check(struct member_storm *s)
{
    uint64_t second = member_storm_now_us(s) / MEMBER_SECOND;
    if (second != s->second) s->events_second = 0;
    s->second = second;
    if (++s->events_second > EVENTS_PER_SECOND_MAX)
        member_storm_fail(s, "messages beget messages: %d events within a second", EVENTS_PER_SECOND_MAX);
}

/* -- always: places ---------------------------------------------------------------------------- */

/* Living members that may take a place, by its own records. */
static uint32_t may_found(const struct node *n)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        bool living = m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
        count += living && m->id != n->config.id && m->meta[META_PHASE] != NODE_KEEPING + 1;
    }
    return count;
}

static void claim_check(struct member_storm *s, uint32_t v)
{
    struct member_seen *seen = &s->seen[v];
    const struct node *n = node_of(s, v);
    uint64_t told = membership_self(n->membership)->meta[META_PLACE];
    if (told != (n->rank == RANK_NONE ? 0 : (uint64_t)n->rank + 1))
        member_storm_fail(s, "slot %u has place %d and tells %d", v, (int)n->rank, (int)told - 1);
    if (n->algo != NULL && n->rank == RANK_NONE) member_storm_fail(s, "slot %u trains without a place", v);
    if (n->rank != RANK_NONE && n->rank == seen->place && n->claimed != seen->claimed)
        member_storm_fail(s, "slot %u has place %u and claims it anew", v, n->rank);
    if (n->rank != RANK_NONE && n->rank != seen->place && node_trainers(n) == 0 &&
        may_found(n) < s->min_nodes)
        member_storm_fail(s, "slot %u takes a place with %u known of %u", v, may_found(n), s->min_nodes);
    if (n->rank != RANK_NONE && !seen->claim_seen) {
        seen->claim_seen = true;
        bool same = seen->from.any && seen->from.had_place && seen->from.place == n->rank;
        if (same && n->claimed != seen->from.claimed)
            member_storm_fail(s, "slot %u came back to place %u and forgot when it claimed it", v, n->rank);
    }
    seen->place = n->rank;
    seen->claimed = n->claimed;
}

/* By its own records, not by its table of places. */
static bool knows_earlier_claim(const struct node *n)
{
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        bool living = m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
        if (!living || m->id == n->config.id || m->meta[META_PLACE] != (uint64_t)n->rank + 1) continue;
        uint64_t claimed = m->meta[META_CLAIMED];
        if (claimed < n->claimed || (claimed == n->claimed && m->id < n->config.id)) return true;
    }
    return false;
}

static void dispute_check(struct member_storm *s, uint32_t v)
{
    struct member_seen *seen = &s->seen[v];
    const struct node *n = node_of(s, v);
    uint64_t now_us = member_storm_now_us(s);
    if (n->rank == RANK_NONE || s->slot[v].paused || !knows_earlier_claim(n)) {
        seen->disputed_us = 0;
        return;
    }
    if (seen->disputed_us == 0) seen->disputed_us = now_us;
    uint64_t lasts_us = now_us - seen->disputed_us;
    if (lasts_us > s->tally->dispute_us_max) s->tally->dispute_us_max = lasts_us;
    if (lasts_us > DISPUTE_US_MAX) member_storm_fail(s, "slot %u keeps place %u of another", v, n->rank);
}

/* -- always: models and steps ------------------------------------------------------------------ */

static void model_check(struct member_storm *s, uint32_t v)
{
    const float *x = node_model(node_of(s, v));
    if (!vec_finite(MEMBER_DIM, x)) member_storm_fail(s, "slot %u: the model is not finite", v);
    double share = s->law->share == LAW_SHARE_BATCH ? 1 / choice_number(&s->algorithm_choice, "b") : 1;
    for (uint32_t r = 0; r < MEMBER_DIM; r++) {
        double held = ((double)x[r] - 1) / share, counted = (double)s->counted[r];
        if (held > counted + member_slack(s, r) || held < -member_slack(s, r))
            member_storm_fail(s, "slot %u: the model holds %.2f steps of place %u, which did %.0f", v, held,
                              r, counted);
    }
}

/* The event began or ended a fetch, or began training. */
static void coming_check(struct member_storm *s, uint32_t v)
{
    struct member_seen *seen = &s->seen[v];
    struct node *n = node_of(s, v);
    if (n->fetch != NULL && !seen->fetching) seen->fetch_us = member_storm_now_us(s);
    if (seen->fetching && n->fetch == NULL && n->has_model) {
        s->tally->fetches++;
        s->tally->kept += member_storm_keeps(s, v);
        if (!model_is_known(s, model_hash(node_model(n))))
            member_storm_fail(s, "slot %u comes with a model that nobody gave", v);
    }
    bool own = n->config.algo->own_start && n->config.steps_done > 0;
    bool begins = !seen->trained && n->algo != NULL;
    if (begins && seen->fetching && n->has_model && node_trainers(n) == 0) s->tally->founded_from_kept++;
    if (begins && !n->has_model) {
        s->tally->foundings++;
        bool asked = seen->fetch_us > 0 && member_storm_now_us(s) - seen->fetch_us >= ASK_US;
        if (!asked && !(n->config.algo->own_start && n->steps > 0) && node_kept_best(n) > n->steps)
            member_storm_fail(s, "slot %u begins anew although there is a keeper with %llu steps", v,
                              (unsigned long long)node_kept_best(n));
        if (!own && node_trainers(n) > 0 && node_progress_best(n) > 0)
            member_storm_fail(s, "slot %u begins anew although others train", v);
    }
    if (begins && n->has_model && !seen->fetching && !seen->evicted)
        member_storm_fail(s, "slot %u has a model that it did not fetch", v);
    if (seen->trained && n->algo == NULL) {
        s->tally->evictions++;
        seen->evicted = true;
    }
    if (seen->fetching && n->has_model) seen->evicted = true; /* it keeps what it has fetched */
    seen->fetching = n->fetch != NULL;
    seen->trained = n->algo != NULL;
}

static void steps_check(struct member_storm *s, uint32_t v)
{
    struct member_seen *seen = &s->seen[v];
    uint64_t steps = node_of(s, v)->steps;
    if (steps < seen->progress)
        member_storm_fail(s, "slot %u: %llu steps after %llu", v, (unsigned long long)steps,
                          (unsigned long long)seen->progress);
    seen->progress = steps;
}

static void keeper_check(struct member_storm *s, uint32_t v)
{
    const struct node *n = node_of(s, v);
    if (n->rank != RANK_NONE || n->phase != NODE_KEEPING)
        member_storm_fail(s, "slot %u is a keeper, and has place %d, phase %d", v, (int)n->rank,
                          (int)n->phase);
    if (n->algo != NULL || n->job.running || n->job.trainer != NULL)
        member_storm_fail(s, "slot %u is a keeper, and trains", v);
}

/* What the best trainer had behind it at the end of each of the last seconds. */
static void best_note(struct member_storm *s)
{
    uint64_t second = member_storm_now_us(s) / MEMBER_SECOND;
    if (second == s->best_s) return;
    s->best_s = second;
    uint64_t best = 0;
    for (uint32_t v = 0; v < s->slots - s->keepers; v++)
        if (node_of(s, v) != NULL && node_of(s, v)->algo != NULL && node_of(s, v)->steps > best)
            best = node_of(s, v)->steps;
    s->best_progress[second % MEMBER_RECENT] = best;
}

void member_checkers_event(struct member_storm *s)
{
    flood_check(s);
    best_note(s);
    for (uint32_t v = 0; v < s->slots; v++) {
        if ((s->touched >> v & 1) == 0 || node_of(s, v) == NULL) continue;
        relay_checkers_event(s, v);
        if (s->slot[v].leaving) continue;
        if (member_storm_keeps(s, v)) keeper_check(s, v);
        steps_check(s, v);
        limits_check(s, v);
        claim_check(s, v);
        dispute_check(s, v);
        coming_check(s, v);
        if (node_of(s, v)->algo == NULL && !(member_storm_keeps(s, v) && node_of(s, v)->steps > 0)) continue;
        model_held(s, &s->seen[v], node_of(s, v));
        model_check(s, v);
    }
}

/* The checkers of the storm; see checkers.h for what they ask. */
#include "tests/sim/checkers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/node_internal.h"
#include "algo/vec.h"
#include "tests/sim/storm.h"

enum {
    EVENTS_PER_SECOND_MAX = 30000,
    QUEUE_BYTES_MAX = 256 * 1024, /* models are of 64 bytes here: more is a flood */
    REST_US = 3 * STORM_SECOND,   /* without a regeneration or a re-base */
};

static_assert((int)CHECKERS_NODES == (int)STORM_NODES, "a record for each node");

static const float *floats(const struct blob *b)
{
    return (const float *)(const void *)b->data;
}

static struct node *node_of(const struct storm *s, rank_t v)
{
    return simulation_node(s->sim, v);
}

/* Rounding: half a step, and what thousands of float32 sums may add up to. */
static double slack_steps(double steps)
{
    return 0.5 + 2e-4 * steps;
}

/* -- always: amounts --------------------------------------------------------------------------- */

static void vector_check(struct storm *s, rank_t v, const char *what, const float *x)
{
    if (!vec_finite(STORM_NODES, x)) storm_fail(s, "node %u: %s is not finite", v, what);
    for (rank_t u = 0; u < STORM_NODES; u++) {
        if (x[u] < -slack_steps((double)s->counted[u]))
            storm_fail(s, "node %u: %s holds %g of node %u", v, what, (double)x[u], u);
    }
}

/* An aggregate holds at most weight times what was handed over. */
static void aggregate_check(struct storm *s, rank_t v, const char *what, const float *x)
{
    vector_check(s, v, what, x);
    for (rank_t u = 0; u < STORM_NODES; u++) {
        double handed = (double)storm_handed_over(s, u), held = (double)x[u] / s->weight[u];
        if (held > handed + slack_steps(handed))
            storm_fail(s, "counted twice: %s of node %u holds %.2f steps of node %u, which handed over %.0f",
                       what, v, held, u, handed);
    }
}

static void model_check(struct storm *s, rank_t v)
{
    const float *x = node_model(node_of(s, v));
    vector_check(s, v, "the model", x);
    for (rank_t u = 0; u < STORM_NODES; u++) {
        double counted = (double)s->counted[u];
        if (x[u] > counted + slack_steps(counted))
            storm_fail(s, "counted twice: the model of node %u holds %.2f steps of node %u, which did %.0f",
                       v, (double)x[u], u, counted);
    }
}

static void amounts_check(struct storm *s, rank_t v)
{
    model_check(s, v);
    const struct digest *d = storm_digest(s, v);
    if (d == NULL) return;
    aggregate_check(s, v, "the reference", floats(d->reference));
    for (uint32_t i = 0; i < d->own_count; i++)
        if (d->own[i].snapshot != d->reference)
            aggregate_check(s, v, "a snapshot", floats(d->own[i].snapshot));
}

/* -- always: order ----------------------------------------------------------------------------- */

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

static void order_check(struct storm *s, rank_t v)
{
    struct checkers_node *seen = &s->checkers.node[v];
    struct node_report r;
    node_report(node_of(s, v), &r);
    if (r.algo.steps < seen->steps || r.algo.mixes < seen->mixes)
        storm_fail(s, "node %u: a counter goes back", v);
    seen->steps = r.algo.steps;
    seen->mixes = r.algo.mixes;
    if (storm_digest(s, v) != NULL) stamps_check(s, v, storm_digest(s, v), seen);
}

/* -- always: limits ---------------------------------------------------------------------------- */

static void limits_check(struct storm *s, rank_t v)
{
    const struct node *n = node_of(s, v);
    if (n->refused != 0) storm_fail(s, "node %u refused a message", v);
    if (n->link_count >= STORM_NODES) storm_fail(s, "node %u has %u links", v, n->link_count);
    for (const struct link *l = n->oldest; l != NULL; l = l->newer) {
        struct link_stats stats;
        if (n->transport->ops->stats(n->transport, l->id, &stats) != 0) continue;
        if (stats.queue_bytes > QUEUE_BYTES_MAX)
            storm_fail(s, "node %u: %zu bytes wait for one peer", v, stats.queue_bytes);
    }
}

static void flood_check(struct storm *s)
{
    struct checkers *c = &s->checkers;
    uint64_t second = simulation_now_us(s->sim) / STORM_SECOND;
    if (second != c->second) c->events = 0;
    c->second = second;
    if (++c->events > EVENTS_PER_SECOND_MAX)
        storm_fail(s, "messages beget messages: %d events within a second", EVENTS_PER_SECOND_MAX);
}

/* -- at rest ----------------------------------------------------------------------------------- */

static uint32_t walkers(const struct storm *s)
{
    uint32_t count = 0;
    for (rank_t v = 0; v < STORM_NODES; v++) count += node_of(s, v)->job.running;
    return count;
}

static const struct custody *custody_at(const struct storm *s, rank_t v, uint32_t stream)
{
    struct digest *d = storm_digest(s, v);
    struct membership *m = d == NULL ? NULL : digest_membership(d, stream);
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

static void single_custody_check(struct storm *s, rank_t v)
{
    const struct digest *d = storm_digest(s, v);
    for (uint32_t i = 0; d != NULL && i < d->own_count; i++) {
        if (d->own[i].custody.place != CUSTODY_HELD) continue;
        struct census c = census_of(s, d->own[i].stream);
        if (c.held > 1) storm_fail(s, "stream %u: %u nodes hold its token at once", d->own[i].stream, c.held);
    }
    if (s->walk && walkers(s) > 1) storm_fail(s, "%u nodes train the walking model at once", walkers(s));
}

void checkers_crashed(struct storm *s, rank_t v)
{
    s->checkers.node[v] = (struct checkers_node){.steps = 0};
}

void checkers_event(struct storm *s)
{
    flood_check(s);
    for (rank_t v = 0; v < STORM_NODES; v++) {
        if ((s->touched >> v & 1) == 0 || node_of(s, v) == NULL) continue;
        amounts_check(s, v);
        order_check(s, v);
        limits_check(s, v);
        if (s->checkers.quiet) single_custody_check(s, v);
    }
}

/* -- coming to rest ---------------------------------------------------------------------------- */

void checkers_healed(struct storm *s)
{
    struct node_report r;
    for (rank_t v = 0; v < STORM_NODES; v++) {
        node_report(node_of(s, v), &r);
        s->checkers.at_heal_steps[v] = r.algo.steps;
        s->checkers.at_heal_mixes[v] = r.algo.mixes;
    }
}

static uint64_t marks_of(const struct storm *s)
{
    struct simulation_totals t;
    simulation_totals(s->sim, &t);
    return t.algo.tokens_regenerated + t.algo.rebases;
}

static const char *links_unrest(const struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++) {
        struct node_report r;
        if (node_of(s, v) == NULL) return "a node is dead";
        node_report(node_of(s, v), &r);
        if (r.phase != NODE_TRAINING) return "a node does not train";
        if (r.neighbours_up != r.neighbours) return "a link is down";
    }
    return NULL;
}

static const char *progress_unrest(const struct storm *s)
{
    uint32_t moved = 0;
    for (rank_t v = 0; v < STORM_NODES; v++) {
        struct node_report r;
        node_report(node_of(s, v), &r);
        bool steps = r.algo.steps > s->checkers.at_heal_steps[v] + 10;
        bool mixes = s->alone || r.algo.mixes > s->checkers.at_heal_mixes[v] + 1;
        moved += steps && mixes;
        if (!s->walk && !steps) return "a node does not step";
        if (!s->walk && !mixes) return "a node is not mixed with others";
    }
    return moved == 0 ? "the walking model does not move" : NULL;
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

static const char *tokens_unrest(const struct storm *s)
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

const char *checkers_unrest(struct storm *s)
{
    struct checkers *c = &s->checkers;
    const char *unrest = links_unrest(s);
    if (unrest == NULL) unrest = progress_unrest(s);
    if (unrest == NULL && s->digest) unrest = tokens_unrest(s);
    if (unrest == NULL && s->walk && walkers(s) > 1) unrest = "several nodes train the walking model";
    uint64_t now_us = simulation_now_us(s->sim);
    if (unrest != NULL || marks_of(s) != c->marks || c->marks_since_us == 0) {
        c->marks = marks_of(s);
        c->marks_since_us = now_us;
        return unrest != NULL ? unrest : "plans or tokens are made anew";
    }
    return now_us < c->marks_since_us + REST_US ? "not yet at rest for long enough" : NULL;
}

/* Steps that u has handed over but its own aggregate lacks: constant unless work gets lost or doubled. */
static double missing_of(const struct storm *s, rank_t u)
{
    const struct digest *d = storm_digest(s, u);
    return (double)storm_handed_over(s, u) - (double)floats(d->reference)[u] / s->weight[u];
}

void checkers_quiet(struct storm *s)
{
    double missing = 0, handed = 0;
    s->checkers.quiet = true;
    for (rank_t u = 0; s->digest && u < STORM_NODES; u++) {
        s->checkers.missing[u] = missing_of(s, u);
        missing += s->weight[u] * s->checkers.missing[u];
        handed += s->weight[u] * (double)storm_handed_over(s, u);
    }
    if (!s->digest || s->tally == NULL) return;
    s->tally->missing += missing;
    s->tally->handed += handed;
    s->tally->missing_share_max = fmax(s->tally->missing_share_max, missing / handed);
}

/* -- the end ----------------------------------------------------------------------------------- */

static bool differ(const struct storm *s, const float *x, const float *y)
{
    for (rank_t u = 0; u < STORM_NODES; u++) {
        double steps = fabs((double)x[u] - (double)y[u]) / s->weight[u];
        if (steps > slack_steps((double)s->counted[u])) return true;
    }
    return false;
}

const char *checkers_disagreement(struct storm *s)
{
    if (s->gossip) return simulation_consensus_distance(s->sim) > 1e-2 ? "models differ" : NULL;
    if (!s->digest) return NULL; /* a walking model is in one place only */
    const float *x = node_model(node_of(s, 0));
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct digest *d = storm_digest(s, v);
        if (differ(s, node_model(node_of(s, v)), x)) return "models differ";
        for (uint32_t i = 0; i < d->own_count; i++)
            if (differ(s, floats(d->own[i].snapshot), x)) return "a token differs from the models";
        if (d->steps_handed_over < s->counted_life[v]) return "a node has not handed its work over";
    }
    return NULL;
}

void checkers_end(struct storm *s)
{
    for (rank_t u = 0; s->digest && u < STORM_NODES; u++) {
        double before = s->checkers.missing[u], after = missing_of(s, u);
        if (fabs(after - before) > 2 * slack_steps((double)s->counted[u]))
            storm_fail(s, "work lost at rest: of node %u %.2f steps were missing, then %.2f", u, before,
                       after);
    }
    const char *unrest = links_unrest(s);
    if (unrest == NULL && s->digest) unrest = tokens_unrest(s);
    if (unrest != NULL) storm_fail(s, "no rest at the end: %s", unrest);
}

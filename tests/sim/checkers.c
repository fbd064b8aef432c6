/* The checkers of the storm that hold for every method; see checkers.h for what they ask. */
#include "tests/sim/checkers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/node/internal.h"
#include "algo/vec.h"
#include "base/check.h"
#include "tests/sim/storm.h"

enum {
    EVENTS_PER_SECOND_MAX = 30000,
    QUEUE_BYTES_MAX = 256 * 1024, /* models are of 64 bytes here, in slices of 1 KiB: more is a flood */
    REST_US = 3 * STORM_SECOND,   /* without a regeneration or a re-base */
};

static_assert((int)CHECKERS_NODES == (int)STORM_NODES, "a record for each node");
static_assert((int)CHECKERS_DIM == (int)STORM_DIM, "room for a model");

static struct node *node_of(const struct storm *s, rank_t v)
{
    return simulation_node(s->sim, v);
}

static double share_of(const struct storm *s, rank_t u)
{
    switch (s->law->share) {
    case LAW_SHARE_EQUAL:
        return 1.0 / STORM_NODES;
    case LAW_SHARE_WEIGHT:
        return s->weight[u];
    case LAW_SHARE_ONE:
        return 1;
    case LAW_SHARE_BATCH:
        return 1 / choice_number(&s->algorithm_choice, "b");
    }
    UNREACHABLE();
}

/* Half a step, and what thousands of float32 sums may add up to. */
double checkers_slack(double steps)
{
    return 0.5 + 2e-4 * steps;
}

/* -- always: amounts --------------------------------------------------------------------------- */

/* A model holds no more than was learnt, and nothing negative. What lossy messages leave may lie outside of what was learnt: x moves by h_j - h_i, and h_i may be far
 * behind x. */
static bool are_averages(const struct storm *s)
{
    return !s->lossy || s->law->kept_back;
}

void checkers_vector(struct storm *s, rank_t v, const char *what, const float *x)
{
    if (!vec_finite(STORM_NODES, x)) storm_fail(s, "node %u: %s is not finite", v, what);
    for (rank_t u = 0; are_averages(s) && u < STORM_NODES; u++) {
        if (x[u] < -checkers_slack((double)s->counted[u]))
            storm_fail(s, "node %u: %s holds %g of node %u", v, what, (double)x[u], u);
    }
}

static void model_check(struct storm *s, rank_t v)
{
    const float *x = node_model(node_of(s, v));
    checkers_vector(s, v, "the model", x);
    double share =
        s->law->share == LAW_SHARE_BATCH ? share_of(s, 0) : 1; /* others: a mean of fewer gives more */
    for (rank_t u = 0; are_averages(s) && u < STORM_NODES; u++) {
        double counted = (double)s->counted[u], held = (double)x[u] / share;
        if (held > counted + checkers_slack(counted))
            storm_fail(s, "counted twice: the model of node %u holds %.2f steps of node %u, which did %.0f",
                       v, held, u, counted);
    }
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

void checkers_crashed(struct storm *s, rank_t v)
{
    s->checkers.node[v] = (struct checkers_node){.steps = 0};
}

void checkers_event(struct storm *s)
{
    const struct law *law = s->law;
    flood_check(s);
    for (rank_t v = 0; v < STORM_NODES; v++) {
        if ((s->touched >> v & 1) == 0 || node_of(s, v) == NULL) continue;
        model_check(s, v);
        order_check(s, v);
        limits_check(s, v);
        if (node_of(s, v)->algo == NULL) continue; /* it is still joining */
        if (law->look != NULL) law->look(s, v);
        if (s->checkers.quiet && law->look_at_rest != NULL) law->look_at_rest(s, v);
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
    return t.algo.tokens_regenerated + t.algo.rebases + t.algo.terms;
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
        bool mixes = r.algo.mixes > s->checkers.at_heal_mixes[v] + 1;
        moved += steps && mixes;
        if (!s->law->one_trains && !steps) return "a node does not step";
        if (!s->law->one_trains && !mixes) return "a node is not mixed with others";
    }
    return moved == 0 ? "the walking model does not move" : NULL;
}

const char *checkers_unrest(struct storm *s)
{
    struct checkers *c = &s->checkers;
    const char *unrest = links_unrest(s);
    if (unrest == NULL) unrest = progress_unrest(s);
    if (unrest == NULL && s->law->unrest != NULL) unrest = s->law->unrest(s);
    uint64_t now_us = simulation_now_us(s->sim);
    if (unrest != NULL || marks_of(s) != c->marks || c->marks_since_us == 0) {
        c->marks = marks_of(s);
        c->marks_since_us = now_us;
        return unrest != NULL ? unrest : "plans or tokens are made anew";
    }
    return now_us < c->marks_since_us + REST_US ? "not yet at rest for long enough" : NULL;
}

void checkers_quiet(struct storm *s)
{
    s->checkers.quiet = true;
    if (s->law->quiet != NULL) s->law->quiet(s);
}

/* -- the end ----------------------------------------------------------------------------------- */

bool checkers_differ(const struct storm *s, const float *x, const float *y)
{
    for (rank_t u = 0; u < STORM_NODES; u++) {
        double steps = fabs((double)x[u] - (double)y[u]) / share_of(s, u);
        if (steps > checkers_slack((double)s->counted[u])) return true;
    }
    return false;
}

static const char *models_differ(const struct storm *s)
{
    const float *first = node_model(node_of(s, 0));
    for (rank_t v = 1; v < STORM_NODES; v++) {
        const float *x = node_model(node_of(s, v));
        if (s->law->same_bits && memcmp(x, first, STORM_NODES * sizeof *x) != 0)
            return "models differ in bits";
        if (checkers_differ(s, x, first)) return "models differ";
    }
    return NULL;
}

const char *checkers_disagreement(struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++)
        if (s->under_way[v] > 0) return "steps are still under way";
    const char *what = s->law->share != LAW_SHARE_ONE ? models_differ(s) : NULL;
    return what == NULL && s->law->disagreement != NULL ? s->law->disagreement(s) : what;
}

void checkers_burst_begin(struct storm *s)
{
    memcpy(s->checkers.burst_counted, s->counted, sizeof s->counted);
    simulation_model(s->sim, s->checkers.burst_model);
}

void checkers_burst_end(struct storm *s)
{
    float x[STORM_DIM];
    simulation_model(s->sim, x);
    double done = 0;
    for (rank_t u = 0; u < STORM_NODES; u++) {
        double steps = (double)(s->counted[u] - s->checkers.burst_counted[u]);
        double grown = ((double)x[u] - (double)s->checkers.burst_model[u]) / share_of(s, u);
        bool exact = !s->lossy || !s->law->estimates;
        if (exact && fabs(grown - steps) > 2 * checkers_slack((double)s->counted[u]))
            storm_fail(s, "a burst of %.0f steps of node %u became %.2f at rest", steps, u, grown);
        done += steps;
    }
    if (!(done > 0)) storm_fail(s, "nobody did a step of the burst");
}

void checkers_end(struct storm *s)
{
    const char *unrest = links_unrest(s);
    if (s->law->end != NULL) s->law->end(s);
    if (unrest == NULL && s->law->unrest != NULL) unrest = s->law->unrest(s);
    if (unrest != NULL) storm_fail(s, "no rest at the end: %s", unrest);
}

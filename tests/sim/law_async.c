/* What must hold for asynchronous SGD with a movable holder in a storm:
 *  - terms that a node obeys never go back in one life of it;
 *  - at rest, one node holds the model, and x_t only grows: nothing applied is lost any more;
 *  - where holders are killed one at a time, each after the cluster has come to itself: the same always. What one
 *    holder has applied, its successors have in the log, and the next holder has it too. */
#include "algo/async/internal.h"
#include "tests/sim/laws.h"
#include "tests/sim/storm.h"

static const struct async *async_at(const struct storm *s, rank_t v)
{
    struct node *n = simulation_node(s->sim, v);
    return n != NULL ? (const struct async *)node_algo(n) : NULL;
}

static bool holds(const struct async *a)
{
    return a != NULL && a->role == ASYNC_HOLDER;
}

/* x_t of a holder: never less than what any holder has shown before. */
static void growth_check(struct storm *s, rank_t v)
{
    const struct async *a = async_at(s, v);
    struct checkers *c = &s->checkers;
    if (!holds(a) || a->term < c->holder_term) return;
    c->holder_term = a->term;
    for (rank_t u = 0; u < STORM_NODES; u++) {
        if ((double)a->x[u] < c->applied[u] - checkers_slack(c->applied[u]))
            storm_fail(s, "node %u holds %.2f of node %u in term %llu, and %.2f was applied before: lost", v,
                       (double)a->x[u], u, (unsigned long long)a->term, c->applied[u]);
        if ((double)a->x[u] > c->applied[u]) c->applied[u] = (double)a->x[u];
    }
}

void async_look(struct storm *s, rank_t v)
{
    const struct async *a = async_at(s, v);
    struct checkers_node *seen = &s->checkers.node[v];
    if (a->term < seen->term)
        storm_fail(s, "node %u: its term goes back from %llu to %llu", v, (unsigned long long)seen->term,
                   (unsigned long long)a->term);
    seen->term = a->term;
    if (s->plan.pillars) growth_check(s, v);
}

static uint32_t holders(const struct storm *s)
{
    uint32_t count = 0;
    for (rank_t v = 0; v < STORM_NODES; v++) count += holds(async_at(s, v));
    return count;
}

void async_look_at_rest(struct storm *s, rank_t v)
{
    if (holders(s) > 1) storm_fail(s, "%u nodes hold the model at once", holders(s));
    growth_check(s, v);
}

const char *async_unrest(struct storm *s)
{
    uint64_t term = async_at(s, 0)->term;
    if (holders(s) != 1) return "not one node holds the model";
    for (rank_t v = 1; v < STORM_NODES; v++)
        if (async_at(s, v)->term != term) return "nodes obey different holders";
    for (rank_t v = 0; v < STORM_NODES; v++)
        if (async_at(s, v)->report.steps <= s->checkers.at_heal_steps[v] + 10) return "a node does not step";
    return NULL;
}

rank_t async_pillar(const struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++)
        if (holds(async_at(s, v)) && async_at(s, v)->term >= s->checkers.holder_term) return v;
    return RANK_NONE;
}

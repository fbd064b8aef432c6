/* What must hold for which method in a storm. A method without a line here cannot be stormed. */
#include <string.h>

#include "agent/node/internal.h"
#include "algo/def/internal.h"
#include "algo/hsgd/internal.h"
#include "tests/sim/laws.h"
#include "tests/sim/storm.h"

/* -- walk -------------------------------------------------------------------------------------- */

static uint32_t walkers(const struct storm *s)
{
    uint32_t count = 0;
    for (rank_t v = 0; v < STORM_NODES; v++) count += simulation_node(s->sim, v)->job.running;
    return count;
}

static uint32_t models_walking(const struct storm *s)
{
    return choice_integer(&s->algorithm_choice, "walks");
}

static void walk_look_at_rest(struct storm *s, rank_t v)
{
    (void)v;
    if (walkers(s) > models_walking(s))
        storm_fail(s, "%u nodes train %u walking models at once", walkers(s), models_walking(s));
}

static const char *walk_unrest(struct storm *s)
{
    return walkers(s) > models_walking(s) ? "several nodes train the walking model" : NULL;
}

/* -- averages of everybody --------------------------------------------------------------------- */

static const struct algo *algo_at(const struct storm *s, rank_t v)
{
    struct node *n = simulation_node(s->sim, v);
    return n != NULL ? node_algo(n) : NULL;
}

/* The first node for which `stands` holds, beginning with another one each time. */
static rank_t somebody(const struct storm *s, bool (*stands)(const struct algo *a))
{
    for (rank_t i = 0; i < STORM_NODES; i++) {
        rank_t v = (rank_t)((s->tally->events + i) % STORM_NODES);
        if (algo_at(s, v) != NULL && stands(algo_at(s, v))) return v;
    }
    return RANK_NONE;
}

static bool sums_in_a_ring(const struct algo *a)
{
    return allreduce_waiting(((const struct def *)a)->ring);
}

static rank_t ring_pillar(const struct storm *s)
{
    return somebody(s, sums_in_a_ring);
}

/* In the midst of an average of everybody it stands for a part of it in its group. */
static bool aggregates(const struct algo *a)
{
    const struct hsgd *h = (const struct hsgd *)a;
    return h->resting && h->due == 0;
}

static rank_t hsgd_pillar(const struct storm *s)
{
    return somebody(s, aggregates);
}

/* -- the table --------------------------------------------------------------------------------- */

static const struct law laws[] = {
    {.method = "digest",
     .share = LAW_SHARE_WEIGHT,
     .look = digest_look,
     .look_at_rest = digest_look_at_rest,
     .unrest = digest_unrest,
     .disagreement = digest_disagreement,
     .quiet = digest_quiet,
     .end = digest_end},
    {.method = "walk",
     .share = LAW_SHARE_ONE,
     .one_trains = true,
     .look_at_rest = walk_look_at_rest,
     .unrest = walk_unrest},
    {.method = "gossip", .share = LAW_SHARE_EQUAL},
    {.method = "local", .share = LAW_SHARE_EQUAL},
    {.method = "hsgd", .share = LAW_SHARE_EQUAL, .pillar = hsgd_pillar},
    {.method = "delicoco", .share = LAW_SHARE_EQUAL, .look_at_rest = copies_look_at_rest, .end = copies_end},
    {.method = "choco", .share = LAW_SHARE_EQUAL, .look_at_rest = copies_look_at_rest, .end = copies_end},
    {.method = "dgd", .share = LAW_SHARE_EQUAL, .look_at_rest = copies_look_at_rest, .end = copies_end},
    {.method = "async",
     .share = LAW_SHARE_BATCH,
     .one_trains = true,
     .look = async_look,
     .look_at_rest = async_look_at_rest,
     .unrest = async_unrest,
     .pillar = async_pillar},
    {.method = "allreduce",
     .share = LAW_SHARE_EQUAL,
     .same_bits = true,
     .disagreement = residuals_disagreement,
     .pillar = ring_pillar},
    {.method = "def",
     .share = LAW_SHARE_EQUAL,
     .same_bits = true,
     .kept_back = true,
     .disagreement = residuals_disagreement,
     .pillar = ring_pillar},
    {.method = "def-a",
     .share = LAW_SHARE_EQUAL,
     .same_bits = true,
     .kept_back = true,
     .disagreement = residuals_disagreement,
     .pillar = ring_pillar},
    {.method = "ef-sgd",
     .share = LAW_SHARE_EQUAL,
     .same_bits = true,
     .kept_back = true,
     .disagreement = residuals_disagreement,
     .pillar = ring_pillar},
    {.method = "step-ahead",
     .share = LAW_SHARE_EQUAL,
     .same_bits = true,
     .kept_back = true,
     .disagreement = residuals_disagreement,
     .pillar = ring_pillar},
    {.method = "ef21",
     .share = LAW_SHARE_EQUAL,
     .same_bits = true,
     .estimates = true,
     .disagreement = estimates_disagreement,
     .pillar = ring_pillar},
};

const struct law *law_of(const char *method)
{
    for (size_t i = 0; i < sizeof laws / sizeof laws[0]; i++)
        if (strcmp(laws[i].method, method) == 0) return &laws[i];
    return NULL;
}

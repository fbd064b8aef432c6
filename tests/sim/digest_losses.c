/* Where DIGEST's work gets lost in a storm: every drop of what the cluster holds of a node's work that was handed
 * over, by cause. Node v's own reference holds all of v's work that its present lineage of plans counts on, so
 * while v lives its account is what its reference holds of its own coordinate; while it is dead or has not
 * synced yet, the best copy at a living node is. */
#include <math.h>

#include "tests/sim/laws.h"
#include "tests/sim/storm.h"

static const char *const loss_name[DIGEST_LOSS_COUNT] = {
    [DIGEST_LOSS_PLAN_LOSS] = "plans after a loss",
    [DIGEST_LOSS_PLAN_RESTART] = "plans after a restart",
    [DIGEST_LOSS_PLAN_TOKEN] = "plans after a lost token",
    [DIGEST_LOSS_MERGE] = "merges of parts",
    [DIGEST_LOSS_ANEW] = "tokens made anew",
    [DIGEST_LOSS_DIED] = "died with the node",
    [DIGEST_LOSS_AWAY] = "while the node was away",
};

const char *digest_loss_name(enum digest_loss cause)
{
    return loss_name[cause];
}

/* Steps of u's work in the best living copy. */
static double best_copy(const struct storm *s, rank_t u, rank_t except)
{
    double best = 0;
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct digest *d = v == except ? NULL : storm_digest(s, v);
        if (d != NULL) best = fmax(best, (double)blob_floats(d->reference)[u] / s->weight[u]);
    }
    return best;
}

static void book(struct storm *s, rank_t v, enum digest_loss cause, double held)
{
    struct digest_account *a = &s->checkers.account[v];
    double handed = (double)storm_handed_over(s, v);
    double lost = (handed - a->handed) - (held - a->held);
    if (fabs(lost) > 1e-3) s->tally->lost[cause] += s->weight[v] * lost;
    a->held = held;
    a->handed = handed;
}

/* How the present plan of node v came about; remembered by the node that proposed it. */
static enum digest_loss cause_of_plan(struct storm *s, rank_t v, const struct digest *d)
{
    const struct digest_account *a = &s->checkers.account[v];
    uint8_t *known = &s->checkers.plan_cause[d->plan.epoch.number % CHECKERS_PLANS][d->plan.epoch.proposer];
    if (d->plan.epoch.proposer == v)
        *known = a->offered                                  ? DIGEST_LOSS_MERGE
                 : d->counters.tokens_regenerated != a->anew ? DIGEST_LOSS_PLAN_TOKEN
                 : a->forced                                 ? DIGEST_LOSS_PLAN_RESTART
                                                             : DIGEST_LOSS_PLAN_LOSS;
    return (enum digest_loss) * known;
}

/* Steps of v's own work: what its aggregate holds, and what is to be handed over once more. */
static double own_work(const struct storm *s, rank_t v, const struct digest *d)
{
    double held = (double)blob_floats(d->reference)[v] / s->weight[v];
    for (uint32_t i = 0; i < d->handover_count; i++)
        if (d->handover[i].owed) held += (double)d->handover[i].progress[v];
    return held;
}

void digest_losses_look(struct storm *s, rank_t v)
{
    const struct digest *d = storm_digest(s, v);
    struct digest_account *a = &s->checkers.account[v];
    double held = own_work(s, v, d);
    bool planned = epoch_compare(&d->plan.epoch, &a->epoch) != 0;
    enum digest_loss cause = planned ? cause_of_plan(s, v, d) : DIGEST_LOSS_ANEW;
    if (!a->away || !digest_plan_blank(d)) {
        if (a->away) cause = DIGEST_LOSS_AWAY;
        a->away = false;
        book(s, v, cause, held);
    }
    a->epoch = d->plan.epoch;
    a->offered = d->offer != NULL;
    a->forced = d->forced;
    a->anew = d->counters.tokens_regenerated;
}

void digest_losses_crash(struct storm *s, rank_t v)
{
    struct digest_account *a = &s->checkers.account[v];
    if (!a->away) book(s, v, DIGEST_LOSS_DIED, fmin(a->held, best_copy(s, v, v)));
    a->away = true;
    a->offered = a->forced = false;
    a->anew = 0;
    a->epoch = (struct epoch){0, 0};
}

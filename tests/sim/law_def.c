/* The laws of error feedback over the all-reduce: once there is no more drift, all that was learnt comes out of
 * the residuals, and only then does agreement mean that nothing is on its way. */
#include "algo/def/internal.h"
#include "tests/sim/laws.h"
#include "tests/sim/storm.h"

const char *residuals_disagreement(struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct def *d = (const struct def *)node_algo(simulation_node(s->sim, v));
        for (size_t i = 0; i < d->dim; i++)
            if (d->e[i] != 0) return "a residual is not handed over";
    }
    return NULL;
}

/* EF21: what is known of each worker's update comes to zero with it, so that x rests. */
const char *estimates_disagreement(struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++) {
        const struct known *k = ((const struct def *)node_algo(simulation_node(s->sim, v)))->known;
        for (size_t i = 0; i < STORM_NODES; i++)
            if (k->own[i] != 0 || k->mean[i] != 0) return "an update is known that is none";
    }
    return NULL;
}

/* The law of error feedback over the all-reduce: once there is no more drift, all that was learnt comes out of the
 * residuals, and only then does agreement mean that nothing is on its way. */
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

/* What the models of a simulated cluster amount to: their weighted average, the one that counts, how far apart. */
#include <math.h>

#include "agent/simulation/internal.h"
#include "algo/vec.h"

/* Of the place that node v has; 0 for a node without. */
static double weight_of(const struct simulation *s, uint32_t v)
{
    if (!s->setup.dynamic) return s->setup.weight != NULL ? s->setup.weight[v] : 1.0;
    struct node_report r;
    node_report(s->each[v].node, &r);
    if (r.rank == RANK_NONE) return 0;
    return s->setup.weight != NULL ? s->setup.weight[r.rank] : 1.0;
}

void simulation_average(const struct simulation *s, float *x)
{
    size_t dim = s->setup.dim;
    double total = 0;
    for (size_t i = 0; i < dim; i++) s->sum[i] = 0;
    for (uint32_t v = 0; v < s->setup.node_count; v++) {
        if (s->each[v].node == NULL) continue;
        double w = weight_of(s, v);
        const float *model = node_model(s->each[v].node);
        for (size_t i = 0; i < dim; i++) s->sum[i] += w * (double)model[i];
        total += w;
    }
    for (size_t i = 0; i < dim; i++) x[i] = total > 0 ? (float)(s->sum[i] / total) : s->setup.x0[i];
}

void simulation_model(const struct simulation *s, float *x)
{
    const struct node *newest = NULL;
    uint64_t version = 0;
    for (uint32_t v = 0; v < s->setup.node_count && s->setup.algo->eval == ALGO_EVAL_NEWEST; v++) {
        struct node_report r;
        if (s->each[v].node == NULL) continue;
        node_report(s->each[v].node, &r);
        if (newest != NULL && r.algo.version <= version) continue;
        newest = s->each[v].node;
        version = r.algo.version;
    }
    if (newest != NULL)
        vec_copy(s->setup.dim, node_model(newest), x);
    else
        simulation_average(s, x);
}

double simulation_consensus_distance(const struct simulation *s)
{
    if (s->alive == 0) return 0;
    simulation_average(s, s->mean);
    double squares = 0;
    for (uint32_t v = 0; v < s->setup.node_count; v++) {
        if (s->each[v].node == NULL) continue;
        double distance = vec_distance2(s->setup.dim, node_model(s->each[v].node), s->mean);
        squares += distance * distance;
    }
    double norm = vec_norm2(s->setup.dim, s->mean);
    double spread = sqrt(squares / s->alive);
    return spread == 0 ? 0 : spread / norm; /* infinite when the average is 0 and the nodes are not */
}

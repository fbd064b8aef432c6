/* A throw-away algorithm finds errors that only its maker knows: streams that form a cycle, a group size that
 * does not divide the nodes. */
#include "agent/experiment/algorithm_check.h"

#include <math.h>

#include "agent/experiment/site.h"
#include "algo/topology/topology.h"

int algorithm_check(const struct experiment *e, double *gap, struct err_text *why)
{
    const struct config *c = e->config;
    struct graph graph;
    int err = topology_build(&c->topology, c->nodes, c->seed, &graph, why);
    if (err != 0) return err;
    struct algo_config config = {
        .node_count = c->nodes,
        .graph = &graph,
        .weight = e->weight,
        .dim = e->dim,
        .x0 = e->x0,
        .seed = c->seed,
        .patience_us = 1000000,
        .site = e->site,
        .compress = c->algorithm->compresses ? &c->compress : NULL,
        .tensor = e->tensor,
        .tensor_count = e->tensor_count,
    };
    struct algo *algo = NULL;
    /* An agent learns where the others belong when it meets them. */
    bool later = c->command == COMMAND_AGENT && site_asked(c) == SITE_OF_TAGS;
    if (!later) err = algo_create(c->algorithm, &config, &c->algorithm_params, &algo, why);
    if (err == 0 && algo != NULL) c->algorithm->destroy(algo);
    if (err == 0 && gap != NULL)
        *gap = graph.edge_count > 0 || c->nodes == 1 ? spectral_gap(&graph) : (double)NAN;
    graph_deinit(&graph);
    return err;
}

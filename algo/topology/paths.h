/* Dijkstra's search with memory that is kept between searches. Private to the topology and stream files. */
#ifndef GADABOUT_ALGO_TOPOLOGY_PATHS_H
#define GADABOUT_ALGO_TOPOLOGY_PATHS_H

#include <stdint.h>

#include "algo/topology/topology.h"

struct path_search {
    const struct graph *graph;
    const uint8_t *alive; /* NULL = all */
    double *dist;         /* (n) final for the nodes in order[]; an upper bound or INFINITY elsewhere */
    uint32_t *parent;     /* (n) */
    uint32_t *order;      /* nodes by the order in which they were settled */
    uint32_t settled_count;
    uint32_t *heap, *place; /* binary heap by (dist, rank) and where in it each node is */
    uint32_t heap_count;
};

void paths_init(struct path_search *s, const struct graph *g, const uint8_t *alive);
void paths_deinit(struct path_search *s);

/* Searches from an alive source; gives up before settling a node at a distance >= limit (INFINITY =
 * never). Returns the greatest settled distance, or the first one at or over the limit. */
double paths_run(struct path_search *s, rank_t source, double limit);

#endif

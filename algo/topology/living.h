/* A mixing graph whose places are not all held: what is left of it, healed.
 *
 * Each connected group of vacant vertices is bridged by a cycle through its living border, the living vertices with
 * an edge into it, in ascending rank: of two one edge, of one none. A path through the group goes from border to
 * border, so what was connected stays so; a ring stays a ring, a star whose hub is gone becomes a cycle. Each group
 * gives a vertex at most two edges, and has taken at least one from it.
 *
 * A function of base and vacant alone: equal for all nodes that know the same members, however they came to. */
#ifndef GADABOUT_ALGO_TOPOLOGY_LIVING_H
#define GADABOUT_ALGO_TOPOLOGY_LIVING_H

#include <stdint.h>

#include "algo/topology/topology.h"

struct living_edge {
    rank_t a, b;  /* a < b */
    double delay; /* of the least edges from a and b into the group */
};

/* The edges that vacancies add: none is in base, none twice, ascending by (a, b). vacant (node_count): != 0 where
 * nobody is. Returns the count; *edge is owned by the caller (free), NULL when there are none. Costs the degrees of
 * the vacant vertices and one pass over all. */
uint32_t living_edges(const struct graph *base, const uint8_t *vacant, struct living_edge **edge);

/* The whole graph: base without the vacant vertices' edges, with these. Vacant vertices stay in it, alone. It is
 * the caller's (graph_deinit). */
void living_graph(const struct graph *base, const uint8_t *vacant, struct graph *out);

#endif

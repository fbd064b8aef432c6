/* What the generators of table.c share. Private to the topology files. */
#ifndef GADABOUT_ALGO_TOPOLOGY_MAKE_H
#define GADABOUT_ALGO_TOPOLOGY_MAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "algo/topology/topology.h"

struct edge_list {
    uint32_t (*pair)[2]; /* owned */
    double *delay;       /* owned; NULL = 1 everywhere */
    size_t count, capacity;
};

/* Appends; the caller keeps count below EDGE_COUNT_MAX. */
void edges_add(struct edge_list *list, uint32_t a, uint32_t b);
void edges_deinit(struct edge_list *list);
bool edges_connect(const struct edge_list *list, uint32_t node_count); /* all nodes into one part? */

/* As graph_from_edges, of pairs that are sound (not checked), connected or not. */
void graph_rows(uint32_t node_count, const uint32_t (*pair)[2], const double *delay, size_t pair_count,
                struct graph *out);

/* Fill the (empty) list. Errors as topology_build. */
int edges_draw_regular(uint32_t node_count, uint32_t degree, uint64_t seed, struct edge_list *out,
                       struct err_text *why);
int edges_draw_er(uint32_t node_count, double p, uint64_t seed, struct edge_list *out, struct err_text *why);
int edges_read(const char *path, uint32_t node_count, struct edge_list *out, struct err_text *why);

#endif

/* Mixing graphs: generators, Metropolis-Hastings weights, spectral gap.
 *
 * A graph is undirected, connected, without loops or multiple edges, and a pure function of (choice,
 * node_count, seed): every node computes the same one. Neighbours are listed in ascending rank. The exception is
 * `overlay`, which has no edges: there the members choose each other (net/overlay/overlay.h). For what is left of a
 * graph when places are vacant see living.h. */
#ifndef GADABOUT_ALGO_TOPOLOGY_TOPOLOGY_H
#define GADABOUT_ALGO_TOPOLOGY_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/choice.h"
#include "base/err.h"
#include "base/ids.h"

struct graph {
    uint32_t node_count;
    uint32_t edge_count; /* undirected */
    uint32_t *offset;    /* (node_count + 1): neighbours of v are neighbour[offset[v] .. offset[v+1]) */
    uint32_t *neighbour; /* (2 * edge_count) ascending within each node */
    double *delay;       /* (2 * edge_count) mean link delay, symmetric, same order; 1 everywhere
                             * unless the file or the simulator says otherwise */
};

extern const struct choice_spec topology_table[]; /* ring torus complete star regular er exp overlay file */
extern const size_t topology_table_count;

/* Builds the graph. er and regular are redrawn from the seed until connected (bounded tries).
 * Errors: ERR_USAGE (does not fit node_count: regular d >= n or n*d odd, torus of a prime, ...), ERR_IO,
 * ERR_FORMAT (file: `a b [mean_delay]` per line, '#' comments; the line is named). */
int topology_build(const struct choice *topology, uint32_t node_count, uint64_t seed, struct graph *out,
                   struct err_text *why);

/* Builds from an edge list of pair_count pairs (a, b); duplicates are merged (the first delay
 * counts); delay (may be NULL) per pair. Errors: ERR_USAGE for a loop, a rank out of range, or an
 * unconnected graph; ERR_LIMIT for more than EDGE_COUNT_MAX pairs. *out is empty then. */
int graph_from_edges(uint32_t node_count, const uint32_t (*pair)[2], const double *delay, size_t pair_count,
                     struct graph *out, struct err_text *why);
void graph_deinit(struct graph *g);

static inline uint32_t graph_degree(const struct graph *g, rank_t v)
{
    return g->offset[v + 1] - g->offset[v];
}

bool graph_has_edge(const struct graph *g, rank_t a, rank_t b);
/* Position of edge a-b in neighbour[]/delay[]; UINT32_MAX when there is none. */
uint32_t graph_edge_index(const struct graph *g, rank_t a, rank_t b);

/* Metropolis-Hastings mixing weight W_ab = 1 / (1 + max(deg a, deg b)) for an edge; W_aa = 1 - sum.
 * Symmetric and doubly stochastic. (Xiao, Boyd 2004; Boyd et al. 2004.) */
double metropolis_weight(const struct graph *g, rank_t a, rank_t b);

/* 1 - max(|lambda_2|, |lambda_n|) of the Metropolis-Hastings matrix, by the Lanczos process on the
 * space orthogonal to the constant vector; absolute error below 1e-6 for gaps above 1e-4. 1 for a lone
 * node. */
double spectral_gap(const struct graph *g);

/* ||I - W||_2 = 1 - lambda_n of the same matrix, likewise; 0 for a lone node. */
double spectral_beta(const struct graph *g);

/* All mean-delay shortest paths from `source` restricted to nodes with alive[v] != 0 (alive may be
 * NULL = all): dist (node_count, INFINITY where unreachable), parent (node_count, RANK_NONE at source
 * and unreachable nodes). Ties go to the lower rank. */
void shortest_paths(const struct graph *g, const uint8_t *alive, rank_t source, double *dist,
                    uint32_t *parent);

#endif

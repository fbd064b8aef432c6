/* Streams of multi-stream DIGEST: node subsets cut out of a shortest-path tree (docs/algorithms.md).
 *
 * The bipartite incidence graph node-stream must be connected and acyclic: with a cycle, updates are
 * counted again and again and the model runs away. streams_check decides it by union-find. */
#ifndef GADABOUT_ALGO_STREAMS_STREAMS_H
#define GADABOUT_ALGO_STREAMS_STREAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "algo/topology/topology.h"

enum stream_kind {
    STREAMS_SINGLE, /* one stream over all nodes */
    STREAMS_PATH,   /* heavy-path decomposition: streams join like rivers */
    STREAMS_STAR,   /* each internal node with its children */
    STREAMS_BRANCH, /* each child subtree of the centre, with the centre */
    STREAMS_EDGE,   /* each tree edge its own stream */
};

struct stream_set {
    uint32_t count;
    uint32_t *offset; /* (count + 1): members of stream s are member[offset[s] .. offset[s+1]) */
    uint32_t *member; /* ranks; ascending within a stream */
    rank_t centre;    /* root of the tree; RANK_NONE for streams given by the caller */
};

/* Decomposes the shortest-path tree (by mean delay) over the nodes with alive[v] != 0 (alive may be NULL
 * = all) that is rooted at the centre of the largest connected part (ties: the part with the lowest
 * rank; the centre minimises the greatest distance, ties: lowest rank). Nodes outside that part are in
 * no stream. A lone node is one stream of one. Deterministic: every node computes the same set. */
void streams_build(enum stream_kind kind, const struct graph *g, const uint8_t *alive,
                   struct stream_set *out);

/* Reads streams from a text file: one stream a line, ranks separated by blanks or commas, '#' comments. */
int streams_read(const char *path, uint32_t node_count, struct stream_set *out, struct err_text *why);

/* ERR_USAGE with why when the set has a cycle ("streams 2 and 5 close a cycle through nodes 3 and 7: an
 * update would be counted twice; remove one of them"), is not connected, misses a node that is alive, or
 * a stream does not induce a connected subgraph of g. */
int streams_check(const struct stream_set *s, const struct graph *g, const uint8_t *alive,
                  struct err_text *why);

bool stream_has(const struct stream_set *s, uint32_t stream, rank_t v);
void streams_deinit(struct stream_set *s);

#endif

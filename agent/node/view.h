/* What a node's links look like from outside, for those who show it. Reading changes nothing. */
#ifndef GADABOUT_AGENT_NODE_VIEW_H
#define GADABOUT_AGENT_NODE_VIEW_H

#include "agent/node/node.h"

struct node_link_view {
    struct link_id link;
    node_id peer;
    uint64_t boot;
    rank_t rank;       /* its place; RANK_NONE: it has none undisputed, or is no member */
    bool dialled;      /* by us */
    bool neighbour;    /* the algorithm has it */
    uint64_t heard_us; /* since the last byte from there */
    struct link_stats stats;
    char address[ADDRESS_TEXT_MAX]; /* "" = it only dials */
};

/* Fills at most `max` views of links that are up, oldest first. Returns how many. */
uint32_t node_link_views(const struct node *n, struct node_link_view *out, uint32_t max);

#endif

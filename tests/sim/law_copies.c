/* What must hold for methods that send differences to a public copy (delicoco, choco, dgd), with every
 * compressor: once a neighbour has added all deltas that a node has made, its copy and the node's own are the
 * same bits. And at the end every pair is in step: the comparison did happen. */
#include <string.h>

#include "agent/node/internal.h"
#include "algo/delicoco/internal.h"
#include "tests/sim/laws.h"
#include "tests/sim/storm.h"

static const struct delicoco *delicoco_at(const struct storm *s, rank_t v)
{
    return (const struct delicoco *)node_algo(simulation_node(s->sim, v));
}

/* Compares node v's public copy with what its neighbours hold; returns how many hold all of it. */
static uint32_t copies_compare(struct storm *s, rank_t v)
{
    const struct delicoco *d = delicoco_at(s, v);
    uint32_t compared = 0;
    for (uint32_t i = 0; i < d->degree; i++) {
        const struct delicoco *other = delicoco_at(s, d->neighbour[i]);
        uint32_t place = graph_edge_index(other->graph, other->rank, v) - other->graph->offset[other->rank];
        const struct delicoco_peer *p = &other->peer[place];
        if (!p->up || !p->known || p->early != NULL || p->version != d->version) continue;
        compared++;
        if (memcmp(p->hat, d->hat, d->dim * sizeof *d->hat) != 0)
            storm_fail(s, "node %u and node %u hold unequal copies of the first", v, other->rank);
    }
    return compared;
}

void copies_look_at_rest(struct storm *s, rank_t v)
{
    copies_compare(s, v);
}

void copies_end(struct storm *s)
{
    uint32_t compared = 0;
    for (rank_t v = 0; v < STORM_NODES; v++) compared += copies_compare(s, v);
    if (compared == 0) storm_fail(s, "no neighbour holds all that a node has sent");
}

/* Shared by simulation.c (the cluster), simulation/world.c (the network it lives in), simulation/relayed.c (nodes with
 * a relay) and simulation/models.c (what its models amount to). Not for others. */
#ifndef GADABOUT_AGENT_SIMULATION_INTERNAL_H
#define GADABOUT_AGENT_SIMULATION_INTERNAL_H

#include "agent/simulation/simulation.h"

struct simulated {
    struct simulation *simulation;
    uint32_t v;
    node_id id;
    uint32_t lives;
    struct simulation_life life; /* dynamic */
    struct node *node;           /* NULL while crashed */
    struct relay *relay; /* NULL when there are none; else node and transport are above and below it */
    struct transport *transport; /* the node's; NULL while crashed */
    uint64_t boot;
    bool finished;
    char seed_address[32];
    const char *seeds[1];
};

struct simulation {
    struct simulation_setup setup;
    struct sim_world *world;
    struct graph graph;
    struct member *member;  /* (node_count) everybody; NULL when dynamic */
    struct simulated *each; /* (node_count) */
    double *slowness;       /* (node_count) */
    uint64_t patience_us, silence_us, redial_us;
    uint32_t alive, finished;
    struct simulation_totals gone;
    struct err_text failure;
    bool failed;
    struct trace_hash *hash;
    double *sum; /* (dim) scratch of averages */
    float *mean; /* (dim) scratch */
};

/* -- simulation/world.c */

/* Makes s->world, s->hash, and the times; writes the mean delays of links into s->graph, unless dynamic. Returns 0, or
 * an error of the speeds with why. */
int simulated_world(struct simulation *s, struct err_text *why);

/* -- simulation/relayed.c */
void simulated_relay(struct simulated *e, const struct transport_config *transport,
                     const struct transport_sink *transport_sink, const struct host_sink *host_sink);

#endif

/* The world of a simulated cluster: how fast its nodes are, how long its links are, and the times that follow. */
#include <string.h>

#include "agent/simulation/internal.h"

#define PATIENCE_FACTOR 60.0 /* times a step and a transfer */
#define SILENCE_SHARE 6u     /* of patience: links are given up sooner than peers */
#define REDIAL_SHARE 30u
#define OVERLAY_SILENCE_US 6000000u /* at most: its members know each other by SWIM, whose times are these */
#define OVERLAY_REDIAL_US 500000u

/* Of the slowest node: the others wait for it. */
static double step_mean_s(const struct simulation *s)
{
    double slowest = 1;
    for (uint32_t v = 0; v < s->setup.node_count; v++)
        if (s->slowness[v] > slowest) slowest = s->slowness[v];
    return slowest * sim_step_time_mean_s(s->setup.step_time);
}

/* Mean delay of the links that there are; any two may have one in an overlay: of one round through all. */
static double delay_mean_s(const struct simulation *s, const struct sim_world *draft)
{
    double sum = 0;
    uint32_t ends = 2 * s->graph.edge_count, n = s->setup.node_count;
    for (uint32_t i = 0; i < ends; i++) sum += s->graph.delay[i];
    if (ends > 0) return sum / ends;
    for (uint32_t v = 1; v < n; v++) sum += sim_link_mean_s(draft, v - 1, v);
    return n > 1 ? sum / (n - 1) : 0;
}

static uint64_t patience_choose(const struct simulation *s, const struct sim_world *draft)
{
    if (s->setup.patience_us > 0) return s->setup.patience_us;
    double delay_s = delay_mean_s(s, draft);
    if (strcmp(s->setup.latency->spec->name, "transfer") == 0)
        delay_s += choice_number(s->setup.latency, "shift");
    double patience_us = PATIENCE_FACTOR * 1e6 * (step_mean_s(s) + delay_s);
    return patience_us < 1000 ? 1000 : (uint64_t)patience_us;
}

static int speeds_choose(struct simulation *s, struct err_text *why)
{
    const struct simulation_setup *setup = &s->setup;
    for (uint32_t v = 0; v < setup->node_count; v++) s->slowness[v] = 1;
    if (setup->speeds == NULL) return 0;
    return sim_speeds(setup->speeds, setup->node_count, setup->seed, s->slowness, why);
}

static void world_observe(void *ctx, const void *bytes, size_t size)
{
    trace_hash_add(ctx, bytes, size);
}

int simulated_world(struct simulation *s, struct err_text *why)
{
    const struct simulation_setup *setup = &s->setup;
    int err = speeds_choose(s, why);
    if (err != 0) return err;
    struct sim_options options = {
        .seed = setup->seed,
        .node_count = setup->node_count,
        .latency = setup->latency,
        .step_time = setup->step_time,
        .slowness = s->slowness,
        .bandwidth_bytes_s = setup->bandwidth_bytes_s,
        .trace = setup->trace,
    };
    /* The mean delays are a function of seed and link alone, and patience one of the delays: a first world
     * tells them, the second one is the one to live in. */
    options.link_silence_us = options.redial_us = 1;
    struct sim_world *draft = sim_world_new(&options);
    for (uint32_t v = 0; v < s->graph.node_count && !setup->dynamic; v++) { /* a place is no node then */
        for (uint32_t i = s->graph.offset[v]; i < s->graph.offset[v + 1]; i++)
            s->graph.delay[i] = sim_link_mean_s(draft, v, s->graph.neighbour[i]);
    }
    s->patience_us = patience_choose(s, draft);
    sim_world_free(draft);
    s->silence_us = s->patience_us / SILENCE_SHARE;
    s->redial_us = s->patience_us / REDIAL_SHARE;
    if (setup->overlay && s->silence_us > OVERLAY_SILENCE_US) s->silence_us = OVERLAY_SILENCE_US;
    if (setup->overlay && s->redial_us > OVERLAY_REDIAL_US) s->redial_us = OVERLAY_REDIAL_US;
    options.link_silence_us = s->silence_us;
    options.redial_us = s->redial_us;
    s->world = sim_world_new(&options);
    s->hash = trace_hash_new();
    sim_observe(s->world, world_observe, s->hash);
    return 0;
}

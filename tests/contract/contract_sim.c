/* The world of the simulator for the contract suite: links of about 1 ms, faults of sim.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "net/sim/sim.h"
#include "tests/contract/transport_contract.h"

struct contract_world {
    struct sim_world *sim;
    struct choice latency, step_time;
};

static struct contract_world *world_open(uint32_t endpoint_count, uint64_t seed)
{
    struct contract_world *w = mem_new_zero(1, sizeof *w);
    struct err_text why;
    CHECK(choice_parse(latency_table, latency_table_count, "--latency", "uniform:low=500us,high=1500us",
                       &w->latency, &why) == 0);
    CHECK(choice_parse(step_time_table, step_time_table_count, "--step-time", "constant", &w->step_time,
                       &why) == 0);
    struct sim_options options = {.seed = seed,
                                  .node_count = endpoint_count,
                                  .latency = &w->latency,
                                  .step_time = &w->step_time,
                                  .link_silence_us = CONTRACT_SILENCE_US,
                                  .redial_us = CONTRACT_REDIAL_US};
    w->sim = sim_world_new(&options);
    return w;
}

static struct transport *world_start(struct contract_world *w, uint32_t v,
                                     const struct transport_config *config, const struct transport_sink *sink,
                                     char address[ADDRESS_TEXT_MAX])
{
    if (!sim_alive(w->sim, v)) sim_restart(w->sim, v);
    snprintf(address, ADDRESS_TEXT_MAX, "sim:%u", v);
    return sim_transport(w->sim, v, config, sink);
}

static bool world_step(struct contract_world *w, uint64_t limit_us)
{
    return sim_step(w->sim, limit_us);
}

static uint64_t world_now_us(const struct contract_world *w)
{
    return sim_now_us(w->sim);
}

static void world_release(struct contract_world *w, uint32_t v)
{
    CHECK(sim_alive(w->sim, v)); /* a closed transport stays until it is replaced or the world ends */
}

static void world_crash(struct contract_world *w, uint32_t v)
{
    sim_crash(w->sim, v, false);
}

static void world_pause(struct contract_world *w, uint32_t v)
{
    sim_pause(w->sim, v);
}

static void world_resume(struct contract_world *w, uint32_t v)
{
    sim_resume(w->sim, v);
}

static void world_reset(struct contract_world *w, uint32_t a, uint32_t b)
{
    sim_reset_link(w->sim, a, b);
}

static void world_close(struct contract_world *w)
{
    sim_world_free(w->sim); /* a leak shows in the sanitizer build */
    free(w);
}

static struct host *world_host(struct contract_world *w, uint32_t v, const struct host_sink *sink)
{
    return sim_host(w->sim, v, sink);
}

const struct contract_factory contract_sim = {
    .name = "sim",
    .open = world_open,
    .start = world_start,
    .host = world_host,
    .step = world_step,
    .now_us = world_now_us,
    .release = world_release,
    .crash = world_crash,
    .pause = world_pause,
    .resume = world_resume,
    .reset = world_reset,
    .close = world_close,
};

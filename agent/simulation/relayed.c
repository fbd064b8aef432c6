/* Simulated nodes with a relay: as in the agent it is between node and transport, and between node and host. */
#include "agent/simulation/internal.h"
#include "base/check.h"

void simulated_relay(struct simulated *e, const struct transport_config *transport,
                     const struct transport_sink *transport_sink, const struct host_sink *host_sink)
{
    struct sim_world *w = e->simulation->world;
    struct relay_config config = {
        .id = transport->id,
        .boot = transport->boot,
        .seed = transport->seed,
        .bytes_s = e->simulation->setup.relay_bytes_s,
        .answer_us = transport->silence_us,
        .redial_min_us = transport->redial_min_us,
        .redial_max_us = transport->redial_max_us,
        .trace = transport->trace,
    };
    e->relay = relay_new(&config, transport_sink, host_sink);
    struct transport_sink inner_sink = relay_inner_sink(e->relay);
    struct host_sink inner_host_sink = relay_inner_host_sink(e->relay);
    relay_attach_transport(e->relay, sim_transport(w, e->v, transport, &inner_sink));
    relay_attach_host(e->relay, sim_host(w, e->v, &inner_host_sink));
    e->transport = relay_transport(e->relay);
    node_attach(e->node, e->transport, relay_host(e->relay));
}

struct relay *simulation_relay(const struct simulation *s, uint32_t v)
{
    CHECK(v < s->setup.node_count);
    return s->each[v].relay;
}

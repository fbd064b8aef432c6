/* The transport of an agent: the relay's, over TCP. What it tells goes to the node, and to whoever else wants to know:
 * the log of events, the search for others. */
#include <string.h>

#include "agent/daemon/daemon.h"
#include "agent/report/events.h"
#include "net/uv/uv.h"

static void on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct agent *a = ctx;
    events_link_up(a->events, link, peer);
    a->node_sink.on_up(a->node_sink.ctx, link, peer);
    agent_join_up(a, peer);
}

static void on_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct agent *a = ctx;
    events_link_down(a->events, link, why);
    a->node_sink.on_down(a->node_sink.ctx, link, why);
    agent_join_down(a);
}

static void on_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body)
{
    struct agent *a = ctx;
    a->node_sink.on_message(a->node_sink.ctx, link, lane, head, size, body);
}

static void on_writable(void *ctx, struct link_id link)
{
    struct agent *a = ctx;
    a->node_sink.on_writable(a->node_sink.ctx, link);
}

static void on_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct agent *a = ctx;
    if (agent_join_refused(a, address, err, reason)) return; /* it says why it ends */
    a->node_sink.on_refused(a->node_sink.ctx, address, err, reason);
}

static void on_unreachable(void *ctx, const char *address, int err)
{
    struct agent *a = ctx;
    if (a->node_sink.on_unreachable != NULL) a->node_sink.on_unreachable(a->node_sink.ctx, address, err);
    agent_join_unreachable(a, address, err);
}

int agent_transport_open(struct agent *a, void (*on_closed)(void *ctx), const struct host_sink *host_sink,
                         struct err_text *why)
{
    struct transport_sink sink = {.ctx = a,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_message = on_message,
                                  .on_writable = on_writable,
                                  .on_refused = on_refused,
                                  .on_unreachable = on_unreachable,
                                  .on_closed = on_closed};
    struct transport_config settings = agent_transport_settings(a);
    struct relay_config relay = agent_relay_settings(a, &settings);
    a->relay = relay_new(&relay, &sink, host_sink);
    struct transport_sink inner_sink = relay_inner_sink(a->relay);
    struct host_sink inner_host_sink = relay_inner_host_sink(a->relay);
    const char *listen = strcmp(a->config->listen, "none") != 0 ? a->config->listen : NULL;
    int err = uv_tcp_new(&a->loop, listen, &settings, &inner_sink, &a->tcp, a->address, why);
    if (err != 0) {
        a->tcp = NULL;
        return err;
    }
    relay_attach_transport(a->relay, a->tcp);
    a->transport = relay_transport(a->relay);
    err = uv_host_new(&a->loop, &inner_host_sink, &a->uv_host, why);
    if (err != 0) {
        a->uv_host = NULL;
        return err;
    }
    relay_attach_host(a->relay, a->uv_host);
    a->host = relay_host(a->relay);
    return 0;
}

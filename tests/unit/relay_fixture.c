#include "tests/unit/relay_fixture.h"

#include <stdio.h>
#include <string.h>

static void on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct member *m = ctx;
    assert_false(m->up[peer->id]); /* at most one link per peer */
    m->up[peer->id] = true;
    m->link[peer->id] = link;
    m->ups++;
}

static void on_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct member *m = ctx;
    for (uint32_t v = 0; v < NODE_MAX; v++) {
        if (!m->up[v] || !relay_same(m->link[v], link)) continue;
        m->up[v] = false;
        m->why[v] = why;
        m->downs++;
        return;
    }
    fail_msg("down of a link that was not up");
}

static void on_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body)
{
    struct member *m = ctx;
    (void)link;
    if (m->raw) {
        assert_true(m->heard_count < HEARD_MAX);
        assert_int_equal(relay_frame_parse(head, size, lane, body, &m->heard[m->heard_count++]), 0);
        return;
    }
    m->messages++;
    m->bytes += body != NULL ? body->size : 0;
    m->last_us = sim_now_us(m->world->sim);
}

static void on_writable(void *ctx, struct link_id link)
{
    (void)link;
    ((struct member *)ctx)->writables++;
}

static void on_refused(void *ctx, const char *address, int err, const char *reason)
{
    (void)ctx;
    fail_msg("%s: %d %s", address, err, reason);
}

static void on_unreachable(void *ctx, const char *address, int err)
{
    (void)address;
    assert_int_equal(err, ERR_TIMEOUT);
    ((struct member *)ctx)->unreachables++;
}

static void on_closed(void *ctx)
{
    (void)ctx;
}

static void on_deadline(void *ctx)
{
    (void)ctx;
}

static void member_start(struct world *w, uint32_t v, bool raw, uint64_t rate)
{
    struct member *m = &w->member[v];
    struct transport_config config = {
        .id = v, .boot = 100 + v, .body_size_max = 64u << 20, .heartbeat_us = 50000, .seed = v};
    struct transport_sink sink = {.ctx = m,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_message = on_message,
                                  .on_writable = on_writable,
                                  .on_refused = on_refused,
                                  .on_unreachable = on_unreachable,
                                  .on_closed = on_closed};
    *m = (struct member){.world = w, .v = v, .raw = raw};
    if (raw) {
        m->inner = m->transport = sim_transport(w->sim, v, &config, &sink);
        return;
    }
    struct relay_config settings = {.id = v,
                                    .boot = 100 + v,
                                    .seed = 1,
                                    .bytes_s = rate,
                                    .answer_us = SECOND_US,
                                    .redial_min_us = 20000,
                                    .redial_max_us = 100000};
    struct host_sink host_sink = {.ctx = m, .on_deadline = on_deadline};
    m->relay = relay_new(&settings, &sink, &host_sink);
    struct transport_sink inner = relay_inner_sink(m->relay);
    struct host_sink inner_host = relay_inner_host_sink(m->relay);
    m->inner = sim_transport(w->sim, v, &config, &inner);
    relay_attach_transport(m->relay, m->inner);
    relay_attach_host(m->relay, sim_host(w->sim, v, &inner_host));
    m->transport = relay_transport(m->relay);
}

void world_open(struct world *w, uint32_t count, uint64_t raws, uint64_t rate)
{
    struct err_text why;
    memset(w, 0, sizeof *w);
    w->count = count;
    assert_int_equal(choice_parse(latency_table, latency_table_count, "--latency",
                                  "uniform:low=500us,high=1500us", &w->latency, &why),
                     0);
    assert_int_equal(
        choice_parse(step_time_table, step_time_table_count, "--step-time", "constant", &w->step_time, &why),
        0);
    struct sim_options options = {.seed = 3,
                                  .node_count = count,
                                  .latency = &w->latency,
                                  .step_time = &w->step_time,
                                  .link_silence_us = SECOND_US,
                                  .redial_us = 30000};
    w->sim = sim_world_new(&options);
    for (uint32_t v = 0; v < count; v++) member_start(w, v, (raws >> v & 1) != 0, rate);
}

void world_close(struct world *w)
{
    sim_world_free(w->sim);
    for (uint32_t v = 0; v < w->count; v++) relay_free(w->member[v].relay);
}

void world_run_for(struct world *w, uint64_t us)
{
    uint64_t limit_us = sim_now_us(w->sim) + us;
    while (sim_step(w->sim, limit_us)) continue;
}

void world_dial(struct world *w, uint32_t from, uint32_t to)
{
    char address[ADDRESS_TEXT_MAX];
    snprintf(address, sizeof address, "sim:%u", to);
    assert_int_equal(w->member[from].transport->ops->dial(w->member[from].transport, address), 0);
}

void world_link_up(struct world *w, uint32_t from, uint32_t to)
{
    world_dial(w, from, to);
    RUN_UNTIL(w, w->member[from].up[to] && w->member[to].up[from]);
}

void world_dial_relayed(struct world *w, uint32_t from, uint32_t to)
{
    char address[ADDRESS_TEXT_MAX];
    relay_address(to, address);
    assert_int_equal(w->member[from].transport->ops->dial(w->member[from].transport, address), 0);
}

bool world_is_relayed(const struct world *w, uint32_t a, uint32_t b)
{
    return w->member[a].up[b] && w->member[a].link[b].slot >= RELAY_SLOT;
}

int world_send(struct world *w, uint32_t from, uint32_t to, enum lane lane, size_t size)
{
    struct member *m = &w->member[from];
    struct blob *head = blob_copy("h", 1), *body = blob_new(size);
    memset(body->data, 7, size);
    int err = m->transport->ops->send(m->transport, m->link[to], lane, head, body);
    blob_unref(head);
    blob_unref(body);
    return err;
}

struct relay_totals member_totals(const struct member *m)
{
    struct relay_totals t;
    relay_totals(m->relay, &t);
    return t;
}

void world_open_triangle(struct world *w, uint32_t count, uint64_t rate)
{
    world_open(w, count, 0, rate);
    world_link_up(w, 0, 2);
    world_link_up(w, 1, 2);
    world_dial_relayed(w, 0, 1);
    RUN_UNTIL(w, world_is_relayed(w, 0, 1) && world_is_relayed(w, 1, 0));
}

void world_say(struct world *w, uint32_t to, const struct relay_frame *f, enum lane lane, struct blob *body)
{
    struct member *m = &w->member[0];
    struct blob *head = relay_frame_encode(f);
    assert_int_equal(m->transport->ops->send(m->transport, m->link[to], lane, head, body), 0);
    blob_unref(head);
}

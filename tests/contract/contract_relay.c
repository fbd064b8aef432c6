/* A world of endpoints that never link directly: each dials one more endpoint, the relayer, and knows the others by
 * relay addresses. Over the simulator or TCP: the base. The suite does not see the links to the relayer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "net/relay/relay.h"
#include "tests/contract/contract_endpoint.h"

#define LIFE_MAX 64u
#define RATE (1u << 30)

struct life {
    struct contract_world *world;
    uint32_t v;
    struct relay *relay;
    struct transport *inner;
    struct transport_sink sink;
    bool linked; /* with the relayer */
    bool freed;
};

struct contract_world {
    const struct contract_factory *base;
    struct contract_world *under; /* the base's */
    uint32_t relayer;
    char relayer_address[ADDRESS_TEXT_MAX];
    struct life *life[LIFE_MAX];
    uint32_t life_count;
};

static void life_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct life *l = ctx;
    bool hidden = peer->id == l->world->relayer || l->v == l->world->relayer;
    if (hidden)
        l->linked = true;
    else
        l->sink.on_up(l->sink.ctx, link, peer);
}

static void life_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct life *l = ctx;
    if (link.slot < RELAY_SLOT)
        l->linked = false;
    else
        l->sink.on_down(l->sink.ctx, link, why);
}

static void life_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                         struct blob *body)
{
    struct life *l = ctx;
    assert_true(link.slot >= RELAY_SLOT);
    l->sink.on_message(l->sink.ctx, link, lane, head, size, body);
}

static void life_writable(void *ctx, struct link_id link)
{
    struct life *l = ctx;
    assert_true(link.slot >= RELAY_SLOT);
    l->sink.on_writable(l->sink.ctx, link);
}

static void life_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct life *l = ctx;
    assert_string_not_equal(address, l->world->relayer_address);
    l->sink.on_refused(l->sink.ctx, address, err, reason);
}

static void life_unreachable(void *ctx, const char *address, int err)
{
    struct life *l = ctx;
    if (strcmp(address, l->world->relayer_address) != 0) l->sink.on_unreachable(l->sink.ctx, address, err);
}

static void life_closed(void *ctx)
{
    struct life *l = ctx;
    if (l->v != l->world->relayer) l->sink.on_closed(l->sink.ctx);
}

static void life_deadline(void *ctx)
{
    fail_msg("nobody has set a deadline: %p", ctx);
}

static struct life *life_start(struct contract_world *w, uint32_t v, const struct transport_config *config,
                               const struct transport_sink *sink, char address[ADDRESS_TEXT_MAX])
{
    assert_true(w->life_count < LIFE_MAX);
    struct life *l = mem_new_zero(1, sizeof *l);
    w->life[w->life_count++] = l;
    *l = (struct life){.world = w, .v = v, .sink = *sink};
    struct relay_config settings = {.id = config->id,
                                    .boot = config->boot,
                                    .seed = config->seed,
                                    .bytes_s = v == w->relayer ? RATE : 0,
                                    .answer_us = CONTRACT_SILENCE_US,
                                    .redial_min_us = config->redial_min_us,
                                    .redial_max_us = config->redial_max_us};
    struct transport_sink mine = {.ctx = l,
                                  .on_up = life_up,
                                  .on_down = life_down,
                                  .on_message = life_message,
                                  .on_writable = life_writable,
                                  .on_refused = life_refused,
                                  .on_unreachable = life_unreachable,
                                  .on_closed = life_closed};
    struct host_sink host_sink = {.ctx = l, .on_deadline = life_deadline};
    l->relay = relay_new(&settings, &mine, &host_sink);
    struct transport_sink inner_sink = relay_inner_sink(l->relay);
    struct host_sink inner_host_sink = relay_inner_host_sink(l->relay);
    l->inner = w->base->start(w->under, v, config, &inner_sink, address);
    relay_attach_transport(l->relay, l->inner);
    relay_attach_host(l->relay, w->base->host(w->under, v, &inner_host_sink));
    return l;
}

static struct contract_world *world_open(const struct contract_factory *base, uint32_t count, uint64_t seed)
{
    struct contract_world *w = mem_new_zero(1, sizeof *w);
    struct transport_sink none = {0};
    struct transport_config config = suite_config(count);
    w->base = base;
    w->relayer = count;
    w->under = base->open(count + 1, seed);
    life_start(w, count, &config, &none, w->relayer_address);
    return w;
}

static struct contract_world *sim_open(uint32_t count, uint64_t seed)
{
    return world_open(&contract_sim, count, seed);
}

static struct contract_world *uv_open(uint32_t count, uint64_t seed)
{
    return world_open(&contract_uv, count, seed);
}

static uint64_t world_now_us(const struct contract_world *w)
{
    return w->base->now_us(w->under);
}

static bool world_step(struct contract_world *w, uint64_t limit_us)
{
    return w->base->step(w->under, limit_us);
}

static struct transport *world_start(struct contract_world *w, uint32_t v,
                                     const struct transport_config *config, const struct transport_sink *sink,
                                     char address[ADDRESS_TEXT_MAX])
{
    struct life *l = life_start(w, v, config, sink, address);
    assert_int_equal(l->inner->ops->dial(l->inner, w->relayer_address), 0);
    uint64_t limit_us = world_now_us(w) + CONTRACT_LIMIT_US;
    while (!l->linked && world_step(w, limit_us)) continue;
    assert_true(l->linked);
    relay_address(v, address);
    return relay_transport(l->relay);
}

static struct life *life_of(const struct contract_world *w, uint32_t v)
{
    for (uint32_t i = w->life_count; i-- > 0;)
        if (w->life[i]->v == v) return w->life[i];
    return NULL;
}

static void life_free(struct life *l)
{
    if (!l->freed) relay_free(l->relay);
    l->freed = true;
}

static void world_release(struct contract_world *w, uint32_t v)
{
    w->base->release(w->under, v);
    if (w->base->reset != contract_sim.reset) life_free(life_of(w, v)); /* simulated ones stay attached */
}

static void world_crash(struct contract_world *w, uint32_t v)
{
    w->base->crash(w->under, v);
}

static void world_pause(struct contract_world *w, uint32_t v)
{
    w->base->pause(w->under, v);
}

static void world_resume(struct contract_world *w, uint32_t v)
{
    w->base->resume(w->under, v);
}

static void world_reset(struct contract_world *w, uint32_t a, uint32_t b)
{
    (void)a;
    w->base->reset(w->under, b, w->relayer);
}

static void world_close(struct contract_world *w)
{
    w->base->close(w->under);
    for (uint32_t i = 0; i < w->life_count; i++) {
        life_free(w->life[i]);
        free(w->life[i]);
    }
    free(w);
}

#define RELAYED_FACTORY(variable, title, opener)                                                             \
    const struct contract_factory variable = {                                                               \
        .name = title,                                                                                       \
        .relayed = true,                                                                                     \
        .links_extra = 1,                                                                                    \
        .open = opener,                                                                                      \
        .start = world_start,                                                                                \
        .step = world_step,                                                                                  \
        .now_us = world_now_us,                                                                              \
        .release = world_release,                                                                            \
        .crash = world_crash,                                                                                \
        .pause = world_pause,                                                                                \
        .resume = world_resume,                                                                              \
        .reset = world_reset,                                                                                \
        .close = world_close,                                                                                \
    }

RELAYED_FACTORY(contract_relayed_sim, "relayed links, simulated", sim_open);
RELAYED_FACTORY(contract_relayed_uv, "relayed links over TCP", uv_open);

/* The simulated cluster: makes the world, the shared graph and the nodes, and looks at them.
 *
 * Normal course
 *  - simulation_new builds one graph for all nodes and starts them at time 0 in order of rank.
 *  - simulation_step delivers one event of the world, which may run one node.
 * Failure courses
 *  - a node fails (trainer diverged, algorithm refuses its parameters): the first reason is kept and no event
 *    is delivered any more.
 *  - a node crashes: what it had counted goes into `gone`; it comes back with a greater boot. */
#include "agent/simulation/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/compress/pack.h"
#include "base/check.h"

#define LISTEN_US 500000u /* as agents do, where there are keepers */
#define JOIN_FAN_OUT 8u   /* nodes that dial the same seed */

/* -- making ------------------------------------------------------------------------------------ */

static void members_make(struct simulation *s)
{
    if (s->setup.dynamic) return;
    s->member = mem_new_zero(s->setup.node_count, sizeof *s->member);
    for (uint32_t v = 0; v < s->setup.node_count; v++) {
        s->member[v].id = v;
        snprintf(s->member[v].address, sizeof s->member[v].address, "sim:%u", v);
    }
}

/* -- one node ---------------------------------------------------------------------------------- */

static int simulated_ranked(void *ctx, rank_t rank, struct trainer **trainer, double *weight,
                            struct err_text *why)
{
    struct simulated *e = ctx;
    const struct simulation_setup *setup = &e->simulation->setup;
    uint32_t places = e->simulation->graph.node_count;
    CHECK_IMPLIES(!setup->dynamic, rank == e->v);
    for (uint32_t v = 0; v < places; v++) weight[v] = setup->weight != NULL ? setup->weight[v] : 1.0 / places;
    return setup->trainer_new(setup->ctx, rank, trainer, why);
}

static void simulated_failed(void *ctx, const struct err_text *why)
{
    const struct simulated *e = ctx;
    struct simulation *s = e->simulation;
    if (s->failed) return;
    s->failed = true;
    s->failure = *why;
}

static void simulated_finished(void *ctx)
{
    struct simulated *e = ctx;
    CHECK(!e->finished);
    e->finished = true;
    e->simulation->finished++;
}

static void simulated_save(void *ctx)
{
    const struct simulated *e = ctx;
    e->simulation->setup.on_save(e->simulation->setup.ctx, e->v);
}

static struct node *simulated_make_node(struct simulated *e, bool rejoining)
{
    struct simulation *s = e->simulation;
    const struct simulation_setup *setup = &s->setup;
    struct node_config config = {
        .id = e->id,
        .node_count = s->graph.node_count,
        .algo = setup->algo,
        .algo_params = setup->algo_params,
        .compress = setup->compress,
        .tensor = setup->tensor,
        .tensor_count = setup->tensor_count,
        .topology = setup->topology,
        .graph = &s->graph,
        .members = s->member,
        .seed = setup->seed,
        .dim = setup->dim,
        .x0 = setup->x0,
        .start = setup->x0,
        .patience_us = s->patience_us,
        .rejoining = rejoining,
        .site = setup->site,
        .steps_max = setup->steps_max,
        .trace = setup->trace,
    };
    if (setup->dynamic) {
        const struct simulation_life *life = &e->life;
        snprintf(e->seed_address, sizeof e->seed_address, "sim:%u", life->seed);
        e->seeds[0] = e->seed_address;
        config.seeds = e->seeds;
        config.seed_count = life->seed != e->v;
        config.boot = e->boot;
        config.incarnation = life->incarnation;
        config.min_nodes = setup->min_nodes;
        config.membership = setup->membership;
        config.overlay = setup->overlay;
        config.give_bytes_s = setup->give_bytes_s;
        config.keeper = e->v >= setup->node_count - setup->keepers;
        config.keep_every_us = setup->keep_every_us;
        config.listen_us = setup->keepers > 0 ? LISTEN_US : 0;
        config.steps_done = life->steps;
        config.method = life->method;
        config.had_place = life->had_place;
        config.place = life->place;
        config.claimed = life->claimed;
        if (life->x0 != NULL) config.x0 = life->x0;
    }
    struct node_sink sink = {.ctx = e,
                             .on_ranked = simulated_ranked,
                             .on_failed = simulated_failed,
                             .on_finished = simulated_finished,
                             .on_save = setup->on_save != NULL ? simulated_save : NULL};
    return node_new(&config, &sink);
}

/* Some compressors may lengthen what they cannot shorten, and references travel whole. */
static size_t body_size_max(const struct simulation_setup *setup)
{
    size_t whole = setup->dim * sizeof(float), packed;
    packed = pack_bound(setup->compress, setup->dim, setup->tensor, setup->tensor_count);
    size_t largest = whole > packed ? whole : packed;
    return setup->dynamic && largest < STATE_CHUNK_SIZE ? STATE_CHUNK_SIZE : largest;
}

static void simulated_attach(struct simulated *e, bool rejoining)
{
    struct simulation *s = e->simulation;
    e->lives++;
    e->boot = s->setup.dynamic ? (sim_now_us(s->world) + 1) * BOOT_UNITS_PER_US + e->lives : e->lives;
    e->finished = false;
    e->node = simulated_make_node(e, rejoining);
    s->alive++;
    struct transport_config transport = {
        .id = e->id,
        .boot = e->boot,
        .body_size_max = body_size_max(&s->setup),
        .heartbeat_us = s->silence_us / 3,
        .silence_us = s->silence_us,
        .hello_us = s->silence_us,
        .redial_min_us = s->redial_us,
        .redial_max_us = s->redial_us,
        .seed = s->setup.seed,
        .trace = s->setup.trace,
    };
    struct transport_sink transport_sink = node_transport_sink(e->node);
    struct host_sink host_sink = node_host_sink(e->node);
    if (s->setup.relay_bytes_s > 0) {
        simulated_relay(e, &transport, &transport_sink, &host_sink);
        return;
    }
    e->transport = sim_transport(s->world, e->v, &transport, &transport_sink);
    node_attach(e->node, e->transport, sim_host(s->world, e->v, &host_sink));
}

static int simulated_start(struct simulated *e, struct err_text *why)
{
    const struct simulation *s = e->simulation;
    int err = node_start(e->node, why);
    if (err == 0 && s->failed) err = err_set(why, ERR_USAGE, "%s", s->failure.text);
    return err;
}

/* Started by simulation_join. */
static bool is_late(const struct simulation_setup *setup, uint32_t v)
{
    return setup->dynamic && setup->start_count > 0 && v >= setup->start_count;
}

/* -- the whole --------------------------------------------------------------------------------- */

int simulation_new(const struct simulation_setup *setup, struct simulation **out, struct err_text *why)
{
    CHECK(setup->node_count >= 1 && setup->node_count <= NODE_COUNT_MAX);
    struct simulation *s = mem_new_zero(1, sizeof *s);
    s->setup = *setup;
    s->each = mem_new_zero(setup->node_count, sizeof *s->each);
    s->sum = mem_new(setup->dim, sizeof *s->sum);
    s->mean = mem_new(setup->dim, sizeof *s->mean);
    s->slowness = mem_new(setup->node_count, sizeof *s->slowness);
    uint32_t places = setup->dynamic && setup->places > 0 ? setup->places : setup->node_count;
    int err = topology_build(setup->topology, places, setup->seed, &s->graph, why);
    if (err != 0) {
        memset(&s->graph, 0, sizeof s->graph);
        goto failed;
    }
    err = simulated_world(s, why);
    if (err != 0) goto failed;
    members_make(s);
    for (uint32_t v = 0; v < setup->node_count; v++) {
        s->each[v].simulation = s;
        s->each[v].v = v;
        s->each[v].id = v;
        if (setup->dial_only != NULL && setup->dial_only[v]) sim_dial_only(s->world, v);
        s->each[v].life = (struct simulation_life){.id = v, .seed = v > 0 ? (v - 1) / JOIN_FAN_OUT : 0};
        if (is_late(setup, v))
            sim_crash(s->world, v, true); /* until it is started */
        else
            simulated_attach(&s->each[v], false); /* all can be reached before the first one dials */
    }
    for (uint32_t v = 0; v < setup->node_count && err == 0; v++)
        if (!is_late(setup, v)) err = simulated_start(&s->each[v], why);
    if (err != 0) goto failed;
    *out = s;
    return 0;
failed:
    simulation_free(s);
    return err;
}

void simulation_free(struct simulation *s)
{
    if (s == NULL) return;
    if (s->world != NULL) sim_world_free(s->world);
    for (uint32_t v = 0; v < s->setup.node_count; v++) {
        node_free(s->each[v].node);
        relay_free(s->each[v].relay);
    }
    graph_deinit(&s->graph);
    trace_hash_free(s->hash);
    free(s->slowness);
    free(s->member);
    free(s->each);
    free(s->sum);
    free(s->mean);
    free(s);
}

bool simulation_step(struct simulation *s, uint64_t limit_us)
{
    return !s->failed && sim_step(s->world, limit_us);
}

void simulation_run(struct simulation *s, uint64_t until_us)
{
    while (simulation_step(s, until_us)) {
    }
}

uint64_t simulation_now_us(const struct simulation *s)
{
    return sim_now_us(s->world);
}

const char *simulation_failure(const struct simulation *s)
{
    return s->failed ? s->failure.text : "";
}

bool simulation_finished(const struct simulation *s)
{
    return s->alive > 0 && s->finished == s->alive;
}

struct sim_world *simulation_world(struct simulation *s)
{
    return s->world;
}

struct node *simulation_node(const struct simulation *s, uint32_t v)
{
    CHECK(v < s->setup.node_count);
    return s->each[v].node;
}

struct transport *simulation_transport(const struct simulation *s, uint32_t v)
{
    CHECK(v < s->setup.node_count);
    return s->each[v].transport;
}

const struct graph *simulation_graph(const struct simulation *s)
{
    return &s->graph;
}

uint32_t simulation_node_count(const struct simulation *s)
{
    return s->setup.node_count;
}

uint64_t simulation_patience_us(const struct simulation *s)
{
    return s->patience_us;
}

/* -- faults ------------------------------------------------------------------------------------ */

static void totals_add(struct simulation_totals *t, const struct node *node)
{
    struct node_report r;
    node_report(node, &r);
    algo_report_add(&t->algo, &r.algo);
    t->bytes_sent += r.net.bytes_sent;
    t->bytes_received += r.net.bytes_received;
    t->messages_refused += r.messages_refused;
}

void simulation_totals(const struct simulation *s, struct simulation_totals *out)
{
    *out = s->gone;
    for (uint32_t v = 0; v < s->setup.node_count; v++) {
        if (s->each[v].node != NULL) totals_add(out, s->each[v].node);
    }
    out->alive = s->alive;
}

void simulation_crash(struct simulation *s, uint32_t v, bool reset)
{
    struct simulated *e = &s->each[v];
    CHECK(v < s->setup.node_count);
    CHECK(e->node != NULL);
    totals_add(&s->gone, e->node);
    sim_crash(s->world, v, reset);
    node_free(e->node);
    relay_free(e->relay);
    e->node = NULL;
    e->relay = NULL;
    e->transport = NULL;
    s->alive--;
    s->finished -= e->finished;
}

int simulation_restart(struct simulation *s, uint32_t v, struct err_text *why)
{
    CHECK(v < s->setup.node_count);
    CHECK(s->each[v].node == NULL);
    struct simulated *e = &s->each[v];
    if (s->setup.dynamic && v == 0) e->life.seed = 1;
    sim_restart(s->world, v);
    simulated_attach(e, true);
    return simulated_start(e, why);
}

int simulation_join(struct simulation *s, uint32_t v, const struct simulation_life *life,
                    struct err_text *why)
{
    CHECK(v < s->setup.node_count && life->seed < s->setup.node_count);
    CHECK(s->setup.dynamic && s->each[v].node == NULL);
    struct simulated *e = &s->each[v];
    e->id = life->id;
    e->life = *life;
    sim_restart(s->world, v);
    simulated_attach(e, true);
    e->life =
        (struct simulation_life){.id = life->id, .seed = life->seed}; /* a later restart has no memory */
    return simulated_start(e, why);
}

void simulation_leave(struct simulation *s, uint32_t v)
{
    CHECK(v < s->setup.node_count && s->each[v].node != NULL);
    node_leave(s->each[v].node);
}

/* -- trace ------------------------------------------------------------------------------------- */

void simulation_fold(struct simulation *s, const float *x)
{
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vectors are hashed as they are in memory");
    trace_hash_add(s->hash, x, s->setup.dim * sizeof *x);
}

const char *simulation_trace(const struct simulation *s, char out[TRACE_HASH_TEXT])
{
    return trace_hash_text(s->hash, out);
}

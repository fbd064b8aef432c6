/* Goal: the relay (net/relay/relay.h) holds its bounds against peers that do not keep to it, keeps the rate, and survives
 * the loss of each link.
 * Method: nodes of the simulator, members with a relay or raw ones that speak its frames by hand. Planted: each
 * malformed frame is a good one with one thing changed, and the good one is accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "net/relay/internal.h"
#include "net/sim/sim.h"

#define NODE_MAX 40u
#define SECOND_US 1000000u
#define HEARD_MAX 64u

struct world;

struct member {
    struct world *world;
    uint32_t v;
    bool raw;
    struct relay *relay; /* NULL when raw */
    struct transport *inner, *transport;
    struct link_id link[NODE_MAX]; /* by peer, the latest */
    bool up[NODE_MAX];
    enum down_reason why[NODE_MAX]; /* of the last on_down */
    uint32_t ups, downs, messages, writables, unreachables;
    uint64_t bytes, last_us;
    struct relay_frame heard[HEARD_MAX]; /* raw: without heads */
    uint32_t heard_count;
};

struct world {
    struct sim_world *sim;
    struct choice latency, step_time;
    struct member member[NODE_MAX];
    uint32_t count;
};

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

/* Members 0..count-1, those in raws raw; rate of all. */
static void world_open(struct world *w, uint32_t count, uint64_t raws, uint64_t rate)
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

static void world_close(struct world *w)
{
    sim_world_free(w->sim);
    for (uint32_t v = 0; v < w->count; v++) relay_free(w->member[v].relay);
}

static void run_for(struct world *w, uint64_t us)
{
    uint64_t limit_us = sim_now_us(w->sim) + us;
    while (sim_step(w->sim, limit_us)) continue;
}

#define RUN_UNTIL(w, condition)                                                                              \
    do {                                                                                                     \
        uint64_t run_limit_us = sim_now_us((w)->sim) + 30 * SECOND_US;                                       \
        while (!(condition) && sim_step((w)->sim, run_limit_us)) continue;                                   \
        if (!(condition)) fail_msg("not in time: %s", #condition);                                           \
    } while (0)

static void dial(struct world *w, uint32_t from, uint32_t to)
{
    char address[ADDRESS_TEXT_MAX];
    snprintf(address, sizeof address, "sim:%u", to);
    assert_int_equal(w->member[from].transport->ops->dial(w->member[from].transport, address), 0);
}

static void link_up(struct world *w, uint32_t from, uint32_t to)
{
    dial(w, from, to);
    RUN_UNTIL(w, w->member[from].up[to] && w->member[to].up[from]);
}

static void relay_dial_to(struct world *w, uint32_t from, uint32_t to)
{
    char address[ADDRESS_TEXT_MAX];
    relay_address(to, address);
    assert_int_equal(w->member[from].transport->ops->dial(w->member[from].transport, address), 0);
}

static bool is_relayed(const struct world *w, uint32_t a, uint32_t b)
{
    return w->member[a].up[b] && w->member[a].link[b].slot >= RELAY_SLOT;
}

static int send_size(struct world *w, uint32_t from, uint32_t to, enum lane lane, size_t size)
{
    struct member *m = &w->member[from];
    struct blob *head = blob_copy("h", 1), *body = blob_new(size);
    memset(body->data, 7, size);
    int err = m->transport->ops->send(m->transport, m->link[to], lane, head, body);
    blob_unref(head);
    blob_unref(body);
    return err;
}

static struct relay_totals totals_of(const struct member *m)
{
    struct relay_totals t;
    relay_totals(m->relay, &t);
    return t;
}

/* 0 and 1 are linked to 2, and by it to each other. */
static void open_triangle(struct world *w, uint32_t count, uint64_t rate)
{
    world_open(w, count, 0, rate);
    link_up(w, 0, 2);
    link_up(w, 1, 2);
    relay_dial_to(w, 0, 1);
    RUN_UNTIL(w, is_relayed(w, 0, 1) && is_relayed(w, 1, 0));
}

/* -- frames ------------------------------------------------------------------------------------ */

/* From the raw node 0 to `to`. */
static void say(struct world *w, uint32_t to, const struct relay_frame *f, enum lane lane, struct blob *body)
{
    struct member *m = &w->member[0];
    struct blob *head = relay_frame_encode(f);
    assert_int_equal(m->transport->ops->send(m->transport, m->link[to], lane, head, body), 0);
    blob_unref(head);
}

static void a_changed_frame_is_malformed(void **state)
{
    (void)state;
    static const struct relay_frame good[] = {
        {.kind = RELAY_OPEN, .call = 9, .target = 3, .from = 4, .boot = 5},
        {.kind = RELAY_ACCEPT, .call = 9, .boot = 5},
        {.kind = RELAY_CONFIRM, .call = 9},
        {.kind = RELAY_REFUSE, .call = 9, .refusal = REFUSAL_BUSY},
        {.kind = RELAY_CLOSED, .call = 9, .why = DOWN_SILENT},
        {.kind = RELAY_CREDIT, .call = 9, .lane = LANE_BULK, .messages = 3, .bytes = 1ull << 40},
    };
    struct relay_frame f;
    struct blob *body = blob_new(8);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct blob *b = relay_frame_encode(&good[i]);
        assert_int_equal(relay_frame_parse(b->data, b->size, LANE_CONTROL, NULL, &f), 0);
        assert_memory_equal(&f, &good[i], sizeof f);
        assert_int_equal(relay_frame_parse(b->data, b->size - 1, LANE_CONTROL, NULL, &f), ERR_PROTO);
        assert_int_equal(relay_frame_parse(b->data, b->size, LANE_BULK, NULL, &f), ERR_PROTO);
        assert_int_equal(relay_frame_parse(b->data, b->size, LANE_CONTROL, body, &f), ERR_PROTO);
        struct blob *longer = blob_new(b->size + 1);
        memcpy(longer->data, b->data, b->size);
        longer->data[b->size] = 0;
        assert_int_equal(relay_frame_parse(longer->data, longer->size, LANE_CONTROL, NULL, &f), ERR_PROTO);
        blob_unref(longer);
        b->data[1] = 0;
        assert_int_equal(relay_frame_parse(b->data, b->size, LANE_CONTROL, NULL, &f), ERR_PROTO);
        b->data[1] = RELAY_DATA + 1;
        assert_int_equal(relay_frame_parse(b->data, b->size, LANE_CONTROL, NULL, &f), ERR_PROTO);
        blob_unref(b);
    }
    static const uint8_t ranges[][12] = {
        {RELAY_MARK, RELAY_REFUSE, 9, 0, 0, 0, 0, 0, 0, 0, 0},
        {RELAY_MARK, RELAY_REFUSE, 9, 0, 0, 0, 0, 0, 0, 0, REFUSAL_NOT_NEEDED + 1},
        {RELAY_MARK, RELAY_CLOSED, 9, 0, 0, 0, 0, 0, 0, 0, DOWN_LOCAL},
    };
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(relay_frame_parse(ranges[i], 11, LANE_CONTROL, NULL, &f), ERR_PROTO);
    blob_unref(body);
}

/* Raw 0 and raw 1 at relayer 2, the call open; answers its number. */
static uint64_t open_raw_pair(struct world *w, uint64_t rate)
{
    world_open(w, 3, 3, rate);
    link_up(w, 0, 2);
    link_up(w, 1, 2);
    struct relay_frame f = {.kind = RELAY_OPEN, .call = 77, .target = 1, .from = 0, .boot = 100};
    say(w, 2, &f, LANE_CONTROL, NULL);
    RUN_UNTIL(w, w->member[1].heard_count == 1);
    assert_int_equal(w->member[1].heard[0].kind, RELAY_OPEN);
    struct relay_frame accept = {.kind = RELAY_ACCEPT, .call = 77, .boot = 101};
    struct blob *head = relay_frame_encode(&accept);
    struct transport *t = w->member[1].transport;
    assert_int_equal(t->ops->send(t, w->member[1].link[2], LANE_CONTROL, head, NULL), 0);
    blob_unref(head);
    RUN_UNTIL(w, w->member[0].heard_count == 1);
    assert_int_equal(w->member[0].heard[0].kind, RELAY_ACCEPT);
    struct relay_frame confirm = {.kind = RELAY_CONFIRM, .call = 77};
    say(w, 2, &confirm, LANE_CONTROL, NULL);
    RUN_UNTIL(w, w->member[1].heard_count == 2);
    return 77;
}

static void what_is_not_its_to_say_costs_a_peer_its_link(void **state)
{
    (void)state;
    static const struct {
        struct relay_frame frame;
        bool good;
    } row[] = {
        {{.kind = RELAY_DATA, .sequence = 1, .head = (const uint8_t *)"x", .head_size = 1}, true},
        {{.kind = RELAY_DATA, .sequence = 2, .head = (const uint8_t *)"x", .head_size = 1},
         false}, /* a hole */
        {{.kind = RELAY_DATA, .sequence = 0, .head = (const uint8_t *)"x", .head_size = 1},
         false}, /* again */
        {{.kind = RELAY_CREDIT, .messages = 1, .bytes = 1}, false},
        {{.kind = RELAY_CONFIRM}, false},
        {{.kind = RELAY_ACCEPT, .boot = 100}, false},
        {{.kind = RELAY_REFUSE, .refusal = REFUSAL_BUSY}, false},
        {{.kind = RELAY_OPEN, .target = 1, .from = 0, .boot = 100}, false}, /* the call is known */
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct world w;
        struct relay_frame f = row[i].frame;
        f.call = open_raw_pair(&w, 1u << 30);
        assert_int_equal(totals_of(&w.member[2]).pairs, 1);
        w.member[0].transport->ops->undial(w.member[0].transport, "sim:2");
        say(&w, 2, &f, LANE_CONTROL, NULL);
        run_for(&w, SECOND_US / 10);
        assert_int_equal(w.member[2].up[0], row[i].good);
        assert_true(w.member[2].up[1]); /* nothing of the other's has changed, but that the call is over */
        assert_int_equal(totals_of(&w.member[2]).pairs, row[i].good);
        const struct relay_frame *last = &w.member[1].heard[w.member[1].heard_count - 1];
        assert_int_equal(last->kind, row[i].good ? RELAY_DATA : RELAY_CLOSED);
        if (!row[i].good) assert_int_equal(w.member[2].why[0], DOWN_PROTOCOL);
        world_close(&w);
    }
}

static void another_ones_name_is_malformed_and_an_unknown_call_is_late(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3, 1, 1u << 30);
    link_up(&w, 0, 2);
    link_up(&w, 1, 2);
    w.member[0].transport->ops->undial(w.member[0].transport, "sim:2");
    struct relay_frame late = {
        .kind = RELAY_DATA, .call = 5, .sequence = 9, .head = (const uint8_t *)"x", .head_size = 1};
    say(&w, 2, &late, LANE_BULK, NULL);
    run_for(&w, SECOND_US / 10);
    assert_true(w.member[2].up[0]);
    struct relay_frame nobody = {.kind = RELAY_OPEN, .call = 6, .target = 17, .from = 0, .boot = 100};
    say(&w, 2, &nobody, LANE_CONTROL, NULL);
    RUN_UNTIL(&w, w.member[0].heard_count == 1);
    assert_int_equal(w.member[0].heard[0].kind, RELAY_REFUSE);
    assert_int_equal(w.member[0].heard[0].refusal, REFUSAL_NO_LINK);
    struct relay_frame wrong = {.kind = RELAY_OPEN, .call = 7, .target = 1, .from = 2, .boot = 102};
    say(&w, 2, &wrong, LANE_CONTROL, NULL);
    RUN_UNTIL(&w, !w.member[2].up[0]);
    assert_int_equal(w.member[2].why[0], DOWN_PROTOCOL);
    assert_int_equal(totals_of(&w.member[2]).pairs, 0);
    world_close(&w);
}

static void a_peer_that_sends_over_the_window_loses_its_link(void **state)
{
    (void)state;
    for (uint32_t over = 0; over < 2; over++) {
        struct world w;
        struct relay_frame f = {.kind = RELAY_DATA, .head = (const uint8_t *)"x", .head_size = 1};
        f.call = open_raw_pair(&w, 1000); /* so slow that nothing goes on after the first */
        w.member[0].transport->ops->undial(w.member[0].transport, "sim:2");
        for (uint32_t i = 0; i < RELAY_WINDOW_MESSAGES + 1 + over; i++) {
            f.sequence = i + 1;
            struct blob *body =
                i == 0 ? blob_new(4000) : NULL; /* goes on at once, and its credit comes back */
            if (body != NULL) memset(body->data, 1, body->size);
            say(&w, 2, &f, LANE_BULK, body);
            blob_unref(body);
            if (i == 0) RUN_UNTIL(&w, w.member[0].heard[w.member[0].heard_count - 1].kind == RELAY_CREDIT);
        }
        run_for(&w, SECOND_US / 5);
        assert_int_equal(w.member[2].up[0], over == 0);
        world_close(&w);
    }
}

/* -- the rate ---------------------------------------------------------------------------------- */

static void the_rate_is_kept_and_nothing_is_lost(void **state)
{
    (void)state;
    struct world w;
    open_triangle(&w, 3, 1u << 20);
    uint64_t began_us = sim_now_us(w.sim);
    for (int i = 0; i < 80; i++) assert_int_equal(send_size(&w, 0, 1, LANE_BULK, 50000), 0);
    RUN_UNTIL(&w, w.member[1].messages == 80);
    double took_s = (double)(w.member[1].last_us - began_us) * 1e-6, rate = 80 * 50000 / took_s;
    assert_true(rate > 0.9 * (1u << 20) && rate < 1.1 * (1u << 20));
    world_close(&w);
}

static void a_full_queue_is_writable_once_and_a_slow_relayer_holds_a_window(void **state)
{
    (void)state;
    struct world w;
    open_triangle(&w, 3, 4u << 20);
    uint32_t sent = 0;
    while (send_size(&w, 0, 1, LANE_BULK, 400000) == 0) assert_true(++sent < 100);
    assert_true((uint64_t)sent * 400000 > LINK_QUEUE_MAX);
    assert_true((uint64_t)sent * 400000 < LINK_QUEUE_MAX + 2 * RELAY_WINDOW_BYTES);
    while (w.member[1].messages < sent) {
        assert_true(sim_step(w.sim, sim_now_us(w.sim) + 30 * SECOND_US));
        size_t held = w.member[2].relay->pair[0].side[0].queue[LANE_BULK].bytes;
        for (uint32_t i = 1; i < RELAY_PAIR_MAX; i++)
            held += w.member[2].relay->pair[i].side[0].queue[1].bytes;
        assert_true(held <= RELAY_WINDOW_BYTES);
    }
    run_for(&w, SECOND_US);
    assert_int_equal(w.member[0].writables, 1);
    world_close(&w);
}

static void pairs_share_the_rate_and_there_is_a_last_one(void **state)
{
    (void)state;
    struct world w;
    const uint32_t hub = 34;
    world_open(&w, hub + 1, 0, 1u << 20);
    for (uint32_t v = 0; v < hub; v++) link_up(&w, v, hub);
    for (uint32_t v = 0; v < hub; v += 2) relay_dial_to(&w, v, v + 1);
    RUN_UNTIL(&w, totals_of(&w.member[hub]).pairs == RELAY_PAIR_MAX);
    run_for(&w, 3 * SECOND_US);
    assert_int_equal(totals_of(&w.member[hub]).pairs, RELAY_PAIR_MAX);
    uint32_t up = 0, least = UINT32_MAX, most = 0;
    for (uint32_t v = 0; v < hub; v += 2) {
        if (!is_relayed(&w, v, v + 1)) {
            assert_true(w.member[v].unreachables > 0); /* it goes on asking */
            continue;
        }
        up++;
        for (int i = 0; i < 100; i++) assert_int_equal(send_size(&w, v, v + 1, LANE_BULK, 10000), 0);
    }
    assert_int_equal(up, RELAY_PAIR_MAX);
    run_for(&w, 4 * SECOND_US);
    for (uint32_t v = 0; v < hub; v += 2) {
        if (!is_relayed(&w, v, v + 1)) continue;
        least = w.member[v + 1].messages < least ? w.member[v + 1].messages : least;
        most = w.member[v + 1].messages > most ? w.member[v + 1].messages : most;
    }
    assert_true(least > 15 && most <= least + 2);
    world_close(&w);
}

static void note_line(void *ctx, enum trace_level level, const char *text)
{
    uint32_t *said = ctx;
    if (level == TRACE_INFO && strstr(text, "and that is the limit") != NULL) ++*said;
}

/* A second hub is linked to all, too: who finds the one full is relayed by the other, and so are all that come after, until
 * that is full; the first one says so once, not at each call. */
static void the_one_too_many_goes_through_another(void **state)
{
    (void)state;
    struct world w;
    const uint32_t ends = 2 * (RELAY_PAIR_MAX + 2), hub = ends, other = ends + 1;
    world_open(&w, ends + 2, 0, 1u << 20);
    for (uint32_t v = 0; v < ends; v++) link_up(&w, v, hub);
    for (uint32_t v = 0; v < 2 * RELAY_PAIR_MAX; v += 2) relay_dial_to(&w, v, v + 1);
    RUN_UNTIL(&w, totals_of(&w.member[hub]).pairs == RELAY_PAIR_MAX);
    uint32_t said = 0;
    struct trace trace = {TRACE_INFO, note_line, &said};
    w.member[hub].relay->config.trace = &trace;
    for (uint32_t v = 2 * RELAY_PAIR_MAX; v < ends; v += 2) relay_dial_to(&w, v, v + 1);
    run_for(&w, SECOND_US);
    uint64_t refused = totals_of(&w.member[hub]).refused;
    assert_true(refused > 2); /* they ask again and again, */
    assert_int_equal(said, 1);
    for (uint32_t v = 0; v < ends; v++) link_up(&w, v, other);
    for (uint32_t v = 2 * RELAY_PAIR_MAX; v < ends; v += 2) { /* until there is somebody else */
        node_id through = 0;
        RUN_UNTIL(&w, is_relayed(&w, v, v + 1) && is_relayed(&w, v + 1, v));
        assert_true(relay_through(w.member[v].relay, w.member[v].link[v + 1], &through));
        assert_int_equal(through, other);
        assert_int_equal(send_size(&w, v, v + 1, LANE_BULK, 1000), 0);
        RUN_UNTIL(&w, w.member[v + 1].messages == 1);
    }
    assert_int_equal(totals_of(&w.member[hub]).pairs, RELAY_PAIR_MAX);
    struct relay_totals t = totals_of(&w.member[other]);
    assert_int_equal(t.pairs, 2);
    assert_int_equal(t.messages, 2);
    assert_int_equal(t.bytes, 2 * (1000 + 1 + RELAY_DATA_SIZE));
    assert_int_equal(t.refused, 0);
    w.member[hub].relay->config.trace = NULL;
    world_close(&w);
}

/* -- injected faults: the contract suite has the rest -------------------------------------------- */

/* Whomever the rule names: the peer at the end, the relayer under way, or all. */
static void a_delay_is_met_once_by_whatever_name(void **state)
{
    (void)state;
    static const struct fault_rule row[] = {
        {.kind = FAULT_DELAY, .direction = FAULT_OUT, .peer = 1, .delay_us = 100000},
        {.kind = FAULT_DELAY, .direction = FAULT_OUT, .peer = 2, .delay_us = 100000},
        {.kind = FAULT_DELAY, .direction = FAULT_OUT, .any = true, .delay_us = 100000},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct world w;
        struct fault_status f;
        open_triangle(&w, 3, 1u << 30);
        struct transport *t = w.member[0].transport;
        assert_int_equal(t->ops->inject(t, &row[i]), 1);
        run_for(&w, 10000);
        uint64_t began_us = sim_now_us(w.sim);
        assert_int_equal(send_size(&w, 0, 1, LANE_BULK, 1000), 0);
        RUN_UNTIL(&w, w.member[1].messages == 1);
        assert_in_range(w.member[1].last_us - began_us, 100000, 150000);
        assert_int_equal(t->ops->faults(t, &f, 1), 1);
        assert_true(f.id == 1 && f.counts.bytes_slowed > 1000 && f.counts.bytes_slowed < 2000);
        assert_int_equal(t->ops->heal(t, 1), 1);
        began_us = sim_now_us(w.sim);
        assert_int_equal(send_size(&w, 0, 1, LANE_BULK, 1000), 0);
        RUN_UNTIL(&w, w.member[1].messages == 2);
        assert_true(w.member[1].last_us - began_us < 50000);
        world_close(&w);
    }
}

/* It is due, and may not go yet: the other end has not confirmed. Nobody asks for a deadline that is over meanwhile. */
static void what_is_due_and_waits_for_its_link_does_not_spin(void **state)
{
    (void)state;
    struct world w;
    struct fault_rule rule = {.kind = FAULT_DELAY, .direction = FAULT_OUT, .peer = 0, .delay_us = 1};
    world_open(&w, 3, 0, 1u << 30);
    link_up(&w, 0, 2);
    link_up(&w, 1, 2);
    struct transport *t = w.member[1].transport;
    assert_int_equal(t->ops->inject(t, &rule), 1);
    relay_dial_to(&w, 0, 1);
    RUN_UNTIL(&w, w.member[1].up[0]);
    assert_int_equal(send_size(&w, 1, 0, LANE_BULK, 100), 0);
    uint32_t steps = 0;
    for (; w.member[0].messages == 0; steps++) {
        assert_true(steps < 100);
        assert_true(sim_step(w.sim, sim_now_us(w.sim) + SECOND_US));
    }
    world_close(&w);
}

/* -- links that come and go -------------------------------------------------------------------- */

static void the_loss_of_either_real_link_ends_both_ends(void **state)
{
    (void)state;
    for (uint32_t lost = 0; lost < 2; lost++) {
        struct world w;
        open_triangle(&w, 3, 1u << 20);
        assert_int_equal(send_size(&w, 0, 1, LANE_BULK, 900000), 0);
        sim_reset_link(w.sim, lost, 2);
        RUN_UNTIL(&w, !is_relayed(&w, 0, 1) && !is_relayed(&w, 1, 0));
        assert_int_equal(w.member[0].why[1], DOWN_RESET);
        assert_int_equal(w.member[1].why[0], DOWN_RESET);
        RUN_UNTIL(&w, is_relayed(&w, 0, 1) && is_relayed(&w, 1, 0)); /* dialled again */
        assert_int_equal(send_size(&w, 1, 0, LANE_CONTROL, 10), 0);
        RUN_UNTIL(&w, w.member[0].messages == 1);
        world_close(&w);
    }
}

static void another_common_neighbour_takes_over_from_a_dead_relayer(void **state)
{
    (void)state;
    struct world w;
    open_triangle(&w, 4, 1u << 20);
    link_up(&w, 0, 3);
    link_up(&w, 1, 3);
    node_id through = 0;
    assert_true(relay_through(w.member[0].relay, w.member[0].link[1], &through));
    assert_int_equal(through, 2);
    sim_crash(w.sim, 2, false);
    RUN_UNTIL(&w, !is_relayed(&w, 0, 1) || !is_relayed(&w, 1, 0));
    RUN_UNTIL(&w, is_relayed(&w, 0, 1) && is_relayed(&w, 1, 0) &&
                      relay_through(w.member[0].relay, w.member[0].link[1], &through) && through == 3);
    assert_int_equal(send_size(&w, 0, 1, LANE_BULK, 1000), 0);
    RUN_UNTIL(&w, w.member[1].messages == 1);
    world_close(&w);
}

static void a_direct_link_replaces_a_relayed_one_and_is_not_doubled(void **state)
{
    (void)state;
    struct world w;
    open_triangle(&w, 3, 1u << 20);
    dial(&w, 1, 0);
    RUN_UNTIL(&w, w.member[0].up[1] && !is_relayed(&w, 0, 1) && w.member[1].up[0] && !is_relayed(&w, 1, 0));
    assert_int_equal(w.member[0].why[1], DOWN_REPLACED);
    assert_int_equal(w.member[1].why[0], DOWN_REPLACED);
    run_for(&w, 2 * SECOND_US);
    assert_false(is_relayed(&w, 0, 1));
    assert_int_equal(totals_of(&w.member[2]).pairs, 0);
    w.member[1].transport->ops->undial(w.member[1].transport, "sim:0");
    w.member[1].transport->ops->disconnect(w.member[1].transport, w.member[1].link[0], DOWN_LOCAL);
    RUN_UNTIL(&w, is_relayed(&w, 0, 1) && is_relayed(&w, 1, 0)); /* which is still dialled */
    world_close(&w);
}

static void no_call_is_taken_beside_a_direct_link(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3, 1, 1u << 20);
    link_up(&w, 0, 1);
    link_up(&w, 1, 2);
    struct relay_frame f = {
        .kind = RELAY_OPEN, .call = 7, .target = 1, .from = 2, .boot = 102}; /* "from 2", late */
    say(&w, 1, &f, LANE_CONTROL, NULL);
    RUN_UNTIL(&w, w.member[0].heard_count == 1);
    assert_int_equal(w.member[0].heard[0].kind, RELAY_REFUSE);
    assert_int_equal(w.member[0].heard[0].refusal, REFUSAL_NOT_NEEDED);
    assert_false(is_relayed(&w, 1, 2));
    world_close(&w);
}

static void a_relayed_link_is_not_relayed_again(void **state)
{
    (void)state;
    struct world w;
    open_triangle(&w, 4, 1u << 20); /* 0 - 2 - 1 */
    link_up(&w, 3, 0);
    relay_dial_to(&w, 3, 1); /* 0 has no link to 1 but the relayed one */
    RUN_UNTIL(&w, w.member[3].unreachables >= 3);
    assert_false(w.member[3].up[1]);
    link_up(&w, 3, 2);
    RUN_UNTIL(&w, is_relayed(&w, 3, 1) && is_relayed(&w, 1, 3));
    world_close(&w);
}

static void who_relays_for_nobody_refuses(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3, 0, 0);
    link_up(&w, 0, 2);
    link_up(&w, 1, 2);
    relay_dial_to(&w, 0, 1);
    RUN_UNTIL(&w, w.member[0].unreachables >= 2);
    assert_false(w.member[0].up[1] || w.member[1].up[0]);
    world_close(&w);
}

static void addresses_are_written_in_one_way(void **state)
{
    (void)state;
    static const char *const wrong[] = {"relay:node-", "relay:node-x",  "relay:node-01",
                                        "relay:7",     "relay:node--1", "relay:node-18446744073709551616"};
    char address[ADDRESS_TEXT_MAX];
    node_id id;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(relay_address_parse(wrong[i], &id));
    relay_address(UINT64_MAX, address);
    assert_true(relay_address_parse(address, &id) && id == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_frame_is_malformed),
        cmocka_unit_test(what_is_not_its_to_say_costs_a_peer_its_link),
        cmocka_unit_test(another_ones_name_is_malformed_and_an_unknown_call_is_late),
        cmocka_unit_test(a_peer_that_sends_over_the_window_loses_its_link),
        cmocka_unit_test(the_rate_is_kept_and_nothing_is_lost),
        cmocka_unit_test(a_full_queue_is_writable_once_and_a_slow_relayer_holds_a_window),
        cmocka_unit_test(pairs_share_the_rate_and_there_is_a_last_one),
        cmocka_unit_test(the_one_too_many_goes_through_another),
        cmocka_unit_test(a_delay_is_met_once_by_whatever_name),
        cmocka_unit_test(what_is_due_and_waits_for_its_link_does_not_spin),
        cmocka_unit_test(the_loss_of_either_real_link_ends_both_ends),
        cmocka_unit_test(another_common_neighbour_takes_over_from_a_dead_relayer),
        cmocka_unit_test(a_direct_link_replaces_a_relayed_one_and_is_not_doubled),
        cmocka_unit_test(no_call_is_taken_beside_a_direct_link),
        cmocka_unit_test(a_relayed_link_is_not_relayed_again),
        cmocka_unit_test(who_relays_for_nobody_refuses),
        cmocka_unit_test(addresses_are_written_in_one_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: the relay (net/relay/relay.h) holds its bounds against peers that do not keep to it, and keeps the rate.
 * Method: relay_fixture.h; the raw ones speak frames by hand. Planted: each malformed frame is a good one with one
 * thing changed, and the good one is accepted. */
#include "tests/unit/relay_fixture.h"

#include <string.h>

/* -- frames ------------------------------------------------------------------------------------ */

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
    world_link_up(w, 0, 2);
    world_link_up(w, 1, 2);
    struct relay_frame f = {.kind = RELAY_OPEN, .call = 77, .target = 1, .from = 0, .boot = 100};
    world_say(w, 2, &f, LANE_CONTROL, NULL);
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
    world_say(w, 2, &confirm, LANE_CONTROL, NULL);
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
        assert_int_equal(member_totals(&w.member[2]).pairs, 1);
        w.member[0].transport->ops->undial(w.member[0].transport, "sim:2");
        world_say(&w, 2, &f, LANE_CONTROL, NULL);
        world_run_for(&w, SECOND_US / 10);
        assert_int_equal(w.member[2].up[0], row[i].good);
        assert_true(w.member[2].up[1]); /* nothing of the other's has changed, but that the call is over */
        assert_int_equal(member_totals(&w.member[2]).pairs, row[i].good);
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
    world_link_up(&w, 0, 2);
    world_link_up(&w, 1, 2);
    w.member[0].transport->ops->undial(w.member[0].transport, "sim:2");
    struct relay_frame late = {
        .kind = RELAY_DATA, .call = 5, .sequence = 9, .head = (const uint8_t *)"x", .head_size = 1};
    world_say(&w, 2, &late, LANE_BULK, NULL);
    world_run_for(&w, SECOND_US / 10);
    assert_true(w.member[2].up[0]);
    struct relay_frame nobody = {.kind = RELAY_OPEN, .call = 6, .target = 17, .from = 0, .boot = 100};
    world_say(&w, 2, &nobody, LANE_CONTROL, NULL);
    RUN_UNTIL(&w, w.member[0].heard_count == 1);
    assert_int_equal(w.member[0].heard[0].kind, RELAY_REFUSE);
    assert_int_equal(w.member[0].heard[0].refusal, REFUSAL_NO_LINK);
    struct relay_frame wrong = {.kind = RELAY_OPEN, .call = 7, .target = 1, .from = 2, .boot = 102};
    world_say(&w, 2, &wrong, LANE_CONTROL, NULL);
    RUN_UNTIL(&w, !w.member[2].up[0]);
    assert_int_equal(w.member[2].why[0], DOWN_PROTOCOL);
    assert_int_equal(member_totals(&w.member[2]).pairs, 0);
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
            world_say(&w, 2, &f, LANE_BULK, body);
            blob_unref(body);
            if (i == 0) RUN_UNTIL(&w, w.member[0].heard[w.member[0].heard_count - 1].kind == RELAY_CREDIT);
        }
        world_run_for(&w, SECOND_US / 5);
        assert_int_equal(w.member[2].up[0], over == 0);
        world_close(&w);
    }
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

/* -- the rate ---------------------------------------------------------------------------------- */

static void the_rate_is_kept_and_nothing_is_lost(void **state)
{
    (void)state;
    struct world w;
    world_open_triangle(&w, 3, 1u << 20);
    uint64_t began_us = sim_now_us(w.sim);
    for (int i = 0; i < 80; i++) assert_int_equal(world_send(&w, 0, 1, LANE_BULK, 50000), 0);
    RUN_UNTIL(&w, w.member[1].messages == 80);
    double took_s = (double)(w.member[1].last_us - began_us) * 1e-6, rate = 80 * 50000 / took_s;
    assert_true(rate > 0.9 * (1u << 20) && rate < 1.1 * (1u << 20));
    world_close(&w);
}

static void a_full_queue_is_writable_once_and_a_slow_relayer_holds_a_window(void **state)
{
    (void)state;
    struct world w;
    world_open_triangle(&w, 3, 4u << 20);
    uint32_t sent = 0;
    while (world_send(&w, 0, 1, LANE_BULK, 400000) == 0) assert_true(++sent < 100);
    assert_true((uint64_t)sent * 400000 > LINK_QUEUE_MAX);
    assert_true((uint64_t)sent * 400000 < LINK_QUEUE_MAX + 2 * RELAY_WINDOW_BYTES);
    while (w.member[1].messages < sent) {
        assert_true(sim_step(w.sim, sim_now_us(w.sim) + 30 * SECOND_US));
        size_t held = w.member[2].relay->pair[0].side[0].queue[LANE_BULK].bytes;
        for (uint32_t i = 1; i < RELAY_PAIR_MAX; i++)
            held += w.member[2].relay->pair[i].side[0].queue[1].bytes;
        assert_true(held <= RELAY_WINDOW_BYTES);
    }
    world_run_for(&w, SECOND_US);
    assert_int_equal(w.member[0].writables, 1);
    world_close(&w);
}

static void pairs_share_the_rate_and_there_is_a_last_one(void **state)
{
    (void)state;
    struct world w;
    const uint32_t hub = 34;
    world_open(&w, hub + 1, 0, 1u << 20);
    for (uint32_t v = 0; v < hub; v++) world_link_up(&w, v, hub);
    for (uint32_t v = 0; v < hub; v += 2) world_dial_relayed(&w, v, v + 1);
    RUN_UNTIL(&w, member_totals(&w.member[hub]).pairs == RELAY_PAIR_MAX);
    world_run_for(&w, 3 * SECOND_US);
    assert_int_equal(member_totals(&w.member[hub]).pairs, RELAY_PAIR_MAX);
    uint32_t up = 0, least = UINT32_MAX, most = 0;
    for (uint32_t v = 0; v < hub; v += 2) {
        if (!world_is_relayed(&w, v, v + 1)) {
            assert_true(w.member[v].unreachables > 0); /* it goes on asking */
            continue;
        }
        up++;
        for (int i = 0; i < 100; i++) assert_int_equal(world_send(&w, v, v + 1, LANE_BULK, 10000), 0);
    }
    assert_int_equal(up, RELAY_PAIR_MAX);
    world_run_for(&w, 4 * SECOND_US);
    for (uint32_t v = 0; v < hub; v += 2) {
        if (!world_is_relayed(&w, v, v + 1)) continue;
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
    for (uint32_t v = 0; v < ends; v++) world_link_up(&w, v, hub);
    for (uint32_t v = 0; v < 2 * RELAY_PAIR_MAX; v += 2) world_dial_relayed(&w, v, v + 1);
    RUN_UNTIL(&w, member_totals(&w.member[hub]).pairs == RELAY_PAIR_MAX);
    uint32_t said = 0;
    struct trace trace = {TRACE_INFO, note_line, &said};
    w.member[hub].relay->config.trace = &trace;
    for (uint32_t v = 2 * RELAY_PAIR_MAX; v < ends; v += 2) world_dial_relayed(&w, v, v + 1);
    world_run_for(&w, SECOND_US);
    uint64_t refused = member_totals(&w.member[hub]).refused;
    assert_true(refused > 2); /* they ask again and again, */
    assert_int_equal(said, 1);
    for (uint32_t v = 0; v < ends; v++) world_link_up(&w, v, other);
    for (uint32_t v = 2 * RELAY_PAIR_MAX; v < ends; v += 2) { /* until there is somebody else */
        node_id through = 0;
        RUN_UNTIL(&w, world_is_relayed(&w, v, v + 1) && world_is_relayed(&w, v + 1, v));
        assert_true(relay_through(w.member[v].relay, w.member[v].link[v + 1], &through));
        assert_int_equal(through, other);
        assert_int_equal(world_send(&w, v, v + 1, LANE_BULK, 1000), 0);
        RUN_UNTIL(&w, w.member[v + 1].messages == 1);
    }
    assert_int_equal(member_totals(&w.member[hub]).pairs, RELAY_PAIR_MAX);
    struct relay_totals t = member_totals(&w.member[other]);
    assert_int_equal(t.pairs, 2);
    assert_int_equal(t.messages, 2);
    assert_int_equal(t.bytes, 2 * (1000 + 1 + RELAY_DATA_SIZE));
    assert_int_equal(t.refused, 0);
    w.member[hub].relay->config.trace = NULL;
    world_close(&w);
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
        cmocka_unit_test(addresses_are_written_in_one_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: injected faults do the same over every transport (transport.h, clauses 12 to 15).
 * Method: numbered messages over links, a fault at one end, and a look at what came, when, and how the links ended;
 * the recorder fails the test when a message is damaged, out of order or after a hole. Every test asks the rule's
 * counters whether it bit. Times are bounded from below only: a fault may not act less than it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "net/fault/fault.h"
#include "tests/contract/contract_endpoint.h"

#define MS 1000u
#define STATUS_MAX 64u

static int inject(struct endpoint *e, const struct fault_rule *r)
{
    e->in_downcall = true;
    int id = e->transport->ops->inject(e->transport, r);
    e->in_downcall = false;
    assert_true(id >= 1);
    return id;
}

static int heal(struct endpoint *e, int id)
{
    e->in_downcall = true;
    int healed = e->transport->ops->heal(e->transport, id);
    e->in_downcall = false;
    return healed;
}

static struct fault_status status_of(struct endpoint *e, int id)
{
    struct fault_status all[STATUS_MAX];
    uint32_t count = e->transport->ops->faults(e->transport, all, STATUS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (all[i].id == id) return all[i];
    fail_msg("no fault %d", id);
    return all[0];
}

static struct fault_rule rule_of(enum fault_kind kind, enum fault_direction direction, node_id peer)
{
    return (struct fault_rule){.kind = kind, .direction = direction, .peer = peer};
}

static unsigned downs(const struct endpoint *e)
{
    unsigned count = 0;
    for (unsigned i = 0; i < e->ups; i++) count += e->seen[i].downs;
    return count;
}

static void send_some(struct suite *s, struct endpoint *e, unsigned count)
{
    for (unsigned i = 0; i < count; i++) assert_int_equal(suite_send_next(s, e, LANE_BULK, 1000), 0);
}

static void silence(void **state, uint32_t dialler, struct fault_rule rule)
{
    struct suite s;
    suite_open(&s, state, 3);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1], *c = s.endpoint[2];
    suite_link(&s, c, a);
    endpoint_dial(s.endpoint[dialler], s.endpoint[1 - dialler]->address);
    RUN_UNTIL(&s, a->ups == 2 && endpoint_is_up(b));
    send_some(&s, a, 3);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 3);
    unsigned ups = a->ups, heard = endpoint_last(b)->messages[LANE_BULK];
    int id = inject(a, &rule);
    suite_run_for(&s, 20 * MS);
    send_some(&s, a, 3);
    send_some(&s, b, 3);
    RUN_UNTIL(&s, downs(a) == 1 && downs(b) == 1);
    assert_int_equal(endpoint_last(b)->why, DOWN_SILENT);
    assert_int_equal(a->seen[ups - 1].why, DOWN_SILENT);
    assert_int_equal(endpoint_last(b)->messages[LANE_BULK], heard);
    suite_run_for(&s, 2 * CONTRACT_SILENCE_US);
    assert_int_equal(a->ups, ups); /* no new one */
    assert_int_equal(b->ups, 1);
    assert_int_equal(c->ups, 1); /* others are as before */
    assert_int_equal(endpoint_last(c)->downs, 0);
    struct fault_status f = status_of(a, id);
    assert_false(f.ended);
    assert_true(f.counts.bytes_held + f.counts.bytes_swallowed > 0);
    assert_true(f.counts.links_refused > 0);
    assert_int_equal(heal(a, id), 1);
    assert_true(status_of(a, id).ended);
    RUN_UNTIL(&s, a->ups == ups + 1 && endpoint_is_up(a) && endpoint_is_up(b));
    send_some(&s, a, 2);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 2);
    suite_close(&s);
}

static void a_drop_is_silence_at_both_ends_and_no_new_link(void **state)
{
    silence(state, 0, rule_of(FAULT_DROP, FAULT_BOTH, 1));
}

static void a_drop_is_as_silent_for_who_dials_us(void **state)
{
    silence(state, 1, rule_of(FAULT_DROP, FAULT_BOTH, 1));
}

static void half_open_is_as_a_host_that_vanished(void **state)
{
    silence(state, 1, rule_of(FAULT_HALF_OPEN, FAULT_BOTH, 1));
}

static void a_short_drop_loses_nothing(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule r = rule_of(FAULT_DROP, FAULT_BOTH, 1);
    r.for_us = CONTRACT_SILENCE_US / 3;
    send_some(&s, a, 20);
    int id = inject(a, &r);
    suite_run_for(&s, 20 * MS);
    unsigned heard[2] = {endpoint_last(a)->messages[LANE_BULK], endpoint_last(b)->messages[LANE_BULK]};
    send_some(&s, a, 20);
    send_some(&s, b, 30);
    suite_run_for(&s, CONTRACT_SILENCE_US / 6);
    assert_int_equal(endpoint_last(a)->messages[LANE_BULK], heard[0]);
    assert_int_equal(endpoint_last(b)->messages[LANE_BULK], heard[1]);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 40 && endpoint_last(a)->messages[LANE_BULK] == 30);
    assert_int_equal(downs(a) + downs(b), 0);
    assert_true(status_of(a, id).ended);
    assert_true(status_of(a, id).counts.bytes_held > 20 * 1000);
    suite_close(&s);
}

static void a_link_that_lost_bytes_does_not_go_on(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule r = rule_of(FAULT_HALF_OPEN, FAULT_OUT, 1);
    r.for_us = CONTRACT_SILENCE_US / 3;
    send_some(&s, a, 2);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 2);
    int id = inject(a, &r);
    suite_run_for(&s, 20 * MS);
    send_some(&s, a, 3);
    send_some(&s, b, 3);
    RUN_UNTIL(&s, endpoint_last(a)->messages[LANE_BULK] == 3); /* one way */
    assert_int_equal(downs(a) + downs(b), 0);
    RUN_UNTIL(&s, downs(a) == 1 && downs(b) == 1);
    assert_true(status_of(a, id).ended);
    assert_int_equal(a->seen[0].why, DOWN_RESET);
    assert_int_equal(b->seen[0].why, DOWN_RESET);
    assert_int_equal(b->seen[0].messages[LANE_BULK], 2);
    assert_true(status_of(a, id).counts.bytes_swallowed >= 3 * 1000);
    RUN_UNTIL(&s, endpoint_is_up(a) && endpoint_is_up(b));
    suite_close(&s);
}

static void a_one_way_drop_is_heard_by_one_side_only(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, b, a);
    struct fault_rule r = rule_of(FAULT_DROP, FAULT_OUT, 1);
    int id = inject(a, &r);
    suite_run_for(&s, 20 * MS);
    send_some(&s, a, 5);
    send_some(&s, b, 5);
    RUN_UNTIL(&s, endpoint_last(a)->messages[LANE_BULK] == 5);
    RUN_UNTIL(&s, downs(a) == 1 && downs(b) == 1);
    assert_int_equal(endpoint_last(b)->messages[LANE_BULK], 0);
    assert_int_equal(endpoint_last(b)->why, DOWN_SILENT);
    assert_true(status_of(a, id).counts.bytes_held >= 5 * 1000);
    assert_int_equal(heal(a, 0), 1);
    RUN_UNTIL(&s, endpoint_is_up(a) && endpoint_is_up(b));
    suite_close(&s);
}

static void a_delay_is_never_shorter_and_keeps_the_order(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule r = rule_of(FAULT_DELAY, FAULT_BOTH, 1);
    r.any = !s.factory->relayed; /* else it is the relayer's too */
    r.delay_us = 200 * MS;
    r.jitter_us = 50 * MS;
    int id = inject(a, &r);
    suite_run_for(&s, 20 * MS);
    uint64_t start_us = s.factory->now_us(s.world);
    for (unsigned i = 0; i < 50; i++) {
        send_some(&s, a, 1);
        send_some(&s, b, 1);
        suite_run_for(&s, 2 * MS);
    }
    send_some(&s, a, 1);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] > 0);
    assert_true(s.factory->now_us(s.world) - start_us >= 150 * MS);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 51 && endpoint_last(a)->messages[LANE_BULK] == 50);
    assert_int_equal(downs(a) + downs(b), 0);
    assert_true(status_of(a, id).counts.bytes_slowed > 100 * 1000);
    struct link_stats stats;
    assert_int_equal(suite_send_next(&s, a, LANE_CONTROL, SIZE_MAX), 0);
    assert_int_equal(suite_send_next(&s, b, LANE_CONTROL, SIZE_MAX), 0);
    if (!s.factory->relayed) /* they have none */
        RUN_UNTIL(&s, b->transport->ops->stats(b->transport, endpoint_last(b)->id, &stats) == 0 &&
                          stats.round_trip_us >= 300 * MS);
    assert_int_equal(heal(a, id), 1);
    send_some(&s, a, 20);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 71);
    suite_close(&s);
}

static void a_limit_is_kept_and_the_link_lives_on(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule r = rule_of(FAULT_LIMIT, FAULT_IN, 0);
    r.bytes_s = 100 * 1000;
    int id = inject(b, &r);
    suite_run_for(&s, 20 * MS);
    uint64_t start_us = s.factory->now_us(s.world);
    send_some(&s, a, 250);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 250);
    assert_true(s.factory->now_us(s.world) - start_us >= 2400 * MS);
    assert_int_equal(downs(a) + downs(b), 0);
    assert_true(status_of(b, id).counts.bytes_slowed >= 250 * 1000);
    suite_close(&s);
}

static void a_reset_ends_the_link_at_once_and_again(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule r = rule_of(FAULT_RESET, FAULT_BOTH, 1);
    uint64_t start_us = s.factory->now_us(s.world);
    int id = inject(a, &r);
    RUN_UNTIL(&s, downs(a) == 1 && downs(b) == 1);
    assert_true(s.factory->now_us(s.world) - start_us < CONTRACT_SILENCE_US);
    assert_int_equal(endpoint_last(a)->why, DOWN_RESET);
    assert_int_equal(b->seen[0].why, DOWN_RESET);
    RUN_UNTIL(&s, status_of(a, id).counts.links_reset >= 3); /* each new one too */
    assert_int_equal(a->ups, 1);
    assert_int_equal(heal(a, id), 1);
    RUN_UNTIL(&s, endpoint_is_up(a) && endpoint_is_up(b));
    send_some(&s, b, 3);
    RUN_UNTIL(&s, endpoint_last(a)->messages[LANE_BULK] == 3);
    suite_close(&s);
}

/* The recorder looks at every message that comes through. */
static void corruption(void **state, bool at_receiver)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule r = rule_of(FAULT_CORRUPT, at_receiver ? FAULT_IN : FAULT_OUT, at_receiver ? 0 : 1);
    r.one_in = 10000;
    struct endpoint *owner = at_receiver ? b : a;
    int id = inject(owner, &r);
    suite_run_for(&s, 20 * MS);
    for (unsigned links = 1; links <= 3; links++) {
        for (unsigned i = 0; i < 60 && endpoint_is_up(a) && downs(b) < links; i++) {
            send_some(&s, a, 1);
            suite_run_for(&s, 1 * MS);
        }
        RUN_UNTIL(&s, downs(b) >= links);
        assert_int_equal(b->seen[links - 1].why, DOWN_PROTOCOL);
        RUN_UNTIL(&s, b->ups == links + 1 && endpoint_is_up(a) && endpoint_is_up(b));
    }
    assert_true(status_of(owner, id).counts.bytes_corrupted >= 3);
    assert_int_equal(heal(owner, id), 1);
    suite_close(&s);
}

static void corruption_is_caught_by_who_receives(void **state)
{
    corruption(state, true);
}

static void corruption_is_caught_by_who_is_sent_to(void **state)
{
    corruption(state, false);
}

static void a_full_queue_behind_a_drop_is_writable_when_it_is_healed(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule r = rule_of(FAULT_DROP, FAULT_BOTH, 1);
    int id = inject(a, &r);
    suite_run_for(&s, 20 * MS);
    unsigned sent = 0;
    while (suite_send_next(&s, a, LANE_BULK, 256 * 1024) == 0) assert_true(++sent < 1000);
    suite_run_for(&s, 100 * MS);
    assert_int_equal(endpoint_last(a)->writables, 0);
    assert_int_equal(heal(a, id), 1);
    RUN_UNTIL(&s, endpoint_last(a)->writables == 1);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == sent);
    suite_close(&s);
}

static void rules_add_up_end_by_themselves_and_are_told_of(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    struct fault_rule delay = rule_of(FAULT_DELAY, FAULT_BOTH, 1),
                      reset = rule_of(FAULT_RESET, FAULT_BOTH, 1);
    struct fault_rule bad = rule_of(FAULT_DELAY, FAULT_BOTH, 1), other = rule_of(FAULT_DROP, FAULT_BOTH, 7);
    delay.delay_us = 50 * MS;
    reset.for_us = 100 * MS;
    assert_int_equal(a->transport->ops->inject(a->transport, &bad), ERR_USAGE);
    int slow = inject(a, &delay), over = inject(a, &reset), nobody = inject(a, &other);
    RUN_UNTIL(&s, status_of(a, over).ended);
    assert_true(status_of(a, over).counts.links_reset >= 1);
    RUN_UNTIL(&s, endpoint_is_up(a) && endpoint_is_up(b));
    uint64_t start_us = s.factory->now_us(s.world);
    send_some(&s, a, 1);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_BULK] == 1);
    assert_true(s.factory->now_us(s.world) - start_us >=
                50 * MS); /* the delay is still there, for new links too */
    assert_false(status_of(a, slow).ended);
    struct fault_status f = status_of(a, nobody);
    assert_false(fault_has_bitten(&f.counts));
    assert_int_equal(heal(a, 0), 2);
    assert_int_equal(heal(a, 0), 0);
    suite_close(&s);
}

static void a_transport_closes_under_any_fault(void **state)
{
    for (unsigned kind = 0; kind < FAULT_KIND_COUNT; kind++) {
        struct suite s;
        suite_open(&s, state, 2);
        struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
        suite_link(&s, b, a);
        struct fault_rule r = rule_of((enum fault_kind)kind, FAULT_BOTH, 1);
        r.any = true;
        if (kind == FAULT_DELAY) r.delay_us = 300 * MS;
        if (kind == FAULT_LIMIT) r.bytes_s = 1000;
        if (kind == FAULT_CORRUPT) r.one_in = 100;
        send_some(&s, a, 50);
        inject(a, &r);
        send_some(&s, a, 50);
        suite_run_for(&s, 20 * MS);
        endpoint_close(a);
        RUN_UNTIL(&s, a->closed);
        suite_close(&s);
    }
}

int contract_run_faults(const struct contract_factory *factory)
{
    void *f = (void *)(uintptr_t)factory;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(a_drop_is_silence_at_both_ends_and_no_new_link, f),
        cmocka_unit_test_prestate(a_drop_is_as_silent_for_who_dials_us, f),
        cmocka_unit_test_prestate(half_open_is_as_a_host_that_vanished, f),
        cmocka_unit_test_prestate(a_short_drop_loses_nothing, f),
        cmocka_unit_test_prestate(a_link_that_lost_bytes_does_not_go_on, f),
        cmocka_unit_test_prestate(a_one_way_drop_is_heard_by_one_side_only, f),
        cmocka_unit_test_prestate(a_delay_is_never_shorter_and_keeps_the_order, f),
        cmocka_unit_test_prestate(a_limit_is_kept_and_the_link_lives_on, f),
        cmocka_unit_test_prestate(a_reset_ends_the_link_at_once_and_again, f),
        cmocka_unit_test_prestate(corruption_is_caught_by_who_receives, f),
        cmocka_unit_test_prestate(corruption_is_caught_by_who_is_sent_to, f),
        cmocka_unit_test_prestate(a_full_queue_behind_a_drop_is_writable_when_it_is_healed, f),
        cmocka_unit_test_prestate(rules_add_up_end_by_themselves_and_are_told_of, f),
        cmocka_unit_test_prestate(a_transport_closes_under_any_fault, f),
    };
    return _cmocka_run_group_tests(factory->name, tests, sizeof tests / sizeof tests[0], NULL, NULL);
}

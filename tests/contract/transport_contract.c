/* Goal: every implementation keeps every clause of the contract in net/transport.h.
 * Method: endpoints with recording sinks; each message carries its number and a body that follows from it, so
 * the recorder itself checks wholeness, order and the absence of holes (clauses 1, 2); every downcall goes
 * through a wrapper that forbids callbacks while it runs (clauses 3, 6). Waits are bounded in the world's
 * time. */
#include "tests/contract/transport_contract.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/err.h"
#include "tests/contract/contract_endpoint.h"

/* -- clauses 1, 2, 5: messages ----------------------------------------------------------------- */

static void messages_arrive_whole_and_in_order(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    static const size_t sizes[] = {SIZE_MAX, 0, 1, 65535, 65536, 65537, 300000, SIZE_MAX, 100};
    for (unsigned round = 0; round < 6; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (int lane = 0; lane < 2; lane++) {
                assert_int_equal(suite_send_next(&s, a, (enum lane)lane, sizes[i]), 0);
                assert_int_equal(suite_send_next(&s, b, (enum lane)lane, sizes[i]), 0);
            }
    RUN_UNTIL(&s, endpoint_last(a)->messages[0] + endpoint_last(a)->messages[1] +
                          endpoint_last(b)->messages[0] + endpoint_last(b)->messages[1] ==
                      216);
    assert_int_equal(endpoint_last(b)->messages[LANE_BULK], 54);
    assert_int_equal(endpoint_last(a)->messages[LANE_CONTROL], 54);
    suite_close(&s);
}

static void a_closed_link_loses_a_tail_but_no_middle(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(suite_send_next(&s, a, LANE_BULK, 150000), 0);
        assert_int_equal(suite_send_next(&s, a, LANE_CONTROL, SIZE_MAX), 0);
    }
    RUN_UNTIL(&s, b->seen[0].messages[LANE_CONTROL] > 3);
    endpoint_disconnect(b, b->seen[0].id, DOWN_LOCAL);
    assert_int_equal(endpoint_send(b, b->seen[0].id, LANE_BULK, 0, NULL), ERR_NO_LINK);
    RUN_UNTIL(&s, a->seen[0].downs == 1 && b->seen[0].downs == 1); /* the recorder looked for holes */
    assert_int_equal(b->seen[0].why, DOWN_LOCAL);
    suite_close(&s);
}

static void a_kept_body_outlives_the_link(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    assert_int_equal(suite_send_next(&s, a, LANE_BULK, 200000), 0);
    RUN_UNTIL(&s, b->kept != NULL);
    endpoint_disconnect(a, a->seen[0].id, DOWN_LOCAL);
    RUN_UNTIL(&s, b->seen[0].downs == 1);
    assert_int_equal(b->kept->size, 200000);
    contract_body_check(b->kept, b->kept_number);
    suite_close(&s);
}

static void an_answer_may_be_sent_from_inside_a_message(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    b->echo = true;
    for (int i = 0; i < 50; i++)
        assert_int_equal(suite_send_next(&s, a, LANE_CONTROL, i % 3 == 0 ? 1000 : SIZE_MAX), 0);
    RUN_UNTIL(&s, endpoint_last(a)->messages[LANE_CONTROL] == 50);
    suite_close(&s);
}

static void a_link_may_be_closed_from_inside_its_message(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    b->disconnect_on_message = true;
    for (int i = 0; i < 50; i++) assert_int_equal(suite_send_next(&s, a, LANE_CONTROL, SIZE_MAX), 0);
    RUN_UNTIL(&s, b->seen[0].downs == 1 && a->seen[0].downs == 1);
    assert_int_equal(b->seen[0].messages[LANE_CONTROL], 1);
    suite_close(&s);
}

/* -- clauses 3, 4: the queue's limit ----------------------------------------------------------- */

/* Fills the bulk lane without letting the world go on. Returns the count of accepted messages. */
static unsigned fill(struct suite *s, struct endpoint *e, size_t size)
{
    for (unsigned count = 0;; count++) {
        int err = suite_send_next(s, e, LANE_BULK, size);
        if (err == ERR_FULL) return count;
        assert_int_equal(err, 0);
        assert_true(count * size <= 4 * LINK_QUEUE_MAX);
    }
}

static void a_full_queue_says_so_and_is_writable_once(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    unsigned accepted = fill(&s, a, 500000);
    assert_true(accepted * 500000u > LINK_QUEUE_MAX / 2);
    assert_int_equal(suite_send_next(&s, a, LANE_BULK, 500000), ERR_FULL);
    assert_int_equal(suite_send_next(&s, a, LANE_CONTROL, SIZE_MAX), 0); /* its lane is empty */
    assert_int_equal(a->seen[0].writables, 0);
    RUN_UNTIL(&s, a->seen[0].writables == 1);
    assert_int_equal(suite_send_next(&s, a, LANE_BULK, 500000), 0);
    RUN_UNTIL(&s, b->seen[0].messages[LANE_BULK] == accepted + 1);
    suite_run_for(&s, CONTRACT_HEARTBEAT_US * 2);
    assert_int_equal(a->seen[0].writables, 1);
    suite_close(&s);
}

static void a_full_link_that_goes_down_is_never_writable(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    fill(&s, a, 500000);
    endpoint_disconnect(a, a->seen[0].id, DOWN_LOCAL);
    RUN_UNTIL(&s, a->seen[0].downs == 1 && b->seen[0].downs == 1);
    assert_int_equal(a->seen[0].writables, 0);
    suite_close(&s);
}

static void an_empty_lane_takes_any_size(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    assert_int_equal(suite_send_next(&s, a, LANE_BULK, LINK_QUEUE_MAX + 1000000), 0);
    assert_int_equal(suite_send_next(&s, a, LANE_CONTROL, SIZE_MAX), 0);
    assert_int_equal(suite_send_next(&s, a, LANE_BULK, LINK_QUEUE_MAX + 1000000), ERR_FULL);
    RUN_UNTIL(&s, b->seen[0].messages[LANE_BULK] == 1 && b->seen[0].messages[LANE_CONTROL] == 1);
    RUN_UNTIL(&s, a->seen[0].writables == 1);
    assert_int_equal(suite_send_next(&s, a, LANE_BULK, LINK_QUEUE_MAX + 1), 0);
    RUN_UNTIL(&s, b->seen[0].messages[LANE_BULK] == 2);
    suite_close(&s);
}

/* -- clause 10: silence ------------------------------------------------------------------------ */

static void a_silent_peer_is_down_and_comes_back(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    s.factory->pause(s.world, 1);
    RUN_UNTIL(&s, a->seen[0].downs == 1);
    assert_int_equal(a->seen[0].why, DOWN_SILENT);
    s.factory->resume(s.world, 1);
    RUN_UNTIL(&s, a->ups > 1 && endpoint_is_up(a) && endpoint_is_up(b));
    suite_close(&s);
}

static void a_short_pause_loses_nothing(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    s.factory->pause(s.world, 1);
    for (int i = 0; i < 20; i++) assert_int_equal(suite_send_next(&s, a, LANE_BULK, 10000), 0);
    suite_run_for(&s, CONTRACT_SILENCE_US / 3);
    s.factory->resume(s.world, 1);
    RUN_UNTIL(&s, b->seen[0].messages[LANE_BULK] == 20);
    assert_int_equal(a->seen[0].downs + b->seen[0].downs, 0);
    suite_close(&s);
}

static void a_quiet_link_stays_up(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    suite_run_for(&s, CONTRACT_SILENCE_US * 2);
    assert_true(endpoint_is_up(a) && endpoint_is_up(b));
    assert_int_equal(a->ups, 1);
    suite_close(&s);
}

static void a_reset_link_comes_back(void **state)
{
    const struct contract_factory *factory = *state;
    if (factory->reset == NULL) skip();
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    for (int i = 0; i < 20; i++) assert_int_equal(suite_send_next(&s, a, LANE_BULK, 10000), 0);
    factory->reset(s.world, 0, 1);
    RUN_UNTIL(&s, a->ups == 2 && b->ups == 2 && endpoint_is_up(a) && endpoint_is_up(b));
    assert_int_equal(a->seen[0].why, DOWN_RESET);
    suite_close(&s);
}

/* -- clause 11: close; and the numbers --------------------------------------------------------- */

static void closed_is_the_last_word(void **state)
{
    struct suite s;
    suite_open(&s, state, 3);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1], *c = s.endpoint[2];
    suite_link(&s, a, b);
    endpoint_dial(a, c->address);
    RUN_UNTIL(&s, a->ups == 2 && endpoint_is_up(c));
    for (int i = 0; i < 5; i++) assert_int_equal(suite_send_next(&s, a, LANE_BULK, 100000), 0);
    endpoint_close(a);
    assert_int_equal(endpoint_send(a, a->seen[0].id, LANE_CONTROL, 0, NULL), ERR_NO_LINK);
    RUN_UNTIL(&s, a->closed && b->seen[0].downs == 1 &&
                      c->seen[0].downs == 1); /* recorder: every up has its down */
    assert_int_equal(a->seen[0].why, DOWN_LOCAL);
    assert_int_equal(b->seen[0].why, DOWN_CLOSED);
    s.factory->release(s.world, 0);
    suite_run_for(&s, CONTRACT_HEARTBEAT_US * 4);
    suite_close(&s);
}

static void numbers_agree_at_both_ends(void **state)
{
    struct suite s;
    suite_open(&s, state, 5);
    struct endpoint *hub = s.endpoint[0];
    for (uint32_t v = 1; v < 5; v++) endpoint_dial(s.endpoint[v], hub->address);
    RUN_UNTIL(&s, hub->ups == 4);
    for (uint32_t v = 1; v < 5; v++) RUN_UNTIL(&s, endpoint_is_up(s.endpoint[v]));
    for (uint32_t v = 1; v < 5; v++)
        for (unsigned i = 0; i < 10 * v; i++)
            assert_int_equal(suite_send_next(&s, s.endpoint[v], LANE_BULK, 1000), 0);
    struct transport_totals totals;
    for (unsigned i = 0; i < 4; i++) {
        struct seen *link = &hub->seen[i];
        unsigned expected = 10 * (unsigned)link->peer.id;
        RUN_UNTIL(&s, link->messages[LANE_BULK] == expected);
        struct link_stats stats;
        assert_int_equal(hub->transport->ops->stats(hub->transport, link->id, &stats), 0);
        assert_int_equal(stats.messages_received, expected);
        assert_true(stats.bytes_received >= expected * 1000u);
    }
    hub->transport->ops->totals(hub->transport, &totals);
    assert_int_equal(totals.links, 4 + s.factory->links_extra);
    assert_int_equal(totals.links_lost, 0);
    assert_true(totals.bytes_received >= 100u * 1000u);
    suite_close(&s);
}

int contract_run(const struct contract_factory *factory)
{
    void *f = (void *)(uintptr_t)factory;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(messages_arrive_whole_and_in_order, f),
        cmocka_unit_test_prestate(a_closed_link_loses_a_tail_but_no_middle, f),
        cmocka_unit_test_prestate(a_kept_body_outlives_the_link, f),
        cmocka_unit_test_prestate(an_answer_may_be_sent_from_inside_a_message, f),
        cmocka_unit_test_prestate(a_link_may_be_closed_from_inside_its_message, f),
        cmocka_unit_test_prestate(a_full_queue_says_so_and_is_writable_once, f),
        cmocka_unit_test_prestate(a_full_link_that_goes_down_is_never_writable, f),
        cmocka_unit_test_prestate(an_empty_lane_takes_any_size, f),
        cmocka_unit_test_prestate(a_silent_peer_is_down_and_comes_back, f),
        cmocka_unit_test_prestate(a_short_pause_loses_nothing, f),
        cmocka_unit_test_prestate(a_quiet_link_stays_up, f),
        cmocka_unit_test_prestate(a_reset_link_comes_back, f),
        cmocka_unit_test_prestate(closed_is_the_last_word, f),
        cmocka_unit_test_prestate(numbers_agree_at_both_ends, f),
    };
    int failed = _cmocka_run_group_tests(factory->name, tests, sizeof tests / sizeof tests[0], NULL, NULL);
    return failed + contract_run_links(factory) + contract_run_faults(factory);
}

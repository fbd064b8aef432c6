/* Goal: links come once per peer, are replaced and dialled as clauses 7 to 9 of net/transport.h say, by every
 * implementation.
 * Method: as transport_contract.c: endpoints with recording sinks, and waits that are bounded in the world's time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/contract/contract_endpoint.h"

/* -- clauses 7, 8: links ----------------------------------------------------------------------- */

static void a_dead_id_stays_dead_when_its_peer_is_back(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    endpoint_disconnect(b, b->seen[0].id, DOWN_LOCAL);
    RUN_UNTIL(&s, a->ups == 2 && endpoint_is_up(a)); /* clause 9: dialled again */
    assert_int_equal(a->seen[0].why, DOWN_CLOSED);
    assert_int_equal(endpoint_send(a, a->seen[0].id, LANE_CONTROL, 0, NULL), ERR_NO_LINK);
    struct link_stats stats;
    assert_int_equal(a->transport->ops->stats(a->transport, a->seen[0].id, &stats), ERR_NO_LINK);
    assert_int_equal(a->transport->ops->stats(a->transport, a->seen[1].id, &stats), 0);
    struct link_id never = {123456, 1};
    assert_int_equal(endpoint_send(a, never, LANE_CONTROL, 0, NULL), ERR_NO_LINK);
    suite_close(&s);
}

static void of_two_links_that_of_the_smaller_id_stays(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    endpoint_dial(a, b->address);
    endpoint_dial(b, a->address);
    RUN_UNTIL(&s, endpoint_is_up(a) && endpoint_is_up(b) && endpoint_last(a)->peer.dialled &&
                      !endpoint_last(b)->peer.dialled);
    unsigned ups = a->ups + b->ups;
    suite_run_for(&s, CONTRACT_SILENCE_US);
    assert_true(endpoint_is_up(a) && endpoint_is_up(b));
    assert_int_equal(a->ups + b->ups, ups); /* settled */
    assert_true(endpoint_last(a)->peer.dialled);
    struct transport_totals totals;
    a->transport->ops->totals(a->transport, &totals);
    assert_int_equal(totals.links, 1 + s.factory->links_extra);
    s.sent[0][a->ups - 1][LANE_CONTROL] = 0;
    assert_int_equal(suite_send_next(&s, a, LANE_CONTROL, SIZE_MAX), 0);
    RUN_UNTIL(&s, endpoint_last(b)->messages[LANE_CONTROL] == 1);
    suite_close(&s);
}

static void a_new_boot_replaces_the_old_link(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    endpoint_close(s.endpoint[0]);
    RUN_UNTIL(&s, s.endpoint[0]->closed);
    s.factory->release(s.world, 0);
    struct transport_config patient = suite_config(0); /* would not replace its old link for being quiet */
    patient.heartbeat_us = CONTRACT_SILENCE_US;
    struct endpoint *a = suite_start(&s, &patient), *b = s.endpoint[1];
    suite_link(&s, b, a);
    s.factory->crash(s.world, 1);
    b->crashed = true;
    struct transport_config config = suite_config(1);
    config.boot = 7777; /* greater than its first */
    b = suite_start(&s, &config);
    endpoint_dial(b, a->address);
    RUN_UNTIL(&s, a->ups == 2 && endpoint_is_up(b));
    assert_int_equal(a->seen[0].downs, 1);
    assert_int_equal(a->seen[0].why, DOWN_REPLACED);
    assert_true(a->seen[1].peer.boot == 7777);
    assert_true(endpoint_is_up(a));
    suite_close(&s);
}

/* -- clause 9: dialling ------------------------------------------------------------------------ */

static void undial_ends_the_tries_and_leaves_the_link(void **state)
{
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    suite_link(&s, a, b);
    a->transport->ops->undial(a->transport, b->address);
    suite_run_for(&s, CONTRACT_REDIAL_US * 4);
    assert_true(endpoint_is_up(a));
    endpoint_disconnect(b, b->seen[0].id, DOWN_LOCAL);
    RUN_UNTIL(&s, a->seen[0].downs == 1);
    suite_run_for(&s, CONTRACT_REDIAL_US * 10);
    assert_int_equal(a->ups, 1);
    suite_close(&s);
}

static void dialling_oneself_is_refused_once(void **state)
{
    struct suite s;
    suite_open(&s, state, 1);
    struct endpoint *a = s.endpoint[0];
    endpoint_dial(a, a->address);
    RUN_UNTIL(&s, a->refusals > 0);
    suite_run_for(&s, CONTRACT_REDIAL_US * 10);
    assert_int_equal(a->refusals, 1);
    assert_int_equal(a->refused_err, ERR_SELF);
    assert_string_equal(a->refused_address, a->address);
    assert_int_equal(a->ups, 0);
    suite_close(&s);
}

static void tries_that_fail_for_now_are_told_and_go_on(void **state)
{
    if (((const struct contract_factory *)*state)->relayed) skip(); /* nobody knows why it fails */
    struct suite s;
    suite_open(&s, state, 2);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    struct transport_config config = suite_config(1);
    char address[ADDRESS_TEXT_MAX];
    memcpy(address, b->address, sizeof address);
    endpoint_close(b);
    RUN_UNTIL(&s, b->closed);
    s.factory->release(s.world, 1);
    endpoint_dial(a, address);
    RUN_UNTIL(&s, a->unreachables >= 3);
    assert_int_equal(a->unreachable_err, ERR_CLOSED); /* nobody listens there */
    assert_string_equal(a->unreachable_address, address);
    assert_int_equal(a->refusals, 0);
    b = suite_start(&s, &config);
    if (strcmp(b->address, address) == 0) RUN_UNTIL(&s, endpoint_is_up(a));
    suite_close(&s);
}

static void refused_once_as_another_cluster(void **state, uint8_t experiment, uint64_t name)
{
    struct suite s;
    suite_open(&s, state, 3);
    struct endpoint *a = s.endpoint[0], *b = s.endpoint[1];
    struct transport_config config = suite_config(2);
    endpoint_close(s.endpoint[2]);
    RUN_UNTIL(&s, s.endpoint[2]->closed);
    s.factory->release(s.world, 2);
    config.cluster[15] ^= experiment;
    config.cluster_name ^= name;
    struct endpoint *c = suite_start(&s, &config);
    endpoint_dial(c, a->address);
    suite_link(&s, b, a); /* the others do not mind */
    RUN_UNTIL(&s, c->refusals > 0);
    suite_run_for(&s, CONTRACT_REDIAL_US * 10);
    assert_int_equal(c->refusals, 1);
    assert_int_equal(c->refused_err, ERR_CLUSTER);
    endpoint_dial(c, a->address); /* it may have changed: the owner wants to know */
    RUN_UNTIL(&s, c->refusals > 1);
    suite_run_for(&s, CONTRACT_REDIAL_US * 10);
    assert_int_equal(c->refusals, 2);
    assert_int_equal(c->ups, 0);
    assert_int_equal(a->ups, 1);
    suite_close(&s);
}

static void another_cluster_is_refused_once(void **state)
{
    if (((const struct contract_factory *)*state)->relayed) skip(); /* by the relayer already */
    refused_once_as_another_cluster(state, 1, 0);
    refused_once_as_another_cluster(state, 0, 1);
}

static void what_cannot_be_an_address_is_bad_usage(void **state)
{
    struct suite s;
    suite_open(&s, state, 1);
    struct transport *t = s.endpoint[0]->transport;
    static const char *const wrong[] = {"", "x", ":", "host:", "host:port"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(t->ops->dial(t, wrong[i]), ERR_USAGE);
    suite_close(&s);
}

int contract_run_links(const struct contract_factory *factory)
{
    void *f = (void *)(uintptr_t)factory;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(a_dead_id_stays_dead_when_its_peer_is_back, f),
        cmocka_unit_test_prestate(of_two_links_that_of_the_smaller_id_stays, f),
        cmocka_unit_test_prestate(a_new_boot_replaces_the_old_link, f),
        cmocka_unit_test_prestate(undial_ends_the_tries_and_leaves_the_link, f),
        cmocka_unit_test_prestate(tries_that_fail_for_now_are_told_and_go_on, f),
        cmocka_unit_test_prestate(dialling_oneself_is_refused_once, f),
        cmocka_unit_test_prestate(another_cluster_is_refused_once, f),
        cmocka_unit_test_prestate(what_cannot_be_an_address_is_bad_usage, f),
    };
    return _cmocka_run_group_tests(factory->name, tests, sizeof tests / sizeof tests[0], NULL, NULL);
}

/* Goal: a relayed link (net/relay/relay.h) comes, goes and is replaced as its real links do, survives the loss of each,
 * and meets injected faults once.
 * Method: relay_fixture.h; links are reset, relayers crash, direct links come and go. */
#include "tests/unit/relay_fixture.h"

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
        world_open_triangle(&w, 3, 1u << 30);
        struct transport *t = w.member[0].transport;
        assert_int_equal(t->ops->inject(t, &row[i]), 1);
        world_run_for(&w, 10000);
        uint64_t began_us = sim_now_us(w.sim);
        assert_int_equal(world_send(&w, 0, 1, LANE_BULK, 1000), 0);
        RUN_UNTIL(&w, w.member[1].messages == 1);
        assert_in_range(w.member[1].last_us - began_us, 100000, 150000);
        assert_int_equal(t->ops->faults(t, &f, 1), 1);
        assert_true(f.id == 1 && f.counts.bytes_slowed > 1000 && f.counts.bytes_slowed < 2000);
        assert_int_equal(t->ops->heal(t, 1), 1);
        began_us = sim_now_us(w.sim);
        assert_int_equal(world_send(&w, 0, 1, LANE_BULK, 1000), 0);
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
    world_link_up(&w, 0, 2);
    world_link_up(&w, 1, 2);
    struct transport *t = w.member[1].transport;
    assert_int_equal(t->ops->inject(t, &rule), 1);
    world_dial_relayed(&w, 0, 1);
    RUN_UNTIL(&w, w.member[1].up[0]);
    assert_int_equal(world_send(&w, 1, 0, LANE_BULK, 100), 0);
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
        world_open_triangle(&w, 3, 1u << 20);
        assert_int_equal(world_send(&w, 0, 1, LANE_BULK, 900000), 0);
        sim_reset_link(w.sim, lost, 2);
        RUN_UNTIL(&w, !world_is_relayed(&w, 0, 1) && !world_is_relayed(&w, 1, 0));
        assert_int_equal(w.member[0].why[1], DOWN_RESET);
        assert_int_equal(w.member[1].why[0], DOWN_RESET);
        RUN_UNTIL(&w, world_is_relayed(&w, 0, 1) && world_is_relayed(&w, 1, 0)); /* dialled again */
        assert_int_equal(world_send(&w, 1, 0, LANE_CONTROL, 10), 0);
        RUN_UNTIL(&w, w.member[0].messages == 1);
        world_close(&w);
    }
}

static void another_common_neighbour_takes_over_from_a_dead_relayer(void **state)
{
    (void)state;
    struct world w;
    world_open_triangle(&w, 4, 1u << 20);
    world_link_up(&w, 0, 3);
    world_link_up(&w, 1, 3);
    node_id through = 0;
    assert_true(relay_through(w.member[0].relay, w.member[0].link[1], &through));
    assert_int_equal(through, 2);
    sim_crash(w.sim, 2, false);
    RUN_UNTIL(&w, !world_is_relayed(&w, 0, 1) || !world_is_relayed(&w, 1, 0));
    RUN_UNTIL(&w, world_is_relayed(&w, 0, 1) && world_is_relayed(&w, 1, 0) &&
                      relay_through(w.member[0].relay, w.member[0].link[1], &through) && through == 3);
    assert_int_equal(world_send(&w, 0, 1, LANE_BULK, 1000), 0);
    RUN_UNTIL(&w, w.member[1].messages == 1);
    world_close(&w);
}

static void a_direct_link_replaces_a_relayed_one_and_is_not_doubled(void **state)
{
    (void)state;
    struct world w;
    world_open_triangle(&w, 3, 1u << 20);
    world_dial(&w, 1, 0);
    RUN_UNTIL(&w, w.member[0].up[1] && !world_is_relayed(&w, 0, 1) && w.member[1].up[0] &&
                      !world_is_relayed(&w, 1, 0));
    assert_int_equal(w.member[0].why[1], DOWN_REPLACED);
    assert_int_equal(w.member[1].why[0], DOWN_REPLACED);
    world_run_for(&w, 2 * SECOND_US);
    assert_false(world_is_relayed(&w, 0, 1));
    assert_int_equal(member_totals(&w.member[2]).pairs, 0);
    w.member[1].transport->ops->undial(w.member[1].transport, "sim:0");
    w.member[1].transport->ops->disconnect(w.member[1].transport, w.member[1].link[0], DOWN_LOCAL);
    RUN_UNTIL(&w, world_is_relayed(&w, 0, 1) && world_is_relayed(&w, 1, 0)); /* which is still dialled */
    world_close(&w);
}

static void no_call_is_taken_beside_a_direct_link(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3, 1, 1u << 20);
    world_link_up(&w, 0, 1);
    world_link_up(&w, 1, 2);
    struct relay_frame f = {
        .kind = RELAY_OPEN, .call = 7, .target = 1, .from = 2, .boot = 102}; /* "from 2", late */
    world_say(&w, 1, &f, LANE_CONTROL, NULL);
    RUN_UNTIL(&w, w.member[0].heard_count == 1);
    assert_int_equal(w.member[0].heard[0].kind, RELAY_REFUSE);
    assert_int_equal(w.member[0].heard[0].refusal, REFUSAL_NOT_NEEDED);
    assert_false(world_is_relayed(&w, 1, 2));
    world_close(&w);
}

static void a_relayed_link_is_not_relayed_again(void **state)
{
    (void)state;
    struct world w;
    world_open_triangle(&w, 4, 1u << 20); /* 0 - 2 - 1 */
    world_link_up(&w, 3, 0);
    world_dial_relayed(&w, 3, 1); /* 0 has no link to 1 but the relayed one */
    RUN_UNTIL(&w, w.member[3].unreachables >= 3);
    assert_false(w.member[3].up[1]);
    world_link_up(&w, 3, 2);
    RUN_UNTIL(&w, world_is_relayed(&w, 3, 1) && world_is_relayed(&w, 1, 3));
    world_close(&w);
}

static void who_relays_for_nobody_refuses(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3, 0, 0);
    world_link_up(&w, 0, 2);
    world_link_up(&w, 1, 2);
    world_dial_relayed(&w, 0, 1);
    RUN_UNTIL(&w, w.member[0].unreachables >= 2);
    assert_false(w.member[0].up[1] || w.member[1].up[0]);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delay_is_met_once_by_whatever_name),
        cmocka_unit_test(what_is_due_and_waits_for_its_link_does_not_spin),
        cmocka_unit_test(the_loss_of_either_real_link_ends_both_ends),
        cmocka_unit_test(another_common_neighbour_takes_over_from_a_dead_relayer),
        cmocka_unit_test(a_direct_link_replaces_a_relayed_one_and_is_not_doubled),
        cmocka_unit_test(no_call_is_taken_beside_a_direct_link),
        cmocka_unit_test(a_relayed_link_is_not_relayed_again),
        cmocka_unit_test(who_relays_for_nobody_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

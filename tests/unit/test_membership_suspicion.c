/* Goal: a suspicion lasts as Lifeguard's formula says, ends in DEAD or in a refutation, and does not run while we
 * were stopped; the dead are dialled with growing waits, and forgotten at last.
 * Method: one machine of which the others are told by one linked peer that answers its PINGs; virtual time. */
#include "tests/unit/membership_fixture.h"

enum { PEER = 1, ACCUSED = 6000, ACCUSER = 6001 };

/* A cluster of n, ourselves among them; PEER is linked, the others can be neither dialled nor probed. */
static void open_cluster(struct rig *r, uint32_t n)
{
    rig_open(r);
    rig_friend(r, PEER);
    rig_tell_one(r, PEER, rig_member(ACCUSED, MEMBER_ALIVE, 0));
    rig_crowd(r, PEER, 10000, n - 3);
}

static void accuse(struct rig *r, node_id accuser)
{
    struct member u = rig_member(ACCUSED, MEMBER_SUSPECT, 0);
    u.accuser = accuser;
    u.evidence = EVIDENCE_TIMEOUT;
    rig_tell_one(r, PEER, u);
}

/* Returns after how long ACCUSED was declared dead. */
static uint64_t dead_after_us(struct rig *r, uint64_t from_us, uint32_t confirmations)
{
    while (rig_next(r, from_us + 200 * (uint64_t)SECOND)) {
        const struct membership_action *a = rig_find(r, MEMBERSHIP_CHANGED, ACCUSED);
        if (a != NULL) {
            assert_int_equal(a->before, MEMBER_SUSPECT);
            assert_int_equal(a->confirmations, confirmations);
            assert_int_equal(rig_state(r, ACCUSED), MEMBER_DEAD);
            assert_int_equal(rig_totals(r).deaths, 1);
            return r->now_us - from_us;
        }
        rig_answer_pings(r);
    }
    fail_msg("nobody died");
    return 0;
}

/* The figures of design notes and of hashicorp/memberlist's util.go and suspicion.go: k = 2. */
static void a_suspicion_lasts_as_long_as_the_table_says(void **state)
{
    (void)state;
    const struct {
        uint32_t n;
        double min_s, max_s;
    } row[] = {{8, 4.0, 24},    {16, 4.8, 28.9},  {32, 6.0, 36.1},
               {64, 7.2, 43.3}, {128, 8.4, 50.6}, {1000, 12, 72}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        for (uint32_t confirmations = 0; confirmations <= 3; confirmations++) {
            struct rig r;
            open_cluster(&r, row[i].n);
            uint64_t from_us = r.now_us;
            for (uint32_t c = 0; c <= confirmations; c++) accuse(&r, ACCUSER + c);
            /* ln 2 / ln 3 of the way after the first of two */
            const double way[] = {0, 0.63093, 1, 1};
            double expected = row[i].max_s - way[confirmations] * (row[i].max_s - row[i].min_s);
            double lasted = (double)dead_after_us(&r, from_us, confirmations < 2 ? confirmations : 2) / 1e6;
            if (lasted < expected - 0.06 || lasted > expected + 0.06)
                fail_msg("n %u, %u confirmations: %.3f s, expected %.1f s", row[i].n, confirmations, lasted,
                         expected);
            rig_close(&r);
        }
    }
}

static void without_enough_others_no_confirmation_is_waited_for(void **state)
{
    (void)state;
    for (uint32_t n = 3; n <= 4; n++) { /* n - 2 < k = 2; at 4 there are two that could confirm */
        struct rig r;
        open_cluster(&r, n);
        uint64_t from_us = r.now_us;
        accuse(&r, ACCUSER);
        double lasted = (double)dead_after_us(&r, from_us, 0) / 1e6;
        assert_true(n == 3 ? lasted < 4.1 : lasted > 23.9);
        rig_close(&r);
    }
}

static void only_others_confirm_and_each_once(void **state)
{
    (void)state;
    struct rig r;
    open_cluster(&r, 16);
    uint64_t from_us = r.now_us;
    for (int i = 0; i < 5; i++) accuse(&r, ACCUSER);
    struct member dead = rig_member(ACCUSED, MEMBER_SUSPECT, -1); /* of an older incarnation */
    dead.accuser = ACCUSER + 1;
    rig_tell_one(&r, PEER, dead);
    assert_true(dead_after_us(&r, from_us, 0) > 28 * (uint64_t)SECOND);
    rig_close(&r);
}

static void a_late_confirmation_ends_what_has_run_long_enough(void **state)
{
    (void)state;
    struct rig r;
    open_cluster(&r, 16);
    uint64_t from_us = r.now_us;
    accuse(&r, ACCUSER);
    rig_run(&r, 10 * SECOND);
    accuse(&r, ACCUSER + 1);
    accuse(&r, ACCUSER + 2);
    assert_int_equal(dead_after_us(&r, from_us, 2), 10 * (uint64_t)SECOND);
    rig_close(&r);
}

static void a_refutation_ends_a_suspicion_for_good(void **state)
{
    (void)state;
    struct rig r;
    open_cluster(&r, 16);
    for (uint32_t c = 0; c < 3; c++) accuse(&r, ACCUSER + c);
    rig_run(&r, 3 * SECOND);
    rig_tell_one(&r, PEER, rig_member(ACCUSED, MEMBER_ALIVE, 1));
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_ALIVE);
    accuse(&r, ACCUSER + 3); /* late: of the old incarnation */
    rig_run(&r, 100 * SECOND);
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_ALIVE);
    rig_close(&r);
}

/* -- we were stopped --------------------------------------------------------------------------- */

static void what_runs_against_others_waits_while_we_are_stopped(void **state)
{
    (void)state;
    struct rig r;
    open_cluster(&r, 16);
    uint64_t from_us = r.now_us;
    for (uint32_t c = 0; c < 3; c++) accuse(&r, ACCUSER + c);
    rig_run(&r, SECOND);
    r.now_us += 20 * (uint64_t)SECOND;
    rig_step(&r, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_SUSPECT);
    assert_int_equal(rig_totals(&r).stops, 1);
    assert_int_equal(rig_totals(&r).health, HEALTH_MAX);
    uint64_t lasted_us = dead_after_us(&r, from_us, 2);
    assert_true(lasted_us > 24 * (uint64_t)SECOND && lasted_us < 26 * (uint64_t)SECOND);
    rig_close(&r);
}

static void what_waited_in_the_sockets_is_heard_before_a_verdict(void **state)
{
    (void)state;
    for (uint64_t stopped_us = SECOND / 4; stopped_us < 64 * (uint64_t)SECOND; stopped_us *= 2) {
        struct rig r;
        open_cluster(&r, 16);
        uint64_t end_us = r.now_us + 48 * (uint64_t)SECOND / 10; /* ends a little after we are stopped */
        for (uint32_t c = 0; c < 3; c++) accuse(&r, ACCUSER + c);
        rig_run(&r, end_us - r.now_us - 1000);
        r.now_us += stopped_us;
        rig_step(&r, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
        rig_tell_one(&r, PEER, rig_member(ACCUSED, MEMBER_ALIVE, 1));
        assert_int_equal(rig_state(&r, ACCUSED), MEMBER_ALIVE);
        assert_int_equal(rig_totals(&r).deaths, 0);
        assert_int_equal(rig_totals(&r).stops, stopped_us > 3 * SECOND / 2);
        rig_close(&r);
    }
}

static void a_machine_that_is_always_late_judges_too(void **state)
{
    (void)state;
    struct rig r;
    open_cluster(&r, 16);
    uint64_t from_us = r.now_us;
    for (uint32_t c = 0; c < 3; c++) accuse(&r, ACCUSER + c);
    while (rig_state(&r, ACCUSED) == MEMBER_SUSPECT && r.now_us < from_us + 60 * (uint64_t)SECOND) {
        r.now_us = membership_deadline_us(r.m) + SECOND / 2;
        rig_step(&r, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
        rig_answer_pings(&r);
    }
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_DEAD);
    assert_true(r.now_us - from_us < 7 * (uint64_t)SECOND);
    assert_int_equal(rig_totals(&r).stops, 0);
    rig_close(&r);
}

static void without_local_health_a_stop_kills(void **state)
{
    (void)state;
    struct membership_config c = rig_config();
    c.local_health = false;
    struct rig r;
    rig_open_as(&r, &c);
    rig_friend(&r, PEER);
    rig_tell_one(&r, PEER, rig_member(ACCUSED, MEMBER_ALIVE, 0));
    rig_crowd(&r, PEER, 10000, 13);
    for (uint32_t by = 0; by < 3; by++) accuse(&r, ACCUSER + by);
    r.now_us += 20 * (uint64_t)SECOND;
    rig_step(&r, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_DEAD);
    rig_close(&r);
}

/* -- the dead ---------------------------------------------------------------------------------- */

static void tell_dead(struct rig *r, node_id id)
{
    struct member u = rig_member(id, MEMBER_DEAD, 0);
    snprintf(u.address, sizeof u.address, "host:%u", (unsigned)(id % 60000));
    rig_tell_one(r, PEER, u);
}

static void the_dead_are_dialled_with_growing_waits_for_ever(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    tell_dead(&r, ACCUSED);
    uint64_t last_us = r.now_us, until_us = r.now_us + 3600 * (uint64_t)SECOND;
    double wait_s = 1;
    uint32_t dials = 0;
    while (rig_next(&r, until_us)) {
        const struct membership_action *a = rig_find(&r, MEMBERSHIP_CONNECT, ACCUSED);
        if (a != NULL) {
            assert_string_equal(a->address, "host:6000");
            double waited_s = (double)(r.now_us - last_us) / 1e6;
            if (waited_s < wait_s / 2 - 0.01 || waited_s > wait_s + 0.01)
                fail_msg("dial %u after %.2f s, expected %.2f s at most", dials, waited_s, wait_s);
            last_us = r.now_us;
            wait_s = wait_s * 2 < 30 ? wait_s * 2 : 30;
            dials++;
            rig_step(&r, (struct membership_event){
                             .kind = MEMBERSHIP_UNREACHABLE, .peer = ACCUSED, .evidence = EVIDENCE_REFUSED});
        }
        rig_answer_pings(&r);
    }
    assert_true(dials > 3600 / 30);
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_DEAD);
    rig_close(&r);
}

static void at_most_one_dial_a_second_and_each_gets_its_turn(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    for (node_id id = 0; id < 100; id++) tell_dead(&r, ACCUSED + id);
    uint64_t last_us = 0, until_us = r.now_us + 600 * (uint64_t)SECOND;
    uint32_t dials[100] = {0};
    while (rig_next(&r, until_us)) {
        for (size_t i = 0; i < r.acts.count; i++) {
            if (r.acts.item[i].kind != MEMBERSHIP_CONNECT) continue;
            assert_true(r.now_us - last_us >= DIAL_GAP_US);
            last_us = r.now_us;
            dials[r.acts.item[i].id - ACCUSED]++;
        }
        rig_answer_pings(&r);
    }
    for (int i = 0; i < 100; i++) assert_true(dials[i] >= 3);
    rig_close(&r);
}

static void who_has_left_is_not_dialled(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    struct member u = rig_member(ACCUSED, MEMBER_LEFT, 0);
    snprintf(u.address, sizeof u.address, "host:1");
    rig_tell_one(&r, PEER, u);
    uint64_t until_us = r.now_us + 300 * (uint64_t)SECOND;
    while (rig_next(&r, until_us)) {
        assert_null(rig_find(&r, MEMBERSHIP_CONNECT, ACCUSED));
        rig_answer_pings(&r);
    }
    rig_close(&r);
}

static void one_that_is_dead_and_linked_is_told_so(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    tell_dead(&r, ACCUSED);
    rig_link(&r, ACCUSED);
    struct swim_msg msg = rig_await(&r, SWIM_GOSSIP, ACCUSED, 2 * SECOND);
    assert_int_equal(rig_in(&msg, ACCUSED)->state, MEMBER_DEAD);
    rig_tell_one(&r, ACCUSED, rig_member(ACCUSED, MEMBER_ALIVE, 1));
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_ALIVE);
    rig_close(&r);
}

static void the_dead_are_forgotten_and_old_news_do_not_bring_them_back(void **state)
{
    (void)state;
    struct membership_config c = rig_config();
    c.forget_us = 100 * (uint64_t)SECOND;
    struct rig r;
    rig_open_as(&r, &c);
    rig_friend(&r, PEER);
    tell_dead(&r, ACCUSED);
    rig_tell_one(&r, PEER, rig_member(ACCUSED + 1, MEMBER_LEFT, 0));
    rig_run(&r, 99 * SECOND);
    assert_int_equal(membership_count(r.m), 4);
    rig_run(&r, 2 * SECOND);
    assert_int_equal(membership_count(r.m), 2);
    tell_dead(&r, ACCUSED);
    rig_tell_one(&r, PEER, rig_member(ACCUSED + 1, MEMBER_ALIVE, 0));
    assert_int_equal(membership_count(r.m), 2);
    rig_tell_one(&r, PEER, rig_member(ACCUSED, MEMBER_ALIVE, 1));
    assert_int_equal(rig_state(&r, ACCUSED), MEMBER_ALIVE);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_suspicion_lasts_as_long_as_the_table_says),
        cmocka_unit_test(without_enough_others_no_confirmation_is_waited_for),
        cmocka_unit_test(only_others_confirm_and_each_once),
        cmocka_unit_test(a_late_confirmation_ends_what_has_run_long_enough),
        cmocka_unit_test(a_refutation_ends_a_suspicion_for_good),
        cmocka_unit_test(what_runs_against_others_waits_while_we_are_stopped),
        cmocka_unit_test(what_waited_in_the_sockets_is_heard_before_a_verdict),
        cmocka_unit_test(a_machine_that_is_always_late_judges_too),
        cmocka_unit_test(without_local_health_a_stop_kills),
        cmocka_unit_test(the_dead_are_dialled_with_growing_waits_for_ever),
        cmocka_unit_test(at_most_one_dial_a_second_and_each_gets_its_turn),
        cmocka_unit_test(who_has_left_is_not_dialled),
        cmocka_unit_test(one_that_is_dead_and_linked_is_told_so),
        cmocka_unit_test(the_dead_are_forgotten_and_old_news_do_not_bring_them_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

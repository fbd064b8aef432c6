/* Goal: one machine's courses, each by itself: joining, walks, priorities, a full view, contradictions, malformed
 * lists. Method: events by hand, the actions looked at one by one; virtual time is a number. The network of many nodes is
 * tests/sim/test_overlay_network.c. */
#include "tests/unit/overlay_fixture.h"

#include <string.h>

#include "base/err.h"

/* -- joining ---------------------------------------------------------------------------------------- */

static void a_newcomer_joins_over_its_first_link(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 5);
    event(&f, OVERLAY_LINK_UP, 1);
    assert_non_null(sent(&f, 1, OVERLAY_JOIN));
    event(&f, OVERLAY_LINK_UP, 2); /* one contact is enough: walks bring the others */
    assert_null(sent(&f, 2, OVERLAY_JOIN));
    struct overlay_peer sample = peer_of(9);
    struct overlay_msg accept = {.kind = OVERLAY_ACCEPT, .peer = &sample, .peer_count = 1};
    assert_int_equal(hear(&f, 1, &accept), 0);
    assert_true(did(&f, OVERLAY_ADDED, 1));
    assert_true(did(&f, OVERLAY_CONNECT, 9)); /* what the answer told is used at once */
    end(&f);
}

static void a_contact_takes_a_newcomer_in_and_sends_it_round(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 3);
    fill(&f, 1, 2);
    event(&f, OVERLAY_LINK_UP, 3);
    hear_plain(&f, 3, OVERLAY_JOIN, false);
    assert_non_null(sent(&f, 3, OVERLAY_ACCEPT));
    for (node_id id = 1; id <= 2; id++) {
        const struct overlay_msg *walk = sent(&f, id, OVERLAY_FORWARD_JOIN);
        assert_non_null(walk);
        assert_int_equal(walk->ttl, 6);
        assert_true(walk->peer_count == 1 && walk->peer[0].id == 3);
        assert_string_equal(walk->peer[0].address, peer_of(3).address);
    }
    hear_plain(&f, 3, OVERLAY_JOIN, false); /* once more: no second walks */
    assert_int_equal(actions(&f, OVERLAY_SEND), 1);
    end(&f);
}

static void a_walk_goes_on_leaves_a_spare_and_ends_with_a_question(void **state)
{
    (void)state;
    static const struct {
        uint32_t ttl;
        bool goes_on, spare, asks;
    } row[] = {
        {6, true, false, false}, {3, true, true, false}, {1, true, false, false}, {0, false, true, true}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct fixture f;
        begin(&f, 2);
        fill(&f, 1, 2);
        struct overlay_peer newcomer = peer_of(50);
        struct overlay_msg walk = {
            .kind = OVERLAY_FORWARD_JOIN, .ttl = row[i].ttl, .peer = &newcomer, .peer_count = 1};
        uint32_t before = overlay_passive_count(f.o);
        assert_int_equal(hear(&f, 1, &walk), 0);
        const struct overlay_msg *next = sent(&f, 2, OVERLAY_FORWARD_JOIN);
        assert_int_equal(next != NULL, row[i].goes_on);
        if (next != NULL) assert_int_equal(next->ttl, row[i].ttl - 1);
        assert_int_equal(did(&f, OVERLAY_CONNECT, 50), row[i].asks);
        if (!row[i].asks) assert_int_equal(overlay_passive_count(f.o) - before, row[i].spare);
        end(&f);
    }
}

/* The view is full: the newcomer at the end of a walk gets somebody else's place. */
static void the_end_of_a_walk_makes_room(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    fill(&f, 1, 2);
    struct overlay_peer newcomer = peer_of(50);
    struct overlay_msg walk = {.kind = OVERLAY_FORWARD_JOIN, .peer = &newcomer, .peer_count = 1};
    assert_int_equal(hear(&f, 1, &walk), 0);
    event(&f, OVERLAY_LINK_UP, 50);
    const struct overlay_msg *question = sent(&f, 50, OVERLAY_NEIGHBOUR);
    assert_non_null(question);
    assert_false(question->urgent);
    hear_plain(&f, 50, OVERLAY_ACCEPT, false);
    assert_true(overlay_is_active(f.o, 50));
    assert_int_equal(active_count(&f), 2);
    node_id out = overlay_is_active(f.o, 1) ? 2 : 1;
    assert_non_null(sent(&f, out, OVERLAY_DISCONNECT));
    assert_true(did(&f, OVERLAY_REMOVED, out));
    end(&f);
}

/* -- priorities ------------------------------------------------------------------------------------- */

static void a_full_view_refuses_who_has_others_and_takes_who_has_none(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    fill(&f, 1, 2);
    event(&f, OVERLAY_LINK_UP, 3);
    hear_plain(&f, 3, OVERLAY_NEIGHBOUR, false);
    assert_non_null(sent(&f, 3, OVERLAY_REJECT));
    assert_false(overlay_is_active(f.o, 3));
    hear_plain(&f, 3, OVERLAY_NEIGHBOUR, true);
    assert_non_null(sent(&f, 3, OVERLAY_ACCEPT));
    assert_true(overlay_is_active(f.o, 3));
    assert_int_equal(active_count(&f), 2);
    assert_int_equal(actions(&f, OVERLAY_REMOVED), 1);
    end(&f);
}

static void who_lost_all_neighbours_asks_urgently_and_only_one_at_a_time(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 3);
    fill(&f, 1, 1);
    event(&f, OVERLAY_LINK_UP, 2);
    event(&f, OVERLAY_LINK_UP, 3); /* both are asked as well: places are free */
    hear_plain(&f, 2, OVERLAY_REJECT, false);
    hear_plain(&f, 3, OVERLAY_REJECT, false);
    event(&f, OVERLAY_LINK_DOWN, 1);
    f.now_us += 60 * SECOND_US;
    step(&f, OVERLAY_DEADLINE, NULL);
    const struct overlay_msg *a = sent(&f, 2, OVERLAY_NEIGHBOUR), *b = sent(&f, 3, OVERLAY_NEIGHBOUR);
    assert_non_null(a);
    assert_non_null(b);
    assert_true(a->urgent != b->urgent);
    end(&f);
}

/* -- contradictions --------------------------------------------------------------------------------- */

static void views_that_differ_are_put_right_with_disconnect(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    fill(&f, 1, 2);
    event(&f, OVERLAY_LINK_UP, 3);
    hear_plain(&f, 3, OVERLAY_ACCEPT, false); /* nobody asked */
    assert_non_null(sent(&f, 3, OVERLAY_DISCONNECT));
    struct overlay_peer list = peer_of(3);
    struct overlay_msg walk = {.kind = OVERLAY_SHUFFLE, .ttl = 4, .peer = &list, .peer_count = 1};
    assert_int_equal(hear(&f, 3, &walk), 0); /* it takes us for a neighbour */
    assert_non_null(sent(&f, 3, OVERLAY_DISCONNECT));
    assert_int_equal(actions(&f, OVERLAY_SEND), 1);
    hear_plain(&f, 3, OVERLAY_DISCONNECT, false); /* which we were not */
    assert_int_equal(f.acts.count, 0);
    hear_plain(&f, 1, OVERLAY_DISCONNECT, false);
    assert_true(did(&f, OVERLAY_REMOVED, 1));
    assert_null(sent(&f, 1, OVERLAY_NEIGHBOUR)); /* it has just said no */
    end(&f);
}

static void two_that_ask_each_other_at_once_become_neighbours(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    event(&f, OVERLAY_LINK_UP, 1);
    assert_non_null(sent(&f, 1, OVERLAY_JOIN));
    hear_plain(&f, 1, OVERLAY_JOIN, false);
    assert_non_null(sent(&f, 1, OVERLAY_ACCEPT));
    assert_true(did(&f, OVERLAY_ADDED, 1));
    hear_plain(&f, 1, OVERLAY_ACCEPT, false);
    assert_int_equal(f.acts.count, 0);
    assert_true(overlay_is_active(f.o, 1));
    end(&f);
}

static void the_forgotten_leave_both_views(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    fill(&f, 1, 2);
    event(&f, OVERLAY_KNOWN, 20);
    event(&f, OVERLAY_FORGET, 20);
    assert_int_equal(overlay_passive_count(f.o), 0);
    event(&f, OVERLAY_FORGET, 1);
    assert_true(did(&f, OVERLAY_REMOVED, 1));
    assert_non_null(sent(&f, 1, OVERLAY_DISCONNECT));
    assert_int_equal(overlay_passive_count(f.o), 0);
    event(&f, OVERLAY_LINK_DOWN, 1);
    assert_int_equal(f.acts.count, 0);
    end(&f);
}

/* -- malformed -------------------------------------------------------------------------------------- */

static void malformed_messages_change_nothing(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 3);
    fill(&f, 1, 2);
    struct overlay_peer good = peer_of(60), self = peer_of(SELF), endless = peer_of(61);
    memset(endless.address, 'x', sizeof endless.address);
    struct overlay_peer with_self[2] = {good, self}, twice[2] = {good, good}, open[1] = {endless};
    struct overlay_peer many[OVERLAY_PEER_MAX + 1];
    for (uint32_t i = 0; i <= OVERLAY_PEER_MAX; i++) many[i] = peer_of(100 + i);
    const struct {
        node_id from;
        struct overlay_msg msg;
    } row[] = {
        {1, {.kind = OVERLAY_SHUFFLE, .ttl = 1, .peer = with_self, .peer_count = 2}},
        {1, {.kind = OVERLAY_SHUFFLE, .ttl = 1, .peer = twice, .peer_count = 2}},
        {1, {.kind = OVERLAY_SHUFFLE, .ttl = 1, .peer = open, .peer_count = 1}},
        {1, {.kind = OVERLAY_SHUFFLE, .ttl = 1, .peer = many, .peer_count = OVERLAY_PEER_MAX + 1}},
        {1, {.kind = OVERLAY_SHUFFLE, .ttl = OVERLAY_TTL_MAX + 1, .peer = &good, .peer_count = 1}},
        {1, {.kind = OVERLAY_SHUFFLE, .ttl = 1}},
        {1, {.kind = OVERLAY_FORWARD_JOIN, .peer = &self, .peer_count = 1}},
        {1, {.kind = OVERLAY_FORWARD_JOIN}},
        {1, {.kind = OVERLAY_FORWARD_JOIN, .peer = many, .peer_count = 2}},
        {1, {.kind = OVERLAY_SHUFFLE_REPLY, .peer = twice, .peer_count = 2}},
        {1, {.kind = OVERLAY_JOIN, .peer = &good, .peer_count = 1}},
        {1, {.kind = OVERLAY_NEIGHBOUR, .peer = &good, .peer_count = 1}},
        {1, {.kind = (enum overlay_kind)0}},
        {1, {.kind = (enum overlay_kind)99}},
        {77, {.kind = OVERLAY_JOIN}}, /* it has no link */
    };
    uint64_t deadline_us = overlay_deadline_us(f.o);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        assert_int_equal(hear(&f, row[i].from, &row[i].msg), ERR_PROTO);
        assert_int_equal(f.acts.count, 0);
        assert_int_equal(active_count(&f), 2);
        assert_int_equal(overlay_passive_count(f.o), 0);
        assert_true(overlay_deadline_us(f.o) == deadline_us);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newcomer_joins_over_its_first_link),
        cmocka_unit_test(a_contact_takes_a_newcomer_in_and_sends_it_round),
        cmocka_unit_test(a_walk_goes_on_leaves_a_spare_and_ends_with_a_question),
        cmocka_unit_test(the_end_of_a_walk_makes_room),
        cmocka_unit_test(a_full_view_refuses_who_has_others_and_takes_who_has_none),
        cmocka_unit_test(who_lost_all_neighbours_asks_urgently_and_only_one_at_a_time),
        cmocka_unit_test(views_that_differ_are_put_right_with_disconnect),
        cmocka_unit_test(two_that_ask_each_other_at_once_become_neighbours),
        cmocka_unit_test(the_forgotten_leave_both_views),
        cmocka_unit_test(malformed_messages_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a lost neighbour is replaced, patiently and by somebody who can be reached, and shuffles keep spares for it.
 * Method: events by hand, the actions looked at one by one; virtual time is a number. */
#include "tests/unit/overlay_fixture.h"

/* -- replacement ------------------------------------------------------------------------------------ */

static void a_lost_neighbour_is_replaced_and_the_unreachable_are_struck_off(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    fill(&f, 1, 2);
    event(&f, OVERLAY_KNOWN, 20);
    event(&f, OVERLAY_KNOWN, 21);
    assert_int_equal(f.acts.count, 0); /* no place is free */
    struct overlay_peer lost = {.id = 1};
    step(&f, OVERLAY_LINK_DOWN, &lost);
    assert_true(did(&f, OVERLAY_REMOVED, 1));
    node_id tried = 0;
    for (uint32_t left = overlay_passive_count(f.o); left > 0; left--) {
        assert_int_equal(actions(&f, OVERLAY_CONNECT), 1);
        for (size_t i = 0; i < f.acts.count; i++)
            if (f.acts.item[i].kind == OVERLAY_CONNECT) {
                assert_true(f.acts.item[i].id != tried);
                tried = f.acts.item[i].id;
                assert_string_equal(f.acts.item[i].address, peer_of(tried).address);
            }
        assert_int_equal(overlay_passive_count(f.o), left);
        event(&f, OVERLAY_UNREACHABLE, tried);
        assert_int_equal(overlay_passive_count(f.o), left - 1);
    }
    assert_int_equal(actions(&f, OVERLAY_CONNECT), 0);
    event(&f, OVERLAY_KNOWN, 22); /* somebody new: asked at once */
    assert_true(did(&f, OVERLAY_CONNECT, 22));
    event(&f, OVERLAY_LINK_UP, 22);
    hear_plain(&f, 22, OVERLAY_ACCEPT, false);
    assert_true(overlay_is_active(f.o, 22));
    end(&f);
}

static void a_link_and_an_answer_are_not_waited_for_for_ever(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    event(&f, OVERLAY_KNOWN, 20);
    assert_true(did(&f, OVERLAY_CONNECT, 20));
    uint64_t asked_us = f.now_us;
    while (overlay_passive_count(f.o) > 0) wait(&f); /* no link comes */
    assert_true(f.now_us >= asked_us + 5 * SECOND_US);
    event(&f, OVERLAY_LINK_UP, 21); /* it never answers */
    assert_non_null(sent(&f, 21, OVERLAY_JOIN));
    event(&f, OVERLAY_KNOWN, 22);
    event(&f, OVERLAY_LINK_UP, 22);
    const struct overlay_msg *second = sent(&f, 22, OVERLAY_NEIGHBOUR);
    assert_true(second != NULL && !second->urgent);
    hear_plain(&f, 22, OVERLAY_REJECT, false);
    asked_us = f.now_us;
    bool again = false;
    while (!again) {
        wait(&f);
        again = sent(&f, 21, OVERLAY_JOIN) != NULL || sent(&f, 22, OVERLAY_JOIN) != NULL;
        assert_true(f.now_us < asked_us + 60 * SECOND_US);
    }
    end(&f);
}

static void refusals_make_the_pauses_longer(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    fill(&f, 1, 1);
    for (node_id id = 20; id < 30; id++) event(&f, OVERLAY_KNOWN, id);
    uint64_t before_us = f.now_us, pause_us = 0;
    node_id asked = 0;
    for (size_t i = 0; i < f.acts.count; i++) assert_true(f.acts.item[i].kind != OVERLAY_CONNECT);
    for (node_id id = 20; id < 30; id++) { /* who was asked first */
        event(&f, OVERLAY_LINK_UP, id);
        if (sent(&f, id, OVERLAY_NEIGHBOUR) != NULL) asked = id;
    }
    for (uint32_t round = 0; round < 5; round++) {
        assert_true(asked != 0);
        hear_plain(&f, asked, OVERLAY_REJECT, false);
        before_us = f.now_us;
        for (asked = 0; asked == 0;) {
            wait(&f);
            for (node_id id = 20; id < 30; id++)
                if (sent(&f, id, OVERLAY_NEIGHBOUR) != NULL) asked = id;
        }
        assert_true(f.now_us - before_us > pause_us);
        pause_us = f.now_us - before_us;
    }
    end(&f);
}

static void who_only_dials_is_asked_over_its_link_and_told_to_nobody(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    fill(&f, 1, 1);
    struct overlay_peer silent = {.id = 30};
    step(&f, OVERLAY_KNOWN, &silent);
    assert_int_equal(overlay_passive_count(f.o), 0); /* nobody could reach it */
    step(&f, OVERLAY_LINK_UP, &silent);
    assert_non_null(sent(&f, 30, OVERLAY_NEIGHBOUR));
    hear_plain(&f, 30, OVERLAY_ACCEPT, false);
    assert_true(overlay_is_active(f.o, 30));
    const struct overlay_msg *walk = NULL;
    for (int i = 0; i < 8; i++) {
        wait(&f);
        walk = sent(&f, 1, OVERLAY_SHUFFLE);
        if (walk == NULL) continue;
        for (uint32_t k = 0; k < walk->peer_count; k++) assert_true(walk->peer[k].id != 30);
    }
    step(&f, OVERLAY_LINK_DOWN, &silent);
    assert_int_equal(overlay_passive_count(f.o), 0);
    end(&f);
}

/* -- shuffles --------------------------------------------------------------------------------------- */

static void shuffles_go_round_and_carry_ourselves_first(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 3);
    fill(&f, 1, 3);
    bool seen[4] = {false};
    uint32_t shuffles = 0;
    while (shuffles < 3) {
        wait(&f);
        for (node_id id = 1; id <= 3; id++) {
            const struct overlay_msg *m = sent(&f, id, OVERLAY_SHUFFLE);
            if (m == NULL) continue;
            shuffles++;
            seen[id] = true;
            assert_int_equal(m->ttl, 6);
            assert_true(m->peer[0].id == SELF);
            assert_string_equal(m->peer[0].address, "10.0.0.1:1");
            for (uint32_t k = 1; k < m->peer_count; k++) assert_true(m->peer[k].id != id);
        }
    }
    assert_true(seen[1] && seen[2] && seen[3]);
    end(&f);
}

static void a_shuffle_is_passed_on_without_its_next_reader_and_answered_at_its_end(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 2);
    fill(&f, 1, 2);
    struct overlay_peer list[3] = {peer_of(40), peer_of(2), peer_of(41)};
    struct overlay_msg walk = {.kind = OVERLAY_SHUFFLE, .ttl = 4, .peer = list, .peer_count = 3};
    assert_int_equal(hear(&f, 1, &walk), 0);
    const struct overlay_msg *next = sent(&f, 2, OVERLAY_SHUFFLE);
    assert_non_null(next);
    assert_int_equal(next->ttl, 3);
    assert_true(next->peer_count == 2 && next->peer[0].id == 40 && next->peer[1].id == 41);
    assert_int_equal(overlay_passive_count(f.o), 0);
    walk.ttl = 1;
    assert_int_equal(hear(&f, 1, &walk), 0);
    const struct overlay_msg *reply = sent(&f, 1, OVERLAY_SHUFFLE_REPLY);
    assert_non_null(reply);
    assert_true(reply->peer_count == 1 && reply->peer[0].id == 2);
    assert_int_equal(overlay_passive_count(f.o), 2); /* 40 and 41; 2 is a neighbour */
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_neighbour_is_replaced_and_the_unreachable_are_struck_off),
        cmocka_unit_test(a_link_and_an_answer_are_not_waited_for_for_ever),
        cmocka_unit_test(refusals_make_the_pauses_longer),
        cmocka_unit_test(who_only_dials_is_asked_over_its_link_and_told_to_nobody),
        cmocka_unit_test(shuffles_go_round_and_carry_ourselves_first),
        cmocka_unit_test(a_shuffle_is_passed_on_without_its_next_reader_and_answered_at_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: one machine's courses, each by itself: joining, walks, priorities, a full view, replacement,
 * contradictions, malformed lists. Method: events by hand, the actions looked at one by one; virtual time is
 * a number. The network of many nodes is tests/sim/test_overlay_network.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "net/overlay/overlay.h"

#define SELF 1000u
#define SECOND_US 1000000u

struct fixture {
    struct overlay *o;
    struct overlay_actions acts;
    uint64_t now_us;
};

static struct overlay_peer peer_of(node_id id)
{
    struct overlay_peer p = {.id = id};
    snprintf(p.address, sizeof p.address, "10.0.0.%u:7946", (unsigned)id);
    return p;
}

static void begin(struct fixture *f, uint32_t active_max)
{
    struct overlay_config c;
    overlay_defaults(&c);
    c.id = SELF;
    snprintf(c.address, sizeof c.address, "10.0.0.1:1");
    c.active_max = active_max;
    c.seed = 7;
    *f = (struct fixture){.o = overlay_new(&c), .now_us = SECOND_US};
}

static void end(struct fixture *f)
{
    overlay_free(f->o);
    overlay_actions_deinit(&f->acts);
}

static void step(struct fixture *f, enum overlay_event_kind kind, const struct overlay_peer *peer)
{
    overlay_actions_clear(&f->acts);
    struct overlay_event e = {.kind = kind, .now_us = f->now_us};
    if (peer != NULL) e.peer = *peer;
    assert_int_equal(overlay_step(f->o, &e, &f->acts), 0);
}

static void event(struct fixture *f, enum overlay_event_kind kind, node_id id)
{
    struct overlay_peer p = peer_of(id);
    step(f, kind, &p);
}

static int hear(struct fixture *f, node_id from, const struct overlay_msg *msg)
{
    overlay_actions_clear(&f->acts);
    struct overlay_event e = {.kind = OVERLAY_MESSAGE, .now_us = f->now_us, .peer = {.id = from}, .msg = msg};
    return overlay_step(f->o, &e, &f->acts);
}

static void hear_plain(struct fixture *f, node_id from, enum overlay_kind kind, bool urgent)
{
    assert_int_equal(hear(f, from, &(struct overlay_msg){.kind = kind, .urgent = urgent}), 0);
}

/* Time runs until the machine wants it. */
static void wait(struct fixture *f)
{
    assert_true(overlay_deadline_us(f->o) != TIME_NEVER);
    if (overlay_deadline_us(f->o) > f->now_us) f->now_us = overlay_deadline_us(f->o);
    step(f, OVERLAY_DEADLINE, NULL);
}

static const struct overlay_msg *sent(const struct fixture *f, node_id to, enum overlay_kind kind)
{
    for (size_t i = 0; i < f->acts.count; i++)
        if (f->acts.item[i].kind == OVERLAY_SEND && f->acts.item[i].id == to &&
            f->acts.item[i].msg.kind == kind)
            return &f->acts.item[i].msg;
    return NULL;
}

static uint32_t actions(const struct fixture *f, enum overlay_action_kind kind)
{
    uint32_t count = 0;
    for (size_t i = 0; i < f->acts.count; i++) count += f->acts.item[i].kind == kind;
    return count;
}

static bool did(const struct fixture *f, enum overlay_action_kind kind, node_id id)
{
    for (size_t i = 0; i < f->acts.count; i++)
        if (f->acts.item[i].kind == kind && f->acts.item[i].id == id) return true;
    return false;
}

/* Peers first..last come with a link each and JOIN. */
static void fill(struct fixture *f, node_id first, node_id last)
{
    for (node_id id = first; id <= last; id++) {
        event(f, OVERLAY_LINK_UP, id);
        if (!overlay_is_active(f->o, id)) hear_plain(f, id, OVERLAY_JOIN, false);
        assert_true(overlay_is_active(f->o, id));
    }
}

static uint32_t active_count(const struct fixture *f)
{
    const node_id *id;
    return overlay_active(f->o, &id);
}

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
        cmocka_unit_test(a_lost_neighbour_is_replaced_and_the_unreachable_are_struck_off),
        cmocka_unit_test(a_link_and_an_answer_are_not_waited_for_for_ever),
        cmocka_unit_test(refusals_make_the_pauses_longer),
        cmocka_unit_test(who_only_dials_is_asked_over_its_link_and_told_to_nobody),
        cmocka_unit_test(shuffles_go_round_and_carry_ourselves_first),
        cmocka_unit_test(a_shuffle_is_passed_on_without_its_next_reader_and_answered_at_its_end),
        cmocka_unit_test(views_that_differ_are_put_right_with_disconnect),
        cmocka_unit_test(two_that_ask_each_other_at_once_become_neighbours),
        cmocka_unit_test(the_forgotten_leave_both_views),
        cmocka_unit_test(malformed_messages_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

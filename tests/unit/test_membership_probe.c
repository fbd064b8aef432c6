/* Goal: a member that answers, to us or to those we ask, is not suspected; one that does not is, in time; and our
 * health score tells who of the two is the slow one.
 * Method: one machine with a few linked peers that answer, keep silent, or say NACK; virtual time. */
#include "tests/unit/membership_fixture.h"

enum { FIRST = 1, HELPERS = 4, TARGET = 100 };

static struct member dialable(node_id id)
{
    struct member u = rig_member(id, MEMBER_ALIVE, 0);
    snprintf(u.address, sizeof u.address, "host:%u", (unsigned)id);
    return u;
}

/* Linked peers 1 .. HELPERS that answer, and TARGET, linked, that does not. */
static void open_with_target(struct rig *r)
{
    rig_open(r);
    for (node_id id = FIRST; id < FIRST + HELPERS; id++) rig_friend(r, id);
    rig_link(r, TARGET);
    rig_tell_one(r, TARGET, dialable(TARGET));
    r->mute = TARGET;
}

static uint64_t until_state(struct rig *r, enum member_state state, uint64_t for_us)
{
    uint64_t from_us = r->now_us;
    while (rig_state(r, TARGET) != state) {
        if (!rig_next(r, from_us + for_us)) return TIME_NEVER;
        rig_answer_pings(r);
    }
    return r->now_us - from_us;
}

static void an_answer_in_time_ends_the_probe_and_tells_the_round_trip(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, TARGET);
    struct swim_msg ping = rig_await(&r, SWIM_PING, TARGET, 2 * SECOND);
    membership_health_add(r.m, 3);
    r.now_us += 1234;
    rig_say(&r, TARGET, (struct swim_msg){.kind = SWIM_ACK, .number = ping.number});
    uint64_t last_us, round_trip_us;
    membership_heard(r.m, TARGET, &last_us, &round_trip_us);
    assert_int_equal(round_trip_us, 1234);
    assert_int_equal(last_us, r.now_us);
    assert_int_equal(rig_totals(&r).health, 2);
    rig_run(&r, 60 * SECOND);
    assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
    assert_int_equal(rig_totals(&r).health, 0);
    rig_close(&r);
}

static void every_member_is_asked_once_in_a_round(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    uint32_t asked[20] = {0};
    for (node_id id = 0; id < 20; id++) rig_friend(&r, id);
    uint64_t until_us = r.now_us + 61 * (uint64_t)SECOND;
    while (rig_next(&r, until_us)) {
        for (size_t i = 0; i < r.acts.count; i++)
            if (r.acts.item[i].kind == MEMBERSHIP_SEND && r.acts.item[i].msg.kind == SWIM_PING)
                asked[r.acts.item[i].id]++;
        rig_answer_pings(&r);
    }
    for (int i = 0; i < 20; i++) assert_true(asked[i] >= 2 && asked[i] <= 4);
    rig_close(&r);
}

static void a_ping_is_answered_with_its_number(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_link(&r, TARGET);
    rig_say(&r, TARGET, (struct swim_msg){.kind = SWIM_PING, .number = 987654321});
    assert_int_equal(rig_sent(&r, SWIM_ACK, TARGET)->number, 987654321);
    rig_close(&r);
}

/* helpers: 0 = say nothing, 1 = NACK, 2 = ACK */
static void others_are_asked_before_anybody_is_suspected(void **state)
{
    (void)state;
    for (uint32_t health = 0; health <= 2; health += 2) {
        for (int answer = 0; answer <= 2; answer++) {
            struct rig r;
            open_with_target(&r);
            struct swim_msg ping = rig_await(&r, SWIM_PING, TARGET, 10 * SECOND);
            r.m->totals.health = 0;
            membership_health_add(r.m, (int32_t)health);
            /* the deadlines of this probe were set with the score it had; of the next with this one */
            r.m->probe[0].ack_at_us = r.now_us + (health + 1) * (uint64_t)SECOND / 2;
            r.m->probe[0].end_at_us = r.now_us + (health + 1) * (uint64_t)SECOND;
            uint64_t from_us = r.now_us;
            rig_await(&r, SWIM_PING_REQ, NOBODY, 10 * SECOND);
            assert_int_equal(r.now_us - from_us, (health + 1) * SECOND / 2);
            assert_int_equal(rig_count_sent(&r, SWIM_PING_REQ), 3);
            assert_null(rig_sent(&r, SWIM_PING_REQ, TARGET));
            node_id helper[3];
            uint32_t helpers = 0;
            for (size_t i = 0; i < r.acts.count; i++)
                if (r.acts.item[i].msg.kind == SWIM_PING_REQ) helper[helpers++] = r.acts.item[i].id;
            for (uint32_t i = 0; i < helpers && answer > 0; i++) {
                const struct swim_msg msg = {
                    .kind = answer == 1 ? SWIM_NACK : SWIM_ACK, .number = ping.number, .target = TARGET};
                rig_say(&r, helper[i], msg);
                rig_say(&r, helper[i], msg); /* twice is once */
            }
            if (answer == 2) assert_int_equal(rig_totals(&r).health, health > 0 ? health - 1 : 0);
            uint64_t took_us = until_state(&r, MEMBER_SUSPECT, (health + 1) * SECOND / 2);
            if (answer == 2) {
                assert_true(took_us == TIME_NEVER);
            } else {
                assert_int_equal(took_us, (health + 1) * SECOND / 2);
                assert_int_equal(rig_totals(&r).health, health + (answer == 0 ? 3 : 0));
                const struct member *u = membership_find(r.m, TARGET);
                assert_int_equal(u->accuser, SELF);
                assert_int_equal(u->evidence, EVIDENCE_TIMEOUT);
                assert_int_equal(rig_totals(&r).suspicions, 1);
                /* it hears of it, over the link that it has */
                assert_non_null(rig_in(rig_sent(&r, SWIM_GOSSIP, TARGET), TARGET));
            }
            rig_close(&r);
        }
    }
}

static void without_helpers_a_failed_probe_costs_one_point(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, TARGET);
    r.silent = true;
    assert_true(until_state(&r, MEMBER_SUSPECT, 3 * SECOND) != TIME_NEVER);
    assert_int_equal(rig_totals(&r).health, 1);
    rig_close(&r);
}

static void a_broken_link_is_looked_into_at_once(void **state)
{
    (void)state;
    const struct {
        enum member_evidence down, dial; /* NONE: the dial brings a link */
        enum member_evidence expected;   /* NONE: not suspected */
    } row[] = {{EVIDENCE_RESET, EVIDENCE_REFUSED, EVIDENCE_REFUSED},
               {EVIDENCE_RESET, EVIDENCE_NONE, EVIDENCE_NONE},
               {EVIDENCE_SILENT, EVIDENCE_TIMEOUT, EVIDENCE_SILENT}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rig r;
        open_with_target(&r);
        rig_down(&r, TARGET, row[i].down);
        assert_int_equal(rig_count_sent(&r, SWIM_PING_REQ), 3);
        assert_string_equal(rig_find(&r, MEMBERSHIP_CONNECT, TARGET)->address, "host:100");
        uint64_t number = rig_sent(&r, SWIM_PING_REQ, NOBODY)->number;
        assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
        if (row[i].dial == EVIDENCE_NONE) {
            rig_link(&r, TARGET);
            assert_non_null(rig_sent(&r, SWIM_PING, TARGET));
            r.mute = NOBODY;
            rig_answer_pings(&r);
            rig_run(&r, 10 * SECOND);
        } else {
            for (node_id id = FIRST; id < FIRST + HELPERS && row[i].dial == EVIDENCE_TIMEOUT; id++)
                rig_say(&r, id, (struct swim_msg){.kind = SWIM_NACK, .number = number, .target = TARGET});
            rig_step(&r, (struct membership_event){
                             .kind = MEMBERSHIP_UNREACHABLE, .peer = TARGET, .evidence = row[i].dial});
        }
        const struct member *u = membership_find(r.m, TARGET);
        assert_int_equal(u->state, row[i].expected == EVIDENCE_NONE ? MEMBER_ALIVE : MEMBER_SUSPECT);
        assert_int_equal(u->evidence, row[i].expected);
        assert_int_equal(rig_totals(&r).health, 0);
        rig_close(&r);
    }
}

/* Behind a NAT, or with an address of its own machine only. */
static void one_that_refuses_us_and_answers_others_is_not_suspected(void **state)
{
    (void)state;
    for (int answers = 0; answers < 2; answers++) {
        struct rig r;
        rig_open(&r);
        rig_friend(&r, FIRST);
        rig_tell_one(&r, FIRST, dialable(TARGET));
        uint64_t until_us = r.now_us + 5 * (uint64_t)SECOND;
        while (rig_find(&r, MEMBERSHIP_CONNECT, TARGET) == NULL && rig_next(&r, until_us))
            rig_answer_pings(&r);
        rig_step(&r, (struct membership_event){
                         .kind = MEMBERSHIP_UNREACHABLE, .peer = TARGET, .evidence = EVIDENCE_REFUSED});
        const struct swim_msg please = *rig_sent(&r, SWIM_PING_REQ, FIRST);
        assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
        rig_say(&r, FIRST,
                (struct swim_msg){
                    .kind = answers ? SWIM_ACK : SWIM_NACK, .number = please.number, .target = TARGET});
        assert_int_equal(rig_state(&r, TARGET), answers ? MEMBER_ALIVE : MEMBER_SUSPECT);
        assert_int_equal(membership_find(r.m, TARGET)->evidence, answers ? EVIDENCE_NONE : EVIDENCE_REFUSED);
        rig_close(&r);
    }
}

static void a_goodbye_is_no_evidence(void **state)
{
    (void)state;
    struct rig r;
    open_with_target(&r);
    rig_down(&r, TARGET, EVIDENCE_NONE);
    assert_int_equal(r.acts.count, 0);
    assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
    rig_close(&r);
}

static void a_member_without_a_link_is_dialled_and_then_asked(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, FIRST);
    rig_tell_one(&r, FIRST, dialable(TARGET));
    uint64_t until_us = r.now_us + 5 * (uint64_t)SECOND;
    bool dialled = false;
    while (!dialled && rig_next(&r, until_us)) {
        dialled = rig_find(&r, MEMBERSHIP_CONNECT, TARGET) != NULL;
        if (!dialled) rig_answer_pings(&r);
    }
    assert_true(dialled);
    rig_link(&r, TARGET);
    assert_non_null(rig_sent(&r, SWIM_PING, TARGET));
    rig_close(&r);
}

/* A path of 400 ms: dial and hello take most of the interval, and the answer comes after its end. */
static void a_link_that_comes_late_in_the_interval_gets_the_time_of_an_answer(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, FIRST);
    rig_tell_one(&r, FIRST, dialable(TARGET));
    uint64_t until_us = r.now_us + 5 * (uint64_t)SECOND;
    while (rig_next(&r, until_us) && rig_find(&r, MEMBERSHIP_CONNECT, TARGET) == NULL) rig_answer_pings(&r);
    uint64_t dialled_us = r.now_us;
    while (rig_next(&r, dialled_us + 900000)) rig_answer_pings(&r);
    r.now_us = dialled_us + 900000;
    rig_link(&r, TARGET);
    const struct swim_msg *ping = rig_sent(&r, SWIM_PING, TARGET);
    assert_non_null(ping);
    uint64_t number = ping->number;
    r.mute = TARGET;
    while (rig_next(&r, dialled_us + 1300000)) rig_answer_pings(&r);
    assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
    r.now_us = dialled_us + 1300000;
    rig_say(&r, TARGET, (struct swim_msg){.kind = SWIM_ACK, .number = number});
    assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
    assert_true(until_state(&r, MEMBER_SUSPECT, 20 * (uint64_t)SECOND) !=
                TIME_NEVER); /* it is silent from now on */
    rig_close(&r);
}

static void one_that_cannot_be_dialled_is_left_to_those_that_have_its_link(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, FIRST);
    rig_tell_one(&r, FIRST, rig_member(TARGET, MEMBER_ALIVE, 0));
    rig_run(&r, 120 * SECOND);
    assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
    /* but who had its link, and lost it, suspects it */
    rig_link(&r, TARGET);
    rig_down(&r, TARGET, EVIDENCE_RESET);
    assert_true(until_state(&r, MEMBER_SUSPECT, 2 * SECOND) != TIME_NEVER);
    rig_close(&r);
}

static void one_that_cannot_be_dialled_and_says_nothing_new_for_long_is_asked_about(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, FIRST);
    rig_tell_one(&r, FIRST, rig_member(TARGET, MEMBER_ALIVE, 0));
    rig_run(&r, 100 * SECOND);
    rig_tell_one(&r, FIRST, rig_member(TARGET, MEMBER_ALIVE, 1)); /* its own new word */
    rig_run(&r, 100 * SECOND);
    struct swim_msg please = rig_await(&r, SWIM_PING_REQ, FIRST, 30 * SECOND);
    assert_int_equal(please.target, TARGET);
    rig_say(&r, FIRST, (struct swim_msg){.kind = SWIM_ACK, .number = please.number, .target = TARGET});
    rig_run(&r, 100 * SECOND);
    assert_int_equal(rig_state(&r, TARGET), MEMBER_ALIVE);
    please = rig_await(&r, SWIM_PING_REQ, FIRST, 30 * SECOND);
    rig_say(&r, FIRST, (struct swim_msg){.kind = SWIM_NACK, .number = please.number, .target = TARGET});
    assert_int_equal(rig_state(&r, TARGET), MEMBER_SUSPECT);
    assert_true(until_state(&r, MEMBER_DEAD, 30 * SECOND) != TIME_NEVER);
    rig_close(&r);
}

static void who_cannot_be_dialled_says_now_and_then_that_it_is_there(void **state)
{
    (void)state;
    for (int dialable_too = 0; dialable_too < 2; dialable_too++) {
        struct membership_config c = rig_config();
        if (!dialable_too) c.self.address[0] = '\0';
        struct rig r;
        rig_open_as(&r, &c);
        rig_friend(&r, FIRST);
        rig_run(&r, 100 * SECOND);
        uint64_t words = membership_self(r.m)->incarnation - BOOT;
        assert_true(dialable_too ? words == 0 : words >= 3 && words <= 4);
        rig_close(&r);
    }
}

/* -- for others -------------------------------------------------------------------------------- */

static const struct swim_msg please = {.kind = SWIM_PING_REQ, .number = 4711, .target = TARGET};

static void an_answer_is_handed_on_to_who_asked(void **state)
{
    (void)state;
    struct rig r;
    open_with_target(&r);
    rig_say(&r, FIRST, please);
    uint64_t number = rig_sent(&r, SWIM_PING, TARGET)->number;
    rig_say(&r, TARGET, (struct swim_msg){.kind = SWIM_ACK, .number = number});
    const struct swim_msg *ack = rig_sent(&r, SWIM_ACK, FIRST);
    assert_int_equal(ack->number, 4711);
    assert_int_equal(ack->target, TARGET);
    rig_say(&r, TARGET, (struct swim_msg){.kind = SWIM_ACK, .number = number});
    assert_null(rig_sent(&r, SWIM_ACK, FIRST)); /* once */
    rig_close(&r);
}

static void without_an_answer_we_say_so_in_time(void **state)
{
    (void)state;
    struct rig r;
    open_with_target(&r);
    uint64_t from_us = r.now_us;
    rig_say(&r, FIRST, please);
    struct swim_msg nack = rig_await(&r, SWIM_NACK, FIRST, SECOND);
    assert_int_equal(r.now_us - from_us, 400000);
    assert_int_equal(nack.number, 4711);
    assert_int_equal(nack.target, TARGET);
    rig_close(&r);
}

static void a_helper_without_the_link_dials_when_it_may_and_else_says_so_at_once(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, FIRST);
    rig_say(&r, FIRST, please);
    assert_non_null(rig_sent(&r, SWIM_NACK, FIRST)); /* never heard of it */
    rig_tell_one(&r, FIRST, dialable(TARGET));
    rig_say(&r, FIRST, please);
    assert_null(rig_sent(&r, SWIM_NACK, FIRST));
    assert_non_null(rig_find(&r, MEMBERSHIP_CONNECT, TARGET));
    rig_step(&r, (struct membership_event){
                     .kind = MEMBERSHIP_UNREACHABLE, .peer = TARGET, .evidence = EVIDENCE_TIMEOUT});
    assert_non_null(rig_sent(&r, SWIM_NACK, FIRST));
    rig_say(&r, FIRST, please);
    assert_non_null(rig_sent(&r, SWIM_NACK, FIRST)); /* one dial a second */
    rig_close(&r);
}

static void more_requests_than_we_can_serve_are_declined(void **state)
{
    (void)state;
    struct rig r;
    open_with_target(&r);
    for (uint32_t i = 0; i < RELAY_MAX + 5; i++) {
        struct swim_msg msg = please;
        msg.number = i;
        rig_say(&r, FIRST, msg);
        assert_int_equal(rig_sent(&r, SWIM_NACK, FIRST) != NULL, i >= RELAY_MAX);
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_in_time_ends_the_probe_and_tells_the_round_trip),
        cmocka_unit_test(every_member_is_asked_once_in_a_round),
        cmocka_unit_test(a_ping_is_answered_with_its_number),
        cmocka_unit_test(others_are_asked_before_anybody_is_suspected),
        cmocka_unit_test(without_helpers_a_failed_probe_costs_one_point),
        cmocka_unit_test(a_broken_link_is_looked_into_at_once),
        cmocka_unit_test(one_that_refuses_us_and_answers_others_is_not_suspected),
        cmocka_unit_test(a_goodbye_is_no_evidence),
        cmocka_unit_test(a_member_without_a_link_is_dialled_and_then_asked),
        cmocka_unit_test(a_link_that_comes_late_in_the_interval_gets_the_time_of_an_answer),
        cmocka_unit_test(one_that_cannot_be_dialled_is_left_to_those_that_have_its_link),
        cmocka_unit_test(one_that_cannot_be_dialled_and_says_nothing_new_for_long_is_asked_about),
        cmocka_unit_test(who_cannot_be_dialled_says_now_and_then_that_it_is_there),
        cmocka_unit_test(an_answer_is_handed_on_to_who_asked),
        cmocka_unit_test(without_an_answer_we_say_so_in_time),
        cmocka_unit_test(a_helper_without_the_link_dials_when_it_may_and_else_says_so_at_once),
        cmocka_unit_test(more_requests_than_we_can_serve_are_declined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

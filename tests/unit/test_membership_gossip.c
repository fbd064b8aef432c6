/* Goal: news reach all without being told for ever, and two machines that compare what they know do so in parts
 * that fit a message.
 * Method: one machine with linked peers; what it sends is counted. */
#include "tests/unit/membership_fixture.h"

enum { PEERS = 5, NEWS = 7000 };

/* Linked peers 0 .. PEERS - 1 in a cluster of n whose news have been told. */
static void open_quiet(struct rig *r, uint32_t n)
{
    rig_open(r);
    for (node_id id = 0; id < PEERS; id++) rig_friend(r, id);
    rig_crowd(r, 0, 10000, n - PEERS - 1);
    rig_run(r, 60 * SECOND);
    assert_int_equal(r->m->rumour_count, 0);
}

static void count_news(struct rig *r)
{
    for (size_t i = 0; i < r->acts.count; i++) {
        const struct membership_action *a = &r->acts.item[i];
        bool sync = a->msg.kind == SWIM_SYNC || a->msg.kind == SWIM_SYNC_REPLY;
        if (a->kind == MEMBERSHIP_SEND && !sync && rig_in(&a->msg, NEWS) != NULL) r->count[0]++;
    }
}

static void news_are_told_as_often_as_the_size_asks_for(void **state)
{
    (void)state;
    const struct {
        uint32_t n, sends; /* 4 * ceil(log10(n + 1)) */
    } row[] = {{8, 4}, {16, 8}, {32, 8}, {64, 8}, {98, 8}, {128, 12}, {1001, 16}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rig r;
        open_quiet(&r, row[i].n);
        r.look = count_news;
        rig_tell_one(&r, 0, rig_member(NEWS, MEMBER_ALIVE, 0));
        rig_run(&r, 120 * SECOND);
        if (r.count[0] < row[i].sends || r.count[0] > row[i].sends + 2) /* the last go to several at once */
            fail_msg("n %u: told %llu times, expected %u", row[i].n, (unsigned long long)r.count[0],
                     row[i].sends);
        rig_close(&r);
    }
}

static void what_was_told_least_goes_first_and_our_own_before_all(void **state)
{
    (void)state;
    struct rig r;
    open_quiet(&r, 400);
    struct member many[GOSSIP_UPDATE_MAX + 36];
    const uint32_t count = sizeof many / sizeof many[0];
    for (uint32_t i = 0; i < count; i++) many[i] = rig_member(NEWS + i, MEMBER_ALIVE, 0);
    rig_tell(&r, 0, SWIM_GOSSIP, many, count);
    struct swim_msg first = rig_await(&r, SWIM_GOSSIP, NOBODY, SECOND);
    assert_int_equal(first.update_count, GOSSIP_UPDATE_MAX);
    node_id told[GOSSIP_UPDATE_MAX];
    for (uint32_t i = 0; i < GOSSIP_UPDATE_MAX; i++) told[i] = first.update[i].id;
    rig_tell_one(&r, 0, rig_member(SELF, MEMBER_SUSPECT, 0));
    const struct swim_msg *second = rig_sent(&r, SWIM_GOSSIP, NOBODY);
    assert_int_equal(second->update[0].id, SELF);
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool before = false;
        for (uint32_t k = 0; k < GOSSIP_UPDATE_MAX; k++) before = before || told[k] == NEWS + i;
        if (before) continue;
        fresh++;
        assert_non_null(rig_in(second, NEWS + i));
    }
    assert_int_equal(fresh, 36);
    rig_close(&r);
}

static void all_accusers_get_round(void **state)
{
    (void)state;
    struct rig r;
    open_quiet(&r, 16);
    rig_tell_one(&r, 0, rig_member(NEWS, MEMBER_ALIVE, 0));
    for (node_id by = 1; by <= 3; by++) {
        struct member u = rig_member(NEWS, MEMBER_SUSPECT, 0);
        u.accuser = by;
        rig_tell_one(&r, 0, u);
    }
    bool heard[4] = {false};
    uint64_t until_us = r.now_us + 3 * (uint64_t)SECOND;
    while (rig_next(&r, until_us)) {
        for (size_t i = 0; i < r.acts.count; i++) {
            const struct member *u = rig_in(&r.acts.item[i].msg, NEWS);
            if (r.acts.item[i].kind == MEMBERSHIP_SEND && u != NULL && u->state == MEMBER_SUSPECT)
                heard[u->accuser] = true;
        }
        rig_answer_pings(&r);
    }
    assert_true(heard[1] && heard[2] && heard[3]);
    rig_close(&r);
}

static void news_wait_while_nobody_is_linked(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, 0);
    rig_tell_one(&r, 0, rig_member(NEWS, MEMBER_ALIVE, 0));
    rig_down(&r, 0, EVIDENCE_NONE);
    rig_run(&r, 60 * SECOND);
    assert_true(r.m->rumour_count > 0);
    rig_link(&r, 1);
    struct swim_msg msg = rig_await(&r, SWIM_GOSSIP, 1, SECOND);
    assert_non_null(rig_in(&msg, NEWS));
    rig_close(&r);
}

/* -- SYNC -------------------------------------------------------------------------------------- */

static void a_long_sync_comes_in_parts_of_which_the_last_asks(void **state)
{
    (void)state;
    const uint32_t sizes[] = {1, 127, 128, 129, 256, 300};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct rig r;
        rig_open(&r);
        rig_link(&r, 0);
        rig_crowd(&r, 0, 10000, sizes[i] - 1);
        rig_link(&r, 1);
        rig_say(&r, 1, (struct swim_msg){.kind = SWIM_SYNC, .number = 4711}); /* it knows others */
        uint32_t parts = (sizes[i] + SWIM_UPDATE_MAX - 1) / SWIM_UPDATE_MAX, told = 0;
        assert_int_equal(r.acts.count, parts);
        for (uint32_t k = 0; k < parts; k++) {
            const struct swim_msg *msg = &r.acts.item[k].msg;
            assert_int_equal(msg->kind, k + 1 == parts ? SWIM_SYNC : SWIM_SYNC_REPLY);
            assert_true(msg->update_count <= SWIM_UPDATE_MAX);
            if (k == 0) assert_int_equal(msg->update[0].id, SELF);
            for (uint32_t u = 0; u < msg->update_count; u++) /* each once */
                for (uint32_t before = 0; before < u; before++)
                    assert_true(msg->update[u].id != msg->update[before].id);
            told += msg->update_count;
        }
        assert_int_equal(told, sizes[i]);
        rig_close(&r);
    }
}

static void the_answer_to_a_sync_is_what_the_asker_does_not_know(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_link(&r, 0);
    rig_link(&r, 1);
    for (node_id id = 40; id < 44; id++) rig_tell_one(&r, 0, rig_member(id, MEMBER_ALIVE, 5));
    const struct member known[] = {rig_member(40, MEMBER_ALIVE, 5), rig_member(41, MEMBER_ALIVE, 4),
                                   rig_member(42, MEMBER_ALIVE, 6), rig_member(50, MEMBER_ALIVE, 0)};
    rig_tell(&r, 1, SWIM_SYNC_REPLY, known, 2);
    assert_int_equal(r.acts.count, 0); /* a part that does not ask */
    rig_tell(&r, 1, SWIM_SYNC, known + 2, 2);
    const struct swim_msg *reply = rig_sent(&r, SWIM_SYNC_REPLY, 1);
    assert_int_equal(reply->update_count, 3);
    assert_int_equal(reply->update[0].id, SELF);
    assert_int_equal(rig_in(reply, 41)->incarnation, BOOT + 5); /* it knows an older one */
    assert_non_null(rig_in(reply, 43));
    assert_int_equal(membership_find(r.m, 42)->incarnation, BOOT + 6);
    assert_non_null(membership_find(r.m, 50));
    /* another asker knows nothing */
    rig_tell(&r, 0, SWIM_SYNC, NULL, 0);
    assert_non_null(rig_in(rig_sent(&r, SWIM_SYNC_REPLY, 0), 50));
    rig_close(&r);
}

static void a_new_link_costs_one_record_when_both_know_the_same(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_link(&r, 0);
    rig_crowd(&r, 0, 10000, 50);
    rig_link(&r, 1);
    const struct swim_msg hello = *rig_sent(&r, SWIM_SYNC, 1);
    assert_true(hello.number != 0);
    assert_int_equal(hello.update_count, 1);
    assert_int_equal(hello.update[0].id, SELF);
    rig_say(&r, 1, (struct swim_msg){.kind = SWIM_SYNC, .number = hello.number});
    assert_int_equal(r.acts.count, 0);
    rig_say(&r, 1, (struct swim_msg){.kind = SWIM_SYNC, .number = hello.number + 2});
    assert_int_equal(rig_sent(&r, SWIM_SYNC, 1)->number, 0);
    assert_int_equal(rig_sent(&r, SWIM_SYNC, 1)->update_count, 51);
    /* words about load do not make a difference, a death does */
    struct member u = rig_member(10003, MEMBER_ALIVE, 1);
    u.meta[0] = 3;
    rig_tell_one(&r, 0, u);
    assert_true(membership_sync_hash(r.m) == hello.number);
    rig_tell_one(&r, 0, rig_member(10003, MEMBER_DEAD, 1));
    assert_true(membership_sync_hash(r.m) != hello.number);
    rig_close(&r);
}

static void after_a_lost_link_all_is_told_at_once(void **state)
{
    (void)state;
    const struct {
        enum member_evidence down;
        uint32_t told;
    } row[] = {{EVIDENCE_NONE, 1}, {EVIDENCE_RESET, 52}, {EVIDENCE_SILENT, 52}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rig r;
        rig_open(&r);
        rig_friend(&r, 0);
        rig_crowd(&r, 0, 10000, 50);
        rig_down(&r, 0, row[i].down);
        rig_link(&r, 0);
        assert_int_equal(rig_sent(&r, SWIM_SYNC, 0)->update_count, row[i].told);
        rig_close(&r);
    }
}

static void machines_compare_from_time_to_time(void **state)
{
    (void)state;
    const struct {
        uint32_t n;
        double every_s;
    } row[] = {{6, 30}, {32, 30}, {33, 60}, {64, 60}, {65, 90}, {1024, 180}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rig r;
        open_quiet(&r, row[i].n);
        assert_int_equal(r.m->live, row[i].n);
        rig_await(&r, SWIM_SYNC, NOBODY, 200 * SECOND);
        uint64_t from_us = r.now_us;
        rig_await(&r, SWIM_SYNC, NOBODY, 200 * SECOND);
        assert_int_equal(r.now_us - from_us, (uint64_t)(row[i].every_s * SECOND));
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(news_are_told_as_often_as_the_size_asks_for),
        cmocka_unit_test(what_was_told_least_goes_first_and_our_own_before_all),
        cmocka_unit_test(all_accusers_get_round),
        cmocka_unit_test(news_wait_while_nobody_is_linked),
        cmocka_unit_test(a_long_sync_comes_in_parts_of_which_the_last_asks),
        cmocka_unit_test(the_answer_to_a_sync_is_what_the_asker_does_not_know),
        cmocka_unit_test(a_new_link_costs_one_record_when_both_know_the_same),
        cmocka_unit_test(after_a_lost_link_all_is_told_at_once),
        cmocka_unit_test(machines_compare_from_time_to_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

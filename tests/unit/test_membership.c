/* Goal: of two records of a member the right one is kept, what is said of ourselves is refuted, nothing that
 * cannot be changes anything.
 * Method: one machine is told records by linked peers; tables of what is held, what is heard, and what must be. */
#include "tests/unit/membership_fixture.h"

enum { PEER = 1, OTHER = 2, SOMEBODY = 40 };

/* -- merge ------------------------------------------------------------------------------------- */

static void the_greater_incarnation_wins_then_the_graver_state(void **state)
{
    (void)state;
    for (int held = MEMBER_ALIVE; held <= MEMBER_LEFT; held++) {
        for (int heard = MEMBER_ALIVE; heard <= MEMBER_LEFT; heard++) {
            for (int64_t later = -1; later <= 1; later++) {
                struct rig r;
                rig_open(&r);
                rig_friend(&r, PEER);
                rig_tell_one(&r, PEER, rig_member(SOMEBODY, (enum member_state)held, 10));
                rig_tell_one(&r, PEER, rig_member(SOMEBODY, (enum member_state)heard, 10 + later));
                bool taken = later > 0 || (later == 0 && heard > held);
                const struct member *u = membership_find(r.m, SOMEBODY);
                assert_int_equal(u->state, taken ? heard : held);
                assert_int_equal(u->incarnation - BOOT, taken ? 10 + later : 10);
                bool changed = rig_find(&r, MEMBERSHIP_CHANGED, SOMEBODY) != NULL;
                assert_int_equal(changed, taken && heard != held);
                rig_close(&r);
            }
        }
    }
}

static void two_machines_that_hear_in_another_order_agree(void **state)
{
    (void)state;
    const struct member said[] = {rig_member(SOMEBODY, MEMBER_SUSPECT, 1),
                                  rig_member(SOMEBODY, MEMBER_ALIVE, 2), rig_member(SOMEBODY, MEMBER_DEAD, 1),
                                  rig_member(SOMEBODY, MEMBER_ALIVE, 1)};
    uint64_t hash[24];
    uint32_t orders = 0;
    for (uint32_t code = 0; code < 256; code++) {
        uint32_t at[4] = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 & 3}, seen = 0;
        for (int i = 0; i < 4; i++) seen |= 1u << at[i];
        if (seen != 15) continue;
        struct rig r;
        rig_open(&r);
        rig_friend(&r, PEER);
        for (int i = 0; i < 4; i++) rig_tell_one(&r, PEER, said[at[i]]);
        hash[orders++] = membership_view_hash(r.m);
        rig_close(&r);
    }
    assert_int_equal(orders, 24);
    for (uint32_t i = 1; i < orders; i++) assert_true(hash[i] == hash[0]);
}

static void dead_is_doubted_in_a_sync_and_when_the_link_lives(void **state)
{
    (void)state;
    const struct {
        enum swim_kind kind;
        bool linked;
        enum member_state expected;
    } row[] = {{SWIM_GOSSIP, false, MEMBER_DEAD},        {SWIM_GOSSIP, true, MEMBER_SUSPECT},
               {SWIM_SYNC, false, MEMBER_SUSPECT},       {SWIM_SYNC, true, MEMBER_SUSPECT},
               {SWIM_SYNC_REPLY, false, MEMBER_SUSPECT}, {SWIM_PING, false, MEMBER_DEAD}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rig r;
        rig_open(&r);
        rig_friend(&r, PEER);
        rig_tell_one(&r, PEER, rig_member(SOMEBODY, MEMBER_ALIVE, 1));
        if (row[i].linked) rig_link(&r, SOMEBODY);
        const struct member dead = rig_member(SOMEBODY, MEMBER_DEAD, 1);
        rig_tell(&r, PEER, row[i].kind, &dead, 1);
        assert_int_equal(rig_state(&r, SOMEBODY), row[i].expected);
        /* who is accused over a living link hears of it at once */
        const struct member *told = rig_in(rig_sent(&r, SWIM_GOSSIP, SOMEBODY), SOMEBODY);
        assert_int_equal(told != NULL, row[i].linked);
        rig_close(&r);
    }
}

static void each_change_that_an_owner_may_care_for_is_announced(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    struct member u = rig_member(SOMEBODY, MEMBER_ALIVE, 1);
    rig_tell_one(&r, PEER, u);
    assert_true(rig_find(&r, MEMBERSHIP_CHANGED, SOMEBODY)->is_new);
    for (int what = 0; what < 5; what++) {
        u.incarnation++;
        if (what == 1) u.boot++;
        if (what == 2) u.meta[3] = 8;
        if (what == 3) snprintf(u.tag, sizeof u.tag, "gpu");
        if (what == 4) snprintf(u.address, sizeof u.address, "host:9");
        rig_tell_one(&r, PEER, u);
        assert_int_equal(rig_find(&r, MEMBERSHIP_CHANGED, SOMEBODY) != NULL, what > 0);
    }
    assert_int_equal(membership_count(r.m), 3);
    rig_close(&r);
}

/* -- ourselves --------------------------------------------------------------------------------- */

static void what_is_said_of_us_is_refuted_by_going_above_it(void **state)
{
    (void)state;
    const int64_t day = (int64_t)DAY_BOOT_UNITS;
    const struct {
        enum member_state said;
        int64_t later;
        uint64_t expected; /* our incarnation after it, less BOOT */
    } row[] = {
        {MEMBER_ALIVE, -5, 0},
        {MEMBER_DEAD, -5, 0},
        {MEMBER_LEFT, -1, 0},
        {MEMBER_ALIVE, 0, 0},
        {MEMBER_SUSPECT, 0, 1},
        {MEMBER_DEAD, 0, 1},
        {MEMBER_LEFT, 0, 1},
        {MEMBER_SUSPECT, 9, 10},
        {MEMBER_LEFT, 9, 10},
        {MEMBER_ALIVE, 9, 10}, /* a former life of which the clock was ahead */
        {MEMBER_DEAD, day, (uint64_t)day + 1},
        {MEMBER_DEAD, day + 1, 0},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rig r;
        rig_open(&r);
        rig_friend(&r, PEER);
        rig_tell_one(&r, PEER, rig_member(SELF, row[i].said, row[i].later));
        const struct member *self = membership_self(r.m);
        assert_int_equal(self->state, MEMBER_ALIVE);
        assert_int_equal(self->incarnation - BOOT, row[i].expected);
        assert_int_equal(rig_totals(&r).refutations, row[i].expected > 0);
        assert_int_equal(rig_totals(&r).records_dropped, row[i].later > day);
        const struct member *said = rig_in(rig_sent(&r, SWIM_GOSSIP, PEER), SELF);
        assert_int_equal(said != NULL, row[i].expected > 0); /* at once, to who said so */
        if (said != NULL) assert_int_equal(said->incarnation, self->incarnation);
        rig_close(&r);
    }
}

static void being_suspected_costs_health_and_a_former_life_does_not(void **state)
{
    (void)state;
    const struct {
        enum member_state said;
        uint32_t health;
    } row[] = {{MEMBER_SUSPECT, 1}, {MEMBER_DEAD, 1}, {MEMBER_ALIVE, 0}, {MEMBER_LEFT, 0}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rig r;
        rig_open(&r);
        rig_friend(&r, PEER);
        rig_tell_one(&r, PEER, rig_member(SELF, row[i].said, 3));
        assert_int_equal(rig_totals(&r).health, row[i].health);
        rig_close(&r);
    }
}

static void a_change_of_our_own_words_is_a_new_incarnation(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    struct member self = *membership_self(r.m);
    const struct membership_event e = {.kind = MEMBERSHIP_SELF, .self = &self};
    rig_step(&r, e);
    assert_int_equal(membership_self(r.m)->incarnation, BOOT);
    self.meta[2] = 11;
    rig_step(&r, e);
    assert_int_equal(membership_self(r.m)->incarnation, BOOT + 1);
    struct swim_msg msg = rig_await(&r, SWIM_GOSSIP, PEER, SECOND);
    assert_int_equal(rig_in(&msg, SELF)->meta[2], 11);
    rig_close(&r);
}

static void who_leaves_says_so_and_is_deaf(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    rig_friend(&r, OTHER);
    rig_step(&r, (struct membership_event){.kind = MEMBERSHIP_LEAVE});
    for (node_id id = PEER; id <= OTHER; id++) {
        const struct member *said = rig_in(rig_sent(&r, SWIM_GOSSIP, id), SELF);
        assert_non_null(said);
        assert_int_equal(said->state, MEMBER_LEFT);
        assert_int_equal(said->incarnation, BOOT + 1);
    }
    assert_true(membership_deadline_us(r.m) == TIME_NEVER);
    rig_tell_one(&r, PEER, rig_member(SELF, MEMBER_SUSPECT, 5));
    assert_int_equal(r.acts.count, 0);
    assert_int_equal(membership_self(r.m)->state, MEMBER_LEFT);
    rig_link(&r, OTHER);
    assert_int_equal(rig_in(rig_sent(&r, SWIM_GOSSIP, OTHER), SELF)->state, MEMBER_LEFT);
    rig_close(&r);
}

/* -- addresses --------------------------------------------------------------------------------- */

static void an_address_is_learned_where_none_was_given(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_step(&r,
             (struct membership_event){.kind = MEMBERSHIP_LINK_UP, .peer = PEER, .address = "10.0.0.1:7"});
    assert_string_equal(rig_sent(&r, SWIM_SYNC, PEER)->seen, "10.0.0.1:7");
    rig_tell_one(&r, PEER, rig_member(PEER, MEMBER_ALIVE, 0));
    assert_string_equal(membership_find(r.m, PEER)->address, "10.0.0.1:7");
    struct swim_msg sync = {.kind = SWIM_SYNC_REPLY, .seen = "198.51.100.4:9"};
    rig_say(&r, PEER, sync);
    assert_string_equal(rig_find(&r, MEMBERSHIP_SEEN_AS, PEER)->address, "198.51.100.4:9");
    /* of others: what others know, also at the same incarnation; kept when its own word has none */
    rig_tell_one(&r, PEER, rig_member(SOMEBODY, MEMBER_ALIVE, 0));
    struct member u = rig_member(SOMEBODY, MEMBER_ALIVE, 0);
    snprintf(u.address, sizeof u.address, "there:1");
    rig_tell_one(&r, PEER, u);
    assert_non_null(rig_find(&r, MEMBERSHIP_CHANGED, SOMEBODY));
    rig_tell_one(&r, PEER, rig_member(SOMEBODY, MEMBER_ALIVE, 1));
    assert_string_equal(membership_find(r.m, SOMEBODY)->address, "there:1");
    /* a new process may be anywhere */
    struct member again = rig_member(SOMEBODY, MEMBER_ALIVE, 2);
    again.boot++;
    rig_tell_one(&r, PEER, again);
    assert_string_equal(membership_find(r.m, SOMEBODY)->address, "");
    rig_close(&r);
}

/* -- what cannot be ---------------------------------------------------------------------------- */

static void impossible_records_are_dropped_and_the_others_count(void **state)
{
    (void)state;
    const uint64_t elapsed = 9 * (uint64_t)SECOND * BOOT_UNITS_PER_US;
    for (int what = 0; what < 10; what++) {
        struct rig r;
        rig_open(&r);
        rig_friend(&r, PEER);
        r.now_us += 9 * (uint64_t)SECOND;
        rig_tell_one(&r, PEER, rig_member(41, MEMBER_ALIVE, 0));
        struct member u[3] = {rig_member(SOMEBODY, MEMBER_ALIVE, 0),
                              rig_member(SOMEBODY + 1, MEMBER_ALIVE, 0),
                              rig_member(SOMEBODY + 2, MEMBER_ALIVE, 0)};
        struct member *bad = &u[1];
        bad->id = SOMEBODY + 7;
        switch (what) {
        case 0:
            bad->state = (enum member_state)4;
            break;
        case 1:
            bad->evidence = (enum member_evidence)5;
            break;
        case 2:
            memset(bad->tag, 'x', sizeof bad->tag);
            break;
        case 3:
            memset(bad->address, 'x', sizeof bad->address);
            break;
        case 4:
            bad->tag[0] = '\n';
            break;
        case 5:
            bad->incarnation = 0;
            break;
        case 6:
            bad->boot = BOOT_MAX + 1;
            break;
        case 7: /* one unit more than a day ahead of our time */
            bad->incarnation = BOOT + elapsed + DAY_BOOT_UNITS + 1;
            break;
        case 8:
            bad->id = NOBODY;
            break;
        case 9: /* a day, to the unit: possible */
            bad->incarnation = BOOT + elapsed + DAY_BOOT_UNITS;
            break;
        }
        node_id id = bad->id;
        rig_tell(&r, PEER, SWIM_GOSSIP, u, 3);
        assert_int_equal(r.err, 0);
        assert_non_null(membership_find(r.m, SOMEBODY));
        assert_non_null(membership_find(r.m, SOMEBODY + 2));
        assert_int_equal(membership_find(r.m, id) != NULL, what == 9);
        assert_int_equal(rig_totals(&r).records_dropped, what != 9);
        rig_close(&r);
    }
}

static void a_message_that_cannot_be_changes_nothing(void **state)
{
    (void)state;
    static struct member u[SWIM_UPDATE_MAX + 1];
    for (uint32_t i = 0; i <= SWIM_UPDATE_MAX; i++) u[i] = rig_member(100 + i, MEMBER_ALIVE, 0);
    struct swim_msg bad[] = {
        {.kind = (enum swim_kind)0, .update = u, .update_count = 1},
        {.kind = (enum swim_kind)(SWIM_GOSSIP + 1), .update = u, .update_count = 1},
        {.kind = (enum swim_kind)0x7fffffff, .update = u, .update_count = 1},
        {.kind = SWIM_GOSSIP, .update = u, .update_count = SWIM_UPDATE_MAX + 1},
        {.kind = SWIM_GOSSIP, .update = NULL, .update_count = 1},
        {.kind = SWIM_GOSSIP, .number = 1, .update = u, .update_count = 1},
        {.kind = SWIM_GOSSIP, .target = 3, .update = u, .update_count = 1},
        {.kind = SWIM_PING, .number = 4, .target = 3, .update = u, .update_count = 1},
        {.kind = SWIM_PING, .number = 4, .seen = "a:1", .update = u, .update_count = 1},
        {.kind = SWIM_SYNC_REPLY, .number = 3, .update = u, .update_count = 1},
        {.kind = SWIM_SYNC, .target = 3, .update = u, .update_count = 1},
        {.kind = SWIM_SYNC, .seen = "a\n:1", .update = u, .update_count = 1},
        {.kind = SWIM_SYNC_REPLY, .update = u, .update_count = 1},
    };
    const size_t count = sizeof bad / sizeof bad[0];
    memset(bad[count - 1].seen, 'x', sizeof bad[count - 1].seen);
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    uint64_t hash = membership_view_hash(r.m);
    for (size_t i = 0; i < count; i++) {
        rig_say(&r, PEER, bad[i]);
        assert_int_equal(r.err, ERR_PROTO);
        assert_int_equal(r.acts.count, 0);
        assert_true(membership_view_hash(r.m) == hash);
        assert_int_equal(membership_count(r.m), 2);
    }
    rig_close(&r);
}

static void a_peer_without_a_link_is_not_heard(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_tell_one(&r, PEER, rig_member(SOMEBODY, MEMBER_ALIVE, 0));
    assert_int_equal(r.err, 0);
    assert_int_equal(membership_count(r.m), 1);
    rig_close(&r);
}

static void members_are_listed_by_id(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_link(&r, PEER);
    for (node_id i = 0; i < 300; i++) rig_tell_one(&r, PEER, rig_member(i * 7919 % 9973, MEMBER_ALIVE, 0));
    assert_int_equal(membership_count(r.m), 301);
    for (uint32_t i = 1; i < membership_count(r.m); i++)
        assert_true(membership_at(r.m, i - 1)->id < membership_at(r.m, i)->id);
    for (node_id i = 0; i < 300; i++)
        assert_int_equal(membership_find(r.m, i * 7919 % 9973)->id, i * 7919 % 9973);
    assert_null(membership_find(r.m, 9973));
    rig_close(&r);
}

static void a_peer_that_invents_members_fills_the_room_for_strangers_and_no_more(void **state)
{
    (void)state;
    enum { INVENTED = 100000, UNKNOWN = 99999 };
    struct member u[SWIM_UPDATE_MAX];
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    for (uint32_t told = 0; told < 2 * MEMBER_COUNT_MAX; told += SWIM_UPDATE_MAX) {
        for (uint32_t i = 0; i < SWIM_UPDATE_MAX; i++)
            u[i] = rig_member(INVENTED + told + i, MEMBER_ALIVE, 0);
        rig_tell(&r, PEER, SWIM_GOSSIP, u, SWIM_UPDATE_MAX);
    }
    assert_int_equal(membership_count(r.m), MEMBER_COUNT_MAX - LINK_COUNT_MAX);
    rig_friend(&r, OTHER); /* who is linked is known */
    assert_int_equal(rig_state(&r, OTHER), MEMBER_ALIVE);
    rig_tell_one(&r, PEER, rig_member(UNKNOWN, MEMBER_ALIVE, 0));
    assert_null(membership_find(r.m, UNKNOWN));
    rig_tell_one(&r, PEER, rig_member(INVENTED, MEMBER_DEAD, 1));
    rig_tell_one(&r, PEER, rig_member(UNKNOWN, MEMBER_DEAD, 0)); /* one that has ended is no reason */
    assert_null(membership_find(r.m, UNKNOWN));
    rig_tell_one(&r, PEER, rig_member(UNKNOWN, MEMBER_ALIVE, 0));
    assert_int_equal(rig_state(&r, UNKNOWN), MEMBER_ALIVE);
    assert_null(membership_find(r.m, INVENTED));
    assert_non_null(rig_find(&r, MEMBERSHIP_CHANGED, INVENTED)); /* the owner hears of it */
    assert_true(rig_totals(&r).records_dropped >= MEMBER_COUNT_MAX);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greater_incarnation_wins_then_the_graver_state),
        cmocka_unit_test(two_machines_that_hear_in_another_order_agree),
        cmocka_unit_test(dead_is_doubted_in_a_sync_and_when_the_link_lives),
        cmocka_unit_test(each_change_that_an_owner_may_care_for_is_announced),
        cmocka_unit_test(what_is_said_of_us_is_refuted_by_going_above_it),
        cmocka_unit_test(being_suspected_costs_health_and_a_former_life_does_not),
        cmocka_unit_test(a_change_of_our_own_words_is_a_new_incarnation),
        cmocka_unit_test(who_leaves_says_so_and_is_deaf),
        cmocka_unit_test(an_address_is_learned_where_none_was_given),
        cmocka_unit_test(impossible_records_are_dropped_and_the_others_count),
        cmocka_unit_test(a_message_that_cannot_be_changes_nothing),
        cmocka_unit_test(a_peer_without_a_link_is_not_heard),
        cmocka_unit_test(members_are_listed_by_id),
        cmocka_unit_test(a_peer_that_invents_members_fills_the_room_for_strangers_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

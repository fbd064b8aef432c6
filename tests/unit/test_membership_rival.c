/* Goal: a process that shares its id with another learns of it when the two meet only in what others say, and takes
 * nobody else for a rival. Method: one machine; the test plays the peer that carries the other's word. */
#include "tests/unit/membership_fixture.h"

enum { PEER = 1 };

/* The rival answers each of our answers `times` times, every `gap_us`. Returns how often the owner was told. */
static uint32_t rival_claims(struct rig *r, uint64_t boot, uint32_t times, uint64_t gap_us)
{
    uint32_t told = 0;
    for (uint32_t i = 0; i < times; i++) {
        struct member claim = {.id = SELF, .boot = boot, .state = MEMBER_ALIVE, .address = "10.0.0.9:1"};
        claim.incarnation = membership_self(r->m)->incarnation + 1;
        rig_tell_one(r, PEER, claim);
        assert_true(membership_self(r->m)->incarnation > claim.incarnation);
        const struct membership_action *a = rig_find(r, MEMBERSHIP_RIVAL, PEER);
        if (a != NULL) {
            assert_int_equal(a->boot, boot);
            assert_string_equal(a->address, "10.0.0.9:1");
            told++;
        }
        r->now_us += gap_us;
    }
    return told;
}

static void a_rival_that_never_gives_in_is_told_of_once_a_minute(void **state)
{
    (void)state;
    struct rig r;
    for (int later = 0; later <= 1; later++) {
        rig_open(&r);
        rig_friend(&r, PEER);
        uint64_t boot = later ? BOOT + 99 : BOOT - 99;
        assert_int_equal(rival_claims(&r, boot, 4, SECOND), 0);
        assert_int_equal(rival_claims(&r, boot, 1, SECOND), 1);
        assert_int_equal(rival_claims(&r, boot, 50, SECOND), 0);
        assert_int_equal(rival_claims(&r, boot, 60, SECOND), 1);
        rig_close(&r);
    }
}

/* A liar may name as many boots as it likes. */
static void boots_that_take_turns_are_told_of_once_a_minute_too(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    uint32_t told = 0;
    for (uint32_t i = 0; i < 11; i++) told += rival_claims(&r, BOOT - 100 - i, 5, SECOND);
    assert_int_equal(told, 1);
    for (uint32_t i = 0; i < 11; i++) told += rival_claims(&r, BOOT - 200 - i, 5, SECOND);
    assert_int_equal(told, 2);
    rig_close(&r);
}

/* A former life whose clock was ahead; accusations of our own life; claims that come seldom. */
static void refuting_what_is_no_rival_tells_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    rig_friend(&r, PEER);
    for (uint32_t i = 0; i < 20; i++) assert_int_equal(rival_claims(&r, BOOT - 100 - i, 1, SECOND), 0);
    assert_int_equal(rival_claims(&r, BOOT - 99, 40, 20 * (uint64_t)SECOND), 0);
    for (uint32_t i = 0; i < 20; i++) {
        struct member accused = *membership_self(r.m);
        accused.state = MEMBER_SUSPECT;
        rig_tell_one(&r, PEER, accused);
        assert_null(rig_find(&r, MEMBERSHIP_RIVAL, PEER));
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rival_that_never_gives_in_is_told_of_once_a_minute),
        cmocka_unit_test(boots_that_take_turns_are_told_of_once_a_minute_too),
        cmocka_unit_test(refuting_what_is_no_rival_tells_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

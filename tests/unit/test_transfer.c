/* Goal: a model comes whole from several donors, whatever their speed, and each donor keeps its caps.
 * Method: the machines of both sides in virtual time (transfer_fixture.h), whose laws are checked in every run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/transfer_fixture.h"

#define MINUTE_US 60000000u
#define FLOATS_64 (64 * RIG_CHUNK / sizeof(float)) /* 64 chunks */

static void expect_whole(struct rig *r, uint64_t limit_us)
{
    if (!rig_run(r, limit_us)) fail_msg("not done: %s", r->wrong[0] != '\0' ? r->wrong : "out of time");
    const char *wrong = rig_verdict(r);
    if (wrong != NULL) fail_msg("%s", wrong);
    uint64_t chunks, of;
    uint32_t donors;
    fetch_progress(r->fetch, &chunks, &of, &donors);
    assert_int_equal(chunks, r->chunk_count);
    assert_int_equal(of, r->chunk_count);
    assert_true(fetch_deadline_us(r->fetch) == TIME_NEVER);
}

static void three_donors_share_the_work_and_nothing_comes_twice(void **state)
{
    (void)state;
    struct rig *r = rig_new(FLOATS_64, 3, 1);
    for (uint32_t i = 0; i < 3; i++) rig_up(r, i);
    expect_whole(r, MINUTE_US);
    assert_int_equal(rig_arrived_twice(r), 0);
    for (uint32_t i = 0; i < 3; i++) assert_in_range(r->donor[i].sent, 20, 23);
    assert_true(r->now_us < 25000); /* 64 chunks of 1 ms over three links */
    assert_int_equal(fetch_steps(r->fetch), 10);
    assert_true(r->gets <= 64);
    rig_free(r);
}

static void every_size_is_cut_and_put_together(void **state)
{
    (void)state;
    static const size_t floats[] = {1, 2, 63, 64, 65, 127, 128, 129, 1000, 4096 + 17};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        struct rig *r = rig_new(floats[i], 3, i);
        for (uint32_t k = 0; k < 3; k++) rig_up(r, k);
        expect_whole(r, MINUTE_US);
        rig_free(r);
    }
}

static void a_slow_donor_gets_few_chunks_and_its_last_ones_are_asked_of_others(void **state)
{
    (void)state;
    struct rig *r = rig_new(FLOATS_64, 3, 2);
    r->donor[1].chunk_us = 300000;
    for (uint32_t i = 0; i < 3; i++) rig_up(r, i);
    expect_whole(r, MINUTE_US);
    assert_in_range(r->donor[1].sent, 1, 4);
    assert_true(r->now_us < 200000); /* far less than one chunk of the slow one */
    rig_free(r);
}

static void one_donor_is_enough_and_others_may_come_late(void **state)
{
    (void)state;
    struct rig *r = rig_new(FLOATS_64, 3, 3);
    rig_up(r, 2);
    assert_false(rig_run(r, 20000));
    rig_up(r, 0);
    rig_up(r, 1);
    expect_whole(r, MINUTE_US);
    assert_true(r->donor[0].sent > 5 && r->donor[1].sent > 5 && r->donor[2].sent > 15);
    rig_free(r);
}

static void no_more_than_donor_max_are_asked_and_another_steps_in(void **state)
{
    (void)state;
    struct rig *r = rig_new(FLOATS_64, 5, 4);
    for (uint32_t i = 0; i < 5; i++) rig_up(r, i);
    assert_false(rig_run(r, 5000));
    uint32_t giving = 0;
    for (uint32_t i = 0; i < 5; i++) giving += r->donor[i].sent > 0;
    assert_int_equal(giving, 3);
    for (uint32_t i = 0; i < 5; i++)
        if (r->donor[i].sent > 0) {
            rig_down(r, i);
            break;
        }
    expect_whole(r, MINUTE_US);
    giving = 0;
    for (uint32_t i = 0; i < 5; i++) giving += r->donor[i].sent > 0;
    assert_int_equal(giving, 4);
    rig_free(r);
}

static void a_full_link_delays_and_loses_nothing(void **state)
{
    (void)state;
    struct rig *r = rig_new(FLOATS_64, 3, 5);
    for (uint32_t i = 0; i < 3; i++) {
        r->donor[i].capacity = 1 + i % 2;
        rig_up(r, i);
    }
    expect_whole(r, MINUTE_US);
    uint64_t given = 0;
    for (uint32_t i = 0; i < 3; i++) given += donor_bytes_given(r->donor[i].machine);
    assert_int_equal(given, 64 * RIG_CHUNK);
    rig_free(r);
}

/* -- keepers ----------------------------------------------------------------------------------- */

/* Donors 0 and 2 keep a model, 1 trains. */
static struct rig *rig_with_keepers(uint64_t seed)
{
    struct rig *r = rig_new(FLOATS_64, 3, seed);
    r->donor[0].keeper = r->donor[2].keeper = true;
    rig_up(r, 1);
    rig_up(r, 0);
    rig_up(r, 2);
    return r;
}

static void keepers_are_not_asked_while_somebody_who_trains_gives(void **state)
{
    (void)state;
    struct rig *r = rig_with_keepers(21);
    expect_whole(r, MINUTE_US);
    assert_int_equal(r->donor[1].sent, 64);
    rig_free(r);
}

static void the_keeper_with_most_progress_steps_in_when_nobody_who_trains_is_left(void **state)
{
    (void)state;
    struct rig *r = rig_with_keepers(22);
    assert_false(rig_run(r, 20000));
    assert_int_equal(r->donor[0].sent + r->donor[2].sent, 0);
    rig_down(r, 1);
    expect_whole(r, MINUTE_US);
    assert_int_equal(r->donor[0].sent, 0);
    assert_true(r->donor[2].sent > 30);
    rig_free(r);
}

static void a_keeper_gives_while_who_trains_is_silent(void **state)
{
    (void)state;
    struct rig *r = rig_with_keepers(23);
    r->donor[1].mute_until_us = MINUTE_US;
    expect_whole(r, MINUTE_US);
    assert_in_range(r->now_us, RIG_SILENCE_US, 2 * RIG_SILENCE_US);
    assert_int_equal(r->donor[2].sent, 64);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_donors_share_the_work_and_nothing_comes_twice),
        cmocka_unit_test(every_size_is_cut_and_put_together),
        cmocka_unit_test(a_slow_donor_gets_few_chunks_and_its_last_ones_are_asked_of_others),
        cmocka_unit_test(one_donor_is_enough_and_others_may_come_late),
        cmocka_unit_test(no_more_than_donor_max_are_asked_and_another_steps_in),
        cmocka_unit_test(a_full_link_delays_and_loses_nothing),
        cmocka_unit_test(keepers_are_not_asked_while_somebody_who_trains_gives),
        cmocka_unit_test(the_keeper_with_most_progress_steps_in_when_nobody_who_trains_is_left),
        cmocka_unit_test(a_keeper_gives_while_who_trains_is_silent),
    };
    return cmocka_run_group_tests_name("transfer", tests, NULL, NULL);
}

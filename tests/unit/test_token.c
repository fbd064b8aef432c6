/* Goal: custody of a token loses nothing and never makes two tokens out of one answered search.
 * Method: drive custody structs by hand through each course of token.h's head comment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "algo/token.h"

enum { PATIENCE = 1000 };

static struct token_stamp stamp(uint32_t generation, rank_t maker, uint64_t sequence)
{
    return (struct token_stamp){generation, maker, sequence};
}

static void stamps_are_ordered_by_generation_then_maker_then_sequence(void **state)
{
    (void)state;
    struct token_stamp ascending[] = {stamp(0, 0, 0), stamp(0, 0, 9), stamp(1, 0, 1), stamp(1, 3, 0),
                                      stamp(2, 0, 0)};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++) {
            int order = token_stamp_compare(&ascending[i], &ascending[j]);
            assert_int_equal(order, i < j ? -1 : i > j ? 1 : 0);
        }
}

static void hand_over_ends_only_with_the_right_acknowledgement(void **state)
{
    (void)state;
    struct custody c;
    custody_init(&c, 0, true, PATIENCE, 0);
    custody_advance(&c);
    custody_send(&c, 5);
    assert_int_equal(c.place, CUSTODY_SENT);
    struct token_stamp right = c.last, wrong = stamp(0, 0, 7);
    assert_false(custody_acknowledged(&c, 5, &wrong, 10));
    assert_false(custody_acknowledged(&c, 4, &right, 10));
    assert_int_equal(c.place, CUSTODY_SENT);
    assert_true(custody_acknowledged(&c, 5, &right, 10));
    assert_int_equal(c.place, CUSTODY_AWAY);
    assert_false(custody_acknowledged(&c, 5, &right, 11));
}

static void a_repeated_or_older_token_is_not_accepted(void **state)
{
    (void)state;
    struct custody c;
    custody_init(&c, 1, false, PATIENCE, 0);
    struct token_stamp first = stamp(1, 2, 4), again = first, older = stamp(0, 0, 99), newer = stamp(1, 2, 5);
    assert_int_equal(custody_receive(&c, &first, 10), CUSTODY_ACCEPT);
    custody_send(&c, 2);
    assert_int_equal(custody_receive(&c, &again, 20), CUSTODY_REPEAT);
    assert_int_equal(custody_receive(&c, &older, 30), CUSTODY_REPEAT);
    assert_int_equal(custody_receive(&c, &newer, 40), CUSTODY_ACCEPT);
    assert_int_equal(c.place, CUSTODY_HELD);
}

static void a_broken_hand_over_is_repeated_to_the_same_process_and_searched_after_another(void **state)
{
    (void)state;
    struct custody c;
    custody_init(&c, 0, true, PATIENCE, 0);
    custody_advance(&c);
    custody_send(&c, 1);
    custody_peer_down(&c, 1, 100);
    assert_false(custody_living(&c));
    assert_true(custody_peer_up(&c, 1, false, 200));
    assert_true(custody_living(&c));
    custody_peer_down(&c, 1, 300);
    assert_false(custody_peer_up(&c, 1, true, 400));
    assert_int_equal(custody_tick(&c, 400), CUSTODY_SEARCH);
    assert_int_equal(custody_deadline_us(&c), 400 + PATIENCE);
    assert_int_equal(custody_tick(&c, 400 + PATIENCE), CUSTODY_REGENERATE);
    assert_int_equal(c.last.generation, 1);
    assert_int_equal(c.place, CUSTODY_HELD);
}

static void the_newest_snapshot_wins_the_search(void **state)
{
    (void)state;
    struct custody behind, ahead;
    custody_init(&behind, 1, false, PATIENCE, 0);
    custody_init(&ahead, 2, false, PATIENCE, 0);
    struct token_stamp old = stamp(0, 0, 3), new = stamp(0, 0, 6);
    assert_int_equal(custody_receive(&behind, &old, 5), CUSTODY_ACCEPT);
    assert_int_equal(custody_receive(&ahead, &new, 5), CUSTODY_ACCEPT);
    behind.place = ahead.place = CUSTODY_AWAY; /* handed over to nodes that died */
    uint64_t t = behind.lost_us;
    assert_int_equal(custody_tick(&behind, t), CUSTODY_SEARCH);
    assert_int_equal(custody_heard(&ahead, &behind.best, behind.best_at, false, 0, t), CUSTODY_FLOOD);
    assert_int_equal(ahead.best_at, 2);
    assert_int_equal(custody_heard(&behind, &ahead.best, ahead.best_at, false, 0, t), CUSTODY_FLOOD);
    assert_int_equal(custody_tick(&behind, t + PATIENCE), CUSTODY_NOT_DUE);
    assert_int_equal(custody_tick(&ahead, t + PATIENCE), CUSTODY_REGENERATE);
    assert_int_equal(ahead.last.maker, 2);
    assert_int_equal(behind.place, CUSTODY_AWAY);
}

static void whoever_has_the_token_ends_the_search(void **state)
{
    (void)state;
    struct custody seeker, holder;
    custody_init(&seeker, 1, false, PATIENCE, 0);
    custody_init(&holder, 0, true, PATIENCE, 0);
    uint64_t t = seeker.lost_us;
    custody_advance(&holder); /* it has moved on since the seeker's snapshot */
    assert_int_equal(custody_tick(&seeker, t), CUSTODY_SEARCH);
    assert_int_equal(custody_heard(&holder, &seeker.best, 1, false, 0, t), CUSTODY_FLOOD_LIVE);
    assert_int_equal(custody_heard(&seeker, &holder.known, 0, true, 0, t), CUSTODY_FLOOD_LIVE);
    assert_false(seeker.seeking);
    assert_true(custody_deadline_us(&seeker) > t);
    assert_int_equal(custody_tick(&seeker, t + PATIENCE), CUSTODY_NOT_DUE);
}

static void a_search_is_answered_by_who_knows_and_rumours_die_of_age(void **state)
{
    (void)state;
    struct custody knows, seeker;
    custody_init(&knows, 2, false, PATIENCE, 0);
    custody_init(&seeker, 1, false, PATIENCE, 0);
    uint64_t t = seeker.lost_us;
    struct token_stamp live = stamp(0, 0, 5);
    assert_int_equal(custody_heard(&knows, &live, 0, true, 10, t), CUSTODY_QUIET);
    custody_tick(&seeker, t);
    assert_int_equal(custody_heard(&knows, &seeker.best, 1, false, 0, t + 90), CUSTODY_ANSWER_LIVE);
    assert_false(knows.seeking);
    assert_int_equal(custody_age_us(&knows, t + 90), 100);
    assert_int_equal(custody_heard(&seeker, &live, 2, true, PATIENCE, t + 90), CUSTODY_QUIET);
    assert_true(seeker.seeking); /* too old to be believed */
    assert_int_equal(custody_heard(&seeker, &live, 2, true, PATIENCE - 1, t + 90), CUSTODY_FLOOD_LIVE);
    assert_false(seeker.seeking);
    /* Later the same node knows nothing recent any more and carries the search on. */
    assert_int_equal(custody_heard(&knows, &seeker.last, 1, false, 0, t + PATIENCE + 90), CUSTODY_FLOOD);
}

static void hearing_of_a_newer_generation_ends_an_older_custody(void **state)
{
    (void)state;
    struct custody c;
    custody_init(&c, 2, true, PATIENCE, 0);
    struct token_stamp newer = stamp(1, 4, 3), older = stamp(0, 0, 900), next = stamp(1, 4, 4);
    assert_int_equal(custody_heard(&c, &newer, 4, false, 0, 50), CUSTODY_FLOOD);
    assert_int_equal(c.place, CUSTODY_AWAY);
    assert_int_equal(custody_heard(&c, &older, 0, true, 0, 60), CUSTODY_QUIET);
    assert_true(c.seeking); /* an older generation's life means nothing */
    assert_int_equal(custody_receive(&c, &older, 70), CUSTODY_REPEAT);
    assert_int_equal(custody_receive(&c, &next, 80), CUSTODY_ACCEPT);
}

static void equal_snapshots_are_settled_by_the_lower_rank(void **state)
{
    (void)state;
    struct custody low, high;
    custody_init(&low, 3, false, PATIENCE, 0);
    custody_init(&high, 8, false, PATIENCE, 0);
    uint64_t t = low.lost_us;
    custody_tick(&low, t);
    custody_tick(&high, t);
    assert_int_equal(custody_heard(&low, &high.best, 8, false, 0, t), CUSTODY_QUIET);
    assert_int_equal(custody_heard(&high, &low.best, 3, false, 0, t), CUSTODY_FLOOD);
    assert_int_equal(custody_tick(&low, t + PATIENCE), CUSTODY_REGENERATE);
    assert_int_equal(custody_tick(&high, t + PATIENCE), CUSTODY_NOT_DUE);
}

static void fruitless_searches_grow_rarer(void **state)
{
    (void)state;
    struct custody c;
    custody_init(&c, 8, false, PATIENCE, 0);
    struct token_stamp elsewhere = stamp(0, 0, 50);
    uint64_t t = c.lost_us, wait_before = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(custody_tick(&c, t), CUSTODY_SEARCH);
        custody_heard(&c, &elsewhere, 2, false, 0, t);
        t += PATIENCE;
        assert_int_equal(custody_tick(&c, t), CUSTODY_NOT_DUE);
        uint64_t wait = c.lost_us - t;
        assert_true(wait > wait_before);
        wait_before = wait;
        t = c.lost_us;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stamps_are_ordered_by_generation_then_maker_then_sequence),
        cmocka_unit_test(hand_over_ends_only_with_the_right_acknowledgement),
        cmocka_unit_test(a_repeated_or_older_token_is_not_accepted),
        cmocka_unit_test(a_broken_hand_over_is_repeated_to_the_same_process_and_searched_after_another),
        cmocka_unit_test(the_newest_snapshot_wins_the_search),
        cmocka_unit_test(whoever_has_the_token_ends_the_search),
        cmocka_unit_test(a_search_is_answered_by_who_knows_and_rumours_die_of_age),
        cmocka_unit_test(hearing_of_a_newer_generation_ends_an_older_custody),
        cmocka_unit_test(equal_snapshots_are_settled_by_the_lower_rank),
        cmocka_unit_test(fruitless_searches_grow_rarer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

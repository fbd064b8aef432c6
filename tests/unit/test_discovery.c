/* Goal: a node without a link tries everything it knows, politely and in the right order, and one with a link seldom.
 * Method: events by hand in virtual time; the set of wanted addresses is looked at after each. */
#include "tests/unit/discovery_fixture.h"

#include <stdio.h>
#include <stdlib.h>

/* -- whom, and when --------------------------------------------------------------------------------- */

static void all_seeds_are_dialled_at_once_and_no_more_after_a_link(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_true(discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED));
    assert_true(discovery_add(f.d, "seed.example:7946", DISCOVERY_SEED));
    assert_true(discovery_add(f.d, "[fe80::1]:7", DISCOVERY_SEED));
    tick(&f);
    assert_int_equal(wanted_count(&f), 3);
    discovery_links(f.d, f.now_us, 1);
    assert_int_equal(wanted_count(&f), 0);
    char why[DISCOVERY_WHY_MAX];
    assert_string_equal(discovery_why(f.d, f.now_us, why), "");
    assert_int_equal(f.lines, 0);
    discovery_free(f.d);
}

static void seeds_come_before_finds_and_finds_before_the_book(void **state)
{
    (void)state;
    struct fixture f;
    char text[64];
    begin(&f);
    for (uint32_t i = 0; i < 30; i++) {
        snprintf(text, sizeof text, "10.1.0.%u:1", i);
        assert_true(discovery_add(f.d, text, DISCOVERY_BOOK));
    }
    discovery_add(f.d, "10.2.0.1:1", DISCOVERY_FOUND);
    discovery_add(f.d, "10.3.0.1:1", DISCOVERY_SEED);
    discovery_add(f.d, "10.1.0.29:1", DISCOVERY_FOUND); /* known, and heard of again */
    tick(&f);
    const char *address[DISCOVERY_DIAL_MAX];
    assert_int_equal(discovery_wanted(f.d, address), DISCOVERY_DIAL_MAX);
    assert_string_equal(address[0], "10.3.0.1:1");
    assert_string_equal(address[1], "10.2.0.1:1");
    assert_string_equal(address[2], "10.1.0.29:1");
    assert_string_equal(address[3], "10.1.0.0:1"); /* the book, best first */
    assert_false(wants(&f, "10.1.0.20:1"));
    for (int i = 0; i < 100 && !wants(&f, "10.1.0.28:1"); i++) wait(&f); /* all have their turn */
    assert_true(wants(&f, "10.1.0.28:1"));
    discovery_free(f.d);
}

/* Each try fails at once until `until_us`; the longest pause between two, and the last. */
static void refuse_until(struct fixture *f, uint64_t until_us, uint64_t *longest_us, uint64_t *last_us)
{
    *longest_us = 0;
    while (f->now_us < until_us) {
        assert_true(wants(f, "10.0.0.1:1"));
        discovery_unreachable(f->d, f->now_us, "10.0.0.1:1", ERR_CLOSED);
        assert_false(wants(f, "10.0.0.1:1"));
        uint64_t before_us = f->now_us;
        wait_until_wanted(f, "10.0.0.1:1", 30 * SECOND_US + 1);
        *last_us = f->now_us - before_us;
        if (*last_us > *longest_us) *longest_us = *last_us;
    }
}

static void a_seed_started_after_its_joiners_is_found_within_two_seconds(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    tick(&f);
    uint64_t longest_us, last_us, another_us;
    refuse_until(&f, f.now_us + 20 * SECOND_US, &longest_us, &last_us);
    assert_in_range(longest_us, SECOND_US, 2 * SECOND_US + 1);
    refuse_until(&f, f.now_us + SECOND_US, &longest_us, &another_us);
    assert_true(another_us != last_us); /* not in step with others */
    /* a link that does not last is no new beginning, one that lasts is */
    for (int lasts = 0; lasts <= 1; lasts++) {
        refuse_until(&f, f.now_us + 300 * SECOND_US, &longest_us, &last_us);
        assert_true(last_us >= 15 * SECOND_US);
        discovery_links(f.d, f.now_us, 1);
        f.now_us += lasts ? 6 * SECOND_US : SECOND_US;
        discovery_links(f.d, f.now_us, 0);
        wait_until_wanted(&f, "10.0.0.1:1", 30 * SECOND_US + 1);
        refuse_until(&f, f.now_us + SECOND_US, &longest_us, &last_us);
        assert_true(lasts ? longest_us <= 2 * SECOND_US + 1 : longest_us >= 15 * SECOND_US);
    }
    discovery_free(f.d);
}

static void failures_back_off_up_to_half_a_minute_with_jitter(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    tick(&f);
    uint64_t longest_us, last_us, before_us = 0;
    refuse_until(&f, f.now_us + SECOND_US / 10, &longest_us, &last_us);
    assert_true(longest_us <= SECOND_US / 4 + 1);
    refuse_until(&f, f.now_us + 30 * SECOND_US, &longest_us, &last_us);
    for (int i = 0; i < 4; i++) {
        refuse_until(&f, f.now_us + 1, &longest_us, &last_us);
        assert_in_range(last_us, 15 * SECOND_US, 30 * SECOND_US + 1);
        assert_true(last_us != before_us);
        before_us = last_us;
    }
    assert_in_range(f.lines, 2, 8); /* says so, but not at every try */
    discovery_free(f.d);
}

static void who_is_silent_leaves_its_place_to_others(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    tick(&f);
    uint64_t start_us = f.now_us;
    while (wants(&f, "10.0.0.1:1")) wait(&f);
    assert_true(f.now_us == start_us + 10 * SECOND_US);
    wait_until_wanted(&f, "10.0.0.1:1", SECOND_US);
    discovery_free(f.d);
}

static void a_link_that_does_not_last_does_not_end_the_back_off(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    tick(&f);
    for (int i = 0; i < 10; i++) {
        wait_until_wanted(&f, "10.0.0.1:1", 31 * SECOND_US);
        discovery_links(f.d, f.now_us, 1);
        f.now_us += SECOND_US / 10;
        discovery_links(f.d, f.now_us, 0);
    }
    assert_false(wants(&f, "10.0.0.1:1"));
    wait_until_wanted(&f, "10.0.0.1:1", 31 * SECOND_US);
    discovery_links(f.d, f.now_us, 1);
    f.now_us += 6 * SECOND_US; /* this one counts */
    discovery_links(f.d, f.now_us, 0);
    assert_true(wants(&f, "10.0.0.1:1"));
    discovery_free(f.d);
}

/* Two parts of a cluster, each with one of the two seeds. */
static void while_linked_seeds_and_book_are_asked_again_seldom_unless_they_are_members(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.member = "10.0.0.1:1";
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    discovery_add(f.d, "10.0.0.2:1", DISCOVERY_SEED);
    discovery_add(f.d, "name.example:1", DISCOVERY_SEED);
    discovery_add(f.d, "10.0.0.9:1", DISCOVERY_BOOK);
    tick(&f);
    discovery_links(f.d, f.now_us, 1);
    uint64_t start_us = f.now_us, last_us = f.now_us;
    uint32_t rounds = 0;
    while (f.now_us < start_us + 3600 * SECOND_US) {
        bool before = wants(&f, "10.0.0.2:1");
        wait(&f);
        if (wants(&f, "10.0.0.2:1") && !before) {
            assert_true(wants(&f, "name.example:1"));
            assert_true(wants(&f, "10.0.0.9:1"));
            if (rounds++ == 0) assert_true(f.now_us - start_us <= 10 * SECOND_US);
            last_us = f.now_us;
        }
        assert_false(wants(&f, "10.0.0.1:1"));
    }
    assert_true(last_us > start_us + 1800 * SECOND_US);
    assert_in_range(rounds, 8, 20);
    discovery_free(f.d);
}

/* A cluster whose nodes all restarted: this one has met some, and has but the book to find the others. */
static void while_linked_a_long_book_is_gone_through_in_turns(void **state)
{
    (void)state;
    enum { BOOK = 3 * DISCOVERY_DIAL_MAX };
    struct fixture f;
    bool tried[BOOK] = {false};
    begin(&f);
    for (unsigned i = 0; i < BOOK; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.0.1.%u:1", i);
        assert_true(discovery_add(f.d, text, DISCOVERY_BOOK));
    }
    discovery_links(f.d, f.now_us, 1);
    assert_int_equal(wanted_count(&f), 0);
    uint64_t end_us = f.now_us + 120 * SECOND_US;
    while (f.now_us < end_us) {
        const char *address[DISCOVERY_DIAL_MAX];
        wait(&f);
        for (uint32_t i = discovery_wanted(f.d, address); i-- > 0;)
            tried[strtoul(address[i] + 7, NULL, 10)] = true;
    }
    for (unsigned i = 0; i < BOOK; i++) assert_true(tried[i]);
    discovery_free(f.d);
}

static void one_found_on_the_network_is_dialled_at_once_unless_a_member(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.member = "10.0.0.1:1";
    discovery_links(f.d, f.now_us, 1);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_FOUND);
    discovery_add(f.d, "10.0.0.2:1", DISCOVERY_FOUND);
    tick(&f);
    assert_true(wants(&f, "10.0.0.2:1"));
    assert_int_equal(wanted_count(&f), 1);
    discovery_free(f.d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_seeds_are_dialled_at_once_and_no_more_after_a_link),
        cmocka_unit_test(seeds_come_before_finds_and_finds_before_the_book),
        cmocka_unit_test(a_seed_started_after_its_joiners_is_found_within_two_seconds),
        cmocka_unit_test(failures_back_off_up_to_half_a_minute_with_jitter),
        cmocka_unit_test(who_is_silent_leaves_its_place_to_others),
        cmocka_unit_test(a_link_that_does_not_last_does_not_end_the_back_off),
        cmocka_unit_test(while_linked_seeds_and_book_are_asked_again_seldom_unless_they_are_members),
        cmocka_unit_test(while_linked_a_long_book_is_gone_through_in_turns),
        cmocka_unit_test(one_found_on_the_network_is_dialled_at_once_unless_a_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

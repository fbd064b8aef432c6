/* Goal: a node without a link tries everything it knows, politely and in the right order, never itself, and
 * says what it waits for. Method: events by hand in virtual time; the set of wanted addresses is looked at
 * after each; one random course checks the bounds at every moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "net/discovery/discovery.h"

#define SECOND_US 1000000ull

struct fixture {
    struct discovery *d;
    uint64_t now_us;
    const char *member; /* a living member's address; NULL */
    struct trace trace;
    unsigned lines;
};

static bool is_member(void *ctx, const char *address)
{
    const struct fixture *f = ctx;
    return f->member != NULL && strcmp(f->member, address) == 0;
}

static void on_line(void *ctx, enum trace_level level, const char *text)
{
    struct fixture *f = ctx;
    (void)level;
    (void)text;
    f->lines++;
}

static void begin(struct fixture *f)
{
    struct discovery_config c;
    *f = (struct fixture){.now_us = 5 * SECOND_US, .trace = {TRACE_INFO, on_line, f}};
    discovery_defaults(&c);
    c.seed = 3;
    c.is_member = is_member;
    c.ctx = f;
    c.trace = &f->trace;
    f->d = discovery_new(&c);
}

static void tick(struct fixture *f)
{
    discovery_tick(f->d, f->now_us);
}

static uint32_t wanted_count(const struct fixture *f)
{
    const char *address[DISCOVERY_DIAL_MAX];
    return discovery_wanted(f->d, address);
}

static bool wants(const struct fixture *f, const char *which)
{
    const char *address[DISCOVERY_DIAL_MAX];
    uint32_t count = discovery_wanted(f->d, address);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(address[i], which) == 0) return true;
    return false;
}

/* To the next moment at which something may change. */
static void wait(struct fixture *f)
{
    uint64_t at_us = discovery_deadline_us(f->d);
    assert_true(at_us != TIME_NEVER);
    if (at_us > f->now_us) f->now_us = at_us;
    tick(f);
}

static void wait_until_wanted(struct fixture *f, const char *which, uint64_t most_us)
{
    uint64_t start_us = f->now_us;
    while (!wants(f, which)) {
        wait(f);
        assert_true(f->now_us - start_us <= most_us);
    }
}

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

/* -- ourselves and strangers ------------------------------------------------------------------------ */

static void our_own_address_is_never_dialled(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    discovery_add(f.d, "name.example:1", DISCOVERY_SEED);
    discovery_own(f.d, "10.0.0.1:1");
    tick(&f);
    assert_int_equal(wanted_count(&f), 1);
    discovery_refused(f.d, f.now_us, "10.0.0.7:1", ERR_SELF); /* one of the name's addresses: ours as well */
    assert_true(wants(&f, "name.example:1"));                 /* but the name goes on */
    discovery_add(f.d, "10.0.0.7:1", DISCOVERY_BOOK);
    for (int i = 0; i < 200; i++) {
        wait(&f);
        assert_false(wants(&f, "10.0.0.1:1"));
        assert_false(wants(&f, "10.0.0.7:1"));
    }
    discovery_free(f.d);
}

static void a_name_of_ourselves_alone_is_tried_again_a_number_is_not(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    discovery_add(f.d, "name.example:1", DISCOVERY_SEED);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    tick(&f);
    discovery_refused(f.d, f.now_us, "name.example:1", ERR_SELF);
    discovery_refused(f.d, f.now_us, "10.0.0.1:1", ERR_SELF);
    char why[DISCOVERY_WHY_MAX];
    assert_non_null(strstr(discovery_why(f.d, f.now_us, why), "nobody but ourselves"));
    uint64_t start_us = f.now_us;
    assert_true(wants(&f, "name.example:1"));
    assert_false(wants(&f, "10.0.0.1:1"));
    while (wants(&f, "name.example:1")) wait(&f); /* after its time others have their turn */
    assert_true(f.now_us == start_us + 10 * SECOND_US);
    wait_until_wanted(&f, "name.example:1", SECOND_US);
    while (f.now_us < start_us + 599 * SECOND_US) {
        assert_false(wants(&f, "10.0.0.1:1"));
        wait(&f);
    }
    assert_int_equal(discovery_verdict(f.d, NULL), 0);
    discovery_free(f.d);
}

static void a_verdict_only_when_all_are_of_another_cluster(void **state)
{
    (void)state;
    struct fixture f;
    struct err_text text;
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    discovery_add(f.d, "10.0.0.2:1", DISCOVERY_SEED);
    discovery_add(f.d, "10.0.0.3:1", DISCOVERY_SEED);
    discovery_own(f.d, "10.0.0.3:1");
    tick(&f);
    discovery_refused(f.d, f.now_us, "10.0.0.1:1", ERR_CLUSTER);
    assert_int_equal(discovery_verdict(f.d, &text), 0);
    discovery_refused(f.d, f.now_us, "10.0.0.2:1", ERR_VERSION);
    assert_int_equal(discovery_verdict(f.d, &text), ERR_CLUSTER);
    assert_non_null(strstr(text.text, "10.0.0.1:1"));
    uint64_t start_us = f.now_us;
    wait_until_wanted(&f, "10.0.0.1:1", 31 * SECOND_US); /* it may be another one tomorrow */
    assert_true(f.now_us - start_us >= 30 * SECOND_US);
    discovery_links(f.d, f.now_us, 1);
    assert_int_equal(discovery_verdict(f.d, &text), 0);
    discovery_free(f.d);
}

static void a_book_alone_is_no_verdict(void **state)
{
    (void)state;
    struct fixture f;
    struct err_text text;
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_BOOK);
    discovery_add(f.d, "10.0.0.2:1", DISCOVERY_FOUND);
    tick(&f);
    discovery_refused(f.d, f.now_us, "10.0.0.1:1", ERR_CLUSTER);
    discovery_refused(f.d, f.now_us, "10.0.0.2:1", ERR_CLUSTER);
    assert_int_equal(discovery_verdict(f.d, &text), 0); /* others may dial us */
    discovery_add(f.d, "10.0.0.3:1", DISCOVERY_SEED);
    assert_int_equal(discovery_verdict(f.d, &text), 0);
    discovery_refused(f.d, f.now_us, "10.0.0.3:1", ERR_CLUSTER);
    assert_int_equal(discovery_verdict(f.d, &text), ERR_CLUSTER);
    assert_non_null(strstr(text.text, "10.0.0.3:1")); /* the one that the user can change */
    discovery_free(f.d);
}

static void what_no_transport_takes_is_not_taken(void **state)
{
    (void)state;
    static const char *const bad[] = {"",           "host",      ":7946",       "host:",   "host:0",
                                      "host:65536", "host:79a6", "host:000001", "a b:1",   "::1:7946",
                                      "[]:1",       "[::1:7946", "[a]b]:1",     "h\x7f:1", "\xc3\xa4:1",
                                      "h\n:1",      "ho[st:1"};
    static const char *const good[] = {"host:1", "10.0.0.1:65535", "[::1]:7946", "a-b.example:80",
                                       "[fe80::1%eth0]:9"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (discovery_takes(bad[i])) fail_msg("taken: '%s'", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!discovery_takes(good[i])) fail_msg("not taken: '%s'", good[i]);
    char longest[ADDRESS_TEXT_MAX + 1];
    memset(longest, 'h', sizeof longest);
    memcpy(longest + sizeof longest - 4, ":99", 4); /* a byte too long */
    assert_false(discovery_takes(longest));
    assert_true(discovery_takes(longest + 1));
}

/* -- words and bounds ------------------------------------------------------------------------------- */

static void it_says_what_it_waits_for(void **state)
{
    (void)state;
    struct fixture f;
    char why[DISCOVERY_WHY_MAX];
    begin(&f);
    tick(&f);
    assert_non_null(strstr(discovery_why(f.d, f.now_us, why), "nobody to dial"));
    discovery_add(f.d, "seed.example:7946", DISCOVERY_SEED);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    discovery_add(f.d, "10.0.0.2:1", DISCOVERY_SEED);
    tick(&f);
    f.now_us += 2 * SECOND_US;
    discovery_unreachable(f.d, f.now_us, "seed.example:7946", ERR_NOT_FOUND);
    discovery_unreachable(f.d, f.now_us, "10.0.0.1:1", ERR_CLOSED);
    discovery_why(f.d, f.now_us, why);
    assert_non_null(strstr(why, "no link for 2 s: seed.example:7946 does not resolve, next try in"));
    assert_non_null(strstr(why, "10.0.0.1:1 refuses connections"));
    assert_non_null(strstr(why, "; 1 more"));
    /* the longest addresses there are do not overflow the text */
    char text[ADDRESS_TEXT_MAX];
    for (uint32_t i = 0; i < 4; i++) {
        memset(text, 'a' + (int)i, sizeof text);
        memcpy(text + ADDRESS_TEXT_MAX - 3, ":1", 3);
        struct fixture g;
        begin(&g);
        assert_true(discovery_add(g.d, text, DISCOVERY_SEED));
        text[0] = 'z';
        assert_true(discovery_add(g.d, text, DISCOVERY_SEED));
        tick(&g);
        assert_true(strlen(discovery_why(g.d, g.now_us, why)) < DISCOVERY_WHY_MAX);
        discovery_free(g.d);
    }
    discovery_free(f.d);
}

static void what_is_no_address_is_not_taken(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    char endless[ADDRESS_TEXT_MAX + 8];
    memset(endless, 'a', sizeof endless);
    memcpy(endless + sizeof endless - 3, ":1", 3);
    const char *const wrong[] = {"", "host", "host:", ":1", "host:0", "host:x", "host:123456", endless};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(discovery_add(f.d, wrong[i], DISCOVERY_FOUND));
    tick(&f);
    assert_int_equal(wanted_count(&f), 0);
    discovery_free(f.d);
}

static void the_table_is_bounded_and_seeds_stay(void **state)
{
    (void)state;
    struct fixture f;
    char text[64];
    begin(&f);
    discovery_add(f.d, "10.0.0.1:1", DISCOVERY_SEED);
    for (uint32_t i = 0; i < 2 * DISCOVERY_ENTRY_MAX; i++) {
        snprintf(text, sizeof text, "10.9.%u.%u:1", i / 256, i % 256);
        assert_true(discovery_add(f.d, text, DISCOVERY_FOUND));
    }
    tick(&f);
    assert_true(wants(&f, "10.0.0.1:1"));
    assert_int_equal(wanted_count(&f), DISCOVERY_DIAL_MAX);
    discovery_free(f.d);
}

/* Whatever happens in whatever order: never more than sixteen, never ourselves, and no deadline in the past
 * twice. */
static void random_courses_keep_the_bounds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct fixture f;
        struct prng prng;
        char text[64];
        begin(&f);
        prng_seed(&prng, seed);
        discovery_own(f.d, "h0:1");
        uint32_t links = 0;
        for (int i = 0; i < 500; i++) {
            snprintf(text, sizeof text, prng_below(&prng, 2) == 0 ? "h%u:1" : "10.0.0.%u:1",
                     prng_below(&prng, 40));
            switch (prng_below(&prng, 6)) {
            case 0:
                discovery_add(f.d, text, (enum discovery_source)prng_below(&prng, 3));
                break;
            case 1:
                discovery_unreachable(f.d, f.now_us, text, ERR_TIMEOUT);
                break;
            case 2:
                discovery_refused(f.d, f.now_us, text, prng_below(&prng, 2) == 0 ? ERR_SELF : ERR_CLUSTER);
                break;
            case 3:
                links = prng_below(&prng, 3);
                discovery_links(f.d, f.now_us, links);
                break;
            default:
                if (discovery_deadline_us(f.d) != TIME_NEVER) wait(&f);
                assert_true(discovery_deadline_us(f.d) > f.now_us);
                break;
            }
            assert_true(wanted_count(&f) <= DISCOVERY_DIAL_MAX);
            assert_false(wants(&f, "h0:1"));
        }
        discovery_free(f.d);
    }
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
        cmocka_unit_test(our_own_address_is_never_dialled),
        cmocka_unit_test(a_name_of_ourselves_alone_is_tried_again_a_number_is_not),
        cmocka_unit_test(a_verdict_only_when_all_are_of_another_cluster),
        cmocka_unit_test(a_book_alone_is_no_verdict),
        cmocka_unit_test(what_no_transport_takes_is_not_taken),
        cmocka_unit_test(it_says_what_it_waits_for),
        cmocka_unit_test(what_is_no_address_is_not_taken),
        cmocka_unit_test(the_table_is_bounded_and_seeds_stay),
        cmocka_unit_test(random_courses_keep_the_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

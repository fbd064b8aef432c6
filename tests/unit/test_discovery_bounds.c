/* Goal: a node never dials itself, gives up only where all are of another cluster, takes no address that no transport
 * takes, and says what it waits for.
 * Method: events by hand in virtual time; the set of wanted addresses is looked at after each; one random course checks
 * the bounds at every moment. */
#include "tests/unit/discovery_fixture.h"

#include <stdio.h>

#include "base/prng.h"

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

/* Goal: the address book names whom one can dial, the living first, each once, never ourselves, and keeps what the
 * user gave and the book before knew as far as there is room.
 * Method: a membership that has heard of members in all states, read into a checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/book.h"
#include "base/check.h"

enum { OURSELVES = 5 };

/* Member `id` in a state, as a SYNC of its own tells it. */
static struct member member_of(node_id id, enum member_state state)
{
    struct member m = {.id = id, .boot = 1000 * BOOT_UNITS_PER_US, .state = state, .accuser = 0};
    m.incarnation = m.boot;
    if (state == MEMBER_SUSPECT || state == MEMBER_DEAD) {
        m.accuser = 2;
        m.evidence = EVIDENCE_TIMEOUT;
    }
    snprintf(m.address, sizeof m.address, "m%d.example:7946", (int)id);
    return m;
}

static struct membership *cluster(const struct member *known, uint32_t count)
{
    struct membership_config config;
    struct membership_actions acts = {0};
    membership_defaults(&config);
    config.self = member_of(OURSELVES, MEMBER_ALIVE);
    struct membership *m = membership_new(&config);
    struct membership_event start = {.kind = MEMBERSHIP_START, .now_us = 1};
    assert_int_equal(membership_step(m, &start, &acts), 0);
    struct membership_event up = {
        .kind = MEMBERSHIP_LINK_UP, .now_us = 2, .peer = known[0].id, .address = known[0].address};
    assert_int_equal(membership_step(m, &up, &acts), 0);
    struct swim_msg sync = {.kind = SWIM_SYNC, .update = known, .update_count = count};
    struct membership_event heard = {
        .kind = MEMBERSHIP_MESSAGE, .now_us = 3, .peer = known[0].id, .msg = &sync};
    assert_int_equal(membership_step(m, &heard, &acts), 0);
    membership_actions_deinit(&acts);
    return m;
}

static void assert_book(const struct checkpoint *c, const char *const *expected)
{
    uint32_t count = 0;
    for (; expected[count] != NULL; count++) {
        assert_true(count < c->address_count);
        assert_string_equal(c->address[count], expected[count]);
    }
    assert_int_equal(c->address_count, count);
}

static void the_living_come_first_and_nobody_twice(void **state)
{
    (void)state;
    struct member known[] = {
        member_of(1, MEMBER_ALIVE), member_of(2, MEMBER_DEAD),  member_of(3, MEMBER_SUSPECT),
        member_of(4, MEMBER_LEFT),  member_of(6, MEMBER_ALIVE), member_of(7, MEMBER_ALIVE),
    };
    known[5].address[0] = '\0'; /* can only dial out */
    struct membership *m = cluster(known, 6);
    char *given[] = {"seed.example:7946", "m6.example:7946"};
    char former[2][ADDRESS_TEXT_MAX] = {"old.example:1", "seed.example:7946"};
    struct checkpoint c = {.id = OURSELVES};
    book_fill(&c, m, former, 2, given, 2);
    assert_book(&c, (const char *const[]){"m1.example:7946", "m6.example:7946", "m3.example:7946",
                                          "m4.example:7946", "m2.example:7946", "seed.example:7946",
                                          "old.example:1", NULL});
    checkpoint_deinit(&c);
    membership_free(m);
}

static void without_anybody_there_is_no_book(void **state)
{
    (void)state;
    struct checkpoint c = {.id = OURSELVES};
    book_fill(&c, NULL, NULL, 0, NULL, 0);
    assert_null(c.address);
    char *given[] = {"seed.example:7946"};
    book_fill(&c, NULL, NULL, 0, given, 1);
    assert_book(&c, (const char *const[]){"seed.example:7946", NULL});
    checkpoint_deinit(&c);
}

static void what_no_transport_takes_is_left_out(void **state)
{
    (void)state;
    static const char *const bad[] = {"",           "host",      ":7946",       "host:",   "host:0",
                                      "host:65536", "host:79a6", "host:000001", "a b:1",   "::1:7946",
                                      "[]:1",       "[::1:7946", "[a]b]:1",     "h\x7f:1", "\xc3\xa4:1",
                                      "h\n:1",      "ho[st:1"};
    static const char *const good[] = {"host:1", "10.0.0.1:65535", "[::1]:7946", "a-b.example:80",
                                       "[fe80::1%eth0]:9"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (book_is_dialable(bad[i])) fail_msg("taken: '%s'", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!book_is_dialable(good[i])) fail_msg("not taken: '%s'", good[i]);
    char longest[ADDRESS_TEXT_MAX + 1];
    memset(longest, 'h', sizeof longest);
    memcpy(longest + sizeof longest - 4, ":99", 4); /* a byte too long */
    assert_false(book_is_dialable(longest));
    assert_true(book_is_dialable(longest + 1));
}

static void a_full_book_takes_no_more(void **state)
{
    (void)state;
    struct checkpoint c = {.id = OURSELVES};
    char(*former)[ADDRESS_TEXT_MAX] = mem_new(CHECKPOINT_ADDRESS_MAX + 9, sizeof *former);
    for (uint32_t i = 0; i < CHECKPOINT_ADDRESS_MAX + 9; i++)
        snprintf(former[i], sizeof former[i], "h%u:1", i);
    book_fill(&c, NULL, former, CHECKPOINT_ADDRESS_MAX + 9, NULL, 0);
    assert_int_equal(c.address_count, CHECKPOINT_ADDRESS_MAX);
    assert_string_equal(c.address[CHECKPOINT_ADDRESS_MAX - 1], "h255:1");
    free(former);
    checkpoint_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_living_come_first_and_nobody_twice),
        cmocka_unit_test(without_anybody_there_is_no_book),
        cmocka_unit_test(what_no_transport_takes_is_left_out),
        cmocka_unit_test(a_full_book_takes_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

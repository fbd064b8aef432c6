/* Goal: the last word of every node is remembered after its link has gone, within a bound. Method: many notes in a
 * scattered order against what they should add up to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/control/heard.h"

static void the_latest_word_counts(void **state)
{
    (void)state;
    struct heard h = {0};
    assert_true(heard_at_us(&h, 5) == 0);
    for (uint64_t i = 0; i < 1000; i++) heard_note(&h, i * 7919 % 1000, 10 + i);
    assert_int_equal(h.count, 1000);
    for (uint64_t i = 0; i < 1000; i++) assert_true(heard_at_us(&h, i * 7919 % 1000) == 10 + i);
    heard_note(&h, 7919 % 1000, 5); /* an older sample */
    assert_true(heard_at_us(&h, 7919 % 1000) == 11);
    heard_note(&h, 7919 % 1000, 5000);
    assert_true(heard_at_us(&h, 7919 % 1000) == 5000);
    assert_true(heard_at_us(&h, 1000) == 0);
    heard_deinit(&h);
}

static void the_longest_silent_makes_room(void **state)
{
    (void)state;
    struct heard h = {0};
    for (uint64_t i = 0; i < HEARD_MAX; i++) heard_note(&h, i, 100 + (i + 2000) % HEARD_MAX);
    uint64_t oldest = HEARD_MAX - 2000; /* noted at 100 */
    assert_true(heard_at_us(&h, oldest) == 100);
    heard_note(&h, 1000000, 9000);
    assert_int_equal(h.count, HEARD_MAX);
    assert_true(heard_at_us(&h, oldest) == 0);
    assert_true(heard_at_us(&h, 1000000) == 9000);
    assert_true(heard_at_us(&h, oldest + 1) == 101);
    for (uint32_t i = 1; i < h.count; i++) assert_true(h.entry[i - 1].id < h.entry[i].id);
    heard_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_latest_word_counts),
        cmocka_unit_test(the_longest_silent_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

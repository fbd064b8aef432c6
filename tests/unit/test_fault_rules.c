/* Goal: rules of net/fault/fault.h begin, end, match and are told in words as they should.
 * Method: sets of rules by hand; each mistake a rule can have is made once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/fault/fault.h"

#define MS 1000u

static struct fault_rule rule_of(enum fault_kind kind)
{
    return (struct fault_rule){.kind = kind, .direction = FAULT_BOTH, .any = true};
}

static void rules_concern_the_right_links(void **state)
{
    (void)state;
    struct fault_set s = {0};
    struct fault_rule to_five = {.kind = FAULT_DROP, .direction = FAULT_OUT, .peer = 5};
    struct fault_rule slow_all = {.kind = FAULT_DELAY, .direction = FAULT_BOTH, .any = true, .delay_us = 1};
    struct fault_rule slower_five = {.kind = FAULT_DELAY, .direction = FAULT_IN, .peer = 5, .delay_us = 2};
    fault_set_add(&s, &to_five, 0);
    fault_set_add(&s, &slow_all, 0);
    fault_set_add(&s, &slower_five, 0);
    node_id five = 5, six = 6;
    struct fault_effect e;
    fault_set_match(&s, &five, FAULT_OUT, &e);
    assert_ptr_equal(e.by[FAULT_DROP], s.each[0]);
    assert_ptr_equal(e.by[FAULT_DELAY], s.each[1]);
    assert_ptr_equal(fault_effect_block(&e), s.each[0]);
    fault_set_match(&s, &five, FAULT_IN, &e);
    assert_null(e.by[FAULT_DROP]);
    assert_ptr_equal(e.by[FAULT_DELAY], s.each[2]); /* the newest */
    fault_set_match(&s, &six, FAULT_BOTH, &e);
    assert_null(fault_effect_block(&e));
    assert_ptr_equal(e.by[FAULT_DELAY], s.each[1]);
    fault_set_match(&s, NULL, FAULT_BOTH, &e);
    assert_ptr_equal(e.by[FAULT_DELAY], s.each[1]);
    assert_ptr_equal(fault_set_heal(&s, 2), s.each[1]);
    assert_null(fault_set_heal(&s, 2));
    fault_set_match(&s, &six, FAULT_BOTH, &e);
    assert_true(fault_effect_none(&e));
    fault_set_deinit(&s);
}

static void ended_rules_make_room_and_living_ones_do_not(void **state)
{
    (void)state;
    struct fault_set s = {0};
    struct fault_rule r = rule_of(FAULT_DROP);
    for (unsigned i = 0; i < FAULT_RULE_MAX; i++) assert_int_equal(fault_set_add(&s, &r, 0), i + 1);
    assert_int_equal(fault_set_add(&s, &r, 0), ERR_LIMIT);
    assert_non_null(fault_set_heal(&s, 7));
    assert_int_equal(fault_set_add(&s, &r, 0), FAULT_RULE_MAX + 1);
    struct fault_status last[2];
    assert_int_equal(fault_set_list(&s, last, 2), 2);
    assert_int_equal(last[0].id, FAULT_RULE_MAX);
    assert_int_equal(last[1].id, FAULT_RULE_MAX + 1);
    assert_null(fault_set_heal(&s, 7)); /* forgotten */
    fault_set_deinit(&s);
}

static void rules_are_told_in_words(void **state)
{
    (void)state;
    struct fault_rule r = {.kind = FAULT_DELAY,
                           .direction = FAULT_IN,
                           .peer = 3,
                           .delay_us = 50 * MS,
                           .jitter_us = 10 * MS,
                           .for_us = 30 * 1000 * MS};
    char text[FAULT_TEXT_MAX];
    fault_rule_print(&r, text);
    assert_string_equal(text, "delay of 50 ms +- 10 ms, only what comes in, with node 3, for 30 s");
    r = rule_of(FAULT_DROP);
    fault_rule_print(&r, text);
    assert_string_equal(text, "drop, both ways, with every peer, until healed");
    struct fault_counts c = {.bytes_held = 12, .links_refused = 2};
    assert_true(fault_has_bitten(&c));
    fault_counts_print(&c, text);
    assert_string_equal(text, "12 bytes held, 2 links refused");
    c = (struct fault_counts){0};
    assert_false(fault_has_bitten(&c));
    fault_counts_print(&c, text);
    assert_string_equal(text, "it met nothing");
}

static void what_a_rule_lacks_or_has_too_much_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct fault_rule rule;
        const char *says;
    } bad[] = {
        {{.kind = FAULT_DELAY, .direction = FAULT_BOTH}, "delay"},
        {{.kind = FAULT_LIMIT, .direction = FAULT_BOTH}, "rate"},
        {{.kind = FAULT_CORRUPT, .direction = FAULT_BOTH}, "one_in"},
        {{.kind = FAULT_DROP, .direction = FAULT_BOTH, .delay_us = 1}, "delay and jitter"},
        {{.kind = FAULT_DROP, .direction = FAULT_BOTH, .bytes_s = 1}, "rate"},
        {{.kind = FAULT_DELAY, .direction = FAULT_BOTH, .delay_us = 1, .one_in = 1}, "one_in"},
        {{.kind = FAULT_RESET, .direction = FAULT_IN}, "both ways"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_text why = {""};
        assert_int_equal(fault_rule_check(&bad[i].rule, &why), ERR_USAGE);
        assert_non_null(strstr(why.text, bad[i].says));
    }
    enum fault_kind kind;
    enum fault_direction direction;
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++) {
        assert_int_equal(fault_kind_parse(fault_kind_name((enum fault_kind)i), &kind), 0);
        assert_int_equal(kind, i);
    }
    assert_int_equal(fault_kind_parse("dropp", &kind), ERR_USAGE);
    assert_int_equal(fault_direction_parse("out", &direction), 0);
    assert_int_equal(direction, FAULT_OUT);
    assert_int_equal(fault_direction_parse("up", &direction), ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_concern_the_right_links),
        cmocka_unit_test(ended_rules_make_room_and_living_ones_do_not),
        cmocka_unit_test(rules_are_told_in_words),
        cmocka_unit_test(what_a_rule_lacks_or_has_too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

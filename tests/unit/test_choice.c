/* Goal: "name:key=value" texts are parsed with their defaults and ranges, every mistake is answered by one
 * line that names option, value and remedy, and a printed choice parses to itself.
 * Method: a table of good texts with their values, a table of bad ones with what the line must say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/choice.h"

static const struct param_spec tea_params[] = {
    {.key = "cups", .kind = PARAM_INTEGER, .initial = "2", .low = 1, .high = 100, .help = "how many"},
    {.key = "sugar", .kind = PARAM_REAL, .initial = "0.5", .low = 0, .high = 1, .help = "share"},
    {.key = "steep", .kind = PARAM_TIME, .initial = "3min", .low = 0, .high = 3600, .help = "how long"},
    {.key = "sort", .kind = PARAM_WORD, .initial = "green", .words = "black|green|blackest", .help = "leaf"},
    {.key = "note", .kind = PARAM_TEXT, .initial = "none", .help = "anything"},
};
static const struct param_spec cake_params[] = {
    {.key = "weight", .kind = PARAM_REAL, .low = 1, .high = 9, .help = "kilograms"},
};
static const struct choice_spec table[] = {
    {.name = "tea", .params = tea_params, .param_count = sizeof tea_params / sizeof tea_params[0]},
    {.name = "cake", .params = cake_params, .param_count = 1},
    {.name = "water"},
};
enum { TABLE_COUNT = sizeof table / sizeof table[0] };

static void good_texts_give_their_values(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t cups;
        double sugar;
        uint64_t steep_us;
        double sort;
        const char *note;
    } cases[] = {
        {"tea", 2, 0.5, 180000000, 1, "none"},
        {"tea:", 2, 0.5, 180000000, 1, "none"},
        {"tea:cups=1", 1, 0.5, 180000000, 1, "none"},
        {"tea:cups=100,sugar=1e-3", 100, 0.001, 180000000, 1, "none"},
        {"tea:steep=90", 2, 0.5, 90000000, 1, "none"},
        {"tea:steep=50ms", 2, 0.5, 50000, 1, "none"},
        {"tea:steep=7us", 2, 0.5, 7, 1, "none"},
        {"tea:steep=0.5s", 2, 0.5, 500000, 1, "none"},
        {"tea:sort=black", 2, 0.5, 180000000, 0, "none"},
        {"tea:note=a b=c:d,sort=blackest", 2, 0.5, 180000000, 2, "a b=c:d"},
        {"tea:note=", 2, 0.5, 180000000, 1, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct choice c;
        struct err_text why = {""};
        int err = choice_parse(table, TABLE_COUNT, "--drink", cases[i].text, &c, &why);
        if (err != 0) fail_msg("%s", why.text);
        assert_ptr_equal(c.spec, &table[0]);
        assert_int_equal(choice_integer(&c, "cups"), cases[i].cups);
        assert_true(choice_number(&c, "sugar") == cases[i].sugar);
        assert_int_equal(choice_time_us(&c, "steep"), cases[i].steep_us);
        assert_true(choice_number(&c, "sort") == cases[i].sort);
        assert_string_equal(choice_text(&c, "note"), cases[i].note);
    }
}

static void a_number_alone_is_answered_by_the_constant(void **state)
{
    (void)state;
    static const struct param_spec value = {.key = "value", .kind = PARAM_REAL, .low = 0, .high = 1};
    static const struct choice_spec rules[] = {{.name = "constant", .params = &value, .param_count = 1},
                                               {.name = "cosine"}};
    struct choice c;
    struct err_text why = {""};
    assert_int_equal(choice_parse(rules, 2, "--rate", "0.1", &c, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "did you mean 'constant:value=0.1'?"));
    assert_int_equal(choice_parse(rules, 2, "--rate", "consine", &c, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "did you mean 'cosine'?"));
    assert_int_equal(choice_parse(table, TABLE_COUNT, "--drink", "0.1", &c, &why), ERR_USAGE);
    assert_null(strstr(why.text, "value="));
}

static void mistakes_are_answered_by_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "known: tea, cake, water"},
        {"te", "did you mean 'tea'"},
        {"Tea", "unknown 'Tea'"},
        {"tea,cups=3,sugar=0", "did you mean 'tea:cups=3,sugar=0'?"},
        {"tea,cups=3:sugar=0", "did you mean 'tea:cups=3'?"},
        {"coffee-with-milk", "known: tea"},
        {"water:wet=1", "it has: none"},
        {"tea:cup=3", "did you mean 'cups'"},
        {"tea:cups", "'cups' in tea is not key=value"},
        {"tea:cups=", "cups="},
        {"tea:cups=3,cups=4", "given twice"},
        {"tea:cups=2.5", "a whole number"},
        {"tea:cups=0", "from 1 to 100"},
        {"tea:cups=101", "from 1 to 100"},
        {"tea:cups=3x", "cups=3x"},
        {"tea:sugar=nan", "sugar=nan"},
        {"tea:sugar=inf", "sugar=inf"},
        {"tea:sugar=-0.1", "from 0 to 1"},
        {"tea:steep=3h", "3600 seconds"},
        {"tea:steep=3 weeks", "a time"},
        {"tea:steep=ms", "a time"},
        {"tea:sort=white", "black|green|blackest"},
        {"tea:sort=blac", "is not one of"},
        {"tea:sort=black|green", "is not one of"},
        {"tea:,", "not key=value"},
        {"cake", "cake needs weight="},
        {"tea:note=a\nb,cups=0", "from 1 to 100"},
        {"tea\nrm", "unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct choice c;
        struct err_text why = {""};
        assert_int_equal(choice_parse(table, TABLE_COUNT, "--drink", cases[i].text, &c, &why), ERR_USAGE);
        if (strstr(why.text, "--drink") == NULL || strstr(why.text, cases[i].says) == NULL)
            fail_msg("'%s' gives: %s", cases[i].text, why.text);
        assert_null(strchr(why.text, '\n'));
    }
}

static void texts_of_any_length_are_safe(void **state)
{
    (void)state;
    static const char *const starts[] = {"", "tea:", "tea:note=", "tea:cups=", "tea:cups=1,note="};
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++)
        for (size_t size = 100; size <= 4096; size += 28) {
            char *text = calloc(size + 1, 1);
            memset(text, 'a', size);
            memcpy(text, starts[s], strlen(starts[s]));
            struct choice c;
            struct err_text why;
            int err = choice_parse(table, TABLE_COUNT, "--drink", text, &c, &why);
            bool note = strstr(starts[s], "note") != NULL;
            bool fits = note && size - strlen(starts[s]) < sizeof c.value[0].text;
            assert_int_equal(err, fits ? 0 : ERR_USAGE);
            free(text);
        }
}

static void a_printed_choice_parses_to_itself(void **state)
{
    (void)state;
    static const char *const texts[] = {"tea:cups=7,steep=50ms,note=x y", "cake:weight=1.5", "water"};
    static const char *const printed[] = {"tea:cups=7,sugar=0.5,steep=50ms,sort=green,note=x y",
                                          "cake:weight=1.5", "water"};
    for (size_t i = 0; i < 3; i++) {
        struct choice a, b;
        char out[CHOICE_TEXT_MAX], again[CHOICE_TEXT_MAX];
        assert_int_equal(choice_parse(table, TABLE_COUNT, "--drink", texts[i], &a, NULL), 0);
        assert_ptr_equal(choice_print(&a, out, sizeof out), out);
        assert_string_equal(out, printed[i]);
        assert_int_equal(choice_parse(table, TABLE_COUNT, "--drink", out, &b, NULL), 0);
        assert_string_equal(choice_print(&b, again, sizeof again), out);
        assert_int_equal(a.index, i);
        char small[6];
        choice_print(&a, small, sizeof small);
        assert_true(strlen(small) < sizeof small);
    }
}

static void near_words_are_found_and_far_ones_not(void **state)
{
    (void)state;
    static const char *const words[] = {"digest", "gossip", "walk"};
    assert_string_equal(nearest_word("digset", words, 3), "digest");
    assert_string_equal(nearest_word("gosip", words, 3), "gossip");
    assert_string_equal(nearest_word("wlak", words, 3), "walk");
    assert_null(nearest_word("quaternion", words, 3));
    assert_null(nearest_word("walk", words, 0));
    static const char *const options[] = {"nodes", "steps"};
    assert_null(nearest_word("bogus", options, 2)); /* as long, with three letters of five others */
    assert_string_equal(nearest_word("stesp", options, 2), "steps");
}

static void seconds_are_parsed_with_their_units(void **state)
{
    (void)state;
    double s;
    assert_int_equal(parse_seconds("2min", &s), 0);
    assert_true(s == 120);
    assert_int_equal(parse_seconds("1.5e3us", &s), 0);
    assert_true(s > 0.00149999 && s < 0.00150001);
    assert_int_equal(parse_seconds("", &s), ERR_USAGE);
    assert_int_equal(parse_seconds("5 parsecs", &s), ERR_USAGE);
    assert_int_equal(parse_seconds("inf", &s), ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_texts_give_their_values),
        cmocka_unit_test(a_number_alone_is_answered_by_the_constant),
        cmocka_unit_test(mistakes_are_answered_by_one_line),
        cmocka_unit_test(texts_of_any_length_are_safe),
        cmocka_unit_test(a_printed_choice_parses_to_itself),
        cmocka_unit_test(near_words_are_found_and_far_ones_not),
        cmocka_unit_test(seconds_are_parsed_with_their_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

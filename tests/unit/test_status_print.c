/* Goal: the table of `gadabout status` fits 100 columns whatever an agent answers, ids stay apart, and what is not
 * known is a dash. Method: figures against texts; answers that are odd, long and hostile, printed into memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/report/status_print.h"

static void figures_are_short(void **state)
{
    (void)state;
    static const struct {
        double number;
        const char *seconds, *bytes;
    } cases[] = {
        {0, "0 us", "0 B"},          {0.0000481, "48 us", "0 B"},
        {0.0004, "400 us", "0 B"},   {0.00098, "1.0 ms", "0 B"},
        {0.0031, "3.1 ms", "0 B"},   {0.382, "382 ms", "0 B"},
        {1, "1.0 s", "1 B"},         {99, "99 s", "99 B"},
        {312, "5.2 min", "312 B"},   {999.6, "17 min", "1.00 kB"},
        {5000, "83 min", "5.00 kB"}, {86400, "24 h", "86.4 kB"},
        {999600, "12 d", "1.00 MB"}, {38.8e6, "449 d", "38.8 MB"},
        {1.5e12, "-", "1.50 TB"},    {-1, "-", "-"},
        {(double)NAN, "-", "-"},     {1e30, "-", "> 999 EB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[STATUS_FIGURE_MAX];
        status_seconds(cases[i].number, out);
        assert_string_equal(out, cases[i].seconds);
        status_bytes(cases[i].number, out);
        assert_string_equal(out, cases[i].bytes);
    }
}

static void ids_are_cut_to_what_tells_them_apart(void **state)
{
    (void)state;
    static const uint64_t random[] = {4611111111111111111u, 4611222222222222222u, 1799999999999999999u};
    static const uint64_t near[] = {1234567890123456789u, 1234567890123456780u, 5};
    static const uint64_t small[] = {1, 2, 13, 2, 2};
    static const uint64_t prefix[] = {12345, 123456789};
    assert_int_equal(status_id_digits(random, 3), 5);
    assert_int_equal(status_id_digits(near, 3), 19);
    assert_int_equal(status_id_digits(small, 5), 4);
    assert_int_equal(status_id_digits(prefix, 2), 6);
    assert_int_equal(status_id_digits(NULL, 0), 4);
}

static char *print(const char *json, const char *error)
{
    struct status_answer answer = {.path = "/x.sock",
                                   .reply = json != NULL ? json_loads(json, 0, NULL) : NULL};
    char *text = NULL;
    size_t size;
    if (json != NULL) assert_non_null(answer.reply);
    if (error != NULL) snprintf(answer.why.text, sizeof answer.why.text, "%s", error);
    FILE *to = open_memstream(&text, &size);
    status_print(&answer, 1, to);
    assert_int_equal(fclose(to), 0);
    json_decref(answer.reply);
    return text;
}

static void check_width(const char *text)
{
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (length > STATUS_COLUMNS) fail_msg("%zu columns: %.*s", length, (int)length, line);
        line += length + (line[length] == '\n');
    }
}

static void every_answer_fits(void **state)
{
    (void)state;
#define LONG                                                                                                 \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaaaaaaaaaaaaaaaaaa"
#define BIG "9223372036854775807"
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"{}", "agent 0  place - of -  -  0 steps  loss -  health -"},
        {"{\"id\": 17, \"place\": 3, \"places\": 8, \"phase\": \"training\", \"steps\": 12, \"loss\": 0.5}",
         "agent 17  place 3 of 8  training  12 steps  loss 0.5"},
        {"{\"id\": 17, \"steps\": 12, \"model_steps\": 12}", "12 steps  loss -"},
        {"{\"id\": 17, \"steps\": 12, \"model_steps\": 5012}", "12 steps (its model 5012)  loss -"},
        {"{\"id\": \"x\", \"place\": [], \"members\": {}, \"loss\": null, \"phase\": 7}", "place - of -"},
        {"{\"members\": [1, null, [], \"x\", {}]}", "member"},
        {"{\"members\": [{\"id\": 5, \"place\": null, \"keeper\": true, \"state\": \"alive\"}]}",
         " keeps alive"},
        {"{\"id\": " BIG ", \"steps\": " BIG ", \"address\": \"" LONG ":7946\", \"phase\": \"" LONG
         "\", \"memory_bytes\": " BIG
         ", \"members\": [{\"id\": 9223372036854775806, \"place\": 65535, \"state\": \"" LONG
         "\", \"address\": \"" LONG ":7946\", \"queue_bytes\": 99999999, \"why\": \"" LONG "\"}]}",
         ":7946"},
        {"{\"members\": [{\"id\": 5, \"address\": \"" LONG "\"}]}", "aaaa"},
        {"{\"members\": [{\"id\": 5, \"address\": \":" LONG "\"}]}", "aaaa"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = print(cases[i].json, NULL);
        check_width(text);
        if (strstr(text, cases[i].words) == NULL) fail_msg("no '%s' in:\n%s", cases[i].words, text);
        free(text);
    }
    char *text = print(NULL, LONG);
    check_width(text);
    free(text);
}

static void what_does_not_fit_goes_on_in_the_next_line(void **state)
{
    (void)state;
    char *text = print(
        "{\"id\": 4611, \"place\": 0, \"places\": 16, \"phase\": \"training\", \"steps\": 899123, "
        "\"model_steps\": 1899123, \"loss\": 0.3381, \"accuracy\": 0.432, \"health\": 0, \"links\": 12, "
        "\"algorithm\": \"digest:streams=path\"}",
        NULL);
    check_width(text);
    assert_non_null(strstr(text,
                           "agent 4611  place 0 of 16  training  899123 steps (its model 1899123)  loss "
                           "0.3381  accuracy 43.2 %\n  health 0  12 links  digest\n"));
    free(text);
}

static void the_reason_of_a_doubt_is_below_its_member(void **state)
{
    (void)state;
    char *text = print(
        "{\"id\": 4611111111111111111, \"members\": [{\"id\": 4611222222222222222, \"state\": \"suspect\","
        "\"address\": \"10.0.0.5:7946\", \"doubt\": {\"accuser\": 9111111111111111111, \"evidence\":"
        "\"timeout\", \"since_s\": 3.21, \"confirmations\": 1, \"wanted\": 2}}]}",
        NULL);
    check_width(text);
    assert_non_null(
        strstr(text, "suspect 3.2 s: no answer to 91111 and those it asked, 1 of 2 confirmations"));
    assert_true(strstr(text, "46112 ") < strstr(text, "suspect 3.2 s"));
    free(text);
}

static void what_is_relayed_for_others_and_by_whom_is_said(void **state)
{
    (void)state;
    char *text = print("{\"id\": 4611, \"relays\": 16, \"relayed_messages\": 9, \"relayed_bytes\": 1500000,"
                       "\"relays_refused\": 3, \"members\": [{\"id\": 71, \"relayed_by\": 72}]}",
                       NULL);
    check_width(text);
    assert_non_null(strstr(
        text, "  relays for 16 pairs, 1.50 MB so far; refused 3 calls: it has no room for more pairs\n"));
    assert_non_null(strstr(text, "relayed by 72"));
    free(text);
    text = print("{\"id\": 4611, \"relays\": 0, \"relayed_messages\": 0, \"relayed_bytes\": 0}", NULL);
    assert_null(strstr(text, "relay"));
    free(text);
}

static void another_process_with_its_id_is_said(void **state)
{
    (void)state;
    char *text = print("{\"id\": 4611, \"id_also_at\": \"10.0.0.9:7946\"}", NULL);
    check_width(text);
    assert_non_null(strstr(
        text, "  its id is used by another process at 10.0.0.9:7946: stop one, or give it another --id\n"));
    free(text);
    text = print("{\"id\": 4611, \"id_also_at\": \"\"}", NULL);
    assert_non_null(strstr(text, "  its id is used by another process: stop one, or give it another --id\n"));
    free(text);
    text = print("{\"id\": 4611}", NULL);
    assert_null(strstr(text, "its id is used"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_short),
        cmocka_unit_test(ids_are_cut_to_what_tells_them_apart),
        cmocka_unit_test(every_answer_fits),
        cmocka_unit_test(what_does_not_fit_goes_on_in_the_next_line),
        cmocka_unit_test(the_reason_of_a_doubt_is_below_its_member),
        cmocka_unit_test(what_is_relayed_for_others_and_by_whom_is_said),
        cmocka_unit_test(another_process_with_its_id_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

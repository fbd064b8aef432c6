/* Goal: log lines can be shown as they are, and what others can cause at will costs one line a second.
 * Method: a sink that keeps the lines; times made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace.h"

struct log {
    struct trace trace;
    unsigned lines;
    char last[1024];
};

static void on_line(void *ctx, enum trace_level level, const char *text)
{
    struct log *l = ctx;
    (void)level;
    l->lines++;
    snprintf(l->last, sizeof l->last, "%s", text);
}

static void log_open(struct log *l, enum trace_level level)
{
    *l = (struct log){.trace = {.level = level, .line = on_line, .ctx = l}};
}

static void text_of_others_cannot_forge_a_line(void **state)
{
    (void)state;
    struct log l;
    log_open(&l, TRACE_INFO);
    trace_line(&l.trace, TRACE_INFO, "it says %s", "a\nb\033[2J");
    assert_string_equal(l.last, "it says a?b?[2J");
    trace_line(&l.trace, TRACE_DEBUG, "unheard");
    trace_line(NULL, TRACE_ERROR, "nowhere");
    assert_int_equal(l.lines, 1);
}

static void a_limited_line_comes_once_a_second_with_the_count_of_the_others(void **state)
{
    (void)state;
    struct log l;
    log_open(&l, TRACE_INFO);
    struct trace_limit limit = {0}, other = {0};
    for (unsigned i = 0; i < 50; i++) trace_limited(&limit, i, &l.trace, TRACE_INFO, "torn with %u", i);
    assert_int_equal(l.lines, 1);
    assert_string_equal(l.last, "torn with 0");
    trace_limited(&other, 60, &l.trace, TRACE_INFO, "another kind");
    assert_int_equal(l.lines, 2);
    trace_limited(&limit, TRACE_LIMIT_US, &l.trace, TRACE_INFO, "torn with %u", 7u);
    assert_string_equal(l.last, "torn with 7 (and 49 more)");
    trace_limited(&limit, 3 * TRACE_LIMIT_US, &l.trace, TRACE_INFO, "torn with %u", 8u);
    assert_string_equal(l.last, "torn with 8");
    assert_int_equal(l.lines, 4);
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    trace_limited(&limit, 3 * TRACE_LIMIT_US, &l.trace, TRACE_INFO, "%s", text);
    trace_limited(&limit, 4 * TRACE_LIMIT_US, &l.trace, TRACE_INFO, "%s", text);
    assert_non_null(strstr(l.last, "xxx (and 1 more)")); /* the count is not cut off */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_of_others_cannot_forge_a_line),
        cmocka_unit_test(a_limited_line_comes_once_a_second_with_the_count_of_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: the percentiles of a loop's lag are right to an eighth, and a stall counts for all the timers it held up.
 * Method: known lags against the exact answer; the planted error of a measure that sees each stall once is the control. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "agent/report/lag.h"

enum { PERIOD_US = 100000 };

static void nothing_measured_is_0(void **state)
{
    (void)state;
    struct lag l = {0};
    assert_int_equal(lag_percentile_us(&l, 0.99), 0);
    assert_int_equal(lag_take_max(&l), 0);
}

static void a_percentile_is_at_most_an_eighth_too_large(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 7, 8, 9, 15, 16, 17, 999, 1000, 50000, 99999};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct lag l = {0};
        for (int n = 0; n < 99; n++) lag_add(&l, values[i], PERIOD_US);
        lag_add(&l, PERIOD_US - 1, PERIOD_US); /* the one in a hundred above */
        uint64_t p99 = lag_percentile_us(&l, 0.99);
        assert_true(p99 >= values[i] && p99 <= values[i] + values[i] / 8);
        assert_int_equal(lag_percentile_us(&l, 1), PERIOD_US - 1);
    }
}

static void classes_are_in_order_up_to_the_longest_lag(void **state)
{
    (void)state;
    for (uint64_t us = 1; us < (uint64_t)1 << 46; us += us / 5 + 1) {
        struct lag l = {0};
        lag_add(&l, us, UINT64_MAX);
        lag_add(&l, us * 2, UINT64_MAX);
        uint64_t low = lag_percentile_us(&l, 0.5);
        assert_true(low <= us * 2);
        if (us < (uint64_t)1 << 39) assert_true(low >= us && low <= us + us / 8);
        assert_int_equal(lag_percentile_us(&l, 1), us * 2);
    }
}

/* A loop that stands still for 5 s within 100 s was late for 5 % of the time: one long lag among 951 would hide it. */
static void a_stall_weighs_as_much_as_it_lasts(void **state)
{
    (void)state;
    struct lag l = {0}, once = {0};
    for (int n = 0; n < 950; n++) {
        lag_add(&l, 200, PERIOD_US);
        lag_add(&once, 200, UINT64_MAX);
    }
    lag_add(&l, 5000000, PERIOD_US);
    lag_add(&once, 5000000, UINT64_MAX);
    assert_int_equal(l.total, 950 + 51);
    assert_true(lag_percentile_us(&l, 0.99) > 3500000 && lag_percentile_us(&l, 0.94) < 300);
    assert_true(lag_percentile_us(&once, 0.99) < 300); /* the planted error */
    assert_int_equal(l.max_us, 5000000);
}

static void the_recent_maximum_begins_anew_when_taken(void **state)
{
    (void)state;
    struct lag l = {0};
    lag_add(&l, 700, PERIOD_US);
    lag_add(&l, 300, PERIOD_US);
    assert_int_equal(lag_take_max(&l), 700);
    lag_add(&l, 200, PERIOD_US);
    assert_int_equal(lag_take_max(&l), 200);
    assert_int_equal(lag_take_max(&l), 0);
    assert_int_equal(l.max_us, 700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_measured_is_0),
        cmocka_unit_test(a_percentile_is_at_most_an_eighth_too_large),
        cmocka_unit_test(classes_are_in_order_up_to_the_longest_lag),
        cmocka_unit_test(a_stall_weighs_as_much_as_it_lasts),
        cmocka_unit_test(the_recent_maximum_begins_anew_when_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

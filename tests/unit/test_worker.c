/* Goal: a paced node does its steps no faster than asked, makes up for small delays and does not race after a
 * long one.
 * Method: the due times of a sequence of steps, computed from a clock made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/worker.h"

#define SECOND_US 1000000u

static void steps_are_due_one_after_the_other(void **state)
{
    (void)state;
    uint64_t now = 5u * SECOND_US, due = now;
    for (uint32_t i = 1; i <= 100; i++) {
        due = worker_pace_due_us(due, now, 1, 50);
        assert_int_equal(due, 5u * SECOND_US + i * 20000u);
        now = due; /* waited for it */
    }
}

static void the_first_step_is_due_at_once(void **state)
{
    (void)state;
    /* due is 0 at the start, the clock is anywhere */
    assert_int_equal(worker_pace_due_us(0, 77u * SECOND_US, 1, 50), 77u * SECOND_US);
}

static void a_small_delay_is_made_up_for(void **state)
{
    (void)state;
    uint64_t due = 10u * SECOND_US;
    /* the step came 100 ms late: the next ones stay due as if it had not */
    due = worker_pace_due_us(due, 10u * SECOND_US + 120000u, 1, 50);
    assert_int_equal(due, 10u * SECOND_US + 20000u);
    due = worker_pace_due_us(due, 10u * SECOND_US + 121000u, 1, 50);
    assert_int_equal(due, 10u * SECOND_US + 40000u);
}

static void a_long_sleep_is_not_made_up_for(void **state)
{
    (void)state;
    uint64_t due = 10u * SECOND_US, now = 20u * SECOND_US;
    due = worker_pace_due_us(due, now, 1, 50);
    assert_int_equal(due, now);
    assert_int_equal(worker_pace_due_us(due, now, 1, 50), now + 20000u);
    /* just within the debt */
    assert_int_equal(worker_pace_due_us(now, now + WORKER_PACE_DEBT_US + 20000u, 1, 50), now + 20000u);
    assert_int_equal(worker_pace_due_us(now, now + WORKER_PACE_DEBT_US + 20001u, 1, 50),
                     now + WORKER_PACE_DEBT_US + 20001u);
}

static void several_steps_and_slow_paces_count_in_full(void **state)
{
    (void)state;
    static const struct {
        uint32_t steps;
        double pace;
        uint64_t more_us;
    } cases[] = {
        {3, 50, 60000}, {1, 0.05, 20u * SECOND_US}, {0, 50, 0}, {1, 1e6, 1}, {1, 1e-300, 1000000000000000u}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(worker_pace_due_us(SECOND_US, SECOND_US, cases[i].steps, cases[i].pace),
                         SECOND_US + cases[i].more_us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_due_one_after_the_other),
        cmocka_unit_test(the_first_step_is_due_at_once),
        cmocka_unit_test(a_small_delay_is_made_up_for),
        cmocka_unit_test(a_long_sleep_is_not_made_up_for),
        cmocka_unit_test(several_steps_and_slow_paces_count_in_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a paced node does its steps no faster than asked, makes up for small delays and does not race after a
 * long one.
 * The trainer's state is copied between two jobs, whatever the compute thread is doing, and holds nobody up.
 * Method: the due times of a sequence of steps, computed from a clock made up here; jobs on a thread of their own, whose
 * ends are written down, while states are asked for. */
#include <pthread.h>
#include <stdatomic.h>

#include "agent/experiment/worker.h"
#include "experiment_fixture.h"

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

/* -- state ------------------------------------------------------------------------------------- */

enum { JOBS_MAX = 2000, JOB_STEPS = 7, STATE_STEPS_AT = 40 /* in the trainer's state */ };

struct jobs {
    struct worker *worker;
    const struct experiment *experiment;
    atomic_bool enough;
    uint32_t count;
    uint64_t steps_at_end[JOBS_MAX]; /* (count) of each job */
};

static void *do_jobs(void *ctx)
{
    struct jobs *j = ctx;
    struct trainer *t = worker_trainer(j->worker);
    size_t dim = j->experiment->dim;
    float *delta = mem_new(dim, sizeof *delta);
    double loss;
    uint64_t steps = 0;
    while (j->count < JOBS_MAX && !atomic_load(&j->enough)) {
        steps += t->run(t, j->experiment->x0, JOB_STEPS, delta, &loss);
        j->steps_at_end[j->count++] = steps;
    }
    free(delta);
    return NULL;
}

static uint64_t steps_of_state(const struct blob *state)
{
    uint64_t steps;
    memcpy(&steps, state->data + STATE_STEPS_AT, sizeof steps);
    return steps;
}

static struct blob *ask_and_wait(struct worker *w)
{
    struct blob *state = NULL;
    worker_ask_state(w);
    while (!worker_take_state(w, &state)) sched_yield();
    assert_non_null(state);
    return state;
}

static bool is_end_of_a_job(const struct jobs *j, uint64_t steps)
{
    if (steps == 0) return true; /* before the first */
    for (uint32_t i = 0; i < j->count; i++)
        if (j->steps_at_end[i] == steps) return true;
    return false;
}

static void the_state_is_copied_between_two_jobs(void **state)
{
    (void)state;
    enum { ASKED = 60 };
    struct config c = config_of(MIXTURE, "softmax", "iid", 1, 8);
    struct experiment e = open_experiment(&c);
    struct err_text why;
    struct jobs j = {.experiment = &e};
    assert_int_equal(worker_load_sample(&e, &why), 0);
    assert_int_equal(worker_new(&e, 0, &j.worker, &why), 0);
    uint64_t steps[ASKED];
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, do_jobs, &j), 0);
    for (int i = 0; i < ASKED; i++) {
        struct blob *taken = ask_and_wait(j.worker);
        steps[i] = steps_of_state(taken);
        blob_unref(taken);
    }
    atomic_store(&j.enough, true);
    pthread_join(thread, NULL);
    for (int i = 0; i < ASKED; i++) {
        if (!is_end_of_a_job(&j, steps[i])) fail_msg("a state after %d steps", (int)steps[i]);
        assert_true(i == 0 || steps[i] >= steps[i - 1]);
    }
    struct blob *last = ask_and_wait(j.worker); /* nobody trains: at once */
    assert_int_equal(steps_of_state(last), j.count > 0 ? j.steps_at_end[j.count - 1] : 0);
    assert_int_equal(worker_restore(j.worker, last), 0);
    worker_ask_state(j.worker); /* asked for and never taken: freed with the worker */
    blob_unref(last);
    worker_free(j.worker);
    close_experiment(&e, &c);
}

static void a_frozen_worker_still_gives_its_state(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "softmax", "iid", 1, 8);
    struct experiment e = open_experiment(&c);
    struct err_text why;
    struct jobs j = {.experiment = &e};
    assert_int_equal(worker_load_sample(&e, &why), 0);
    assert_int_equal(worker_new(&e, 0, &j.worker, &why), 0);
    worker_freeze(j.worker);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, do_jobs, &j), 0);
    struct blob *taken;
    uint64_t steps;
    do { /* the one job is done, and held */
        taken = ask_and_wait(j.worker);
        steps = steps_of_state(taken);
        blob_unref(taken);
    } while (steps == 0);
    for (int i = 0; i < 20; i++) {
        taken = ask_and_wait(j.worker);
        assert_int_equal(steps_of_state(taken), steps);
        blob_unref(taken);
    }
    atomic_store(&j.enough, true);
    worker_stop(j.worker);
    pthread_join(thread, NULL);
    assert_int_equal(j.steps_at_end[0], steps);
    worker_free(j.worker);
    close_experiment(&e, &c);
}

/* The thread loads; the loop takes the worker when the job is done, and drops what it does not want. */
static void a_worker_is_loaded_by_a_job(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "softmax", "iid", 2, 8);
    struct experiment e = open_experiment(&c);
    struct err_text why;
    struct worker *w = NULL;
    assert_int_equal(worker_load_sample(&e, &why), 0);
    struct worker_load *l = worker_load_new(&e, 1);
    assert_int_equal(worker_load_end(l, &w, &why), ERR_NOT_FOUND); /* never begun */
    assert_null(w);
    for (int wanted = 0; wanted <= 1; wanted++) {
        l = worker_load_new(&e, 1);
        struct job *j = worker_load_job(l);
        j->run(j);
        assert_int_equal(worker_load_end(l, wanted ? &w : NULL, &why), 0);
    }
    assert_non_null(w);
    float *x = mem_new(e.dim, sizeof *x), *delta = mem_new(e.dim, sizeof *delta);
    memcpy(x, e.x0, e.dim * sizeof *x);
    double loss;
    struct trainer *t = worker_trainer(w);
    assert_true(t->run(t, x, 3, delta, &loss) >= 1);
    free(x);
    free(delta);
    worker_free(w);
    close_experiment(&e, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_due_one_after_the_other),
        cmocka_unit_test(the_first_step_is_due_at_once),
        cmocka_unit_test(a_small_delay_is_made_up_for),
        cmocka_unit_test(a_long_sleep_is_not_made_up_for),
        cmocka_unit_test(the_state_is_copied_between_two_jobs),
        cmocka_unit_test(a_frozen_worker_still_gives_its_state),
        cmocka_unit_test(a_worker_is_loaded_by_a_job),
        cmocka_unit_test(several_steps_and_slow_paces_count_in_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

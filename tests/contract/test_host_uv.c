/* Goal: the libuv host keeps net/host.h: deadlines that are never early, one job at a time on another thread,
 * an orderly end.
 * Method: a loop with a watchdog timer; what has to happen ends the loop, the watchdog fails the test. Each
 * loop must close with 0. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <uv.h>

#include "base/err.h"
#include "base/ids.h"
#include "net/uv/uv.h"

struct world {
    uv_loop_t loop;
    uv_timer_t watchdog;
    struct host *host;
    uint64_t fired_us;
    unsigned deadlines, jobs, jobs_wanted;
    struct job *last_job;
    bool closed, restart;
};

/* A job that says where it ran. `gate` holds it until the test lets it go on. */
struct counting_job {
    struct job base;
    pthread_t thread;
    unsigned runs;
    uv_sem_t *taken, *gate; /* may be NULL: says that it runs; waits to go on */
};

static void run_counting(struct job *j)
{
    struct counting_job *c = (struct counting_job *)j;
    if (c->taken != NULL) uv_sem_post(c->taken);
    if (c->gate != NULL) uv_sem_wait(c->gate);
    c->thread = pthread_self();
    c->runs++;
}

static void on_deadline(void *ctx)
{
    struct world *w = ctx;
    w->deadlines++;
    w->fired_us = w->host->ops->now_us(w->host);
}

static void on_job_done(void *ctx, struct job *j)
{
    struct world *w = ctx;
    w->jobs++;
    w->last_job = j;
    if (w->restart && w->jobs < w->jobs_wanted) assert_int_equal(w->host->ops->start_job(w->host, j), 0);
}

static void watchdog_cb(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("not within 20 s");
}

static void on_closed(void *ctx)
{
    struct world *w = ctx;
    w->closed = true;
    uv_close((uv_handle_t *)&w->watchdog, NULL);
}

static void world_open(struct world *w)
{
    *w = (struct world){0};
    struct host_sink sink = {w, on_deadline, on_job_done};
    struct err_text why;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    uv_timer_init(&w->loop, &w->watchdog);
    uv_timer_start(&w->watchdog, watchdog_cb, 20000, 0);
    assert_int_equal(uv_host_new(&w->loop, &sink, &w->host, &why), 0);
}

static void world_close(struct world *w)
{
    if (!w->closed) {
        uv_host_close(w->host, on_closed, w);
        uv_run(&w->loop, UV_RUN_DEFAULT);
    }
    assert_true(w->closed);
    uv_host_free(w->host);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

#define RUN_UNTIL(w, condition)                                                                              \
    while (!(condition)) uv_run(&(w)->loop, UV_RUN_ONCE)

static void a_deadline_comes_once_and_never_early(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    static const uint64_t delays[] = {0, 1, 250, 999, 1000, 1001, 1999, 2500, 7777, 20001};
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        uint64_t at_us = w.host->ops->now_us(w.host) + delays[i];
        w.host->ops->set_deadline(w.host, at_us);
        RUN_UNTIL(&w, w.deadlines == i + 1);
        assert_true(w.fired_us >= at_us);
    }
    for (int i = 0; i < 20; i++) uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_int_equal(w.deadlines, 10);
    world_close(&w);
}

static void a_new_deadline_replaces_the_old_one(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    uint64_t now_us = w.host->ops->now_us(w.host);
    w.host->ops->set_deadline(w.host, now_us + 1000);
    w.host->ops->set_deadline(w.host, now_us + 30000);
    RUN_UNTIL(&w, w.deadlines == 1);
    assert_true(w.fired_us >= now_us + 30000);
    w.host->ops->set_deadline(w.host, w.fired_us + 1000);
    w.host->ops->set_deadline(w.host, TIME_NEVER);
    while (w.host->ops->now_us(w.host) < w.fired_us + 5000) uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_int_equal(w.deadlines, 1);
    world_close(&w);
}

static void a_job_runs_elsewhere_while_the_loop_goes_on(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    uv_sem_t gate;
    uv_sem_init(&gate, 0);
    struct counting_job job = {.base = {run_counting, 1}, .gate = &gate}, other = {.base = {run_counting, 1}};
    assert_int_equal(w.host->ops->start_job(w.host, &job.base), 0);
    assert_int_equal(w.host->ops->start_job(w.host, &other.base), ERR_BUSY);
    w.host->ops->set_deadline(w.host, w.host->ops->now_us(w.host) + 2000);
    RUN_UNTIL(&w, w.deadlines == 1); /* the job stands at its gate */
    assert_int_equal(w.jobs, 0);
    uv_sem_post(&gate);
    RUN_UNTIL(&w, w.jobs == 1);
    assert_ptr_equal(w.last_job, &job.base);
    assert_int_equal(job.runs, 1);
    assert_false(pthread_equal(job.thread, pthread_self()));
    assert_int_equal(other.runs, 0);
    world_close(&w);
    uv_sem_destroy(&gate);
}

static void many_jobs_run_one_after_another(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    struct counting_job job = {.base = {run_counting, 1}};
    w.restart = true;
    w.jobs_wanted = 2000;
    assert_int_equal(w.host->ops->start_job(w.host, &job.base), 0);
    RUN_UNTIL(&w, w.jobs == 2000);
    assert_int_equal(job.runs, 2000);
    world_close(&w);
}

static void close_waits_for_the_running_job_and_reports_nothing(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    uv_sem_t gate, taken;
    uv_sem_init(&gate, 0);
    uv_sem_init(&taken, 0);
    struct counting_job job = {.base = {run_counting, 1}, .taken = &taken, .gate = &gate};
    assert_int_equal(w.host->ops->start_job(w.host, &job.base), 0);
    w.host->ops->set_deadline(w.host, w.host->ops->now_us(w.host));
    uv_sem_wait(&taken);
    uv_host_close(w.host, on_closed, &w);
    assert_int_equal(w.host->ops->start_job(w.host, &job.base), ERR_BUSY);
    for (int i = 0; i < 5; i++) uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_false(w.closed);
    uv_sem_post(&gate);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_true(w.closed);
    assert_int_equal(job.runs, 1);
    assert_int_equal(w.jobs + w.deadlines, 0);
    world_close(&w);
    uv_sem_destroy(&gate);
    uv_sem_destroy(&taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deadline_comes_once_and_never_early),
        cmocka_unit_test(a_new_deadline_replaces_the_old_one),
        cmocka_unit_test(a_job_runs_elsewhere_while_the_loop_goes_on),
        cmocka_unit_test(many_jobs_run_one_after_another),
        cmocka_unit_test(close_waits_for_the_running_job_and_reports_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The host over libuv: monotonic clock, one deadline, and one training job at a time on a thread of its own
 * (libuv's pool is left for files, which long jobs would starve).
 *
 * Normal course
 *  - set_deadline arms one timer. libuv counts milliseconds: the time is rounded up, so that a deadline is
 *    never early.
 *  - start_job hands the job to the thread under a lock and wakes it; the thread runs it, marks it done and
 *    sends the async handle; the loop then calls on_job_done. Between the two only the thread touches the
 *    job.
 *  - uv_host_close tells the thread to stop; its last act is to send the async handle; the loop joins it and
 *    closes the handles. The loop is never blocked by a job.
 *
 * Failures
 *  - a second job while one runs, or after close: ERR_BUSY.
 *  - a job still runs at close: the close waits for its end; its result is not reported. */
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "base/check.h"
#include "base/ids.h"
#include "net/uv/uv.h"

enum { COMPUTE_NICENESS = 10 }; /* of the compute thread, relative to an ordinary process */

struct uv_host {
    struct host base;
    uv_loop_t *loop;
    struct host_sink sink;
    uv_timer_t timer;
    uint64_t deadline_us;
    uv_async_t news;
    uv_thread_t thread;
    uint32_t open_handles;
    bool closing;
    struct job *job; /* started and not reported; the loop's */
    void (*closed)(void *ctx);
    void *closed_ctx;

    uv_mutex_t lock; /* of what follows */
    uv_cond_t wake;
    struct job *waiting; /* for the thread; NULL = none */
    struct job *done;    /* for the loop; NULL = none */
    bool stop, stopped;
};

static struct uv_host *self_of(const struct host *h)
{
    return (struct uv_host *)(uintptr_t)h; /* base is the first field */
}

/* -- the thread -------------------------------------------------------------------------------- */

/* Training gives way to the loop: with more agents than processors, a message that waited for somebody
 * else's time slice would let the models drift apart meanwhile. Where it is not allowed, nothing is lost. */
static void give_way(void)
{
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), COMPUTE_NICENESS);
}

static void compute_thread(void *arg)
{
    struct uv_host *h = arg;
    give_way();
    uv_mutex_lock(&h->lock);
    while (!h->stop) {
        struct job *j = h->waiting;
        h->waiting = NULL;
        if (j == NULL) {
            uv_cond_wait(&h->wake, &h->lock);
            continue;
        }
        uv_mutex_unlock(&h->lock);
        j->run(j);
        uv_mutex_lock(&h->lock);
        h->done = j;
        uv_async_send(&h->news);
    }
    h->stopped = true;
    uv_async_send(&h->news);
    uv_mutex_unlock(&h->lock);
}

/* -- the loop ---------------------------------------------------------------------------------- */

static void handle_closed_cb(uv_handle_t *handle)
{
    struct uv_host *h = handle->data;
    CHECK(h->open_handles > 0);
    if (--h->open_handles == 0) h->closed(h->closed_ctx); /* h may be freed now */
}

static void news_cb(uv_async_t *handle)
{
    struct uv_host *h = handle->data;
    uv_mutex_lock(&h->lock);
    struct job *done = h->done;
    bool stopped = h->stopped;
    h->done = NULL;
    uv_mutex_unlock(&h->lock);
    if (stopped) {
        uv_thread_join(&h->thread);
        uv_close((uv_handle_t *)&h->timer, handle_closed_cb);
        uv_close((uv_handle_t *)&h->news, handle_closed_cb);
        return;
    }
    if (done == NULL || h->closing) return;
    CHECK(done == h->job);
    h->job = NULL; /* the sink may start the next one */
    h->sink.on_job_done(h->sink.ctx, done);
}

static uint64_t host_now_us(const struct host *base)
{
    (void)base;
    return uv_hrtime() / 1000;
}

static void arm(struct uv_host *h);

static void timer_cb(uv_timer_t *timer)
{
    struct uv_host *h = timer->data;
    if (host_now_us(&h->base) < h->deadline_us) {
        arm(h);
        return;
    }
    h->deadline_us = TIME_NEVER;
    h->sink.on_deadline(h->sink.ctx);
}

static void arm(struct uv_host *h)
{
    uv_update_time(h->loop);
    uint64_t at_ms = h->deadline_us / 1000 + (h->deadline_us % 1000 != 0), now_ms = uv_now(h->loop);
    uv_timer_start(&h->timer, timer_cb, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

static void host_set_deadline(struct host *base, uint64_t at_us)
{
    struct uv_host *h = self_of(base);
    if (h->closing) return;
    h->deadline_us = at_us;
    if (at_us == TIME_NEVER)
        uv_timer_stop(&h->timer);
    else
        arm(h);
}

static int host_start_job(struct host *base, struct job *j)
{
    struct uv_host *h = self_of(base);
    if (h->closing || h->job != NULL) return ERR_BUSY;
    h->job = j;
    uv_mutex_lock(&h->lock);
    h->waiting = j;
    uv_cond_signal(&h->wake);
    uv_mutex_unlock(&h->lock);
    return 0;
}

static const struct host_ops ops = {
    .now_us = host_now_us,
    .set_deadline = host_set_deadline,
    .start_job = host_start_job,
};

/* -- life -------------------------------------------------------------------------------------- */

static void free_after_failure_cb(uv_handle_t *handle)
{
    struct uv_host *h = handle->data;
    uv_host_free(&h->base);
}

int uv_host_new(struct uv_loop_s *loop, const struct host_sink *sink, struct host **out, struct err_text *why)
{
    struct uv_host *h = mem_new_zero(1, sizeof *h);
    h->base.ops = &ops;
    h->loop = loop;
    h->sink = *sink;
    h->deadline_us = TIME_NEVER;
    h->timer.data = h->news.data = h;
    CHECK(uv_mutex_init(&h->lock) == 0);
    CHECK(uv_cond_init(&h->wake) == 0);
    const char *what = "an event descriptor; raise the limit of open files (ulimit -n)";
    int err = uv_async_init(loop, &h->news, news_cb);
    if (err == 0) {
        what = "the compute thread; raise the limit of processes (ulimit -u)";
        err = uv_thread_create(&h->thread, compute_thread, h);
        if (err == 0) {
            uv_timer_init(loop, &h->timer);
            h->open_handles = 2;
            *out = &h->base;
            return 0;
        }
        uv_close((uv_handle_t *)&h->news, free_after_failure_cb);
    } else {
        uv_host_free(&h->base);
    }
    return err_set(why, ERR_IO, "cannot make %s: %s", what, uv_strerror(err));
}

void uv_host_close(struct host *base, void (*closed)(void *ctx), void *ctx)
{
    struct uv_host *h = self_of(base);
    CHECK(!h->closing);
    h->closing = true;
    h->closed = closed;
    h->closed_ctx = ctx;
    uv_timer_stop(&h->timer);
    uv_mutex_lock(&h->lock);
    h->stop = true;
    uv_cond_signal(&h->wake);
    uv_mutex_unlock(&h->lock);
}

void uv_host_free(struct host *base)
{
    if (base == NULL) return;
    struct uv_host *h = self_of(base);
    CHECK(h->open_handles == 0);
    uv_cond_destroy(&h->wake);
    uv_mutex_destroy(&h->lock);
    free(h);
}

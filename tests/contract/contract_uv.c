/* The world of TCP over loopback for the contract suite: each endpoint with a loop of its own, so that one can stand
 * still. Waits are bounded and on the loops; each loop must close with 0. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/check.h"
#include "base/err.h"
#include "net/uv/uv.h"
#include "tests/contract/transport_contract.h"

/* -- the world of loops ------------------------------------------------------------------------ */

#define LIFE_MAX 64u

/* One life of one endpoint. */
struct life {
    uv_loop_t loop;
    struct transport *transport;
    struct transport_sink sink;
    struct host host; /* of a timer only: no jobs */
    struct host_sink host_sink;
    uv_timer_t timer;
    bool has_timer;
    uint32_t v;
    bool paused, crashed, closed, released;
};

struct contract_world {
    struct life *life[LIFE_MAX];
    uint32_t count;
};

static void life_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct life *l = ctx;
    if (!l->crashed) l->sink.on_up(l->sink.ctx, link, peer);
}

static void life_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct life *l = ctx;
    if (!l->crashed) l->sink.on_down(l->sink.ctx, link, why);
}

static void life_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                         struct blob *body)
{
    struct life *l = ctx;
    if (!l->crashed) l->sink.on_message(l->sink.ctx, link, lane, head, size, body);
}

static void life_writable(void *ctx, struct link_id link)
{
    struct life *l = ctx;
    if (!l->crashed) l->sink.on_writable(l->sink.ctx, link);
}

static void life_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct life *l = ctx;
    if (!l->crashed) l->sink.on_refused(l->sink.ctx, address, err, reason);
}

static void life_unreachable(void *ctx, const char *address, int err)
{
    struct life *l = ctx;
    if (!l->crashed) l->sink.on_unreachable(l->sink.ctx, address, err);
}

static void life_closed(void *ctx)
{
    struct life *l = ctx;
    l->closed = true;
    if (!l->crashed) l->sink.on_closed(l->sink.ctx);
}

static struct contract_world *uv_open(uint32_t endpoint_count, uint64_t seed)
{
    (void)endpoint_count;
    (void)seed;
    return mem_new_zero(1, sizeof(struct contract_world));
}

static struct transport *uv_start(struct contract_world *w, uint32_t v, const struct transport_config *config,
                                  const struct transport_sink *sink, char address[ADDRESS_TEXT_MAX])
{
    assert_true(w->count < LIFE_MAX);
    struct life *l = mem_new_zero(1, sizeof *l);
    w->life[w->count++] = l;
    l->v = v;
    l->sink = *sink;
    assert_int_equal(uv_loop_init(&l->loop), 0);
    struct transport_sink mine = {.ctx = l,
                                  .on_up = life_up,
                                  .on_down = life_down,
                                  .on_message = life_message,
                                  .on_writable = life_writable,
                                  .on_refused = life_refused,
                                  .on_unreachable = life_unreachable,
                                  .on_closed = life_closed};
    struct err_text why = {""};
    int err = uv_tcp_new(&l->loop, v % 2 == 0 ? "127.0.0.1:0" : "[::1]:0", config, &mine, &l->transport,
                         address, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    return l->transport;
}

static uint64_t uv_now_of_world(const struct contract_world *w)
{
    (void)w;
    return uv_hrtime() / 1000;
}

/* Waits until one of the running loops has something to do, at most `ms`, and runs each once. */
static bool uv_step(struct contract_world *w, uint64_t limit_us)
{
    struct pollfd fd[LIFE_MAX];
    int timeout = 20;
    nfds_t count = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct life *l = w->life[i];
        if (l->paused || l->crashed || l->released) continue;
        int wanted = uv_backend_timeout(&l->loop);
        if (wanted >= 0 && wanted < timeout) timeout = wanted;
        fd[count++] = (struct pollfd){.fd = uv_backend_fd(&l->loop), .events = POLLIN};
    }
    if (timeout > 0) poll(fd, count, timeout);
    for (uint32_t i = 0; i < w->count; i++) {
        struct life *l = w->life[i];
        if (!l->paused && !l->crashed && !l->released) uv_run(&l->loop, UV_RUN_NOWAIT);
    }
    return uv_now_of_world(w) < limit_us;
}

static struct life *life_of(struct contract_world *w, uint32_t v)
{
    for (uint32_t i = w->count; i-- > 0;)
        if (w->life[i]->v == v) return w->life[i];
    fail_msg("endpoint %u was not started", v);
    return NULL;
}

static void life_release(struct life *l)
{
    assert_true(l->closed);
    if (l->released) return;
    if (l->has_timer) uv_close((uv_handle_t *)&l->timer, NULL);
    uv_tcp_free(l->transport);
    for (int i = 0; i < 10; i++) uv_run(&l->loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&l->loop), 0);
    l->released = true;
}

static void uv_release(struct contract_world *w, uint32_t v)
{
    life_release(life_of(w, v));
}

static void uv_crash(struct contract_world *w, uint32_t v)
{
    life_of(w, v)->crashed = true;
}

static void uv_pause(struct contract_world *w, uint32_t v)
{
    life_of(w, v)->paused = true;
}

static void uv_resume(struct contract_world *w, uint32_t v)
{
    life_of(w, v)->paused = false;
}

/* Disconnecting a TCP socket from below sends a reset to the other end. */
static void reset_handle(uv_handle_t *handle, void *arg)
{
    uv_os_fd_t fd;
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    (void)arg;
    if (handle->type == UV_TCP && uv_fileno(handle, &fd) == 0)
        assert_int_equal(connect(fd, &nowhere, sizeof nowhere), 0);
}

static void uv_reset(struct contract_world *w, uint32_t a, uint32_t b)
{
    (void)a;
    uv_walk(&life_of(w, b)->loop, reset_handle, NULL);
}

static void uv_close_world(struct contract_world *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (!w->life[i]->closed) w->life[i]->transport->ops->close(w->life[i]->transport);
    uint64_t limit_us = uv_now_of_world(w) + CONTRACT_LIMIT_US;
    for (uint32_t i = 0; i < w->count; i++) {
        struct life *l = w->life[i];
        while (!l->closed && uv_now_of_world(w) < limit_us) {
            uv_step(w, limit_us);
            if (l->crashed || l->paused) uv_run(&l->loop, UV_RUN_NOWAIT);
        }
    }
    for (uint32_t i = 0; i < w->count; i++) {
        life_release(w->life[i]);
        free(w->life[i]);
    }
    free(w);
}

/* -- a host ------------------------------------------------------------------------------------- */

static struct life *life_of_host(const struct host *h)
{
    return (struct life *)((uintptr_t)h - offsetof(struct life, host));
}

static uint64_t timer_now_us(const struct host *h)
{
    (void)h;
    return uv_hrtime() / 1000;
}

static void timer_cb(uv_timer_t *timer)
{
    struct life *l = timer->data;
    if (!l->crashed) l->host_sink.on_deadline(l->host_sink.ctx);
}

static void timer_set(struct host *h, uint64_t at_us)
{
    struct life *l = life_of_host(h);
    uint64_t now_us = timer_now_us(h);
    if (uv_is_closing((uv_handle_t *)&l->timer)) return;
    uv_timer_stop(&l->timer);
    if (at_us == TIME_NEVER) return;
    uv_update_time(&l->loop);
    uv_timer_start(&l->timer, timer_cb, at_us > now_us ? (at_us - now_us) / 1000 + 1 : 0, 0);
}

static int timer_no_job(struct host *h, struct job *j)
{
    (void)h;
    (void)j;
    return ERR_BUSY;
}

static struct host *uv_host(struct contract_world *w, uint32_t v, const struct host_sink *sink)
{
    static const struct host_ops ops = {
        .now_us = timer_now_us, .set_deadline = timer_set, .start_job = timer_no_job};
    struct life *l = life_of(w, v);
    l->host.ops = &ops;
    l->host_sink = *sink;
    assert_int_equal(uv_timer_init(&l->loop, &l->timer), 0);
    l->timer.data = l;
    l->has_timer = true;
    return &l->host;
}

const struct contract_factory contract_uv = {
    .name = "transport contract over TCP",
    .open = uv_open,
    .start = uv_start,
    .host = uv_host,
    .step = uv_step,
    .now_us = uv_now_of_world,
    .release = uv_release,
    .crash = uv_crash,
    .pause = uv_pause,
    .resume = uv_resume,
    .reset = uv_reset,
    .close = uv_close_world,
};

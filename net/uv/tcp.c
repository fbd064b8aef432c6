/* The transport over TCP and libuv: what holds its parts together.
 *
 * Normal course
 *  - uv_tcp_new listens. dial() names addresses (uv/dial.c), others come by themselves (uv/listen.c); both
 *    become links (uv/link.c).
 *  - downcalls only note what is to be done; tcp_turn, before and after each poll, does it: flushes links,
 *    reports lost ones, starts dials. One timer serves all deadlines, and they are looked at after the poll,
 *    so that bytes which came while this process stood still count as the peer's word.
 *  - close(): no more dials or accepts; links say goodbye, the last words get a second; then the handles
 *    close, then on_closed.
 *
 * Failures
 *  - of one connection: see uv/link.c; of names: uv/dial.c; of accepting: uv/listen.c. None stops the others.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/uv/internal.h"

static struct uv_tcp *self_of(const struct transport *t)
{
    return (struct uv_tcp *)(uintptr_t)t; /* base is the first field */
}

uint64_t tcp_now_us(void)
{
    return uv_hrtime() / 1000;
}

/* -- the turn ---------------------------------------------------------------------------------- */

static void timer_cb(uv_timer_t *timer)
{
    struct uv_tcp *t = timer->data;
    t->due = true;
    t->timer_us = TIME_NEVER;
}

void tcp_wake_at(struct uv_tcp *t, uint64_t at_us)
{
    if (at_us >= t->timer_us || t->closed) return;
    t->timer_us = at_us;
    uv_update_time(t->loop);
    uint64_t at_ms = at_us / 1000 + (at_us % 1000 != 0), now_ms = uv_now(t->loop);
    uv_timer_start(&t->timer, timer_cb, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

void tcp_want_turn(struct uv_tcp *t)
{
    t->work = true;
}

static void one_closed(void *ctx)
{
    struct uv_tcp *t = ctx;
    CHECK(t->open_handles > 0);
    if (--t->open_handles > 0) return;
    t->sink.on_closed(t->sink.ctx); /* t may be freed now */
}

static void handle_closed_cb(uv_handle_t *handle)
{
    one_closed(handle->data);
}

static void close_handles(struct uv_tcp *t)
{
    t->closed = true;
    fault_close(t);
    if (t->resolver != NULL) resolver_close(t->resolver, one_closed, t);
    uv_close((uv_handle_t *)&t->timer, handle_closed_cb);
    uv_close((uv_handle_t *)&t->before, handle_closed_cb);
    uv_close((uv_handle_t *)&t->after, handle_closed_cb);
    uv_close((uv_handle_t *)&t->awake, handle_closed_cb);
}

/* Deadlines of all links, dials and pauses; sets the timer to the next one. */
static void tcp_tick(struct uv_tcp *t)
{
    uint64_t now_us = tcp_now_us(), next_us = TIME_NEVER;
    t->due = false;
    for (uint32_t i = 0; i < t->slot_count; i++) {
        if (t->slots[i].link == NULL) continue;
        uint64_t at_us = link_tick(t->slots[i].link, now_us);
        if (at_us < next_us) next_us = at_us;
    }
    if (t->faults.live > 0) {
        uint64_t fault_us = fault_tick(t, now_us);
        if (fault_us < next_us) next_us = fault_us;
    }
    uint64_t dial_us = dial_tick(t, now_us);
    if (dial_us < next_us) next_us = dial_us;
    listen_resume(t, now_us);
    if (t->accept_paused && t->accept_us < next_us) next_us = t->accept_us;
    if (next_us != TIME_NEVER) tcp_wake_at(t, next_us);
}

/* Slots may grow under the loop's feet, when an upcall dials; links are freed by close callbacks only. */
static void tcp_turn(struct uv_tcp *t)
{
    t->work = false;
    if (t->faults_changed) fault_turn(t);
    for (uint32_t i = 0; i < t->slot_count; i++) {
        struct link *l = t->slots[i].link;
        if (l == NULL) continue;
        if (l->dirty) {
            l->dirty = false;
            link_flush(l);
        }
        if ((l->announced || l->target != NULL) && l->state > LINK_UP) link_report_down(l);
    }
    listen_resume(t, tcp_now_us());
    if (t->closing && !t->closed && t->link_count == 0) close_handles(t);
}

static void awake_cb(uv_idle_t *idle)
{
    (void)idle;
}

static void keep_awake(struct uv_tcp *t)
{
    if (t->closed) return;
    if (t->work || t->due)
        uv_idle_start(&t->awake, awake_cb);
    else
        uv_idle_stop(&t->awake);
}

static void before_poll_cb(uv_prepare_t *handle)
{
    struct uv_tcp *t = handle->data;
    if (t->work) tcp_turn(t);
    keep_awake(t);
}

static void after_poll_cb(uv_check_t *handle)
{
    struct uv_tcp *t = handle->data;
    if (t->due) tcp_tick(t);
    if (t->work) tcp_turn(t);
    keep_awake(t);
}

/* -- what the owner calls ---------------------------------------------------------------------- */

static int tcp_send(struct transport *base, struct link_id to, enum lane lane, struct blob *head,
                    struct blob *body)
{
    struct uv_tcp *t = self_of(base);
    struct link *l = link_find(t, to);
    if (l == NULL) return ERR_NO_LINK;
    int err = conn_send(l->conn, lane, head, body);
    if (err != 0) return err;
    l->dirty = true;
    t->work = true;
    return 0;
}

static int tcp_dial(struct transport *base, const char *address)
{
    return dial_add(self_of(base), address);
}

static void tcp_undial(struct transport *base, const char *address)
{
    dial_remove(self_of(base), address);
}

static void tcp_disconnect(struct transport *base, struct link_id link, enum down_reason why)
{
    struct link *l = link_find(self_of(base), link);
    if (l == NULL) return;
    bool fault = why == DOWN_PROTOCOL;
    link_end(l, why, fault ? ERR_PROTO : ERR_CLOSED, !fault);
}

static int tcp_stats(const struct transport *base, struct link_id link, struct link_stats *out)
{
    const struct link *l = link_find(self_of(base), link);
    if (l == NULL) return ERR_NO_LINK;
    conn_stats(l->conn, out);
    return 0;
}

static void tcp_totals(const struct transport *base, struct transport_totals *out)
{
    const struct uv_tcp *t = self_of(base);
    *out = t->totals;
    for (uint32_t i = 0; i < t->slot_count; i++) {
        const struct link *l = t->slots[i].link;
        if (l == NULL || l->conn == NULL) continue;
        struct link_stats stats;
        conn_stats(l->conn, &stats);
        out->bytes_sent += stats.bytes_sent;
        out->bytes_received += stats.bytes_received;
    }
}

static void tcp_close(struct transport *base)
{
    struct uv_tcp *t = self_of(base);
    if (t->closing) return;
    t->closing = true;
    t->work = true;
    dial_remove_all(t);
    listen_close(t, handle_closed_cb);
    for (uint32_t i = 0; i < t->slot_count; i++)
        if (t->slots[i].link != NULL) link_end(t->slots[i].link, DOWN_LOCAL, ERR_CLOSED, true);
}

static int tcp_inject(struct transport *base, const struct fault_rule *rule)
{
    return fault_inject(self_of(base), rule);
}

static int tcp_heal(struct transport *base, int id)
{
    return fault_heal(self_of(base), id);
}

static uint32_t tcp_faults(const struct transport *base, struct fault_status *out, uint32_t max)
{
    return fault_list(self_of(base), out, max);
}

static const struct transport_ops ops = {
    .send = tcp_send,
    .dial = tcp_dial,
    .undial = tcp_undial,
    .disconnect = tcp_disconnect,
    .stats = tcp_stats,
    .totals = tcp_totals,
    .close = tcp_close,
    .inject = tcp_inject,
    .heal = tcp_heal,
    .faults = tcp_faults,
};

/* -- life -------------------------------------------------------------------------------------- */

/* Writing to a connection that the peer has reset must be an error, not the end of the process. A handler
 * that the program has set is left alone. */
static void ignore_sigpipe(void)
{
    struct sigaction old;
    if (sigaction(SIGPIPE, NULL, &old) != 0 || old.sa_handler != SIG_DFL) return;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

int uv_tcp_new(struct uv_loop_s *loop, const char *listen, const struct transport_config *config,
               const struct transport_sink *sink, struct transport **out, char address[ADDRESS_TEXT_MAX],
               struct err_text *why)
{
    struct uv_tcp *t = mem_new_zero(1, sizeof *t);
    t->base.ops = &ops;
    t->loop = loop;
    t->config = *config;
    t->sink = *sink;
    t->timer_us = t->accept_us = TIME_NEVER;
    t->bodies.bytes_max = inbox_budget_max(config->body_size_max);
    prng_split(&t->jitter, config->seed, "redial", config->id);
    int err = listen_open(t, listen, address, why);
    if (err != 0) {
        free(t);
        return err;
    }
    ignore_sigpipe();
    uv_timer_init(loop, &t->timer);
    uv_prepare_init(loop, &t->before);
    uv_check_init(loop, &t->after);
    uv_idle_init(loop, &t->awake);
    t->timer.data = t->before.data = t->after.data = t->awake.data = t;
    t->open_handles = t->listen_fd >= 0 ? 5 : 4;
    uv_prepare_start(&t->before, before_poll_cb);
    uv_check_start(&t->after, after_poll_cb);
    *out = &t->base;
    return 0;
}

void uv_tcp_free(struct transport *base)
{
    if (base == NULL) return;
    struct uv_tcp *t = self_of(base);
    CHECK(t->open_handles == 0);
    fault_set_deinit(&t->faults);
    free(t->fault_buffer);
    free(t->slots);
    free(t);
}

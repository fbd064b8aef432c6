/* One TCP connection of the libuv transport: moves bytes between a socket and a conn, and carries what the
 * conn finds to the owner.
 *
 * Normal course
 *  - dialled or accepted; hellos are exchanged; on_up; messages; a goodbye or a failure; on_down.
 *  - writing: uv_try_write of what the conn shows; the rest waits in one uv_write.
 *  - reading: straight into the conn's buffer or into a body; nothing is allocated.
 *  - a link that an injected fault concerns reads and writes through uv/fault.c instead.
 *
 * Failures
 *  - connect refused, too slow: the target tries again later (uv/dial.c).
 *  - reset, end of stream, protocol error, silence: link_end. on_down follows from tcp_turn.
 *  - last words (goodbye) get LINGER_US; then we stop sending and read until the peer closes, because closing
 *    a socket with unread bytes would reset it and take the goodbye away. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "net/uv/internal.h"

#define FLUSH_ROUND_MAX 4        /* of OUTBOX_PLAN_MAX each, then the other links have their turn */
#define NOT_SENT_MAX (32 * 1024) /* bytes the kernel may hold unsent: control overtakes bulk in front of it */

static struct link *link_new(struct uv_tcp *t)
{
    CHECK(t->link_count < SLOT_COUNT_MAX);
    struct link *l = mem_new_zero(1, sizeof *l);
    int err = uv_tcp_init(t->loop, &l->tcp);
    CHECK(err == 0); /* makes no socket yet */
    uint32_t slot = slot_take(t);
    t->slots[slot].link = l;
    t->free_hint = slot + 1;
    t->link_count++;
    l->id = (struct link_id){slot, ++t->slots[slot].generation};
    l->owner = t;
    l->tcp.data = l;
    return l;
}

/* -- down -------------------------------------------------------------------------------------- */

static enum down_reason reason_of(int err)
{
    if (err == ERR_CLOSED) return DOWN_CLOSED;
    if (err == ERR_DUPLICATE) return DOWN_REPLACED;
    return err == ERR_TIMEOUT ? DOWN_SILENT : DOWN_PROTOCOL;
}

/* Protocol errors are worth a line, at most one a second; not what on_refused tells of a dialled address anyway, nor
 * that we have called ourselves. The reader of the line may close the transport: callers look at the link's state
 * again. */
static void complain(struct link *l, int err)
{
    struct uv_tcp *t = l->owner;
    bool told = l->target != NULL && (err == ERR_CLUSTER || err == ERR_VERSION);
    if (reason_of(err) != DOWN_PROTOCOL || err == ERR_SELF || told) return;
    trace_limited(&t->complained, tcp_now_us(), t->config.trace, TRACE_WARN, "link with %s ended: %s",
                  l->remote, conn_why(l->conn));
}

void link_close(struct link *l)
{
    if (l->state == LINK_CLOSING) return;
    l->state = LINK_CLOSING;
    if (l->fault != NULL)
        link_fault_close(l);
    else
        uv_close((uv_handle_t *)&l->tcp, link_closed_cb);
    tcp_want_turn(l->owner);
}

static bool is_drained(const struct link *l)
{
    return conn_drained(l->conn) && !l->writing && (l->fault == NULL || link_fault_drained(l));
}

/* goodbye: the error code to say, or 0 to say nothing more than what the conn wants to say itself. */
void link_end(struct link *l, enum down_reason why, int goodbye, bool flush)
{
    if (l->state == LINK_LINGERING || l->state == LINK_CLOSING) return;
    l->why = why;
    if (l->state == LINK_UP) l->owner->totals.links--;
    if (l->conn != NULL && goodbye != 0) conn_close(l->conn, goodbye, flush);
    if (l->conn == NULL || why == DOWN_RESET || why == DOWN_SILENT || is_drained(l) ||
        (l->fault != NULL && link_fault_blocks(l))) {
        link_close(l);
        return;
    }
    l->state = LINK_LINGERING;
    l->dirty = true;
    l->deadline_us = tcp_now_us() + LINGER_US;
    tcp_wake_at(l->owner, l->deadline_us);
    tcp_want_turn(l->owner);
}

static void link_failed(struct link *l, int err)
{
    complain(l, err);
    link_end(l, reason_of(err), 0, false);
}

void link_report_down(struct link *l)
{
    struct uv_tcp *t = l->owner;
    struct dial_target *target = l->target;
    bool announced = l->announced;
    l->target = NULL;
    l->announced = false;
    if (target != NULL && l->conn != NULL) {
        node_id id;
        if (conn_duplicate_of(l->conn, &id)) {
            target->peer_known = true;
            target->peer = id;
        }
    }
    bool lasted = announced && tcp_now_us() - l->up_us >= t->config.redial_max_us;
    int err = l->conn != NULL ? conn_error(l->conn) : 0;
    int failed = announced || err == ERR_DUPLICATE ? 0 : l->refused ? ERR_CLOSED : ERR_TIMEOUT;
    if (target != NULL) dial_down(target, lasted, err, l->conn != NULL ? conn_why(l->conn) : "", failed);
    if (!announced) return;
    if (l->why != DOWN_LOCAL) t->totals.links_lost++;
    dial_peer_lost(t, l->peer.id);
    t->sink.on_down(t->sink.ctx, l->id, l->why);
}

void link_closed_cb(uv_handle_t *handle)
{
    struct link *l = handle->data;
    struct uv_tcp *t = l->owner;
    if (l->announced || l->target != NULL) link_report_down(l);
    if (l->conn != NULL) {
        struct link_stats stats;
        conn_stats(l->conn, &stats);
        t->totals.bytes_sent += stats.bytes_sent;
        t->totals.bytes_received += stats.bytes_received;
        conn_free(l->conn);
    }
    if (l->fault != NULL) link_fault_free(l);
    if (l->stranger) t->stranger_count--;
    t->slots[l->id.slot].link = NULL;
    t->slots[l->id.slot].generation++;
    t->link_count--;
    free(l);
    tcp_want_turn(t);
}

/* -- reading ----------------------------------------------------------------------------------- */

/* What comes goes through the lens of a fault; last words of a link that is dead for us do not matter. */
static bool reads_through_fault(const struct link *l)
{
    return l->fault != NULL && (l->state == LINK_GREETING || l->state == LINK_UP);
}

static void link_alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct link *l = handle->data;
    (void)suggested;
    uint8_t *to;
    if (reads_through_fault(l)) {
        *out = link_fault_space(l);
        return;
    }
    size_t size = conn_recv_space(l->conn, &to);
    *out = uv_buf_init((char *)to, (unsigned)size);
}

void link_drain(struct link *l)
{
    const struct transport_sink *sink = &l->owner->sink;
    while (l->state == LINK_GREETING || l->state == LINK_UP) {
        struct conn_message m;
        int event = conn_next(l->conn, &m);
        if (event == CONN_NONE) return;
        if (event == CONN_GREETED)
            link_greeted(l);
        else if (event == CONN_MESSAGE)
            sink->on_message(sink->ctx, l->id, m.lane, m.head, m.head_size, m.body);
        else
            link_failed(l, event);
    }
}

static enum down_reason reason_of_socket(long err)
{
    return err == UV_ETIMEDOUT || err == UV_EHOSTUNREACH || err == UV_ENETUNREACH ? DOWN_SILENT : DOWN_RESET;
}

void link_socket_ended(struct link *l, long err)
{
    if (l->state == LINK_LINGERING)
        link_close(l);
    else
        link_end(l, reason_of_socket(err), 0, false);
}

static void link_read_cb(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct link *l = stream->data;
    if (l->state == LINK_CLOSING || count == 0) return;
    if (reads_through_fault(l)) {
        link_fault_read(l, count, buffer->base);
        return;
    }
    if (count < 0) {
        link_socket_ended(l, count);
        return;
    }
    conn_received(l->conn, (size_t)count, tcp_now_us());
    link_drain(l);
    link_flush(l);
}

void link_read_on(struct link *l)
{
    int err = uv_read_start((uv_stream_t *)&l->tcp, link_alloc_cb, link_read_cb);
    if (err != 0 && err != UV_EALREADY) link_socket_ended(l, err);
}

/* -- writing ----------------------------------------------------------------------------------- */

static void link_write_cb(uv_write_t *request, int status)
{
    struct link *l = request->data;
    l->writing = false;
    if (l->state == LINK_CLOSING) return;
    if (status < 0) {
        link_socket_ended(l, status);
        return;
    }
    if (link_fault_writes(l))
        link_fault_written(l);
    else
        conn_sent(l->conn, l->write_size);
    link_flush(l);
}

unsigned link_peek(struct link *l, uv_buf_t bufs[IOV_COUNT], size_t *size)
{
    struct iov iov[IOV_COUNT];
    size_t count = conn_peek_send(l->conn, iov, IOV_COUNT);
    *size = 0;
    for (size_t i = 0; i < count; i++) {
        bufs[i].base = (char *)(uintptr_t)iov[i].base; /* libuv does not write to it */
        bufs[i].len = iov[i].size;
        *size += iov[i].size;
    }
    return (unsigned)count;
}

/* Hands the rest to libuv, which writes when the socket lets it. */
static void link_write_rest(struct link *l)
{
    uv_buf_t bufs[IOV_COUNT];
    unsigned count = link_peek(l, bufs, &l->write_size);
    if (count == 0) return;
    l->write.data = l;
    int err = uv_write(&l->write, (uv_stream_t *)&l->tcp, bufs, count, link_write_cb);
    if (err != 0)
        link_socket_ended(l, err);
    else
        l->writing = true;
}

void link_write_later(struct link *l, uv_buf_t buf)
{
    l->write_size = buf.len;
    l->write.data = l;
    int err = uv_write(&l->write, (uv_stream_t *)&l->tcp, &buf, 1, link_write_cb);
    if (err != 0)
        link_socket_ended(l, err);
    else
        l->writing = true;
}

static void link_shut(struct link *l)
{
    uv_os_fd_t fd;
    if (l->shut || uv_fileno((uv_handle_t *)&l->tcp, &fd) != 0) return;
    l->shut = true;
    shutdown(fd, SHUT_WR);
}

static void link_write(struct link *l)
{
    for (int round = 0;; round++) {
        uv_buf_t bufs[IOV_COUNT];
        size_t size;
        unsigned count = link_peek(l, bufs, &size);
        if (count == 0) return;
        int written = round < FLUSH_ROUND_MAX ? uv_try_write((uv_stream_t *)&l->tcp, bufs, count) : UV_EAGAIN;
        if (written > 0) conn_sent(l->conn, (size_t)written);
        if (written == UV_EAGAIN || (written >= 0 && (size_t)written < size)) {
            link_write_rest(l);
            return;
        }
        if (written < 0) {
            link_socket_ended(l, written);
            return;
        }
    }
}

void link_flush(struct link *l)
{
    if (l->conn == NULL || l->state == LINK_CLOSING) return;
    if (l->fault != NULL)
        link_fault_flush(l);
    else if (l->writing)
        return;
    else
        link_write(l);
    if (l->state == LINK_LINGERING && is_drained(l)) link_shut(l);
    if (l->state == LINK_UP && conn_take_writable(l->conn))
        l->owner->sink.on_writable(l->owner->sink.ctx, l->id);
}

/* -- sockets ----------------------------------------------------------------------------------- */

static void set_option(int fd, int level, int option, unsigned value)
{
    int number = (int)value;
    (void)setsockopt(fd, level, option, &number, sizeof number); /* a help, not a need: conn_tick decides */
}

static void link_set_options(struct link *l)
{
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&l->tcp, &fd) != 0) return;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (unsigned)(l->owner->config.silence_us / 1000));
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOT_SENT_MAX);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 2);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

/* The connection stands: the conn begins. */
static void link_start(struct link *l)
{
    struct uv_tcp *t = l->owner;
    struct sockaddr_storage remote = {0};
    int size = sizeof remote;
    int err = uv_tcp_getpeername(&l->tcp, (struct sockaddr *)&remote, &size);
    if (err == 0) err = uv_read_start((uv_stream_t *)&l->tcp, link_alloc_cb, link_read_cb);
    if (err != 0) {
        link_end(l, DOWN_RESET, 0, false);
        return;
    }
    address_print((const struct sockaddr *)&remote, true, l->remote);
    link_set_options(l);
    l->conn = conn_new(&t->config, l->dialled, t->port, tcp_now_us());
    conn_share_budget(l->conn, &t->bodies);
    conn_saw(l->conn, l->remote);
    l->state = LINK_GREETING;
    tcp_wake_at(t, conn_deadline_us(l->conn));
    link_flush(l);
}

void link_accept(struct uv_tcp *t, int fd)
{
    struct link *l = link_new(t);
    l->stranger = true;
    t->stranger_count++;
    int err = uv_tcp_open(&l->tcp, fd);
    if (err != 0) {
        shutdown(fd, SHUT_RDWR);
        close(fd);
        link_end(l, DOWN_RESET, 0, false);
        return;
    }
    link_start(l);
}

static void link_connect_cb(uv_connect_t *request, int status)
{
    struct link *l = request->data;
    if (l->state != LINK_DIALLING) return;
    l->refused = status == UV_ECONNREFUSED;
    if (status < 0)
        link_end(l, reason_of_socket(status), 0, false);
    else
        link_start(l);
}

int link_dial(struct uv_tcp *t, struct dial_target *target)
{
    struct link *l = link_new(t);
    l->dialled = true;
    l->state = LINK_DIALLING;
    l->connect.data = l;
    int err =
        uv_tcp_connect(&l->connect, &l->tcp, (const struct sockaddr *)&target->address, link_connect_cb);
    if (err != 0) {
        link_close(l);
        return err;
    }
    l->target = target;
    target->link = l;
    l->deadline_us = tcp_now_us() + t->config.hello_us;
    tcp_wake_at(t, l->deadline_us);
    return 0;
}

uint64_t link_tick(struct link *l, uint64_t now_us)
{
    if (l->state == LINK_CLOSING) return TIME_NEVER;
    if (l->state == LINK_DIALLING || l->state == LINK_LINGERING) {
        if (now_us < l->deadline_us) {
            if (l->fault != NULL) link_flush(l);
            return l->deadline_us;
        }
        if (l->state == LINK_DIALLING)
            link_end(l, DOWN_SILENT, 0, false);
        else
            link_close(l);
        return TIME_NEVER;
    }
    int err = conn_tick(l->conn, now_us);
    if (err != 0)
        link_failed(l, err);
    else
        link_flush(l);
    if (l->state == LINK_CLOSING) return TIME_NEVER;
    return l->state == LINK_LINGERING ? l->deadline_us : conn_deadline_us(l->conn);
}

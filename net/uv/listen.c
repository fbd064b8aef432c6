/* The listening socket of the libuv transport.
 *
 * Normal course
 *  - bind, listen, and accept a bounded number of connections per loop turn; each becomes a link that must
 *    say hello (uv/link.c).
 *
 * Failures
 *  - the address is malformed, unknown or in use: an error that names --listen.
 *  - too many strangers (connections without a hello): accepting stops until one leaves; the others wait in
 *    the kernel's queue.
 *  - too many of them from one address: more from there are closed as they come, so that others find room.
 *  - no file descriptors left: accepting stops for a moment, with one warning per shortage.
 *
 * The socket is polled and not given to uv_listen, because a uv_listen cannot be paused, and because libuv
 * answers a shortage of descriptors by closing the connections that wait. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "net/uv/internal.h"

#define ACCEPT_COUNT_MAX 32 /* per loop turn */
#define BACKLOG 512

static int resolve_listen(const char *listen, struct sockaddr_storage *out, uv_loop_t *loop,
                          struct err_text *why)
{
    char host[ADDRESS_TEXT_MAX], port[8];
    if (address_split(listen, host, port) != 0)
        return err_set(why, ERR_USAGE, "--listen: '%s' is not host:port, as in 0.0.0.0:7946 or [::]:7946",
                       listen);
    if (address_from_numbers(host, port, out)) return 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    uv_getaddrinfo_t request;
    int err = uv_getaddrinfo(loop, &request, NULL, host, port, &hints);
    if (err != 0)
        return err_set(why, ERR_IO, "--listen: cannot resolve '%s': %s; give an address of this machine",
                       host, uv_strerror(err));
    memcpy(out, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    return 0;
}

static int bind_socket(const struct sockaddr_storage *at)
{
    int fd = socket(at->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int on = 1;
    socklen_t size = at->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (const struct sockaddr *)at, size) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

static void pause_accepting(struct uv_tcp *t, uint64_t until_us)
{
    uv_poll_stop(&t->listener);
    t->accept_paused = true;
    t->accept_us = until_us;
    if (until_us != TIME_NEVER) tcp_wake_at(t, until_us);
}

static void accept_failed(struct uv_tcp *t, int err)
{
    if (err == ECONNABORTED || err == EINTR || err == EAGAIN || err == EPROTO) return;
    bool warned = t->accept_warned;
    t->accept_warned = true;
    pause_accepting(t, tcp_now_us() + ACCEPT_PAUSE_US);
    if (!warned) /* last: the line's reader may close us */
        trace_line(t->config.trace, TRACE_WARN, "cannot accept connections for the moment: %s%s",
                   strerror(err),
                   err == EMFILE || err == ENFILE ? "; raise the limit of open files (ulimit -n)" : "");
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0;
}

/* Whether this address has its share of strangers already. The texts differ in their ports only. */
static bool is_crowd(const struct uv_tcp *t, const struct sockaddr_storage *from)
{
    char host[ADDRESS_TEXT_MAX];
    if (t->stranger_count < STRANGER_HOST_MAX) return false;
    address_print((const struct sockaddr *)from, true, host);
    if (is_loopback(host)) return false;
    size_t length = (size_t)(strrchr(host, ':') - host) + 1;
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->slot_count; i++) {
        const struct link *l = t->slots[i].link;
        if (l != NULL && l->stranger && strncmp(l->remote, host, length) == 0) count++;
    }
    return count >= STRANGER_HOST_MAX;
}

static void listen_readable_cb(uv_poll_t *handle, int status, int events)
{
    struct uv_tcp *t = handle->data;
    (void)events;
    if (t->closing) return;
    if (status < 0) {
        accept_failed(t, -status);
        return;
    }
    for (int i = 0; i < ACCEPT_COUNT_MAX; i++) {
        if (t->stranger_count >= STRANGER_COUNT_MAX || t->link_count >= SLOT_COUNT_MAX) {
            pause_accepting(t, TIME_NEVER);
            return;
        }
        struct sockaddr_storage from = {0};
        socklen_t size = sizeof from;
        int fd = accept4(t->listen_fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            accept_failed(t, errno);
            return;
        }
        t->accept_warned = false;
        if (is_crowd(t, &from))
            close(fd);
        else
            link_accept(t, fd);
    }
}

void listen_resume(struct uv_tcp *t, uint64_t now_us)
{
    if (!t->accept_paused || t->closing) return;
    if (t->accept_us != TIME_NEVER && now_us < t->accept_us) return;
    if (t->stranger_count >= STRANGER_COUNT_MAX || t->link_count >= SLOT_COUNT_MAX) return;
    t->accept_paused = false;
    t->accept_us = TIME_NEVER;
    uv_poll_start(&t->listener, UV_READABLE, listen_readable_cb);
}

static const char *remedy_of(int err)
{
    if (err == UV_EADDRINUSE) return "; stop what listens there, or choose another port (0 = any free one)";
    if (err == UV_EADDRNOTAVAIL) return "; give an address of this machine, or 0.0.0.0 for all it has";
    if (err == UV_EACCES) return "; choose a port from 1024 on";
    return "";
}

int listen_open(struct uv_tcp *t, const char *listen, char address[ADDRESS_TEXT_MAX], struct err_text *why)
{
    struct sockaddr_storage at;
    t->listen_fd = -1;
    address[0] = '\0';
    if (listen == NULL) return 0;
    int err = resolve_listen(listen, &at, t->loop, why);
    if (err != 0) return err;
    int fd = bind_socket(&at);
    if (fd < 0)
        return err_set(why, ERR_IO, "--listen: cannot listen on %s: %s%s", listen, uv_strerror(fd),
                       remedy_of(fd));
    socklen_t size = sizeof at;
    err = getsockname(fd, (struct sockaddr *)&at, &size) == 0 ? 0 : -errno;
    if (err == 0) err = uv_poll_init(t->loop, &t->listener, fd);
    if (err != 0) {
        close(fd);
        return err_set(why, ERR_IO, "--listen: cannot watch %s: %s", listen, uv_strerror(err));
    }
    t->listen_fd = fd;
    t->listener.data = t;
    t->port = address_port(&at);
    address_print((const struct sockaddr *)&at, true, address);
    uv_poll_start(&t->listener, UV_READABLE, listen_readable_cb);
    return 0;
}

void listen_close(struct uv_tcp *t, uv_close_cb closed)
{
    if (t->listen_fd < 0) return;
    uv_poll_stop(&t->listener);
    uv_close((uv_handle_t *)&t->listener, closed);
    close(t->listen_fd);
    t->listen_fd = -1;
}

/* The fixture of socket_world.h. */
#include "tests/contract/socket_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct world *w = ctx;
    w->ups++;
    w->link = link;
    w->peer = *peer;
}

static void on_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct world *w = ctx;
    (void)link;
    w->downs++;
    w->why = why;
}

static void on_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body)
{
    struct world *w = ctx;
    (void)link;
    (void)head;
    (void)size;
    w->messages++;
    if (body != NULL) w->bodies++;
    if (lane == LANE_CONTROL && w->bodies == 0) w->control_came_first = true;
}

static void on_writable(void *ctx, struct link_id link)
{
    (void)ctx;
    (void)link;
}

static void on_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct world *w = ctx;
    (void)address;
    (void)reason;
    w->refusals++;
    w->refused_err = err;
}

static void on_closed(void *ctx)
{
    struct world *w = ctx;
    w->closed = true;
}

static void on_line(void *ctx, enum trace_level level, const char *text)
{
    struct world *w = ctx;
    if (level < TRACE_WARN) return;
    w->warnings++;
    snprintf(w->warning, sizeof w->warning, "%s", text);
}

int transport_open(struct world *w, const char *listen, node_id id, struct err_text *why)
{
    struct transport_config config = {.id = id,
                                      .boot = 1,
                                      .body_size_max = 64u << 20,
                                      .heartbeat_us = 100000,
                                      .silence_us = 2000000,
                                      .hello_us = HELLO_US,
                                      .redial_min_us = 5000,
                                      .redial_max_us = 20000,
                                      .trace = &w->trace};
    struct transport_sink sink = {.ctx = w,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_message = on_message,
                                  .on_writable = on_writable,
                                  .on_refused = on_refused,
                                  .on_closed = on_closed};
    w->trace = (struct trace){TRACE_WARN, on_line, w};
    return uv_tcp_new(&w->loop, listen, &config, &sink, &w->transport, w->address, why);
}

void world_open(struct world *w)
{
    struct err_text why;
    memset(w, 0, sizeof *w);
    w->fd = -1;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(transport_open(w, "127.0.0.1:0", 5, &why), 0);
}

void turn(struct world *w)
{
    struct pollfd fd[2] = {{uv_backend_fd(&w->loop), POLLIN, 0}, {w->ended ? -1 : w->fd, POLLIN, 0}};
    int timeout = uv_backend_timeout(&w->loop);
    poll(fd, 2, timeout < 0 || timeout > 20 ? 20 : timeout);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    while (w->fd >= 0 && !w->ended) {
        ssize_t n = recv(w->fd, w->in + w->in_size, sizeof w->in - w->in_size, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) w->ended = true;
        if (n > 0) w->in_size += (size_t)n;
    }
}

void world_close(struct world *w)
{
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
    w->transport->ops->close(w->transport);
    RUN_UNTIL(w, w->closed);
    assert_int_equal(w->ups, w->downs);
    uv_tcp_free(w->transport);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

int raw_connect(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

void raw_open(struct world *w)
{
    w->fd = raw_connect(w->address);
    w->in_size = 0;
    w->ended = false;
}

void raw_send(struct world *w, const void *bytes, size_t size)
{
    assert_int_equal(send(w->fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

size_t raw_frame(uint8_t *out, uint8_t type, uint8_t flags, uint64_t value, const void *payload, size_t size)
{
    struct frame_header h = {(uint32_t)size, type, flags, value};
    frame_encode(&h, payload, out);
    memcpy(out + FRAME_HEADER_SIZE, payload, size);
    return FRAME_HEADER_SIZE + size;
}

size_t raw_hello(uint8_t *out, uint16_t version, node_id id, uint8_t cluster, bool dialler)
{
    struct hello h = {.version = version, .dialler = dialler, .port = 4321, .id = id, .boot = 9};
    memset(h.cluster, cluster, sizeof h.cluster);
    uint8_t bytes[HELLO_SIZE_MAX];
    return raw_frame(out, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes));
}

void raw_greet(struct world *w)
{
    uint8_t bytes[1024];
    unsigned ups = w->ups;
    raw_open(w);
    raw_send(w, bytes, raw_hello(bytes, PROTOCOL_VERSION, 77, 0, true));
    RUN_UNTIL(w, w->ups == ups + 1);
}

uint64_t raw_goodbye(const struct world *w)
{
    for (size_t at = 0; at + FRAME_HEADER_SIZE <= w->in_size;) {
        struct frame_header h;
        assert_int_equal(frame_decode(w->in + at, &h), 0);
        assert_int_equal(frame_verify(w->in + at, w->in + at + FRAME_HEADER_SIZE), 0);
        if (h.type == FRAME_GOODBYE) return h.value;
        at += FRAME_HEADER_SIZE + h.length;
    }
    return 0;
}

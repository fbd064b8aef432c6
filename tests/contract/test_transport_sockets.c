/* Goal: no bytes that a socket can carry hurt the TCP transport or its other links (contract clause 10), and
 * its dialling, listening and limits do what they say.
 * Method: one transport in a loop; the test itself is the peer, with plain sockets on loopback. Waits are
 * bounded and on the loop, which must close with 0. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "net/link/frame.h"
#include "net/link/hello.h"
#include "net/uv/uv.h"

#define WAIT_MAX_US 20000000u
#define HELLO_US 1000000u

struct world {
    uv_loop_t loop;
    struct transport *transport;
    char address[ADDRESS_TEXT_MAX];
    struct trace trace;
    unsigned ups, downs, messages, bodies, refusals, warnings;
    enum down_reason why;
    struct link_id link;
    struct peer_info peer;
    int refused_err;
    bool closed, control_came_first;
    char warning[512];
    int fd; /* the test's socket */
    uint8_t in[4096];
    size_t in_size;
    bool ended; /* the transport closed the test's socket */
};

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

static int transport_open(struct world *w, const char *listen, node_id id, struct err_text *why)
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

static void world_open(struct world *w)
{
    struct err_text why;
    memset(w, 0, sizeof *w);
    w->fd = -1;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(transport_open(w, "127.0.0.1:0", 5, &why), 0);
}

/* One turn; takes what came on the test's socket. */
static void turn(struct world *w)
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

/* The condition may have effects: it is not looked at again once it held. */
#define RUN_UNTIL(w, condition)                                                                              \
    do {                                                                                                     \
        uint64_t run_limit_us = uv_hrtime() / 1000 + WAIT_MAX_US;                                            \
        while (!(condition)) {                                                                               \
            if (uv_hrtime() / 1000 > run_limit_us) fail_msg("not within the limit: %s", #condition);         \
            turn(w);                                                                                         \
        }                                                                                                    \
    } while (0)

static void world_close(struct world *w)
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

static int raw_connect(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void raw_open(struct world *w)
{
    w->fd = raw_connect(w->address);
    w->in_size = 0;
    w->ended = false;
}

static void raw_send(struct world *w, const void *bytes, size_t size)
{
    assert_int_equal(send(w->fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static size_t raw_frame(uint8_t *out, uint8_t type, uint8_t flags, uint64_t value, const void *payload,
                        size_t size)
{
    struct frame_header h = {(uint32_t)size, type, flags, value};
    frame_encode(&h, payload, out);
    memcpy(out + FRAME_HEADER_SIZE, payload, size);
    return FRAME_HEADER_SIZE + size;
}

static size_t raw_hello(uint8_t *out, uint16_t version, node_id id, uint8_t cluster, bool dialler)
{
    struct hello h = {.version = version, .dialler = dialler, .port = 4321, .id = id, .boot = 9};
    memset(h.cluster, cluster, sizeof h.cluster);
    uint8_t bytes[HELLO_SIZE_MAX];
    return raw_frame(out, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes));
}

static void raw_greet(struct world *w)
{
    uint8_t bytes[1024];
    unsigned ups = w->ups;
    raw_open(w);
    raw_send(w, bytes, raw_hello(bytes, PROTOCOL_VERSION, 77, 0, true));
    RUN_UNTIL(w, w->ups == ups + 1);
}

/* The reason of the goodbye among the frames that came, or 0. */
static uint64_t raw_goodbye(const struct world *w)
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

/* -- what strangers say ------------------------------------------------------------------------ */

#define SAID(text)                                                                                           \
    {                                                                                                        \
        text, sizeof(text) - 1                                                                               \
    }

static void strangers_are_closed_without_an_answer(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } said[] = {
        SAID("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        SAID("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
             "\xff"),
        SAID("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random-looking-hello"),
        SAID("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
             "\x00"),
        SAID(""), /* silence: the hello's deadline */
    };
    struct world w;
    world_open(&w);
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        raw_open(&w);
        raw_send(&w, said[i].bytes, said[i].size);
        RUN_UNTIL(&w, w.ended);
        assert_int_equal(w.in_size, 0);
        close(w.fd);
    }
    w.fd = -1;
    assert_int_equal(w.ups, 0);
    raw_greet(&w); /* and it still listens */
    world_close(&w);
}

static void a_refusal_is_said(void **state)
{
    (void)state;
    static const struct {
        uint16_t version;
        node_id id;
        uint8_t cluster;
        int err;
    } cases[] = {
        {PROTOCOL_VERSION + 1, 77, 0, ERR_VERSION},
        {PROTOCOL_VERSION, 77, 1, ERR_CLUSTER},
        {PROTOCOL_VERSION, 5, 0, ERR_CLUSTER}, /* our id with another boot: two processes have it */
    };
    struct world w;
    world_open(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[1024];
        raw_open(&w);
        raw_send(&w, bytes, raw_hello(bytes, cases[i].version, cases[i].id, cases[i].cluster, true));
        RUN_UNTIL(&w, w.ended);
        assert_int_equal(raw_goodbye(&w), -cases[i].err);
        close(w.fd);
    }
    w.fd = -1;
    assert_int_equal(w.ups, 0);
    world_close(&w);
}

/* `gadabout doctor`: told who is there and where it is seen; no link, and nobody hears of it. */
static void a_visitor_is_told_and_leaves_no_trace(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    for (int i = 0; i < 3; i++) {
        struct hello h = {.version = PROTOCOL_VERSION, .visitor = true, .id = 77, .boot = 9, .name = 5};
        uint8_t bytes[HELLO_SIZE_MAX], frame[1024];
        struct sockaddr_in at;
        socklen_t at_size = sizeof at;
        char seen[64];
        raw_open(&w);
        assert_int_equal(getsockname(w.fd, (struct sockaddr *)&at, &at_size), 0);
        snprintf(seen, sizeof seen, "127.0.0.1:%u", ntohs(at.sin_port));
        raw_send(&w, frame, raw_frame(frame, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes)));
        RUN_UNTIL(&w, w.ended);
        struct frame_header first, last;
        struct hello answer;
        struct goodbye word;
        assert_int_equal(frame_decode(w.in, &first), 0);
        assert_int_equal(first.type, FRAME_HELLO);
        assert_int_equal(hello_decode(w.in + FRAME_HEADER_SIZE, first.length, &answer), 0);
        assert_true(answer.id == 5);
        const uint8_t *next = w.in + FRAME_HEADER_SIZE + first.length;
        assert_int_equal(frame_decode(next, &last), 0);
        assert_int_equal(last.type, FRAME_GOODBYE);
        assert_true(goodbye_decode(next + FRAME_HEADER_SIZE, last.length, &word));
        assert_string_equal(word.seen, seen);
        close(w.fd);
    }
    w.fd = -1;
    assert_int_equal(w.ups, 0);
    raw_greet(&w); /* and it still listens */
    world_close(&w);
}

/* -- what peers say ---------------------------------------------------------------------------- */

static void broken_frames_end_their_link_only(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    raw_greet(&w);
    assert_string_equal(w.peer.address, "127.0.0.1:4321"); /* the host we see, the port it says */
    for (int i = 0; i < 4; i++) {
        uint8_t bytes[256];
        if (i > 0) raw_greet(&w);
        size_t size = raw_frame(bytes, FRAME_HEAD_BULK, FRAME_WITH_BODY, 1000, "head", 4);
        if (i == 0) bytes[20] ^= 1;                        /* checksum */
        if (i == 1) le_put(bytes, FRAME_CHUNK_MAX + 1, 4); /* frame too long */
        if (i == 2) size = raw_frame(bytes, FRAME_HEAD_BULK, FRAME_WITH_BODY, (64u << 20) + 1, "head", 4);
        if (i == 3) size = raw_frame(bytes, FRAME_BODY_BULK, 0, 0, "body", 4);
        raw_send(&w, bytes, size);
        RUN_UNTIL(&w, w.downs == w.ups && w.ended);
        assert_int_equal(w.why, DOWN_PROTOCOL);
        assert_true(raw_goodbye(&w) != 0);
        close(w.fd);
    }
    w.fd = -1;
    assert_true(w.warnings >= 1 && w.warnings <= 4); /* at most one a second */
    assert_int_equal(w.messages, 0);
    world_close(&w);
}

static void single_bytes_make_a_message(void **state)
{
    (void)state;
    struct world w;
    uint8_t bytes[2048], body[300] = {1, 2, 3};
    world_open(&w);
    raw_open(&w);
    size_t size = raw_hello(bytes, PROTOCOL_VERSION, 77, 0, true);
    size += raw_frame(bytes + size, FRAME_HEAD_BULK, FRAME_WITH_BODY, sizeof body, "head", 4);
    size += raw_frame(bytes + size, FRAME_BODY_BULK, 0, 0, body, sizeof body);
    for (size_t i = 0; i < size; i++) {
        raw_send(&w, bytes + i, 1);
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    RUN_UNTIL(&w, w.bodies == 1);
    assert_int_equal(w.messages, 1);
    world_close(&w);
}

static void a_reset_and_an_end_are_resets(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    for (int i = 0; i < 2; i++) {
        raw_greet(&w);
        struct linger now = {1, 0};
        if (i == 0) setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(w.fd);
        w.fd = -1;
        RUN_UNTIL(&w, w.downs == w.ups);
        assert_int_equal(w.why, DOWN_RESET);
    }
    struct transport_totals totals;
    w.transport->ops->totals(w.transport, &totals);
    assert_int_equal(totals.links, 0);
    assert_int_equal(totals.links_lost, 2);
    world_close(&w);
}

/* -- limits ------------------------------------------------------------------------------------ */

/* How many descriptors after `before` are in use, up to the first free one. */
static int taken_above(int before)
{
    int lowest = dup(0);
    close(lowest);
    return lowest - before - 1;
}

static void a_crowd_of_strangers_does_not_lock_out_a_peer(void **state)
{
    (void)state;
    enum { CROWD = 100 };
    struct world w;
    int crowd[CROWD];
    world_open(&w);
    for (int i = 0; i < CROWD; i++) crowd[i] = raw_connect(w.address);
    int before = dup(0);
    RUN_UNTIL(&w, taken_above(before) >= 64);
    for (int i = 0; i < 20; i++) {
        turn(&w);
        assert_in_range(taken_above(before), 0, 65); /* 64 strangers, and libuv's reserve */
    }
    close(before);
    raw_greet(&w); /* waits in the kernel's queue until the first hello deadline */
    assert_int_equal(w.downs, 0);
    for (int i = 0; i < CROWD; i++) close(crowd[i]);
    world_close(&w);
}

static void running_out_of_descriptors_is_survived(void **state)
{
    (void)state;
    struct world w;
    struct rlimit before, tight;
    uint8_t bytes[1024];
    world_open(&w);
    raw_open(&w);
    raw_send(&w, bytes, raw_hello(bytes, PROTOCOL_VERSION, 77, 0, true));
    int lowest = dup(0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    close(lowest);
    tight = before;
    tight.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    uint64_t until_us = uv_hrtime() / 1000 + 500000;
    while (uv_hrtime() / 1000 < until_us) turn(&w);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(w.warnings, 1);
    assert_non_null(strstr(w.warning, "ulimit"));
    assert_int_equal(w.ups, 0);
    RUN_UNTIL(&w, w.ups == 1);
    world_close(&w);
}

/* -- dialling and listening -------------------------------------------------------------------- */

static int raw_listen(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void a_refused_dialler_hears_why_and_stops(void **state)
{
    (void)state;
    struct world w;
    uint16_t port;
    uint8_t bytes[64], id[8] = {9};
    char address[64];
    world_open(&w);
    int listener = raw_listen(&port);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    assert_int_equal(w.transport->ops->dial(w.transport, address), 0);
    RUN_UNTIL(&w, (w.fd = accept(listener, NULL, NULL)) >= 0);
    raw_send(&w, bytes, raw_frame(bytes, FRAME_GOODBYE, 0, (uint64_t)-ERR_VERSION, id, sizeof id));
    RUN_UNTIL(&w, w.refusals == 1);
    assert_int_equal(w.refused_err, ERR_VERSION);
    uint64_t until_us = uv_hrtime() / 1000 + 200000;
    while (uv_hrtime() / 1000 < until_us) turn(&w);
    assert_int_equal(accept(listener, NULL, NULL), -1);
    close(listener);
    world_close(&w);
}

static void a_name_is_resolved_and_dialled_until_it_answers(void **state)
{
    (void)state;
    struct world w;
    uint16_t port;
    uint8_t bytes[1024];
    char address[64];
    world_open(&w);
    int listener = raw_listen(&port);
    close(listener); /* nobody listens at first */
    snprintf(address, sizeof address, "localhost:%u", port);
    assert_int_equal(w.transport->ops->dial(w.transport, address), 0);
    for (int i = 0; i < 20; i++) turn(&w);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    RUN_UNTIL(&w, (w.fd = accept(listener, NULL, NULL)) >= 0);
    raw_send(&w, bytes, raw_hello(bytes, PROTOCOL_VERSION, 77, 0, false));
    RUN_UNTIL(&w, w.ups == 1);
    assert_true(w.peer.dialled);
    assert_int_equal(w.transport->ops->dial(w.transport, "no-such-host.invalid:1"),
                     0); /* closes while it resolves */
    close(listener);
    world_close(&w);
}

static void listening_errors_name_the_option(void **state)
{
    (void)state;
    struct world w, second;
    struct err_text why;
    world_open(&w);
    memset(&second, 0, sizeof second);
    assert_int_equal(uv_loop_init(&second.loop), 0);
    assert_int_equal(transport_open(&second, w.address, 6, &why), ERR_IO);
    assert_non_null(strstr(why.text, "--listen"));
    assert_non_null(strstr(why.text, w.address));
    static const char *const wrong[] = {"", "7946", "host", "1.2.3.4:99999", "::1:80", "[::1]", "a b:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(transport_open(&second, wrong[i], 6, &why), ERR_USAGE);
        assert_non_null(strstr(why.text, "--listen"));
    }
    assert_int_equal(uv_loop_close(&second.loop), 0);
    world_close(&w);
}

static void control_overtakes_a_large_body(void **state)
{
    (void)state;
    struct world a, b;
    struct err_text why;
    world_open(&a);
    memset(&b, 0, sizeof b);
    b.fd = -1;
    assert_int_equal(uv_loop_init(&b.loop), 0);
    assert_int_equal(transport_open(&b, "127.0.0.1:0", 6, &why), 0);
    assert_int_equal(a.transport->ops->dial(a.transport, b.address), 0);
    RUN_UNTIL(&a, (uv_run(&b.loop, UV_RUN_NOWAIT), a.ups == 1 && b.ups == 1));
    struct blob *head = blob_copy("head", 4), *body = blob_new(64u << 20);
    memset(body->data, 7, body->size);
    assert_int_equal(a.transport->ops->send(a.transport, a.link, LANE_BULK, head, body), 0);
    for (int i = 0; i < 3; i++) turn(&a); /* the body is on its way: the kernel has its fill */
    assert_int_equal(a.transport->ops->send(a.transport, a.link, LANE_CONTROL, head, NULL), 0);
    RUN_UNTIL(&a, (uv_run(&b.loop, UV_RUN_NOWAIT), b.messages == 2));
    assert_true(b.control_came_first);
    assert_int_equal(b.bodies, 1);
    blob_unref(head);
    blob_unref(body);
    b.transport->ops->close(b.transport);
    RUN_UNTIL(&b, (uv_run(&a.loop, UV_RUN_NOWAIT), b.closed));
    uv_tcp_free(b.transport);
    assert_int_equal(uv_loop_close(&b.loop), 0);
    RUN_UNTIL(&a, a.downs == a.ups);
    world_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_are_closed_without_an_answer),
        cmocka_unit_test(a_refusal_is_said),
        cmocka_unit_test(a_visitor_is_told_and_leaves_no_trace),
        cmocka_unit_test(broken_frames_end_their_link_only),
        cmocka_unit_test(single_bytes_make_a_message),
        cmocka_unit_test(a_reset_and_an_end_are_resets),
        cmocka_unit_test(a_crowd_of_strangers_does_not_lock_out_a_peer),
        cmocka_unit_test(running_out_of_descriptors_is_survived),
        cmocka_unit_test(a_refused_dialler_hears_why_and_stops),
        cmocka_unit_test(a_name_is_resolved_and_dialled_until_it_answers),
        cmocka_unit_test(listening_errors_name_the_option),
        cmocka_unit_test(control_overtakes_a_large_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: peers that come and go again and again cost little: the back-off outlives a hello, and two processes
 * with one id do not replace each other for ever. Method: raw TCP sockets against the libuv transport; lower
 * bounds of time only, and bounded waits. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "net/link/frame.h"
#include "net/link/hello.h"
#include "net/uv/uv.h"

#define WAIT_MAX_US 20000000u
#define SILENCE_US 60000000u
#define REDIAL_MIN_US 20000u
#define REDIAL_MAX_US 5000000u

struct world {
    uv_loop_t loop;
    struct transport *transport;
    char address[ADDRESS_TEXT_MAX];
    struct trace trace;
    unsigned ups, downs, replaced_lines, usurped_lines;
    uint64_t boot; /* of the last peer that came up */
    bool closed;
};

static void on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct world *w = ctx;
    (void)link;
    w->ups++;
    w->boot = peer->boot;
}

static void on_down(void *ctx, struct link_id link, enum down_reason why)
{
    (void)link;
    (void)why;
    ((struct world *)ctx)->downs++;
}

static void on_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t head_size,
                       struct blob *body)
{
    (void)ctx;
    (void)link;
    (void)lane;
    (void)head;
    (void)head_size;
    (void)body;
    fail_msg("nobody sends here");
}

static void on_writable(void *ctx, struct link_id link)
{
    (void)ctx;
    (void)link;
}

static void on_refused(void *ctx, const char *address, int err, const char *reason)
{
    (void)ctx;
    fail_msg("%s refused: %d %s", address, err, reason);
}

static void on_closed(void *ctx)
{
    ((struct world *)ctx)->closed = true;
}

static void on_line(void *ctx, enum trace_level level, const char *text)
{
    (void)level;
    if (strstr(text, "two nodes use that id") != NULL) ((struct world *)ctx)->replaced_lines++;
    if (strstr(text, "another process that uses our id 77") != NULL) ((struct world *)ctx)->usurped_lines++;
}

static void world_open_as(struct world *w, node_id id, uint64_t boot, uint64_t silence_us)
{
    struct transport_config config = {.id = id,
                                      .boot = boot,
                                      .body_size_max = 1000,
                                      .heartbeat_us = silence_us / 2,
                                      .silence_us = silence_us,
                                      .hello_us = 20000000,
                                      .redial_min_us = REDIAL_MIN_US,
                                      .redial_max_us = REDIAL_MAX_US,
                                      .trace = &w->trace};
    struct transport_sink sink = {.ctx = w,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_message = on_message,
                                  .on_writable = on_writable,
                                  .on_refused = on_refused,
                                  .on_closed = on_closed};
    struct err_text why;
    memset(w, 0, sizeof *w);
    w->trace = (struct trace){TRACE_WARN, on_line, w};
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_tcp_new(&w->loop, "127.0.0.1:0", &config, &sink, &w->transport, w->address, &why), 0);
}

static void world_open(struct world *w)
{
    world_open_as(w, 5, 1, SILENCE_US);
}

static void turn(struct world *w)
{
    uv_run(&w->loop, UV_RUN_NOWAIT);
    usleep(500); /* yields; nothing is measured by it */
}

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
    w->transport->ops->close(w->transport);
    RUN_UNTIL(w, w->closed);
    assert_int_equal(w->ups, w->downs);
    uv_tcp_free(w->transport);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static void say_hello(int fd, uint64_t boot, bool dialler)
{
    struct hello h = {.version = PROTOCOL_VERSION, .dialler = dialler, .port = 4321, .id = 77, .boot = boot};
    uint8_t bytes[FRAME_HEADER_SIZE + HELLO_SIZE_MAX];
    size_t size = hello_encode(&h, bytes + FRAME_HEADER_SIZE);
    struct frame_header frame = {(uint32_t)size, FRAME_HELLO, 0, 0};
    frame_encode(&frame, bytes + FRAME_HEADER_SIZE, bytes);
    assert_int_equal(send(fd, bytes, FRAME_HEADER_SIZE + size, MSG_NOSIGNAL),
                     (ssize_t)(FRAME_HEADER_SIZE + size));
}

static int raw_listen(char address[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    snprintf(address, 64, "127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

static void hello_alone_does_not_end_the_back_off(void **state)
{
    (void)state;
    enum { CYCLES = 7 };
    struct world w;
    char address[64];
    int fd;
    world_open(&w);
    int listener = raw_listen(address);
    uint64_t from_us = uv_hrtime() / 1000, least_us = 0;
    assert_int_equal(w.transport->ops->dial(w.transport, address), 0);
    for (unsigned i = 0; i < CYCLES; i++) {
        RUN_UNTIL(&w, (fd = accept(listener, NULL, NULL)) >= 0);
        say_hello(fd, 9, false);
        RUN_UNTIL(&w, w.ups == i + 1);
        close(fd);
        RUN_UNTIL(&w, w.downs == i + 1);
        if (i + 1 < CYCLES) least_us += (REDIAL_MIN_US << i) / 2; /* the shortest wait the jitter gives */
    }
    assert_true(uv_hrtime() / 1000 - from_us >= least_us);
    close(listener);
    world_close(&w);
}

static int raw_greet(struct world *w, uint64_t boot)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons((uint16_t)atoi(strrchr(w->address, ':') + 1));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    say_hello(fd, boot, true);
    return fd;
}

static bool has_ended(int fd)
{
    uint8_t bytes[256];
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) continue;
    return got == 0;
}

static void greater_boot_replaces_a_live_link_and_a_smaller_one_does_not(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    int old = raw_greet(&w, 10);
    RUN_UNTIL(&w, w.ups == 1);
    int new = raw_greet(&w, 11);
    RUN_UNTIL(&w, w.ups == 2);
    assert_true(w.boot == 11);
    assert_int_equal(w.downs, 1);
    assert_int_equal(w.replaced_lines, 1);
    RUN_UNTIL(&w, has_ended(old));
    close(old);
    for (int i = 0; i < 3; i++) { /* the one that was replaced tries again and again */
        old = raw_greet(&w, 10);
        RUN_UNTIL(&w, has_ended(old));
        close(old);
    }
    assert_int_equal(w.ups, 2);
    assert_int_equal(w.downs, 1);
    assert_false(has_ended(new));
    close(new);
    world_close(&w);
}

static void the_older_of_two_with_one_id_is_told_of_the_other(void **state)
{
    (void)state;
    struct world w, newer, older;
    world_open(&w);
    world_open_as(&newer, 77, 11, SILENCE_US);
    world_open_as(&older, 77, 10, 50000); /* it has no link that could fall silent */
    newer.transport->ops->dial(newer.transport, w.address);
    RUN_UNTIL(&w, (turn(&newer), w.ups == 1 && newer.ups == 1));
    older.transport->ops->dial(older.transport, w.address);
    RUN_UNTIL(&w, (turn(&newer), turn(&older), older.usurped_lines == 1));
    assert_int_equal(older.ups, 0);
    assert_int_equal(newer.usurped_lines + newer.downs, 0);
    world_close(&older);
    newer.transport->ops->close(newer.transport);
    RUN_UNTIL(&w, (turn(&newer), newer.closed && w.downs == 1));
    uv_tcp_free(newer.transport);
    uv_run(&newer.loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&newer.loop), 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_alone_does_not_end_the_back_off),
        cmocka_unit_test(greater_boot_replaces_a_live_link_and_a_smaller_one_does_not),
        cmocka_unit_test(the_older_of_two_with_one_id_is_told_of_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

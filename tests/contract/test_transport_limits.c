/* Goal: the limits, the dialling and the listening of the TCP transport do what they say.
 * Method: the transport of socket_world.h; the test is its crowd of strangers, its listener, and its peer. */
#include "tests/contract/socket_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

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
        cmocka_unit_test(a_crowd_of_strangers_does_not_lock_out_a_peer),
        cmocka_unit_test(running_out_of_descriptors_is_survived),
        cmocka_unit_test(a_refused_dialler_hears_why_and_stops),
        cmocka_unit_test(a_name_is_resolved_and_dialled_until_it_answers),
        cmocka_unit_test(listening_errors_name_the_option),
        cmocka_unit_test(control_overtakes_a_large_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

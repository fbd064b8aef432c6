/* Goal: no bytes that a socket can carry hurt the TCP transport or its other links (contract clause 10).
 * Method: the transport of socket_world.h; the test speaks to it through a plain socket. */
#include "tests/contract/socket_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_are_closed_without_an_answer),
        cmocka_unit_test(a_refusal_is_said),
        cmocka_unit_test(a_visitor_is_told_and_leaves_no_trace),
        cmocka_unit_test(broken_frames_end_their_link_only),
        cmocka_unit_test(single_bytes_make_a_message),
        cmocka_unit_test(a_reset_and_an_end_are_resets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

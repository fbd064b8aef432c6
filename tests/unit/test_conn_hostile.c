/* Goal: a link ends instead of delivering anything but what was sent: frames out of place, announcements over the
 * limit, other versions, visitors, flipped bits. Method: raw frames instead of one of two conns (conn_pair.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/conn_pair.h"

static void of_pings_at_once_the_measuring_one_is_answered(void **state)
{
    (void)state;
    struct side b;
    struct iov iov[4];
    struct frame_header h;
    open_raw(&b, PROTOCOL_VERSION);
    send_all(&b);
    feed_frame(&b, FRAME_PING, 0, 1234, NULL, 0);
    feed_frame(&b, FRAME_PING, 0, 0, NULL, 0); /* the peer waits for the answer to its first */
    assert_int_equal(b.err, 0);
    assert_true(conn_peek_send(b.conn, iov, 4) >= 1);
    assert_int_equal(frame_decode(iov[0].base, &h), 0);
    assert_int_equal(h.type, FRAME_PONG);
    assert_int_equal(h.value, 1234);
    send_all(&b);
    feed_frame(&b, FRAME_PING, 0, 0, NULL, 0);
    assert_true(conn_peek_send(b.conn, iov, 4) >= 1);
    assert_int_equal(frame_decode(iov[0].base, &h), 0);
    assert_int_equal(h.value, 0);
    conn_free(b.conn);
}

static void announced_bodies_are_checked_first(void **state)
{
    (void)state;
    static const struct {
        uint64_t announced;
        int err;
        uint32_t messages;
    } cases[] = {
        {0, 0, 1},
        {BODY_MAX, 0, 0},
        {BODY_MAX + 1u, ERR_LIMIT, 0},
        {UINT32_MAX, ERR_LIMIT, 0},
        {UINT64_MAX, ERR_LIMIT, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct side b;
        uint8_t head[4] = {0};
        open_raw(&b, PROTOCOL_VERSION);
        assert_true(b.greeted);
        feed_frame(&b, FRAME_HEAD_BULK, FRAME_WITH_BODY, cases[i].announced, head, sizeof head);
        assert_int_equal(b.err, cases[i].err);
        assert_int_equal(b.got[LANE_BULK], cases[i].messages);
        conn_free(b.conn);
    }
}

static void frames_out_of_place_end_the_link(void **state)
{
    (void)state;
    enum { HEAD = FRAME_HEAD_BULK, BODY = FRAME_BODY_BULK, WITH = FRAME_WITH_BODY };
    static const struct {
        uint8_t type[2], flags[2];
        uint64_t value[2];
        size_t size[2];
        int err;
    } cases[] = {
        {{BODY, 0}, {0}, {0}, {4, 0}, ERR_PROTO},                           /* no head */
        {{HEAD, HEAD}, {WITH, 0}, {100, 0}, {4, 4}, ERR_PROTO},             /* head inside a body */
        {{HEAD, BODY}, {WITH, 0}, {100, 1}, {4, 4}, ERR_PROTO},             /* wrong offset */
        {{HEAD, BODY}, {WITH, 0}, {100, 0}, {4, 101}, ERR_PROTO},           /* longer than announced */
        {{HEAD, BODY}, {WITH, 0}, {100, 0}, {4, 0}, ERR_PROTO},             /* empty chunk */
        {{HEAD, FRAME_BODY_CONTROL}, {WITH, 0}, {9, 0}, {4, 4}, ERR_PROTO}, /* other lane */
        {{HEAD, 0}, {0}, {0}, {0, 0}, ERR_PROTO},                           /* empty head */
        {{FRAME_HELLO, 0}, {0}, {0}, {HELLO_FIXED_SIZE, 0}, ERR_PROTO},     /* second hello */
        {{99, 0}, {0}, {0}, {4, 0}, ERR_PROTO},                             /* unknown */
        {{99, HEAD}, {FRAME_IGNORABLE, 0}, {0}, {4, 4}, 0},                 /* unknown, to be skipped */
        {{FRAME_PONG, HEAD}, {0}, {12345, 0}, {0, 4}, 0},                   /* a pong nobody asked for */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct side b;
        static const uint8_t zeros[FRAME_CHUNK_MAX];
        open_raw(&b, PROTOCOL_VERSION);
        for (int k = 0; k < 2 && cases[i].type[k] != 0; k++)
            feed_frame(&b, cases[i].type[k], cases[i].flags[k], cases[i].value[k], zeros, cases[i].size[k]);
        assert_int_equal(b.err, cases[i].err);
        assert_int_equal(b.got[LANE_BULK], cases[i].err == 0);
        assert_int_equal(conn_error(b.conn), cases[i].err);
        if (b.err != 0) assert_true(conn_why(b.conn)[0] != '\0');
        conn_free(b.conn);
    }
}

static void strangers_get_no_answer_but_versions_do(void **state)
{
    (void)state;
    struct side b;
    struct iov iov[4];
    static const uint8_t http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    side_init(&b, 2, false);
    feed(&b, http, sizeof http - 1, 1);
    assert_int_equal(b.err, ERR_PROTO);
    assert_int_equal(conn_peek_send(b.conn, iov, 4), 0);
    conn_free(b.conn);

    side_init(&b, 2, false);
    feed_frame(&b, FRAME_PING, 0, 0, NULL, 0); /* anything before the hello */
    assert_int_equal(b.err, ERR_PROTO);
    conn_free(b.conn);

    open_raw(&b, PROTOCOL_VERSION + 1);
    assert_int_equal(b.err, ERR_VERSION);
    assert_true(conn_peek_send(b.conn, iov, 4) > 1);
    struct frame_header h;
    assert_int_equal(frame_decode(iov[0].base, &h), 0);
    assert_int_equal(h.type, FRAME_GOODBYE);
    assert_true(h.value == -(int64_t)ERR_VERSION);
    struct goodbye word;
    assert_int_equal(iov[1].size, h.length);
    assert_true(goodbye_decode(iov[1].base, h.length, &word));
    assert_int_equal(word.version, PROTOCOL_VERSION); /* the refused can say what the difference is */
    conn_free(b.conn);
}

static bool find_member(void *ctx, node_id id, char address[ADDRESS_TEXT_MAX])
{
    (*(unsigned *)ctx)++;
    if (id == 77) strcpy(address, "10.0.0.5:7946");
    return id == 77;
}

/* What b says to this visitor: a hello, then a goodbye, and nothing more. */
static void visit(struct side *b, const struct hello *h, struct hello *answer, struct goodbye *word)
{
    uint8_t bytes[HELLO_SIZE_MAX], got[1024];
    feed_frame(b, FRAME_HELLO, 0, 0, bytes, hello_encode(h, bytes));
    assert_int_equal(b->err, ERR_CLOSED);
    assert_false(b->greeted);
    struct iov iov[8];
    size_t size = 0, count;
    while ((count = conn_peek_send(b->conn, iov, 8)) > 0) {
        size_t moved = 0;
        for (size_t i = 0; i < count; i++, moved += iov[i - 1].size) {
            assert_true(size + iov[i].size <= sizeof got);
            memcpy(got + size, iov[i].base, iov[i].size);
            size += iov[i].size;
        }
        conn_sent(b->conn, moved);
    }
    assert_true(conn_drained(b->conn));
    struct frame_header first, second;
    assert_int_equal(frame_decode(got, &first), 0);
    assert_int_equal(first.type, FRAME_HELLO);
    assert_int_equal(hello_decode(got + FRAME_HEADER_SIZE, first.length, answer), 0);
    const uint8_t *next = got + FRAME_HEADER_SIZE + first.length;
    assert_int_equal(frame_decode(next, &second), 0);
    assert_int_equal(second.type, FRAME_GOODBYE);
    assert_true(second.value == -(int64_t)ERR_CLOSED);
    assert_true(goodbye_decode(next + FRAME_HEADER_SIZE, second.length, word));
    assert_int_equal(2 * FRAME_HEADER_SIZE + first.length + second.length, size);
}

/* Whatever its cluster is, a visitor gets a hello and a goodbye with where it is seen. */
static void a_visitor_is_answered_and_gone(void **state)
{
    (void)state;
    struct side b;
    struct hello answer, h = {.version = PROTOCOL_VERSION, .visitor = true, .id = 77, .boot = 1, .name = 5};
    struct goodbye word;
    side_init(&b, 2, false);
    b.config.cluster[3] = 1;
    conn_saw(b.conn, "203.0.113.7:40000");
    visit(&b, &h, &answer, &word);
    assert_true(answer.id == 2 && answer.cluster[3] == 1 && !answer.dialler);
    assert_string_equal(word.seen, "203.0.113.7:40000");
    assert_false(word.answers);
    conn_free(b.conn);

    side_init(&b, 1, true); /* whom we dialled cannot visit us */
    uint8_t bytes[HELLO_SIZE_MAX];
    feed_frame(&b, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes));
    assert_int_equal(b.err, ERR_PROTO);
    conn_free(b.conn);
}

/* A visitor that asks hears who has an id; not one of another cluster, and nobody is asked for one that does not. */
static void a_visitor_hears_who_has_an_id(void **state)
{
    (void)state;
    static const struct {
        node_id id;
        uint64_t boot, other_name;
        bool asked, used;
        const char *user;
    } row[] = {{77, VISITOR_ASKS, 0, true, true, "10.0.0.5:7946"},
               {78, VISITOR_ASKS, 0, true, false, ""},
               {77, 0, 0, false, false, ""},
               {77, VISITOR_ASKS, 1, false, false, ""}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct side b;
        struct hello answer;
        struct goodbye word;
        unsigned asked = 0;
        side_init(&b, 2, false);
        b.config.find_member = find_member;
        b.config.ctx = &asked;
        struct hello h = {.version = PROTOCOL_VERSION, .visitor = true, .id = row[i].id, .boot = row[i].boot};
        h.name = b.config.cluster_name + row[i].other_name;
        visit(&b, &h, &answer, &word);
        assert_int_equal(asked, row[i].asked);
        assert_true(word.answers == row[i].asked && word.used == row[i].used);
        assert_string_equal(word.user, row[i].user);
        conn_free(b.conn);
    }
}

static void no_flipped_bit_is_delivered(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 99);
    uint64_t stream_bits = 0;
    for (int round = 0; round < 400; round++) {
        struct wire w;
        struct side a, b;
        wire_init(&w, (uint64_t)round, 30000);
        pair_open(&w, &a, &b);
        uint64_t hello_bits = 8 * w.moved;
        if (round > 0) w.flip_bit = hello_bits + prng_next(&p) % (stream_bits - hello_bits);
        for (int i = 0; i < 12; i++) {
            assert_int_equal(send_message(&a, LANE_CONTROL, 50, i % 4 == 0 ? 3000 : SIZE_MAX), 0);
            assert_int_equal(send_message(&a, LANE_BULK, 50, i == 5 ? 70000 : 500), 0);
        }
        run(&w, &a, &b); /* the receiver checks every message it is given */
        uint32_t got = b.got[0] + b.got[1];
        if (round == 0) {
            stream_bits = 8 * w.moved;
            assert_int_equal(got, 24);
        } else {
            assert_true(got < 24);
            for (int i = 0; i < 3 && b.err == 0;
                 i++) { /* a length made longer is found when more bytes have come */
                assert_int_equal(send_message(&a, LANE_BULK, 50, 70000), 0);
                run(&w, &a, &b);
            }
            assert_true(b.err == ERR_CHECKSUM || b.err == ERR_PROTO || b.err == ERR_LIMIT ||
                        b.err == ERR_CLOSED);
        }
        pair_close(&a, &b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_pings_at_once_the_measuring_one_is_answered),
        cmocka_unit_test(announced_bodies_are_checked_first),
        cmocka_unit_test(frames_out_of_place_end_the_link),
        cmocka_unit_test(strangers_get_no_answer_but_versions_do),
        cmocka_unit_test(a_visitor_is_answered_and_gone),
        cmocka_unit_test(a_visitor_hears_who_has_an_id),
        cmocka_unit_test(no_flipped_bit_is_delivered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

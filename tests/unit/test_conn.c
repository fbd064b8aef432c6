/* Goal: one link, as a machine, delivers what was sent, whole and in order, however the bytes are cut, and
 * ends instead of delivering anything else.
 * Method: two conns are fed each other's bytes in seeded random pieces; for the failures a raw writer of
 * frames takes the place of one of them. Time is a number that the test advances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/prng.h"
#include "net/conn.h"
#include "net/frame.h"

#define BODY_MAX (32u * 1024u * 1024u)

/* One end: a conn and what it has delivered. */
struct side {
    struct transport_config config;
    struct conn *conn;
    uint32_t sent[2], got[2];
    size_t got_bytes;
    int err; /* of conn_next, once it failed */
    bool greeted;
    uint32_t control_before_bulk; /* control messages that came before the first bulk message */
};

static void side_init(struct side *s, node_id id, bool dialler)
{
    memset(s, 0, sizeof *s);
    s->config = (struct transport_config){.id = id,
                                          .boot = 50 + id,
                                          .body_size_max = BODY_MAX,
                                          .heartbeat_us = 1000000,
                                          .silence_us = 5000000,
                                          .hello_us = 3000000};
    s->conn = conn_new(&s->config, dialler, (uint16_t)(7000 + id), 0);
}

static uint8_t pattern(uint32_t number, enum lane lane, size_t i)
{
    return (uint8_t)(number * 131u + (unsigned)lane * 77u + i * 3u + (i >> 9));
}

/* Head: number, body flag and size, then filler, all a function of (number, lane). */
static int send_message(struct side *s, enum lane lane, size_t head_size, size_t body_size)
{
    uint32_t number = s->sent[lane];
    struct blob *head = blob_new(head_size + 4), *body = body_size != SIZE_MAX ? blob_new(body_size) : NULL;
    le_put(head->data, number, 4);
    for (size_t i = 4; i < head->size; i++) head->data[i] = pattern(number, lane, i);
    for (size_t i = 0; body != NULL && i < body_size; i++) body->data[i] = pattern(number, lane, i);
    int err = conn_send(s->conn, lane, head, body);
    if (err == 0) s->sent[lane]++;
    blob_unref(head);
    blob_unref(body);
    return err;
}

static void check_message(struct side *s, const struct conn_message *m)
{
    assert_true(m->head_size >= 4);
    uint32_t number = (uint32_t)le_get(m->head, 4);
    assert_int_equal(number, s->got[m->lane]++);
    size_t wrong = 0;
    for (size_t i = 4; i < m->head_size; i++) wrong += m->head[i] != pattern(number, m->lane, i);
    for (size_t i = 0; m->body != NULL && i < m->body->size; i++)
        wrong += m->body->data[i] != pattern(number, m->lane, i);
    assert_int_equal(wrong, 0);
    s->got_bytes += m->head_size + (m->body != NULL ? m->body->size : 0);
    if (m->lane == LANE_CONTROL && s->got[LANE_BULK] == 0) s->control_before_bulk++;
}

static void drain(struct side *s)
{
    for (;;) {
        struct conn_message m;
        int event = conn_next(s->conn, &m);
        if (event == CONN_GREETED) {
            s->greeted = true;
            conn_accept(s->conn);
        } else if (event == CONN_MESSAGE) {
            check_message(s, &m);
        } else {
            if (event < 0) s->err = event;
            return;
        }
    }
}

/* Gives bytes to a side, in as many pieces as its space demands, until it fails. */
static void feed(struct side *s, const uint8_t *bytes, size_t size, uint64_t now_us)
{
    while (size > 0 && s->err == 0) {
        uint8_t *to;
        size_t space = conn_recv_space(s->conn, &to);
        assert_true(space > 0);
        size_t n = size < space ? size : space;
        memcpy(to, bytes, n);
        conn_received(s->conn, n, now_us);
        bytes += n;
        size -= n;
        drain(s);
    }
}

struct wire {
    struct prng cuts;
    size_t cut_max;
    uint64_t now_us;
    uint64_t moved, flip_bit; /* the bit of the stream a -> b to spoil; UINT64_MAX = none */
};

/* Moves some bytes from one side to the other. Returns false when there was nothing to move. */
static bool move(struct wire *w, struct side *from, struct side *to, bool spoil)
{
    struct iov iov[8];
    size_t count = conn_peek_send(from->conn, iov, 1 + prng_below(&w->cuts, 8));
    if (count == 0) return false;
    size_t budget = 1 + prng_below(&w->cuts, (uint32_t)w->cut_max), gone = 0;
    for (size_t i = 0; i < count && gone < budget; i++) {
        size_t n = iov[i].size < budget - gone ? iov[i].size : budget - gone;
        uint8_t *copy = mem_new(n, 1);
        memcpy(copy, iov[i].base, n);
        uint64_t at = w->moved + gone;
        if (spoil && w->flip_bit / 8 >= at && w->flip_bit / 8 < at + n)
            copy[w->flip_bit / 8 - at] ^= (uint8_t)(1u << w->flip_bit % 8);
        feed(to, copy, n, w->now_us);
        free(copy);
        gone += n;
    }
    if (spoil) w->moved += gone;
    conn_sent(from->conn, gone);
    return true;
}

static void run(struct wire *w, struct side *a, struct side *b)
{
    bool more = true;
    while (more) {
        bool ab = move(w, a, b, true), ba = move(w, b, a, false);
        more = ab || ba;
    }
}

static void wire_init(struct wire *w, uint64_t seed, size_t cut_max)
{
    memset(w, 0, sizeof *w);
    prng_seed(&w->cuts, seed);
    w->cut_max = cut_max;
    w->flip_bit = UINT64_MAX;
}

static void pair_open(struct wire *w, struct side *a, struct side *b)
{
    side_init(a, 1, true);
    side_init(b, 2, false);
    run(w, a, b);
    assert_true(a->greeted && b->greeted);
    assert_int_equal(a->err, 0);
    assert_int_equal(conn_peer(a->conn)->id, 2);
    assert_int_equal(conn_peer(b->conn)->port, 7001);
}

static void pair_close(struct side *a, struct side *b)
{
    conn_free(a->conn);
    conn_free(b->conn);
}

/* -- the normal course ------------------------------------------------------------------------- */

static size_t random_body(struct prng *p)
{
    switch (prng_below(p, 6)) {
    case 0:
        return SIZE_MAX; /* none */
    case 1:
        return 0;
    case 2:
        return FRAME_CHUNK_MAX - 1 + prng_below(p, 3);
    case 3:
        return prng_below(p, 400000);
    }
    return prng_below(p, 2000);
}

static void random_messages_survive_random_cuts(void **state)
{
    (void)state;
    static const size_t cuts[] = {1, 7, 300, 5000, 200000};
    for (uint64_t seed = 0; seed < 15; seed++) {
        struct wire w;
        struct side a, b;
        struct prng p;
        size_t cut_max = cuts[seed % 5];
        uint32_t messages = cut_max < 100 ? 30 : 600;
        wire_init(&w, seed, cut_max);
        prng_seed(&p, 1000 + seed);
        pair_open(&w, &a, &b);
        while (a.sent[0] + a.sent[1] + b.sent[0] + b.sent[1] < messages) {
            size_t head = prng_below(&p, 10) == 0 ? MESSAGE_HEAD_MAX - 4 : prng_below(&p, 200);
            size_t body = cut_max < 100 ? prng_below(&p, 3000) : random_body(&p);
            struct side *from = prng_below(&p, 2) == 0 ? &a : &b;
            send_message(from, prng_below(&p, 2) == 0 ? LANE_CONTROL : LANE_BULK, head, body);
            for (uint32_t i = prng_below(&p, 4); i > 0; i--) {
                move(&w, &a, &b, true);
                move(&w, &b, &a, false);
            }
        }
        run(&w, &a, &b);
        for (int lane = 0; lane < 2; lane++) {
            assert_int_equal(b.got[lane], a.sent[lane]);
            assert_int_equal(a.got[lane], b.sent[lane]);
        }
        struct link_stats sent, got;
        conn_stats(a.conn, &sent);
        conn_stats(b.conn, &got);
        assert_true(sent.bytes_sent == got.bytes_received);
        assert_true(sent.messages_sent == got.messages_received);
        assert_int_equal(sent.queue_bytes, 0);
        pair_close(&a, &b);
    }
}

static void control_overtakes_a_large_body(void **state)
{
    (void)state;
    struct wire w;
    struct side a, b;
    wire_init(&w, 3, 50000);
    pair_open(&w, &a, &b);
    assert_int_equal(send_message(&a, LANE_BULK, 10, 16u * 1024u * 1024u), 0);
    for (int i = 0; i < 20; i++) move(&w, &a, &b, true);
    uint64_t before = w.moved;
    assert_int_equal(send_message(&a, LANE_CONTROL, 10, SIZE_MAX), 0);
    while (b.got[LANE_CONTROL] == 0) assert_true(move(&w, &a, &b, true));
    assert_true(w.moved - before <= OUTBOX_PLAN_MAX + 2u * FRAME_CHUNK_MAX + 50000u);
    run(&w, &a, &b);
    assert_int_equal(b.control_before_bulk, 1);
    assert_int_equal(b.got[LANE_BULK], 1);
    pair_close(&a, &b);
}

static void a_full_lane_refuses_and_is_writable_once(void **state)
{
    (void)state;
    struct wire w;
    struct side a, b;
    wire_init(&w, 4, 100000);
    pair_open(&w, &a, &b);
    uint32_t accepted = 0;
    while (send_message(&a, LANE_BULK, 10, 100000) == 0) accepted++;
    assert_in_range(accepted, LINK_QUEUE_MAX / 100200, LINK_QUEUE_MAX / 100000 + 1);
    assert_false(conn_take_writable(a.conn));
    assert_int_equal(send_message(&a, LANE_CONTROL, 10, BODY_MAX), 0); /* an empty lane takes any size */
    assert_int_equal(send_message(&a, LANE_CONTROL, 10, 100000), ERR_FULL);
    uint32_t writable = 0;
    while (move(&w, &a, &b, true)) writable += conn_take_writable(a.conn);
    assert_int_equal(writable, 1);
    assert_int_equal(b.got[LANE_BULK], accepted);
    pair_close(&a, &b);
}

static void a_refused_giant_waits_for_an_empty_lane(void **state)
{
    (void)state;
    struct wire w;
    struct side a, b;
    wire_init(&w, 5, 100000);
    pair_open(&w, &a, &b);
    assert_int_equal(send_message(&a, LANE_BULK, 1, 2 * LINK_QUEUE_MAX), 0);
    assert_int_equal(send_message(&a, LANE_BULK, 1, 2 * LINK_QUEUE_MAX), ERR_FULL);
    bool writable = false;
    while (!writable) {
        assert_true(move(&w, &a, &b, true));
        writable = conn_take_writable(a.conn);
    }
    assert_int_equal(send_message(&a, LANE_BULK, 1, 2 * LINK_QUEUE_MAX),
                     0); /* no second refusal, no spinning */
    run(&w, &a, &b);
    assert_int_equal(b.got[LANE_BULK], 2);
    pair_close(&a, &b);
}

static void a_goodbye_follows_what_was_queued(void **state)
{
    (void)state;
    struct wire w;
    struct side a, b;
    wire_init(&w, 6, 30000);
    pair_open(&w, &a, &b);
    for (int i = 0; i < 10; i++) assert_int_equal(send_message(&a, LANE_BULK, 10, 50000), 0);
    conn_close(a.conn, ERR_CLOSED, true);
    assert_int_equal(send_message(&a, LANE_BULK, 10, 10), ERR_NO_LINK);
    run(&w, &a, &b);
    assert_true(conn_drained(a.conn));
    assert_int_equal(b.got[LANE_BULK], 10);
    assert_int_equal(b.err, ERR_CLOSED);
    pair_close(&a, &b);
}

/* -- time -------------------------------------------------------------------------------------- */

static void heartbeats_measure_and_silence_ends(void **state)
{
    (void)state;
    struct wire w;
    struct side a, b;
    wire_init(&w, 7, 1000);
    pair_open(&w, &a, &b);
    assert_true(conn_deadline_us(a.conn) == 1000000);
    assert_int_equal(conn_tick(a.conn, 1000000), 0);
    w.now_us = 1000300;
    run(&w, &a, &b);
    struct link_stats stats;
    conn_stats(a.conn, &stats);
    assert_true(stats.round_trip_us == 300);
    assert_true(stats.last_word_us == 1000300);
    for (uint64_t t = 2000000; t < 6000300; t += 1000000) assert_int_equal(conn_tick(a.conn, t), 0);
    assert_int_equal(conn_tick(a.conn, 6000299), 0);
    assert_true(conn_deadline_us(a.conn) == 6000300);
    assert_int_equal(conn_tick(a.conn, 6000300), ERR_TIMEOUT);
    assert_true(conn_deadline_us(a.conn) == TIME_NEVER);
    pair_close(&a, &b);
}

static void a_missing_hello_ends_the_link(void **state)
{
    (void)state;
    struct side b;
    side_init(&b, 2, false);
    assert_int_equal(conn_tick(b.conn, 2999999), 0);
    assert_int_equal(conn_tick(b.conn, 3000000), ERR_TIMEOUT);
    conn_free(b.conn);
}

/* -- refusals ---------------------------------------------------------------------------------- */

static void refusals_are_told_to_the_dialler(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct wire w;
        struct side a, b;
        static const int expected[] = {ERR_CLUSTER, ERR_SELF, ERR_DUPLICATE, ERR_CLUSTER, ERR_CLUSTER};
        wire_init(&w, 8, 100);
        side_init(&a, 1, true);
        side_init(&b, 2, false);
        if (i == 0) b.config.cluster[3] = 1;
        if (i == 4) b.config.cluster_name = 1;
        if (i == 1 || i == 3) b.config.id = 1;
        if (i == 1) b.config.boot = a.config.boot; /* one process; else two with one id */
        uint8_t *to;
        struct iov iov[4];
        size_t count = conn_peek_send(a.conn, iov, 4), gone = 0;
        for (size_t k = 0; k < count; k++) {
            conn_recv_space(b.conn, &to);
            memcpy(to, iov[k].base, iov[k].size);
            conn_received(b.conn, iov[k].size, 0);
            gone += iov[k].size;
        }
        conn_sent(a.conn, gone);
        struct conn_message m;
        int event = conn_next(b.conn, &m);
        assert_int_equal(event, i != 2 ? expected[i] : CONN_GREETED);
        if (i == 2) conn_close(b.conn, ERR_DUPLICATE, false);
        b.err = expected[i];
        run(&w, &a, &b);
        assert_int_equal(a.err, expected[i]);
        assert_false(a.greeted);
        assert_int_equal(i == 3, strstr(conn_why(a.conn), "ids must differ") != NULL);
        assert_int_equal(i == 0, strstr(conn_why(a.conn), "another experiment") != NULL);
        assert_int_equal(i == 4, strstr(conn_why(a.conn), "--cluster differs") != NULL);
        node_id id;
        assert_true(conn_duplicate_of(a.conn, &id));
        assert_true(id == b.config.id);
        pair_close(&a, &b);
    }
}

/* -- raw frames -------------------------------------------------------------------------------- */

static void feed_frame(struct side *s, uint8_t type, uint8_t flags, uint64_t value, const void *payload,
                       size_t size)
{
    uint8_t *bytes = mem_new(FRAME_HEADER_SIZE + size, 1);
    struct frame_header h = {(uint32_t)size, type, flags, value};
    if (size > 0) memcpy(bytes + FRAME_HEADER_SIZE, payload, size);
    frame_encode(&h, bytes + FRAME_HEADER_SIZE, bytes);
    feed(s, bytes, FRAME_HEADER_SIZE + size, 1);
    free(bytes);
}

static void open_raw(struct side *s, uint16_t version)
{
    struct hello h = {.version = version, .dialler = true, .port = 1, .id = 77, .boot = 1};
    uint8_t bytes[HELLO_SIZE_MAX];
    side_init(s, 2, false);
    feed_frame(s, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes));
}

static void send_all(struct side *s)
{
    struct iov iov[4];
    for (size_t count; (count = conn_peek_send(s->conn, iov, 4)) > 0;)
        for (size_t i = 0; i < count; i++) conn_sent(s->conn, iov[i].size);
}

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

/* Whatever its cluster is, a visitor gets a hello and a goodbye with where it is seen; the owner is not asked. */
static void a_visitor_is_answered_and_gone(void **state)
{
    (void)state;
    struct side b;
    side_init(&b, 2, false);
    b.config.cluster[3] = 1;
    conn_saw(b.conn, "203.0.113.7:40000");
    struct hello h = {.version = PROTOCOL_VERSION, .visitor = true, .id = 77, .boot = 1, .name = 5};
    uint8_t bytes[HELLO_SIZE_MAX], got[1024];
    feed_frame(&b, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes));
    assert_int_equal(b.err, ERR_CLOSED);
    assert_false(b.greeted);
    struct iov iov[8];
    size_t size = 0, count;
    while ((count = conn_peek_send(b.conn, iov, 8)) > 0) {
        size_t moved = 0;
        for (size_t i = 0; i < count; i++, moved += iov[i - 1].size) {
            assert_true(size + iov[i].size <= sizeof got);
            memcpy(got + size, iov[i].base, iov[i].size);
            size += iov[i].size;
        }
        conn_sent(b.conn, moved);
    }
    assert_true(conn_drained(b.conn));
    struct frame_header first, second;
    struct hello answer;
    struct goodbye word;
    assert_int_equal(frame_decode(got, &first), 0);
    assert_int_equal(first.type, FRAME_HELLO);
    assert_int_equal(hello_decode(got + FRAME_HEADER_SIZE, first.length, &answer), 0);
    assert_true(answer.id == 2 && answer.cluster[3] == 1 && !answer.dialler);
    const uint8_t *next = got + FRAME_HEADER_SIZE + first.length;
    assert_int_equal(frame_decode(next, &second), 0);
    assert_int_equal(second.type, FRAME_GOODBYE);
    assert_true(second.value == -(int64_t)ERR_CLOSED);
    assert_true(goodbye_decode(next + FRAME_HEADER_SIZE, second.length, &word));
    assert_string_equal(word.seen, "203.0.113.7:40000");
    conn_free(b.conn);

    side_init(&b, 1, true); /* whom we dialled cannot visit us */
    feed_frame(&b, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes));
    assert_int_equal(b.err, ERR_PROTO);
    conn_free(b.conn);
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
        cmocka_unit_test(random_messages_survive_random_cuts),
        cmocka_unit_test(control_overtakes_a_large_body),
        cmocka_unit_test(a_full_lane_refuses_and_is_writable_once),
        cmocka_unit_test(a_refused_giant_waits_for_an_empty_lane),
        cmocka_unit_test(a_goodbye_follows_what_was_queued),
        cmocka_unit_test(heartbeats_measure_and_silence_ends),
        cmocka_unit_test(of_pings_at_once_the_measuring_one_is_answered),
        cmocka_unit_test(a_missing_hello_ends_the_link),
        cmocka_unit_test(a_visitor_is_answered_and_gone),
        cmocka_unit_test(refusals_are_told_to_the_dialler),
        cmocka_unit_test(announced_bodies_are_checked_first),
        cmocka_unit_test(frames_out_of_place_end_the_link),
        cmocka_unit_test(strangers_get_no_answer_but_versions_do),
        cmocka_unit_test(no_flipped_bit_is_delivered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

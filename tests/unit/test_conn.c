/* Goal: one link, as a machine, delivers what was sent, whole and in order, however the bytes are cut.
 * Method: two conns are fed each other's bytes (conn_pair.h). Time is a number that the test advances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/conn_pair.h"

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

/* Both ends tick at the same times, a first. From its second heartbeat on b has been asked when its own ping would be
 * due; it asks once in eight. Without that both would ask each time: 40 pings. */
static void one_end_asks_for_both(void **state)
{
    (void)state;
    struct wire w;
    struct side a, b;
    wire_init(&w, 9, 1000);
    pair_open(&w, &a, &b);
    struct link_stats before, after;
    conn_stats(a.conn, &before);
    for (int beat = 1; beat <= 20; beat++) {
        uint64_t now_us = (uint64_t)beat * 1000000;
        w.now_us = now_us;
        if (now_us >= conn_deadline_us(a.conn)) assert_int_equal(conn_tick(a.conn, now_us), 0);
        run(&w, &a, &b);
        if (now_us >= conn_deadline_us(b.conn)) assert_int_equal(conn_tick(b.conn, now_us), 0);
        run(&w, &a, &b);
    }
    conn_stats(a.conn, &after);
    uint64_t frames = (after.bytes_sent - before.bytes_sent) / FRAME_HEADER_SIZE; /* a's pings and pongs */
    assert_in_range(frames, 20, 24);
    assert_true(after.last_word_us == 20000000);
    conn_stats(b.conn, &after);
    assert_true(after.last_word_us == 20000000 && after.round_trip_us > 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_messages_survive_random_cuts),
        cmocka_unit_test(control_overtakes_a_large_body),
        cmocka_unit_test(a_full_lane_refuses_and_is_writable_once),
        cmocka_unit_test(a_refused_giant_waits_for_an_empty_lane),
        cmocka_unit_test(a_goodbye_follows_what_was_queued),
        cmocka_unit_test(heartbeats_measure_and_silence_ends),
        cmocka_unit_test(one_end_asks_for_both),
        cmocka_unit_test(a_missing_hello_ends_the_link),
        cmocka_unit_test(refusals_are_told_to_the_dialler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

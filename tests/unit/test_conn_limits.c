/* Goal: a body that is announced holds memory only while it comes, and all bodies of a transport together hold
 * no more than its budget. Method: one accepting conn fed with raw frames and told the time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "net/link/conn.h"
#include "net/link/frame.h"
#include "net/link/inbox.h"

#define HEARTBEAT_US 1000000u
#define SILENCE_US 5000000u
#define BODY_SIZE 1000u

static const struct transport_config config = {.id = 2,
                                               .boot = 1,
                                               .body_size_max = BODY_SIZE,
                                               .heartbeat_us = HEARTBEAT_US,
                                               .silence_us = SILENCE_US,
                                               .hello_us = SILENCE_US};

/* Feeds one frame and returns what conn_next says last: CONN_NONE, CONN_MESSAGE or an error. */
static int feed(struct conn *c, uint8_t type, uint8_t flags, uint64_t value, const void *payload, size_t size,
                uint64_t now_us)
{
    uint8_t bytes[FRAME_HEADER_SIZE + BODY_SIZE];
    struct frame_header h = {(uint32_t)size, type, flags, value};
    assert_true(size <= BODY_SIZE);
    if (size > 0) memcpy(bytes + FRAME_HEADER_SIZE, payload, size);
    frame_encode(&h, bytes + FRAME_HEADER_SIZE, bytes);
    int seen = CONN_NONE;
    for (size_t at = 0; at < FRAME_HEADER_SIZE + size;) {
        uint8_t *to;
        size_t room = conn_recv_space(c, &to), rest = FRAME_HEADER_SIZE + size - at;
        size_t part = room < rest ? room : rest;
        memcpy(to, bytes + at, part);
        conn_received(c, part, now_us);
        at += part;
        struct conn_message m;
        int event;
        while ((event = conn_next(c, &m)) > CONN_NONE) {
            if (event == CONN_GREETED) conn_accept(c);
            seen = event;
        }
        if (event < 0) return event;
    }
    return seen;
}

static struct conn *open_conn(struct inbox_budget *budget)
{
    struct conn *c = conn_new(&config, false, 0, 0);
    struct hello h = {.version = PROTOCOL_VERSION, .dialler = true, .id = 77, .boot = 1};
    uint8_t bytes[HELLO_SIZE_MAX];
    conn_share_budget(c, budget);
    assert_int_equal(feed(c, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes), 0), CONN_GREETED);
    return c;
}

static int announce(struct conn *c, uint64_t body_size, uint64_t now_us)
{
    return feed(c, FRAME_HEAD_BULK, FRAME_WITH_BODY, body_size, "head", 4, now_us);
}

/* A ping at every heartbeat; a byte of the body too, as long as there are any left. Returns the time at which
 * the link ended, or 0. */
static uint64_t run(struct conn *c, unsigned body_bytes, unsigned heartbeats)
{
    for (unsigned i = 1; i <= heartbeats; i++) {
        uint64_t now_us = (uint64_t)i * HEARTBEAT_US;
        assert_int_equal(feed(c, FRAME_PING, 0, i, NULL, 0, now_us), CONN_NONE);
        if (i <= body_bytes) assert_int_equal(feed(c, FRAME_BODY_BULK, 0, i - 1, "b", 1, now_us), CONN_NONE);
        int err = conn_tick(c, now_us);
        if (err == 0) continue;
        assert_int_equal(err, ERR_TIMEOUT);
        return now_us;
    }
    return 0;
}

static void announced_body_that_never_comes_ends_the_link_though_pings_come(void **state)
{
    (void)state;
    struct conn *c = open_conn(NULL);
    assert_int_equal(announce(c, BODY_SIZE, 0), CONN_NONE);
    uint64_t ended_us = run(c, 0, 20);
    assert_true(ended_us >= SILENCE_US && ended_us <= SILENCE_US + 2 * HEARTBEAT_US);
    assert_non_null(strstr(conn_why(c), "body"));
    conn_free(c);
}

static void body_that_stops_coming_ends_the_link(void **state)
{
    (void)state;
    struct conn *c = open_conn(NULL);
    assert_int_equal(announce(c, BODY_SIZE, 0), CONN_NONE);
    uint64_t ended_us = run(c, 10, 40);
    assert_true(ended_us >= 10 * HEARTBEAT_US + SILENCE_US);
    assert_true(ended_us <= 12 * HEARTBEAT_US + SILENCE_US);
    conn_free(c);
}

static void slow_body_and_link_without_a_body_live(void **state)
{
    (void)state;
    for (int with_body = 0; with_body < 2; with_body++) {
        struct conn *c = open_conn(NULL);
        if (with_body) assert_int_equal(announce(c, BODY_SIZE, 0), CONN_NONE);
        assert_true(run(c, with_body ? 40 : 0, 40) == 0);
        conn_free(c);
    }
}

/* A frame of which a byte comes at each heartbeat: its link ends after 15 silence limits. One that is whole at last, by
 * a byte a beat as well, lives. */
static void frame_that_dribbles_ends_the_link(void **state)
{
    (void)state;
    enum { LIMIT_BEATS = 15 * SILENCE_US / HEARTBEAT_US };
    for (unsigned bytes = LIMIT_BEATS - 4; bytes <= LIMIT_BEATS + 40; bytes += 44) {
        struct conn *c = open_conn(NULL);
        uint8_t header[FRAME_HEADER_SIZE], payload[2 * LIMIT_BEATS] = {0}, *to;
        const struct frame_header h = {
            .length = bytes - FRAME_HEADER_SIZE, .type = FRAME_GOODBYE + 1, .flags = FRAME_IGNORABLE};
        frame_encode(&h, payload, header);
        uint64_t ended_us = 0;
        for (unsigned i = 0; i < bytes && ended_us == 0; i++) {
            uint64_t now_us = (uint64_t)(i + 1) * HEARTBEAT_US;
            struct conn_message message;
            assert_true(conn_recv_space(c, &to) > 0);
            *to = i < sizeof header ? header[i] : 0;
            conn_received(c, 1, now_us);
            assert_int_equal(conn_next(c, &message), CONN_NONE);
            if (i + 1 < bytes) assert_true(conn_deadline_us(c) <= now_us + HEARTBEAT_US);
            if (conn_tick(c, now_us) != 0) ended_us = now_us;
        }
        if (bytes < LIMIT_BEATS) assert_true(ended_us == 0);
        if (bytes > LIMIT_BEATS)
            assert_in_range(ended_us, 15 * SILENCE_US, 15 * SILENCE_US + 3 * HEARTBEAT_US);
        conn_free(c);
    }
}

/* The process was stopped: the ping is read first, the body's bytes wait behind it in the socket. */
static void time_in_which_we_stood_still_does_not_count(void **state)
{
    (void)state;
    struct conn *c = open_conn(NULL);
    assert_int_equal(announce(c, BODY_SIZE, 0), CONN_NONE);
    assert_int_equal(conn_tick(c, 100), 0);
    uint64_t later_us = 10 * SILENCE_US;
    assert_int_equal(feed(c, FRAME_PING, 0, 1, NULL, 0, later_us), CONN_NONE);
    assert_int_equal(conn_tick(c, later_us), 0);
    conn_free(c);
}

static void links_share_the_budget_of_open_bodies(void **state)
{
    (void)state;
    static uint8_t body[BODY_SIZE];
    struct inbox_budget budget = {.bytes_max = 2 * BODY_SIZE};
    struct conn *c[4];
    for (int i = 0; i < 4; i++) c[i] = open_conn(&budget);
    assert_int_equal(announce(c[0], BODY_SIZE, 0), CONN_NONE);
    assert_int_equal(announce(c[1], BODY_SIZE, 0), CONN_NONE);
    assert_int_equal(announce(c[2], 1, 0), ERR_LIMIT);
    assert_int_equal(feed(c[0], FRAME_BODY_BULK, 0, 0, body, BODY_SIZE, 0), CONN_MESSAGE);
    assert_true(budget.bytes == BODY_SIZE);
    assert_int_equal(announce(c[3], BODY_SIZE, 0), CONN_NONE); /* a whole body makes room, */
    conn_free(c[1]);                                           /* and so does a link that goes */
    assert_true(budget.bytes == BODY_SIZE);
    assert_int_equal(announce(c[0], BODY_SIZE, 0), CONN_NONE);
    conn_free(c[0]);
    conn_free(c[2]);
    conn_free(c[3]);
    assert_true(budget.bytes == 0);
}

static void budget_holds_a_few_models_at_least(void **state)
{
    (void)state;
    assert_true(inbox_budget_max(1000) >= 100u * 1000u);
    assert_true(inbox_budget_max((size_t)1 << 33) >= (size_t)4 << 33);
    assert_true(inbox_budget_max((size_t)1 << 33) <= (size_t)32 << 33);
    assert_true(inbox_budget_max(SIZE_MAX) == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_that_dribbles_ends_the_link),
        cmocka_unit_test(announced_body_that_never_comes_ends_the_link_though_pings_come),
        cmocka_unit_test(body_that_stops_coming_ends_the_link),
        cmocka_unit_test(slow_body_and_link_without_a_body_live),
        cmocka_unit_test(time_in_which_we_stood_still_does_not_count),
        cmocka_unit_test(links_share_the_budget_of_open_bodies),
        cmocka_unit_test(budget_holds_a_few_models_at_least),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Two conns that are fed each other's bytes, cut into seeded random pieces, and a writer of raw frames that takes the
 * place of one of them. Every message that is delivered is checked. After the headers of cmocka. */
#ifndef GADABOUT_TESTS_UNIT_CONN_PAIR_H
#define GADABOUT_TESTS_UNIT_CONN_PAIR_H

#include "base/check.h"
#include "base/prng.h"
#include "net/link/conn.h"
#include "net/link/frame.h"

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

static inline void side_init(struct side *s, node_id id, bool dialler)
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

static inline uint8_t pattern(uint32_t number, enum lane lane, size_t i)
{
    return (uint8_t)(number * 131u + (unsigned)lane * 77u + i * 3u + (i >> 9));
}

/* Head: number, body flag and size, then filler, all a function of (number, lane). */
static inline int send_message(struct side *s, enum lane lane, size_t head_size, size_t body_size)
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

static inline void check_message(struct side *s, const struct conn_message *m)
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

static inline void drain(struct side *s)
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
static inline void feed(struct side *s, const uint8_t *bytes, size_t size, uint64_t now_us)
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
static inline bool move(struct wire *w, struct side *from, struct side *to, bool spoil)
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

static inline void run(struct wire *w, struct side *a, struct side *b)
{
    bool more = true;
    while (more) {
        bool ab = move(w, a, b, true), ba = move(w, b, a, false);
        more = ab || ba;
    }
}

static inline void wire_init(struct wire *w, uint64_t seed, size_t cut_max)
{
    memset(w, 0, sizeof *w);
    prng_seed(&w->cuts, seed);
    w->cut_max = cut_max;
    w->flip_bit = UINT64_MAX;
}

static inline void pair_open(struct wire *w, struct side *a, struct side *b)
{
    side_init(a, 1, true);
    side_init(b, 2, false);
    run(w, a, b);
    assert_true(a->greeted && b->greeted);
    assert_int_equal(a->err, 0);
    assert_int_equal(conn_peer(a->conn)->id, 2);
    assert_int_equal(conn_peer(b->conn)->port, 7001);
}

static inline void pair_close(struct side *a, struct side *b)
{
    conn_free(a->conn);
    conn_free(b->conn);
}

static inline void feed_frame(struct side *s, uint8_t type, uint8_t flags, uint64_t value,
                              const void *payload, size_t size)
{
    uint8_t *bytes = mem_new(FRAME_HEADER_SIZE + size, 1);
    struct frame_header h = {(uint32_t)size, type, flags, value};
    if (size > 0) memcpy(bytes + FRAME_HEADER_SIZE, payload, size);
    frame_encode(&h, bytes + FRAME_HEADER_SIZE, bytes);
    feed(s, bytes, FRAME_HEADER_SIZE + size, 1);
    free(bytes);
}

static inline void open_raw(struct side *s, uint16_t version)
{
    struct hello h = {.version = version, .dialler = true, .port = 1, .id = 77, .boot = 1};
    uint8_t bytes[HELLO_SIZE_MAX];
    side_init(s, 2, false);
    feed_frame(s, FRAME_HELLO, 0, 0, bytes, hello_encode(&h, bytes));
}

static inline void send_all(struct side *s)
{
    struct iov iov[4];
    for (size_t count; (count = conn_peek_send(s->conn, iov, 4)) > 0;)
        for (size_t i = 0; i < count; i++) conn_sent(s->conn, iov[i].size);
}

#endif

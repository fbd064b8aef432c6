/* One link as a machine, see conn.h. Pure.
 *
 * Normal course
 *  - the dialler says hello; the acceptor checks it, its owner accepts the link, it says hello back.
 *  - messages go out through the outbox and come in through the inbox.
 *  - a ping goes out every heartbeat, of one end; the pong brings back its stamp. The other end asks now and then.
 *  - a visitor's hello is answered by ours and a goodbye: ERR_CLOSED, and no link.
 *
 * Failures; each ends the link, with a goodbye where the peer has shown that it speaks the protocol
 *  - first frame not a hello, or a malformed one: ERR_PROTO, in silence.
 *  - another version, another cluster, our own id: ERR_VERSION, ERR_CLUSTER, ERR_SELF.
 *  - what the inbox refuses: ERR_PROTO, ERR_LIMIT, ERR_CHECKSUM.
 *  - our own id of another process (another boot): ERR_CLUSTER; ids must differ.
 *  - no hello in time, or no byte for silence_us: ERR_TIMEOUT.
 *  - a body is announced and gains no byte for silence_us, though pings come: ERR_TIMEOUT.
 *  - a frame is begun and not whole after FRAME_SILENCES silence limits, however its bytes dribble: ERR_TIMEOUT.
 *  - the peer's goodbye: the reason it gives. */
#include "net/link/conn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/link/frame.h"
#include "net/link/inbox.h"
#include "net/link/stall.h"

#define FRAME_SILENCES 15u /* 30 s: the largest frame at 2 kB/s */
#define MEASURE_BEATS 8u   /* heartbeats after which the round trip is measured again */

static const char id_used_twice[] = "another node uses our --id; ids must differ";

enum conn_state { CONN_WAITING, CONN_ASKED, CONN_OPEN, CONN_ENDED };

struct conn {
    const struct transport_config *config;
    bool dialler;
    uint16_t port;
    enum conn_state state;
    int error;
    char why[192];
    struct hello peer;
    bool duplicate_known; /* peer.id came with a goodbye */
    char *remote;         /* owned; where we see the peer; NULL = nobody said */

    struct inbox in;
    struct outbox out;
    bool ping_due, pong_due, goodbye_due;
    uint64_t ping_stamp; /* of the ping that measures, 0 = answered */
    uint64_t ping_value, pong_value;
    uint64_t goodbye_code;

    uint64_t born_us, last_word_us, ping_at_us, now_us;
    uint64_t measured_us; /* when the round trip was */
    struct stall stall;

    struct link_stats stats;
};

struct conn *conn_new(const struct transport_config *config, bool dialler, uint16_t port, uint64_t now_us)
{
    struct conn *c = mem_new_zero(1, sizeof *c);
    c->config = config;
    c->dialler = dialler;
    c->port = port;
    c->born_us = c->last_word_us = c->now_us = now_us;
    stall_init(&c->stall, now_us);
    c->ping_at_us = now_us + config->heartbeat_us;
    inbox_init(&c->in, config->body_size_max);
    outbox_init(&c->out);
    if (dialler) conn_accept(c);
    return c;
}

void conn_free(struct conn *c)
{
    if (c == NULL) return;
    inbox_deinit(&c->in);
    outbox_deinit(&c->out);
    free(c->remote);
    free(c);
}

void conn_saw(struct conn *c, const char *remote)
{
    free(c->remote);
    c->remote = mem_copy_text(remote);
}

void conn_share_budget(struct conn *c, struct inbox_budget *budget)
{
    c->in.budget = budget;
}

/* -- ending ------------------------------------------------------------------------------------ */

/* The reasons of GOODBYE frames are the error codes without their sign: they keep their numbers for good. */
static void end(struct conn *c, int err, bool say_goodbye, bool flush)
{
    CHECK(err < 0);
    if (c->state == CONN_ENDED) return;
    c->state = CONN_ENDED;
    c->error = err;
    c->goodbye_due = say_goodbye;
    c->goodbye_code = (uint64_t)-err;
    c->ping_due = c->pong_due = false;
    if (!flush) outbox_drop_lanes(&c->out);
}

__attribute__((format(printf, 3, 4))) static int fail(struct conn *c, int err, const char *format, ...)
{
    CHECK(c->state != CONN_ENDED);
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    bool spoke = c->state != CONN_WAITING || err == ERR_VERSION || err == ERR_CLUSTER || err == ERR_SELF;
    end(c, err, spoke, false);
    return err;
}

void conn_close(struct conn *c, int err, bool flush)
{
    if (c->state == CONN_ENDED) return;
    snprintf(c->why, sizeof c->why, "%s", err_name(err));
    end(c, err, true, flush);
}

bool conn_drained(const struct conn *c)
{
    return c->out.count == 0 && !c->goodbye_due && outbox_lanes_empty(&c->out);
}

int conn_error(const struct conn *c)
{
    return c->error;
}

const char *conn_why(const struct conn *c)
{
    return c->why;
}

bool conn_duplicate_of(const struct conn *c, node_id *id)
{
    *id = c->peer.id;
    return c->duplicate_known;
}

/* -- frames of the link itself ----------------------------------------------------------------- */

static void say_hello(struct conn *c)
{
    struct hello mine = {.version = PROTOCOL_VERSION,
                         .dialler = c->dialler,
                         .port = c->port,
                         .id = c->config->id,
                         .boot = c->config->boot,
                         .name = c->config->cluster_name};
    memcpy(mine.cluster, c->config->cluster, sizeof mine.cluster);
    memcpy(mine.address, c->config->advertise, sizeof mine.address);
    uint8_t bytes[HELLO_SIZE_MAX];
    outbox_put_frame(&c->out, FRAME_HELLO, 0, blob_copy(bytes, hello_encode(&mine, bytes)));
}

void conn_accept(struct conn *c)
{
    CHECK(c->state == CONN_WAITING || c->state == CONN_ASKED);
    if (c->state == CONN_ASKED) c->state = CONN_OPEN;
    if (c->dialler && c->state == CONN_OPEN) return; /* it said hello when it was made */
    say_hello(c);
}

const struct hello *conn_peer(const struct conn *c)
{
    return &c->peer;
}

static const char other_cluster[] = "it belongs to another cluster: --cluster differs";
static const char other_experiment[] =
    "it is of the same cluster name, but of another experiment: all need the same options";

/* Nothing of it stays, and nobody hears of it: a question, not a link. */
static int answer_visitor(struct conn *c)
{
    say_hello(c);
    snprintf(c->why, sizeof c->why, "a visitor has its answer");
    end(c, ERR_CLOSED, true, false);
    return ERR_CLOSED;
}

static int take_hello(struct conn *c, const uint8_t *payload, size_t size)
{
    int err = hello_decode(payload, size, &c->peer);
    if (err == ERR_VERSION)
        return fail(c, err, "it speaks protocol version %u, we speak %u", c->peer.version, PROTOCOL_VERSION);
    bool fits = c->dialler ? !c->peer.dialler && !c->peer.visitor : c->peer.dialler || c->peer.visitor;
    if (err != 0 || !fits) return fail(c, ERR_PROTO, "malformed hello");
    if (c->peer.visitor) return answer_visitor(c);
    if (c->peer.name != c->config->cluster_name) return fail(c, ERR_CLUSTER, "%s", other_cluster);
    if (memcmp(c->peer.cluster, c->config->cluster, sizeof c->peer.cluster) != 0)
        return fail(c, ERR_CLUSTER, "%s", other_experiment);
    if (c->peer.id == c->config->id && c->peer.boot != c->config->boot)
        return fail(c, ERR_CLUSTER, "%s", id_used_twice);
    if (c->peer.id == c->config->id) return fail(c, ERR_SELF, "it has our own node id");
    c->state = CONN_ASKED;
    c->in.greeted = true;
    return CONN_GREETED;
}

/* A person is to know what to change. Version 1 told no more than its id. */
static void say_why(struct conn *c, int err, const struct goodbye *word)
{
    const char *text = NULL;
    if (err == ERR_CLUSTER && c->duplicate_known && c->peer.id == c->config->id)
        text = id_used_twice;
    else if (err == ERR_CLUSTER && word->version != 0)
        text = word->name != c->config->cluster_name ? other_cluster : other_experiment;
    if (text != NULL)
        snprintf(c->why, sizeof c->why, "%s", text);
    else if (err == ERR_VERSION && word->version != 0)
        snprintf(c->why, sizeof c->why, "it speaks protocol version %u, we speak %u", word->version,
                 PROTOCOL_VERSION);
    else
        snprintf(c->why, sizeof c->why, "the peer says: %s", err_name(err));
}

/* What the peer's reason means for us. Refusals count only in answer to our hello. */
static int take_goodbye(struct conn *c, uint64_t reason, const uint8_t *payload, size_t size)
{
    int err = ERR_CLOSED;
    bool refusable = c->dialler && c->state == CONN_WAITING;
    if (reason == -(int64_t)ERR_VERSION || reason == -(int64_t)ERR_CLUSTER || reason == -(int64_t)ERR_SELF)
        err = refusable ? -(int)reason : ERR_CLOSED;
    if (reason == -(int64_t)ERR_DUPLICATE) err = ERR_DUPLICATE;
    if (reason == -(int64_t)ERR_TIMEOUT) err = ERR_TIMEOUT;
    if (reason == -(int64_t)ERR_PROTO || reason == -(int64_t)ERR_LIMIT || reason == -(int64_t)ERR_CHECKSUM)
        err = ERR_PROTO;
    struct goodbye word;
    if (goodbye_decode(payload, size, &word) && refusable) {
        c->peer.id = word.id;
        c->duplicate_known = true;
    }
    say_why(c, err, &word);
    end(c, err, false, false);
    return err;
}

/* A link needs one end that asks: both hear from each other by it. Now and then the other end asks as well, so that it
 * knows the round trip too. */
static void put_ping_off(struct conn *c)
{
    if (c->now_us < c->measured_us + MEASURE_BEATS * c->config->heartbeat_us)
        c->ping_at_us = c->now_us + c->config->heartbeat_us;
}

static int take_ping(struct conn *c, const struct frame_header *h)
{
    if (h->type == FRAME_PING) {
        /* of several pings that come at once one measures (its value is not 0): that one must come back */
        if (!c->pong_due || c->pong_value == 0) c->pong_value = h->value;
        c->pong_due = true;
        put_ping_off(c);
    } else if (h->value == c->ping_stamp && c->ping_stamp != 0) {
        uint64_t taken = c->now_us - c->ping_stamp;
        c->stats.round_trip_us = taken > 0 ? taken : 1;
        c->measured_us = c->now_us;
        c->ping_stamp = 0;
    }
    return CONN_NONE;
}

/* -- in ---------------------------------------------------------------------------------------- */

static int take_frame(struct conn *c, const struct inbox_item *item)
{
    switch (item->frame.type) {
    case FRAME_HELLO:
        return take_hello(c, item->data, item->size);
    case FRAME_GOODBYE:
        return take_goodbye(c, item->frame.value, item->data, item->size);
    case FRAME_PING:
    case FRAME_PONG:
        return take_ping(c, &item->frame);
    }
    return CONN_NONE; /* unknown and ignorable */
}

int conn_next(struct conn *c, struct conn_message *out)
{
    struct inbox_item item;
    int got = INBOX_FRAME;
    while (got == INBOX_FRAME) {
        if (c->state == CONN_ENDED) return c->error;
        CHECK(c->state != CONN_ASKED);
        got = inbox_next(&c->in, &item);
        if (got < 0) return fail(c, got, "%s", c->in.why);
        int event = got == INBOX_FRAME ? take_frame(c, &item) : CONN_NONE;
        if (event != CONN_NONE) return event;
    }
    if (got == INBOX_NONE) return CONN_NONE;
    c->stats.messages_received++;
    *out = (struct conn_message){item.lane, item.data, item.size, item.body};
    return CONN_MESSAGE;
}

size_t conn_recv_space(struct conn *c, uint8_t **to)
{
    if (c->state == CONN_ENDED) inbox_clear(&c->in);
    return inbox_space(&c->in, to);
}

void conn_received(struct conn *c, size_t bytes, uint64_t now_us)
{
    c->stats.bytes_received += bytes;
    c->last_word_us = c->now_us = now_us;
    if (c->state != CONN_ENDED) inbox_received(&c->in, bytes);
}

/* -- out --------------------------------------------------------------------------------------- */

int conn_send(struct conn *c, enum lane lane, struct blob *head, struct blob *body)
{
    if (c->state != CONN_OPEN) return ERR_NO_LINK;
    CHECK(body == NULL || body->size <= c->config->body_size_max);
    return outbox_put(&c->out, lane, head, body);
}

bool conn_take_writable(struct conn *c)
{
    return c->state == CONN_OPEN && outbox_take_writable(&c->out);
}

static void plan_service(struct conn *c)
{
    if (c->ping_due && outbox_has_room(&c->out)) {
        c->ping_due = false;
        outbox_put_frame(&c->out, FRAME_PING, c->ping_value, NULL);
    }
    if (c->pong_due && outbox_has_room(&c->out)) {
        c->pong_due = false;
        outbox_put_frame(&c->out, FRAME_PONG, c->pong_value, NULL);
    }
}

/* Only what people need who would use that id in our cluster: whether somebody has it, and where. */
static void answer_question(const struct conn *c, struct goodbye *word)
{
    const struct transport_config *config = c->config;
    bool asks = c->peer.boot == VISITOR_ASKS && c->peer.name == config->cluster_name;
    if (!asks || config->find_member == NULL) return;
    word->answers = true;
    word->used = config->find_member(config->ctx, c->peer.id, word->user);
}

static void say_goodbye(struct conn *c)
{
    struct goodbye word = {.id = c->config->id, .name = c->config->cluster_name, .version = PROTOCOL_VERSION};
    if (c->peer.visitor && c->remote != NULL) snprintf(word.seen, sizeof word.seen, "%s", c->remote);
    if (c->peer.visitor) answer_question(c, &word);
    uint8_t bytes[GOODBYE_SIZE_MAX];
    outbox_put_frame(&c->out, FRAME_GOODBYE, c->goodbye_code, blob_copy(bytes, goodbye_encode(&word, bytes)));
}

size_t conn_peek_send(struct conn *c, struct iov *iov, size_t max)
{
    plan_service(c);
    outbox_plan(&c->out);
    if (c->goodbye_due && outbox_lanes_empty(&c->out) && outbox_has_room(&c->out)) {
        say_goodbye(c);
        c->goodbye_due = false;
    }
    return outbox_peek(&c->out, iov, max);
}

void conn_sent(struct conn *c, size_t bytes)
{
    c->stats.bytes_sent += bytes;
    outbox_sent(&c->out, bytes);
}

/* -- time -------------------------------------------------------------------------------------- */

int conn_tick(struct conn *c, uint64_t now_us)
{
    c->now_us = now_us;
    if (c->state == CONN_ENDED) return c->error;
    if (c->state == CONN_WAITING) {
        if (now_us < c->born_us + c->config->hello_us) return 0;
        return fail(c, ERR_TIMEOUT, "no hello within %.3g s", (double)c->config->hello_us / 1e6);
    }
    if (now_us >= c->last_word_us + c->config->silence_us)
        return fail(c, ERR_TIMEOUT, "no word for %.3g s", (double)(now_us - c->last_word_us) / 1e6);
    stall_tick(&c->stall, &c->in, now_us, c->config->heartbeat_us);
    if (c->stall.frame_us >= FRAME_SILENCES * c->config->silence_us)
        return fail(c, ERR_TIMEOUT, "a frame was begun, and is not whole after %.3g s",
                    (double)c->stall.frame_us / 1e6);
    if (stall_body_us(&c->stall) >= c->config->silence_us)
        return fail(c, ERR_TIMEOUT, "a body was announced, and no byte of it for %.3g s",
                    (double)c->config->silence_us / 1e6);
    if (now_us >= c->ping_at_us) {
        c->ping_at_us = now_us + c->config->heartbeat_us;
        if (!c->ping_due) c->ping_value = c->ping_stamp == 0 ? now_us : 0; /* one measurement at a time */
        if (c->ping_stamp == 0) c->ping_stamp = now_us;
        c->ping_due = true;
    }
    return 0;
}

uint64_t conn_deadline_us(const struct conn *c)
{
    if (c->state == CONN_ENDED) return TIME_NEVER;
    if (c->state == CONN_WAITING) return c->born_us + c->config->hello_us;
    uint64_t at_us = c->last_word_us + c->config->silence_us;
    uint64_t tick_us = stall_deadline_us(&c->stall, &c->in, c->config->heartbeat_us);
    if (tick_us < at_us) at_us = tick_us;
    return c->ping_at_us < at_us ? c->ping_at_us : at_us;
}

/* -- looking ----------------------------------------------------------------------------------- */

void conn_stats(const struct conn *c, struct link_stats *out)
{
    *out = c->stats;
    out->messages_sent = c->out.messages;
    out->last_word_us = c->last_word_us;
    out->queue_bytes = outbox_bytes(&c->out);
}

/* The receive side of a link, see inbox.h. Pure.
 *
 * Normal course
 *  - a HEAD frame without a body is a message, shown where it lies in the buffer.
 *  - a HEAD frame that announces a body is copied, the body allocated; BODY frames of that lane fill it in
 *    order, each checked when it is whole; the last one makes the message.
 *
 * Failures
 *  - before the hello anything but a small HELLO or GOODBYE: ERR_PROTO.
 *  - frame or announced body over its limit, or the bodies under way over the budget: ERR_LIMIT.
 *  - unknown type without FRAME_IGNORABLE, second hello, chunk out of place, empty head: ERR_PROTO.
 *  - wrong checksum: ERR_CHECKSUM. */
#include "net/link/inbox.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/link/hello.h"

#define IN_SIZE (FRAME_HEADER_SIZE + FRAME_CHUNK_MAX)
#define BUDGET_BODY_COUNT 16u        /* open bodies of the greatest size that all links may have together */
#define BUDGET_SIZE_MIN (256u << 20) /* small models: as many as 256 MiB hold */
#define IN_SIZE_BESIDE_BODY 1024u /* read little ahead while a body arrives: its chunks need no copy then */

static_assert(HELLO_SIZE_MAX <= FRAME_CHUNK_MAX, "a hello fits one frame");
static_assert(IN_SIZE_BESIDE_BODY >= FRAME_HEADER_SIZE, "a header fits every read");

void inbox_init(struct inbox *b, size_t body_size_max)
{
    memset(b, 0, sizeof *b);
    b->body_size_max = body_size_max;
    b->in = mem_new(IN_SIZE, 1);
}

static void inbound_clear(struct inbound *i)
{
    blob_unref(i->head);
    blob_unref(i->body);
    *i = (struct inbound){0};
}

bool inbox_frame_open(const struct inbox *b)
{
    return b->chunk_open || b->end > b->first;
}

bool inbox_body_open(const struct inbox *b, enum lane lane)
{
    return b->lane[lane].head != NULL;
}

size_t inbox_budget_max(size_t body_size_max)
{
    if (body_size_max > SIZE_MAX / BUDGET_BODY_COUNT) return SIZE_MAX;
    size_t bytes = BUDGET_BODY_COUNT * body_size_max;
    return bytes > BUDGET_SIZE_MIN ? bytes : BUDGET_SIZE_MIN;
}

static void budget_release(struct inbox *b, const struct inbound *in)
{
    if (b->budget == NULL || in->body == NULL) return;
    CHECK(b->budget->bytes >= in->body->size);
    b->budget->bytes -= in->body->size;
}

void inbox_clear(struct inbox *b)
{
    for (int lane = 0; lane < 2; lane++) {
        budget_release(b, &b->lane[lane]);
        inbound_clear(&b->lane[lane]);
    }
    inbound_clear(&b->delivered);
    b->chunk_open = false;
    b->first = b->end = 0;
}

void inbox_deinit(struct inbox *b)
{
    inbox_clear(b);
    free(b->in);
    b->in = NULL;
}

__attribute__((format(printf, 3, 4))) static int fail(struct inbox *b, int err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(b->why, sizeof b->why, format, args);
    va_end(args);
    return err;
}

/* -- bytes in ---------------------------------------------------------------------------------- */

static uint8_t *chunk_data(struct inbox *b)
{
    const struct inbound *in = &b->lane[b->chunk_lane];
    return in->body->data + in->filled;
}

static bool reads_into_body(const struct inbox *b)
{
    return b->chunk_open && b->first == b->end;
}

size_t inbox_space(struct inbox *b, uint8_t **to)
{
    inbound_clear(&b->delivered);
    if (reads_into_body(b)) {
        *to = chunk_data(b) + b->chunk_filled;
        return b->chunk_size - b->chunk_filled;
    }
    if (b->first > 0) {
        memmove(b->in, b->in + b->first, b->end - b->first); /* less than one frame */
        b->end -= b->first;
        b->first = 0;
    }
    *to = b->in + b->end;
    bool body_coming = b->lane[0].head != NULL || b->lane[1].head != NULL;
    return body_coming && b->end < FRAME_HEADER_SIZE ? IN_SIZE_BESIDE_BODY : IN_SIZE - b->end;
}

void inbox_received(struct inbox *b, size_t bytes)
{
    if (reads_into_body(b)) {
        CHECK(bytes <= b->chunk_size - b->chunk_filled);
        b->chunk_filled += bytes;
        b->gained[b->chunk_lane] += bytes;
    } else {
        CHECK(bytes <= IN_SIZE - b->end);
        b->end += bytes;
    }
}

/* -- messages ---------------------------------------------------------------------------------- */

static int take_head(struct inbox *b, const struct frame_header *h, const uint8_t *payload,
                     struct inbox_item *out)
{
    enum lane lane = h->type == FRAME_HEAD_BULK ? LANE_BULK : LANE_CONTROL;
    struct inbound *in = &b->lane[lane];
    bool with_body = (h->flags & FRAME_WITH_BODY) != 0;
    if (!with_body || h->value == 0) {
        if (with_body) b->delivered.body = blob_new(0);
        *out =
            (struct inbox_item){.data = payload, .size = h->length, .lane = lane, .body = b->delivered.body};
        return INBOX_MESSAGE;
    }
    if (b->budget != NULL) b->budget->bytes += (size_t)h->value;
    b->gained[lane]++;
    in->head = blob_copy(payload, h->length);
    in->body = blob_new((size_t)h->value);
    in->filled = 0;
    return INBOX_NONE;
}

/* A BODY frame's header has come: its payload goes where it belongs, and is checked when it is whole. */
static int open_chunk(struct inbox *b, const struct frame_header *h, const uint8_t *header)
{
    enum lane lane = h->type == FRAME_BODY_BULK ? LANE_BULK : LANE_CONTROL;
    const struct inbound *in = &b->lane[lane];
    if (in->head == NULL || h->value != in->filled || h->length == 0 ||
        h->length > in->body->size - in->filled)
        return fail(b, ERR_PROTO, "a chunk of a body is out of place");
    b->chunk_open = true;
    b->chunk_lane = lane;
    b->chunk_size = h->length;
    b->chunk_filled = 0;
    memcpy(b->chunk_header, header, FRAME_HEADER_SIZE);
    b->first += FRAME_HEADER_SIZE;
    return INBOX_NONE;
}

/* Moves what lies in the buffer into the open chunk; returns INBOX_MESSAGE when it was the last one. */
static int fill_chunk(struct inbox *b, struct inbox_item *out)
{
    size_t missing = b->chunk_size - b->chunk_filled, ready = b->end - b->first;
    size_t taken = missing < ready ? missing : ready;
    memcpy(chunk_data(b) + b->chunk_filled, b->in + b->first, taken);
    b->first += taken;
    b->chunk_filled += taken;
    b->gained[b->chunk_lane] += taken;
    if (b->chunk_filled < b->chunk_size) return INBOX_NONE;
    if (frame_verify(b->chunk_header, chunk_data(b)) != 0)
        return fail(b, ERR_CHECKSUM, "bad checksum of a chunk");
    struct inbound *in = &b->lane[b->chunk_lane];
    b->chunk_open = false;
    b->frames++;
    in->filled += b->chunk_size;
    if (in->filled < in->body->size) return INBOX_NONE;
    budget_release(b, in);
    b->delivered = *in;
    *in = (struct inbound){0};
    *out = (struct inbox_item){.data = b->delivered.head->data,
                               .size = b->delivered.head->size,
                               .lane = b->chunk_lane,
                               .body = b->delivered.body};
    return INBOX_MESSAGE;
}

/* -- frames ------------------------------------------------------------------------------------ */

/* Checks all that can be said from the header alone. */
static int check_header(struct inbox *b, const uint8_t *header, struct frame_header *h)
{
    int err = frame_decode(header, h);
    bool opening = h->type == FRAME_HELLO || h->type == FRAME_GOODBYE;
    if (!b->greeted && (err != 0 || !opening || h->length > HELLO_SIZE_MAX))
        return fail(b, ERR_PROTO, "it does not speak our protocol");
    if (err == ERR_LIMIT)
        return fail(b, err, "a frame of %u bytes, at most %u are allowed", h->length, FRAME_CHUNK_MAX);
    if (err != 0) return fail(b, err, "malformed frame header");
    if (b->greeted && h->type == FRAME_HELLO) return fail(b, ERR_PROTO, "a second hello");
    if (h->type > FRAME_GOODBYE && (h->flags & FRAME_IGNORABLE) == 0)
        return fail(b, ERR_PROTO, "unknown frame type %u", h->type);
    if (h->type != FRAME_HEAD_CONTROL && h->type != FRAME_HEAD_BULK) return 0;
    if (b->lane[h->type == FRAME_HEAD_BULK ? LANE_BULK : LANE_CONTROL].head != NULL)
        return fail(b, ERR_PROTO, "a message starts inside the body of another");
    if (h->length == 0) return fail(b, ERR_PROTO, "a message without a head");
    if ((h->flags & FRAME_WITH_BODY) != 0 && h->value > b->body_size_max)
        return fail(b, ERR_LIMIT, "a body of %llu bytes is announced, at most %zu are allowed",
                    (unsigned long long)h->value, b->body_size_max);
    if ((h->flags & FRAME_WITH_BODY) != 0 && b->budget != NULL &&
        h->value > b->budget->bytes_max - b->budget->bytes)
        return fail(b, ERR_LIMIT,
                    "a body of %llu bytes is announced while %zu are under way, at most %zu may be",
                    (unsigned long long)h->value, b->budget->bytes, b->budget->bytes_max);
    return 0;
}

/* Looks at the frame at the front of the buffer. *more is false when it is not whole yet. */
static int next_frame(struct inbox *b, struct inbox_item *out, bool *more)
{
    size_t ready = b->end - b->first;
    *more = ready >= FRAME_HEADER_SIZE;
    if (!*more) return INBOX_NONE;
    const uint8_t *header = b->in + b->first;
    struct frame_header h;
    int err = check_header(b, header, &h);
    if (err != 0) return err;
    if (h.type == FRAME_BODY_CONTROL || h.type == FRAME_BODY_BULK) return open_chunk(b, &h, header);
    *more = ready >= FRAME_HEADER_SIZE + h.length;
    if (!*more) return INBOX_NONE;
    const uint8_t *payload = header + FRAME_HEADER_SIZE;
    if (frame_verify(header, payload) != 0)
        return fail(b, ERR_CHECKSUM, "bad checksum of a frame of type %u", h.type);
    b->first += FRAME_HEADER_SIZE + h.length;
    b->frames++;
    if (h.type == FRAME_HEAD_CONTROL || h.type == FRAME_HEAD_BULK) return take_head(b, &h, payload, out);
    *out = (struct inbox_item){.frame = h, .data = payload, .size = h.length};
    return INBOX_FRAME;
}

int inbox_next(struct inbox *b, struct inbox_item *out)
{
    inbound_clear(&b->delivered);
    bool more = true;
    while (more) {
        int got = b->chunk_open ? fill_chunk(b, out) : next_frame(b, out, &more);
        if (got != INBOX_NONE) return got;
        if (reads_into_body(b)) more = false;
    }
    return INBOX_NONE;
}

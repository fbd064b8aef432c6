/* The lens: a delay line for the bytes of one direction of a link.
 *
 * Normal course
 *  - bytes are copied into a ring with the time at which they are due; that time never goes back, so order is
 *    kept whatever the jitter. Bytes put at one time with one due time are one piece.
 *  - with a limit the first byte may go when the ones before it have been paid for, with a hundredth of a second's
 *    bytes; a loop that comes late takes what has been earned meanwhile.
 *  - corrupt: the distance to the next flipped bit is drawn uniformly from 1 to 2n - 1 bytes.
 *
 * Failures
 *  - the line, or the list of its pieces, is full: no room; the owner stops reading, and TCP does the rest.
 *  - blocked (drop, half_open of what comes in): no room, and nothing is due.
 *  - half_open of what goes out: everything is taken and lost; the stream is torn from then on. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/prng.h"
#include "net/fault/fault.h"

#define PIECE_MAX 4096u
#define BURSTS_PER_S 100u
#define LINE_MIN 4096.0 /* bytes that wait for a limit: this, and a quarter of a second's */
#define LINE_S 0.25

struct piece {
    uint64_t due_us;
    size_t size;
};

struct fault_lens {
    enum fault_direction direction;
    struct fault_effect effect;
    struct prng jitter, noise;
    uint8_t *line; /* (FAULT_LINE_MAX) ring */
    size_t first, held;
    struct piece *piece; /* (PIECE_MAX) ring */
    uint32_t piece_first, piece_count;
    uint64_t free_us,
        free_rest;    /* when the limit lets the next byte go; rest: of a microsecond, over bytes_s */
    uint64_t flip_in; /* bytes up to the next flipped one; 0 = not drawn */
    bool torn;
};

struct fault_lens *fault_lens_new(enum fault_direction direction, uint64_t seed, uint64_t index)
{
    CHECK(direction == FAULT_IN || direction == FAULT_OUT);
    struct fault_lens *l = mem_new_zero(1, sizeof *l);
    l->direction = direction;
    l->line = mem_new(FAULT_LINE_MAX, 1);
    l->piece = mem_new(PIECE_MAX, sizeof *l->piece);
    prng_split(&l->jitter, seed, "fault jitter", 2 * index + (direction == FAULT_OUT));
    prng_split(&l->noise, seed, "fault noise", 2 * index + (direction == FAULT_OUT));
    return l;
}

void fault_lens_free(struct fault_lens *l)
{
    if (l == NULL) return;
    free(l->line);
    free(l->piece);
    free(l);
}

void fault_lens_set(struct fault_lens *l, const struct fault_effect *e)
{
    const struct fault_status *old_limit = l->effect.by[FAULT_LIMIT],
                              *old_noise = l->effect.by[FAULT_CORRUPT];
    bool delay_ended = l->effect.by[FAULT_DELAY] != NULL && e->by[FAULT_DELAY] == NULL;
    l->effect = *e;
    if (e->by[FAULT_LIMIT] != old_limit) l->free_us = l->free_rest = 0;
    if (e->by[FAULT_CORRUPT] != old_noise) l->flip_in = 0;
    for (uint32_t i = 0; i < l->piece_count && delay_ended; i++)
        l->piece[(l->piece_first + i) % PIECE_MAX].due_us = 0;
}

const struct fault_effect *fault_lens_effect(const struct fault_lens *l)
{
    return &l->effect;
}

/* -- in ---------------------------------------------------------------------------------------- */

static bool swallows(const struct fault_lens *l)
{
    return l->direction == FAULT_OUT && l->effect.by[FAULT_HALF_OPEN] != NULL &&
           l->effect.by[FAULT_DROP] == NULL;
}

static bool blocked(const struct fault_lens *l)
{
    return fault_effect_block(&l->effect) != NULL && !swallows(l);
}

static uint64_t rate_of(const struct fault_lens *l)
{
    const struct fault_status *f = l->effect.by[FAULT_LIMIT];
    return f != NULL ? f->rule.bytes_s : 0;
}

/* A slow link must not take more than goes through in a moment: who waits in here cannot be overtaken any more
 * by what is more urgent, and does not hold the sender back. */
static size_t line_max(const struct fault_lens *l)
{
    const struct fault_status *delay = l->effect.by[FAULT_DELAY];
    uint64_t rate = rate_of(l);
    if (rate == 0) return FAULT_LINE_MAX;
    double wait_s = LINE_S;
    if (delay != NULL) wait_s += (double)(delay->rule.delay_us + delay->rule.jitter_us) * 1e-6;
    double size = LINE_MIN + wait_s * (double)rate;
    return size < FAULT_LINE_MAX ? (size_t)size : FAULT_LINE_MAX;
}

size_t fault_lens_room(const struct fault_lens *l)
{
    if (swallows(l)) return FAULT_LINE_MAX;
    size_t most = line_max(l);
    if (blocked(l) || l->piece_count == PIECE_MAX || l->held >= most) return 0;
    return most - l->held;
}

static uint64_t draw_delay_us(struct fault_lens *l)
{
    const struct fault_status *f = l->effect.by[FAULT_DELAY];
    if (f == NULL) return 0;
    if (f->rule.jitter_us == 0) return f->rule.delay_us;
    double delay_us = (double)f->rule.delay_us + (double)f->rule.jitter_us * prng_uniform(&l->jitter, -1, 1);
    return delay_us > 0 ? (uint64_t)delay_us : 0;
}

static void piece_add(struct fault_lens *l, size_t size, uint64_t due_us)
{
    struct piece *last = &l->piece[(l->piece_first + l->piece_count - 1) % PIECE_MAX];
    if (l->piece_count > 0 && due_us <= last->due_us) {
        last->size += size;
        return;
    }
    CHECK(l->piece_count < PIECE_MAX);
    l->piece[(l->piece_first + l->piece_count++) % PIECE_MAX] = (struct piece){due_us, size};
}

/* Flips bits in the `size` bytes of the ring that begin at `at`. */
static void corrupt(struct fault_lens *l, size_t at, size_t size)
{
    struct fault_status *f = l->effect.by[FAULT_CORRUPT];
    if (f == NULL) return;
    uint64_t span = f->rule.one_in < UINT32_MAX / 2 ? 2 * f->rule.one_in - 1 : UINT32_MAX;
    for (size_t done = 0;;) {
        if (l->flip_in == 0) l->flip_in = 1 + prng_below(&l->noise, (uint32_t)span);
        if (l->flip_in > size - done) {
            l->flip_in -= size - done;
            return;
        }
        done += l->flip_in;
        l->flip_in = 0;
        l->line[(at + done - 1) % FAULT_LINE_MAX] ^= (uint8_t)(1u << prng_below(&l->noise, 8));
        f->counts.bytes_corrupted++;
        if (done == size) return;
    }
}

void fault_lens_put(struct fault_lens *l, const uint8_t *bytes, size_t size, uint64_t now_us)
{
    CHECK(size <= fault_lens_room(l));
    if (size == 0) return;
    if (swallows(l)) {
        l->torn = true;
        l->effect.by[FAULT_HALF_OPEN]->counts.bytes_swallowed += size;
        return;
    }
    size_t at = (l->first + l->held) % FAULT_LINE_MAX, ahead = FAULT_LINE_MAX - at;
    size_t before = size < ahead ? size : ahead;
    memcpy(l->line + at, bytes, before);
    memcpy(l->line, bytes + before, size - before);
    l->held += size;
    corrupt(l, at, size);
    piece_add(l, size, now_us + draw_delay_us(l));
    if (l->effect.by[FAULT_DELAY] != NULL) l->effect.by[FAULT_DELAY]->counts.bytes_slowed += size;
    if (l->effect.by[FAULT_LIMIT] != NULL) l->effect.by[FAULT_LIMIT]->counts.bytes_slowed += size;
}

/* -- out --------------------------------------------------------------------------------------- */

/* From when on the first byte may be counted: it is due, and those before it are paid for. */
static uint64_t limit_from_us(const struct fault_lens *l)
{
    uint64_t due_us = l->piece[l->piece_first].due_us;
    return l->free_us > due_us ? l->free_us : due_us;
}

/* Bytes that a limit lets go now: who comes late to take them finds more. */
static size_t limit_now(const struct fault_lens *l, uint64_t rate, uint64_t now_us)
{
    uint64_t from_us = limit_from_us(l), burst = rate < BURSTS_PER_S ? 1 : rate / BURSTS_PER_S;
    if (now_us < from_us) return 0;
    double earned = (double)(now_us - from_us) * 1e-6 * (double)rate;
    return earned < FAULT_LINE_MAX ? (size_t)earned + (size_t)burst : FAULT_LINE_MAX;
}

size_t fault_lens_peek(const struct fault_lens *l, uint64_t now_us, const uint8_t **bytes)
{
    *bytes = l->line + l->first;
    if (blocked(l) || l->piece_count == 0) return 0;
    size_t due = 0, whole = FAULT_LINE_MAX - l->first;
    if (rate_of(l) > 0) {
        size_t most = limit_now(l, rate_of(l), now_us);
        if (most < whole) whole = most;
    }
    for (uint32_t i = 0; i < l->piece_count && due < whole; i++) {
        const struct piece *p = &l->piece[(l->piece_first + i) % PIECE_MAX];
        if (p->due_us > now_us) break;
        due += p->size;
    }
    return due < whole ? due : whole;
}

static void pay(struct fault_lens *l, size_t size)
{
    uint64_t rate = rate_of(l);
    if (rate == 0 || size == 0) return;
    uint64_t from_us = limit_from_us(l);
    if (from_us > l->free_us) l->free_rest = 0;
    uint64_t cost = (uint64_t)size * 1000000u + l->free_rest;
    l->free_us = from_us + cost / rate;
    l->free_rest = cost % rate;
}

void fault_lens_take(struct fault_lens *l, size_t size)
{
    CHECK(size <= l->held);
    pay(l, size);
    l->first = (l->first + size) % FAULT_LINE_MAX;
    l->held -= size;
    if (l->held == 0) l->first = 0; /* a line that is hardly used touches little memory */
    while (size > 0) {
        struct piece *p = &l->piece[l->piece_first];
        size_t part = p->size < size ? p->size : size;
        p->size -= part;
        size -= part;
        if (p->size > 0) break;
        l->piece_first = (l->piece_first + 1) % PIECE_MAX;
        l->piece_count--;
    }
}

uint64_t fault_lens_next_us(const struct fault_lens *l)
{
    if (blocked(l) || l->piece_count == 0) return TIME_NEVER;
    return rate_of(l) > 0 ? limit_from_us(l) : l->piece[l->piece_first].due_us;
}

size_t fault_lens_held(const struct fault_lens *l)
{
    return l->held;
}

bool fault_lens_torn(const struct fault_lens *l)
{
    return l->torn;
}

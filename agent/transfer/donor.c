/* The donor's side of transfer.h. Pure.
 *
 * Normal course
 *  - ASK: a place for the newcomer, a snapshot (the present one while it is young, else a new one), OFFER.
 *  - GET: its chunks wait in the newcomer's queue; they go out in turn, one of each newcomer, as the rate allows.
 *    A bucket is kept as the time at which what was sent is paid for (virtual scheduling), one chunk deep.
 *  - DONE, or no word for snapshot_us: the place is free. Nobody uses a snapshot for snapshot_us: it is dropped.
 * Failure courses
 *  - no place, or what others wait for takes too long at our rate: BUSY with the time to ask again.
 *  - two snapshots are in use and the younger one is old too: BUSY; there is never a third.
 *  - GET of a snapshot that this newcomer does not use: GONE.
 *  - a second ASK begins anew: what was asked before and not sent is forgotten.
 *  - the link refuses a chunk: it waits for the link; other newcomers go on.
 *  - the link does not take a chunk for snapshot_us: the newcomer's place is free, its queue forgotten.
 *  - a chunk asked twice, more than queue_max ahead, an index beyond the model: ERR_PROTO, nothing has changed. */
#include <stdlib.h>
#include <string.h>

#include "agent/transfer/snapshot.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/prng.h"

#define BUSY_MIN_US 250000u     /* a newcomer without a place asks again after that, and up to twice that */
#define BACKLOG_MAX_US 1000000u /* of all queues at our rate: beyond it one more would only see silence */
#define SNAPSHOT_COUNT 2u

struct newcomer {
    node_id id;
    struct snapshot *snapshot;
    uint64_t word_us; /* its last word, or ours */
    bool blocked;     /* the link is full */
    uint32_t asked_count;
    uint32_t *asked; /* (queue_max) in order */
};

struct donor {
    struct donor_config config;
    struct chunk_grid grid;
    struct snapshot snapshot[SNAPSHOT_COUNT];
    struct newcomer *newcomer; /* (newcomer_max) in order of arrival */
    uint32_t newcomer_count;
    uint32_t turn;    /* position of the newcomer that is next */
    uint64_t paid_us; /* when all that was sent is paid for at our rate */
    uint64_t bytes_given;
    struct prng draws;
};

struct donor *donor_new(const struct donor_config *config)
{
    CHECK(config->dim > 0 && config->newcomer_max > 0 && config->snapshot_us > 0);
    CHECK(config->queue_max >= TRANSFER_AHEAD_MAX);
    struct donor *d = mem_new_zero(1, sizeof *d);
    d->config = *config;
    int err = chunk_grid_set(&d->grid, config->dim * sizeof(float), config->chunk_size);
    CHECK(err == 0);
    d->newcomer = mem_new(config->newcomer_max, sizeof *d->newcomer);
    prng_split(&d->draws, config->seed, "transfer donor", 0);
    return d;
}

void donor_free(struct donor *d)
{
    if (d == NULL) return;
    for (uint32_t i = 0; i < d->newcomer_count; i++) free(d->newcomer[i].asked);
    for (uint32_t i = 0; i < SNAPSHOT_COUNT; i++) snapshot_drop(&d->snapshot[i]);
    free(d->newcomer);
    free(d);
}

/* -- snapshots --------------------------------------------------------------------------------- */

static void newcomer_release(struct newcomer *n, uint64_t now_us)
{
    CHECK(n->snapshot->users > 0);
    if (--n->snapshot->users == 0) n->snapshot->unused_us = now_us;
}

/* The present one while it is young, else a new one in the place of one that nobody uses; NULL = both are used. */
static struct snapshot *snapshot_for_newcomer(struct donor *d, uint64_t progress, uint64_t now_us)
{
    struct snapshot *unused = NULL;
    for (uint32_t i = 0; i < SNAPSHOT_COUNT; i++) {
        struct snapshot *s = &d->snapshot[i];
        if (s->id != 0 && now_us < time_after(s->made_us, d->config.snapshot_us)) return s;
        if (s->users == 0 && (unused == NULL || s->id == 0)) unused = s;
    }
    if (unused == NULL) return NULL;
    snapshot_drop(unused);
    uint64_t id = prng_next(&d->draws);
    snapshot_make(unused, &d->grid, id != 0 ? id : 1, progress, now_us);
    return unused;
}

/* -- newcomers --------------------------------------------------------------------------------- */

static struct newcomer *newcomer_find(struct donor *d, node_id id)
{
    for (uint32_t i = 0; i < d->newcomer_count; i++)
        if (d->newcomer[i].id == id) return &d->newcomer[i];
    return NULL;
}

static void newcomer_remove(struct donor *d, struct newcomer *n, uint64_t now_us)
{
    newcomer_release(n, now_us);
    free(n->asked);
    uint32_t at = (uint32_t)(n - d->newcomer);
    memmove(n, n + 1, (d->newcomer_count - at - 1) * sizeof *n);
    d->newcomer_count--;
    if (d->turn > at) d->turn--;
}

static uint64_t newcomer_end_us(const struct donor *d, const struct newcomer *n)
{
    return time_after(n->word_us, d->config.snapshot_us);
}

static bool newcomer_waits_for(const struct newcomer *n, uint64_t chunk)
{
    for (uint32_t i = 0; i < n->asked_count; i++)
        if (n->asked[i] == chunk) return true;
    return false;
}

/* -- sending ----------------------------------------------------------------------------------- */

/* What `bytes` take at our rate. */
static uint64_t bytes_us(const struct donor *d, uint64_t bytes)
{
    if (d->config.rate_bytes_s == 0) return 0;
    double us = (double)bytes * 1e6 / (double)d->config.rate_bytes_s;
    return us < 1e15 ? (uint64_t)us + 1 : (uint64_t)1e15;
}

/* The next newcomer in turn for which a chunk can go out; NULL = none. */
static struct newcomer *newcomer_next(struct donor *d)
{
    for (uint32_t i = 0; i < d->newcomer_count; i++) {
        uint32_t at = (d->turn + i) % d->newcomer_count;
        struct newcomer *n = &d->newcomer[at];
        if (n->blocked || n->asked_count == 0) continue;
        d->turn = (at + 1) % d->newcomer_count;
        return n;
    }
    return NULL;
}

static void pump(struct donor *d, const float *x, uint64_t now_us, struct transfer_actions *acts)
{
    while (d->paid_us <= now_us) {
        struct newcomer *n = newcomer_next(d);
        if (n == NULL) return;
        uint32_t chunk = n->asked[0];
        memmove(n->asked, n->asked + 1, --n->asked_count * sizeof *n->asked);
        struct state_msg *m = transfer_send(acts, n->id, STATE_CHUNK);
        m->snapshot = n->snapshot->id;
        m->first = chunk;
        m->body = blob_ref(snapshot_chunk(n->snapshot, &d->grid, chunk, x, &m->hash));
        n->word_us = now_us;
        d->bytes_given += m->body->size;
        if (d->config.rate_bytes_s > 0) d->paid_us = now_us + bytes_us(d, m->body->size);
    }
}

void donor_writable(struct donor *d, node_id to, const float *x, uint64_t now_us,
                    struct transfer_actions *acts)
{
    struct newcomer *n = newcomer_find(d, to);
    if (n == NULL) return;
    n->blocked = false;
    pump(d, x, now_us, acts);
}

void donor_full(struct donor *d, node_id to, uint64_t chunk)
{
    struct newcomer *n = newcomer_find(d, to);
    CHECK(chunk < d->grid.count);
    d->bytes_given -= chunk_grid_bytes(&d->grid, (uint32_t)chunk);
    if (n == NULL) return;
    n->blocked = true;
    if (n->asked_count < d->config.queue_max && !newcomer_waits_for(n, chunk))
        n->asked[n->asked_count++] = (uint32_t)chunk;
}

/* -- messages ---------------------------------------------------------------------------------- */

static void say_busy(struct donor *d, node_id to, uint64_t wait_us, struct transfer_actions *acts)
{
    transfer_send(acts, to, STATE_BUSY)->wait_us = wait_us + prng_below(&d->draws, BUSY_MIN_US);
}

/* How long what is asked already takes at our rate. */
static uint64_t backlog_us(const struct donor *d, uint64_t now_us)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < d->newcomer_count; i++)
        bytes += (uint64_t)d->newcomer[i].asked_count * d->grid.chunk_size;
    return bytes_us(d, bytes) + (d->paid_us > now_us ? d->paid_us - now_us : 0);
}

static void newcomer_end_idle(struct donor *d, uint64_t now_us)
{
    for (uint32_t i = d->newcomer_count; i-- > 0;)
        if (now_us >= newcomer_end_us(d, &d->newcomer[i])) newcomer_remove(d, &d->newcomer[i], now_us);
}

static void take_ask(struct donor *d, node_id from, uint64_t progress, uint64_t now_us,
                     struct transfer_actions *acts)
{
    struct newcomer *n = newcomer_find(d, from);
    if (n != NULL) newcomer_remove(d, n, now_us);
    newcomer_end_idle(d, now_us);
    uint64_t wait_us = backlog_us(d, now_us);
    bool room = d->newcomer_count < d->config.newcomer_max && wait_us <= BACKLOG_MAX_US;
    struct snapshot *s = room ? snapshot_for_newcomer(d, progress, now_us) : NULL;
    if (s == NULL) {
        say_busy(d, from, wait_us > BUSY_MIN_US ? wait_us : BUSY_MIN_US, acts);
        return;
    }
    s->users++;
    d->newcomer[d->newcomer_count++] =
        (struct newcomer){.id = from,
                          .snapshot = s,
                          .word_us = now_us,
                          .asked = mem_new(d->config.queue_max, sizeof(uint32_t))};
    struct state_msg *offer = transfer_send(acts, from, STATE_OFFER);
    offer->snapshot = s->id;
    offer->size = d->grid.size;
    offer->chunk_size = d->grid.chunk_size;
    offer->progress = s->progress;
}

static int take_get(struct donor *d, node_id from, const struct state_msg *m, const float *x, uint64_t now_us,
                    struct transfer_actions *acts)
{
    if (m->snapshot == 0 || m->count == 0 || m->count > d->config.queue_max) return ERR_PROTO;
    if (m->first >= d->grid.count || m->count > d->grid.count - m->first) return ERR_PROTO;
    struct newcomer *n = newcomer_find(d, from);
    if (n == NULL || n->snapshot->id != m->snapshot) {
        transfer_send(acts, from, STATE_GONE)->snapshot = m->snapshot;
        return 0;
    }
    if (n->asked_count + m->count > d->config.queue_max) return ERR_PROTO;
    for (uint64_t i = 0; i < m->count; i++)
        if (newcomer_waits_for(n, m->first + i)) return ERR_PROTO;
    for (uint64_t i = 0; i < m->count; i++) n->asked[n->asked_count++] = (uint32_t)(m->first + i);
    n->word_us = now_us;
    pump(d, x, now_us, acts);
    return 0;
}

static void take_done(struct donor *d, node_id from, uint64_t now_us)
{
    struct newcomer *n = newcomer_find(d, from);
    if (n != NULL) newcomer_remove(d, n, now_us);
}

int donor_message(struct donor *d, node_id from, const struct state_msg *msg, const float *x,
                  uint64_t progress, uint64_t now_us, struct transfer_actions *acts)
{
    if (!state_msg_is_plain(msg)) return ERR_PROTO;
    switch (msg->kind) {
    case STATE_ASK:
        take_ask(d, from, progress, now_us, acts);
        return 0;
    case STATE_GET:
        return take_get(d, from, msg, x, now_us, acts);
    case STATE_DONE:
        take_done(d, from, now_us);
        return 0;
    case STATE_OFFER:
    case STATE_CHUNK:
    case STATE_BUSY:
    case STATE_GONE:
        return ERR_PROTO; /* these go to newcomers */
    }
    UNREACHABLE();
}

/* -- time -------------------------------------------------------------------------------------- */

void donor_link_down(struct donor *d, node_id id)
{
    struct newcomer *n = newcomer_find(d, id);
    if (n != NULL) newcomer_remove(d, n, n->word_us);
}

void donor_deadline(struct donor *d, const float *x, uint64_t now_us, struct transfer_actions *acts)
{
    newcomer_end_idle(d, now_us);
    for (uint32_t i = 0; i < SNAPSHOT_COUNT; i++) {
        struct snapshot *s = &d->snapshot[i];
        if (s->id != 0 && s->users == 0 && now_us >= time_after(s->unused_us, d->config.snapshot_us))
            snapshot_drop(s);
    }
    pump(d, x, now_us, acts);
}

uint64_t donor_deadline_us(const struct donor *d)
{
    uint64_t first_us = TIME_NEVER;
    for (uint32_t i = 0; i < d->newcomer_count; i++) {
        const struct newcomer *n = &d->newcomer[i];
        uint64_t at_us = newcomer_end_us(d, n);
        if (!n->blocked && n->asked_count > 0 && d->paid_us < at_us) at_us = d->paid_us;
        if (at_us < first_us) first_us = at_us;
    }
    for (uint32_t i = 0; i < SNAPSHOT_COUNT; i++) {
        const struct snapshot *s = &d->snapshot[i];
        uint64_t at_us =
            s->id != 0 && s->users == 0 ? time_after(s->unused_us, d->config.snapshot_us) : TIME_NEVER;
        if (at_us < first_us) first_us = at_us;
    }
    return first_us;
}

/* -- looking ----------------------------------------------------------------------------------- */

uint64_t donor_bytes_given(const struct donor *d)
{
    return d->bytes_given;
}

bool donor_serves(const struct donor *d, node_id id)
{
    for (uint32_t i = 0; i < d->newcomer_count; i++)
        if (d->newcomer[i].id == id) return true;
    return false;
}

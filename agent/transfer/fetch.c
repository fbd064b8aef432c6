/* The newcomer's side of transfer.h: what it hears, and time. Who is asked for what: transfer/giver.c. Pure.
 *
 * Normal course
 *  - an OFFER makes a donor GIVING; each of its chunks is checked, copied into place, and makes room for the next.
 * Failure courses
 *  - link down, silence, BUSY, GONE: the donor's chunks are missing again.
 *  - silent: it rests for silence_us, doubled each time up to 32 times; a word from it ends the rest.
 *  - after a rest ASK begins anew: donors forget what was asked before it.
 *  - a donor cuts its model in other pieces than the first one: it is told DONE and is of no use.
 *  - a second copy of a chunk: dropped.
 *  - a message that does not fit, a wrong hash, NaN or infinity: ERR_PROTO, nothing has changed. */
#include <stdlib.h>
#include <string.h>

#include "agent/transfer/giver.h"
#include "algo/vec.h"
#include "base/check.h"
#include "base/prng.h"

#define WAIT_MIN_US 10000u /* a donor is asked no more often */
#define STRIKE_MAX 5u      /* doublings of the rest of a silent donor */

struct fetch *fetch_new(const struct fetch_config *config)
{
    CHECK(config->dim > 0 && config->donor_max > 0 && config->silence_us > 0);
    CHECK(config->window > 0 && config->window <= TRANSFER_AHEAD_MAX);
    struct fetch *f = mem_new_zero(1, sizeof *f);
    f->config = *config;
    return f;
}

void fetch_free(struct fetch *f)
{
    if (f == NULL) return;
    for (uint32_t i = 0; i < f->giver_count; i++) free(f->giver[i].owed);
    free(f->giver);
    free(f->state);
    free(f);
}

/* -- donors ------------------------------------------------------------------------------------ */

static void giver_up(struct fetch *f, node_id id, bool keeper, uint64_t progress, uint64_t now_us,
                     struct transfer_actions *acts)
{
    if (f->done) return;
    struct giver *g = giver_find(f, id);
    if (g == NULL && f->giver_count == LINK_COUNT_MAX) return;
    if (g == NULL) {
        if (f->giver_count == f->giver_capacity) {
            f->giver_capacity = f->giver_capacity == 0 ? 8 : 2 * f->giver_capacity;
            f->giver = mem_resize(f->giver, f->giver_capacity, sizeof *f->giver);
        }
        struct prng p;
        prng_split(&p, f->config.seed, "donor", id);
        g = &f->giver[f->giver_count++];
        *g = (struct giver){.id = id, .lot = prng_next(&p)};
    }
    g->keeper = keeper;
    g->progress = progress;
    fetch_work(f, now_us, acts);
}

void fetch_donor_up(struct fetch *f, node_id id, uint64_t progress, uint64_t now_us,
                    struct transfer_actions *acts)
{
    giver_up(f, id, false, progress, now_us, acts);
}

void fetch_keeper_up(struct fetch *f, node_id id, uint64_t progress, uint64_t now_us,
                     struct transfer_actions *acts)
{
    giver_up(f, id, true, progress, now_us, acts);
}

void fetch_donor_down(struct fetch *f, node_id id, uint64_t now_us, struct transfer_actions *acts)
{
    struct giver *g = giver_find(f, id);
    if (g == NULL || f->done) return;
    giver_release(f, g);
    free(g->owed);
    uint32_t at = (uint32_t)(g - f->giver);
    memmove(g, g + 1, (f->giver_count - at - 1) * sizeof *g);
    f->giver_count--;
    fetch_work(f, now_us, acts);
}

/* -- messages ---------------------------------------------------------------------------------- */

/* A word from a donor that we took for silent, or that had us wait for an answer. */
static void giver_spoke(struct giver *g, uint64_t now_us)
{
    g->word_us = now_us;
    if (g->state == GIVER_RESTING && g->silent) g->state = GIVER_IDLE;
}

/* What to say of an answer that this fetch has not asked for. */
static int unasked(const struct fetch *f)
{
    return f->config.again ? 0 : ERR_PROTO;
}

static int take_offer(struct fetch *f, struct giver *g, const struct state_msg *m, uint64_t now_us,
                      struct transfer_actions *acts)
{
    struct chunk_grid grid;
    if (m->snapshot == 0 || m->size != f->config.dim * sizeof(float)) return ERR_PROTO;
    if (m->progress > NUMBER_TOP) return ERR_PROTO; /* we would count on from there */
    if (chunk_grid_set(&grid, (size_t)m->size, m->chunk_size) != 0) return ERR_PROTO;
    if (g->asks == 0) return unasked(f);
    g->asks--;
    giver_spoke(g, now_us);
    if (f->grid.count == 0) {
        f->grid = grid;
        f->state = mem_new_zero(grid.count, 1);
    }
    if (grid.chunk_size != f->grid.chunk_size) {
        giver_release(f, g);
        g->state = GIVER_USELESS;
        transfer_send(acts, g->id, STATE_DONE)->snapshot = m->snapshot;
        return 0;
    }
    if (g->owed == NULL) g->owed = mem_new_zero(grid.count, 1);
    if (m->snapshot != g->snapshot) {
        giver_release(f, g);
        g->previous = g->snapshot;
        g->snapshot = m->snapshot;
    }
    g->offered = m->progress;
    if (g->state == GIVER_ASKED || (g->state == GIVER_IDLE && giver_active_count(f) < f->config.donor_max))
        g->state = GIVER_GIVING;
    return 0;
}

static int take_busy(struct fetch *f, struct giver *g, const struct state_msg *m, uint64_t now_us)
{
    if (g->asks == 0) return unasked(f);
    g->asks--;
    if (g->state == GIVER_USELESS) return 0;
    uint64_t wait_us = m->wait_us < WAIT_MIN_US ? WAIT_MIN_US : m->wait_us;
    if (wait_us > TRANSFER_WAIT_MAX_US) wait_us = TRANSFER_WAIT_MAX_US;
    giver_rest(f, g, false, time_after(now_us, wait_us));
    return 0;
}

static int take_gone(struct fetch *f, struct giver *g, const struct state_msg *m, uint64_t now_us)
{
    if (m->snapshot == 0) return ERR_PROTO;
    if (m->snapshot != g->snapshot && m->snapshot != g->previous) return unasked(f);
    giver_spoke(g, now_us);
    if (g->state != GIVER_GIVING || m->snapshot != g->snapshot) return 0;
    giver_release(f, g);
    g->state = GIVER_IDLE;
    return 0;
}

static bool chunk_is_asked(const struct fetch *f, const struct giver *g, const struct state_msg *m)
{
    if (m->snapshot == 0 || (m->snapshot != g->snapshot && m->snapshot != g->previous)) return false;
    return g->owed != NULL && m->first < f->grid.count && g->owed[m->first] > 0;
}

static int check_chunk(const struct fetch *f, const struct state_msg *m)
{
    uint32_t chunk = (uint32_t)m->first;
    if (m->body == NULL || m->body->size != chunk_grid_bytes(&f->grid, chunk)) return ERR_PROTO;
    if (f->state[chunk] == THERE) return 0; /* a second copy is only counted */
    if (chunk_hash(m->body, m->snapshot, chunk) != m->hash) return ERR_PROTO;
    return vec_finite(m->body->size / sizeof(float), blob_floats(m->body)) ? 0 : ERR_PROTO;
}

static void giver_measure(struct giver *g, uint32_t chunk, uint64_t now_us)
{
    for (uint32_t i = 0; i < g->ahead_count; i++) {
        if (g->ahead[i].chunk != chunk) continue;
        uint64_t from_us = g->ahead[i].asked_us > g->arrived_us ? g->ahead[i].asked_us : g->arrived_us;
        uint64_t taken_us = now_us - from_us + 1;
        g->pace_us = g->pace_us == 0 ? taken_us : (3 * g->pace_us + taken_us) / 4;
    }
    g->arrived_us = now_us;
}

static int take_chunk(struct fetch *f, struct giver *g, const struct state_msg *m, uint64_t now_us)
{
    if (!chunk_is_asked(f, g, m)) return unasked(f);
    int err = check_chunk(f, m);
    if (err != 0) return err;
    uint32_t chunk = (uint32_t)m->first;
    g->owed[chunk]--;
    g->strikes = 0;
    giver_spoke(g, now_us);
    giver_measure(g, chunk, now_us);
    giver_unqueue(f, g, chunk);
    if (f->state[chunk] == THERE) return 0;
    memcpy((uint8_t *)f->config.x + chunk_grid_offset(&f->grid, chunk), m->body->data, m->body->size);
    f->state[chunk] = THERE;
    f->there++;
    if (g->offered > f->steps) f->steps = g->offered;
    return 0;
}

/* All is in place: whoever was asked may forget us. */
static void finish(struct fetch *f, struct transfer_actions *acts)
{
    f->done = true;
    for (uint32_t i = 0; i < f->giver_count; i++) {
        const struct giver *g = &f->giver[i];
        if (g->snapshot != 0 || g->asks > 0) transfer_send(acts, g->id, STATE_DONE)->snapshot = g->snapshot;
    }
    transfer_finish(acts);
}

int fetch_message(struct fetch *f, node_id from, const struct state_msg *msg, uint64_t now_us,
                  struct transfer_actions *acts)
{
    struct giver *g = giver_find(f, from);
    if (!state_msg_is_plain(msg)) return ERR_PROTO;
    if (g == NULL) return unasked(f);
    int err = ERR_PROTO;
    switch (msg->kind) {
    case STATE_OFFER:
        err = take_offer(f, g, msg, now_us, acts);
        break;
    case STATE_CHUNK:
        err = take_chunk(f, g, msg, now_us);
        break;
    case STATE_BUSY:
        err = take_busy(f, g, msg, now_us);
        break;
    case STATE_GONE:
        err = take_gone(f, g, msg, now_us);
        break;
    case STATE_ASK:
    case STATE_GET:
    case STATE_DONE:
        break; /* these go to donors */
    }
    if (err != 0 || f->done) return err;
    if (f->grid.count > 0 && f->there == f->grid.count)
        finish(f, acts);
    else
        fetch_work(f, now_us, acts);
    return 0;
}

/* -- time -------------------------------------------------------------------------------------- */

static bool giver_awaited(const struct giver *g)
{
    return g->state == GIVER_ASKED || (g->state == GIVER_GIVING && g->ahead_count > 0);
}

void fetch_deadline(struct fetch *f, uint64_t now_us, struct transfer_actions *acts)
{
    if (f->done) return;
    for (uint32_t i = 0; i < f->giver_count; i++) {
        struct giver *g = &f->giver[i];
        if (g->state == GIVER_RESTING && now_us >= g->until_us) g->state = GIVER_IDLE;
        if (!giver_awaited(g) || now_us < time_after(g->word_us, f->config.silence_us)) continue;
        giver_rest(f, g, true, time_after(now_us, f->config.silence_us << g->strikes));
        if (g->strikes < STRIKE_MAX) g->strikes++;
    }
    fetch_work(f, now_us, acts);
}

uint64_t fetch_deadline_us(const struct fetch *f)
{
    uint64_t first_us = TIME_NEVER;
    if (f->done) return first_us;
    for (uint32_t i = 0; i < f->giver_count; i++) {
        const struct giver *g = &f->giver[i];
        uint64_t at_us = TIME_NEVER;
        if (g->state == GIVER_RESTING) at_us = g->until_us;
        if (giver_awaited(g)) at_us = time_after(g->word_us, f->config.silence_us);
        uint64_t second_us = giver_second_ask_us(f, g);
        if (second_us < at_us) at_us = second_us;
        if (at_us < first_us) first_us = at_us;
    }
    return first_us;
}

/* -- looking ----------------------------------------------------------------------------------- */

bool fetch_done(const struct fetch *f)
{
    return f->done;
}

bool fetch_awaits(const struct fetch *f, node_id id)
{
    const struct giver *g = giver_find(f, id);
    bool awaits = g != NULL && g->asks > 0;
    for (uint32_t i = 0; g != NULL && g->owed != NULL && i < f->grid.count; i++) awaits |= g->owed[i] > 0;
    return awaits;
}

void fetch_progress(const struct fetch *f, uint64_t *chunks, uint64_t *of, uint32_t *donors)
{
    *chunks = f->there;
    *of = f->grid.count;
    *donors = 0;
    for (uint32_t i = 0; i < f->giver_count; i++) *donors += f->giver[i].state == GIVER_GIVING;
}

uint64_t fetch_steps(const struct fetch *f)
{
    return f->steps;
}

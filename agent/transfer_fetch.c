/* The newcomer's side of transfer.h. Pure.
 *
 * A donor is IDLE, ASKED, GIVING, RESTING (busy or silent until a time) or USELESS (it cuts its model otherwise).
 * `ahead` is what we wait for from it: at most `window` chunks. `owed` remembers beyond that how often it was asked
 * for each chunk and has not sent it, so that a chunk that comes late, after we gave up on it, is welcome,
 * while one that was never asked for breaks the protocol.
 *
 * Normal course
 *  - the donors that are not far behind come first, in an order drawn from the seed, so that newcomers spread.
 *  - an OFFER makes a donor GIVING; each of its chunks that arrives makes room for the next GET.
 *  - once no chunk is left to ask for, who has nothing to do is asked for the one that others owe longest, if
 *    that takes them long by its own pace.
 * Failure courses
 *  - link down, silence, BUSY, GONE: the donor's chunks are missing again and the others ask for them at once.
 *  - silent: it rests for silence_us, doubled each time up to 32 times; a word from it ends the rest.
 *  - after a rest ASK begins anew: donors forget what was asked before it.
 *  - a donor cuts its model in other pieces than the first one: it is told DONE and not asked again, unless such
 *    donors alone are left; then all begins again in their pieces.
 *  - a second copy of a chunk: dropped.
 *  - a message that does not fit, a wrong hash, NaN or infinity: ERR_PROTO, nothing has changed. */
#include <stdlib.h>
#include <string.h>

#include "agent/transfer_internal.h"
#include "algo/vec.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/prng.h"

#define WAIT_MIN_US 10000u       /* a donor is asked no more often */
#define STRIKE_MAX 5u            /* doublings of the rest of a silent donor */
#define SECOND_ASK_MIN_US 20000u /* a chunk is asked of a second donor no sooner */
#define THERE UINT8_MAX

enum giver_state { GIVER_IDLE, GIVER_ASKED, GIVER_GIVING, GIVER_RESTING, GIVER_USELESS };

struct ahead {
    uint32_t chunk;
    uint64_t asked_us;
};

struct giver {
    node_id id;
    uint64_t progress; /* as the owner knows it, then as offered */
    uint64_t lot;      /* drawn: order among equals */
    enum giver_state state;
    bool silent;       /* RESTING: because of silence */
    uint32_t strikes;  /* silences since the last chunk */
    uint32_t asks;     /* not answered yet */
    uint64_t until_us; /* RESTING */
    uint64_t
        word_us; /* since when we wait for a word: its last one, or what we asked when nothing was open */
    uint64_t snapshot;   /* 0 = none */
    uint64_t previous;   /* the one before: chunks of it may be under way */
    uint8_t *owed;       /* (grid.count), NULL before the first OFFER */
    uint64_t pace_us;    /* of one chunk, exponential mean; 0 = unknown */
    uint64_t arrived_us; /* its last chunk */
    uint32_t ahead_count;
    struct ahead ahead[TRANSFER_AHEAD_MAX];
};

struct fetch {
    struct fetch_config config;
    struct chunk_grid grid; /* count 0 = not known yet */
    uint8_t *state;         /* (grid.count) THERE, or how many donors have it ahead */
    uint32_t there;
    uint32_t cursor; /* no chunk below it is missing and unasked */
    struct giver *giver;
    uint32_t giver_count, giver_capacity;
    uint64_t steps;
    bool done;
};

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

/* -- chunks ------------------------------------------------------------------------------------ */

/* What g has ahead is missing again, unless another has it ahead too. */
static void giver_release(struct fetch *f, struct giver *g)
{
    for (uint32_t i = 0; i < g->ahead_count; i++) {
        uint32_t chunk = g->ahead[i].chunk;
        if (f->state[chunk] == THERE) continue;
        CHECK(f->state[chunk] > 0);
        if (--f->state[chunk] == 0 && chunk < f->cursor) f->cursor = chunk;
    }
    g->ahead_count = 0;
}

static void giver_unqueue(struct fetch *f, struct giver *g, uint32_t chunk)
{
    for (uint32_t i = 0; i < g->ahead_count; i++) {
        if (g->ahead[i].chunk != chunk) continue;
        memmove(&g->ahead[i], &g->ahead[i + 1], (g->ahead_count - i - 1) * sizeof *g->ahead);
        g->ahead_count--;
        if (f->state[chunk] != THERE) f->state[chunk]--;
        return;
    }
}

static void giver_queue(struct fetch *f, struct giver *g, uint32_t chunk, uint64_t now_us)
{
    CHECK(g->ahead_count < f->config.window && f->state[chunk] < THERE - 1);
    if (g->ahead_count == 0) g->word_us = now_us;
    g->ahead[g->ahead_count++] = (struct ahead){chunk, now_us};
    if (g->owed[chunk] < UINT8_MAX) g->owed[chunk]++;
    f->state[chunk]++;
}

/* Fills the window of g with chunks that nobody was asked for, runs of them in one GET. */
static void giver_fill(struct fetch *f, struct giver *g, uint64_t now_us, struct transfer_actions *acts)
{
    struct state_msg *get = NULL;
    while (g->ahead_count < f->config.window) {
        while (f->cursor < f->grid.count && f->state[f->cursor] != 0) f->cursor++;
        if (f->cursor == f->grid.count) return;
        uint32_t chunk = f->cursor++;
        giver_queue(f, g, chunk, now_us);
        if (get == NULL || get->first + get->count != chunk) {
            get = transfer_send(acts, g->id, STATE_GET);
            get->snapshot = g->snapshot;
            get->first = chunk;
        }
        get->count++;
    }
}

/* -- the last chunks --------------------------------------------------------------------------- */

/* How long others may owe a chunk before g, which has nothing to do, is asked for it too. */
static uint64_t second_ask_after_us(const struct fetch *f, const struct giver *g)
{
    if (g->pace_us == 0) return f->config.silence_us / 4;
    uint64_t wait_us = 2 * f->config.window * g->pace_us;
    return wait_us > SECOND_ASK_MIN_US ? wait_us : SECOND_ASK_MIN_US;
}

/* The chunk that one donor alone has ahead, for the longest time; NULL = none. */
static const struct ahead *slowest_chunk(const struct fetch *f)
{
    const struct ahead *oldest = NULL;
    for (uint32_t i = 0; i < f->giver_count; i++)
        for (uint32_t k = 0; k < f->giver[i].ahead_count; k++) {
            const struct ahead *a = &f->giver[i].ahead[k];
            if (f->state[a->chunk] != 1) continue;
            if (oldest == NULL || a->asked_us < oldest->asked_us ||
                (a->asked_us == oldest->asked_us && a->chunk < oldest->chunk))
                oldest = a;
        }
    return oldest;
}

static bool giver_has_nothing_to_do(const struct fetch *f, const struct giver *g)
{
    return g->state == GIVER_GIVING && g->ahead_count == 0 && f->cursor == f->grid.count;
}

static void ask_second(struct fetch *f, uint64_t now_us, struct transfer_actions *acts)
{
    for (uint32_t i = 0; i < f->giver_count; i++) {
        struct giver *g = &f->giver[i];
        const struct ahead *a = giver_has_nothing_to_do(f, g) ? slowest_chunk(f) : NULL;
        if (a == NULL || now_us < time_after(a->asked_us, second_ask_after_us(f, g))) continue;
        struct state_msg *get = transfer_send(acts, g->id, STATE_GET);
        get->snapshot = g->snapshot;
        get->first = a->chunk;
        get->count = 1;
        giver_queue(f, g, a->chunk, now_us);
    }
}

/* -- donors ------------------------------------------------------------------------------------ */

static struct giver *giver_find(struct fetch *f, node_id id)
{
    for (uint32_t i = 0; i < f->giver_count; i++)
        if (f->giver[i].id == id) return &f->giver[i];
    return NULL;
}

static uint32_t active_count(const struct fetch *f)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->giver_count; i++)
        count += f->giver[i].state == GIVER_ASKED || f->giver[i].state == GIVER_GIVING;
    return count;
}

/* Whether a is to be asked before b: first those that have done at least half of what the best one has. */
static bool giver_before(const struct giver *a, const struct giver *b, uint64_t best)
{
    bool a_behind = a->progress < best / 2, b_behind = b->progress < best / 2;
    if (a_behind != b_behind) return b_behind;
    return a->lot != b->lot ? a->lot < b->lot : a->id < b->id;
}

static struct giver *giver_choose(struct fetch *f)
{
    uint64_t best = 0;
    struct giver *chosen = NULL;
    for (uint32_t i = 0; i < f->giver_count; i++)
        if (f->giver[i].progress > best) best = f->giver[i].progress;
    for (uint32_t i = 0; i < f->giver_count; i++) {
        struct giver *g = &f->giver[i];
        if (g->state == GIVER_IDLE && (chosen == NULL || giver_before(g, chosen, best))) chosen = g;
    }
    return chosen;
}

/* When only donors are left that cut their model otherwise, we begin again, their way: better than waiting. */
static void change_grid_if_alone(struct fetch *f)
{
    uint32_t useless = 0;
    for (uint32_t i = 0; i < f->giver_count; i++) useless += f->giver[i].state == GIVER_USELESS;
    if (useless == 0 || useless < f->giver_count) return;
    for (uint32_t i = 0; i < f->giver_count; i++) {
        f->giver[i].state = GIVER_IDLE;
        free(f->giver[i].owed);
        f->giver[i].owed = NULL;
    }
    free(f->state);
    f->state = NULL;
    f->grid.count = f->there = f->cursor = 0;
    f->steps = 0;
}

/* Asks, gets and steals whatever may be asked now. After every change. */
static void work(struct fetch *f, uint64_t now_us, struct transfer_actions *acts)
{
    change_grid_if_alone(f);
    for (uint32_t active = active_count(f); active < f->config.donor_max; active++) {
        struct giver *g = giver_choose(f);
        if (g == NULL) break;
        g->state = GIVER_ASKED;
        g->word_us = now_us;
        g->asks++;
        transfer_send(acts, g->id, STATE_ASK);
    }
    for (uint32_t i = 0; i < f->giver_count; i++)
        if (f->giver[i].state == GIVER_GIVING) giver_fill(f, &f->giver[i], now_us, acts);
    ask_second(f, now_us, acts);
}

static void giver_rest(struct fetch *f, struct giver *g, bool silent, uint64_t until_us)
{
    giver_release(f, g);
    g->state = GIVER_RESTING;
    g->silent = silent;
    g->until_us = until_us;
}

void fetch_donor_up(struct fetch *f, node_id id, uint64_t progress, uint64_t now_us,
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
    g->progress = progress;
    work(f, now_us, acts);
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
    work(f, now_us, acts);
}

/* -- messages ---------------------------------------------------------------------------------- */

/* A word from a donor that we took for silent, or that had us wait for an answer. */
static void giver_spoke(struct giver *g, uint64_t now_us)
{
    g->word_us = now_us;
    if (g->state == GIVER_RESTING && g->silent) g->state = GIVER_IDLE;
}

static int take_offer(struct fetch *f, struct giver *g, const struct state_msg *m, uint64_t now_us,
                      struct transfer_actions *acts)
{
    struct chunk_grid grid;
    if (g->asks == 0 || m->snapshot == 0 || m->size != f->config.dim * sizeof(float)) return ERR_PROTO;
    if (chunk_grid_set(&grid, (size_t)m->size, m->chunk_size) != 0) return ERR_PROTO;
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
    g->progress = m->progress;
    if (g->state == GIVER_ASKED || (g->state == GIVER_IDLE && active_count(f) < f->config.donor_max))
        g->state = GIVER_GIVING;
    return 0;
}

static int take_busy(struct fetch *f, struct giver *g, const struct state_msg *m, uint64_t now_us)
{
    if (g->asks == 0) return ERR_PROTO;
    g->asks--;
    if (g->state == GIVER_USELESS) return 0;
    uint64_t wait_us = m->wait_us < WAIT_MIN_US ? WAIT_MIN_US : m->wait_us;
    if (wait_us > TRANSFER_WAIT_MAX_US) wait_us = TRANSFER_WAIT_MAX_US;
    giver_rest(f, g, false, time_after(now_us, wait_us));
    return 0;
}

static int take_gone(struct fetch *f, struct giver *g, const struct state_msg *m, uint64_t now_us)
{
    if (m->snapshot == 0 || (m->snapshot != g->snapshot && m->snapshot != g->previous)) return ERR_PROTO;
    giver_spoke(g, now_us);
    if (g->state != GIVER_GIVING || m->snapshot != g->snapshot) return 0;
    giver_release(f, g);
    g->state = GIVER_IDLE;
    return 0;
}

static int check_chunk(const struct fetch *f, const struct giver *g, const struct state_msg *m)
{
    if (m->snapshot == 0 || (m->snapshot != g->snapshot && m->snapshot != g->previous)) return ERR_PROTO;
    if (g->owed == NULL || m->first >= f->grid.count || m->body == NULL) return ERR_PROTO;
    uint32_t chunk = (uint32_t)m->first;
    if (g->owed[chunk] == 0 || m->body->size != chunk_grid_bytes(&f->grid, chunk)) return ERR_PROTO;
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
    int err = check_chunk(f, g, m);
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
    if (g->progress > f->steps) f->steps = g->progress;
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
    if (g == NULL || !state_msg_is_plain(msg)) return ERR_PROTO;
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
        work(f, now_us, acts);
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
    work(f, now_us, acts);
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
        const struct ahead *a = giver_has_nothing_to_do(f, g) ? slowest_chunk(f) : NULL;
        if (a != NULL) at_us = time_after(a->asked_us, second_ask_after_us(f, g));
        if (at_us < first_us) first_us = at_us;
    }
    return first_us;
}

/* -- looking ----------------------------------------------------------------------------------- */

bool fetch_done(const struct fetch *f)
{
    return f->done;
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

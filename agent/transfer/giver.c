/* Who is asked for what, see transfer/giver.h. Pure.
 *
 * Normal course
 *  - the donors that are not far behind come first, in an order drawn from the seed, so that newcomers spread.
 *  - a donor that gives has its window filled with chunks that nobody was asked for, runs of them in one GET.
 *  - once none is left, who has nothing to do is asked for the one that another owes longest, if that takes long
 *    by its own pace.
 * Failure courses
 *  - a donor gives no more: its chunks are missing again and the others are asked for them at once.
 *  - only donors are left that cut their model otherwise: all begins again in their pieces. */
#include "agent/transfer/giver.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define SECOND_ASK_MIN_US 20000u /* a chunk is asked of a second donor no sooner */

/* -- chunks ------------------------------------------------------------------------------------ */

void giver_release(struct fetch *f, struct giver *g)
{
    for (uint32_t i = 0; i < g->ahead_count; i++) {
        uint32_t chunk = g->ahead[i].chunk;
        if (f->state[chunk] == THERE) continue;
        CHECK(f->state[chunk] > 0);
        if (--f->state[chunk] == 0 && chunk < f->cursor) f->cursor = chunk;
    }
    g->ahead_count = 0;
}

void giver_unqueue(struct fetch *f, struct giver *g, uint32_t chunk)
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

uint64_t giver_second_ask_us(const struct fetch *f, const struct giver *g)
{
    const struct ahead *a = giver_has_nothing_to_do(f, g) ? slowest_chunk(f) : NULL;
    return a != NULL ? time_after(a->asked_us, second_ask_after_us(f, g)) : TIME_NEVER;
}

static void ask_second(struct fetch *f, uint64_t now_us, struct transfer_actions *acts)
{
    for (uint32_t i = 0; i < f->giver_count; i++) {
        struct giver *g = &f->giver[i];
        if (now_us < giver_second_ask_us(f, g)) continue;
        uint32_t chunk = slowest_chunk(f)->chunk;
        struct state_msg *get = transfer_send(acts, g->id, STATE_GET);
        get->snapshot = g->snapshot;
        get->first = chunk;
        get->count = 1;
        giver_queue(f, g, chunk, now_us);
    }
}

/* -- donors ------------------------------------------------------------------------------------ */

struct giver *giver_find(const struct fetch *f, node_id id)
{
    for (uint32_t i = 0; i < f->giver_count; i++)
        if (f->giver[i].id == id) return &f->giver[i];
    return NULL;
}

uint32_t giver_active_count(const struct fetch *f)
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

/* A keeper is asked only while nobody who trains can be; of keepers, those with most progress. */
static bool keeper_gives_way(const struct fetch *f, const struct giver *keeper)
{
    for (uint32_t i = 0; i < f->giver_count; i++) {
        const struct giver *g = &f->giver[i];
        bool usable = g->state == GIVER_IDLE || g->state == GIVER_ASKED || g->state == GIVER_GIVING;
        if (usable && (!g->keeper || g->progress > keeper->progress)) return true;
    }
    return false;
}

static struct giver *giver_choose(struct fetch *f)
{
    uint64_t best = 0;
    struct giver *chosen = NULL;
    for (uint32_t i = 0; i < f->giver_count; i++)
        if (f->giver[i].progress > best) best = f->giver[i].progress;
    for (uint32_t i = 0; i < f->giver_count; i++) {
        struct giver *g = &f->giver[i];
        if (g->state != GIVER_IDLE || (g->keeper && keeper_gives_way(f, g))) continue;
        if (chosen == NULL || giver_before(g, chosen, best)) chosen = g;
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

void fetch_work(struct fetch *f, uint64_t now_us, struct transfer_actions *acts)
{
    change_grid_if_alone(f);
    for (uint32_t active = giver_active_count(f); active < f->config.donor_max; active++) {
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

void giver_rest(struct fetch *f, struct giver *g, bool silent, uint64_t until_us)
{
    giver_release(f, g);
    g->state = GIVER_RESTING;
    g->silent = silent;
    g->until_us = until_us;
}

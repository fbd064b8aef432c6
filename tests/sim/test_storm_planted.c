/* Goal: the storm's checkers have power: each planted bug is found within 50 seeds.
 * Method: mutants tamper with the nodes' state from outside, between events, as the bug would have left it.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/storm.h"

enum { SEEDS_MAX = 50, VICTIM = 5 };

static float *floats(const struct blob *b)
{
    return (float *)(void *)b->data;
}

static bool touched(const struct storm *s, rank_t v)
{
    return (s->touched >> v & 1) != 0 && storm_digest(s, v) != NULL;
}

/* True when node v has synced with a token since the last call; memory is one of s->mutant_memory. */
static bool has_synced(struct storm *s, rank_t v, uint64_t *memory)
{
    uint64_t sequences = 0;
    const struct digest *d = storm_digest(s, v);
    for (uint32_t i = 0; i < d->own_count; i++) sequences += d->own[i].custody.last.sequence;
    bool news = sequences > *memory;
    *memory = sequences;
    return news;
}

/* -- updates applied twice --------------------------------------------------------------------- */

/* Reference and snapshot stay at the start although the progress was handed over. */
static void forget_the_sync(struct storm *s)
{
    if (!touched(s, VICTIM) || !has_synced(s, VICTIM, &s->mutant_memory[0])) return;
    struct digest *d = storm_digest(s, VICTIM);
    struct blob *start = blob_new(d->reference->size);
    memset(start->data, 0, start->size);
    blob_unref(d->own[0].snapshot);
    d->own[0].snapshot = blob_ref(start);
    blob_unref(d->reference);
    d->reference = start;
}

/* One local step is added twice. */
static void train_twice(struct storm *s)
{
    if (!touched(s, VICTIM) || !s->training_ended) return;
    storm_digest(s, VICTIM)->x[VICTIM] += 1;
}

/* A node in two streams forgets that it has told one of them the news of the other. */
static void tell_news_twice(struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++) {
        if (!touched(s, v) || storm_digest(s, v)->own_count < 2) continue;
        struct membership *m = &storm_digest(s, v)->own[0];
        if (m->custody.place != CUSTODY_AWAY || m->custody.last.sequence == 0) continue;
        struct blob *base = blob_new(m->snapshot->size);
        memset(base->data, 0, base->size);
        blob_unref(m->snapshot);
        m->snapshot = base;
    }
}

/* -- tokens ------------------------------------------------------------------------------------ */

/* What was handed over is kept and goes on a tour of its own. */
static void keep_what_was_given(struct storm *s)
{
    if (!touched(s, VICTIM)) return;
    struct digest *d = storm_digest(s, VICTIM);
    struct membership *m = &d->own[0];
    if (m->custody.place != CUSTODY_AWAY || m->custody.last.sequence == 0) return;
    m->custody.place = CUSTODY_HELD;
    digest_token_park(d, m);
}

/* The token of one hand-over vanishes and nobody looks for it. */
static void lose_and_do_not_search(struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++) {
        if (!touched(s, v)) continue;
        struct digest *d = storm_digest(s, v);
        for (uint32_t i = 0; i < d->own_count; i++) {
            d->own[i].custody.lost_us = d->own[i].custody.give_up_us = TIME_NEVER;
            if (v == VICTIM && d->own[i].custody.place == CUSTODY_HELD)
                d->own[i].custody.place = CUSTODY_AWAY;
        }
    }
}

/* A node forgets the fence: it lets tokens in that were replaced. */
static void forget_the_fence(struct storm *s)
{
    if (!touched(s, VICTIM)) return;
    struct custody *c = &storm_digest(s, VICTIM)->own[0].custody;
    c->known = (struct token_stamp){0, 0, 0};
}

/* -- work and parameters ----------------------------------------------------------------------- */

/* Progress that a message interrupted is dropped. */
static void drop_progress(struct storm *s)
{
    if (!touched(s, VICTIM) || !s->training_ended || s->healed_us == TIME_NEVER) return;
    struct digest *d = storm_digest(s, VICTIM);
    memcpy(d->x, d->reference->data, d->reference->size);
}

static void spoil_a_parameter(struct storm *s)
{
    if (!touched(s, VICTIM) || simulation_now_us(s->sim) < 10 * STORM_SECOND) return;
    floats(storm_digest(s, VICTIM)->reference)[3] = INFINITY;
}

/* -- tests ------------------------------------------------------------------------------------- */

static const char single[] = "digest:streams=single,sync_every=10,reweigh=no";
static const char path[] = "digest:streams=path,sync_every=10,reweigh=no";

static const struct mutant mutants[] = {
    {"forget the sync", single, forget_the_sync, false, false},
    {"forget the sync, many streams", path, forget_the_sync, false, false},
    {"train twice", single, train_twice, false, false},
    {"tell news twice", path, tell_news_twice, false, false},
    {"keep what was given", single, keep_what_was_given, false, false},
    {"lose and do not search", single, lose_and_do_not_search, false, false},
    {"forget the fence", single, forget_the_fence, false, false},
    {"drop progress", path, drop_progress, false, false},
    {"spoil a parameter", single, spoil_a_parameter, false, false},
    {"never heal a link", NULL, NULL, true, false},
};

static void every_planted_bug_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        struct err_text why = {""};
        uint64_t seed = 1;
        const struct storm_plan plan = {.mutant = &mutants[i]};
        while (seed <= SEEDS_MAX && storm_run(seed, &plan, NULL, &why)) seed++;
        if (seed > SEEDS_MAX) fail_msg("\"%s\" lives through %d seeds", mutants[i].name, SEEDS_MAX);
        printf("%-30s found: %s\n", mutants[i].name, why.text);
    }
}

/* Without the bugs the same storms are weathered: it is the bugs that are found. */
static void the_same_storms_without_bugs_are_weathered(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        for (uint64_t seed = 1; seed <= 2; seed++) {
            struct err_text why = {""};
            const struct storm_plan plan = {.algorithm = mutants[i].algorithm};
            if (!storm_run(seed, &plan, NULL, &why)) fail_msg("%s", why.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_planted_bug_is_found),
        cmocka_unit_test(the_same_storms_without_bugs_are_weathered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

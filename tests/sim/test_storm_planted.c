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

#include "algo/async/internal.h"
#include "algo/def/internal.h"
#include "algo/delicoco/internal.h"
#include "tests/sim/storm.h"

enum { SEEDS_MAX = 150, VICTIM = 5 };

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
        struct stream_seat *m = &storm_digest(s, v)->own[0];
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
    struct stream_seat *m = &d->own[0];
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

/* What a token took is handed over once more, from time to time. */
static void owe_what_is_held(struct storm *s)
{
    if (!touched(s, VICTIM) || !has_synced(s, VICTIM, &s->mutant_memory[0])) return;
    struct digest *d = storm_digest(s, VICTIM);
    if (d->handover_count > 0 && ++s->mutant_memory[1] % 50 == 0) d->handover[0].owed = true;
}

/* A node does not tell what its aggregate holds: whoever begins anew from it hands over once more. */
static void claim_too_little(struct storm *s)
{
    if (!touched(s, VICTIM)) return;
    struct digest *d = storm_digest(s, VICTIM);
    for (uint32_t i = 0; i < d->plan.streams.count; i++) d->heard[i] /= 2;
}

/* The token made anew does not tell from which snapshot. */
static void forget_the_fork(struct storm *s)
{
    if (!touched(s, VICTIM)) return;
    struct digest *d = storm_digest(s, VICTIM);
    for (uint32_t i = 0; i < d->own_count; i++) d->own[i].fork.sequence = 0;
}

/* What a compressed token left behind is forgotten. */
static void forget_what_was_dropped(struct storm *s)
{
    if (!touched(s, VICTIM) || !has_synced(s, VICTIM, &s->mutant_memory[0])) return;
    struct stream_seat *m = &storm_digest(s, VICTIM)->own[0];
    blob_unref(m->snapshot);
    m->snapshot = blob_ref(storm_digest(s, VICTIM)->reference);
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

/* -- any method -------------------------------------------------------------------------------- */

static float *model_of(const struct storm *s, rank_t v)
{
    return (float *)(uintptr_t)node_model(simulation_node(s->sim, v));
}

/* At rest, node VICTIM adds what its trainer brought once more, or not at all. */
static void change_progress(struct storm *s, float by)
{
    if (!s->checkers.quiet || !s->drifting || !s->training_ended) return;
    if ((s->touched >> VICTIM & 1) != 0) model_of(s, VICTIM)[VICTIM] += by;
}

static void add_progress_twice(struct storm *s)
{
    change_progress(s, 1);
}

static void lose_progress(struct storm *s)
{
    change_progress(s, -1);
}

/* Once, in the burst: what a node had from another is gone. */
static void forget_a_mixing(struct storm *s)
{
    if (s->checkers.burst_counted[VICTIM] == 0 || s->mutant_memory[0] > 0) return;
    if ((s->touched >> VICTIM & 1) == 0) return;
    s->mutant_memory[0] = 1;
    model_of(s, VICTIM)[VICTIM + 1] = 0;
}

/* -- a holder ---------------------------------------------------------------------------------- */

static struct async *holder_touched(const struct storm *s)
{
    for (rank_t v = 0; v < STORM_NODES; v++) {
        struct node *n = simulation_node(s->sim, v);
        struct async *a = n != NULL && (s->touched >> v & 1) != 0 ? (struct async *)node_algo(n) : NULL;
        if (a != NULL && a->role == ASYNC_HOLDER) return a;
    }
    return NULL;
}

/* Once, in the burst: a gradient is applied once more. */
static void apply_twice(struct storm *s)
{
    struct async *a = holder_touched(s);
    if (a == NULL || s->checkers.burst_counted[VICTIM] == 0 || s->mutant_memory[0] > 0) return;
    s->mutant_memory[0] = 1;
    a->x[VICTIM] += 3;
}

/* The second holder begins without what was logged last. */
static void lose_the_log(struct storm *s)
{
    struct async *a = holder_touched(s);
    if (a == NULL) return;
    bool second = s->mutant_memory[0] > 0 && a->term != s->mutant_memory[0] && s->mutant_memory[1] == 0;
    if (second) a->x[VICTIM] -= 20;
    if (second) s->mutant_memory[1] = 1;
    s->mutant_memory[0] = a->term;
}

/* -- copies ------------------------------------------------------------------------------------ */

/* A receiver's copy is not quite the sender's. */
static void let_a_copy_drift(struct storm *s)
{
    if (!s->checkers.quiet || s->mutant_memory[0] > 0 || (s->touched >> VICTIM & 1) == 0) return;
    struct delicoco *d = (struct delicoco *)node_algo(simulation_node(s->sim, VICTIM));
    s->mutant_memory[0] = 1;
    d->peer[0].hat[3] += 0.01f;
}

/* EF21: what a worker takes the others to know of it is not what they know. */
static void let_what_is_known_drift(struct storm *s)
{
    if (!s->checkers.quiet || s->mutant_memory[0] > 0 || (s->touched >> VICTIM & 1) == 0) return;
    s->mutant_memory[0] = 1;
    ((struct def *)node_algo(simulation_node(s->sim, VICTIM)))->known->own[3] += 0.01f;
}

/* EF21: the mean that is kept is another one here. */
static void let_the_mean_drift(struct storm *s)
{
    if (!s->checkers.quiet || s->mutant_memory[0] > 0 || (s->touched >> VICTIM & 1) == 0) return;
    s->mutant_memory[0] = 1;
    ((struct def *)node_algo(simulation_node(s->sim, VICTIM)))->known->mean[3] += 0.01f;
}

/* -- tests ------------------------------------------------------------------------------------- */

static const char single[] = "digest:streams=single,sync_every=10,reweigh=no";
static const char path[] = "digest:streams=path,sync_every=10,reweigh=no";

static const struct mutant mutants[] = {
    {.name = "forget the sync", .algorithm = single, .tamper = forget_the_sync},
    {.name = "forget the sync, many streams", .algorithm = path, .tamper = forget_the_sync},
    {.name = "train twice", .algorithm = single, .tamper = train_twice},
    {.name = "tell news twice", .algorithm = path, .tamper = tell_news_twice},
    {.name = "keep what was given", .algorithm = single, .tamper = keep_what_was_given},
    {.name = "lose and do not search", .algorithm = single, .tamper = lose_and_do_not_search},
    {.name = "forget the fence", .algorithm = single, .tamper = forget_the_fence},
    {.name = "owe what is held", .algorithm = single, .tamper = owe_what_is_held},
    {.name = "claim too little", .algorithm = path, .tamper = claim_too_little},
    {.name = "forget the fork", .algorithm = single, .tamper = forget_the_fork},
    {.name = "drop progress", .algorithm = path, .tamper = drop_progress},
    {.name = "spoil a parameter", .algorithm = single, .tamper = spoil_a_parameter},
    {.name = "forget what was dropped",
     .algorithm = single,
     .compress = "topk:fraction=0.25",
     .tamper = forget_what_was_dropped},
    {.name = "never heal a link", .forgets_a_link = true},
    {.name = "a gradient applied twice", .algorithm = "async", .tamper = apply_twice},
    {.name = "a log lost", .algorithm = "async", .tamper = lose_the_log, .pillars = true},
    {.name = "a copy drifts", .algorithm = "choco:gamma=0.3", .tamper = let_a_copy_drift},
    {.name = "a lossy copy drifts",
     .algorithm = "delicoco:q=3,gamma=0.3",
     .compress = "topk:fraction=0.25",
     .tamper = let_a_copy_drift},
    {.name = "what is known drifts",
     .algorithm = "ef21",
     .compress = "block:fraction=0.25",
     .tamper = let_what_is_known_drift},
    {.name = "the mean known drifts",
     .algorithm = "ef21",
     .compress = "block:fraction=0.25",
     .tamper = let_the_mean_drift},
};

static void expect_found(const struct mutant *mutant)
{
    struct err_text why = {""};
    const struct storm_plan plan = {.mutant = mutant, .pillars = mutant->pillars};
    uint64_t seed = 1;
    while (seed <= SEEDS_MAX && storm_run(seed, &plan, NULL, &why)) seed++;
    if (seed > SEEDS_MAX)
        fail_msg("\"%s\" with %s lives through %d seeds", mutant->name, mutant->algorithm, SEEDS_MAX);
    printf("%-30s found: %s\n", mutant->name, why.text);
}

static void every_planted_bug_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) expect_found(&mutants[i]);
}

/* The bugs that any method may have, in each of them. */
static void work_lost_or_counted_twice_is_found_in_every_method(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*tamper)(struct storm *s);
    } bugs[] = {{"progress added twice", add_progress_twice},
                {"progress lost", lose_progress},
                {"a mixing forgotten", forget_a_mixing}};
    static const struct {
        const char *algorithm, *compress;
        bool carries; /* the model is what travels, so that to forget a mixing is nothing */
    } methods[] = {
        {"digest:streams=path,sync_every=10,reweigh=no", NULL, false},
        {"walk:steps=3", NULL, true},
        {"gossip:mode=async", NULL, false},
        {"gossip:mode=sync", NULL, false},
        {"local:every=7", NULL, false},
        {"dgd", NULL, false},
        {"allreduce:every=3", NULL, false},
        {"def", "block:fraction=0.25", false},
        {"ef21:every=2", NULL, false},
        {"hsgd:periods=10-5", NULL, false},
        {"choco:gamma=0.3", "topk:fraction=0.25", false},
        {"delicoco:q=3,gamma=0.3", "qsgd:bits=4", false},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        for (size_t k = 0; k < sizeof bugs / sizeof bugs[0]; k++) {
            const struct mutant mutant = {.name = bugs[k].name,
                                          .algorithm = methods[i].algorithm,
                                          .compress = methods[i].compress,
                                          .tamper = bugs[k].tamper};
            if (!methods[i].carries || bugs[k].tamper != forget_a_mixing) expect_found(&mutant);
        }
    }
}

/* Without the bugs the same storms are weathered: it is the bugs that are found. */
static void the_same_storms_without_bugs_are_weathered(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        for (uint64_t seed = 1; seed <= 2; seed++) {
            struct err_text why = {""};
            const struct storm_plan plan = {.algorithm = mutants[i].algorithm,
                                            .compress = mutants[i].compress,
                                            .pillars = mutants[i].pillars};
            if (!storm_run(seed, &plan, NULL, &why)) fail_msg("%s", why.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_planted_bug_is_found),
        cmocka_unit_test(work_lost_or_counted_twice_is_found_in_every_method),
        cmocka_unit_test(the_same_storms_without_bugs_are_weathered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

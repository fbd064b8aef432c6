/* Goal: whoever dies, stops or comes back, and whenever: everybody who has an average has the same one, over
 * all members or over those who were there, never a mix; and who comes back goes on from the group's model.
 * Method: a node is killed (killed and started again, stopped for a while) at every event of the first
 * averages of a run in virtual time. A recorder notes every model right before and right after every average;
 * a checker compares. Models count steps per node, so that every set of contributors has another mean.
 * Records that were tampered with must be caught. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/hsgd/internal.h"
#include "base/check.h"
#include "base/prng.h"
#include "tests/unit/algo_harness.h"

extern const struct algo_type hsgd_type;

enum { NODES = 6, LOWEST = 4, HIGHEST = 8, STEP_MAX = 400, EVENT_MAX = 20000 };

static const char *const params = "hsgd:periods=8-4,groups=2";
static const uint64_t patience_us = 400000;

struct note {
    bool any;
    float x[NODES];
};

struct recorder {
    struct note before[NODES][STEP_MAX], after[NODES][STEP_MAX];
    uint64_t event_us[EVENT_MAX]; /* time of every event */
    uint32_t event_count;
    rank_t victim; /* what it notes up to this step does not count: it may end a round in a view that the */
    uint32_t victim_until; /* others have left, before it hears of that and copies */
    const char *fault;     /* the first thing that was wrong */
};

static void record(void *ctx, struct harness *h, rank_t r, const struct algo_event *event)
{
    struct recorder *rec = ctx;
    (void)event;
    if (rec->event_count < EVENT_MAX) rec->event_us[rec->event_count++] = harness_now(h);
    const struct hsgd *s = (const struct hsgd *)harness_algo(h, r);
    if (s->step == 0 || s->step >= STEP_MAX || s->step % LOWEST != 0) return;
    if (r == rec->victim && s->step <= rec->victim_until && !s->resting) return;
    struct note *note = s->resting ? &rec->before[r][s->step] : &rec->after[r][s->step];
    if (note->any && !s->resting && memcmp(note->x, s->x, sizeof note->x) != 0)
        rec->fault = "an average changed after it was taken";
    note->any = true;
    memcpy(note->x, s->x, sizeof note->x);
}

/* -- the checker -------------------------------------------------------------------------------- */

static bool in_group(rank_t a, rank_t b, uint32_t t)
{
    return t % HIGHEST == 0 || a / 3 == b / 3;
}

/* Whether x is the mean of what these had before the average; false too when one of them had nothing. */
static bool is_mean(const struct recorder *rec, uint32_t t, rank_t r, uint32_t set)
{
    double mean[NODES] = {0}, count = 0;
    for (rank_t k = 0; k < NODES; k++) {
        if ((set >> k & 1) == 0) continue;
        if (!rec->before[k][t].any) return false;
        for (int i = 0; i < NODES; i++) mean[i] += (double)rec->before[k][t].x[i];
        count++;
    }
    for (int i = 0; i < NODES; i++)
        if (fabs(mean[i] / count - (double)rec->after[r][t].x[i]) > 1e-5 * (1 + mean[i])) return false;
    return count > 0;
}

static uint32_t members_of(rank_t r, uint32_t t)
{
    uint32_t set = 0;
    for (rank_t k = 0; k < NODES; k++) set |= (uint32_t)in_group(r, k, t) << k;
    return set;
}

/* Whether x is the mean of some of these. */
static bool is_mean_of_some(const struct recorder *rec, uint32_t t, rank_t r, uint32_t set)
{
    for (uint32_t some = set; some != 0; some = (some - 1) & set)
        if (is_mean(rec, t, r, some)) return true;
    return false;
}

/* NULL, or what is wrong: `absent` is the node that may be left out; with `others_too`, those may be as well
 * whom it held up. */
static const char *fault_of(const struct recorder *rec, rank_t absent, bool others_too)
{
    if (rec->fault != NULL) return rec->fault;
    for (uint32_t t = LOWEST; t < STEP_MAX; t += LOWEST) {
        for (rank_t r = 0; r < NODES; r++) {
            if (!rec->after[r][t].any) continue;
            for (rank_t k = 0; k < NODES; k++)
                if (rec->after[k][t].any && in_group(r, k, t) &&
                    memcmp(rec->after[k][t].x, rec->after[r][t].x, sizeof rec->after[r][t].x) != 0)
                    return "two members have different averages";
            uint32_t all = members_of(r, t);
            bool fits = others_too ? is_mean_of_some(rec, t, r, all)
                                   : is_mean(rec, t, r, all) || is_mean(rec, t, r, all & ~(1u << absent));
            if (!fits) return "an average is neither that of all nor that of the others";
        }
    }
    return NULL;
}

/* -- running ------------------------------------------------------------------------------------ */

static struct graph *complete_new(void)
{
    struct graph *g = mem_new_zero(1, sizeof *g);
    struct choice complete;
    assert_int_equal(
        choice_parse(topology_table, topology_table_count, "--topology", "complete", &complete, NULL), 0);
    assert_int_equal(topology_build(&complete, NODES, 1, g, NULL), 0);
    return g;
}

static void end(struct graph *g, struct recorder *rec)
{
    free(rec);
    graph_deinit(g);
    free(g);
}

static struct harness *start(const struct graph *g, struct recorder *rec, uint64_t seed)
{
    static const float x0[NODES] = {0};
    memset(rec, 0, sizeof *rec);
    rec->victim = RANK_NONE;
    struct harness *h = harness_new(&hsgd_type, params, g, NULL, NODES, x0, seed, patience_us);
    for (rank_t r = 0; r < NODES; r++) harness_set_step_time(h, r, 4000 + 300 * r);
    harness_set_hook(h, record, rec);
    harness_run_until(h, 0);
    return h;
}

static const struct hsgd *state_of(const struct harness *h, rank_t r)
{
    return (const struct hsgd *)harness_algo(h, r);
}

/* Until the living have had the average after `t` steps; false when they do not get there. */
static bool run_to(struct harness *h, const struct recorder *rec, uint32_t t)
{
    uint64_t limit_us = harness_now(h) + 400 * patience_us;
    for (rank_t r = 0; r < NODES; r++)
        while (harness_algo(h, r) != NULL && state_of(h, r)->step < t) {
            if (harness_now(h) > limit_us || rec->fault != NULL) return false;
            harness_run_until(h, harness_now(h) + 10000);
        }
    harness_run_until(h, harness_now(h) + 10000);
    return true;
}

/* Index of the first event after all nodes have the average of t steps. */
static uint32_t event_after(const struct graph *g, uint32_t t)
{
    struct recorder *rec = mem_new(1, sizeof *rec);
    struct harness *h = start(g, rec, 1);
    assert_true(run_to(h, rec, t));
    assert_null(fault_of(rec, NODES, false));
    uint32_t count = rec->event_count;
    harness_free(h);
    free(rec);
    return count;
}

static uint64_t *event_times(const struct graph *g, uint32_t count)
{
    struct recorder *rec = mem_new(1, sizeof *rec);
    uint64_t *time_us = mem_new(count, sizeof *time_us);
    struct harness *h = start(g, rec, 1);
    harness_run_until(h, 100 * patience_us);
    memcpy(time_us, rec->event_us, count * sizeof *time_us);
    harness_free(h);
    free(rec);
    return time_us;
}

enum fate { FATE_DEAD, FATE_BACK_AT_ONCE, FATE_BACK_LATER, FATE_STOPPED, FATE_COUNT };

static void disturb(struct harness *h, rank_t victim, enum fate fate)
{
    switch (fate) {
    case FATE_DEAD:
        harness_crash(h, victim);
        return;
    case FATE_BACK_AT_ONCE:
    case FATE_BACK_LATER:
        harness_crash(h, victim);
        harness_run_until(h, harness_now(h) + (fate == FATE_BACK_LATER ? 3 * patience_us / 2 : 30000));
        harness_restart(h, victim, true);
        return;
    case FATE_STOPPED:
        harness_pause(h, victim);
        harness_run_until(h, harness_now(h) + 3 * patience_us);
        harness_unpause(h, victim);
        return;
    case FATE_COUNT:
        break;
    }
    fail();
}

/* The last average of level 0 that everybody living has had, and whether it is that of this set. */
static bool ends_with_mean_of(const struct recorder *rec, uint32_t set)
{
    for (uint32_t t = STEP_MAX - HIGHEST; t > 0; t -= HIGHEST) {
        uint32_t have = 0;
        for (rank_t r = 0; r < NODES; r++) have |= (uint32_t)rec->after[r][t].any << r;
        if ((have & set) == set) return is_mean(rec, t, (rank_t)__builtin_ctz(set), set);
    }
    return false;
}

/* The greatest count of steps of the living. */
static uint32_t furthest(const struct harness *h)
{
    uint32_t step = 0;
    for (rank_t r = 0; r < NODES; r++)
        if (harness_algo(h, r) != NULL && state_of(h, r)->step > step) step = (uint32_t)state_of(h, r)->step;
    return step;
}

static void one_fate(const struct graph *g, uint64_t at_us, rank_t victim, enum fate fate,
                     struct recorder *rec)
{
    struct harness *h = start(g, rec, 1);
    harness_run_until(h, at_us);
    disturb(h, victim, fate);
    for (uint32_t t = 0; t < STEP_MAX; t++) rec->after[victim][t].any = false;
    rec->victim = victim;
    rec->victim_until = furthest(h) + HIGHEST;
    uint32_t end = (furthest(h) / HIGHEST + 6) * HIGHEST;
    bool done = run_to(h, rec, end);
    const char *fault = fault_of(rec, victim, fate == FATE_STOPPED);
    if (fault != NULL || !done)
        fail_msg("node %u, fate %d, at %llu us: %s", victim, (int)fate, (unsigned long long)at_us,
                 fault != NULL ? fault : "no end");
    uint32_t set = (1u << NODES) - 1;
    if (fate == FATE_DEAD) set &= ~(1u << victim);
    if (!ends_with_mean_of(rec, set))
        fail_msg("node %u, fate %d, at %llu us: not all of the living are in the last average", victim,
                 (int)fate, (unsigned long long)at_us);
    harness_free(h);
}

static void all_events(enum fate fate, uint32_t stride)
{
    struct graph *g = complete_new();
    struct recorder *rec = mem_new(1, sizeof *rec);
    uint32_t first = event_after(g, LOWEST - 1), last = event_after(g, 2 * HIGHEST);
    uint64_t *time_us = event_times(g, last);
    assert_in_range(last - first, 100, EVENT_MAX - first); /* that many different times of death */
    static const rank_t victims[] = {0, 2, 4};
    for (size_t v = 0; v < 3; v++)
        for (uint32_t i = first + (uint32_t)v; i < last; i += stride)
            one_fate(g, time_us[i], victims[v], fate, rec);
    free(time_us);
    end(g, rec);
}

static void whoever_dies_the_others_share_one_average(void **state)
{
    (void)state;
    all_events(FATE_DEAD, 1);
}

static void who_comes_back_at_once_goes_on_from_the_groups_model(void **state)
{
    (void)state;
    all_events(FATE_BACK_AT_ONCE, 5);
}

static void who_comes_back_later_goes_on_from_the_groups_model(void **state)
{
    (void)state;
    all_events(FATE_BACK_LATER, 5);
}

static void who_was_stopped_is_left_out_and_comes_back(void **state)
{
    (void)state;
    all_events(FATE_STOPPED, 5);
}

/* A node that answers but trains no more is left out, it alone: those of its group, whom it holds up too, have
 * done their part. */
static void who_trains_no_more_holds_nobody_up(void **state)
{
    (void)state;
    struct graph *g = complete_new();
    struct recorder *rec = mem_new(1, sizeof *rec);
    for (rank_t victim = 0; victim < NODES; victim++) {
        struct harness *h = start(g, rec, 1);
        assert_true(run_to(h, rec, HIGHEST));
        harness_set_step_time(h, victim, UINT64_C(1000000000000));
        harness_run_until(h, harness_now(h) + 100 * patience_us);
        uint32_t others = ((1u << NODES) - 1) & ~(1u << victim);
        rec->victim = victim;
        if (!ends_with_mean_of(rec, others)) fail_msg("node %u holds others up", victim);
        harness_free(h);
    }
    end(g, rec);
}

/* -- a lying peer ------------------------------------------------------------------------------- */

/* Everything that a member needs to copy a state: a view with all, and the state of a history of `round`. */
static void lie(struct harness *h, rank_t from, rank_t to, uint32_t level, uint64_t start, uint64_t round)
{
    enum { STATUS = 1, STATE = 2, IN_GROUP = 0x07, ENTRY = 12 };
    uint64_t proposer = (uint64_t)from << 48;
    int err = round > 2 * NUMBER_AHEAD_MAX ? ERR_PROTO : 0;
    uint8_t all = level == 0 ? 0x3f : IN_GROUP, maps[2] = {all, all}, entries[NODES * ENTRY] = {0};
    struct algo_msg status = {.kind = (uint8_t)(level * ALLREDUCE_KIND_COUNT + STATUS),
                              .field_count = 7,
                              .field = {1000, proposer, round, 1000, proposer, 8, start},
                              .bits = maps,
                              .bits_size = sizeof maps};
    static const float x[NODES] = {1, 1, 1, 1, 1, 1};
    struct algo_msg state = {.kind = (uint8_t)(level * ALLREDUCE_KIND_COUNT + STATE),
                             .field_count = 6,
                             .field = {1000, proposer, round, 1000, proposer, start},
                             .bits = entries,
                             .bits_size = (level == 0 ? NODES : 3) * ENTRY,
                             .vec = blob_copy(x, sizeof x)};
    assert_int_equal(harness_inject(h, from, to, &status), err);
    assert_int_equal(harness_inject(h, from, to, &state), err);
    blob_unref(state.vec);
}

static void a_count_of_rounds_that_cannot_be_is_not_gone_on_from(void **state)
{
    (void)state;
    static const uint64_t rounds[] = {0, UINT64_C(1) << 62, NUMBER_AHEAD_MAX, UINT64_MAX / HIGHEST,
                                      NUMBER_AHEAD_MAX / LOWEST + 9};
    struct graph *g = complete_new();
    struct recorder *rec = mem_new(1, sizeof *rec);
    for (uint32_t i = 0; i < 2 * 2 * 5; i++) {
        uint32_t level = i % 2;
        bool rejoining = i / 2 % 2 != 0;
        struct harness *h = start(g, rec, 1);
        assert_true(run_to(h, rec, HIGHEST));
        if (rejoining) {
            harness_crash(h, 0);
            harness_restart(h, 0, true);
        }
        while (!state_of(h, 0)->link[1].up) harness_run_until(h, harness_now(h) + 100);
        uint64_t at = state_of(h, 0)->level[level].now.start, before = furthest(h);
        lie(h, 1, 0, level, at, rounds[i / 4]);
        assert_in_range(state_of(h, 0)->step, 0, before + LOWEST);
        harness_run_until(h, harness_now(h) + 60 * patience_us);
        assert_in_range(state_of(h, 0)->step, before + HIGHEST, STEP_MAX * 100);
        harness_free(h);
    }
    end(g, rec);
}

/* The rounds over tell a laggard at which step it is: they must fit the steps, the start counting as one. */
static void rounds_fit_steps(const struct harness *h)
{
    for (rank_t r = 0; r < NODES; r++) {
        if (harness_algo(h, r) == NULL) continue;
        const struct hsgd *s = state_of(h, r);
        if (s->joining_until_us != TIME_NEVER) continue;
        uint64_t rounds = allreduce_round(s->level[0].now.sum);
        assert_in_range(s->step, (rounds - 1) * HIGHEST, rounds * HIGHEST);
    }
}

static void a_cluster_that_restarts_as_a_whole_counts_alike(void **state)
{
    (void)state;
    struct graph *g = complete_new();
    struct recorder *rec = mem_new(1, sizeof *rec);
    struct harness *h = start(g, rec, 1);
    assert_true(run_to(h, rec, 3 * HIGHEST));
    for (rank_t r = 0; r < NODES; r++) harness_crash(h, r);
    for (rank_t r = 0; r < NODES; r++) harness_restart(h, r, true);
    memset(rec, 0, sizeof *rec);
    rec->victim = RANK_NONE;
    for (int i = 0; i < 60; i++) {
        harness_run_until(h, harness_now(h) + patience_us / 10);
        rounds_fit_steps(h);
    }
    assert_in_range(furthest(h), 4 * HIGHEST, STEP_MAX / 2);
    harness_crash(h, 5);
    harness_restart(h, 5, true);
    rec->victim = 5;
    rec->victim_until = furthest(h) + HIGHEST;
    for (uint32_t t = 0; t < STEP_MAX; t++) rec->after[5][t].any = false;
    assert_true(run_to(h, rec, (furthest(h) / HIGHEST + 6) * HIGHEST));
    rounds_fit_steps(h);
    assert_null(fault_of(rec, 5, false));
    assert_true(ends_with_mean_of(rec, (1u << NODES) - 1));
    harness_free(h);
    end(g, rec);
}

/* -- the checker itself ------------------------------------------------------------------------- */

static void tampered_records_are_caught(void **state)
{
    (void)state;
    struct graph *g = complete_new();
    struct recorder *rec = mem_new(1, sizeof *rec), *tampered = mem_new(1, sizeof *rec);
    struct harness *h = start(g, rec, 1);
    assert_true(run_to(h, rec, 3 * HIGHEST));
    assert_null(fault_of(rec, 5, false));
    *tampered = *rec;
    tampered->after[1][HIGHEST].x[0] = nextafterf(tampered->after[1][HIGHEST].x[0], 100);
    assert_string_equal(fault_of(tampered, 5, false), "two members have different averages");
    *tampered = *rec; /* the mean of four: a mix */
    for (rank_t r = 0; r < NODES; r++)
        for (int i = 0; i < NODES; i++) {
            float sum = 0;
            for (rank_t k = 0; k < 4; k++) sum += rec->before[k][HIGHEST].x[i];
            tampered->after[r][HIGHEST].x[i] = sum / 4;
        }
    assert_string_equal(fault_of(tampered, 5, false),
                        "an average is neither that of all nor that of the others");
    harness_free(h);
    free(tampered);
    end(g, rec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tampered_records_are_caught),
        cmocka_unit_test(a_count_of_rounds_that_cannot_be_is_not_gone_on_from),
        cmocka_unit_test(a_cluster_that_restarts_as_a_whole_counts_alike),
        cmocka_unit_test(whoever_dies_the_others_share_one_average),
        cmocka_unit_test(who_comes_back_at_once_goes_on_from_the_groups_model),
        cmocka_unit_test(who_trains_no_more_holds_nobody_up),
        cmocka_unit_test(who_comes_back_later_goes_on_from_the_groups_model),
        cmocka_unit_test(who_was_stopped_is_left_out_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

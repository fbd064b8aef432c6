/* Goal: whoever dies, is cut off or silent delays the others by no more than stated; every vector counts
 * once or not at all; after any faults all go on and hold the same bits.
 * Method: the counting fixture (allreduce_fixture.h) in the algorithm harness: coordinate r of x counts the
 * steps of rank r that are in x. It may never be more than rank r has done, and is the same everywhere. A
 * fault is put before events of a round in turn, and at random. Planted bugs must be caught by the same
 * checks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/allreduce_fixture.h"
#include "tests/unit/gossip_fixture.h"
#include "tests/unit/harness_faults.h"

/* -- one fault at every point ------------------------------------------------------------------- */

struct plan {
    uint64_t at, events; /* the fault comes before this event */
    bool done;
};

static void count_event(void *ctx, struct harness *h, rank_t rank, const struct algo_event *event)
{
    (void)h;
    (void)rank;
    (void)event;
    ((struct plan *)ctx)->events++;
}

/* Runs until so many events have been taken. */
static void run_to_event(struct harness *h, struct plan *p)
{
    for (uint64_t t = 0; p->events < p->at && t < 200000; t += 50) harness_run_until(h, t);
}

static const char *const layouts[] = {"counter", "counter:groups=unequal"};

static void a_member_killed_at_any_point_counts_for_all_or_for_none(void **state)
{
    (void)state;
    enum { N = 5, DIM = 10 };
    struct graph g = graph_make("complete", N);
    for (uint64_t at = 1; at < 260; at += 3) {
        struct plan p = {.at = at};
        struct harness *h = ring_make(layouts[at % 2], &g, DIM, at);
        harness_set_hook(h, count_event, &p);
        run_to_event(h, &p);
        rank_t dead = (rank_t)(at % N);
        harness_crash(h, dead);
        harness_run_until(h, harness_now(h) + 10 * PATIENCE);
        settle(h);
        struct verdict v = judge(h, N, DIM);
        assert_true(v.agree && v.level && v.honest);
        assert_true(v.rounds > 20); /* nobody waited long for it */
        for (rank_t r = 0; r < N; r++)
            if (r != dead) assert_int_equal(counts_at(h, r).left_out, 1);
        harness_free(h);
    }
    graph_deinit(&g);
}

static void a_link_reset_at_any_point_costs_no_step(void **state)
{
    (void)state;
    enum { N = 4, DIM = 9 };
    struct graph g = graph_make("complete", N);
    for (uint64_t at = 1; at < 200; at += 3) {
        struct plan p = {.at = at};
        struct harness *h = ring_make(layouts[at % 2], &g, DIM, at);
        harness_set_hook(h, count_event, &p);
        run_to_event(h, &p);
        harness_link_down(h, 1, 2);
        harness_run_until(h, harness_now(h) + at % 5 * 10000);
        harness_link_up(h, 1, 2);
        harness_run_until(h, harness_now(h) + 5 * PATIENCE);
        settle(h);
        struct verdict v = judge(h, N, DIM);
        assert_true(v.agree && v.level && v.honest);
        for (rank_t r = 0; r < N; r++) {
            assert_int_equal(counts_at(h, r).left_out, 0);
            assert_true(is_complete(h, r));
        }
        harness_free(h);
    }
    graph_deinit(&g);
}

static void a_restarted_member_copies_and_goes_on(void **state)
{
    (void)state;
    enum { N = 4, DIM = 8 };
    struct graph g = graph_make("complete", N);
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct harness *h = ring_make(layouts[seed % 2], &g, DIM, seed);
        harness_run_until(h, 1000000 + seed * 1700);
        harness_crash(h, 2);
        harness_run_until(h, harness_now(h) + seed % 4 * PATIENCE / 10);
        harness_restart(h, 2, true);
        harness_run_until(h, harness_now(h) + 10 * PATIENCE);
        settle(h);
        struct verdict v = judge(h, N, DIM);
        assert_true(v.agree && v.level && v.honest);
        assert_true(counter_at(h, 2)->copies >= 1 && counter_at(h, 2)->sums > 20);
        harness_free(h);
    }
    graph_deinit(&g);
}

static void a_silent_member_is_left_out_and_taken_in_again(void **state)
{
    (void)state;
    enum { N = 4, DIM = 8 };
    struct graph g = graph_make("complete", N);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct harness *h = ring_make(layouts[seed % 2], &g, DIM, seed);
        harness_run_until(h, 1000000 + seed * 1700);
        uint64_t before = round_at(h, 0);
        harness_pause(h, 1);
        harness_run_until(h, harness_now(h) + 5 * PATIENCE / 2);
        assert_true(round_at(h, 0) > before + 2); /* two patiences, then the others go on */
        harness_run_until(h, harness_now(h) + 5 * PATIENCE);
        harness_unpause(h, 1);
        harness_run_until(h, harness_now(h) + 5 * PATIENCE);
        settle(h);
        struct verdict v = judge(h, N, DIM);
        assert_true(v.agree && v.level && v.honest);
        for (rank_t r = 0; r < N; r++) /* a pause loses nothing */
            assert_true(is_complete(h, r));
        harness_free(h);
    }
    graph_deinit(&g);
}

/* Rank 0 of three takes an event; returns the greatest number of a view that it then tells of. */
static uint64_t told(struct allreduce *a, enum algo_event_kind kind, rank_t peer, const struct algo_msg *msg)
{
    struct algo_actions acts = {0};
    struct algo_event e = {.kind = kind, .now_us = msg != NULL ? 2000 : 1000, .peer = peer, .msg = msg};
    enum allreduce_outcome outcome;
    uint64_t number = 0;
    assert_int_equal(allreduce_step(a, &e, &acts, &outcome), 0);
    for (size_t i = 0; i < acts.count; i++)
        if (acts.item[i].msg.field[0] > number) number = acts.item[i].msg.field[0];
    algo_actions_clear(&acts);
    algo_actions_deinit(&acts);
    return number;
}

/* A STATUS of view (number, 1), whose members are a map. */
static uint64_t told_status(struct allreduce *a, rank_t from, uint64_t number, uint8_t members,
                            uint64_t flags)
{
    uint8_t bits[2] = {members, 7};
    struct algo_msg status = {.kind = KIND_STATUS,
                              .field_count = 6,
                              .field = {number, number > 0, 0, 0, 0, flags},
                              .bits = bits,
                              .bits_size = sizeof bits};
    return told(a, ALGO_MESSAGE, from, &status);
}

/* Who was left out and trains is not waited for again until it has begun; who waits elsewhere is taken in. */
static void who_waits_elsewhere_is_taken_in_at_once(void **state)
{
    (void)state;
    enum { OUTSIDE = 2, NEW = 8, READY = 16 };
    static const rank_t member[3] = {0, 1, 2};
    struct graph g = graph_make("complete", 3);
    struct allreduce_config config = {.node_count = 3,
                                      .graph = &g,
                                      .member = member,
                                      .member_count = 3,
                                      .size_max = 4,
                                      .state_dim = 4,
                                      .patience_us = 1000000,
                                      .first_kind = KIND_FIRST};
    struct allreduce *a = allreduce_new(&config);
    for (rank_t r = 1; r < 3; r++) told(a, ALGO_PEER_UP, r, NULL);
    assert_int_equal(told_status(a, 1, 1, 3, NEW), 1);
    assert_int_equal(told_status(a, 2, 0, 3, OUTSIDE), 0);
    assert_int_equal(told_status(a, 2, 0, 3, OUTSIDE | READY), 2);
    allreduce_free(a);
    graph_deinit(&g);
}

static struct allreduce *newcomer_new(const rank_t *member, uint32_t count, const struct graph *g)
{
    struct allreduce_config config = {.rank = count - 1,
                                      .node_count = count,
                                      .graph = g,
                                      .member = member,
                                      .member_count = count,
                                      .size_max = 4,
                                      .state_dim = 4,
                                      .patience_us = 1000000,
                                      .first_kind = KIND_FIRST,
                                      .rejoining = true};
    return allreduce_new(&config);
}

/* Of a newcomer's former life a STATE tells the rounds that hold its vectors: in 32 bits, and not to everybody when
 * there are many. What is not told of counts as held: rather lost than twice. */
static void a_newcomer_learns_which_rounds_hold_its_vectors(void **state)
{
    (void)state;
    enum { MANY = 700, ENTRY = 12, TOLD_MAX = ALGO_BITS_MAX / ENTRY, NEW = 8 };
    static const struct {
        uint32_t count;
        uint64_t round, counted;
    } rows[] = {{4, 9, 7}, {4, (UINT64_C(1) << 33) + 1, (UINT64_C(1) << 33) - 1}, {MANY, 9, 9}};
    static uint8_t maps[2 * (MANY + 7) / 8 + 2], entries[TOLD_MAX * ENTRY];
    static rank_t member[MANY];
    for (rank_t r = 0; r < MANY; r++) member[r] = r;
    memset(maps, 0, sizeof maps);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t n = rows[i].count, size = (n + 7) / 8, told_of = n < TOLD_MAX ? n : TOLD_MAX;
        struct graph g = graph_make("star", n);
        struct allreduce *a = newcomer_new(member, n, &g);
        for (rank_t r = 0; r < n; r++) maps[r / 8] |= (uint8_t)(1u << r % 8);
        memset(entries, 0, sizeof entries);
        uint32_t last = (uint32_t)(rows[i].round - 2);
        memcpy(entries + (size_t)(told_of - 1) * ENTRY, &last, sizeof last);
        float x[4] = {0};
        struct algo_msg status = {.kind = KIND_STATUS,
                                  .field_count = 6,
                                  .field = {1, 0, rows[i].round, 1, 0, NEW},
                                  .bits = maps,
                                  .bits_size = 2 * size};
        struct algo_msg copy = {.kind = KIND_STATE,
                                .field_count = 5,
                                .field = {1, 0, rows[i].round, 1, 0},
                                .bits = entries,
                                .bits_size = told_of * ENTRY,
                                .vec = blob_copy(x, sizeof x)};
        told(a, ALGO_PEER_UP, 0, NULL);
        told(a, ALGO_MESSAGE, 0, &status);
        told(a, ALGO_MESSAGE, 0, &copy);
        assert_int_equal(allreduce_round(a), rows[i].round);
        assert_int_equal(allreduce_counted(a), rows[i].counted);
        blob_unref(copy.vec);
        allreduce_free(a);
        graph_deinit(&g);
        memset(maps, 0, sizeof maps);
    }
}

/* They have ended the round, and train for long, when one stops that has not passed all of its sums on: who waits
 * for these must not take them for dead, or go on with a history in which their vectors are not. */
static void who_has_ended_the_round_is_not_taken_for_silent(void **state)
{
    (void)state;
    enum { N = 4, DIM = 4 };
    struct graph g = graph_make("complete", N);
    for (uint64_t at = 100; at < 160; at++) {
        struct plan p = {.at = at};
        struct harness *h = ring_make("counter:chunk=100", &g, DIM, at);
        harness_set_hook(h, count_event, &p);
        run_to_event(h, &p);
        harness_pause(h, 2);
        harness_set_step_time(h, RANK_NONE, 6 * PATIENCE);
        harness_run_until(h, harness_now(h) + 7 * PATIENCE);
        harness_unpause(h, 2);
        harness_set_step_time(h, RANK_NONE, 5000);
        harness_run_until(h, harness_now(h) + 20 * PATIENCE);
        settle(h);
        struct verdict v = judge(h, N, DIM);
        assert_true(v.agree && v.level && v.honest);
        for (rank_t r = 0; r < N; r++) /* 2 may have ended a round in a view that the others had left */
            if (r != 2 && !is_complete(h, r)) fail_msg("at event %u: steps of %u are lost", (unsigned)at, r);
        harness_free(h);
    }
    graph_deinit(&g);
}

static void cut(struct harness *h, bool up)
{
    for (rank_t a = 0; a < 3; a++)
        for (rank_t b = 3; b < 6; b++) {
            if (up)
                harness_link_up(h, a, b);
            else
                harness_link_down(h, a, b);
        }
}

static void two_halves_go_on_and_become_one_again(void **state)
{
    (void)state;
    enum { N = 6, DIM = 12 };
    struct graph g = graph_make("complete", N);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct harness *h = ring_make(layouts[seed % 2], &g, DIM, seed);
        harness_run_until(h, 1000000 + seed * 1700);
        uint64_t before = round_at(h, 0);
        cut(h, false);
        harness_run_until(h, harness_now(h) + 3 * PATIENCE);
        for (rank_t r = 0; r < N; r++) assert_true(round_at(h, r) > before + 5);
        cut(h, true);
        harness_run_until(h, harness_now(h) + 10 * PATIENCE);
        settle(h);
        struct verdict v = judge(h, N, DIM);
        assert_true(v.agree && v.level && v.honest);
        struct algo_report report;
        harness_report(h, 0, &report);
        for (rank_t r = 0; r < N; r++) assert_int_equal(allreduce_contributors(counter_at(h, r)->ring), N);
        harness_free(h);
    }
    graph_deinit(&g);
}

static void a_lone_member_goes_on_alone(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct harness *h = ring_make("counter", &g, 5, 1);
    harness_run_until(h, 500000);
    harness_crash(h, 0);
    harness_crash(h, 1);
    harness_run_until(h, 3000000);
    uint64_t before = round_at(h, 2);
    harness_run_until(h, 4000000);
    assert_true(round_at(h, 2) > before + 50);
    assert_true(harness_model(h, 2)[2] >= (float)harness_steps(h, 2) - 1);
    harness_free(h);
    graph_deinit(&g);
}

static void a_lost_message_is_made_up_for(void **state)
{
    (void)state;
    enum { N = 4, DIM = 8 };
    struct graph g = graph_make("complete", N);
    struct harness *h = ring_make("counter:chunk=100", &g, DIM, 9);
    harness_run_until(h, 500000);
    uint64_t before = round_at(h, 0);
    for (uint8_t kind = KIND_STATUS; kind <= KIND_ASK; kind++) harness_drop_next(h, 0, 3, kind);
    harness_link_down(h, 0, 1);
    harness_run_until(h, harness_now(h) + 30000);
    harness_link_up(h, 0, 1);
    harness_run_until(h, harness_now(h) + 10 * PATIENCE);
    settle(h);
    struct verdict v = judge(h, N, DIM);
    assert_true(v.agree && v.level && v.honest && v.rounds > before + 20);
    harness_free(h);
    graph_deinit(&g);
}

/* -- many faults at random ---------------------------------------------------------------------- */

static struct verdict storm(const char *params, uint64_t seed, uint32_t n, size_t dim)
{
    struct graph g = graph_make("complete", n);
    struct harness *h = ring_make(params, &g, dim, seed);
    struct prng random;
    prng_split(&random, seed, "storm", 0);
    /* Slow: messages of an old view arrive in the next one. */
    bool slow = seed % 5 == 4;
    if (slow) harness_set_delay(h, 1000, 250000);
    for (int i = 0; i < 40; i++) {
        harness_run_until(h, harness_now(h) + prng_below(&random, i % 7 == 0 ? 2000000 : 60000));
        harness_disturb(h, &random, n);
    }
    for (rank_t a = 0; a < n; a++) {
        if (harness_algo(h, a) == NULL) harness_restart(h, a, true);
        for (rank_t b = 0; b < a; b++) harness_link_up(h, a, b);
    }
    harness_run_until(h, harness_now(h) + 30 * PATIENCE);
    uint64_t before = judge(h, n, dim).rounds;
    harness_run_until(h, harness_now(h) + 5 * PATIENCE);
    uint64_t after = judge(h, n, dim).rounds;
    settle(h);
    struct verdict v = judge(h, n, dim);
    v.rounds = after - before;
    for (rank_t r = 0; r < n; r++) v.level = v.level && allreduce_contributors(counter_at(h, r)->ring) == n;
    v.level = v.level || slow; /* its rounds take longer than the time to settle */
    harness_free(h);
    graph_deinit(&g);
    return v;
}

static void after_any_faults_all_agree_and_go_on(void **state)
{
    (void)state;
    static const char *const plans[] = {"counter", "counter:groups=unequal", "counter:groups=pairs,chunk=1",
                                        "counter:chunk=100"};
    for (uint64_t seed = 0; seed < 100; seed++) {
        uint32_t n = 2 + (uint32_t)(seed % 6);
        struct verdict v = storm(plans[seed % 4], seed, n, 2 * n + 1);
        if (!v.agree || !v.level || !v.honest || v.rounds < 2)
            fail_msg("seed %u: agree %d, level %d, honest %d, rounds %u", (unsigned)seed, v.agree, v.level,
                     v.honest, (unsigned)v.rounds);
    }
}

/* Without this a check that always passes would pass. */
static void planted_bugs_are_caught(void **state)
{
    (void)state;
    bool twice = false, restamp = false;
    for (uint64_t seed = 0; seed < 60 && !twice; seed++)
        twice = !storm("counter:bug=twice", seed, 5, 11).honest;
    assert_true(twice);
    /* Old sums are still on the way only where messages are slow. */
    for (uint64_t seed = 4; seed < 2000 && !restamp; seed += 5) {
        struct verdict v = storm("counter:bug=restamp", seed, 5, 11);
        restamp = !v.honest || !v.agree;
    }
    assert_true(restamp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_killed_at_any_point_counts_for_all_or_for_none),
        cmocka_unit_test(a_link_reset_at_any_point_costs_no_step),
        cmocka_unit_test(a_restarted_member_copies_and_goes_on),
        cmocka_unit_test(a_silent_member_is_left_out_and_taken_in_again),
        cmocka_unit_test(who_waits_elsewhere_is_taken_in_at_once),
        cmocka_unit_test(a_newcomer_learns_which_rounds_hold_its_vectors),
        cmocka_unit_test(who_has_ended_the_round_is_not_taken_for_silent),
        cmocka_unit_test(two_halves_go_on_and_become_one_again),
        cmocka_unit_test(a_lone_member_goes_on_alone),
        cmocka_unit_test(a_lost_message_is_made_up_for),
        cmocka_unit_test(after_any_faults_all_agree_and_go_on),
        cmocka_unit_test(planted_bugs_are_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

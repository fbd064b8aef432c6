/* Goal: the all-reduce gives every member the same bits, the sum of all vectors, with the least traffic; whoever
 * dies, is cut off or silent delays the others by no more than stated; every vector counts once or not at all;
 * malformed messages change nothing.
 * Method: the counting fixture (allreduce_fixture.h) in the algorithm harness: coordinate r of x counts the steps
 * of rank r that are in x. It may never be more than rank r has done, and is the same everywhere. A fault is put
 * before every event of a round in turn, and at random. A planted bug must be caught by the same checks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "tests/unit/allreduce_fixture.h"
#include "tests/unit/gossip_fixture.h"

static struct harness *ring_make(const char *params, const struct graph *g, size_t dim, uint64_t seed)
{
    float zero[256] = {0};
    assert_true(dim <= 256);
    return harness_new(&counter_type, params, g, NULL, dim, zero, seed, PATIENCE);
}

static uint64_t round_at(const struct harness *h, rank_t r)
{
    return allreduce_round(counter_at(h, r)->ring);
}

/* -- checks ------------------------------------------------------------------------------------ */

struct verdict {
    bool agree;      /* the living that are as many rounds on have the same x */
    bool level;      /* all living are as many rounds on */
    bool honest;     /* no coordinate counts more steps than its rank has done (over all its lives) */
    uint64_t rounds; /* the least of the living */
};

static struct verdict judge(const struct harness *h, uint32_t n, size_t dim)
{
    struct verdict v = {true, true, true, UINT64_MAX};
    for (rank_t r = 0; r < n; r++) {
        const float *x = harness_model(h, r);
        if (x == NULL) continue;
        for (rank_t u = 0; u < r; u++) {
            if (harness_model(h, u) == NULL) continue;
            bool same = round_at(h, u) == round_at(h, r);
            v.level = v.level && same;
            v.agree = v.agree && (!same || memcmp(x, harness_model(h, u), dim * sizeof *x) == 0);
        }
        if (round_at(h, r) < v.rounds) v.rounds = round_at(h, r);
        for (rank_t u = 0; u < n; u++) v.honest = v.honest && (double)x[u] <= (double)harness_steps(h, u);
    }
    return v;
}

/* Lets what is under way end: nobody trains on, but not for so long that somebody counts as silent. */
static void settle(struct harness *h)
{
    harness_stop_training(h);
    harness_run_until(h, harness_now(h) + PATIENCE * 9 / 10);
}

/* All that rank r has done is in x, but for the step that waits for its round. */
static bool is_complete(const struct harness *h, rank_t r)
{
    double missing = (double)harness_steps(h, r) - (double)harness_model(h, 0)[r];
    return missing == 0 || missing == 1;
}

/* -- without faults ---------------------------------------------------------------------------- */

static uint32_t train_pattern(void *ctx, rank_t rank, const float *x, uint32_t max_steps, float *delta)
{
    (void)x;
    (void)max_steps;
    size_t dim = *(const size_t *)ctx;
    for (size_t i = 0; i < dim; i++) delta[i] = (float)(rank + 1) * (float)(i + 1);
    return 1;
}

static void the_sum_is_right_for_all_counts_sizes_and_plans(void **state)
{
    (void)state;
    static const char *const plans[] = {"counter", "counter:groups=unequal", "counter:groups=pairs",
                                        "counter:chunk=1", "counter:groups=unequal,chunk=100"};
    static const size_t dims[] = {1, 2, 7, 36, 101};
    for (uint32_t n = 1; n <= 9; n++) {
        struct graph g = graph_make("complete", n);
        for (size_t p = 0; p < 5; p++)
            for (size_t d = 0; d < 5; d++) {
                struct harness *h = ring_make(plans[p], &g, dims[d], n + p);
                harness_set_trainer(h, train_pattern, (void *)(uintptr_t)&dims[d]);
                harness_run_until(h, 2000000);
                settle(h);
                uint64_t rounds = round_at(h, 0);
                assert_true(rounds >= 2);
                for (rank_t r = 0; r < n; r++) {
                    assert_int_equal(round_at(h, r), rounds);
                    for (size_t i = 0; i < dims[d]; i++)
                        assert_true(harness_model(h, r)[i] == (float)(rounds * (n * (n + 1) / 2) * (i + 1)));
                    assert_int_equal(counts_at(h, r).views, 0);
                    assert_int_equal(counts_at(h, r).dropped, 0);
                }
                harness_free(h);
            }
        graph_deinit(&g);
    }
}

static void traffic_is_the_least_there_can_be(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 8; n++) {
        struct graph g = graph_make("complete", n);
        size_t dim = (size_t)n * 12;
        struct harness *h = ring_make("counter:chunk=5,every=1000", &g, dim, n);
        harness_run_until(h, 6000000); /* a round takes 5 s of steps */
        uint64_t rounds = round_at(h, 0);
        assert_int_equal(rounds, 1);
        for (rank_t r = 0; r < n; r++) /* 2 (K-1)/K size, and values alone */
            assert_int_equal(counts_at(h, r).floats_sent, rounds * 2 * (n - 1) * dim / n);
        harness_free(h);
        graph_deinit(&g);
    }
    struct graph g = graph_make("complete", 8);
    struct harness *h = ring_make("counter:groups=pairs,chunk=5,every=1000", &g, 48, 3);
    harness_run_until(h, 6000000);
    assert_int_equal(round_at(h, 0), 1);
    uint64_t across = 0;
    for (rank_t r = 0; r < 8; r++) across += counts_at(h, r).floats_sent_across;
    assert_int_equal(across, round_at(h, 0) * 2 * 3 * 48); /* once per group but one, up and down */
    harness_free(h);
    graph_deinit(&g);
}

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

static void disturb(struct harness *h, struct prng *random, uint32_t n)
{
    rank_t a = prng_below(random, n), b = (a + 1 + prng_below(random, n - 1)) % n;
    switch (prng_below(random, 8)) {
    case 0:
        if (harness_algo(h, a) != NULL) harness_crash(h, a);
        break;
    case 1:
    case 2:
        if (harness_algo(h, a) == NULL) harness_restart(h, a, true);
        break;
    case 3:
    case 4:
        harness_link_down(h, a, b);
        break;
    default:
        harness_link_up(h, a, b);
    }
}

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
        disturb(h, &random, n);
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
    for (uint64_t seed = 0; seed < 300; seed++) {
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
    static const char *const bugs[] = {"counter:bug=twice"};
    for (size_t b = 0; b < sizeof bugs / sizeof bugs[0]; b++) {
        bool caught = false;
        for (uint64_t seed = 0; seed < 100 && !caught; seed++) {
            struct verdict v = storm(bugs[b], seed, 5, 11);
            caught = !v.honest || !v.agree;
        }
        assert_true(caught);
    }
}

/* -- malformed messages ------------------------------------------------------------------------- */

enum fault {
    FAULT_NONE,
    SHORT,
    LONG,
    NO_BODY,
    BODY_SIZE,
    BODY_NAN,
    WITH_BITS,
    VIEW_RANK,
    ROUND_AHEAD,
    ROUND_PAST,
    SLICE,
    CHUNK,
    CHUNK_AHEAD,
    WAY,
    DOWN_EARLY,
    SIZE_ZERO,
    SIZE_OVER,
    WEIGHT_NAN,
    WEIGHT_NEGATIVE,
    FAULTS
};

static struct algo_msg data_message(struct blob *body)
{
    struct algo_msg m = {.kind = KIND_DATA, .field_count = 8, .packed = body};
    double weight = 1;
    m.field[6] = 8;
    m.field[3] = 3; /* begins at rank 0, goes on to rank 1 */
    memcpy(&m.field[7], &weight, sizeof weight);
    return m;
}

static struct algo_msg data_fault(struct blob *body, int fault)
{
    static const uint8_t bits[1] = {1};
    struct algo_msg m = data_message(body);
    float nan_value = NAN;
    double weight = fault == WEIGHT_NAN ? (double)NAN : fault == WEIGHT_NEGATIVE ? -1.0 : 1.0;
    memcpy(&m.field[7], &weight, sizeof weight);
    if (fault == SHORT) m.field_count = 7;
    if (fault == LONG) m.field_count = 9;
    if (fault == NO_BODY) m.packed = NULL;
    if (fault == BODY_SIZE) body->size = 4;
    if (fault == BODY_NAN) memcpy(body->data + 4, &nan_value, sizeof nan_value);
    if (fault == WITH_BITS) m.bits = bits;
    if (fault == WITH_BITS) m.bits_size = 1;
    if (fault == VIEW_RANK) m.field[1] = 4;
    if (fault == ROUND_AHEAD) m.field[2] = 2;
    if (fault == ROUND_PAST) m.field[2] = UINT64_MAX;
    if (fault == SLICE) m.field[3] = 4;
    if (fault == CHUNK) m.field[4] = 1;
    if (fault == CHUNK_AHEAD) m.field[4] = UINT64_MAX;
    if (fault == WAY) m.field[5] = 2;
    if (fault == DOWN_EARLY) m.field[5] = 1;
    if (fault == SIZE_ZERO) m.field[6] = 0;
    if (fault == SIZE_OVER) m.field[6] = 9;
    return m;
}

static void malformed_data_changes_nothing(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 4);
    for (int fault = FAULT_NONE; fault < FAULTS; fault++) {
        struct harness *h = ring_make("counter:every=1000", &g, 8, 3);
        harness_run_until(h, 100000); /* links are up, nobody has begun */
        struct blob *body = blob_new(8);
        memset(body->data, 0, 8);
        struct algo_msg m = data_fault(body, fault);
        int err = harness_inject(h, 0, 1, &m);
        assert_int_equal(err, fault == FAULT_NONE ? 0 : ERR_PROTO);
        blob_unref(body);
        if (fault != FAULT_NONE) { /* the round comes out as if it had not been */
            harness_run_until(h, 6000000);
            settle(h);
            struct verdict v = judge(h, 4, 8);
            assert_true(v.agree && v.level && v.honest && v.rounds >= 1);
            assert_int_equal(counts_at(h, 1).views, 0);
        } else {
            assert_int_equal(harness_inject(h, 0, 1, &m), ERR_PROTO); /* twice */
        }
        harness_free(h);
    }
    graph_deinit(&g);
}

static void malformed_control_changes_nothing(void **state)
{
    (void)state;
    static const uint8_t good[2] = {0x0f, 0x0f}, stranger[2] = {0x1f, 0x0f}, outside[2] = {0x0e, 0x0f};
    static const struct {
        struct algo_msg m;
        int err;
    } row[] = {
        {{.kind = KIND_STATUS, .field_count = 6, .bits = good, .bits_size = 2}, 0},
        {{.kind = KIND_STATUS, .field_count = 5, .bits = good, .bits_size = 2}, ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .bits = good, .bits_size = 1}, ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6}, ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .bits = stranger, .bits_size = 2}, ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .bits = outside, .bits_size = 2}, ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .field = {0, 4}, .bits = good, .bits_size = 2}, ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .field = {UINT64_MAX}, .bits = good, .bits_size = 2},
         ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .field = {[2] = UINT64_MAX}, .bits = good, .bits_size = 2},
         ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .field = {[5] = 16}, .bits = good, .bits_size = 2},
         ERR_PROTO},
        {{.kind = KIND_STATE, .field_count = 5}, ERR_PROTO},
        {{.kind = KIND_STATE, .field_count = 4}, ERR_PROTO},
        {{.kind = KIND_ASK, .field_count = 1}, ERR_PROTO},
        {{.kind = KIND_ASK, .field_count = 3}, ERR_PROTO},
        {{.kind = KIND_ASK, .field_count = 2, .bits = good, .bits_size = 1}, ERR_PROTO},
        {{.kind = KIND_ASK + 1, .field_count = 2}, ERR_PROTO},
        {{.kind = KIND_DATA, .field_count = 0}, ERR_PROTO},
        {{.kind = 0, .field_count = 2}, ERR_PROTO},
    };
    struct graph g = graph_make("complete", 4);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct harness *h = ring_make("counter:every=1000", &g, 8, 3);
        harness_run_until(h, 100000);
        assert_int_equal(harness_inject(h, 0, 1, &row[i].m), row[i].err);
        harness_run_until(h, 6000000);
        settle(h);
        struct verdict v = judge(h, 4, 8);
        assert_true(v.agree && v.level && v.honest && v.rounds >= 1);
        assert_int_equal(counts_at(h, 1).views, 0);
        harness_free(h);
    }
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_is_right_for_all_counts_sizes_and_plans),
        cmocka_unit_test(traffic_is_the_least_there_can_be),
        cmocka_unit_test(a_member_killed_at_any_point_counts_for_all_or_for_none),
        cmocka_unit_test(a_link_reset_at_any_point_costs_no_step),
        cmocka_unit_test(a_restarted_member_copies_and_goes_on),
        cmocka_unit_test(a_silent_member_is_left_out_and_taken_in_again),
        cmocka_unit_test(two_halves_go_on_and_become_one_again),
        cmocka_unit_test(a_lone_member_goes_on_alone),
        cmocka_unit_test(a_lost_message_is_made_up_for),
        cmocka_unit_test(after_any_faults_all_agree_and_go_on),
        cmocka_unit_test(planted_bugs_are_caught),
        cmocka_unit_test(malformed_data_changes_nothing),
        cmocka_unit_test(malformed_control_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

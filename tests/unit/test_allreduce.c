/* Goal: the all-reduce gives every member the same bits, the sum of all vectors, with the least traffic;
 * malformed messages change nothing. Faults: test_allreduce_faults.c.
 * Method: the counting fixture (allreduce_fixture.h) in the algorithm harness, for every count of members and
 * several sizes and plans; a table of messages that a peer may send, each before a round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "tests/unit/allreduce_fixture.h"
#include "tests/unit/gossip_fixture.h"

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
    if (fault == VIEW_RANK) m.field[1] = UINT64_C(4) << 48;
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

/* Each fits by itself, and the first is of no use once the own size is known. */
static void sums_of_unequal_sizes_are_dropped(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 4);
    struct harness *h = ring_make("counter:every=1000,chunk=1", &g, 12, 3);
    harness_run_until(h, 100000);
    for (uint64_t chunk = 0; chunk < 2; chunk++) {
        struct blob *body = blob_new(4);
        memset(body->data, 0, 4);
        struct algo_msg m = data_message(body);
        m.field[4] = chunk;
        m.field[6] = 11 + chunk;
        assert_int_equal(harness_inject(h, 0, 1, &m), 0);
        blob_unref(body);
    }
    harness_run_until(h, 6000000);
    settle(h);
    struct verdict v = judge(h, 4, 12);
    assert_true(v.agree && v.level && v.honest && v.rounds >= 1);
    assert_int_equal(counts_at(h, 1).dropped, 2);
    harness_free(h);
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
        {{.kind = KIND_STATUS,
          .field_count = 6,
          .field = {0, UINT64_C(4) << 48},
          .bits = good,
          .bits_size = 2},
         ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .field = {UINT64_MAX}, .bits = good, .bits_size = 2},
         ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .field = {[2] = UINT64_MAX}, .bits = good, .bits_size = 2},
         ERR_PROTO},
        {{.kind = KIND_STATUS, .field_count = 6, .field = {[5] = 32}, .bits = good, .bits_size = 2},
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
        cmocka_unit_test(malformed_data_changes_nothing),
        cmocka_unit_test(sums_of_unequal_sizes_are_dropped),
        cmocka_unit_test(malformed_control_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: one absurd but well-formed number of a peer (round, view, step, term) cannot use up the numbers there are and
 * stall a group: what no honest node could have reached is refused, and the group goes on.
 * Method: for each method that counts, a message of a running cluster is told with numbers beyond what may be:
 * refused by everybody. Afterwards all nodes train on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "algo/async/internal.h"
#include "algo/token.h"
#include "tests/unit/algo_harness.h"

enum { NODES = 4, DIM = 8, PATIENCE_US = 200000, RUN_US = 1000000 };

static const uint8_t maps[2] = {0x0f, 0x0f};

static const struct row {
    const char *algorithm;
    struct algo_msg msg;
    uint32_t at;       /* the field that lies */
    uint64_t unit;     /* it is a multiple of that */
    uint64_t ahead;    /* units that are refused */
    bool near_is_idle; /* a quarter of them is not, and changes nothing */
} rows[] = {
    {"gossip:mode=sync", {.kind = 5, .field_count = 1}, 0, 1, 2 * NUMBER_AHEAD_MAX, false},
    {"delicoco", {.kind = 1, .field_count = 3}, 0, 1, 2 * NUMBER_AHEAD_MAX, true},
    {"local:every=7", {.kind = 3, .field_count = 1}, 0, 1, 2 * NUMBER_AHEAD_MAX, true},
    {"allreduce",
     {.kind = 1, .field_count = 6, .bits = maps, .bits_size = 2},
     0,
     1,
     2 * NUMBER_AHEAD_MAX,
     false},
    {"allreduce",
     {.kind = 1, .field_count = 6, .bits = maps, .bits_size = 2},
     2,
     1,
     2 * NUMBER_AHEAD_MAX,
     false},
    {"allreduce",
     {.kind = 1, .field_count = 6, .bits = maps, .bits_size = 2},
     3,
     1,
     2 * NUMBER_AHEAD_MAX,
     false},
    {"hsgd:periods=10-5", {.kind = 8 + 3, .field_count = 3}, 2, 10, NUMBER_AHEAD_MAX, false},
    {"digest:streams=single", {.kind = 3, .field_count = 9}, 3, 1, 2 * TOKEN_GENERATION_AHEAD_MAX, false},
    {"walk", {.kind = 3, .field_count = 7}, 0, 1, 2 * TOKEN_GENERATION_AHEAD_MAX, false},
    {"async", {.kind = ASYNC_ALIVE, .field_count = 2}, 0, NODES, 2 * ASYNC_ROUND_AHEAD_MAX, true},
};

static struct harness *cluster_new(const char *algorithm, const struct graph *g)
{
    static const float x0[DIM];
    struct choice params;
    const struct algo_type *type;
    assert_int_equal(algo_choose(algorithm, &params, &type, NULL), 0);
    struct harness *h = harness_new(type, algorithm, g, NULL, DIM, x0, 3, PATIENCE_US);
    harness_run_until(h, RUN_US);
    return h;
}

static void numbers_far_ahead_are_refused_and_the_group_goes_on(void **state)
{
    (void)state;
    struct graph g;
    struct choice topology;
    assert_int_equal(
        choice_parse(topology_table, topology_table_count, "--topology", "complete", &topology, NULL), 0);
    assert_int_equal(topology_build(&topology, NODES, 1, &g, NULL), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct harness *h = cluster_new(rows[i].algorithm, &g);
        uint64_t steps[NODES];
        for (rank_t r = 0; r < NODES; r++) steps[r] = harness_steps(h, r);
        struct algo_msg m = rows[i].msg;
        for (rank_t r = 0; r < NODES - 1; r++) {
            m.field[rows[i].at] = rows[i].ahead * rows[i].unit;
            assert_int_equal(harness_inject(h, NODES - 1, r, &m), ERR_PROTO);
            m.field[rows[i].at] = (NUMBER_TOP / rows[i].unit + 1) * rows[i].unit;
            assert_int_equal(harness_inject(h, NODES - 1, r, &m), ERR_PROTO);
        }
        if (rows[i].near_is_idle) {
            m.field[rows[i].at] = rows[i].ahead / 4 * rows[i].unit;
            assert_int_equal(harness_inject(h, NODES - 1, 0, &m), 0);
        }
        harness_run_until(h, 2 * RUN_US);
        for (rank_t r = 0; r < NODES; r++) assert_true(harness_steps(h, r) > steps[r]);
        harness_free(h);
    }
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_far_ahead_are_refused_and_the_group_goes_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: the tree all-reduce gives every participant the weighted average, the same bits on each, whatever
 * the order of arrival; whoever dies, is slow or loses links delays the rest by about patience at most;
 * nothing of an old round is ever mixed in.
 * Method: a pump with one queue per direction and lane (in order within a lane, as the transport promises),
 * whose next delivery a seed chooses; faults are put at every point of a round in turn. The oracle averages
 * in double. A planted bug (an old sum stamped as new) must show in the oracle's verdict. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/collective_pump.h"

/* -- oracle ------------------------------------------------------------------------------------ */

/* Is v's average that of the nodes in `who` (bit map)? */
static bool is_average(const struct pump *p, rank_t v, unsigned who)
{
    const float *average = collective_average(p->node[v]);
    for (int i = 0; i < DIM; i++) {
        double sum = 0, weight = 0;
        for (rank_t u = 0; u < NODES; u++) {
            if (!(who >> u & 1)) continue;
            sum += p->weight[u] * (double)p->x[u][i];
            weight += p->weight[u];
        }
        if (average == NULL || fabs((double)average[i] - sum / weight) > 1e-6) return false;
    }
    return true;
}

enum { ALL = (1 << NODES) - 1 };
static const char *const graphs[] = {"ring", "regular:d=3", "complete", "torus", "exp"};
enum { GRAPHS = sizeof graphs / sizeof graphs[0] };

static void begin_all(struct pump *p, unsigned but)
{
    for (rank_t v = 0; v < NODES; v++)
        if (!(but >> v & 1) && !p->dead[v]) begin(p, v);
}

static void change_x(struct pump *p)
{
    for (rank_t v = 0; v < NODES; v++)
        for (int i = 0; i < DIM; i++) p->x[v][i] = (float)prng_normal(&p->prng);
}

/* -- tests ------------------------------------------------------------------------------------- */

static void everyone_gets_the_average_with_the_same_bits(void **state)
{
    (void)state;
    for (int g = 0; g < GRAPHS; g++) {
        float first[DIM] = {0};
        for (uint64_t seed = 0; seed < 30; seed++) {
            struct pump *p = pump_new(graphs[g], seed);
            begin_all(p, 0);
            pump_run(p, 0);
            if (seed == 0) memcpy(first, collective_average(p->node[0]), sizeof first);
            for (rank_t v = 0; v < NODES; v++) {
                assert_int_equal(p->averages[v], 1);
                assert_true(is_average(p, v, ALL));
                assert_memory_equal(collective_average(p->node[v]), first,
                                    sizeof first); /* whatever the order */
            }
            struct collective_counts counts, total = {0};
            for (rank_t v = 0; v < NODES; v++) {
                collective_counts(p->node[v], &counts);
                total.model_transfers += counts.model_transfers;
                total.contributed += counts.contributed;
            }
            assert_int_equal(total.contributed, NODES);
            assert_true(total.model_transfers >= 2 * (NODES - 1) && total.model_transfers <= 3 * NODES);
            pump_free(p);
        }
    }
}

static void rounds_follow_each_other_while_others_still_finish(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct pump *p = pump_new(graphs[seed % GRAPHS], seed);
        begin_all(p, 0);
        for (uint64_t steps = 0; steps < 600; steps++) { /* whoever is done begins the next round at once */
            pump_one(p);
            for (rank_t v = 0; v < NODES; v++)
                if (!collective_waiting(p->node[v]) && collective_round(p->node[v]) < 6) begin(p, v);
        }
        pump_run(p, 0);
        for (rank_t v = 0; v < NODES; v++) {
            assert_int_equal(collective_round(p->node[v]), 6);
            assert_int_equal(p->averages[v], 6);
            assert_true(is_average(p, v, ALL)); /* x never changed */
        }
        pump_free(p);
    }
}

static void a_member_that_dies_at_any_moment_delays_the_rest_by_patience_at_most(void **state)
{
    (void)state;
    uint64_t without = 0, with = 0;
    for (int g = 0; g < GRAPHS; g++)
        for (rank_t victim = 0; victim < NODES; victim++)
            for (uint64_t moment = 0; moment < 60; moment += g == 2 ? 7 : 1) {
                struct pump *p = pump_new(graphs[g], moment);
                begin_all(p, 0);
                for (uint64_t i = 0; i < moment; i++) pump_one(p);
                kill_node(p, victim);
                pump_run(p, 4 * PATIENCE);
                unsigned living = ALL & ~(1u << victim);
                for (rank_t v = 0; v < NODES; v++) {
                    if (v == victim) continue;
                    if (p->averages[v] != 1 || p->alones[v] != 0)
                        fail_msg("%s: node %u after the death of %u at %u", graphs[g], v, victim,
                                 (unsigned)moment);
                    bool living_only = is_average(p, v, living);
                    assert_true(living_only || is_average(p, v, ALL));
                    without += living_only;
                    with += !living_only;
                }
                if (moment == 0)
                    for (rank_t v = 0; v < NODES; v++) assert_true(v == victim || is_average(p, v, living));
                assert_true(p->now <= PATIENCE);
                pump_free(p);
            }
    assert_true(without > 100 && with > 100); /* both courses were seen */
}

static void a_slow_member_is_left_out_and_takes_the_result_later(void **state)
{
    (void)state;
    for (int g = 0; g < GRAPHS; g++)
        for (rank_t slow = 0; slow < NODES; slow++) {
            struct pump *p = pump_new(graphs[g], slow);
            begin_all(p, 1u << slow);
            pump_run(p, 4 * PATIENCE);
            for (rank_t v = 0; v < NODES; v++)
                if (v != slow) assert_true(p->averages[v] == 1 && is_average(p, v, ALL & ~(1u << slow)));
            assert_true(p->now <= 2 * PATIENCE);
            assert_int_equal(p->averages[slow], 0);
            begin(p, slow);
            pump_run(p, p->now);
            assert_int_equal(p->averages[slow], 1);
            assert_true(is_average(p, slow, ALL & ~(1u << slow)));
            begin_all(p, 0); /* and takes part in the next round */
            pump_run(p, p->now);
            for (rank_t v = 0; v < NODES; v++) assert_true(p->averages[v] == 2 && is_average(p, v, ALL));
            pump_free(p);
        }
}

static void a_link_that_flaps_at_any_moment_costs_nobody_its_part(void **state)
{
    (void)state;
    for (int g = 0; g < GRAPHS; g++)
        for (uint32_t edge = 0; edge < 8; edge++)
            for (uint64_t moment = 0; moment < 60; moment += 3) {
                struct pump *p = pump_new(graphs[g], moment);
                rank_t a = edge, b = p->graph.neighbour[p->graph.offset[a] + 1];
                begin_all(p, 0);
                for (uint64_t i = 0; i < moment; i++) pump_one(p);
                set_link(p, a, b, false);
                for (int i = 0; i < 5; i++) pump_one(p);
                p->now += PATIENCE / 10;
                set_link(p, a, b, true);
                pump_run(p, p->now);
                for (rank_t v = 0; v < NODES; v++) assert_true(p->averages[v] == 1 && is_average(p, v, ALL));
                pump_free(p);
            }
}

static void a_cut_link_leaves_out_one_of_its_ends_at_most(void **state)
{
    (void)state;
    for (uint32_t edge = 0; edge < NODES; edge++) {
        struct pump *p = pump_new("ring", edge);
        rank_t a = edge, b = (edge + 1) % NODES;
        set_link(p, a, b, false);
        for (uint64_t round = 1; round <= 3; round++) { /* long down in the later rounds */
            begin_all(p, 0);
            pump_run(p, p->now + 2 * PATIENCE);
            for (rank_t v = 0; v < NODES; v++) {
                assert_int_equal(p->averages[v], round);
                assert_true(is_average(p, v, ALL) || is_average(p, v, ALL & ~(1u << a)) ||
                            is_average(p, v, ALL & ~(1u << b)));
                assert_memory_equal(collective_average(p->node[v]), collective_average(p->node[0]),
                                    DIM * sizeof(float));
            }
        }
        pump_free(p);
    }
}

static void a_node_that_missed_many_rounds_moves_up(void **state)
{
    (void)state;
    for (rank_t lost = 0; lost < NODES; lost++) {
        struct pump *p = pump_new("regular:d=3", lost);
        for (uint32_t i = 0; i < 3; i++)
            set_link(p, lost, p->graph.neighbour[p->graph.offset[lost] + i], false);
        begin(p, lost);
        for (int round = 0; round < 4; round++) {
            begin_all(p, 1u << lost);
            pump_run(p, p->now + 3 * PATIENCE);
        }
        assert_int_equal(p->alones[lost], 1);
        assert_int_equal(collective_round(p->node[lost]), 0);
        for (uint32_t i = 0; i < 3; i++)
            set_link(p, lost, p->graph.neighbour[p->graph.offset[lost] + i], true);
        begin_all(p, 1u << lost);
        for (int i = 0; i < 40; i++) pump_one(p);
        if (!collective_waiting(p->node[lost])) begin(p, lost);
        pump_run(p, p->now + 3 * PATIENCE);
        if (!collective_waiting(p->node[lost]) && collective_round(p->node[lost]) == 4) begin(p, lost);
        pump_run(p, p->now + 3 * PATIENCE);
        assert_int_equal(collective_round(p->node[lost]), 5);
        assert_memory_equal(collective_average(p->node[lost]),
                            collective_average(p->node[(lost + 1) % NODES]), DIM * sizeof(float));
        pump_free(p);
    }
}

/* Two rounds with different x; returns whether everybody's second average is right. */
static bool second_round_is_right(bool plant, bool replay, uint64_t *late)
{
    struct pump *p = pump_new("ring", 5);
    begin_all(p, 0);
    pump_run(p, 0);
    change_x(p);
    p->plant = plant;
    p->replay = replay;
    begin_all(p, 0);
    pump_run(p, 0);
    bool right = true;
    *late = 0;
    for (rank_t v = 0; v < NODES; v++) {
        struct collective_counts counts;
        collective_counts(p->node[v], &counts);
        *late += counts.late_dropped;
        right = right && p->averages[v] == 2 && is_average(p, v, ALL);
    }
    pump_free(p);
    return right;
}

static void late_sums_are_dropped_and_a_machine_that_applied_them_is_caught(void **state)
{
    (void)state;
    uint64_t quiet, late, planted;
    assert_true(second_round_is_right(false, false, &quiet));
    assert_true(second_round_is_right(false, true, &late));
    assert_int_equal(late, quiet + 1);
    assert_false(second_round_is_right(true, false, &planted));
}

static void malformed_messages_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct pump *p = pump_new("ring", 0);
    float values[DIM] = {0};
    double bad_weight = -1, nan_weight = NAN;
    uint64_t bad_bits, nan_bits;
    memcpy(&bad_bits, &bad_weight, sizeof bad_bits);
    memcpy(&nan_bits, &nan_weight, sizeof nan_bits);
    struct blob *vec = blob_copy(values, sizeof values);
    const struct {
        uint8_t kind, fields, bits;
        uint64_t round, word;
        struct blob *vec;
    } rows[] = {{9, 2, 0, 0, 0, NULL},
                {14, 2, 0, 0, 0, NULL},
                {STATE, 1, 0, 0, 0, NULL},
                {STATE, 2, 0, 0, 0, vec},
                {SUM, 2, 0, 0, 0, NULL},
                {SUM, 2, 0, 0, bad_bits, vec},
                {SUM, 2, 0, 0, nan_bits, vec},
                {RESULT, 2, 0, 0, 0, vec},
                {ASK, 2, 0, 0, 0, NULL},
                {STATE, 2, 2, 0, 0, NULL},
                {STATE, 2, 0, UINT64_MAX, 0, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static const uint8_t bits[2] = {0};
        struct algo_msg m = {.kind = rows[i].kind,
                             .field_count = rows[i].fields,
                             .bits_size = rows[i].bits,
                             .field = {rows[i].round, rows[i].word},
                             .bits = bits,
                             .vec = rows[i].vec};
        struct algo_event e = {.kind = ALGO_MESSAGE, .peer = 1, .msg = &m};
        assert_int_equal(give(p, 0, &e), ERR_PROTO);
    }
    blob_unref(vec);
    begin_all(p, 0);
    pump_run(p, 0);
    for (rank_t v = 0; v < NODES; v++) assert_true(p->averages[v] == 1 && is_average(p, v, ALL));
    pump_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everyone_gets_the_average_with_the_same_bits),
        cmocka_unit_test(rounds_follow_each_other_while_others_still_finish),
        cmocka_unit_test(a_member_that_dies_at_any_moment_delays_the_rest_by_patience_at_most),
        cmocka_unit_test(a_slow_member_is_left_out_and_takes_the_result_later),
        cmocka_unit_test(a_link_that_flaps_at_any_moment_costs_nobody_its_part),
        cmocka_unit_test(a_cut_link_leaves_out_one_of_its_ends_at_most),
        cmocka_unit_test(a_node_that_missed_many_rounds_moves_up),
        cmocka_unit_test(late_sums_are_dropped_and_a_machine_that_applied_them_is_caught),
        cmocka_unit_test(malformed_messages_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

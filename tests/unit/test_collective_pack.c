/* Goal: with compression all members still end a round with the same bits, and what packing drops comes back
 * in later rounds: averages times weights, added up, and the residuals are the sums of what went in.
 * Method: the pump of test_collective.c. The books are kept in double; a member that forgets its residual
 * must show in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/collective/parts.h"
#include "tests/unit/collective_pump.h"

enum { ROUNDS = 40 };

static const char *const compressors[] = {"none",         "fp16",        "bf16",
                                          "int8:block=4", "qsgd:bits=8", "topk:fraction=1"};
enum { COMPRESSOR_COUNT = sizeof compressors / sizeof compressors[0] };
static const char *const graphs[] = {"ring", "regular:d=3", "complete", "star"};
enum { GRAPHS = sizeof graphs / sizeof graphs[0] };

static bool same_bits(const struct pump *p, rank_t a, rank_t b)
{
    return memcmp(collective_average(p->node[a]), collective_average(p->node[b]), DIM * sizeof(float)) == 0;
}

/* Greatest distance of an entry of v's average from that of the living, in double. */
static double error_of(const struct pump *p, rank_t v, unsigned living)
{
    double worst = 0;
    for (int i = 0; i < DIM; i++) {
        double sum = 0, weight = 0;
        for (rank_t u = 0; u < NODES; u++) {
            if (!(living >> u & 1)) continue;
            sum += p->weight[u] * (double)p->x[u][i];
            weight += p->weight[u];
        }
        worst = fmax(worst, fabs((double)collective_average(p->node[v])[i] - sum / weight));
    }
    return worst;
}

/* In, out and left in ROUNDS rounds do not balance by so much, at worst. */
static double imbalance(const char *topology, const char *compress, rank_t forgetful, uint64_t seed)
{
    struct pump *p = pump_new_packed(topology, compress, seed);
    double balance[DIM] = {0};
    for (int k = 0; k < ROUNDS; k++) {
        for (rank_t v = 0; v < NODES; v++)
            for (int i = 0; i < DIM; i++) {
                p->x[v][i] = (float)prng_normal(&p->prng);
                balance[i] += p->weight[v] * (double)p->x[v][i];
            }
        for (rank_t v = 0; v < NODES; v++) begin(p, v);
        pump_run(p, 0);
        for (rank_t v = 0; v < NODES; v++) {
            assert_int_equal(p->averages[v], k + 1);
            assert_true(same_bits(p, v, 0));
        }
        for (int i = 0; i < DIM; i++)
            balance[i] -= p->node[0]->last_weight * (double)collective_average(p->node[0])[i];
        if (forgetful != RANK_NONE) memset(p->node[forgetful]->residual, 0, DIM * sizeof(float));
    }
    double worst = 0;
    for (int i = 0; i < DIM; i++) {
        for (rank_t v = 0; v < NODES; v++)
            if (p->node[v]->residual != NULL) balance[i] -= (double)p->node[v]->residual[i];
        worst = fmax(worst, fabs(balance[i]));
    }
    pump_free(p);
    return worst;
}

static void what_is_dropped_comes_back(void **state)
{
    (void)state;
    for (size_t k = 0; k < COMPRESSOR_COUNT; k++)
        for (uint64_t seed = 0; seed < 8; seed++) {
            double error = imbalance(graphs[seed % GRAPHS], compressors[k], RANK_NONE, seed);
            if (!(error < 1e-3)) fail_msg("%s: the books are off by %g", compressors[k], error);
        }
}

static void the_books_show_a_forgotten_residual(void **state)
{
    (void)state;
    for (rank_t v = 0; v < NODES; v += 3) { /* the root, and two others */
        assert_true(imbalance("ring", "bf16", v, 1) > 3e-3);
        assert_true(imbalance("ring", "qsgd:bits=8", v, 1) > 3e-3);
    }
}

/* Sums are made anew over another tree, from the same residuals: still one result for all who live. */
static void a_death_at_any_moment_leaves_one_result(void **state)
{
    (void)state;
    for (rank_t victim = 0; victim < NODES; victim++)
        for (uint64_t moment = 0; moment < 60; moment++) {
            struct pump *p = pump_new_packed("regular:d=3", "int8:block=4", moment);
            for (rank_t v = 0; v < NODES; v++) begin(p, v);
            for (uint64_t i = 0; i < moment; i++) pump_one(p);
            kill_node(p, victim);
            pump_run(p, 4 * PATIENCE);
            unsigned all = (1u << NODES) - 1, living = all & ~(1u << victim);
            for (rank_t v = 0; v < NODES; v++) {
                if (v == victim) continue;
                assert_int_equal(p->averages[v], 1);
                assert_true(same_bits(p, v, victim == 0 ? 1 : 0));
                assert_true(fmin(error_of(p, v, all), error_of(p, v, living)) < 0.05);
            }
            pump_free(p);
        }
}

/* A late asker gets the bytes that went down the tree. */
static void who_asks_later_gets_the_same_bits(void **state)
{
    (void)state;
    struct pump *p = pump_new_packed("complete", "int8:block=4", 3);
    for (rank_t v = 0; v < NODES; v++)
        if (v != 5) begin(p, v);
    pump_run(p, 3 * PATIENCE);
    begin(p, 5);
    pump_run(p, 6 * PATIENCE);
    assert_int_equal(p->averages[5], 1);
    assert_true(same_bits(p, 5, 0));
    pump_free(p);
}

static void packed_messages_are_smaller(void **state)
{
    (void)state;
    struct pump *p = pump_new_packed("ring", "fp16", 1);
    for (rank_t v = 0; v < NODES; v++) begin(p, v);
    uint32_t bodies = 0;
    while (p->count > 0) {
        for (size_t i = 0; i < p->count; i++) {
            const struct algo_msg *m = &p->queue[i].msg;
            assert_null(m->vec);
            if (m->packed != NULL) assert_int_equal(m->packed->size, 2 * DIM);
            bodies += m->packed != NULL;
        }
        pump_one(p);
    }
    assert_true(bodies >= 2 * (NODES - 1));
    pump_free(p);
}

static void bad_bodies_are_refused_whole(void **state)
{
    (void)state;
    static const char *const packing[] = {"fp16", "none"};
    for (int k = 0; k < 2; k++) {
        struct pump *p = pump_new_packed("complete", packing[k], 1);
        for (rank_t v = 1; v < NODES; v++) begin(p, v);
        while (pump_one(p)) continue;
        struct blob *junk = blob_new(3), *vec = blob_copy(p->x[0], sizeof p->x[0]), *good = blob_new(2 * DIM);
        memset(junk->data, 0xff, 3);
        memset(good->data, 0, 2 * DIM);
        double weight = 1;
        struct algo_msg m = {.kind = SUM, .field_count = 2};
        memcpy(&m.field[1], &weight, sizeof weight);
        struct letter l = {.from = 3, .to = 0, .msg = m};
        struct blob *before = p->node[0]->slot[0].share[2].sum;
        l.msg.packed = junk;
        assert_int_equal(deliver(p, &l), ERR_PROTO);
        l.msg.vec = vec; /* and both */
        assert_int_equal(deliver(p, &l), ERR_PROTO);
        l.msg.vec = NULL;
        l.msg.packed = NULL;
        assert_int_equal(deliver(p, &l), ERR_PROTO);
        assert_ptr_equal(p->node[0]->slot[0].share[2].sum, before);
        l.msg.packed = good;
        assert_int_equal(deliver(p, &l), k == 0 ? 0 : ERR_PROTO);
        blob_unref(junk);
        blob_unref(vec);
        blob_unref(good);
        pump_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_dropped_comes_back),
        cmocka_unit_test(the_books_show_a_forgotten_residual),
        cmocka_unit_test(a_death_at_any_moment_leaves_one_result),
        cmocka_unit_test(who_asks_later_gets_the_same_bits),
        cmocka_unit_test(packed_messages_are_smaller),
        cmocka_unit_test(bad_bodies_are_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

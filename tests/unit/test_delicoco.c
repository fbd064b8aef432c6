/* Goal: compressed rounds do what the matrix form says, both ends of every link hold the same copy after every
 * event whatever comes between, and nothing a peer sends can part them.
 * Method: instances in virtual time (algo_harness.h). Without compression the models are compared with the
 * matrix product in double; with it, a checker compares the copies bit for bit wherever the versions agree,
 * and a sender that adds its original instead of the decoded message must be caught by it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/delicoco/internal.h"
#include "base/check.h"
#include "base/prng.h"
#include "tests/unit/delicoco_fixture.h"

enum { ROUNDS = 10 };

/* -- agreement of the copies ----------------------------------------------------------------------- */

static const char *const orders[] = {"delicoco:q=3,gamma=0.1", "delicoco:q=3,gamma=0.1,order=overlapped"};

static struct agreement run_agreement(const char *params, const char *compress, bool plant, uint64_t seed)
{
    struct prng random[2 * NODE_MAX];
    seed_all(random, seed);
    struct graph g = graph_make("ring", 5);
    struct agreement a = {.plant = plant};
    struct harness *h = wide(&delicoco_type, params, compress, &g, seed);
    harness_set_trainer(h, train_randomly, random);
    harness_set_hook(h, check_agreement, &a);
    harness_run_until(h, 2 * SECOND);
    for (rank_t r = 0; r < 5; r++) assert_true(state_of(h, r)->step > 60);
    harness_free(h);
    graph_deinit(&g);
    return a;
}

static void both_ends_hold_the_same_copy_after_every_event(void **state)
{
    (void)state;
    for (size_t i = 0; i < compressor_count; i++) {
        for (int order = 0; order < 2; order++) {
            struct agreement a = run_agreement(orders[order], compressors[i], false, 1 + i);
            if (a.compared < 100 || a.unequal != 0)
                fail_msg("%s: %u of %u copies differ", compressors[i], a.unequal, a.compared);
        }
    }
}

/* A fetched model is not the common start that the neighbours take for the copy of one who has sent nothing. */
static void a_node_that_joins_with_a_model_of_its_own_is_known_by_it(void **state)
{
    (void)state;
    static const uint64_t moments_us[] = {1000, SECOND};
    for (int i = 0; i < 4; i++) {
        struct prng random[2 * NODE_MAX];
        seed_all(random, 7);
        struct graph g = graph_make("ring", 5);
        struct agreement a = {.compared = 0};
        struct harness *h = wide(&delicoco_type, orders[i % 2], "int8:block=16", &g, 7);
        harness_set_trainer(h, train_randomly, random);
        harness_set_hook(h, check_agreement, &a);
        harness_run_until(h, moments_us[i / 2]);
        harness_crash(h, 2);
        float fetched[DIM];
        for (uint32_t k = 0; k < DIM; k++) fetched[k] = 3 + harness_model(h, 0)[k];
        harness_restart_at(h, 2, true, fetched);
        harness_run_until(h, 3 * SECOND);
        assert_true(a.compared > 100);
        assert_int_equal(a.unequal, 0);
        harness_free(h);
        graph_deinit(&g);
    }
}

static void a_sender_that_adds_its_original_is_caught(void **state)
{
    (void)state;
    for (size_t i = 1; i < compressor_count; i++) { /* with none, the two are the same to rounding */
        struct agreement a = run_agreement(orders[0], compressors[i], true, 1 + i);
        if (a.unequal == 0) fail_msg("%s: not caught", compressors[i]);
    }
}

/* -- against the matrix ---------------------------------------------------------------------------- */

struct oracle {
    struct graph *g;
    uint32_t q;
    double gamma;
    double x[ROUNDS + 1][NODE_MAX][NODE_MAX]; /* at the beginning of every round */
    uint32_t compared;
    double worst;
};

static void oracle_fill(struct oracle *o)
{
    uint32_t n = o->g->node_count;
    for (uint32_t k = 0; k < ROUNDS; k++) {
        double now[NODE_MAX][NODE_MAX], next[NODE_MAX][NODE_MAX];
        memcpy(now, o->x[k], sizeof now);
        for (rank_t v = 0; v < n; v++) now[v][v] += 1;
        for (uint32_t s = 0; s < o->q; s++) {
            memcpy(next, now, sizeof next);
            for (rank_t v = 0; v < n; v++)
                for (rank_t u = 0; u < n; u++)
                    for (rank_t c = 0; c < n && graph_has_edge(o->g, v, u); c++)
                        next[v][c] += o->gamma * metropolis_weight(o->g, v, u) * (now[u][c] - now[v][c]);
            memcpy(now, next, sizeof now);
        }
        memcpy(o->x[k + 1], now, sizeof now);
    }
}

static void oracle_compare(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    struct oracle *o = ctx;
    const struct delicoco *d = state_of(h, rank);
    uint64_t round = (d->step - 1) / o->q;
    if (e->kind == ALGO_START || (d->step - 1) % o->q != 0 || round > ROUNDS || d->waiting) return;
    o->compared++;
    for (rank_t c = 0; c < o->g->node_count; c++)
        o->worst = fmax(o->worst, fabs(o->x[round][rank][c] - (double)harness_model(h, rank)[c]));
}

/* Greatest distance from the matrix form over ROUNDS rounds. */
static double oracle_distance(const struct algo_type *type, const char *params, uint32_t q, double gamma)
{
    struct graph g = graph_make("regular:d=3", 8);
    struct oracle *o = mem_new_zero(1, sizeof *o);
    *o = (struct oracle){.g = &g, .q = q, .gamma = gamma};
    oracle_fill(o);
    struct harness *h = harness_make(type, params, &g, 3);
    harness_set_hook(h, oracle_compare, o);
    harness_set_delay(h, 1000, 4000); /* links are there before the first step is done */
    harness_run_until(h, 5 * SECOND);
    assert_true(o->compared >= 8 * ROUNDS);
    double worst = o->worst;
    harness_free(h);
    free(o);
    graph_deinit(&g);
    return worst;
}

static void uncompressed_rounds_multiply_by_the_matrix(void **state)
{
    (void)state;
    assert_true(oracle_distance(&dgd_type, "dgd", 1, 1) < 1e-5);
    assert_true(oracle_distance(&choco_type, "choco:gamma=1", 1, 1) < 1e-5);
    assert_true(oracle_distance(&choco_type, "choco", 1, 1) < 1e-5); /* omega of none is 1 */
    assert_true(oracle_distance(&delicoco_type, "delicoco:q=3,gamma=0.5", 3, 0.5) < 1e-5);
    assert_true(oracle_distance(&delicoco_type, "delicoco:q=3,gamma=0.5", 3, 0.6) >
                1e-2); /* the oracle sees */
}

static void one_gossip_step_is_choco(void **state)
{
    (void)state;
    uint64_t hash[2];
    for (int i = 0; i < 2; i++) {
        struct graph g = graph_make("ring", 6);
        struct harness *h =
            wide(i == 0 ? &choco_type : &delicoco_type, i == 0 ? "choco:gamma=0.2" : "delicoco:q=1,gamma=0.2",
                 "topk:fraction=0.2", &g, 9);
        harness_run_until(h, 2 * SECOND);
        hash[i] = harness_trace_hash(h);
        harness_free(h);
        graph_deinit(&g);
    }
    assert_true(hash[0] == hash[1]);
}

/* -- averaging alone ------------------------------------------------------------------------------- */

static void gossip_alone_contracts_and_keeps_the_mean(void **state)
{
    (void)state;
    /* gammas: those at which delicoco_def.md 4.4 saw convergence on a ring of 9 */
    static const struct {
        const char *compress, *params;
        double factor; /* of the spread over 500 rounds, at most */
    } rows[] = {
        {"topk:fraction=0.1", "choco:gamma=0.3", 1e-6},
        {"randk:fraction=0.1", "choco:gamma=0.1", 1e-3},
        {"sign", "choco:gamma=0.1", 0.1},
        {"qsgd:bits=4", "choco:gamma=0.5", 1e-6},
        {"none", "choco:gamma=1", 1e-6},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        struct prng random[2 * NODE_MAX];
        seed_all(random, 4);
        struct graph g = graph_make("ring", 9);
        struct harness *h = wide(&choco_type, rows[k].params, rows[k].compress, &g, 4);
        harness_set_trainer(h, train_once, random);
        harness_set_delay(h, 100, 200);
        harness_set_step_time(h, RANK_NONE, 1000);
        double mean[DIM] = {0}, moved;
        harness_run_until(h, 1050); /* every node has moved, and none has mixed */
        double before = spread(h, 9, mean, &moved);
        harness_run_until(h, SECOND);
        double after = spread(h, 9, mean, &moved);
        assert_true(state_of(h, 0)->step > 500);
        if (!(before > 1) || !(after < rows[k].factor * before) || moved > 1e-3)
            fail_msg("%s: spread %g to %g, mean moved by %g", rows[k].compress, before, after, moved);
        harness_free(h);
        graph_deinit(&g);
    }
}

/* -- faults ---------------------------------------------------------------------------------------- */

static void a_link_that_flaps_and_nodes_that_restart_come_back_into_step(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct prng random[2 * NODE_MAX], fate;
        seed_all(random, seed);
        prng_split(&fate, seed, "fate", 0);
        struct graph g = graph_make("ring", 5);
        struct agreement a = {0};
        struct harness *h =
            wide(&delicoco_type, orders[seed / 3 % 2], compressors[seed % compressor_count], &g, seed);
        harness_set_trainer(h, train_randomly, random);
        harness_set_hook(h, check_agreement, &a);
        uint64_t now_us = 0;
        for (int k = 0; k < 12; k++) {
            rank_t r = prng_below(&fate, 5);
            uint32_t what = prng_below(&fate, 3);
            harness_run_until(h, now_us += 100000 + prng_below(&fate, 300000));
            if (what == 0) harness_link_down(h, r, (r + 1) % 5);
            if (what == 1) harness_crash(h, r);
            if (what == 2) harness_pause(h, r);
            harness_run_until(h, now_us += prng_below(&fate, 3000000)); /* over and under the patience */
            if (what == 0) harness_link_up(h, r, (r + 1) % 5);
            if (what == 1) harness_restart(h, r, true);
            if (what == 2) harness_unpause(h, r);
        }
        uint64_t step = state_of(h, 0)->step;
        harness_run_until(h, now_us + 5 * SECOND);
        assert_true(a.compared > 100);
        if (a.unequal != 0)
            fail_msg("seed %u: %u of %u copies differ", (unsigned)seed, a.unequal, a.compared);
        for (rank_t r = 0; r < 5; r++) {
            const struct delicoco *d = state_of(h, r);
            assert_true(d->step > step + 100);
            for (uint32_t i = 0; i < d->degree; i++)
                assert_true(d->peer[i].up && d->peer[i].known && !d->peer[i].absent);
        }
        harness_free(h);
        graph_deinit(&g);
    }
}

/* The REFERENCE of a node at its start has no body, so its first delta may come before it. */
static void a_first_delta_needs_no_reference(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct agreement a = {0};
    struct harness *h = wide(&choco_type, "choco:gamma=0.5", "topk:fraction=0.2", &g, 2);
    harness_set_hook(h, check_agreement, &a);
    harness_drop_next(h, 1, 0, DELICOCO_REFERENCE);
    harness_run_until(h, SECOND);
    struct delicoco *d = state_of(h, 0);
    assert_true(d->step > 20 && a.compared > 20 && a.unequal == 0 && harness_lost(h) == 1);
    struct delicoco_peer peer = d->peer[0];
    struct algo_msg late = {.kind = DELICOCO_REFERENCE, .field_count = 3, .field = {1, 0, 0}};
    assert_int_equal(harness_inject(h, 1, 0, &late), 0);
    assert_true(d->peer[0].version == peer.version && d->peer[0].told == peer.told &&
                d->peer[0].at == peer.at);
    harness_run_until(h, 2 * SECOND);
    assert_int_equal(a.unequal, 0);
    harness_free(h);
    graph_deinit(&g);
}

/* A delta that never arrives although the link stays: the next one is refused, so the link closes. */
static void a_gap_in_the_deltas_is_refused(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = wide(&choco_type, "choco:gamma=0.5", "topk", &g, 2);
    harness_run_until(h, SECOND);
    struct delicoco *d = state_of(h, 0);
    uint8_t bytes[64] = {0};
    struct blob *body = blob_copy(bytes, pack_size_max(d->pack));
    struct algo_msg m = {.kind = DELICOCO_DELTA,
                         .field_count = 2,
                         .field = {d->step + 5, d->peer[0].version + 2},
                         .packed = body};
    assert_int_equal(harness_inject(h, 1, 0, &m), ERR_PROTO);
    m.field[1] = d->peer[0].version + 1;
    assert_int_equal(harness_inject(h, 1, 0, &m), 0); /* the version was all that was wrong */
    blob_unref(body);
    harness_free(h);
    graph_deinit(&g);
}

static void malformed_messages_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = wide(&choco_type, "choco:gamma=0.5", "sign", &g, 2);
    harness_run_until(h, SECOND);
    struct delicoco *d = state_of(h, 0);
    uint64_t step = d->step, next = d->peer[0].version + 1;
    size_t size = pack_size_max(d->pack);
    uint8_t good[16] = {0}, infinite[16] = {0, 0, 0x80, 0x7f}, negative[16] = {0, 0, 0x80, 0xbf};
    assert_true(size <= sizeof good);
    float whole[DIM] = {0};
    struct blob *bad[] = {blob_copy(good, size - 1), blob_copy(infinite, size), blob_copy(negative, size)};
    struct blob *fine = blob_copy(good, size), *vec = blob_copy(whole, sizeof whole);
    struct algo_msg rows[] = {
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {step + 1, next}, .packed = bad[0]},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {step + 1, next}, .packed = bad[1]},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {step + 1, next}, .packed = bad[2]},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {step + 9, next}, .packed = bad[1]},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {step + 1, next - 1}, .packed = fine},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {0, next}, .packed = fine},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {UINT64_MAX, next}, .packed = fine},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {step + 1, next}, .vec = vec},
        {.kind = DELICOCO_DELTA, .field_count = 2, .field = {step + 1, next}},
        {.kind = DELICOCO_DELTA, .field_count = 1, .field = {step + 1}, .packed = fine},
        {.kind = DELICOCO_REFERENCE,
         .field_count = 3,
         .field = {step, next, 0},
         .vec = vec}, /* a second one */
        {.kind = 0, .field_count = 2, .field = {step, next}, .packed = fine},
        {.kind = 9, .field_count = 2, .field = {step, next}, .packed = fine},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct delicoco_peer peer = d->peer[0];
        float hat[DIM], x[DIM];
        memcpy(hat, peer.hat, sizeof hat);
        memcpy(x, d->x, sizeof x);
        if (harness_inject(h, 1, 0, &rows[i]) != ERR_PROTO) fail_msg("row %zu was taken", i);
        assert_memory_equal(hat, peer.hat, sizeof hat);
        assert_memory_equal(x, d->x, sizeof x);
        assert_true(d->step == step && d->peer[0].version == peer.version && d->peer[0].at == peer.at);
        assert_true(d->peer[0].told == peer.told && d->peer[0].early == peer.early);
    }
    for (size_t i = 0; i < 3; i++) blob_unref(bad[i]);
    blob_unref(fine);
    blob_unref(vec);
    harness_free(h);
    graph_deinit(&g);
}

/* -- what does not fit ------------------------------------------------------------------------------ */

static void compressors_that_do_not_fit_are_refused_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *algorithm, *compress, *says;
    } rows[] = {
        {"choco", "powersgd", NULL},
        {"choco:gamma=0.1", "randk:variant=unbiased", "leave out"},
        {"choco", "topk:fraction=0.0000001", "gamma=0.3"},
        {"choco:gamma=0.1", "topk:fraction=0.0000001", NULL},
        {"choco", "topk", NULL},
    };
    struct graph g = graph_make("complete", 2);
    float *zero = mem_new_zero(100000, sizeof *zero);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct choice params, compress;
        const struct algo_type *type;
        struct err_text why = {""};
        assert_int_equal(algo_choose(rows[i].algorithm, &params, &type, &why), 0);
        assert_int_equal(choice_parse(compress_table, compress_table_count, "--compress", rows[i].compress,
                                      &compress, &why),
                         0);
        struct algo_config config = {
            .node_count = 2, .graph = &g, .dim = 100000, .x0 = zero, .patience_us = 1, .compress = &compress};
        struct algo *a = NULL;
        int err = type->create(&config, &params, &a, &why);
        assert_int_equal(err, rows[i].says != NULL ? ERR_USAGE : 0);
        if (err == 0) type->destroy(a);
        if (err != 0 && strstr(why.text, rows[i].says) == NULL) fail_msg("row %zu: %s", i, why.text);
    }
    free(zero);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_hold_the_same_copy_after_every_event),
        cmocka_unit_test(a_node_that_joins_with_a_model_of_its_own_is_known_by_it),
        cmocka_unit_test(a_sender_that_adds_its_original_is_caught),
        cmocka_unit_test(uncompressed_rounds_multiply_by_the_matrix),
        cmocka_unit_test(one_gossip_step_is_choco),
        cmocka_unit_test(gossip_alone_contracts_and_keeps_the_mean),
        cmocka_unit_test(a_link_that_flaps_and_nodes_that_restart_come_back_into_step),
        cmocka_unit_test(a_first_delta_needs_no_reference),
        cmocka_unit_test(a_gap_in_the_deltas_is_refused),
        cmocka_unit_test(malformed_messages_are_refused_and_change_nothing),
        cmocka_unit_test(compressors_that_do_not_fit_are_refused_with_a_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

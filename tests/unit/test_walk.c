/* Goal: a walking model holds every step that was done on it, with compression together with what its
 * hand-overs left at the nodes; links that break lose nothing, nodes that die do not end the walk; malformed messages
 * change nothing.
 * Method: the algorithm harness in virtual time with the counting trainer: coordinate r of the model and all
 * residuals together is the number of steps rank r has done. That checker is shown a node which forgets what
 * it owes. */
#include "tests/unit/walk_fixture.h"

#include <math.h>
#include <string.h>

#include "algo/vec.h"
#include "base/prng.h"

/* -- nothing is lost ------------------------------------------------------------------------------- */

/* Greatest difference between a rank's steps and what the model and the residuals hold of them. */
static double missing_steps(const struct harness *h)
{
    rank_t holder = holder_of(h, 0);
    assert_int_not_equal(holder, RANK_NONE);
    double worst = 0;
    for (rank_t r = 0; r < NODES; r++) {
        double held = (double)inside(h, holder)->walk[0].x[r];
        for (rank_t v = 0; v < NODES; v++)
            if (inside(h, v)->walk[0].owed) held += (double)inside(h, v)->walk[0].residual[r];
        worst = fmax(worst, fabs(held - (double)harness_steps(h, r)));
    }
    return worst;
}

/* A walk of four seconds; with resets a link breaks and comes back every 15 ms. */
static double walk_and_measure(const struct algo_type *type, const char *compress, bool resets, uint64_t seed)
{
    struct graph g;
    struct prng p;
    build_graph(seed % 2 == 0 ? "ring" : "regular:d=3", &g);
    struct harness *h = start(type, "walk:steps=3", compress, &g, seed);
    prng_split(&p, seed, "resets", 0);
    for (uint64_t now = 0; now < 4 * SECOND; now += 15000) {
        harness_run_until(h, now);
        rank_t a = prng_below(&p, NODES);
        rank_t b = g.neighbour[g.offset[a] + prng_below(&p, graph_degree(&g, a))];
        if (!resets) continue;
        harness_link_down(h, a, b);
        harness_link_up(h, a, b);
    }
    harness_stop_training(h);
    assert_true(harness_run_until_quiet(h, 5 * SECOND));
    double missing = missing_steps(h);
    uint64_t mixes = 0;
    for (rank_t v = 0; v < NODES; v++) {
        mixes += report_of(h, v).mixes;
        assert_int_equal(report_of(h, v).tokens_regenerated, 0);
        assert_int_equal(report_of(h, v).steps, harness_steps(h, v));
    }
    assert_true(mixes > 100);
    assert_true(!resets || harness_lost(h) > 3);
    harness_free(h);
    graph_deinit(&g);
    return missing;
}

static void the_model_and_the_residuals_hold_every_step(void **state)
{
    (void)state;
    for (size_t k = 0; k < COMPRESSOR_COUNT; k++)
        for (uint64_t seed = 1; seed <= 6; seed++) {
            double missing = walk_and_measure(&walk_type, compressors[k], seed > 2, seed);
            if (!(missing <= (k == 0 ? 0 : 1e-3)))
                fail_msg("%s, seed %llu: %g steps are missing", compressors[k], (unsigned long long)seed,
                         missing);
        }
}

static int step_forgetting_what_it_owes(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct walk *w = (struct walk *)a;
    int err = walk_type.step(a, e, acts);
    if (w->rank == 2) w->walk[0].owed = false;
    return err;
}

static void the_checker_catches_a_forgotten_residual(void **state)
{
    (void)state;
    struct algo_type planted = walk_type;
    planted.step = step_forgetting_what_it_owes;
    assert_true(walk_and_measure(&planted, "qsgd:bits=4", false, 1) > 0.01);
    assert_true(walk_and_measure(&planted, "none", false, 1) == 0);
}

/* A second hand-over must tell the same bits as the first, though the mirror has changed since. */
static void a_hand_over_is_repeated_bit_for_bit(void **state)
{
    (void)state;
    struct graph g;
    build_graph("ring", &g);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct harness *h = start(&walk_type, "walk", "qsgd:bits=5", &g, seed);
        harness_run_until(h, SECOND);
        for (uint64_t now = SECOND; holder_of(h, 0) != RANK_NONE; now += 500) harness_run_until(h, now);
        rank_t from = RANK_NONE;
        for (rank_t v = 0; v < NODES; v++) { /* the latest: an older one may wait for its acknowledgement */
            const struct custody *c = &inside(h, v)->walk[0].custody;
            if (c->place != CUSTODY_SENT) continue;
            if (from == RANK_NONE || c->last.sequence > inside(h, from)->walk[0].custody.last.sequence)
                from = v;
        }
        rank_t to = inside(h, from)->walk[0].custody.sent_to;
        float told[DIM];
        memcpy(told, inside(h, from)->walk[0].copy->data, sizeof told);
        struct walking *at = &inside(h, to)->walk[0];
        for (uint32_t i = 0; i < DIM && at->owed; i++) told[i] += at->residual[i];
        uint64_t before = report_of(h, to).mixes;
        harness_link_down(h, from, to);
        harness_link_up(h, from, to);
        harness_stop_training(h);
        harness_run_until(h, 3 * SECOND); /* both ends hear of it, and say it all again */
        assert_int_equal(holder_of(h, 0), to);
        assert_int_equal(report_of(h, to).mixes, before + 1);
        assert_memory_equal(at->x, told, sizeof told);
        harness_free(h);
    }
    graph_deinit(&g);
}

/* -- loss ------------------------------------------------------------------------------------------ */

/* Who owes walk 0 something that can be seen; freezes the training. */
static rank_t debtor(struct harness *h)
{
    for (uint64_t now = 0; now < 4 * SECOND; now += 5000) {
        harness_run_until(h, now);
        for (rank_t v = 0; v < NODES; v++) {
            const struct walking *k = &inside(h, v)->walk[0];
            bool owes = k->owed && k->custody.place == CUSTODY_AWAY;
            for (size_t i = 0; owes && i < DIM; i++)
                if (fabsf(k->residual[i]) > 1e-3f) return v;
        }
    }
    fail_msg("nobody kept anything back");
    return RANK_NONE;
}

/* What a node adds to a model of zeros whose generation is new and whose sequence is that of its own hand-over
 * and `further`. */
static double added_to_a_model_made_anew(uint64_t further, double *owed)
{
    struct graph g;
    build_graph("complete", &g);
    struct harness *h = start(&walk_type, "walk:steps=3", "qsgd:bits=5", &g, 6);
    rank_t v = debtor(h);
    harness_set_step_time(h, RANK_NONE, 100 * SECOND);
    const struct walking *k = &inside(h, v)->walk[0];
    const struct token_stamp *last = &k->custody.last;
    static const float zero[DIM];
    struct blob *vec = blob_copy(zero, sizeof zero);
    struct algo_msg msg = {.kind = WALK_MODEL,
                           .field_count = 4,
                           .field = {last->generation + 1, 0, last->sequence + further, 0},
                           .vec = vec};
    *owed = vec_norm2(DIM, k->residual);
    assert_int_equal(harness_inject(h, v == 0 ? 1 : 0, v, &msg), 0);
    assert_int_equal(k->custody.place, CUSTODY_HELD);
    assert_false(k->owed);
    double added = vec_norm2(DIM, k->x);
    blob_unref(vec);
    harness_free(h);
    graph_deinit(&g);
    return added;
}

static void a_residual_is_for_models_that_lack_it(void **state)
{
    (void)state;
    double owed;
    assert_true(added_to_a_model_made_anew(0, &owed) == 0 && owed > 1e-3);
    assert_true(added_to_a_model_made_anew(1, &owed) == owed);
}

static void the_death_of_a_holder_does_not_end_the_walk(void **state)
{
    (void)state;
    struct graph g;
    build_graph("complete", &g);
    for (size_t k = 0; k < COMPRESSOR_COUNT; k++) {
        struct harness *h = start(&walk_type, "walk:steps=2", compressors[k], &g, k);
        harness_run_until(h, 3 * SECOND);
        harness_set_step_time(h, RANK_NONE, 50000); /* it is held for most of the time */
        for (uint64_t now = 3 * SECOND; holder_of(h, 0) == RANK_NONE; now += 1000) harness_run_until(h, now);
        rank_t dead = holder_of(h, 0);
        harness_crash(h, dead);
        harness_run_until(h, 30 * SECOND);
        harness_restart(h, dead, true);
        harness_run_until(h, 60 * SECOND);
        uint64_t made = 0, steps = 0;
        for (rank_t v = 0; v < NODES; v++) {
            made += report_of(h, v).tokens_regenerated;
            steps += report_of(h, v).steps;
        }
        assert_int_equal(made, 1);
        assert_true(steps > 500);
        harness_stop_training(h);
        assert_true(harness_run_until_quiet(h, 62 * SECOND));
        rank_t holder = holder_of(h, 0);
        assert_int_not_equal(holder, RANK_NONE);
        for (rank_t r = 0; r < NODES; r++) { /* much of everybody's work is in it, also of the dead node's */
            assert_true(isfinite(inside(h, holder)->walk[0].x[r]));
            assert_true((double)harness_steps(h, r) > 10);
        }
        harness_free(h);
    }
    graph_deinit(&g);
}

/* All have stopped: no walk is anywhere, and the first to begin again makes it, whoever it is. */
static void the_first_to_begin_again_holds_the_walk(void **state)
{
    (void)state;
    struct graph g;
    build_graph("ring", &g);
    struct harness *h = start(&walk_type, "walk:steps=1", "none", &g, 4);
    harness_run_until(h, SECOND);
    float kept[DIM];
    memcpy(kept, harness_model(h, 3), sizeof kept);
    for (rank_t v = 0; v < NODES; v++) harness_crash(h, v);
    harness_restart_at(h, 3, false, kept);
    for (rank_t v = 0; v < NODES; v++)
        if (v != 3) harness_restart_at(h, v, true, kept);
    uint64_t before = 0, after = 0;
    for (rank_t v = 0; v < NODES; v++) before += harness_steps(h, v);
    harness_run_until(h, harness_now(h) + PATIENCE);
    for (rank_t v = 0; v < NODES; v++) after += harness_steps(h, v);
    assert_true(after > before + 20);
    harness_free(h);
    graph_deinit(&g);
}

static void equal_seeds_give_equal_runs(void **state)
{
    (void)state;
    struct graph g;
    uint64_t hash[3];
    build_graph("ring", &g);
    for (uint64_t k = 0; k < 3; k++) {
        struct harness *h = start(&walk_type, "walk:walks=2", "qsgd:bits=4", &g, 7 + k / 2);
        harness_run_until(h, 2 * SECOND);
        hash[k] = harness_trace_hash(h);
        harness_free(h);
    }
    assert_true(hash[0] == hash[1] && hash[0] != hash[2]);
    graph_deinit(&g);
}

/* -- refusals -------------------------------------------------------------------------------------- */

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *params, *compress, *hint;
    } rows[] = {
        {"walk:walks=9", "none", "walks=8"},
        {"walk", "randk:fraction=0.25,variant=unbiased", "variant=unbiased"},
        {"walk", "topk:fraction=0.25", "int8"},
        {"walk", "randk:fraction=0.5", "omega of 0.9"},
        {"walk", "sign", "int8"},
        {"walk", "powersgd", "int8"},
    };
    struct graph g;
    build_graph("ring", &g);
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        struct choice params, compress;
        const struct algo_type *type;
        struct err_text why = {""};
        static const float origin[DIM * 100];
        assert_int_equal(algo_choose(rows[k].params, &params, &type, NULL), 0);
        assert_int_equal(
            choice_parse(compress_table, compress_table_count, "", rows[k].compress, &compress, NULL), 0);
        struct algo_config config = {.node_count = NODES,
                                     .graph = &g,
                                     .dim = DIM * 100,
                                     .x0 = origin,
                                     .patience_us = PATIENCE,
                                     .compress = &compress};
        struct algo *a = NULL;
        assert_int_equal(algo_create(type, &config, &params, &a, &why), ERR_USAGE);
        assert_null(a);
        assert_non_null(strstr(why.text, rows[k].hint));
    }
    graph_deinit(&g);
}

static void malformed_messages_are_refused_whole(void **state)
{
    (void)state;
    struct graph g;
    build_graph("complete", &g);
    struct harness *h = start(&walk_type, "walk:walks=2", "int8", &g, 4);
    harness_set_step_time(h, RANK_NONE, 100 * SECOND);
    harness_run_until(h, SECOND);
    float x[DIM] = {1};
    uint8_t junk[3] = {1, 2, 3};
    struct blob *vec = blob_copy(x, sizeof x), *packed = blob_copy(junk, sizeof junk);
    const struct algo_msg rows[] = {
        {.kind = WALK_MODEL, .field_count = 4, .field = {0, 0, 9, 0}},                   /* no body */
        {.kind = WALK_MODEL, .field_count = 3, .field = {0, 0, 9}, .vec = vec},          /* no number */
        {.kind = WALK_MODEL, .field_count = 4, .field = {0, 0, 9, 2}, .vec = vec},       /* no such walk */
        {.kind = WALK_MODEL, .field_count = 4, .field = {0, 8, 9, 0}, .vec = vec},       /* no such maker */
        {.kind = WALK_MODEL, .field_count = 4, .field = {0, 0, 9, 0}, .packed = packed}, /* nothing before */
        {.kind = WALK_ACK, .field_count = 4, .field = {0, 0, 9, 0}, .vec = vec},
        {.kind = WALK_ACK, .field_count = 7, .field = {0, 0, 9, 0}},
        {.kind = WALK_SEEK, .field_count = 4, .field = {0, 0, 9, 0}},
        {.kind = WALK_SEEK, .field_count = 7, .field = {0, 0, 9, 0, 8, 0, 0}},
        {.kind = WALK_SEEK, .field_count = 7, .field = {0, 0, 9, 0, 0, 2, 0}},
        {.kind = WALK_DEGREE, .field_count = 1, .field = {0}},
        {.kind = WALK_DEGREE, .field_count = 1, .field = {NODES}},
        {.kind = WALK_DEGREE, .field_count = 2, .field = {3, 3}},
        {.kind = WALK_DEGREE, .field_count = 1, .field = {3}, .vec = vec},
        {.kind = 0, .field_count = 4},
        {.kind = 9, .field_count = 4},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        struct walk *w = inside(h, 5);
        struct token_stamp before = w->walk[0].custody.last;
        assert_int_equal(harness_inject(h, 3, 5, &rows[k]), ERR_PROTO);
        assert_int_equal(token_stamp_compare(&before, &w->walk[0].custody.last), 0);
        assert_int_equal(w->walk[0].custody.place, CUSTODY_AWAY);
        assert_true(w->walk[0].x[0] == 0);
    }
    struct algo_msg good = {.kind = WALK_MODEL, .field_count = 4, .field = {0, 0, 9, 0}, .vec = vec};
    assert_int_equal(harness_inject(h, 3, 5, &good), 0);
    assert_true(inside(h, 5)->walk[0].x[0] == 1);
    blob_unref(vec);
    blob_unref(packed);
    harness_free(h);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_to_begin_again_holds_the_walk),
        cmocka_unit_test(the_model_and_the_residuals_hold_every_step),
        cmocka_unit_test(the_checker_catches_a_forgotten_residual),
        cmocka_unit_test(a_hand_over_is_repeated_bit_for_bit),
        cmocka_unit_test(a_residual_is_for_models_that_lack_it),
        cmocka_unit_test(the_death_of_a_holder_does_not_end_the_walk),
        cmocka_unit_test(equal_seeds_give_equal_runs),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(malformed_messages_are_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: with any compressor that fits, DIGEST's law of conservation holds: what a message drops stays with its
 * sender and arrives later. A lost token is made anew with nothing missing.
 * Method: trainers count (digest_fixture.h). After training stops, tours run on until the greatest residual is
 * below a bound, which must happen; then every model and token must be the truth. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/compress/compress.h"
#include "base/check.h"
#include "tests/unit/digest_fixture.h"

struct compressor_case {
    const char *text;
    bool exact; /* counts are short numbers: nothing is dropped */
};

static const struct compressor_case compressors[] = {
    {"topk:fraction=0.2", false},
    {"topk:fraction=0.01", false},
    {"randk:fraction=0.25", false},
    {"block:fraction=0.25", false},
    {"sign", false},
    {"qsgd:bits=4", false},
    {"int8", false},
    {"fp16", true},
    {"bf16", true},
    {"bernoulli:p=0.3", false},
};
enum { COMPRESSORS = sizeof compressors / sizeof compressors[0] };

/* Tours until the greatest residual is below the bound; false when that does not happen. */
static bool drain(struct cluster *c, double bound)
{
    harness_stop_training(c->h);
    for (int i = 0; i < 100; i++) {
        harness_run_until(c->h, harness_now(c->h) + 10 * SECOND);
        if (cluster_residual(c) < bound && cluster_mistakes(c) == 0) return true;
    }
    return false;
}

static void fail_of(const struct cluster *c, const char *topology, const char *params, const char *compress)
{
    fail_msg("%s on %s with %s: residual %g, %u mistakes", params, topology, compress, cluster_residual(c),
             cluster_mistakes(c));
}

/* -- conservation -------------------------------------------------------------------------------- */

static void conserves(const char *topology, const char *params, const struct compressor_case *compress,
                      uint64_t seed)
{
    struct cluster c;
    cluster_open(&c, topology, 12, params, compress->text, seed);
    harness_run_until(c.h, 5 * SECOND);
    assert_true(harness_steps(c.h, 3) > 100);
    if (!compress->exact) assert_true(cluster_residual(&c) > 0); /* something is kept back */
    if (!drain(&c, 1e-2)) fail_of(&c, topology, params, compress->text);
    assert_true(10 * harness_sent_vectors(c.h) < harness_sent(c.h, DIGEST_TOKEN)); /* whole: only at first */
    assert_int_equal(harness_sent(c.h, DIGEST_AGAIN), 0);
    cluster_close(&c);
}

static void what_is_dropped_arrives_later(void **state)
{
    (void)state;
    static const char *const kinds[] = {"single", "path", "star", "branch", "edge"};
    static const char *const topologies[] = {"ring", "complete", "er:p=0.3"};
    for (size_t k = 0; k < 5; k++)
        for (size_t t = 0; t < 3; t++)
            for (size_t i = 0; i < COMPRESSORS; i++) {
                char params[64];
                snprintf(params, sizeof params, "digest:streams=%s,sync_every=4", kinds[k]);
                conserves(topologies[t], params, &compressors[i], 1 + k + t + i);
            }
}

/* At every moment: what the token holds and what is kept back is what was handed over. With one stream and no
 * token on its way, so that all of it can be seen. */
static void nothing_is_lost_or_doubled_on_the_way(void **state)
{
    (void)state;
    for (size_t i = 0; i < COMPRESSORS; i++) {
        struct cluster c;
        cluster_open(&c, "ring", 8, "digest:streams=single,sync_every=30", compressors[i].text, 1 + i);
        uint32_t looks = 0;
        for (uint64_t at = SECOND; at < 20 * SECOND; at += 7000) {
            harness_run_until(c.h, at);
            rank_t holder = 0;
            while (holder < c.n && cluster_node(&c, holder)->own[0].custody.place != CUSTODY_HELD) holder++;
            if (holder == c.n) continue;
            looks++;
            for (rank_t u = 0; u < c.n; u++) {
                double sum = blob_floats(cluster_node(&c, holder)->own[0].snapshot)[u];
                for (rank_t v = 0; v < c.n; v++)
                    sum += (double)blob_floats(cluster_node(&c, v)->reference)[u] -
                           (double)blob_floats(cluster_node(&c, v)->own[0].snapshot)[u];
                double truth = c.weight[u] * (double)cluster_node(&c, u)->steps_handed_over;
                if (fabs(sum - truth) > 1e-3 * (1 + truth))
                    fail_msg("%s: %g of node %u, which handed over %g", compressors[i].text, sum, u, truth);
            }
        }
        assert_true(looks > 100);
        cluster_close(&c);
    }
}

/* A planted bug: a node forgets what it keeps back. */
static void forget_what_was_dropped(void *ctx, struct harness *h, rank_t rank, const struct algo_event *event)
{
    struct digest *d = cluster_node(ctx, rank);
    (void)h;
    if (rank != 2 || event->kind != ALGO_MESSAGE) return; /* an inner node of the tree */
    blob_ref(d->reference);
    blob_unref(d->own[0].snapshot);
    d->own[0].snapshot = d->reference;
}

static void a_planted_loss_is_caught(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "ring", 6, "digest:streams=single,sync_every=4", "topk:fraction=0.2", 1);
    harness_set_hook(c.h, forget_what_was_dropped, &c);
    harness_run_until(c.h, 5 * SECOND);
    assert_false(drain(&c, 1e-2));
    cluster_close(&c);
}

/* -- the tree -------------------------------------------------------------------------------------- */

/* Every edge but those of the breadth-first tree from rank 0 stays unused. */
static void compressed_tours_keep_to_a_tree(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 8, "digest:streams=single,sync_every=4", "topk:fraction=0.2", 1);
    harness_run_until(c.h, 10 * SECOND);
    for (rank_t v = 0; v < c.n; v++) {
        const struct stream_seat *m = &cluster_node(&c, v)->own[0];
        for (uint32_t i = 0; i < c.n - 1; i++) {
            bool to_root = neighbour_at(cluster_node(&c, v), i) == 0;
            assert_int_equal(m->line[i].in_tree, v == 0 || to_root);
            assert_int_equal(m->line[i].mirror.value != NULL, v == 0 || to_root);
        }
    }
    cluster_close(&c);
}

/* While a link of the tree is down every second tour goes by other edges and nobody is left out. */
static void a_tree_with_a_broken_link_is_toured_by_any_edge(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 8, "digest:streams=single,sync_every=4", "topk:fraction=0.2", 1);
    harness_run_until(c.h, 2 * SECOND);
    harness_link_down(c.h, 0, 5);
    harness_run_until(c.h, 10 * SECOND);
    struct algo_report before, after;
    harness_report(c.h, 5, &before);
    uint64_t whole = harness_sent_vectors(c.h), tokens = harness_sent(c.h, DIGEST_TOKEN);
    harness_run_until(c.h, 20 * SECOND);
    harness_report(c.h, 5, &after);
    assert_true(after.mixes > before.mixes + 10);
    assert_true(harness_sent_vectors(c.h) - whole <
                harness_sent(c.h, DIGEST_TOKEN) - tokens); /* some packed */
    assert_true(drain(&c, 1e-2));
    cluster_close(&c);
}

/* -- faults ---------------------------------------------------------------------------------------- */

/* The link breaks under the token, for less than patience (it is sent again) or for longer (made anew). */
static void lose_in_flight(const char *params, const char *compress, uint64_t seed, uint64_t down_us)
{
    struct cluster c;
    cluster_open(&c, "ring", 6, params, compress, seed);
    harness_run_until(c.h, 3 * SECOND);
    rank_t to, from = cluster_catch_in_flight(&c, &to);
    assert_true(cluster_residual(&c) > 0);
    harness_link_down(c.h, from, to);
    harness_run_until(c.h, harness_now(c.h) + down_us);
    assert_true(harness_lost(c.h) > 0);
    harness_link_up(c.h, from, to);
    harness_run_until(c.h, harness_now(c.h) + 5 * SECOND);
    if (!drain(&c, 1e-2)) fail_of(&c, "ring", params, compress);
    assert_int_equal(cluster_regenerated(&c) > 0, down_us > PATIENCE);
    cluster_close(&c);
}

static void a_token_lost_in_flight_costs_nothing(void **state)
{
    (void)state;
    static const char *const some[] = {"topk:fraction=0.2", "randk:fraction=0.3", "sign", "int8"};
    for (uint64_t seed = 1; seed <= 12; seed++) {
        lose_in_flight("digest:streams=single,sync_every=5", some[seed % 4], seed, PATIENCE / 4);
        lose_in_flight("digest:streams=path,sync_every=5", some[seed % 4], seed, PATIENCE / 4);
        lose_in_flight("digest:streams=single,sync_every=5", some[seed % 4], seed, 6 * PATIENCE);
    }
}

/* Acknowledgements get lost while links break: repetitions carry the value that was sent first. */
static void repetitions_change_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct cluster c;
        struct prng p;
        prng_split(&p, seed, "repetitions", 0);
        cluster_open(&c, "ring", 6, "digest:streams=single,sync_every=5", "topk:fraction=0.2", seed);
        for (int i = 0; i < 20; i++) {
            rank_t v = prng_below(&p, c.n), w = (v + 1) % c.n;
            harness_run_until(c.h, harness_now(c.h) + SECOND / 4);
            harness_drop_next(c.h, v, w, DIGEST_ACK);
            harness_run_until(c.h, harness_now(c.h) + SECOND / 4);
            harness_link_down(c.h, v, w);
            harness_run_until(c.h, harness_now(c.h) + PATIENCE / 5);
            harness_link_up(c.h, v, w);
        }
        if (!drain(&c, 1e-2)) fail_of(&c, "ring", "single", "topk");
        cluster_close(&c);
    }
}

/* An end that has forgotten its line asks for the token again and gets it whole. */
static void a_line_out_of_step_is_mended(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "ring", 6, "digest:streams=single,sync_every=5", "topk:fraction=0.2", 3);
    for (int i = 0; i < 10; i++) {
        harness_run_until(c.h, harness_now(c.h) + SECOND);
        digest_lines_forget(cluster_node(&c, 2), &cluster_node(&c, 2)->own[0]);
        cluster_node(&c, 4)->own[0].line[0].number += 7;
    }
    assert_true(harness_sent(c.h, DIGEST_AGAIN) > 3);
    assert_true(drain(&c, 1e-2));
    cluster_close(&c);
}

/* A part that cannot be reached holds the newest snapshots and goes on; the greater generation fences it off. Not
 * all of what the two tokens left behind may be added to one of them. */
static void what_was_kept_back_from_a_lost_token_is_not_counted_twice(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct cluster c;
        cluster_open(&c, "ring", 8, "digest:streams=single,sync_every=5,reweigh=no", "randk:fraction=0.3",
                     seed);
        harness_run_until(c.h, 3 * SECOND);
        rank_t cut = (rank_t)(seed % 8), far = (cut + 3) % 8;
        for (int i = 0; i < 4; i++) harness_pause(c.h, (cut + (rank_t)i) % 8);
        harness_run_until(c.h, harness_now(c.h) + 12 * PATIENCE);
        for (int i = 0; i < 4; i++) harness_unpause(c.h, (cut + (rank_t)i) % 8);
        harness_link_down(c.h, far, (far + 1) % 8);
        harness_run_until(c.h, harness_now(c.h) + 6 * PATIENCE);
        harness_link_up(c.h, far, (far + 1) % 8);
        harness_stop_training(c.h);
        harness_run_until(c.h, harness_now(c.h) + 100 * SECOND);
        assert_true(cluster_residual(&c) < 1e-2);
        for (rank_t v = 0; v < c.n; v++)
            for (rank_t u = 0; u < c.n; u++) {
                double truth = c.weight[u] * (double)harness_steps(c.h, u);
                if ((double)harness_model(c.h, v)[u] > truth * 1.001 + 1e-2)
                    fail_msg("seed %d: node %u holds %g of node %u, which did %g", (int)seed, v,
                             (double)harness_model(c.h, v)[u], u, truth);
            }
        cluster_close(&c);
    }
}

/* -- refusals -------------------------------------------------------------------------------------- */

static void unfit_compressors_are_refused_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *compress, *params, *remedy;
    } bad[] = {
        {"randk:fraction=0.1,variant=unbiased", "digest", "variant=unbiased"},
        {"topk", "digest:hop=walk", "hop=dfs"},
    };
    struct cluster c;
    cluster_open(&c, "ring", 64, "digest", NULL, 1);
    float x0[64] = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct choice compress, params;
        struct err_text why = {""};
        struct algo *out = NULL;
        assert_int_equal(choice_parse(compress_table, compress_table_count, "--compress", bad[i].compress,
                                      &compress, &why),
                         0);
        assert_int_equal(choice_parse(&digest_type.spec, 1, "--algorithm", bad[i].params, &params, &why), 0);
        struct algo_config config = {.node_count = 64,
                                     .graph = &c.graph,
                                     .weight = c.weight,
                                     .dim = 64,
                                     .x0 = x0,
                                     .patience_us = PATIENCE,
                                     .compress = &compress};
        assert_int_equal(algo_create(&digest_type, &config, &params, &out, &why), ERR_USAGE);
        if (strstr(why.text, bad[i].remedy) == NULL) fail_msg("no remedy: %s", why.text);
    }
    cluster_close(&c);
}

static void malformed_lines_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 4, "digest:streams=single,sync_every=5", "topk:fraction=0.3", 1);
    harness_run_until(c.h, 2 * SECOND);
    const struct line *l = &cluster_node(&c, 1)->own[0].line[0]; /* with node 0 */
    uint64_t base = l->number << 1 | !l->mine;
    float zeros[4] = {0};
    struct blob *vec = blob_copy(zeros, sizeof zeros), *junk = blob_copy("\x07\xff\xff", 3);
    uint8_t bits[1] = {1};
    struct token_stamp s = cluster_node(&c, 1)->own[0].custody.last;
    struct algo_msg bad[] = {
        {.vec = vec, .field = {[FIELD_NUMBER] = 0, [FIELD_BASE] = 3}},
        {.packed = junk, .field = {[FIELD_NUMBER] = 0, [FIELD_BASE] = 0}},
        {.packed = junk, .field = {[FIELD_NUMBER] = 99, [FIELD_BASE] = 0}},
        {.vec = vec, .field = {[FIELD_NUMBER] = 99, [FIELD_BASE] = base}},
        {.packed = junk, .field = {[FIELD_NUMBER] = 99, [FIELD_BASE] = base}},
        {.vec = vec, .field = {[FIELD_NUMBER] = UINT64_MAX, [FIELD_BASE] = 0}},
        {.field = {[FIELD_NUMBER] = 0, [FIELD_BASE] = 0}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct blob *value = l->mirror.value;
        bad[i].kind = DIGEST_TOKEN;
        bad[i].field_count = TOKEN_FIELDS;
        bad[i].bits = bits;
        bad[i].bits_size = 1;
        bad[i].field[FIELD_SEQUENCE] = s.sequence + 50;
        if (harness_inject(c.h, 0, 1, &bad[i]) != ERR_PROTO) fail_msg("case %zu is taken", i);
        assert_ptr_equal(value, l->mirror.value);
    }
    blob_unref(vec);
    blob_unref(junk);
    assert_true(drain(&c, 1e-2));
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_dropped_arrives_later),
        cmocka_unit_test(nothing_is_lost_or_doubled_on_the_way),
        cmocka_unit_test(a_planted_loss_is_caught),
        cmocka_unit_test(compressed_tours_keep_to_a_tree),
        cmocka_unit_test(a_tree_with_a_broken_link_is_toured_by_any_edge),
        cmocka_unit_test(a_token_lost_in_flight_costs_nothing),
        cmocka_unit_test(repetitions_change_nothing),
        cmocka_unit_test(a_line_out_of_step_is_mended),
        cmocka_unit_test(what_was_kept_back_from_a_lost_token_is_not_counted_twice),
        cmocka_unit_test(unfit_compressors_are_refused_with_a_remedy),
        cmocka_unit_test(malformed_lines_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

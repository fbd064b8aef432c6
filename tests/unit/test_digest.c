/* Goal: DIGEST conserves: every local step reaches every model once, weighted, whatever the streams; malformed
 * messages change nothing.
 * Method: trainers count (digest_fixture.h). After training stops and the tours have gone round, every model
 * must be x0 + sum_v w_v steps_v exactly. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/unit/digest_fixture.h"

/* -- conservation ------------------------------------------------------------------------------ */

static void every_model_ends_at_the_weighted_sum_of_all_progress(void **state)
{
    (void)state;
    static const char *const kinds[] = {"single", "path", "star", "branch", "edge"};
    static const char *const topologies[] = {"ring", "star", "complete", "er:p=0.3", "regular:d=4"};
    for (size_t k = 0; k < 5; k++)
        for (size_t t = 0; t < 5; t++)
            for (uint64_t seed = 1; seed <= 3; seed++) {
                struct cluster c;
                char params[64];
                snprintf(params, sizeof params, "digest:streams=%s,sync_every=%d", kinds[k], (int)(3 + seed));
                cluster_open(&c, topologies[t], 12, params, NULL, seed);
                cluster_settle(&c, 5 * SECOND, 20 * SECOND);
                assert_true(harness_steps(c.h, 3) > 100);
                if (cluster_mistakes(&c) != 0)
                    fail_msg("%s on %s, seed %d", params, topologies[t], (int)seed);
                cluster_close(&c);
            }
}

static void walking_tokens_conserve_too(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct cluster c;
        cluster_open(&c, "er:p=0.4", 10, "digest:streams=path,hop=walk,sync_every=4", NULL, seed);
        cluster_settle(&c, 5 * SECOND, 20 * SECOND);
        assert_int_equal(cluster_mistakes(&c), 0);
        cluster_close(&c);
    }
}

/* A planted bug: node 0 forgets that it has handed its progress over (its reference stays behind). */
static void forget_the_sync(void *ctx, struct harness *h, rank_t rank, const struct algo_event *event)
{
    struct cluster *c = ctx;
    (void)h;
    if (rank != 0 || event->kind != ALGO_MESSAGE) return;
    struct digest *d = cluster_node(c, 0);
    blob_unref(d->reference);
    float *zeros = mem_new_zero(d->dim, sizeof(float));
    d->reference = blob_copy(zeros, d->dim * sizeof(float));
    free(zeros);
}

static void a_planted_double_count_is_caught(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 6, "digest:streams=single,sync_every=4", NULL, 1);
    harness_set_hook(c.h, forget_the_sync, &c);
    cluster_settle(&c, 5 * SECOND, 20 * SECOND);
    assert_true(cluster_mistakes(&c) > 0);
    cluster_close(&c);
}

static void overlapping_streams_are_refused_and_would_run_away(void **state)
{
    (void)state;
    /* Two streams that share two nodes, put in behind the check's back. */
    struct cluster c;
    cluster_open(&c, "complete", 4, "digest:streams=single,sync_every=4", NULL, 1);
    uint32_t offset[] = {0, 3, 6}, member[] = {0, 1, 2, 1, 2, 3};
    struct stream_set cyclic = {2, offset, member, RANK_NONE};
    struct err_text why = {""};
    harness_run_until(c.h, 1);
    assert_int_equal(streams_check(&cyclic, &c.graph, NULL, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "cycle"));
    for (rank_t v = 0; v < c.n; v++) {
        cluster_node(&c, v)->given = cyclic;
        streams_deinit(&cluster_node(&c, v)->plan.streams);
        digest_plan_settle(cluster_node(&c, v));
    }
    cluster_settle(&c, 5 * SECOND, 20 * SECOND);
    double largest = 0;
    for (rank_t v = 0; v < c.n; v++) largest = fmax(largest, harness_model(c.h, 1)[v]);
    assert_true(largest > 10 * (double)harness_steps(c.h, 0));
    for (rank_t v = 0; v < c.n; v++) {
        cluster_node(&c, v)->plan.streams = (struct stream_set){.count = 0};
        cluster_node(&c, v)->given = (struct stream_set){.count = 0};
    }
    cluster_close(&c);
}

/* -- small facts ------------------------------------------------------------------------------- */

static void one_node_is_plain_sgd(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 1, "digest:streams=single,sync_every=4", NULL, 1);
    cluster_settle(&c, SECOND, SECOND);
    assert_true(harness_model(c.h, 0)[0] == (float)harness_steps(c.h, 0));
    assert_int_equal(harness_sent_vectors(c.h), 0);
    cluster_close(&c);
}

static void a_tour_of_the_complete_graph_takes_n_minus_1_hops(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 100, "digest:streams=single,sync_every=1000", NULL, 1);
    harness_set_step_time(c.h, RANK_NONE, 1000);
    harness_set_delay(c.h, 100, 200);
    harness_run_until(c.h, SECOND + SECOND / 2); /* step 1000 at 1 s, a tour takes less than 99 * 0.2 ms */
    assert_int_equal(harness_sent(c.h, DIGEST_TOKEN), 99);
    cluster_close(&c);
}

static void a_tour_backtracks_where_it_must(void **state)
{
    (void)state;
    struct cluster c; /* a star toured from its centre: out and back to each leaf but the last */
    cluster_open(&c, "star", 6, "digest:streams=single,sync_every=1000", NULL, 1);
    harness_set_step_time(c.h, RANK_NONE, 1000);
    harness_set_delay(c.h, 100, 200);
    harness_run_until(c.h, SECOND + SECOND / 2);
    assert_int_equal(harness_sent(c.h, DIGEST_TOKEN), 9);
    cluster_close(&c);
}

/* -- bad input --------------------------------------------------------------------------------- */

static void malformed_messages_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 4, "digest:streams=single,sync_every=5", NULL, 1);
    harness_run_until(c.h, SECOND);
    float *x = mem_new_zero(4, sizeof(float));
    struct blob *vec = blob_copy(x, 4 * sizeof(float));
    uint8_t bits[8] = {1};
    /* Lines of plans: (number, proposer, streams, what was heard of each) ... */
    static const uint32_t endless[] = {0, 0, UINT32_MAX, 0}, of_itself[] = {1, 0, 0};
    static const uint32_t falling[] = {2, 1, 1, 7, 2, 0, 1, 7};
    static const uint8_t forks[17] = {1, 4};
    struct algo_msg bad[] = {
        {.kind = 0},
        {.kind = 99},
        {.kind = DIGEST_TOKEN, .field_count = 3},
        {.kind = DIGEST_TOKEN, .field_count = TOKEN_FIELDS, .bits = bits, .bits_size = 1}, /* no vector */
        {.kind = DIGEST_TOKEN, .field_count = TOKEN_FIELDS, .vec = vec, .bits = bits, .bits_size = 2},
        {.kind = DIGEST_TOKEN,
         .field_count = TOKEN_FIELDS,
         .vec = vec,
         .bits = bits,
         .bits_size = 1,
         .field = {0, 0, 7, 0, 0, 99, 0, 0}},
        {.kind = DIGEST_TOKEN,
         .field_count = TOKEN_FIELDS,
         .vec = vec,
         .bits = bits,
         .bits_size = 1,
         .field = {0, 0, 0, 0, 77, 99, 0, 0}},
        {.kind = DIGEST_TOKEN,
         .field_count = TOKEN_FIELDS,
         .vec = vec,
         .bits = bits,
         .bits_size = 1,
         .field = {0, 0, 0, 0, 0, UINT64_MAX, 0, 0}},
        {.kind = DIGEST_ACK, .field_count = 1},
        {.kind = DIGEST_SEEK, .field_count = SEEK_FIELDS, .field = {0, 0, 0, 0, 0, 1, 99, 0, 0}},
        {.kind = DIGEST_STATUS, .field_count = STATUS_FIELDS, .field = {UINT64_MAX, 0, 0}},
        {.kind = DIGEST_PLAN,
         .field_count = PLAN_FIELDS,
         .vec = vec,
         .bits = bits,
         .bits_size = 8,
         .field = {1, 0}},
        {.kind = DIGEST_PLAN,
         .field_count = PLAN_FIELDS,
         .vec = vec,
         .bits = bits,
         .bits_size = 3,
         .field = {1, 0}},
        {.kind = DIGEST_PLAN, .field_count = PLAN_FIELDS, .vec = vec, .field = {1, 0, 1}}, /* no edge there */
        {.kind = DIGEST_PLAN,
         .field_count = PLAN_FIELDS,
         .vec = vec,
         .bits = (const uint8_t *)endless,
         .bits_size = sizeof endless,
         .field = {1, 0, 0}},
        {.kind = DIGEST_PLAN,
         .field_count = PLAN_FIELDS,
         .vec = vec,
         .bits = (const uint8_t *)of_itself,
         .bits_size = sizeof of_itself,
         .field = {1, 0, 0}},
        {.kind = DIGEST_PLAN,
         .field_count = PLAN_FIELDS,
         .vec = vec,
         .bits = (const uint8_t *)falling,
         .bits_size = sizeof falling,
         .field = {9, 0, 0}},
        {.kind = DIGEST_TOKEN,
         .field_count = TOKEN_FIELDS,
         .vec = vec,
         .bits = (const uint8_t *)forks,
         .bits_size = 17, /* a map and a fork that is younger than the token's own */
         .field = {0, 0, 0, 5, 0, 99, 0, 0, 0, 0, 3}},
        {.kind = DIGEST_OFFER, .field_count = OFFER_FIELDS, .vec = vec, .field = {0, 0, UINT64_MAX}},
        {.kind = DIGEST_OFFER,
         .field_count = OFFER_FIELDS,
         .vec = vec,
         .bits = (const uint8_t *)endless,
         .bits_size = sizeof endless},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        float before[4];
        memcpy(before, harness_model(c.h, 2), sizeof before);
        assert_int_equal(harness_inject(c.h, 1, 2, &bad[i]), ERR_PROTO);
        assert_memory_equal(before, harness_model(c.h, 2), sizeof before);
    }
    blob_unref(vec);
    free(x);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_ends_at_the_weighted_sum_of_all_progress),
        cmocka_unit_test(walking_tokens_conserve_too),
        cmocka_unit_test(a_planted_double_count_is_caught),
        cmocka_unit_test(overlapping_streams_are_refused_and_would_run_away),
        cmocka_unit_test(one_node_is_plain_sgd),
        cmocka_unit_test(a_tour_of_the_complete_graph_takes_n_minus_1_hops),
        cmocka_unit_test(a_tour_backtracks_where_it_must),
        cmocka_unit_test(malformed_messages_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

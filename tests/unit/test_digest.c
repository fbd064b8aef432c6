/* Goal: DIGEST conserves: every local step reaches every model once, weighted, whatever the streams; what a
 * fault costs is bounded and known (docs/algorithms.md).
 * Method: the counting trainer adds 1 to coordinate v per local step of node v, so coordinate v of a token
 * divided by w_v counts how many of v's steps it holds. After training stops and the tours have gone round,
 * every model must be x0 + sum_v w_v steps_v exactly (weights and counts are exact in float32). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/digest_internal.h"
#include "base/check.h"
#include "tests/unit/algo_harness.h"

extern const struct algo_type digest_type;

enum { SECOND = 1000000, PATIENCE = SECOND / 2 };

/* -- fixture ----------------------------------------------------------------------------------- */

struct cluster {
    struct graph graph;
    struct harness *h;
    uint32_t n;
    double *weight;
};

static void cluster_open(struct cluster *c, const char *topology, uint32_t n, const char *params,
                         uint64_t seed)
{
    struct err_text why = {""};
    struct choice choice;
    assert_int_equal(
        choice_parse(topology_table, topology_table_count, "--topology", topology, &choice, &why), 0);
    assert_int_equal(topology_build(&choice, n, seed, &c->graph, &why), 0);
    c->n = n;
    c->weight = mem_new(n, sizeof(double));
    double sum = 0;
    for (uint32_t v = 0; v < n; v++) sum += c->weight[v] = 1.0 + (double)((v * 7 + seed) % 4);
    double total = exp2(ceil(log2(sum))); /* powers of two keep the sums exact */
    c->weight[0] += total - sum;
    for (uint32_t v = 0; v < n; v++) c->weight[v] /= total;
    float *x0 = mem_new_zero(n, sizeof(float));
    c->h = harness_new(&digest_type, params, &c->graph, c->weight, n, x0, seed, PATIENCE);
    free(x0);
}

static void cluster_close(struct cluster *c)
{
    harness_free(c->h);
    graph_deinit(&c->graph);
    free(c->weight);
}

static struct digest *node(const struct cluster *c, rank_t v)
{
    return (struct digest *)harness_algo(c->h, v);
}

/* How many coordinates of v's model and of the tokens it has seen last differ from the truth. */
static unsigned mistakes_at(const struct cluster *c, rank_t v)
{
    unsigned mistakes = 0;
    const float *x = harness_model(c->h, v);
    for (uint32_t u = 0; u < c->n; u++) {
        double truth = c->weight[u] * (double)harness_steps(c->h, u);
        mistakes += fabs(x[u] - truth) > 1e-3 * (1 + truth);
        for (uint32_t s = 0; s < node(c, v)->own_count; s++) {
            const float *q = (const float *)(const void *)node(c, v)->own[s].snapshot->data;
            mistakes += fabs(q[u] - truth) > 1e-3 * (1 + truth);
        }
    }
    return mistakes;
}

static unsigned mistakes(const struct cluster *c)
{
    unsigned sum = 0;
    for (rank_t v = 0; v < c->n; v++)
        if (harness_model(c->h, v) != NULL) sum += mistakes_at(c, v);
    return sum;
}

/* Trains for a while, then lets the tours run until all news is everywhere. */
static void train_then_settle(struct cluster *c, uint64_t train_us, uint64_t settle_us)
{
    harness_run_until(c->h, harness_now(c->h) + train_us);
    harness_stop_training(c->h);
    harness_run_until(c->h, harness_now(c->h) + settle_us);
}

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
                cluster_open(&c, topologies[t], 12, params, seed);
                train_then_settle(&c, 5 * SECOND, 20 * SECOND);
                assert_true(harness_steps(c.h, 3) > 100);
                if (mistakes(&c) != 0) fail_msg("%s on %s, seed %d", params, topologies[t], (int)seed);
                cluster_close(&c);
            }
}

static void walking_tokens_conserve_too(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct cluster c;
        cluster_open(&c, "er:p=0.4", 10, "digest:streams=path,hop=walk,sync_every=4", seed);
        train_then_settle(&c, 5 * SECOND, 20 * SECOND);
        assert_int_equal(mistakes(&c), 0);
        cluster_close(&c);
    }
}

/* A planted bug: node 0 forgets that it has handed its progress over (its reference stays behind). */
static void forget_the_sync(void *ctx, struct harness *h, rank_t rank, const struct algo_event *event)
{
    struct cluster *c = ctx;
    (void)h;
    if (rank != 0 || event->kind != ALGO_MESSAGE) return;
    struct digest *d = node(c, 0);
    blob_unref(d->reference);
    float *zeros = mem_new_zero(d->dim, sizeof(float));
    d->reference = blob_copy(zeros, d->dim * sizeof(float));
    free(zeros);
}

static void a_planted_double_count_is_caught(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 6, "digest:streams=single,sync_every=4", 1);
    harness_set_hook(c.h, forget_the_sync, &c);
    train_then_settle(&c, 5 * SECOND, 20 * SECOND);
    assert_true(mistakes(&c) > 0);
    cluster_close(&c);
}

static void overlapping_streams_are_refused_and_would_run_away(void **state)
{
    (void)state;
    /* Two streams that share two nodes, put in behind the check's back. */
    struct cluster c;
    cluster_open(&c, "complete", 4, "digest:streams=single,sync_every=4", 1);
    uint32_t offset[] = {0, 3, 6}, member[] = {0, 1, 2, 1, 2, 3};
    struct stream_set cyclic = {2, offset, member, RANK_NONE};
    struct err_text why = {""};
    harness_run_until(c.h, 1);
    assert_int_equal(streams_check(&cyclic, &c.graph, NULL, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "cycle"));
    for (rank_t v = 0; v < c.n; v++) {
        node(&c, v)->given = cyclic;
        streams_deinit(&node(&c, v)->plan.streams);
        digest_plan_settle(node(&c, v));
    }
    train_then_settle(&c, 5 * SECOND, 20 * SECOND);
    double largest = 0;
    for (rank_t v = 0; v < c.n; v++) largest = fmax(largest, harness_model(c.h, 1)[v]);
    assert_true(largest > 10 * (double)harness_steps(c.h, 0));
    for (rank_t v = 0; v < c.n; v++) {
        node(&c, v)->plan.streams = (struct stream_set){.count = 0};
        node(&c, v)->given = (struct stream_set){.count = 0};
    }
    cluster_close(&c);
}

/* -- small facts ------------------------------------------------------------------------------- */

static void one_node_is_plain_sgd(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 1, "digest:streams=single,sync_every=4", 1);
    train_then_settle(&c, SECOND, SECOND);
    assert_true(harness_model(c.h, 0)[0] == (float)harness_steps(c.h, 0));
    assert_int_equal(harness_sent_vectors(c.h), 0);
    cluster_close(&c);
}

static void a_tour_of_the_complete_graph_takes_n_minus_1_hops(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 100, "digest:streams=single,sync_every=1000", 1);
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
    cluster_open(&c, "star", 6, "digest:streams=single,sync_every=1000", 1);
    harness_set_step_time(c.h, RANK_NONE, 1000);
    harness_set_delay(c.h, 100, 200);
    harness_run_until(c.h, SECOND + SECOND / 2);
    assert_int_equal(harness_sent(c.h, DIGEST_TOKEN), 9);
    cluster_close(&c);
}

/* -- lost tokens ------------------------------------------------------------------------------- */

static uint64_t regenerated(const struct cluster *c)
{
    uint64_t sum = 0;
    for (rank_t v = 0; v < c->n; v++) {
        struct algo_report r;
        harness_report(c->h, v, &r);
        sum += r.tokens_regenerated;
    }
    return sum;
}

/* Runs until a token is on its way; returns its sender and in *to its receiver. */
static rank_t catch_in_flight(struct cluster *c, rank_t *to)
{
    for (;;) {
        harness_run_until(c->h, harness_now(c->h) + 700);
        for (rank_t v = 0; v < c->n; v++)
            for (uint32_t s = 0; s < node(c, v)->own_count; s++) {
                const struct custody *sent = &node(c, v)->own[s].custody;
                if (sent->place != CUSTODY_SENT) continue;
                const struct custody *there =
                    &digest_membership(node(c, sent->sent_to), node(c, v)->own[s].stream)->custody;
                if (token_stamp_compare(&sent->last, &there->last) <= 0) continue; /* there already */
                *to = sent->sent_to;
                return v;
            }
    }
}

/* The link breaks under the token, for less than patience (it is sent again) or for longer (made anew). */
static void lose_in_flight(const char *params, uint64_t seed, uint64_t down_us, bool regenerates)
{
    struct cluster c;
    cluster_open(&c, "ring", 6, params, seed);
    harness_run_until(c.h, SECOND);
    rank_t to, from = catch_in_flight(&c, &to);
    harness_link_down(c.h, from, to);
    harness_run_until(c.h, harness_now(c.h) + down_us);
    assert_true(harness_lost(c.h) > 0);
    harness_link_up(c.h, from, to);
    train_then_settle(&c, 5 * SECOND, 20 * SECOND);
    if (mistakes(&c) != 0) fail_msg("%s, seed %d, down %d us", params, (int)seed, (int)down_us);
    assert_int_equal(regenerated(&c), regenerates);
    cluster_close(&c);
}

static void a_token_lost_in_flight_costs_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        lose_in_flight("digest:streams=single,sync_every=5", seed, PATIENCE / 4, false);
        lose_in_flight("digest:streams=path,sync_every=5", seed, PATIENCE / 4, false);
        lose_in_flight("digest:streams=star,sync_every=5", seed, PATIENCE / 4, false);
        lose_in_flight("digest:streams=single,sync_every=5", seed, 6 * PATIENCE, true);
    }
}

static void a_lost_acknowledgement_makes_no_second_token(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "ring", 6, "digest:streams=single,sync_every=5", 4);
    harness_run_until(c.h, SECOND);
    harness_drop_next(c.h, 3, 2, DIGEST_ACK);
    harness_run_until(c.h, 2 * SECOND);
    harness_link_down(c.h, 2, 3);
    harness_run_until(c.h, harness_now(c.h) + SECOND / 10);
    harness_link_up(c.h, 2, 3);
    train_then_settle(&c, 5 * SECOND, 20 * SECOND);
    assert_int_equal(mistakes(&c), 0);
    cluster_close(&c);
}

/* Index of the node that holds or has sent the only token of a single-stream cluster. */
static rank_t holder_of(const struct cluster *c)
{
    for (rank_t v = 0; v < c->n; v++)
        if (harness_algo(c->h, v) != NULL && node(c, v)->own_count > 0 &&
            node(c, v)->own[0].custody.place == CUSTODY_HELD)
            return v;
    return RANK_NONE;
}

static void a_dead_holder_costs_its_own_contribution_at_most(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct cluster c;
        cluster_open(&c, "complete", 8, "digest:streams=single,sync_every=5,reweigh=no", seed);
        uint64_t at = SECOND;
        do harness_run_until(c.h, at += 3000);
        while (holder_of(&c) == RANK_NONE);
        rank_t dead = holder_of(&c);
        harness_crash(c.h, dead);
        train_then_settle(&c, 10 * SECOND, 30 * SECOND);
        assert_int_equal(regenerated(&c), 1);
        for (rank_t v = 0; v < c.n; v++) {
            const float *x = harness_model(c.h, v);
            if (v == dead) continue;
            for (rank_t u = 0; u < c.n; u++) {
                double truth = c.weight[u] * (double)harness_steps(c.h, u);
                if (u != dead) assert_true(fabs(x[u] - truth) < 1e-3 * truth);
                assert_true(x[u] <= truth * 1.001);
            }
        }
        cluster_close(&c);
    }
}

/* -- random faults ----------------------------------------------------------------------------- */

struct storm {
    struct cluster *c;
    struct prng prng;
    bool down[16];
};

/* No aggregate ever holds more of a node's steps than the node has done. */
static void nothing_is_counted_twice(void *ctx, struct harness *h, rank_t rank,
                                     const struct algo_event *event)
{
    struct cluster *c = ((struct storm *)ctx)->c;
    (void)h;
    if (event->kind != ALGO_MESSAGE || harness_algo(c->h, rank) == NULL) return;
    const float *r = (const float *)(const void *)node(c, rank)->reference->data;
    for (rank_t u = 0; u < c->n; u++) {
        double bound = c->weight[u] * (double)harness_steps(c->h, u);
        if (r[u] > bound * 1.001 + 1e-3 || r[u] < -1e-3)
            fail_msg("node %u holds %g of node %u, which did %g", rank, (double)r[u], u, bound);
    }
}

static void disturb(struct storm *s)
{
    struct cluster *c = s->c;
    rank_t v = prng_below(&s->prng, c->n);
    rank_t w = c->graph.neighbour[c->graph.offset[v] + prng_below(&s->prng, graph_degree(&c->graph, v))];
    switch (prng_below(&s->prng, 6)) {
    case 0:
        if (!s->down[v]) harness_crash(c->h, v);
        s->down[v] = true;
        break;
    case 1:
        if (s->down[v]) harness_restart(c->h, v, true);
        s->down[v] = false;
        break;
    case 2:
        harness_link_down(c->h, v, w);
        break;
    case 3:
        harness_link_up(c->h, v, w);
        break;
    case 4:
        if (!s->down[v]) harness_pause(c->h, v);
        break;
    case 5:
        if (!s->down[v]) harness_unpause(c->h, v);
        break;
    }
}

static void heal(struct storm *s)
{
    struct cluster *c = s->c;
    for (rank_t v = 0; v < c->n; v++) {
        if (s->down[v])
            harness_restart(c->h, v, true);
        else
            harness_unpause(c->h, v);
        for (uint32_t i = c->graph.offset[v]; i < c->graph.offset[v + 1]; i++)
            harness_link_up(c->h, v, c->graph.neighbour[i]);
    }
}

static uint64_t mixes_of(const struct cluster *c, rank_t v)
{
    struct algo_report r;
    harness_report(c->h, v, &r);
    return r.mixes;
}

static void weather_the_storm(const char *params, uint64_t seed)
{
    struct cluster c;
    struct storm s = {.c = &c};
    cluster_open(&c, seed % 2 ? "regular:d=4" : "er:p=0.25", 16, params, seed);
    prng_split(&s.prng, seed, "storm", 0);
    harness_set_step_time(c.h, RANK_NONE, SECOND / 25);
    harness_set_hook(c.h, nothing_is_counted_twice, &s);
    for (int i = 0; i < 30; i++) {
        disturb(&s);
        harness_run_until(c.h, harness_now(c.h) + prng_below(&s.prng, 2 * SECOND));
    }
    heal(&s);
    harness_run_until(c.h, harness_now(c.h) + 60 * SECOND); /* liveness: every node is mixed into again */
    uint64_t before[16];
    for (rank_t v = 0; v < c.n; v++) before[v] = mixes_of(&c, v);
    harness_run_until(c.h, harness_now(c.h) + 30 * SECOND);
    for (rank_t v = 0; v < c.n; v++)
        if (mixes_of(&c, v) <= before[v])
            fail_msg("%s, seed %d: node %u is not mixed any more", params, (int)seed, v);
    harness_stop_training(c.h);
    harness_run_until(c.h, harness_now(c.h) + 30 * SECOND);
    for (rank_t v = 1; v < c.n; v++)
        for (rank_t u = 0; u < c.n; u++) {
            double a = harness_model(c.h, 0)[u], b = harness_model(c.h, v)[u];
            if (fabs(a - b) > 1e-3 * (1 + fabs(a)))
                fail_msg("%s, seed %d: nodes 0 and %u disagree about %u: %g, %g", params, (int)seed, v, u, a,
                         b);
        }
    cluster_close(&c);
}

static void single_stream_survives_random_faults(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        weather_the_storm("digest:streams=single,sync_every=5,reweigh=no", seed);
}

static void many_streams_survive_random_faults(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        weather_the_storm("digest:streams=path,sync_every=5,reweigh=no", seed);
}

/* -- bad input --------------------------------------------------------------------------------- */

static void malformed_messages_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "complete", 4, "digest:streams=single,sync_every=5", 1);
    harness_run_until(c.h, SECOND);
    float *x = mem_new_zero(4, sizeof(float));
    struct blob *vec = blob_copy(x, 4 * sizeof(float));
    uint8_t bits[8] = {1};
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
        {.kind = DIGEST_OFFER, .field_count = OFFER_FIELDS, .vec = vec, .field = {0, 0, UINT64_MAX}},
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
        cmocka_unit_test(a_token_lost_in_flight_costs_nothing),
        cmocka_unit_test(a_lost_acknowledgement_makes_no_second_token),
        cmocka_unit_test(a_dead_holder_costs_its_own_contribution_at_most),
        cmocka_unit_test(single_stream_survives_random_faults),
        cmocka_unit_test(many_streams_survive_random_faults),
        cmocka_unit_test(malformed_messages_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

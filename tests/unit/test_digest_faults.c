/* Goal: what a fault costs DIGEST is bounded and known (docs/algorithms.md): a lost token costs nothing, a dead
 * node its own last contribution, and any mixture of faults counts nothing twice and ends in agreement.
 * Method: trainers count (digest_fixture.h); faults by hand and at random. */
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

/* -- lost tokens ------------------------------------------------------------------------------- */

/* The link breaks under the token, for less than patience (it is sent again) or for longer (made anew). */
static void lose_in_flight(const char *params, uint64_t seed, uint64_t down_us, bool regenerates)
{
    struct cluster c;
    cluster_open(&c, "ring", 6, params, NULL, seed);
    harness_run_until(c.h, SECOND);
    rank_t to, from = cluster_catch_in_flight(&c, &to);
    harness_link_down(c.h, from, to);
    harness_run_until(c.h, harness_now(c.h) + down_us);
    assert_true(harness_lost(c.h) > 0);
    harness_link_up(c.h, from, to);
    cluster_settle(&c, 5 * SECOND, 20 * SECOND);
    if (cluster_mistakes(&c) != 0) fail_msg("%s, seed %d, down %d us", params, (int)seed, (int)down_us);
    assert_int_equal(cluster_regenerated(&c), regenerates);
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
    cluster_open(&c, "ring", 6, "digest:streams=single,sync_every=5", NULL, 4);
    harness_run_until(c.h, SECOND);
    harness_drop_next(c.h, 3, 2, DIGEST_ACK);
    harness_run_until(c.h, 2 * SECOND);
    harness_link_down(c.h, 2, 3);
    harness_run_until(c.h, harness_now(c.h) + SECOND / 10);
    harness_link_up(c.h, 2, 3);
    cluster_settle(&c, 5 * SECOND, 20 * SECOND);
    assert_int_equal(cluster_mistakes(&c), 0);
    cluster_close(&c);
}

/* Index of the node that holds or has sent the only token of a single-stream cluster. */
static rank_t holder_of(const struct cluster *c)
{
    for (rank_t v = 0; v < c->n; v++)
        if (harness_algo(c->h, v) != NULL && cluster_node(c, v)->own_count > 0 &&
            cluster_node(c, v)->own[0].custody.place == CUSTODY_HELD)
            return v;
    return RANK_NONE;
}

static void a_dead_holder_costs_its_own_contribution_at_most(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct cluster c;
        cluster_open(&c, "complete", 8, "digest:streams=single,sync_every=5,reweigh=no", NULL, seed);
        uint64_t at = SECOND;
        do harness_run_until(c.h, at += 3000);
        while (holder_of(&c) == RANK_NONE);
        rank_t dead = holder_of(&c);
        harness_crash(c.h, dead);
        cluster_settle(&c, 10 * SECOND, 30 * SECOND);
        assert_int_equal(cluster_regenerated(&c), 1);
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
    const float *r = (const float *)(const void *)cluster_node(c, rank)->reference->data;
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
    cluster_open(&c, seed % 2 ? "regular:d=4" : "er:p=0.25", 16, params, NULL, seed);
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

/* -- a peer that restarted -------------------------------------------------------------------------- */

/* A token sent to a process that is gone may have been passed on by it. Its successor, which does not know the
 * plan yet, gets the plan but not that token; a peer that is merely behind gets both. */
static void a_token_is_not_repeated_to_another_process(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "ring", 6, "digest:streams=path,sync_every=5", NULL, 1);
    harness_run_until(c.h, SECOND);
    harness_crash(c.h, 3);
    harness_run_until(c.h, 4 * SECOND);
    harness_restart(c.h, 3, true);
    harness_run_until(c.h, 10 * SECOND);
    struct digest *d = cluster_node(&c, 2);
    assert_true(d->plan.epoch.number > 0);
    struct stream_seat *m = &d->own[0];
    rank_t peer = seat_has(m, 1) ? 1 : 3;
    const struct algo_msg status = {
        .kind = DIGEST_STATUS, .field_count = STATUS_FIELDS, .field = {[FIELD_LATE] = 1}};
    for (int gone = 1; gone >= 0; gone--) {
        uint64_t tokens = harness_sent(c.h, DIGEST_TOKEN), plans = harness_sent(c.h, DIGEST_PLAN);
        m->custody.place = CUSTODY_SENT;
        m->custody.sent_to = peer;
        m->custody.link_lost = gone == 1;
        m->custody.give_up_us = TIME_NEVER;
        assert_int_equal(harness_inject(c.h, peer, 2, &status), 0);
        assert_int_equal(harness_sent(c.h, DIGEST_PLAN), plans + 1);
        assert_int_equal(harness_sent(c.h, DIGEST_TOKEN), tokens + (gone == 0));
    }
    cluster_close(&c);
}

/* -- what actions point into ------------------------------------------------------------------------ */

/* Both make the plan new in the very step that has sent something of the old one. The harness reads the bits after
 * the step, so that AddressSanitizer tells if they were freed within it. */
/* All have stopped. The one with the newest model begins, with no token, as it is the first of no stream; those who
 * join it make none either. They shall not have to find out one by one that all tokens are gone. */
static void all_that_begin_again_have_tokens_soon(void **state)
{
    (void)state;
    static const char *const params[] = {"digest:streams=single,sync_every=10", "digest:sync_every=10"};
    for (rank_t first = 0; first < 8; first++) {
        struct cluster c;
        cluster_open(&c, "complete", 4, params[first / 4], NULL, 5);
        harness_run_until(c.h, SECOND);
        float kept[4];
        memcpy(kept, harness_model(c.h, first % 4), sizeof kept);
        for (rank_t v = 0; v < 4; v++) harness_crash(c.h, v);
        harness_restart_at(c.h, first % 4, false, kept);
        for (rank_t v = 0; v < 4; v++)
            if (v != first % 4) harness_restart_at(c.h, v, true, kept);
        harness_run_until(c.h, SECOND + 4 * PATIENCE);
        for (rank_t v = 0; v < 4; v++) {
            struct algo_report r;
            harness_report(c.h, v, &r);
            if (r.mixes < 2) fail_msg("%s, %u first: %u has not mixed", params[first / 4], first % 4, v);
        }
        cluster_close(&c);
    }
}

/* All have stopped and one does not come back, whichever: nobody waits for its tokens for much longer than it takes
 * to see that it is gone, to search, and to spread a plan. */
static uint64_t wait_without(const char *params, const char *topology, rank_t first, rank_t missing)
{
    struct cluster c;
    cluster_open(&c, topology, 8, params, NULL, 5);
    harness_run_until(c.h, SECOND);
    float kept[8];
    memcpy(kept, harness_model(c.h, first), sizeof kept);
    for (rank_t v = 0; v < 8; v++) harness_crash(c.h, v);
    harness_restart_at(c.h, first, false, kept);
    for (rank_t v = 0; v < 8; v++)
        if (v != first && v != missing) harness_restart_at(c.h, v, true, kept);
    uint64_t begun = harness_now(c.h);
    for (rank_t v = 0; v < 8; v++) {
        struct algo_report r = {.mixes = 0};
        while (v != missing && r.mixes == 0 && harness_now(c.h) < begun + 60 * SECOND) {
            harness_report(c.h, v, &r);
            if (r.mixes == 0) harness_run_until(c.h, harness_now(c.h) + SECOND / 100);
        }
    }
    uint64_t took = harness_now(c.h) - begun;
    cluster_close(&c);
    return took;
}

static void a_first_holder_that_is_missing_is_not_waited_for(void **state)
{
    (void)state;
    static const char *const params[] = {"digest:streams=single,sync_every=10", "digest:sync_every=10",
                                         "digest:streams=star,sync_every=10"};
    static const char *const topologies[] = {"ring", "torus", "complete"};
    for (size_t i = 0; i < 9; i++)
        for (rank_t first = 0; first < 8; first += 3)
            for (rank_t missing = 0; missing < 8; missing++) {
                if (missing == first) continue;
                uint64_t took = wait_without(params[i % 3], topologies[i / 3], first, missing);
                if (took > 5 * PATIENCE)
                    fail_msg("%s on %s, %u first, without %u: %d ms", params[i % 3], topologies[i / 3], first,
                             missing, (int)(took / 1000));
            }
}

static void a_token_sent_as_the_plan_changes_keeps_its_bits(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "ring", 6, "digest:streams=path,sync_every=1000", NULL, 1);
    harness_run_until(c.h, SECOND); /* no tour is due yet: each token is parked where it began */
    rank_t v = 0;
    while (cluster_node(&c, v)->own[0].custody.place != CUSTODY_HELD) v++;
    struct digest *d = cluster_node(&c, v);
    d->own[0].tour_us = d->propose_us = harness_now(c.h);
    d->forced = true;
    uint64_t tokens = harness_sent(c.h, DIGEST_TOKEN), epoch = d->plan.epoch.number;
    const struct algo_event deadline = {.kind = ALGO_DEADLINE};
    assert_int_equal(harness_event(c.h, v, &deadline), 0);
    assert_int_equal(harness_sent(c.h, DIGEST_TOKEN), tokens + 1);
    assert_int_equal(d->plan.epoch.number, epoch + 1);
    cluster_close(&c);
}

static void a_plan_sent_as_the_plan_changes_keeps_its_bits(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "ring", 6, "digest:streams=path,sync_every=5", NULL, 1);
    harness_run_until(c.h, SECOND);
    harness_crash(c.h, 3);
    harness_run_until(c.h, 6 * SECOND);
    struct digest *d = cluster_node(&c, 1);
    assert_true(d->plan.down_count > 0);
    d->propose_us = harness_now(c.h);
    d->forced = true;
    uint64_t plans = harness_sent(c.h, DIGEST_PLAN), epoch = d->plan.epoch.number;
    const struct algo_msg status = {.kind = DIGEST_STATUS, .field_count = STATUS_FIELDS};
    assert_int_equal(harness_inject(c.h, 0, 1, &status), 0);
    assert_true(harness_sent(c.h, DIGEST_PLAN) >= plans + 2); /* the old one as an answer, then the new one */
    assert_int_equal(d->plan.epoch.number, epoch + 1);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_lost_in_flight_costs_nothing),
        cmocka_unit_test(a_lost_acknowledgement_makes_no_second_token),
        cmocka_unit_test(a_dead_holder_costs_its_own_contribution_at_most),
        cmocka_unit_test(a_token_is_not_repeated_to_another_process),
        cmocka_unit_test(all_that_begin_again_have_tokens_soon),
        cmocka_unit_test(a_first_holder_that_is_missing_is_not_waited_for),
        cmocka_unit_test(a_token_sent_as_the_plan_changes_keeps_its_bits),
        cmocka_unit_test(a_plan_sent_as_the_plan_changes_keeps_its_bits),
        cmocka_unit_test(single_stream_survives_random_faults),
        cmocka_unit_test(many_streams_survive_random_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

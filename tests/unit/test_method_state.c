/* Goal: what a method keeps over a restart (algo/state.h) is all that it owes: what was sent and what was kept back are
 * together what was produced, across save, crash, restart and going on, for every method that compresses.
 * Method: the courses of method_state_fixture.h. A node is killed again and again, at moments at which its method has
 * nothing on the way, and comes back from what it saved. Then nobody learns any more, the residuals drain, and the models
 * must hold every step once. Planted: a restart that loses the state; a residual that counts although it was sent. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/def/internal.h"
#include "algo/delicoco/internal.h"
#include "algo/digest/internal.h"
#include "algo/gossip/internal.h"
#include "algo/walk/internal.h"
#include "tests/unit/method_state_fixture.h"

/* -- deaths at the right moment ---------------------------------------------------------------- */

static bool agreed(const struct cluster *c)
{
    const float *x = harness_model(c->h, VICTIM);
    for (rank_t v = 0; v < NODES; v++)
        if (v != VICTIM && memcmp(harness_model(c->h, v), x, DIM * sizeof *x) == 0) return true;
    return false;
}

static bool is_here(const struct algo *a, const struct algo_type *type)
{
    if (type == &walk_type) return ((const struct walk *)a)->walk[0].custody.place != CUSTODY_AWAY;
    return ((const struct digest *)a)->own[0].custody.place != CUSTODY_AWAY;
}

static bool may_die(const struct cluster *c, enum moment moment, const struct algo_type *type)
{
    struct algo_report r;
    harness_report(c->h, VICTIM, &r);
    switch (moment) {
    case ANY:
        return true;
    case RESTED:
        return true;
    case AWAY:
        return !is_here(harness_algo(c->h, VICTIM), type);
    case HANDED:
        return harness_in_flight(c->h) == 0 && r.steps == r.steps_handed_over;
    case AGREED:
        return agreed(c);
    }
    UNREACHABLE();
}

/* The step of mixing or the round that v works on. */
static uint64_t step_of(const struct cluster *c, const struct course *k, rank_t v)
{
    const struct algo *a = harness_algo(c->h, v);
    if (k->type == &gossip_type) return ((const struct gossip *)a)->rounds.round;
    return ((const struct delicoco *)a)->step;
}

static bool in_step(const struct cluster *c, const struct course *k)
{
    bool even = true;
    for (rank_t v = 1; v < NODES; v++) even = even && step_of(c, k, v) == step_of(c, k, 0);
    return even;
}

/* Stops training at the moment that suits the method, and waits until what is on its way has come where it must. */
static void come_to_rest(struct cluster *c, const struct course *k)
{
    uint64_t limit_us = harness_now(c->h) + 60 * (uint64_t)SECOND;
    for (;;) {
        while (!may_die(c, k->moment, k->type)) harness_run_until(c->h, harness_now(c->h) + 500);
        assert_true(harness_now(c->h) < limit_us);
        harness_stop_training(c->h);
        if (k->moment == RESTED || k->moment == AGREED) harness_run_until(c->h, harness_now(c->h) + PAUSE);
        if (k->moment != RESTED || in_step(c, k)) return;
        harness_resume_training(c->h);
        harness_run_until(c->h, harness_now(c->h) + 20000);
    }
}

/* Saves, kills and restarts the victim. */
static void kill_and_restart(struct cluster *c, const struct course *k, bool plant)
{
    if (k->moment != ANY) come_to_rest(c, k);
    harness_save(c->h, VICTIM, true);
    if (plant) harness_forget_state(c->h, VICTIM);
    harness_crash(c->h, VICTIM);
    bool lost = c->asked[VICTIM] > harness_steps(c->h, VICTIM); /* it was at a step */
    c->learnt[VICTIM] += c->pending[VICTIM] && !lost;
    c->asked[VICTIM] -= lost;
    c->pending[VICTIM] = false;
    harness_restart_saved(c->h, VICTIM, true);
    if (k->moment == ANY) return;
    harness_run_until(c->h, harness_now(c->h) + PAUSE);
    harness_resume_training(c->h);
}

/* What v keeps back for the sum, in its units, from the bytes that it would save. */
static double kept_back(const struct cluster *c, const struct course *k, rank_t v, int i)
{
    struct blob *state = algo_state_save(k->type, harness_algo(c->h, v), v, DIM, true);
    CHECK(state != NULL && state->size >= 64 + DIM * sizeof(float));
    float residual;
    memcpy(&residual, state->data + 64 + (size_t)i * sizeof residual, sizeof residual);
    blob_unref(state);
    return (double)residual;
}

static double walking(const struct cluster *c, int i)
{
    double sum = 0;
    uint32_t here = 0;
    for (rank_t v = 0; v < NODES; v++) {
        const struct walking *k = &((const struct walk *)harness_algo(c->h, v))->walk[0];
        bool holds = k->custody.place == CUSTODY_HELD;
        here += holds;
        if (holds) sum += (double)k->x[i];
        if (!holds && k->owed) sum += (double)k->residual[i];
    }
    CHECK(here == 1);
    return sum;
}

static double held(const struct cluster *c, const struct course *k, rank_t v, int i)
{
    double sum = 0;
    if (k->judged == EACH) return (double)harness_model(c->h, v)[i];
    if (k->judged == WALKING) return walking(c, i);
    for (rank_t u = 0; u < NODES; u++) {
        sum += (double)harness_model(c->h, u)[i] / NODES;
        if (k->judged == MEAN_AND_KEPT) sum += kept_back(c, k, u, i);
    }
    return sum;
}

/* Greatest difference between a model and what was learnt, in steps. */
static double mistake(const struct cluster *c, const struct course *k)
{
    double most = 0;
    for (rank_t v = 0; v < NODES; v++)
        for (int i = 0; i < DIM; i++) {
            double truth = 0;
            for (rank_t u = 0; u < NODES; u++)
                truth += k->share * (double)c->learnt[u] * (double)progress_of(u, i);
            double off = fabs(held(c, k, v, i) - truth);
            if (off > most) most = off;
        }
    return most / (k->share * (double)progress_of(0, 0));
}

static double mistake_after(const struct course *k, uint64_t seed, bool plant)
{
    struct cluster c;
    cluster_open(&c, k, seed);
    for (int i = 0; i < KILLS; i++) {
        harness_run_until(c.h, harness_now(c.h) + SECOND + seed * 7777);
        kill_and_restart(&c, k, plant);
    }
    harness_run_until(c.h, harness_now(c.h) + SECOND);
    c.drift = false;
    harness_run_until(c.h, harness_now(c.h) + DRAIN_S * (uint64_t)SECOND);
    if (k->judged == MEAN_AND_KEPT || k->judged == WALKING) {
        harness_stop_training(c.h);
        harness_run_until(c.h, harness_now(c.h) + PAUSE);
    }
    double off = mistake(&c, k);
    cluster_close(&c);
    return off;
}

static void sent_and_kept_back_are_what_was_produced(void **state)
{
    (void)state;
    for (size_t k = 0; k < COURSES; k++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            double off = mistake_after(&courses[k], seed, false);
            if (off > 0.1)
                fail_msg("%s, %s, seed %d: %.2f steps off", courses[k].params,
                         courses[k].compress != NULL ? courses[k].compress : "whole", (int)seed, off);
        }
}

static void a_lost_state_is_caught(void **state)
{
    (void)state;
    for (size_t k = 0; k < COURSES; k++) {
        double off = courses[k].plant ? mistake_after(&courses[k], 1, true) : 10;
        if (off < 0.25) fail_msg("%s: a restart without its state is %.2f steps off", courses[k].params, off);
    }
}

/* -- a save that is not the last word ---------------------------------------------------------- */

/* The victim comes back with an older save. What got out since is in the sums once, what did not is lost with the
 * steps: never is an entry there twice. Returns by how many steps the victim's part is too great. */
static double too_much_after(const struct course *k, uint64_t seed, bool plant)
{
    struct cluster c;
    cluster_open(&c, k, seed);
    harness_run_until(c.h, SECOND + seed * 7777);
    harness_save(c.h, VICTIM, false);
    harness_run_until(c.h, harness_now(c.h) + SECOND / 8);
    bool at_step = c.asked[VICTIM] > harness_steps(c.h, VICTIM);
    harness_crash(c.h, VICTIM);
    c.learnt[VICTIM] += c.pending[VICTIM] && !at_step;
    c.pending[VICTIM] = false;
    harness_restart_saved(c.h, VICTIM, true);
    if (plant)
        ((struct def *)harness_algo(c.h, VICTIM))->owed_round = UINT64_MAX; /* nothing is found to be sent */
    c.drift = false;
    harness_run_until(c.h, harness_now(c.h) + DRAIN_S * (uint64_t)SECOND);
    double most = 0;
    for (int i = 0; i < DIM; i++) {
        double truth = 0;
        for (rank_t u = 0; u < NODES; u++) truth += (double)c.learnt[u] * (double)progress_of(u, i) / NODES;
        double over = ((double)harness_model(c.h, 0)[i] - truth) * NODES / (double)progress_of(VICTIM, i);
        if (over > most) most = over;
    }
    cluster_close(&c);
    return most;
}

static void nothing_is_handed_over_twice(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (size_t k = 0; k < COURSES; k++) {
            if (courses[k].moment != ANY) continue;
            double over = too_much_after(&courses[k], seed, false);
            if (over > 0.01) fail_msg("%s, seed %d: %.2f steps too much", courses[k].params, (int)seed, over);
        }
    assert_true(too_much_after(&courses[0], 1, true) > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sent_and_kept_back_are_what_was_produced),
        cmocka_unit_test(a_lost_state_is_caught),
        cmocka_unit_test(nothing_is_handed_over_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

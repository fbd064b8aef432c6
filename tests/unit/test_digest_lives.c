/* Goal: a node that was away while all others stopped and began again from a saved model (a laptop that slept) brings
 * nothing that this model holds already: its ledger is of their former life, in which plans and stamps had the same
 * numbers.
 * Method: trainers count (digest_fixture.h); reweigh=no, so that a node's work can be told from any model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/unit/digest_fixture.h"

enum { NODES = 8, SLEEPER = 5 };

static void sleeper_links(struct cluster *c, bool up)
{
    for (uint32_t i = c->graph.offset[SLEEPER]; i < c->graph.offset[SLEEPER + 1]; i++) {
        if (up)
            harness_link_up(c->h, SLEEPER, c->graph.neighbour[i]);
        else
            harness_link_down(c->h, SLEEPER, c->graph.neighbour[i]);
    }
}

/* All but the sleeper stop and begin again, from what `first` knew of the others: its aggregate, as steps of its own
 * that it has not handed over count as much as any in a model. */
static void begin_again(struct cluster *c, rank_t first)
{
    float kept[NODES];
    memcpy(kept, blob_floats(cluster_node(c, first)->reference), sizeof kept);
    for (rank_t v = 0; v < NODES; v++)
        if (v != SLEEPER) harness_crash(c->h, v);
    harness_restart_at(c->h, first, false, kept);
    for (rank_t v = 0; v < NODES; v++)
        if (v != SLEEPER && v != first) harness_restart_at(c->h, v, true, kept);
}

/* The first plan of the new life can tell nothing of the one before, and is told from all plans of that. */
static void wait_for_the_first_plan(struct cluster *c, rank_t first, uint32_t former_plan)
{
    uint64_t limit_us = harness_now(c->h) + 10 * SECOND;
    const struct plan *p = &cluster_node(c, first)->plan;
    while (p->epoch.number == 0 && harness_now(c->h) < limit_us)
        harness_run_until(c->h, harness_now(c->h) + SECOND / 100);
    assert_true(p->epoch.number > former_plan);
    assert_int_equal(p->lineage_words, 0);
}

/* Whoever has the token of a single stream dies with it and comes back: the others make it anew. */
static void lose_the_token(struct cluster *c)
{
    for (int i = 0; i < 1000; i++) {
        harness_run_until(c->h, harness_now(c->h) + SECOND / 200);
        for (rank_t v = 0; v < NODES; v++) {
            const struct digest *d = v != SLEEPER ? cluster_node(c, v) : NULL;
            if (d == NULL || d->own[0].custody.place != CUSTODY_HELD) continue;
            harness_crash(c->h, v);
            harness_restart(c->h, v, true);
            return;
        }
    }
    fail_msg("nobody has the token");
}

static void nothing_is_held_twice(const struct cluster *c, const char *what)
{
    for (rank_t v = 0; v < NODES; v++) {
        const float *r = blob_floats(cluster_node(c, v)->reference);
        for (rank_t u = 0; u < NODES; u++) {
            double done = (double)harness_steps(c->h, u), held = (double)r[u] / c->weight[u];
            if (held > 1.001 * done + 1e-3)
                fail_msg("%s: node %u holds %.1f steps of node %u, which did %.0f", what, v, held, u, done);
        }
    }
}

static void a_sleeper_hands_nothing_over_that_was_restored(void **state)
{
    (void)state;
    static const struct {
        const char *params;
        bool loses_token;
    } rows[] = {{"digest:streams=single,sync_every=5,reweigh=no", true},
                {"digest:streams=path,sync_every=5,reweigh=no", false},
                {"digest:streams=star,sync_every=5,reweigh=no", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (rank_t first = 0; first < 3; first++) {
            struct cluster c;
            cluster_open(&c, "ring", NODES, rows[i].params, NULL, 5);
            harness_run_until(c.h, 3 * SECOND);
            harness_pause(c.h, SLEEPER);
            sleeper_links(&c, false);
            begin_again(&c, first);
            wait_for_the_first_plan(&c, first, 0);
            harness_run_until(c.h, harness_now(c.h) + SECOND);
            if (rows[i].loses_token) lose_the_token(&c);
            harness_run_until(c.h, harness_now(c.h) + 8 * SECOND);
            sleeper_links(&c, true);
            harness_unpause(c.h, SLEEPER);
            harness_run_until(c.h, harness_now(c.h) + 8 * SECOND);
            nothing_is_held_twice(&c, rows[i].params);
            for (rank_t v = 0; v < NODES; v++) assert_false(cluster_node(&c, v)->unsure);
            cluster_close(&c);
        }
}

/* The plans of both lives could have the same numbers and proposers. */
static void plans_of_a_new_life_have_greater_numbers(void **state)
{
    (void)state;
    for (rank_t first = 0; first < 3; first++) {
        struct cluster c;
        cluster_open(&c, "ring", NODES, "digest:streams=path,sync_every=5,reweigh=no", NULL, 5);
        harness_run_until(c.h, SECOND);
        harness_crash(c.h, 2);
        harness_run_until(c.h, 4 * SECOND);
        harness_restart(c.h, 2, true);
        harness_run_until(c.h, 8 * SECOND);
        uint32_t plan = cluster_node(&c, SLEEPER)->plan.epoch.number;
        assert_true(plan > 1);
        harness_pause(c.h, SLEEPER);
        sleeper_links(&c, false);
        for (rank_t v = 0; v < NODES; v++) {
            if (v == SLEEPER) continue;
            harness_save(c.h, v, true);
            harness_crash(c.h, v);
        }
        harness_restart_saved(c.h, first, false);
        for (rank_t v = 0; v < NODES; v++)
            if (v != SLEEPER && v != first) harness_restart_saved(c.h, v, true);
        wait_for_the_first_plan(&c, first, plan);
        harness_run_until(c.h, harness_now(c.h) + 8 * SECOND);
        sleeper_links(&c, true);
        harness_unpause(c.h, SLEEPER);
        harness_run_until(c.h, harness_now(c.h) + 8 * SECOND);
        nothing_is_held_twice(&c, "second life");
        cluster_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_sleeper_hands_nothing_over_that_was_restored),
                                       cmocka_unit_test(plans_of_a_new_life_have_greater_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

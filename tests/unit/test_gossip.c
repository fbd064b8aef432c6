/* Goal: pairwise gossip (mode=async) averages without creating or losing progress, whatever happens to an
 * exchange, and both modes answer broken peers without a change of state.
 * Method: instances in virtual time (algo_harness.h) with the counting trainer: coordinate r of the sum of
 * all models is the number of steps rank r has done, which averaging must not change. The checker of the
 * sum is shown planted bugs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/gossip_fixture.h"

/* -- async: the sum -------------------------------------------------------------------------------- */

/* Runs for a while, lets the last exchange end, returns the error of the sum. */
static double run_and_measure(const struct algo_type *type, const char *params, const char *topology,
                              uint32_t n, uint64_t time_us, uint64_t seed, uint64_t *mixes)
{
    struct graph g = graph_make(topology, n);
    struct harness *h = harness_make(type, params, &g, seed);
    harness_run_until(h, time_us);
    harness_stop_training(h);
    assert_true(harness_run_until_quiet(h, time_us + PATIENCE / 2));
    double error = conservation_error(h, n);
    *mixes = 0;
    for (rank_t r = 0; r < n; r++) {
        *mixes += report_of(h, r).mixes;
        assert_int_equal(report_of(h, r).steps, harness_steps(h, r));
        assert_int_equal(report_of(h, r).exchanges_torn, 0);
    }
    harness_free(h);
    graph_deinit(&g);
    return error;
}

/* Short enough that halving never needs more bits than a float has: then not a bit may be lost. */
static void averaging_conserves_the_sum_exactly(void **state)
{
    (void)state;
    static const char *const topologies[] = {"ring", "complete", "star"};
    for (size_t t = 0; t < 3; t++)
        for (uint64_t seed = 1; seed <= 10; seed++) {
            uint64_t mixes;
            assert_true(run_and_measure(&gossip_type, "gossip", topologies[t], 4, 150000, seed, &mixes) == 0);
            assert_true(mixes >= 6);
            assert_int_equal(mixes % 2, 0); /* both ends or none */
        }
}

static void long_runs_conserve_the_sum_to_rounding(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        uint64_t mixes;
        double error =
            run_and_measure(&gossip_type, "gossip:every=3", "regular:d=4", 12, 20 * SECOND, seed, &mixes);
        assert_true(error < 0.05); /* of 4000 steps: thousands of roundings of 2^-24 */
        assert_true(mixes > 1000);
    }
}

static int step_applying_models_twice(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct gossip *g = (struct gossip *)a;
    float before[NODE_MAX];
    memcpy(before, g->x, g->dim * sizeof *before);
    int err = gossip_type.step(a, e, acts);
    if (e->kind == ALGO_MESSAGE && g->rank == 1)
        for (size_t i = 0; i < g->dim; i++) g->x[i] += g->x[i] - before[i];
    return err;
}

/* What "set x to the mean" does: progress made during the exchange is overwritten. */
static int step_overwriting_progress(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct gossip *g = (struct gossip *)a;
    const struct pairwise *p = &g->pairwise;
    bool model = e->kind == ALGO_MESSAGE && e->msg->kind == GOSSIP_MODEL;
    bool given = model && e->msg->field[0] % g->node_count != g->rank;
    struct blob *own = !model || g->sync ? NULL : blob_ref(given ? p->given.own : p->asked.own);
    uint64_t mixes = g->report.mixes;
    int err = gossip_type.step(a, e, acts);
    if (own != NULL && g->report.mixes > mixes)
        for (size_t i = 0; i < g->dim; i++) g->x[i] = (blob_floats(own)[i] + blob_floats(e->msg->vec)[i]) / 2;
    blob_unref(own);
    return err;
}

static void the_sum_catches_planted_bugs(void **state)
{
    (void)state;
    struct algo_type twice = gossip_type, overwriting = gossip_type;
    twice.step = step_applying_models_twice;
    overwriting.step = step_overwriting_progress;
    uint64_t mixes;
    assert_true(run_and_measure(&twice, "gossip", "ring", 4, 150000, 1, &mixes) >= 0.125);
    assert_true(run_and_measure(&overwriting, "gossip", "ring", 4, 150000, 1, &mixes) >= 0.125);
}

static void models_meet_after_training_has_stopped(void **state)
{
    (void)state;
    static const char *const topologies[] = {"ring", "complete"};
    for (size_t t = 0; t < 2; t++) {
        struct graph g = graph_make(topologies[t], 8);
        struct harness *h = harness_make(&gossip_type, "gossip:every=4", &g, 3);
        harness_run_until(h, SECOND);
        harness_stop_training(h);
        assert_true(consensus_error(h, 8) > 0.1);
        harness_run_until(h, 200 * SECOND);
        assert_true(consensus_error(h, 8) < 1e-3);
        assert_true(conservation_error(h, 8) < 0.05);
        harness_free(h);
        graph_deinit(&g);
    }
}

static void reweighting_scales_the_local_steps(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    const double weight[2] = {0.75, 0.25};
    const float zero[2] = {0};
    struct harness *h = harness_new(&gossip_type, "gossip:reweight=yes", &g, weight, 2, zero, 1, PATIENCE);
    harness_link_down(h, 0, 1);
    harness_run_until(h, SECOND);
    for (rank_t r = 0; r < 2; r++) {
        assert_true(harness_steps(h, r) > 100);
        assert_true(harness_model(h, r)[r] == (float)(2 * weight[r] * (double)harness_steps(h, r)));
    }
    harness_free(h);
    graph_deinit(&g);
}

/* -- async: the protocol --------------------------------------------------------------------------- */

static uint64_t exchange_id(uint64_t counter, uint32_t n, rank_t initiator)
{
    return counter * n + initiator;
}

static struct algo_msg message(enum gossip_kind kind, uint64_t field, struct blob *vec)
{
    struct algo_msg m = {.kind = (uint8_t)kind, .field_count = 1, .vec = vec};
    m.field[0] = field;
    return m;
}

static void a_busy_node_refuses(void **state)
{
    (void)state;
    struct graph g = graph_make("star", 3);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    harness_set_step_time(h, RANK_NONE, 100 * SECOND); /* nobody asks of its own */
    harness_run_until(h, 20000);
    struct algo_msg first = message(GOSSIP_REQUEST, exchange_id(1, 3, 1), NULL);
    struct algo_msg second = message(GOSSIP_REQUEST, exchange_id(1, 3, 2), NULL);
    assert_int_equal(harness_inject(h, 1, 0, &first), 0);
    assert_int_equal(harness_sent(h, GOSSIP_ACCEPT), 1);
    assert_int_equal(harness_sent(h, GOSSIP_MODEL), 1);
    assert_int_equal(harness_inject(h, 2, 0, &second), 0);
    assert_int_equal(harness_sent(h, GOSSIP_BUSY), 1);
    assert_int_equal(harness_sent(h, GOSSIP_ACCEPT), 1);
    assert_int_equal(harness_inject(h, 1, 0, &first), 0); /* a repeat is not even refused */
    assert_int_equal(harness_sent(h, GOSSIP_BUSY), 1);
    assert_int_equal(report_of(h, 0).duplicates_dropped, 1);
    harness_free(h);
    graph_deinit(&g);
}

/* All do their steps at the same times, and ask at the same moments: each has a request out when one comes. */
static void nodes_that_all_ask_at_once_do_not_all_refuse(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 8);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    harness_set_delay(h, 5000, 5000);
    harness_run_until(h, PATIENCE / 2); /* nothing can have been given up by then */
    uint64_t asked = harness_sent(h, GOSSIP_REQUEST), accepted = harness_sent(h, GOSSIP_ACCEPT);
    assert_true(asked >= 40);
    if (accepted * 2 < asked) fail_msg("%u accepted of %u", (unsigned)accepted, (unsigned)asked);
    harness_stop_training(h);
    assert_true(harness_run_until_quiet(h, PATIENCE));
    assert_true(conservation_error(h, 8) < 1e-4);
    harness_free(h);
    graph_deinit(&g);
}

static void count_accepts(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    (void)h;
    uint64_t *accepts = ctx;
    if (e->kind == ALGO_MESSAGE && e->msg->kind == GOSSIP_ACCEPT) accepts[rank]++;
}

static void of_crossing_requests_the_lower_ranks_comes_first(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    uint64_t accepts[2] = {0, 0};
    harness_set_delay(h, 5000, 5000); /* all alike: both ask at the same time, always */
    harness_set_step_time(h, RANK_NONE, 50000);
    harness_set_hook(h, count_accepts, accepts);
    harness_run_until(h, 64000);
    assert_int_equal(harness_sent(h, GOSSIP_REQUEST), 2);
    assert_int_equal(harness_sent(h, GOSSIP_MODEL), 2);
    assert_int_equal(accepts[0], 1);
    assert_int_equal(accepts[1], 0);
    harness_run_until(h, 90000); /* the higher rank asks anew, though it has made no step since */
    assert_int_equal(harness_sent(h, GOSSIP_REQUEST), 3);
    assert_int_equal(harness_sent(h, GOSSIP_BUSY), 0);
    assert_int_equal(harness_sent(h, GOSSIP_MODEL), 4);
    assert_int_equal(accepts[0], 1);
    assert_int_equal(accepts[1], 1);
    assert_int_equal(report_of(h, 0).mixes + report_of(h, 1).mixes, 4);
    assert_true(conservation_error(h, 2) == 0);
    harness_free(h);
    graph_deinit(&g);
}

/* Cuts the link at the moment both models are on their way. */
static void cut_after_accept(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    bool *cut = ctx;
    (void)rank;
    if (*cut || e->kind != ALGO_MESSAGE || e->msg->kind != GOSSIP_ACCEPT) return;
    *cut = true;
    harness_link_down(h, 0, 1);
}

static void a_link_lost_in_mid_exchange_tears_it(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    bool cut = false;
    harness_set_delay(h, 5000, 5000);
    harness_set_hook(h, cut_after_accept, &cut);
    harness_run_until(h, 300000);
    assert_true(cut);
    assert_int_equal(report_of(h, 0).exchanges_torn, 1);
    assert_int_equal(report_of(h, 1).exchanges_torn, 1);
    assert_true(conservation_error(h, 2) == 0); /* neither applied it */
    harness_link_up(h, 0, 1);
    harness_run_until(h, 600000);
    assert_true(report_of(h, 0).mixes > 0);
    assert_int_equal(report_of(h, 0).exchanges_torn, 1);
    harness_free(h);
    graph_deinit(&g);
}

static void a_model_that_never_comes_is_given_up(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    harness_drop_next(h, 0, 1, GOSSIP_MODEL);
    harness_run_until(h, 5 * SECOND);
    assert_int_equal(report_of(h, 0).exchanges_torn, 0); /* it had its half */
    assert_int_equal(report_of(h, 1).exchanges_torn, 1);
    assert_true(report_of(h, 1).mixes > 10);
    harness_stop_training(h);
    assert_true(harness_run_until_quiet(h, 6 * SECOND));
    assert_true(conservation_error(h, 2) > 0); /* what exchanges_torn warns of */
    harness_free(h);
    graph_deinit(&g);
}

static void a_model_that_comes_first_accepts_as_well(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    harness_drop_next(h, 1, 0, GOSSIP_ACCEPT);
    harness_drop_next(h, 0, 1, GOSSIP_ACCEPT);
    harness_run_until(h, PATIENCE / 2); /* nothing can have been given up by then */
    harness_stop_training(h);
    assert_true(harness_run_until_quiet(h, PATIENCE));
    for (rank_t r = 0; r < 2; r++) assert_true(report_of(h, r).mixes >= 3);
    assert_int_equal(report_of(h, 0).mixes, report_of(h, 1).mixes);
    assert_true(harness_sent(h, GOSSIP_ACCEPT) >= 3);
    assert_true(conservation_error(h, 2) < 1e-4);
    harness_free(h);
    graph_deinit(&g);
}

static void late_words_of_an_abandoned_exchange_are_dropped(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 2);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    harness_run_until(h, 100000);
    harness_pause(h, 1);
    harness_run_until(h, 4 * SECOND);
    uint64_t mixes = report_of(h, 0).mixes;
    uint64_t steps = harness_steps(h, 0);
    assert_true(steps > 700); /* training never waits */
    harness_unpause(h, 1);
    harness_run_until(h, 8 * SECOND);
    assert_true(report_of(h, 0).duplicates_dropped > 0);
    assert_true(report_of(h, 0).mixes > mixes + 10);
    harness_free(h);
    graph_deinit(&g);
}

static void early_deadlines_change_nothing(void **state)
{
    (void)state;
    struct graph g = graph_make("ring", 4);
    struct harness *h = harness_make(&gossip_type, "gossip", &g, 1);
    struct algo_event tick = {.kind = ALGO_DEADLINE, .peer = RANK_NONE};
    for (uint64_t t = 1; t <= 150; t++) {
        harness_run_until(h, t * 1000);
        for (rank_t r = 0; r < 4; r++) assert_int_equal(harness_event(h, r, &tick), 0);
    }
    harness_stop_training(h);
    assert_true(harness_run_until_quiet(h, PATIENCE / 2));
    assert_true(conservation_error(h, 4) == 0);
    harness_free(h);
    graph_deinit(&g);
}

static void broken_messages_are_refused_whole(void **state)
{
    (void)state;
    static const struct {
        const char *params;
        uint8_t kind, field_count;
        uint64_t field;
        uint32_t bits_size;
        bool vec;
    } cases[] = {
        {"gossip", 0, 1, 5, 0, false}, /* unknown kind */
        {"gossip", 77, 1, 5, 0, false},
        {"gossip", GOSSIP_STATUS, 1, 5, 0, false}, /* of the other mode */
        {"gossip", GOSSIP_ROUND, 1, 5, 0, true},
        {"gossip", GOSSIP_REQUEST, 0, 5, 0, false}, /* field count */
        {"gossip", GOSSIP_REQUEST, 2, 5, 0, false},
        {"gossip", GOSSIP_REQUEST, 1, 5, 1, false}, /* bits */
        {"gossip", GOSSIP_REQUEST, 1, 5, 0, true},  /* vec where none belongs */
        {"gossip", GOSSIP_MODEL, 1, 5, 0, false},   /* no vec */
        {"gossip", GOSSIP_REQUEST, 1, 4, 0, false}, /* from 1, in the name of 0 (of 4) */
        {"gossip", GOSSIP_ACCEPT, 1, 5, 0, false},  /* of its own request */
        {"gossip", GOSSIP_BUSY, 1, 7, 0, false},    /* a third one's */
        {"gossip", GOSSIP_MODEL, 1, 6, 0, true},
        {"gossip:mode=sync", GOSSIP_MODEL, 1, 5, 0, true},
        {"gossip:mode=sync", GOSSIP_STATUS, 1, UINT64_MAX, 0, false},
        {"gossip:mode=sync", GOSSIP_STATUS, 1, 5, 0, true},
        {"gossip:mode=sync", GOSSIP_ROUND, 1, 5, 0, false},
        {"gossip:mode=sync", GOSSIP_ROUND, 1, UINT64_MAX, 0, true},
        {"gossip:mode=sync", GOSSIP_ROUND, 2, 5, 0, true},
    };
    const float ones[4] = {1, 1, 1, 1};
    const uint8_t bits[1] = {3};
    struct graph g = graph_make("ring", 4);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct harness *h = harness_make(&gossip_type, cases[i].params, &g, 1);
        harness_run_until(h, 100000);
        struct blob *vec = cases[i].vec ? blob_copy(ones, sizeof ones) : NULL;
        struct algo_msg m = message((enum gossip_kind)cases[i].kind, cases[i].field, vec);
        m.field_count = cases[i].field_count;
        m.bits_size = cases[i].bits_size;
        m.bits = bits;
        struct gossip before = *inside(h, 0);
        float x[4];
        memcpy(x, before.x, sizeof x);
        if (harness_inject(h, 1, 0, &m) != ERR_PROTO) fail_msg("case %zu is accepted", i);
        assert_memory_equal(&before, inside(h, 0), sizeof before);
        assert_memory_equal(x, harness_model(h, 0), sizeof x);
        blob_unref(vec);
        harness_free(h);
    }
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averaging_conserves_the_sum_exactly),
        cmocka_unit_test(long_runs_conserve_the_sum_to_rounding),
        cmocka_unit_test(the_sum_catches_planted_bugs),
        cmocka_unit_test(models_meet_after_training_has_stopped),
        cmocka_unit_test(reweighting_scales_the_local_steps),
        cmocka_unit_test(a_busy_node_refuses),
        cmocka_unit_test(of_crossing_requests_the_lower_ranks_comes_first),
        cmocka_unit_test(nodes_that_all_ask_at_once_do_not_all_refuse),
        cmocka_unit_test(a_link_lost_in_mid_exchange_tears_it),
        cmocka_unit_test(a_model_that_never_comes_is_given_up),
        cmocka_unit_test(a_model_that_comes_first_accepts_as_well),
        cmocka_unit_test(late_words_of_an_abandoned_exchange_are_dropped),
        cmocka_unit_test(early_deadlines_change_nothing),
        cmocka_unit_test(broken_messages_are_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: gossip with compressed models keeps the sum over nodes as without, agrees in the end at the gamma
 * that it chooses itself, and both ends of every link know the same whatever happens to links and nodes.
 * Method: instances in virtual time (algo_harness.h) that walk at random; what their steps added is counted
 * from the jobs that came back. The checker of the sum is shown a node that mixes with its own x instead of
 * what the peer knows of it, the checker of the links one that forgets a message. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "algo/compress/compress.h"
#include "base/prng.h"
#include "tests/unit/gossip_fixture.h"

enum { DIM = 40, NODES = 6 };

static const char *const compressors[] = {"none",
                                          "fp16",
                                          "bf16",
                                          "int8:block=16",
                                          "topk:fraction=0.1",
                                          "randk:fraction=0.2",
                                          "block:fraction=0.2",
                                          "sign",
                                          "qsgd",
                                          "bernoulli:p=0.3"};
enum { COMPRESSOR_COUNT = sizeof compressors / sizeof compressors[0] };

struct watch {
    struct prng random[NODES];
    bool resting;    /* trainers add nothing */
    double sum[DIM]; /* what all steps added */
    struct jobs {
        uint64_t made, taken;
        float delta[2][DIM];
    } jobs[NODES];
    uint32_t compared, unequal;
};

static uint32_t train(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    struct watch *w = ctx;
    (void)x;
    for (uint32_t i = 0; i < DIM && !w->resting; i++) delta[i] = (float)(prng_unit(&w->random[r]) - 0.5);
    struct jobs *jobs = &w->jobs[r];
    memcpy(jobs->delta[jobs->made++ % 2], delta, DIM * sizeof *delta);
    return max_steps;
}

/* Whether what r knows of a neighbour is what that one thinks it knows, wherever both have counted as many
 * messages. */
static void compare_mirrors(struct watch *w, const struct harness *h, rank_t r)
{
    const struct gossip *g = inside(h, r);
    for (uint32_t i = 0; g != NULL && i < g->peer_count; i++) {
        const struct gossip *other = inside(h, g->peer[i].rank);
        uint32_t back = other != NULL ? gossip_place(other, r) : GOSSIP_NOBODY;
        if (back == GOSSIP_NOBODY || !g->peer[i].up) continue;
        const struct mirror *in = &g->peer[i].in, *out = &other->peer[back].out;
        if (in->value == NULL || out->value == NULL || in->count != out->count) continue;
        w->compared++;
        w->unequal += memcmp(in->value->data, out->value->data, DIM * sizeof(float)) != 0;
    }
}

static void observe(void *ctx, struct harness *h, rank_t r, const struct algo_event *e)
{
    struct watch *w = ctx;
    if (e->kind ==
        ALGO_TRAINED) { /* the next job may have begun already, and overwritten the event's delta */
        const float *delta = w->jobs[r].delta[w->jobs[r].taken++ % 2];
        for (uint32_t i = 0; i < DIM; i++) w->sum[i] += (double)delta[i];
    }
    compare_mirrors(w, h, r);
}

static struct harness *start(const struct algo_type *type, const char *params, const char *compress,
                             const struct graph *g, uint64_t seed, struct watch *w)
{
    static const float zero[DIM];
    *w = (struct watch){.resting = false};
    for (uint64_t r = 0; r < NODES; r++) prng_split(&w->random[r], seed, "walk", r);
    struct harness *h = harness_new(type, params, g, NULL, DIM, zero, seed, PATIENCE);
    harness_set_compress(h, compress);
    harness_set_trainer(h, train, w);
    harness_set_hook(h, observe, w);
    return h;
}

/* Greatest |sum over nodes - what the steps added| of any coordinate. */
static double sum_error(const struct harness *h, const struct watch *w)
{
    double worst = 0;
    for (uint32_t i = 0; i < DIM; i++) {
        double sum = 0;
        for (rank_t v = 0; v < NODES; v++) sum += (double)harness_model(h, v)[i];
        worst = fmax(worst, fabs(sum - w->sum[i]));
    }
    return worst;
}

/* Greatest distance of any coordinate of any node from the mean. */
static double spread(const struct harness *h)
{
    double worst = 0;
    for (uint32_t i = 0; i < DIM; i++) {
        double sum = 0;
        for (rank_t v = 0; v < NODES; v++) sum += (double)harness_model(h, v)[i];
        for (rank_t v = 0; v < NODES; v++)
            worst = fmax(worst, fabs((double)harness_model(h, v)[i] - sum / NODES));
    }
    return worst;
}

/* -- the sum --------------------------------------------------------------------------------------- */

/* Pairs for a while; at each pause some links are reset, so that fresh and old mirrors work side by side. */
static double run_pairs(const struct algo_type *type, const char *compress, bool reset, uint64_t seed)
{
    struct watch w;
    struct graph g = graph_make("complete", NODES);
    struct harness *h = start(type, "gossip:every=2", compress, &g, seed, &w);
    for (uint64_t phase = 1; phase <= 8; phase++) {
        harness_run_until(h, phase * SECOND);
        harness_stop_training(h);
        assert_true(harness_run_until_quiet(h, phase * SECOND + PATIENCE / 2));
        for (rank_t v = 0; v < NODES && reset; v += 2) {
            rank_t peer = (rank_t)((v + phase) % NODES);
            if (peer == v) continue;
            harness_link_down(h, v, peer);
            harness_link_up(h, v, peer);
        }
        if (phase < 8) harness_resume_training(h);
    }
    double error = sum_error(h, &w);
    for (rank_t v = 0; v < NODES; v++) {
        assert_int_equal(report_of(h, v).exchanges_torn, 0);
        assert_true(report_of(h, v).mixes > 100);
    }
    assert_int_equal(w.unequal, 0);
    harness_free(h);
    graph_deinit(&g);
    return error;
}

static void pairs_conserve_the_sum(void **state)
{
    (void)state;
    for (size_t k = 0; k < COMPRESSOR_COUNT; k++)
        for (uint64_t seed = 1; seed <= 2; seed++) {
            double error = run_pairs(&gossip_type, compressors[k], seed == 2, seed);
            if (!(error < 1e-3)) fail_msg("%s: the sum is off by %g", compressors[k], error);
        }
}

/* Mixes with its own x, not with what the peer knows of it. */
static int step_mixing_with_own_x(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct gossip *g = (struct gossip *)a;
    struct exchange *both[] = {&g->pairwise.asked, &g->pairwise.given};
    enum exchange_state before[] = {both[0]->state, both[1]->state};
    int err = gossip_type.step(a, e, acts);
    for (int i = 0; i < 2; i++) {
        if (before[i] == EXCHANGE_OPEN || both[i]->state != EXCHANGE_OPEN) continue;
        blob_unref(both[i]->own);
        both[i]->own = blob_copy(g->x, g->dim * sizeof *g->x);
    }
    return err;
}

static void the_sum_catches_a_node_that_mixes_with_its_own_x(void **state)
{
    (void)state;
    struct algo_type planted = gossip_type;
    planted.step = step_mixing_with_own_x;
    assert_true(run_pairs(&planted, "topk:fraction=0.1", false, 1) > 0.1);
    assert_true(run_pairs(&planted, "sign", false, 1) > 0.1);
    assert_true(run_pairs(&planted, "none", false, 1) < 1e-3); /* there it is the same */
}

/* -- agreement ------------------------------------------------------------------------------------- */

/* Trains for a second, then averages only. Returns the spread left of that at the end of training. */
static double run_to_consensus(const char *params, const char *compress, const char *topology,
                               uint64_t until_us, double *error)
{
    struct watch w;
    struct graph g = graph_make(topology, NODES);
    struct harness *h = start(&gossip_type, params, compress, &g, 3, &w);
    harness_run_until(h, SECOND);
    w.resting = true;
    double before = spread(h);
    harness_run_until(h, until_us);
    double after = spread(h);
    *error = sum_error(h, &w);
    harness_free(h);
    graph_deinit(&g);
    return after / before;
}

static void models_agree_at_the_default_gamma(void **state)
{
    (void)state;
    static const char *const params[] = {"gossip", "gossip:mode=sync"};
    static const char *const topologies[] = {"ring", "complete"};
    for (size_t k = 0; k < COMPRESSOR_COUNT; k++)
        for (size_t p = 0; p < 4; p++) {
            uint64_t until_us = p % 2 == 0 ? 60 * SECOND : 15 * SECOND;
            double error;
            double left =
                run_to_consensus(params[p % 2], compressors[k], topologies[p / 2], until_us, &error);
            if (!(left < 1e-2) || !(error < 1e-3))
                fail_msg("%s, %s, %s: %g of the spread is left, the sum is off by %g", params[p % 2],
                         topologies[p / 2], compressors[k], left, error);
        }
}

static void gamma_scales_the_mixing_step(void **state)
{
    (void)state;
    static const char *const params[2][2] = {{"gossip:mode=sync,gamma=1", "gossip:mode=sync,gamma=0.01"},
                                             {"gossip:gamma=1", "gossip:gamma=0.01"}};
    for (int mode = 0; mode < 2; mode++) {
        double error;
        double whole = run_to_consensus(params[mode][0], "none", "ring", 3 * SECOND, &error);
        double slow = run_to_consensus(params[mode][1], "none", "ring", 3 * SECOND, &error);
        assert_true(whole < 1e-3 && slow > 0.1 && slow < 1);
    }
}

static int creates(const char *params_text, const char *compress_text, struct err_text *why)
{
    struct choice params, compress;
    const struct algo_type *type;
    struct graph g = graph_make("ring", NODES);
    static float x0[10000];
    double weight[NODES] = {0};
    assert_int_equal(algo_choose(params_text, &params, &type, why), 0);
    assert_int_equal(
        choice_parse(compress_table, compress_table_count, "--compress", compress_text, &compress, why), 0);
    struct algo_config config = {.node_count = NODES,
                                 .graph = &g,
                                 .weight = weight,
                                 .dim = 10000,
                                 .x0 = x0,
                                 .patience_us = PATIENCE,
                                 .compress = &compress};
    struct algo *a = NULL;
    int err = algo_create(type, &config, &params, &a, why);
    type->destroy(a);
    graph_deinit(&g);
    return err;
}

static void compressors_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct err_text why = {""};
    assert_int_equal(creates("gossip", "randk:fraction=0.1,variant=unbiased", &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "variant=unbiased"));
    assert_int_equal(creates("gossip:gamma=0.3", "powersgd", &why), 0); /* without matrices models go whole */
    assert_int_equal(creates("gossip:mode=sync", "qsgd:bits=1,variant=unbiased", &why), ERR_USAGE);
    assert_int_equal(creates("gossip", "sign", &why), ERR_USAGE); /* 1 / 10000 is no guide */
    assert_non_null(strstr(why.text, "gamma=0.3"));
    assert_int_equal(creates("gossip:gamma=0.1", "sign", &why), 0);
    assert_int_equal(creates("gossip", "topk:fraction=0.1", &why), 0);
}

/* -- links ----------------------------------------------------------------------------------------- */

/* Links and nodes come and go at any moment. Returns how often the ends of a link differed. */
static uint32_t run_disturbed(const struct algo_type *type, const char *params, const char *compress,
                              uint64_t seed)
{
    struct watch w;
    struct prng p;
    struct graph g = graph_make("ring", NODES);
    struct harness *h = start(type, params, compress, &g, seed, &w);
    prng_split(&p, seed, "disturb", 0);
    for (uint64_t t = 1; t <= 200; t++) {
        harness_run_until(h, t * 50000);
        rank_t v = prng_below(&p, NODES);
        uint32_t kind = prng_below(&p, 10);
        if (kind == 0) {
            harness_crash(h, v);
            harness_restart(h, v, true);
        } else if (kind < 5) {
            harness_link_down(h, v, (v + 1) % NODES);
            harness_link_up(h, v, (v + 1) % NODES);
        }
    }
    assert_true(w.compared > 200);
    harness_free(h);
    graph_deinit(&g);
    return w.unequal;
}

static void both_ends_of_a_link_know_the_same(void **state)
{
    (void)state;
    for (size_t k = 1; k < COMPRESSOR_COUNT; k++) {
        assert_int_equal(run_disturbed(&gossip_type, "gossip", compressors[k], k), 0);
        assert_int_equal(run_disturbed(&gossip_type, "gossip:mode=sync", compressors[k], k), 0);
    }
}

/* Drops the model of each tenth late or present exchange without taking it down. */
static int step_forgetting_a_message(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct gossip *g = (struct gossip *)a;
    bool model = e->kind == ALGO_MESSAGE && e->msg->packed != NULL;
    uint32_t place = model ? gossip_place(g, e->peer) : 0;
    struct blob *before = model ? blob_ref(g->peer[place].in.value) : NULL;
    int err = gossip_type.step(a, e, acts);
    if (model && err == 0 && g->peer[place].in.count % 10 == 0 && g->peer[place].in.value != NULL) {
        blob_unref(g->peer[place].in.value);
        g->peer[place].in.value = blob_ref(before);
    }
    blob_unref(before);
    return err;
}

static void the_links_catch_a_forgotten_message(void **state)
{
    (void)state;
    struct algo_type planted = gossip_type;
    planted.step = step_forgetting_a_message;
    assert_true(run_disturbed(&planted, "gossip", "topk:fraction=0.1", 1) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_conserve_the_sum),
        cmocka_unit_test(the_sum_catches_a_node_that_mixes_with_its_own_x),
        cmocka_unit_test(models_agree_at_the_default_gamma),
        cmocka_unit_test(gamma_scales_the_mixing_step),
        cmocka_unit_test(compressors_that_do_not_fit_are_refused),
        cmocka_unit_test(both_ends_of_a_link_know_the_same),
        cmocka_unit_test(the_links_catch_a_forgotten_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

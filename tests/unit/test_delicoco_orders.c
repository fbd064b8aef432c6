/* Goal: the overlapped order is the one of the definition; the invariants that need no compression hold; gamma and
 * the mixing matrix are those of the papers; matrices are compressed as such.
 * Method: matrix forms in double precision, the tables of delicoco_def.md 1 and 4.4; instances in virtual
 * time (algo_harness.h). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/unit/delicoco_fixture.h"

enum { ROUNDS = 10, OVERLAP_NODES = 6 };

/* -- the overlapped order --------------------------------------------------------------------------- */

/* Models at the start of each round, by the definition: train, then Q times x += gamma (W - I) copies, copies = x. */
struct overlap {
    const struct graph *g;
    uint32_t q;
    double gamma;
    double x[ROUNDS + 1][OVERLAP_NODES][OVERLAP_NODES];
    uint32_t compared;
    double worst;
};

static void overlap_fill(struct overlap *o)
{
    double x[OVERLAP_NODES][OVERLAP_NODES] = {{0}}, copy[OVERLAP_NODES][OVERLAP_NODES] = {{0}};
    for (uint32_t k = 0; k < ROUNDS; k++) {
        for (rank_t v = 0; v < OVERLAP_NODES; v++) x[v][v] += 1;
        for (uint32_t s = 0; s < o->q; s++) {
            for (rank_t v = 0; v < OVERLAP_NODES; v++)
                for (rank_t u = 0; u < OVERLAP_NODES; u++)
                    for (rank_t c = 0; c < OVERLAP_NODES && graph_has_edge(o->g, v, u); c++)
                        x[v][c] += o->gamma * metropolis_weight(o->g, v, u) * (copy[u][c] - copy[v][c]);
            memcpy(copy, x, sizeof copy);
        }
        memcpy(o->x[k + 1], x, sizeof x);
    }
}

static void overlap_compare(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    struct overlap *o = ctx;
    const struct delicoco *d = state_of(h, rank);
    uint64_t round = (d->step - 1) / o->q;
    if (e->kind == ALGO_START || d->waiting || round > ROUNDS) return;
    o->compared++;
    for (rank_t c = 0; c < OVERLAP_NODES; c++)
        o->worst = fmax(o->worst, fabs(o->x[round][rank][c] - (double)harness_model(h, rank)[c]));
}

static double overlap_distance(const struct algo_type *type, const char *params, uint32_t q, double gamma)
{
    struct graph g = graph_make("ring", OVERLAP_NODES);
    struct overlap *o = mem_new_zero(1, sizeof *o);
    *o = (struct overlap){.g = &g, .q = q, .gamma = gamma};
    overlap_fill(o);
    struct harness *h = harness_make(type, params, &g, 3);
    harness_set_hook(h, overlap_compare, o);
    harness_set_delay(h, 1000, 4000);
    harness_run_until(h, 5 * SECOND);
    assert_true(o->compared >= OVERLAP_NODES * ROUNDS);
    double worst = o->worst;
    harness_free(h);
    free(o);
    graph_deinit(&g);
    return worst;
}

static void overlapped_rounds_mix_with_the_copies_of_the_step_before(void **state)
{
    (void)state;
    assert_true(overlap_distance(&choco_type, "choco:gamma=0.5,order=overlapped", 1, 0.5) < 1e-5);
    assert_true(overlap_distance(&delicoco_type, "delicoco:q=3,gamma=0.4,order=overlapped", 3, 0.4) < 1e-5);
    assert_true(overlap_distance(&dgd_type, "dgd:order=overlapped", 1, 1) < 1e-5);
    assert_true(overlap_distance(&choco_type, "choco:gamma=0.5", 1, 0.5) > 1e-2); /* the oracle sees it */
}

/* Messages that take as long as two steps cost the standard order two thirds of its time, the other one half. */
static void overlapping_hides_the_delay(void **state)
{
    (void)state;
    uint64_t rounds[2];
    for (int order = 0; order < 2; order++) {
        struct graph g = graph_make("ring", OVERLAP_NODES);
        struct harness *h = harness_make(
            &choco_type, order == 0 ? "choco:gamma=0.5" : "choco:gamma=0.5,order=overlapped", &g, 3);
        harness_set_step_time(h, RANK_NONE, 5000);
        harness_set_delay(h, 5000, 5000);
        harness_run_until(h, 10 * SECOND);
        rounds[order] = state_of(h, 0)->step;
        harness_free(h);
        graph_deinit(&g);
    }
    assert_in_range(rounds[0], 900, 1001);
    assert_in_range(rounds[1], 1900, 2002);
}

/* -- invariants without compression ------------------------------------------------------------------ */

static const float optimum[3][4] = {{1, 2, 3, 4}, {-2, 0, 1, 1}, {4, 1, -1, 0}};

/* Gradient descent on 1/2 ||x - optimum[r]||^2 with step 0.3. */
static uint32_t train_descent(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    (void)ctx;
    assert_int_equal(max_steps, 1);
    for (uint32_t i = 0; i < 4; i++) delta[i] = -0.3f * (x[i] - optimum[r][i]);
    return 1;
}

/* Distance of node models from gradient descent on the mean function (central) or on each node's own, over the
 * rounds that were done. */
static double descent_distance(bool central, bool connected)
{
    struct graph g = graph_make("complete", 3);
    float zero[4] = {0};
    struct harness *h = harness_new(&delicoco_type, "delicoco:q=2,gamma=1", &g, NULL, 4, zero, 1, PATIENCE);
    harness_set_trainer(h, train_descent, NULL);
    harness_set_delay(h, 10, 20);
    for (rank_t r = 0; r < 3 && !connected; r++) harness_link_down(h, r, (r + 1) % 3);
    harness_run_until(h, 200000);
    harness_stop_training(h);
    harness_run_until(h, 300000);
    double worst = 0;
    for (rank_t r = 0; r < 3; r++) {
        uint64_t rounds = (state_of(h, r)->step - 1) / 2;
        assert_in_range(rounds, 20, 50);
        for (uint32_t i = 0; i < 4; i++) {
            double mean = ((double)optimum[0][i] + (double)optimum[1][i] + (double)optimum[2][i]) / 3;
            double target = central ? mean : (double)optimum[r][i];
            double expected = target * (1 - pow(0.7, (double)rounds));
            worst = fmax(worst, fabs(expected - (double)harness_model(h, r)[i]));
        }
    }
    harness_free(h);
    graph_deinit(&g);
    return worst;
}

static void a_complete_graph_without_compression_is_centralised_descent(void **state)
{
    (void)state;
    assert_true(descent_distance(true, true) < 1e-5);
    assert_true(descent_distance(false, true) > 0.1);
}

static void nodes_without_links_descend_on_their_own(void **state)
{
    (void)state;
    assert_true(descent_distance(false, false) < 1e-5);
}

/* -- the matrix and gamma ----------------------------------------------------------------------------- */

static const struct {
    const char *topology;
    uint32_t n;
    double delta, beta, own; /* own: each entry of the papers' matrix that is not zero */
} graphs[] = {
    {"ring", 8, 0.1953, 1.3333, 1.0 / 3},  {"ring", 9, 0.1560, 1.2931, 1.0 / 3},
    {"ring", 25, 0.0209, 1.3281, 1.0 / 3}, {"torus", 9, 0.6000, 1.2000, 0.2},
    {"torus", 16, 0.4000, 1.6000, 0.2},    {"torus", 25, 0.2764, 1.4472, 0.2},
    {"complete", 7, 1, 1, 1.0 / 7},
};

static void the_mixing_matrix_is_that_of_the_papers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        struct graph g = graph_make(graphs[i].topology, graphs[i].n);
        for (rank_t v = 0; v < g.node_count; v++) {
            assert_true(fabs(metropolis_weight(&g, v, v) - graphs[i].own) < 1e-12);
            for (uint32_t k = g.offset[v]; k < g.offset[v + 1]; k++)
                assert_true(fabs(metropolis_weight(&g, v, g.neighbour[k]) - graphs[i].own) < 1e-12);
        }
        assert_true(fabs(spectral_gap(&g) - graphs[i].delta) < 6e-5);
        assert_true(fabs(spectral_beta(&g) - graphs[i].beta) < 6e-5);
        graph_deinit(&g);
    }
}

static double gamma_of(const char *params, const char *compress, const char *topology, uint32_t n)
{
    struct graph g = graph_make(topology, n);
    struct harness *h = wide(&choco_type, params, compress, &g, 1);
    harness_run_until(h, 1);
    double gamma = (double)state_of(h, 0)->gamma;
    harness_free(h);
    graph_deinit(&g);
    return gamma;
}

static void gamma_is_given_or_follows_its_rule(void **state)
{
    (void)state;
    assert_true(fabs(gamma_of("choco:gamma=0.25", "topk:fraction=0.1", "ring", 9) - 0.25) < 1e-7);
    assert_true(fabs(gamma_of("choco:gamma=0.25,gamma_rule=star", "sign", "ring", 9) - 0.25) < 1e-7);
    assert_true(fabs(gamma_of("choco", "topk:fraction=0.1", "ring", 9) - 0.1) < 1e-7);
    const char *star = "choco:gamma_rule=star"; /* delicoco_def.md 4.4 gives two digits */
    assert_true(fabs(gamma_of(star, "randk:fraction=0.1", "ring", 9) - 2.5e-4) < 0.05e-4);
    assert_true(fabs(gamma_of(star, "randk:fraction=0.1", "torus", 9) - 2.1e-3) < 0.05e-3);
    assert_true(gamma_of(star, "none", "complete", 9) > gamma_of(star, "none", "ring", 9));
}

/* -- by tensor ---------------------------------------------------------------------------------------- */

static void tensors_are_compressed_each_by_itself(void **state)
{
    (void)state;
    static const struct tensor layers[] = {{0, 5, 6}, {30, 1, 10}};
    static const char *const rows[] = {"powersgd:rank=1", "topk:fraction=0.2", "bernoulli:p=0.3", "sign"};
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        struct prng random[2 * NODE_MAX];
        seed_all(random, 4);
        struct graph g = graph_make("ring", 5);
        struct agreement a = {0};
        struct harness *h = wide(&choco_type, "choco:gamma=0.2", rows[k], &g, 4);
        harness_set_tensors(h, layers, 2);
        harness_set_trainer(h, train_once, random);
        harness_set_hook(h, check_agreement, &a);
        harness_set_delay(h, 100, 200);
        harness_set_step_time(h, RANK_NONE, 1000);
        double mean[DIM] = {0}, moved;
        harness_run_until(h, 1050);
        double before = spread(h, 5, mean, &moved);
        harness_run_until(h, SECOND);
        double after = spread(h, 5, mean, &moved);
        if (!(after < 1e-4 * before) || moved > 1e-3 || a.unequal != 0 || a.compared < 100)
            fail_msg("%s: spread %g to %g, mean moved by %g", rows[k], before, after, moved);
        harness_free(h);
        graph_deinit(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlapped_rounds_mix_with_the_copies_of_the_step_before),
        cmocka_unit_test(overlapping_hides_the_delay),
        cmocka_unit_test(a_complete_graph_without_compression_is_centralised_descent),
        cmocka_unit_test(nodes_without_links_descend_on_their_own),
        cmocka_unit_test(the_mixing_matrix_is_that_of_the_papers),
        cmocka_unit_test(gamma_is_given_or_follows_its_rule),
        cmocka_unit_test(tensors_are_compressed_each_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

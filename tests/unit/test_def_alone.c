/* Goal: one worker: with lam = 1 error feedback is momentum SGD, whatever the compressor; stability ends
 * where theory says (delicoco_def.md 3.8, 6.4). Method: instances in virtual time (algo_harness.h) on
 * quadratics, against plain momentum SGD in double, and against the formula for the mean square factor over
 * 1e5 transmissions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/def/internal.h"
#include "base/check.h"
#include "tests/unit/gossip_fixture.h"

extern const struct algo_type def_type;

enum { DIM = 24 };

static struct def *def_at(const struct harness *h, rank_t r)
{
    return (struct def *)harness_algo(h, r);
}

/* -- one worker -------------------------------------------------------------------------------- */

/* Momentum SGD on h_i x_i^2 / 2 from the point it is given. */
struct ball {
    float eta, mu, curvature[DIM], m[DIM];
    double path[DIM]; /* plain momentum SGD from the same start */
    double pm[DIM], worst;
};

static uint32_t train_ball(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    struct ball *b = ctx;
    (void)r;
    (void)max_steps;
    for (int i = 0; i < DIM; i++) {
        b->worst = fmax(b->worst, fabs((double)x[i] - b->path[i]));
        b->m[i] = b->mu * b->m[i] + b->curvature[i] * x[i];
        delta[i] = -b->eta * b->m[i];
        b->pm[i] = (double)b->mu * b->pm[i] + (double)b->curvature[i] * b->path[i];
        b->path[i] -= (double)b->eta * b->pm[i];
    }
    return 1;
}

static double distance_from_sgd(const char *params, const char *compress, float eta, float mu,
                                uint64_t until_us)
{
    struct graph g = graph_make("complete", 1);
    struct ball b = {.eta = eta, .mu = mu};
    float start[DIM];
    for (int i = 0; i < DIM; i++) {
        b.path[i] = start[i] = (float)(i - 11);
        b.curvature[i] = i % 2 == 0 ? 0.5f : 0.25f;
    }
    struct harness *h = harness_new(&def_type, params, &g, NULL, DIM, start, 3, PATIENCE);
    harness_set_compress(h, compress);
    harness_set_trainer(h, train_ball, &b);
    harness_run_until(h, until_us); /* 5 ms a round */
    assert_true(allreduce_round(def_at(h, 0)->ring) >= until_us / 5000 - 1);
    harness_free(h);
    graph_deinit(&g);
    return b.worst;
}

static void lam_one_alone_is_momentum_sgd(void **state)
{
    (void)state;
    static const char *const compressors[] = {"none", "block:fraction=0.1", "bernoulli:p=0.05"};
    for (size_t c = 0; c < 3; c++) {
        assert_true(distance_from_sgd("def:lam=1", compressors[c], 0.5f, 0.5f, 30000) ==
                    0); /* exact so far */
        assert_true(distance_from_sgd("def:lam=1", compressors[c], 0.05f, 0.9f, 20 * SECOND) < 1e-4);
    }
    assert_true(distance_from_sgd("def:lam=0.3", "bernoulli:p=0.05", 0.05f, 0.9f, 20 * SECOND) > 0.1);
}

/* -- stability, 3.8 ---------------------------------------------------------------------------- */

enum { WIDE = 1024, SENDS = 4 };

struct quadratic {
    float s;
    uint32_t sends[WIDE];
    float last[WIDE];
    double squares;
    uint64_t count;
};

static uint32_t train_quadratic(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    const struct quadratic *q = ctx;
    (void)r;
    (void)max_steps;
    for (int i = 0; i < WIDE; i++) delta[i] = -q->s * x[i];
    return 1;
}

static void measure(void *ctx, struct harness *h, rank_t r, const struct algo_event *event)
{
    struct quadratic *q = ctx;
    const struct def *d = def_at(h, r);
    for (int i = 0; event->kind == ALGO_TRAINED && i < WIDE; i++) {
        if (d->e[i] != 0 || q->sends[i] >= SENDS) continue; /* only what was just sent has no residual */
        double ratio = (double)d->x[i] / (double)q->last[i];
        q->squares += ratio * ratio;
        q->count++;
        q->sends[i]++;
        q->last[i] = d->x[i];
    }
}

/* Mean of (x+/x)^2 over the first sends of each entry, after so many rounds; *energy = mean x^2. */
static double factor_of(double p, double lam, double s, uint32_t rounds, uint64_t seed, double *energy,
                        uint64_t *count)
{
    struct graph g = graph_make("complete", 1);
    struct quadratic *q = mem_new_zero(1, sizeof *q);
    float *start = mem_new(WIDE, sizeof *start);
    char params[64], compress[64];
    for (int i = 0; i < WIDE; i++) start[i] = q->last[i] = 1;
    q->s = (float)s;
    snprintf(params, sizeof params, "def:lam=%g", lam);
    snprintf(compress, sizeof compress, "bernoulli:p=%g", p);
    struct harness *h = harness_new(&def_type, params, &g, NULL, WIDE, start, seed, PATIENCE);
    harness_set_compress(h, compress);
    harness_set_trainer(h, train_quadratic, q);
    harness_set_hook(h, measure, q);
    harness_run_until(h, rounds * UINT64_C(5000));
    double sum = 0, factor = q->squares;
    for (int i = 0; i < WIDE; i++) sum += (double)harness_model(h, 0)[i] * (double)harness_model(h, 0)[i];
    *energy = sum / WIDE;
    *count = q->count;
    harness_free(h);
    graph_deinit(&g);
    free(q);
    free(start);
    return factor;
}

static double theory(double p, double lam, double s)
{
    if (lam == 0) return 1 - 2 * s / p + (2 - p) * s * s / (p * p);
    double r = 1 - s * lam, a = 1 - 1 / lam, b = 1 / lam;
    return a * a + 2 * a * b * p * r / (1 - (1 - p) * r) + b * b * p * r * r / (1 - (1 - p) * r * r);
}

static void the_mean_square_factor_is_that_of_theory(void **state)
{
    (void)state;
    static const struct {
        double p, lam, limit;
        uint32_t rounds;
    } row[] = {
        {0.25, 0, 0.2857, 80}, {0.25, 0.3, 0.630, 80}, {0.0625, 0, 0.0645, 340}, {0.0625, 0.3, 0.157, 340}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        double squares = 0, energy;
        uint64_t count = 0, some;
        for (uint64_t seed = 0; seed < 25; seed++) {
            squares += factor_of(row[k].p, row[k].lam, row[k].limit / 2, row[k].rounds, seed, &energy, &some);
            count += some;
        }
        assert_true(count >= 100000);
        double expected = theory(row[k].p, row[k].lam, row[k].limit / 2);
        assert_true(fabs(squares / (double)count - expected) < 0.04 * expected);
        assert_true(fabs(theory(row[k].p, row[k].lam, row[k].limit) - 1) < 0.02);
    }
}

static void stability_ends_where_theory_says(void **state)
{
    (void)state;
    static const struct {
        double lam, s;
        bool shrinks;
    } row[] = {{0, 0.9 * 0.0645, true}, {0, 4 * 0.0645, false}, {0.3, 0.14, true}, {1, 0.5, true}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        double energy;
        uint64_t count;
        factor_of(0.0625, row[k].lam, row[k].s, 400, 1, &energy, &count);
        assert_true(row[k].shrinks ? energy < 0.5 : energy > 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lam_one_alone_is_momentum_sgd),
        cmocka_unit_test(the_mean_square_factor_is_that_of_theory),
        cmocka_unit_test(stability_ends_where_theory_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

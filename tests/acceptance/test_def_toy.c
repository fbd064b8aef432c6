/* Goal: DEF on the stand-in experiment of delicoco_def.md 6.7 shows what error feedback with random blocks is
 * known for: with a large step plain error feedback (lam 0) falls behind, lam 0.3 and 1 do not; early on
 * x - mean e is ahead of x, in the end both are the same; with a small step lam does not matter.
 * Method: whole clusters in virtual time (agent/simulation/simulation.h), 8 nodes, logistic regression of 512 features
 * in falling scales, blocks of 1/64, momentum 0.9, weight decay 5e-4, 6000 rounds of one step on 16 rows,
 * step size divided by 10 at 3000 and again at 4500. Asserted is what seeds 1 to 3 have in common, not the
 * figures; where plain error feedback is near its limit and beyond, its early order at round 301 differs
 * by seed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/simulation/simulation.h"
#include "algo/compress/compress.h"
#include "algo/def/internal.h"
#include "base/check.h"
#include "base/prng.h"

enum { NODES = 8, DIM = 512, ROWS = 8192, BATCH = 16, ROUNDS = 6000, EARLY = 301 };

static const float momentum = 0.9f, decay = 5e-4f;

struct toy {
    float *row;   /* (ROWS, DIM) */
    float *label; /* (ROWS) +1 or -1 */
    float step_size;
};

struct worker {
    struct trainer base;
    const struct toy *toy;
    struct prng random;
    uint32_t node, rounds;
    float velocity[DIM], grad[DIM];
};

static struct toy toy_make(uint64_t seed)
{
    struct toy t = {mem_new((size_t)ROWS * DIM, sizeof(float)), mem_new(ROWS, sizeof(float)), 0};
    struct prng random;
    float truth[DIM];
    prng_split(&random, seed, "toy", 0);
    for (int j = 0; j < DIM; j++) truth[j] = 0.4f * (float)prng_normal(&random);
    for (int i = 0; i < ROWS; i++) {
        float *row = t.row + (size_t)i * DIM;
        double margin = 0;
        for (int j = 0; j < DIM; j++) {
            row[j] = (float)(prng_normal(&random) * sqrt(20.0 / (20 + j)));
            margin += (double)row[j] * (double)truth[j];
        }
        t.label[i] = prng_unit(&random) < 1 / (1 + exp(-margin)) ? 1.0f : -1.0f;
    }
    return t;
}

static float margin_of(const struct toy *t, uint32_t i, const float *x)
{
    const float *row = t->row + (size_t)i * DIM;
    float sum[8] = {0};
    for (int j = 0; j < DIM; j += 8)
        for (int k = 0; k < 8; k++) sum[k] += row[j + k] * x[j + k];
    float all = 0;
    for (int k = 0; k < 8; k++) all += sum[k];
    return all * t->label[i];
}

static double loss_of(const struct toy *t, const float *x)
{
    double sum = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        double m = (double)margin_of(t, i, x);
        sum += m > 0 ? log1p(exp(-m)) : log1p(exp(m)) - m;
    }
    return sum / ROWS;
}

static uint32_t worker_run(struct trainer *base, const float *x, uint32_t max_steps, float *delta,
                           double *loss_mean)
{
    struct worker *w = (struct worker *)base;
    const struct toy *t = w->toy;
    (void)max_steps;
    for (int j = 0; j < DIM; j++) w->grad[j] = decay * x[j];
    for (int b = 0; b < BATCH; b++) {
        uint32_t i = w->node * (ROWS / NODES) + prng_below(&w->random, ROWS / NODES);
        float slope = -t->label[i] / (1 + expf(margin_of(t, i, x))) / BATCH;
        const float *row = t->row + (size_t)i * DIM;
        for (int j = 0; j < DIM; j++) w->grad[j] += slope * row[j];
    }
    float eta = t->step_size * (w->rounds < ROUNDS / 2 ? 1.0f : w->rounds < ROUNDS * 3 / 4 ? 0.1f : 0.01f);
    for (int j = 0; j < DIM; j++) {
        w->velocity[j] = momentum * w->velocity[j] + w->grad[j];
        delta[j] = -eta * w->velocity[j];
    }
    w->rounds++;
    *loss_mean = 1;
    return 1;
}

static void worker_free(struct trainer *base)
{
    free(base);
}

static int worker_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)why;
    struct worker *w = mem_new_zero(1, sizeof *w);
    w->base.run = worker_run;
    w->base.free = worker_free;
    w->toy = ctx;
    w->node = v;
    prng_split(&w->random, 1, "worker", v);
    *out = &w->base;
    return 0;
}

static const struct def *def_at(const struct simulation *s, uint32_t v)
{
    return (const struct def *)node_algo(simulation_node(s, v));
}

struct losses {
    double x, ahead; /* at x and at x - mean e */
};

static struct losses losses_of(const struct simulation *s, const struct toy *t)
{
    float ahead[DIM];
    for (int j = 0; j < DIM; j++) {
        double e = 0;
        for (uint32_t v = 0; v < NODES; v++) e += (double)def_at(s, v)->e[j];
        ahead[j] = (float)((double)def_at(s, 0)->x[j] - e / NODES);
    }
    return (struct losses){loss_of(t, def_at(s, 0)->x), loss_of(t, ahead)};
}

static struct choice chosen(const struct choice_spec *table, size_t count, const char *text)
{
    struct choice c;
    struct err_text why = {""};
    if (choice_parse(table, count, "", text, &c, &why) != 0) fail_msg("%s", why.text);
    return c;
}

static void run(struct toy *t, double step_size, double lam, struct losses *early, struct losses *late)
{
    static const float x0[DIM] = {0};
    char text[64];
    struct choice params, compress, topology, latency, step_time;
    const struct algo_type *type;
    struct err_text why = {""};
    snprintf(text, sizeof text, "def:lam=%g", lam);
    assert_int_equal(algo_choose(text, &params, &type, &why), 0);
    compress = chosen(compress_table, compress_table_count, "block:fraction=0.015625");
    topology = chosen(topology_table, topology_table_count, "complete");
    latency = chosen(latency_table, latency_table_count, "fixed:delay=1ms");
    step_time = chosen(step_time_table, step_time_table_count, "constant:value=100ms");
    t->step_size = (float)step_size;
    struct simulation_setup setup = {.node_count = NODES,
                                     .algo = type,
                                     .compress = &compress,
                                     .algo_params = &params,
                                     .topology = &topology,
                                     .latency = &latency,
                                     .step_time = &step_time,
                                     .seed = 1,
                                     .dim = DIM,
                                     .x0 = x0,
                                     .steps_max = ROUNDS,
                                     .trainer_new = worker_new,
                                     .ctx = t};
    struct simulation *s = NULL;
    if (simulation_new(&setup, &s, &why) != 0) fail_msg("%s", why.text);
    while (allreduce_round(def_at(s, 0)->ring) < EARLY) assert_true(simulation_step(s, UINT64_MAX - 1));
    *early = losses_of(s, t);
    for (uint32_t v = 0; v < NODES; v++)
        while (allreduce_round(def_at(s, v)->ring) < ROUNDS) assert_true(simulation_step(s, UINT64_MAX - 1));
    *late = losses_of(s, t);
    for (uint32_t v = 1; v < NODES; v++)
        assert_memory_equal(def_at(s, v)->x, def_at(s, 0)->x, DIM * sizeof(float));
    simulation_free(s);
    printf("step %.2f lam %.1f: round %d %.4f (%.4f), round %d %.4f (%.4f)\n", step_size, lam, EARLY,
           early->x, early->ahead, ROUNDS, late->x, late->ahead);
}

static void the_stand_in_experiment_comes_out(void **state)
{
    (void)state;
    static const double lam[3] = {0, 0.3, 1}, step_size[3] = {0.01, 0.03, 0.1};
    struct toy t = toy_make(1);
    struct losses early[3][3], late[3][3];
    for (int k = 0; k < 3; k++)
        for (int l = 0; l < 3; l++) run(&t, step_size[k], lam[l], &early[k][l], &late[k][l]);
    for (int l = 0; l < 3; l++) {
        assert_true(fabs(late[0][l].x - late[0][0].x) < 0.01 * late[0][0].x);
        for (int k = 0; k < 3; k++) {
            bool swings = l == 0 && k > 0; /* plain error feedback near its limit and beyond */
            if (!swings) assert_true(fabs(late[k][l].ahead - late[k][l].x) < 2e-3 * late[k][l].x);
            if (l == 2 || (l == 1 && k == 0)) assert_true(early[k][l].ahead < early[k][l].x);
        }
    }
    assert_true(late[2][0].x > 1.2 * late[2][1].x);
    assert_true(early[2][0].x > 1.5 * early[2][1].x);
    free(t.row);
    free(t.label);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_stand_in_experiment_comes_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: EF21 over the all-reduce does what its recursion says: what is known of a worker's entry is its progress
 * in the round in which that entry was last sent; all keep the mean of it and move x by that, the same bits
 * everywhere. With full gradients it goes linearly to the exact optimum of workers that differ, at a constant
 * step with which def stops short of it, as its gradients are taken ahead of the residual. A round that ends in
 * another view is void; faults. Method: instances in virtual time (algo_harness.h). Progress in multiples of
 * 1/64 and powers of two as weights make float32 exact, so the recursion is tested for equality. A worker that
 * does not add what it is sent must be caught. */
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
#include "tests/unit/harness_faults.h"

extern const struct algo_type def_type;
extern const struct algo_type ef21_type;
extern const struct algo_type ef_sgd_type;
extern const struct algo_type step_ahead_type;

enum { DIM = 24, ROUNDS = 60, WORKERS = 4 };

static struct def *def_at(const struct harness *h, rank_t r)
{
    return (struct def *)harness_algo(h, r);
}

/* -- the recursion ----------------------------------------------------------------------------- */

struct record {
    struct prng random[WORKERS];
    const double *weight;
    float job[WORKERS][DIM], before[WORKERS][DIM]; /* of the present round, of the one that is over */
    double sent[WORKERS][DIM];                     /* minus the progress of an entry when it was last sent */
    double x[DIM];                                 /* after the round */
    uint32_t seen[WORKERS], ended[ROUNDS];
    bool deaf; /* planted: worker 1 does not add what it was sent in round 10 */
    uint32_t wrong;
};

static uint32_t train_dyadic(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    struct record *rec = ctx;
    (void)x;
    (void)max_steps;
    memcpy(rec->before[r], rec->job[r], sizeof rec->job[r]);
    for (uint32_t i = 0; i < DIM; i++)
        rec->job[r][i] = delta[i] = (float)((int)prng_below(&rec->random[r], 129) - 64) / 64.0f;
    return 1;
}

/* Which entries the compressor keeps in this round. */
static void kept_find(const struct def *d, uint64_t round, float *kept)
{
    struct compress_context context = {.seed = d->seed, .round = round};
    float ones[DIM];
    uint8_t bytes[4 * DIM];
    size_t size;
    for (int i = 0; i < DIM; i++) ones[i] = 1;
    CHECK(compressor_encode(d->compressor, &context, DIM, ones, bytes, &size, kept) == 0);
}

/* All have ended the round: nobody has ended the next one, which needs all. */
static void round_over(struct record *rec, const struct harness *h)
{
    for (int i = 0; i < DIM; i++) {
        double mean = 0;
        for (rank_t r = 0; r < WORKERS; r++) mean += rec->weight[r] * rec->sent[r][i];
        rec->x[i] -= mean;
        for (rank_t r = 0; r < WORKERS; r++) {
            const struct def *d = def_at(h, r);
            rec->wrong += (double)d->known->own[i] != rec->sent[r][i];
            rec->wrong += (double)d->known->mean[i] != mean || (double)d->x[i] != rec->x[i];
        }
    }
}

static void note(void *ctx, struct harness *h, rank_t r, const struct algo_event *event)
{
    struct record *rec = ctx;
    const struct def *d = def_at(h, r);
    float kept[DIM];
    (void)event;
    uint64_t round = allreduce_round(d->ring);
    for (; rec->seen[r] < round && rec->seen[r] < ROUNDS; rec->seen[r]++) {
        CHECK(rec->seen[r] + 1 == round); /* nobody copies here */
        kept_find(d, rec->seen[r], kept);
        for (int i = 0; i < DIM; i++)
            if (kept[i] != 0) rec->sent[r][i] = -(double)rec->before[r][i];
        if (rec->deaf && r == 1 && round == 11)
            for (int i = 0; i < DIM; i++) d->known->mean[i] -= d->c[i];
        if (++rec->ended[rec->seen[r]] == WORKERS) round_over(rec, h);
    }
}

static uint32_t recursion_broken(const char *params, const char *compress, const double *weight, bool deaf)
{
    static const double equal[WORKERS] = {0.25, 0.25, 0.25, 0.25};
    struct graph g = graph_make("complete", WORKERS);
    struct record *rec = mem_new_zero(1, sizeof *rec);
    float start[DIM];
    for (int i = 0; i < DIM; i++) rec->x[i] = start[i] = (float)i / 8;
    for (rank_t r = 0; r < WORKERS; r++) prng_split(&rec->random[r], 5, "dyadic", r);
    rec->weight = weight != NULL ? weight : equal;
    rec->deaf = deaf;
    struct harness *h = harness_new(&ef21_type, params, &g, rec->weight, DIM, start, 11, PATIENCE);
    harness_set_compress(h, compress);
    harness_set_trainer(h, train_dyadic, rec);
    harness_set_hook(h, note, rec);
    harness_run_until(h, 20 * PATIENCE);
    for (rank_t r = 0; r < WORKERS; r++) assert_int_equal(rec->seen[r], ROUNDS);
    uint32_t wrong = rec->wrong;
    harness_free(h);
    graph_deinit(&g);
    free(rec);
    return wrong;
}

static void x_moves_by_what_was_last_sent_of_each_entry(void **state)
{
    (void)state;
    static const double uneven[WORKERS] = {0.5, 0.25, 0.125, 0.125};
    static const char *const compressors[] = {"none", "block:fraction=0.2", "randk:fraction=0.1",
                                              "bernoulli:p=0.2"};
    for (size_t c = 0; c < sizeof compressors / sizeof compressors[0]; c++) {
        assert_int_equal(recursion_broken("ef21", compressors[c], NULL, false), 0);
        assert_int_equal(recursion_broken("ef21:weights=data", compressors[c], uneven, false), 0);
        assert_true(recursion_broken("ef21", compressors[c], NULL, true) > 0); /* planted */
    }
}

/* -- the optimum of workers that differ -------------------------------------------------------- */

enum { LEG = 100, LEGS = 4 }; /* rounds between two looks; looks */

/* Worker k has gradient h_k (x - a_k), entry by entry. */
struct bowls {
    float eta, curvature[WORKERS][DIM], centre[WORKERS][DIM];
    double optimum[DIM];
    double distance[LEGS + 1];
};

static uint32_t train_bowl(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    const struct bowls *b = ctx;
    (void)max_steps;
    for (int i = 0; i < DIM; i++) delta[i] = -b->eta * b->curvature[r][i] * (x[i] - b->centre[r][i]);
    return 1;
}

static double distance_of(const struct bowls *b, const float *x)
{
    double squares = 0;
    for (int i = 0; i < DIM; i++) squares += pow((double)x[i] - b->optimum[i], 2);
    return sqrt(squares);
}

static void look(void *ctx, struct harness *h, rank_t r, const struct algo_event *event)
{
    struct bowls *b = ctx;
    (void)event;
    uint64_t round = allreduce_round(def_at(h, r)->ring);
    if (r == 0 && round % LEG == 0 && round <= LEG * LEGS)
        b->distance[round / LEG] = distance_of(b, def_at(h, 0)->x);
}

static struct bowls bowls_make(void)
{
    struct bowls b = {.eta = 0.08f};
    struct prng random;
    prng_split(&random, 3, "bowls", 0);
    for (int i = 0; i < DIM; i++) {
        double steep = 0, pull = 0;
        for (rank_t r = 0; r < WORKERS; r++) {
            b.curvature[r][i] = 0.5f + (float)prng_below(&random, 100) / 100;
            b.centre[r][i] = (float)prng_below(&random, 100) / 10 - 5;
            steep += (double)b.curvature[r][i];
            pull += (double)b.curvature[r][i] * (double)b.centre[r][i];
        }
        b.optimum[i] = pull / steep;
    }
    return b;
}

static struct bowls descend(const struct algo_type *type, const char *params, const char *compress)
{
    struct graph g = graph_make("complete", WORKERS);
    struct bowls b = bowls_make();
    float start[DIM];
    for (int i = 0; i < DIM; i++) start[i] = 10;
    struct harness *h = harness_new(type, params, &g, NULL, DIM, start, 7, PATIENCE);
    harness_set_compress(h, compress);
    harness_set_trainer(h, train_bowl, &b);
    harness_set_hook(h, look, &b);
    while (harness_now(h) == 0 || allreduce_round(def_at(h, 0)->ring) <= LEG * LEGS)
        harness_run_until(h, harness_now(h) + PATIENCE);
    harness_free(h);
    graph_deinit(&g);
    return b;
}

static void it_goes_linearly_to_the_exact_optimum_of_workers_that_differ(void **state)
{
    (void)state;
    static const char *const compressors[] = {"none", "block:fraction=0.3", "randk:fraction=0.3",
                                              "bernoulli:p=0.3"};
    for (size_t c = 0; c < sizeof compressors / sizeof compressors[0]; c++) {
        struct bowls b = descend(&ef21_type, "ef21", compressors[c]);
        double floor = 2e-6 * b.distance[0]; /* rounding */
        for (int leg = 1; leg <= LEGS; leg++)
            assert_true(b.distance[leg] < fmax(0.1 * b.distance[leg - 1], floor));
        assert_true(b.distance[LEGS] < floor);
        b = descend(&ef_sgd_type, "ef-sgd", compressors[c]); /* as C is linear and shared */
        assert_true(b.distance[LEGS] < floor);
        if (c == 0) continue;
        struct bowls ahead = descend(&def_type, "def:lam=0.3", compressors[c]);
        assert_true(ahead.distance[LEGS] > 1e-3 * ahead.distance[0]);
        ahead = descend(&step_ahead_type, "step-ahead", compressors[c]);
        assert_true(ahead.distance[LEGS] > 1e-3 * ahead.distance[0]);
    }
}

/* -- views ------------------------------------------------------------------------------------- */

/* Rounds of worker 0 that left x as it was. */
struct still {
    uint64_t seen, count;
    float x[WORKERS];
};

static void watch_still(void *ctx, struct harness *h, rank_t r, const struct algo_event *event)
{
    struct still *s = ctx;
    (void)event;
    if (r != 0 || allreduce_round(def_at(h, 0)->ring) == s->seen) return;
    s->seen = allreduce_round(def_at(h, 0)->ring);
    s->count += memcmp(s->x, def_at(h, 0)->x, sizeof s->x) == 0;
    memcpy(s->x, def_at(h, 0)->x, sizeof s->x);
}

/* x and g are the same bits everywhere, and g is the mean of what is known of each. */
static void known_check(const struct harness *h, uint32_t n)
{
    const struct def *first = def_at(h, 0);
    for (uint32_t i = 0; i < n; i++) {
        double mean = 0;
        for (rank_t r = 0; r < n; r++) mean += (double)def_at(h, r)->known->own[i] / n;
        assert_true(fabs(mean - (double)first->known->mean[i]) < 1e-5);
    }
    for (rank_t r = 0; r < n; r++) {
        assert_memory_equal(def_at(h, r)->known->mean, first->known->mean, n * sizeof(float));
        assert_memory_equal(def_at(h, r)->x, first->x, n * sizeof(float));
    }
}

static void the_first_round_of_a_new_view_is_void(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", WORKERS);
    struct still s = {.count = 0};
    struct harness *h = harness_make(&ef21_type, "ef21", &g, 3);
    harness_set_hook(h, watch_still, &s);
    harness_run_until(h, 5 * PATIENCE);
    assert_int_equal(s.count, 0);
    assert_true(s.seen > 20);
    harness_crash(h, 3);
    uint64_t before = s.seen;
    harness_run_until(h, 15 * PATIENCE);
    uint64_t views = report_of(h, 0).terms;
    assert_true(s.seen > before + 20);
    assert_true(views > 0 && s.count >= 1 && s.count <= views);
    float third = 1.0f / 3;
    for (int i = 0; i < 3; i++) assert_true(fabsf(def_at(h, 0)->known->mean[i] + third) < 1e-6f);
    assert_true(def_at(h, 0)->known->mean[3] == 0); /* what was known of the dead is forgotten */
    harness_restart(h, 3, true);
    harness_run_until(h, 30 * PATIENCE);
    assert_true(s.count >= 2 && s.count <= report_of(h, 0).terms);
    harness_stop_training(h);
    harness_run_until(h, harness_now(h) + PATIENCE * 9 / 10);
    known_check(h, WORKERS);
    for (int i = 0; i < WORKERS; i++) assert_true(def_at(h, 3)->known->mean[i] == -0.25f);
    harness_free(h);
    graph_deinit(&g);
}

static void workers_agree_after_faults(void **state)
{
    (void)state;
    enum { N = 5 };
    struct graph g = graph_make("complete", N);
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct harness *h = harness_make(&ef21_type, "ef21", &g, seed);
        harness_set_compress(h, seed % 2 == 0 ? "block:fraction=0.3" : "bernoulli:p=0.3");
        harness_disturb_and_heal(h, seed, N);
        harness_run_until(h, harness_now(h) + 20 * PATIENCE);
        harness_stop_training(h);
        harness_run_until(h, harness_now(h) + PATIENCE * 9 / 10);
        known_check(h, N);
        for (rank_t r = 0; r < N; r++) {
            assert_true(harness_model(h, r)[r] > 1);
            struct algo_report report = report_of(h, r);
            assert_true(report.steps_handed_over > 0 && report.steps_handed_over <= report.steps);
        }
        harness_free(h);
    }
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(x_moves_by_what_was_last_sent_of_each_entry),
        cmocka_unit_test(it_goes_linearly_to_the_exact_optimum_of_workers_that_differ),
        cmocka_unit_test(the_first_round_of_a_new_view_is_void),
        cmocka_unit_test(workers_agree_after_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: async does exactly what the method's definition says: which gradient comes when, from which version,
 * and what it makes of x, to 1e-12; long runs end where theory says. Method: three workers with f_i = a_i/2
 * (x - c_i)^2 and step times 1, 2, 3 in virtual time (algo_harness.h), messages without delay. Scalars travel
 * as limbs (limbs.h). The lists of the first updates are written out; long ones are compared with a direct
 * simulation of the definition, below, in double. Ties in time go to the lowest worker: the step times are i
 * (1 + i 1e-9) units, so that they do. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/async/internal.h"
#include "base/check.h"
#include "tests/unit/gossip_fixture.h"
#include "tests/unit/limbs.h"

extern const struct algo_type async_type;

enum { WORKERS = 3, UPDATE_MAX = 60000, BATCH = 2 };
#define UNIT_US UINT64_C(1000000000)
#define LONG_US (UINT64_C(1) << 55) /* a patience that nothing outlasts */

static const double curvature[WORKERS] = {1, 2, 0.5}, centre[WORKERS] = {3, -1, 4};

/* -- the definition ---------------------------------------------------------------------------- */

struct update {
    uint32_t worker[BATCH], delay[BATCH];
    uint64_t time; /* units */
    double x;
};

struct job {
    uint64_t end; /* when it will be done; times as in the harness */
    uint32_t alpha;
    double x;
};

/* Queues of jobs per worker; first in, first out. */
struct line {
    struct job job[64];
    uint32_t first, count;
};

static uint64_t step_us(uint32_t worker)
{
    uint64_t i = worker + 1;
    return i * UNIT_US + i * i;
}

static void line_push(struct line *l, uint32_t worker, uint64_t now, uint32_t alpha, double x)
{
    CHECK(l->count < 64);
    uint64_t start = l->count > 0 ? l->job[(l->first + l->count - 1) % 64].end : now;
    if (start < now) start = now;
    l->job[(l->first + l->count++) % 64] = (struct job){start + step_us(worker), alpha, x};
}

/* order: fixed cyclic order of assignments, or NULL for pure. */
static void simulate(double gamma, uint32_t batch, const uint32_t *order, uint32_t count, struct update *out)
{
    static struct line line[WORKERS];
    memset(line, 0, sizeof line);
    double x = 0, sum = 0;
    uint32_t filled = 0, a = 0, who[BATCH];
    for (uint32_t k = 0; k < WORKERS; k++) line_push(&line[k], k, 0, 0, 0);
    for (uint32_t t = 0; t < count;) {
        uint32_t next = WORKERS;
        for (uint32_t k = 0; k < WORKERS; k++)
            if (line[k].count > 0 &&
                (next == WORKERS || line[k].job[line[k].first].end < line[next].job[line[next].first].end))
                next = k;
        struct job job = line[next].job[line[next].first];
        line[next].first = (line[next].first + 1) % 64;
        line[next].count--;
        who[filled] = next;
        out[t].worker[filled] = next;
        out[t].delay[filled++] = t - job.alpha;
        sum -= gamma * curvature[next] * (job.x - centre[next]);
        if (filled < batch) continue;
        x += sum / batch;
        out[t].x = x;
        out[t].time = (job.end + UNIT_US / 2) / UNIT_US;
        t++;
        for (uint32_t i = 0; i < batch; i++) {
            uint32_t k = order != NULL ? order[a++ % WORKERS] : who[i];
            line_push(&line[k], k, job.end, t, x);
        }
        sum = 0;
        filled = 0;
    }
}

/* -- the algorithm ----------------------------------------------------------------------------- */

struct recorder {
    double gamma;
    bool carry;
    uint32_t count, batch;
    uint64_t share[WORKERS], delay_sum;
    struct update *update; /* worker in ascending order; delay[0] is the sum of the batch */
};

static uint32_t train(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    const struct recorder *rec = ctx;
    (void)max_steps;
    limb_split(-rec->gamma * curvature[r] * (limb_value(x) - centre[r]), delta);
    if (rec->carry) limb_carry(x, delta);
    return 1;
}

static void record(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    struct recorder *rec = ctx;
    const struct async *a = (const struct async *)harness_algo(h, rank);
    (void)e;
    if (a->role != ASYNC_HOLDER || a->report.rounds == rec->count || rec->count == UPDATE_MAX) return;
    assert_int_equal(a->report.rounds, rec->count + 1);
    struct update *u = &rec->update[rec->count++];
    uint32_t filled = 0;
    for (uint32_t k = 0; k < WORKERS; k++)
        for (; rec->share[k] < async_shares(harness_algo(h, rank))[k]; rec->share[k]++) {
            assert_true(filled < rec->batch);
            u->worker[filled++] = k;
        }
    u->delay[0] = (uint32_t)(a->report.delay_sum - rec->delay_sum);
    rec->delay_sum = a->report.delay_sum;
    u->time = (harness_now(h) + UNIT_US / 2) / UNIT_US;
    u->x = limb_value(harness_model(h, rank));
}

static struct harness *run(struct recorder *rec, const char *params, uint64_t units, uint64_t seed)
{
    static struct graph g;
    graph_deinit(&g);
    g = graph_make("complete", WORKERS);
    float zero[LIMB_COUNT] = {0};
    struct harness *h = harness_new(&async_type, params, &g, NULL, LIMB_COUNT, zero, seed, LONG_US);
    harness_set_delay(h, 0, 0);
    for (uint32_t k = 0; k < WORKERS; k++) harness_set_step_time(h, k, step_us(k));
    harness_set_trainer(h, train, rec);
    harness_set_hook(h, record, rec);
    harness_run_until(h, units * UNIT_US + UNIT_US / 2);
    return h;
}

static struct recorder recorder(double gamma, uint32_t batch)
{
    return (struct recorder){
        .gamma = gamma, .batch = batch, .update = mem_new_zero(UPDATE_MAX, sizeof(struct update))};
}

/* -- written out --------------------------------------------------------------------------------- */

struct trace_case {
    const char *params;
    uint32_t batch, count;
    struct {
        uint32_t worker[2], delay; /* workers from 1; delay of the batch in all */
        uint64_t time;
        double x;
    } update[9];
};

static const struct trace_case cases[] = {
    {"async:rule=pure",
     1,
     9,
     {{{1}, 0, 1, .3},
      {{1}, 0, 2, .57},
      {{2}, 2, 2, .37},
      {{1}, 1, 3, .613},
      {{3}, 4, 3, .813},
      {{1}, 1, 4, 1.0517},
      {{2}, 3, 4, .7777},
      {{1}, 1, 5, .97253},
      {{1}, 0, 6, 1.175277}}},
    {"async:rule=pure,b=2",
     2,
     5,
     {{{1, 2}, 0, 2, .05},
      {{1, 3}, 1, 3, .2975},
      {{1, 2}, 1, 4, .327625},
      {{1, 2}, 0, 6, .32848125},
      {{1, 3}, 2, 7, .5546196875}}},
    {"async:rule=cyclic,order=3-1-2",
     1,
     9,
     {{{1}, 0, 1, .3},
      {{2}, 1, 2, .1},
      {{1}, 0, 3, .39},
      {{3}, 3, 3, .59},
      {{2}, 1, 5, .312},
      {{1}, 0, 6, .5808},
      {{3}, 5, 6, .7658},
      {{2}, 1, 8, .44964},
      {{1}, 0, 9, .704676}}},
};
enum { CASE_COUNT = sizeof cases / sizeof cases[0] };

/* Whoever of the three holds the model (the seed decides), the trace is the same. */
static void the_written_traces_come_out_to_twelve_digits(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < CASE_COUNT * 4; c++) {
        const struct trace_case *want = &cases[c / 4];
        struct recorder rec = recorder(0.1, want->batch);
        struct harness *h = run(&rec, want->params, 12, c % 4);
        assert_true(rec.count >= want->count);
        for (uint32_t i = 0; i < want->count; i++) {
            const struct update *got = &rec.update[i];
            for (uint32_t k = 0; k < want->batch; k++)
                assert_int_equal(got->worker[k] + 1, want->update[i].worker[k]);
            assert_int_equal(got->delay[0], want->update[i].delay);
            assert_int_equal(got->time, want->update[i].time);
            assert_true(fabs(got->x - want->update[i].x) < 1e-12);
        }
        harness_free(h);
        free(rec.update);
    }
}

/* -- long runs ----------------------------------------------------------------------------------- */

struct long_case {
    const char *params;
    uint32_t batch, count;
    bool ordered;
    double gamma, last; /* last: NAN = compare with the simulation only */
};

static const struct long_case longs[] = {
    {"async:rule=pure", 1, 60000, false, 0.1, 1.545678},
    {"async:rule=pure", 1, 60000, false, 0.01, 1.262888},
    {"async:rule=pure", 1, 60000, false, 0.001, 1.233990},
    {"async:rule=once,order=3-1-2", 1, 60000, true, 0.1, 0.902655},
    {"async:rule=cyclic,order=3-1-2", 1, 60000, true, 0.01, 0.861085},
    {"async:rule=cyclic,order=3-1-2", 1, 60000, true, 0.001, 0.857531},
    {"async:rule=pure,b=2", 2, 2000, false, 0.05, NAN},
    {"async:rule=cyclic,order=3-1-2,b=2", 2, 2000, true, 0.05, NAN},
};
enum { LONG_COUNT = sizeof longs / sizeof longs[0] };

static void check_counts(const struct recorder *rec, const struct long_case *c, uint64_t delay_max)
{
    uint64_t count[WORKERS] = {0};
    double delays = 0;
    for (uint32_t t = 0; t < c->count; t++) {
        for (uint32_t k = 0; k < c->batch; k++) count[rec->update[t].worker[k]]++;
        delays += rec->update[t].delay[0];
    }
    double mean = delays / (c->count * c->batch), want = (double)WORKERS / c->batch - 1;
    assert_true(fabs(mean - want) < 1e-3 * (want + 1));
    if (c->batch > 1) return;
    assert_int_equal(delay_max, 5);
    if (c->ordered) {
        for (uint32_t k = 0; k < WORKERS; k++) assert_in_range(count[k], 19999, 20001);
    } else { /* 6 : 3 : 2 */
        assert_int_equal(count[0], 32728);
        assert_int_equal(count[1], 16363);
        assert_int_equal(count[2], 10909);
    }
}

static void long_runs_follow_the_definition(void **state)
{
    (void)state;
    static const uint32_t order[WORKERS] = {2, 0, 1};
    struct update *want = mem_new_zero(UPDATE_MAX, sizeof *want);
    for (uint32_t c = 0; c < LONG_COUNT; c++) {
        const struct long_case *l = &longs[c];
        simulate(l->gamma, l->batch, l->ordered ? order : NULL, l->count, want);
        struct recorder rec = recorder(l->gamma, l->batch);
        rec.carry = true;
        struct harness *h = run(&rec, l->params, want[l->count - 1].time + 1, 5);
        assert_true(rec.count >= l->count);
        double worst = 0;
        for (uint32_t t = 0; t < l->count; t++) {
            const struct update *w = &want[t], *g = &rec.update[t];
            uint32_t low = w->worker[0], high = w->worker[l->batch - 1];
            assert_int_equal(g->worker[0], low < high ? low : high);
            assert_int_equal(g->worker[l->batch - 1], low < high ? high : low);
            assert_int_equal(g->delay[0], w->delay[0] + (l->batch > 1 ? w->delay[1] : 0));
            assert_int_equal(g->time, w->time);
            worst = fmax(worst, fabs(g->x - w->x));
        }
        struct algo_report report = {0};
        for (rank_t r = 0; r < WORKERS; r++) {
            struct algo_report of = report_of(h, r);
            if (of.rounds > 0) report = of;
        }
        printf("%-32s gamma %-5g last %.9f, greatest difference %.1e\n", l->params, l->gamma,
               rec.update[l->count - 1].x, worst);
        assert_true(worst < 1e-9);
        if (!isnan(l->last)) assert_true(fabs(rec.update[l->count - 1].x - l->last) < 1e-6);
        check_counts(&rec, l, report.delay_max);
        harness_free(h);
        free(rec.update);
    }
    free(want);
}

/* Planted fault: a job done on the newest model, not on that of its assignment, is noticed at once. */
static void a_job_on_the_newest_model_is_caught(void **state)
{
    (void)state;
    static const uint32_t order[WORKERS] = {2, 0, 1};
    struct update *want = mem_new_zero(UPDATE_MAX, sizeof *want);
    simulate(0.1, 1, order, 100, want);
    struct recorder rec = recorder(0.1, 1);
    struct harness *h = run(&rec, "async:rule=cyclic,order=3-1-2", 0, 5);
    for (uint64_t us = UNIT_US / 2; rec.count < 100; us += UNIT_US / 2) {
        harness_run_until(h, us);
        for (rank_t r = 0; r < WORKERS; r++) {
            struct async *a = (struct async *)harness_algo(h, r);
            for (uint32_t i = 1; i < a->queue_count; i++) { /* waiting jobs */
                const float *newest = harness_model(h, r);
                blob_unref(a->queue[i].model);
                a->queue[i].model = blob_copy(newest, LIMB_COUNT * sizeof *newest);
            }
        }
    }
    double worst = 0;
    for (uint32_t t = 0; t < 100; t++) worst = fmax(worst, fabs(rec.update[t].x - want[t].x));
    assert_true(worst > 1e-3);
    harness_free(h);
    free(rec.update);
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_written_traces_come_out_to_twelve_digits),
        cmocka_unit_test(long_runs_follow_the_definition),
        cmocka_unit_test(a_job_on_the_newest_model_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: the settings of async that are other methods give those methods; shares, delays and throughput are
 * what theory says; what cannot work is refused with a remedy; no message of a peer breaks anything. Method:
 * clusters in virtual time (algo_harness.h), speeds 1..10, messages without delay where figures are compared.
 * Malformed messages come from a table and must leave model, counters and table as they were. */
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

extern const struct algo_type async_type;

enum { DIM = 6 };
#define UNIT_US UINT64_C(1000000)
#define LONG_US (UINT64_C(1) << 55)

static const struct async *inside_of(const struct harness *h, rank_t r)
{
    return (const struct async *)harness_algo(h, r);
}

static rank_t holder_of(const struct harness *h, uint32_t n)
{
    rank_t r = 0;
    while (r < n && inside_of(h, r)->role != ASYNC_HOLDER) r++;
    assert_true(r < n);
    return r;
}

static struct harness *without_delay(const char *params, const struct graph *g, size_t dim, const float *x0,
                                     uint64_t seed)
{
    struct harness *h = harness_new(&async_type, params, g, NULL, dim, x0, seed, LONG_US);
    harness_set_delay(h, 0, 0);
    for (rank_t r = 0; r < g->node_count; r++) harness_set_step_time(h, r, (r + 1) * UNIT_US);
    return h;
}

/* -- other methods --------------------------------------------------------------------------------- */

static double slope(rank_t r, uint32_t i, double x)
{
    return (0.5 + 0.25 * (double)((r + i) % 3)) * (x - (double)r + (double)i);
}

static uint32_t train_quadratic(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    (void)ctx;
    (void)max_steps;
    for (uint32_t i = 0; i < DIM; i++) delta[i] = (float)(-0.1 * slope(r, i, (double)x[i]));
    return 1;
}

/* b = n: everybody works on the same version, pure and shuffled alike: synchronous SGD. */
static void waiting_for_all_is_synchronous_sgd(void **state)
{
    (void)state;
    static const char *const params[] = {"async:rule=pure,b=5", "async:rule=shuffled,b=5",
                                         "async:rule=cyclic,b=5"};
    for (int c = 0; c < 3; c++) {
        struct graph g = graph_make("complete", 5);
        float zero[DIM] = {0};
        struct harness *h = without_delay(params[c], &g, DIM, zero, 4);
        harness_set_trainer(h, train_quadratic, NULL);
        harness_run_until(h, 40 * 5 * UNIT_US + 1);
        rank_t holder = holder_of(h, 5);
        assert_int_equal(inside_of(h, holder)->ledger.t, 40);
        double x[DIM] = {0};
        for (int t = 0; t < 40; t++)
            for (uint32_t i = 0; i < DIM; i++) {
                double sum = 0;
                for (rank_t r = 0; r < 5; r++) sum += slope(r, i, x[i]);
                x[i] -= 0.1 * sum / 5;
            }
        for (uint32_t i = 0; i < DIM; i++)
            assert_true(fabs((double)harness_model(h, holder)[i] - x[i]) < 2e-6);
        assert_int_equal(report_of(h, holder).delay_sum, 0);
        for (rank_t r = 0; r < 5; r++)
            assert_int_equal(report_of(h, r).steps_handed_over, 40); /* holder's too */
        harness_free(h);
        graph_deinit(&g);
    }
}

/* Doubles x each step, and stops after two. */
static uint32_t train_doubling(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    (void)ctx;
    (void)r;
    uint32_t steps = max_steps < 2 ? max_steps : 2;
    delta[0] = x[0] * (steps == 2 ? 3.0f : 1.0f);
    return steps;
}

static void alone_it_is_sgd_and_short_answers_are_continued(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 1);
    float one[1] = {1};
    struct harness *h = without_delay("async:steps=5", &g, 1, one, 4);
    harness_set_trainer(h, train_doubling, NULL);
    harness_run_until(h, 15 * UNIT_US + 1);
    assert_true(harness_model(h, 0)[0] == 32768.0f); /* 2^15 */
    assert_int_equal(report_of(h, 0).rounds, 3);
    assert_int_equal(report_of(h, 0).steps, 15);
    assert_int_equal(report_of(h, 0).version, 3);
    harness_free(h);
    graph_deinit(&g);
}

/* -- figures --------------------------------------------------------------------------------------- */

struct figures {
    double share[10], delay, ticks; /* mean delay; time per gradient */
};

static struct figures measure(const char *params, uint64_t gradients, uint64_t seed)
{
    enum { WORKERS = 10 };
    struct graph g = graph_make("complete", WORKERS);
    float zero[WORKERS] = {0};
    struct harness *h = without_delay(params, &g, WORKERS, zero, seed);
    const struct async *a = inside_of(h, 0);
    uint64_t time = 0;
    for (double sum = 0; sum < (double)gradients;) {
        harness_run_until(h, time += UNIT_US);
        a = inside_of(h, holder_of(h, WORKERS));
        sum = (double)a->ledger.t * a->rule.batch;
    }
    struct figures f = {.ticks = (double)time / (double)UNIT_US};
    uint64_t total = 0;
    for (int k = 0; k < WORKERS; k++) total += async_shares((const struct algo *)a)[k];
    assert_int_equal(total, a->ledger.t * a->rule.batch);
    for (int k = 0; k < WORKERS; k++) {
        f.share[k] = (double)async_shares((const struct algo *)a)[k] / (double)total;
        assert_true(fabs((double)a->x[k] * a->rule.batch - (double)async_shares((const struct algo *)a)[k]) <
                    0.01);
    }
    f.delay = (double)a->report.delay_sum / (double)total;
    harness_free(h);
    graph_deinit(&g);
    return f;
}

static void shares_and_throughput_follow_the_rule(void **state)
{
    (void)state;
    static const double pure[10] = {.3414, .1707, .1138, .0854, .0683, .0569, .0488, .0427, .0379, .0341};
    struct figures f = measure("async:rule=pure", 6000, 1);
    for (int k = 0; k < 10; k++) assert_true(fabs(f.share[k] - pure[k]) < 0.002);
    assert_true(fabs(6000 / f.ticks - 2.929) < 0.01);
    f = measure("async:rule=shuffled", 6000, 1);
    for (int k = 0; k < 10; k++) assert_true(fabs(f.share[k] - 0.1) < 0.002);
    assert_true(6000 / f.ticks > 0.95 && 6000 / f.ticks < 1.01);
    f = measure("async:rule=random", 20000, 1);
    for (int k = 0; k < 10; k++) assert_true(fabs(f.share[k] - 0.1) < 0.01); /* sd 0.0021 */
    assert_true(20000 / f.ticks > 0.85 && 20000 / f.ticks < 1.05);
}

static void five_hundred_gradients_take_the_time_they_should(void **state)
{
    (void)state;
    struct figures pure = measure("async:rule=pure", 500, 1);
    assert_in_range(pure.ticks, 170, 174); /* 172 */
    double shuffled = 0, drawn = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        shuffled += measure("async:rule=shuffled", 500, seed).ticks / 8;
        drawn += measure("async:rule=random", 500, seed).ticks / 8;
    }
    printf("500 gradients: pure %.0f ticks, shuffled %.0f, random %.0f\n", pure.ticks, shuffled, drawn);
    assert_true(shuffled > 445 && shuffled < 485); /* 464 */
    assert_true(drawn > 470 && drawn < 600);       /* 485 to 550 */
}

static void the_mean_delay_is_n_over_b_less_one(void **state)
{
    (void)state;
    static const struct {
        const char *params;
        double delay;
    } cases[] = {{"async:rule=pure", 9},          {"async:rule=random", 9},   {"async:rule=shuffled", 9},
                 {"async:rule=pure,b=2", 4},      {"async:rule=once,b=2", 4}, {"async:rule=random,b=5", 1},
                 {"async:rule=shuffled,b=10", 0}, {"async:concurrency=4", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double delay = measure(cases[i].params, 4000, 7).delay;
        assert_true(fabs(delay - cases[i].delay) < 0.05 * (cases[i].delay + 0.5));
    }
}

/* -- compression ------------------------------------------------------------------------------------ */

/* The workers pull hard at the first two coordinates, each its own way, and all gently at the rest, to 1. */
static uint32_t train_torn(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    (void)ctx;
    (void)max_steps;
    for (uint32_t i = 0; i < 2; i++) delta[i] = 0.05f * ((r == 1 ? -4.0f : 4.0f) - x[i]);
    for (uint32_t i = 2; i < DIM; i++) delta[i] = 0.05f * (1 - x[i]);
    return 1;
}

/* Two entries of six are sent: the gentle pull is felt only if what was dropped comes later. */
static void error_feedback_returns_what_was_dropped(void **state)
{
    (void)state;
    static const char *const params[] = {"async", "async:feedback=none"};
    for (int i = 0; i < 2; i++) {
        struct graph g = graph_make("complete", 3);
        float zero[DIM] = {0};
        struct harness *h = without_delay(params[i], &g, DIM, zero, 4);
        harness_set_compress(h, "topk:fraction=0.34");
        harness_set_trainer(h, train_torn, NULL);
        harness_run_until(h, 3000 * UNIT_US);
        for (uint32_t k = 2; k < DIM; k++) {
            float x = harness_model(h, holder_of(h, 3))[k];
            if (i == 0) {
                assert_true(fabsf(x - 1) < 0.5f);
            } else {
                assert_true(x == 0.0f);
            }
        }
        harness_free(h);
        graph_deinit(&g);
    }
}

/* -- refusals --------------------------------------------------------------------------------------- */

static void what_cannot_work_is_refused_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *params, *compress, *says;
        uint32_t n;
    } cases[] = {
        {"async:b=6", NULL, "b=5 or less", 5},
        {"async:b=3,concurrency=2", NULL, "b=2 or less", 5},
        {"async:concurrency=600", NULL, "concurrency=585 or less", 5},
        {"async", NULL, "concurrency=", 700},
        {"async:order=1-2-3", NULL, "rule=once or rule=cyclic", 3},
        {"async:rule=once,order=1-2-2", NULL, "permutation of 1..3", 3},
        {"async:b=5", NULL, NULL, 5},
        {"async:b=6,concurrency=6", NULL, NULL, 5},
        {"async:feedback=none", "topk:fraction=0.1", NULL, 3},
        {"async:rule=cyclic,order=3-1-2", NULL, NULL, 3},
        {"async:concurrency=500", NULL, NULL, 700},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct graph g = graph_make("ring", cases[i].n); /* its links play no part in making */
        float x0[40] = {0};
        struct choice params, compress;
        struct err_text why = {""};
        assert_int_equal(choice_parse(&async_type.spec, 1, "--algorithm", cases[i].params, &params, &why), 0);
        if (cases[i].compress != NULL)
            assert_int_equal(choice_parse(compress_table, compress_table_count, "--compress",
                                          cases[i].compress, &compress, &why),
                             0);
        struct algo_config config = {.node_count = cases[i].n,
                                     .graph = &g,
                                     .dim = 40,
                                     .x0 = x0,
                                     .patience_us = PATIENCE,
                                     .compress = cases[i].compress != NULL ? &compress : NULL};
        struct algo *algo = NULL;
        int err = async_type.create(&config, &params, &algo, &why);
        assert_int_equal(err, cases[i].says != NULL ? ERR_USAGE : 0);
        if (cases[i].says != NULL && strstr(why.text, cases[i].says) == NULL) fail_msg("%s", why.text);
        async_type.destroy(algo);
        graph_deinit(&g);
    }
}

/* -- malformed messages ------------------------------------------------------------------------------ */

struct bad_case {
    uint8_t kind, field_count;
    bool vec, packed;
    uint32_t bits_size;
    uint64_t field[9];
};

/* T is the present term, from its holder; L one of the sender that lies. */
#define T 9000
#define L 9001

static const struct bad_case bad[] = {
    {0, 1, false, false, 0, {T}},
    {99, 1, false, false, 0, {T}},
    {ASYNC_TERM, 1, false, false, 0, {T}},
    {ASYNC_TERM, 2, true, false, 0, {T, 1}},
    {ASYNC_TERM, 2, false, false, 8, {T, 1}},
    {ASYNC_TERM, 2, false, false, 0, {0, 1}},
    {ASYNC_TERM, 2, false, false, 0, {UINT64_MAX, 1}},
    {ASYNC_TERM, 2, false, false, 0, {L, 1}}, /* a term of another's */
    {ASYNC_HAVE, 1, false, false, 0, {T}},
    {ASYNC_HAVE, 2, false, false, 7, {T, 0}},
    {ASYNC_HAVE, 2, true, false, 0, {T, 0}},
    {ASYNC_JOB, 4, false, false, 0, {T, 50, 1, 1}},
    {ASYNC_JOB, 3, true, false, 0, {T, 50, 1}},
    {ASYNC_JOB, 4, true, false, 0, {T, 0, 0, 1}},
    {ASYNC_JOB, 4, true, false, 0, {T, 50, 50, 1}},
    {ASYNC_JOB, 4, true, false, 0, {1, 50, 1, 1}},
    {ASYNC_JOB, 4, true, false, 8, {T, 50, 1, 1}},
    {ASYNC_GRAD, 2, false, false, 0, {T, 1}},
    {ASYNC_GRAD, 2, true, false, 8, {T, 1}},
    {ASYNC_GRAD, 1, true, false, 0, {T}},
    {ASYNC_GRAD, 2, true, false, 0, {2, 1}},
    {ASYNC_CANCEL, 1, false, false, 0, {T}},
    {ASYNC_CANCEL, 1, false, false, 12, {T}},
    {ASYNC_CANCEL, 2, false, false, 8, {T, 1}},
    {ASYNC_CANCEL, 1, true, false, 8, {T}},
    {ASYNC_LOG, 2, false, false, 0, {T, 1}},
    {ASYNC_LOG, 2, false, false, 13, {T, 0}},
    {ASYNC_LOG, 2, false, false, 13, {T, UINT64_MAX}},
    {ASYNC_LOG, 2, false, false, 13, {T, 1}}, /* zeros: no such entry */
    {ASYNC_LOG, 1, false, false, 13, {T}},
    {ASYNC_SNAPSHOT, 8, false, false, 1, {T, T, 1, 0, 9, 0, 0, 0}},
    {ASYNC_SNAPSHOT, 8, true, false, 1, {T, T, 1, 0, 9, 0, 0, 0}}, /* nobody on the list */
    {ASYNC_SNAPSHOT, 8, true, false, 0, {T, T, 1, 0, 9, 0, 0, 0}},
    {ASYNC_SNAPSHOT, 8, true, false, 1, {T, T + 1, 1, 0, 9, 0, 0, 0}},
    {ASYNC_SNAPSHOT, 8, true, false, 1, {T, T, 1, 9, 9, 0, 0, 0}},
    {ASYNC_SNAPSHOT, 8, true, false, 1, {T, T, UINT64_MAX, 0, 9, 0, 0, 0}},
    {ASYNC_SNAPSHOT, 8, true, false, 1, {T, T, 1, 0, 9, 0, 0, 77}},
    {ASYNC_OWN, 4, false, false, 0, {T, 1, 0, 1}},
    {ASYNC_OWN, 4, true, false, 0, {T, 1, 77, 1}},
    {ASYNC_OWN, 3, true, false, 0, {T, 1, 0}},
    {ASYNC_OWN, 4, false, true, 0, {T, 1, 0, 1}}, /* nothing is compressed here */
    {ASYNC_ACK, 4, true, false, 0, {T, 1, 0, 1}},
    {ASYNC_ACK, 3, false, false, 0, {T, 1, 0}},
    {ASYNC_ACK, 4, false, false, 0, {0, 1, 0, 1}},
    {ASYNC_ALIVE, 1, false, false, 0, {T}},
    {ASYNC_ALIVE, 2, false, false, 0, {0, 1}},
    {ASYNC_STALE, 1, false, false, 0, {0}},
    {ASYNC_STALE, 1, false, false, 8, {T}},
    {ASYNC_ASK, 1, false, false, 0, {L}},
    {ASYNC_ASK, 2, false, false, 0, {T, 1}},
    {ASYNC_VOTE, 7, false, false, 0, {T, 1, 1, 3, 0, 0, 0}}, /* a snapshot beyond the log */
    {ASYNC_VOTE, 7, true, false, 0, {T, 1, 2, 1, 0, 0, 0}},
    {ASYNC_VOTE, 4, false, false, 0, {T, 1, 2, 1}},
    {ASYNC_VOTE, 7, false, false, 0, {T, T + 1, 2, 1, 0, 0, 0}}, /* a log of a later term than is asked for */
    {ASYNC_VOTE, 7, false, false, 0, {T, 1, 2, 1, 0, T + 1, 0}},
    {ASYNC_VOTE, 7, false, false, 0, {T, 1, 2, 1, 0, 0, UINT64_MAX}},
    {ASYNC_FETCH, 2, false, false, 0, {L, 0}},
    {ASYNC_FETCH, 2, true, false, 0, {T, 0}},
    {ASYNC_FETCH, 2, false, false, 0, {T, 2}},
    {ASYNC_FETCH, 1, false, false, 0, {T}},
    {ASYNC_FETCHED, 2, false, false, 0, {T, 1}},
    {ASYNC_FETCHED, 3, false, false, 0, {0, 1, 1}},
};

static uint64_t resolve(uint64_t field, uint64_t term, uint32_t n, rank_t from)
{
    if (field == L) return (term / n + 5) * n + (from + 1) % n;
    if (field == T) return term;
    return field == T + 1 ? term + 1 : field;
}

static void malformed_messages_change_nothing(void **state)
{
    (void)state;
    enum { WORKERS = 4 };
    struct graph g = graph_make("complete", WORKERS);
    float zero[WORKERS] = {0};
    struct harness *h = harness_new(&async_type, "async", &g, NULL, WORKERS, zero, 1, PATIENCE);
    harness_run_until(h, 300000);
    rank_t holder = holder_of(h, WORKERS);
    uint8_t bits[16] = {0};
    struct blob *vec = blob_copy(zero, sizeof zero), *packed = blob_new(8);
    memset(packed->data, 0, 8);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int way = 0; way < 2; way++) { /* the holder's word to a worker, a worker's to the holder */
            const struct bad_case *c = &bad[i];
            rank_t worker = (holder + 1) % WORKERS, from = way == 0 ? holder : worker,
                   to = way == 0 ? worker : holder;
            struct async *a = (struct async *)harness_algo(h, to);
            struct algo_msg m = {.kind = c->kind, .field_count = c->field_count, .bits_size = c->bits_size};
            for (int k = 0; k < 9; k++) m.field[k] = resolve(c->field[k], a->term, WORKERS, from);
            m.bits = c->bits_size > 0 ? bits : NULL;
            m.vec = c->vec ? vec : NULL;
            m.packed = c->packed ? packed : NULL;
            struct algo_report before = report_of(h, to);
            struct async_ledger ledger = a->ledger;
            uint64_t term = a->term, promised = a->promised;
            int err = harness_inject(h, from, to, &m);
            if (err != ERR_PROTO) fail_msg("case %zu (kind %u), way %d: %d", i, c->kind, way, err);
            struct algo_report after = report_of(h, to);
            assert_memory_equal(&before, &after, sizeof before);
            assert_memory_equal(&ledger, &a->ledger, sizeof ledger);
            assert_true(a->term == term && a->promised == promised);
        }
    /* Some are wrong only in what they say: of a job of another worker, of entries that are not there. */
    const struct async *a = inside_of(h, holder);
    rank_t worker = (holder + 1) % WORKERS;
    struct algo_msg grad = {.kind = ASYNC_GRAD, .field_count = 2, .vec = vec};
    grad.field[0] = a->term;
    grad.field[1] = async_ledger_low(&a->ledger, (worker + 1) % WORKERS);
    assert_int_equal(harness_inject(h, worker, holder, &grad), ERR_PROTO);
    struct algo_msg ack = {.kind = ASYNC_ACK, .field_count = 4};
    ack.field[0] = a->term;
    ack.field[2] = a->ledger.index + 100;
    rank_t successor = 0;
    while (a->peer[successor].standby != ASYNC_STANDBY_MEMBER) successor++;
    assert_int_equal(harness_inject(h, successor, holder, &ack), ERR_PROTO);
    uint64_t t = a->ledger.t;
    harness_run_until(h, harness_now(h) + 300000); /* and it goes on */
    assert_true(a->ledger.t > t + 20);
    blob_unref(vec);
    blob_unref(packed);
    harness_free(h);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_for_all_is_synchronous_sgd),
        cmocka_unit_test(alone_it_is_sgd_and_short_answers_are_continued),
        cmocka_unit_test(shares_and_throughput_follow_the_rule),
        cmocka_unit_test(five_hundred_gradients_take_the_time_they_should),
        cmocka_unit_test(the_mean_delay_is_n_over_b_less_one),
        cmocka_unit_test(error_feedback_returns_what_was_dropped),
        cmocka_unit_test(what_cannot_work_is_refused_with_a_remedy),
        cmocka_unit_test(malformed_messages_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: error feedback over the all-reduce does what its recursion says: y = x - mean e moves by the mean
 * progress whatever lam and compressor, and x is y as it was when an entry was last sent, the same bits
 * everywhere (delicoco_def.md 6.4); faults and refusals. One worker alone: test_def_alone.c. Method:
 * instances in virtual time (algo_harness.h). Progress in multiples of 1/64 and powers of two as weights make
 * float32 exact, so the facts are tested for equality. A worker that forgets its residual must be caught. */
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
extern const struct algo_type def_a_type;
extern const struct algo_type ef_sgd_type;
extern const struct algo_type step_ahead_type;
extern const struct algo_type allreduce_type;

enum { DIM = 24, ROUNDS = 60, WORKERS = 4 };

static struct def *def_at(const struct harness *h, rank_t r)
{
    return (struct def *)harness_algo(h, r);
}

/* -- the facts of 6.4 -------------------------------------------------------------------------- */

struct record {
    struct prng random[WORKERS];
    const double *weight;
    double progress[WORKERS][DIM]; /* of the jobs before the present one: they are over */
    float job[WORKERS][DIM];
    double at_end[ROUNDS][WORKERS][DIM]; /* progress when the worker ended the round */
    float x[ROUNDS][DIM];                /* after the round */
    bool sent[ROUNDS][DIM];
    uint32_t ended[ROUNDS], seen[WORKERS];
    bool forgetful; /* planted: worker 1 loses its residual at round 10 */
    uint32_t wrong;
};

static uint32_t train_dyadic(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    struct record *rec = ctx;
    (void)x;
    for (uint32_t i = 0; i < DIM; i++) {
        rec->progress[r][i] += (double)rec->job[r][i];
        rec->job[r][i] = delta[i] = (float)((int)prng_below(&rec->random[r], 129) - 64) / 64.0f;
    }
    return max_steps > 2 ? 2 : max_steps;
}

/* Which entries the compressor keeps in this round. */
static void sent_find(const struct def *d, uint64_t round, bool *sent)
{
    struct compressor *c = d->compressor;
    struct compress_context context = {.seed = d->seed, .round = round};
    float ones[DIM], decoded[DIM];
    uint8_t bytes[4 * DIM];
    size_t size;
    for (int i = 0; i < DIM; i++) ones[i] = 1;
    CHECK(compressor_encode(c, &context, DIM, ones, bytes, &size, decoded) == 0);
    for (int i = 0; i < DIM; i++) sent[i] = decoded[i] != 0;
}

static void round_note(struct record *rec, struct def *d, rank_t r, uint32_t round)
{
    for (int i = 0; i < DIM; i++) rec->at_end[round][r][i] = rec->progress[r][i];
    if (rec->ended[round]++ == 0) {
        memcpy(rec->x[round], d->x, sizeof rec->x[round]);
        sent_find(d, round, rec->sent[round]);
    }
    rec->wrong += memcmp(rec->x[round], d->x, sizeof rec->x[round]) != 0; /* the same bits everywhere */
    for (int i = 0; i < DIM; i++) rec->wrong += rec->sent[round][i] && d->e[i] != 0;
    if (rec->forgetful && r == 1 && round == 10) memset(d->e, 0, DIM * sizeof *d->e);
}

static void note(void *ctx, struct harness *h, rank_t r, const struct algo_event *event)
{
    struct record *rec = ctx;
    struct def *d = def_at(h, r);
    (void)event;
    uint64_t round = allreduce_round(d->ring);
    for (; rec->seen[r] < round && rec->seen[r] < ROUNDS; rec->seen[r]++) {
        CHECK(rec->seen[r] + 1 == round); /* nobody copies here */
        round_note(rec, d, r, rec->seen[r]);
    }
}

/* y after the round: the start and the mean progress. */
static double y_of(const struct record *rec, uint32_t workers, int round, int i)
{
    double y = (double)i / 8, all = 0;
    for (uint32_t r = 0; r < workers; r++) all += rec->weight[r];
    for (uint32_t r = 0; r < workers; r++)
        if (round >= 0) y += rec->weight[r] / all * rec->at_end[round][r][i];
    return y;
}

/* Counts where x is not y as it was when the entry was last sent. */
static uint32_t facts_broken(const struct record *rec, uint32_t workers)
{
    uint32_t wrong = rec->wrong;
    int last[DIM];
    for (int i = 0; i < DIM; i++) last[i] = -1;
    for (int t = 0; t < ROUNDS; t++)
        for (int i = 0; i < DIM; i++) {
            if (rec->sent[t][i]) last[i] = t;
            wrong += (double)rec->x[t][i] != y_of(rec, workers, last[i], i);
        }
    return wrong;
}

static uint32_t facts_run(const struct algo_type *type, const char *params, const char *compress,
                          const double *weight, uint32_t workers, bool forgetful)
{
    static const double equal[WORKERS] = {0.25, 0.25, 0.25, 0.25};
    struct graph g = graph_make("complete", workers);
    struct record *rec = mem_new_zero(1, sizeof *rec);
    float start[DIM];
    for (int i = 0; i < DIM; i++) start[i] = (float)i / 8;
    for (uint32_t r = 0; r < workers; r++) prng_split(&rec->random[r], 5, "dyadic", r);
    rec->weight = weight != NULL ? weight : equal;
    rec->forgetful = forgetful;
    struct harness *h = harness_new(type, params, &g, rec->weight, DIM, start, 11, PATIENCE);
    if (compress != NULL) harness_set_compress(h, compress);
    harness_set_trainer(h, train_dyadic, rec);
    harness_set_hook(h, note, rec);
    harness_run_until(h, 20 * PATIENCE);
    for (uint32_t r = 0; r < workers; r++) assert_int_equal(rec->seen[r], ROUNDS);
    uint32_t broken = facts_broken(rec, workers);
    harness_free(h);
    graph_deinit(&g);
    free(rec);
    return broken;
}

static void x_is_y_as_it_was_when_last_sent(void **state)
{
    (void)state;
    static const double uneven[WORKERS] = {0.5, 0.25, 0.125, 0.125};
    static const char *const compressors[] = {NULL, "none", "block:fraction=0.2", "randk:fraction=0.1",
                                              "bernoulli:p=0.2"};
    for (size_t c = 0; c < sizeof compressors / sizeof compressors[0]; c++) {
        const char *compress = compressors[c];
        assert_int_equal(facts_run(&def_type, "def", compress, NULL, WORKERS, false), 0);
        assert_int_equal(facts_run(&def_type, "def:lam=0.7,every=5", compress, NULL, WORKERS, false), 0);
        assert_int_equal(facts_run(&def_a_type, "def-a", compress, NULL, 2, false), 0);
        assert_int_equal(facts_run(&ef_sgd_type, "ef-sgd", compress, NULL, 1, false), 0);
        assert_int_equal(facts_run(&step_ahead_type, "step-ahead:weights=data", compress, uneven, 4, false),
                         0);
    }
    assert_int_equal(facts_run(&allreduce_type, "allreduce:every=3", NULL, NULL, WORKERS, false), 0);
    assert_true(facts_run(&def_type, "def", "block:fraction=0.2", NULL, WORKERS, true) > 0); /* planted */
}

/* -- tensors, models shown, faults, refusals ---------------------------------------------------- */

static void each_tensor_has_a_block_of_its_own(void **state)
{
    (void)state;
    static const struct tensor tensors[] = {{0, 4, 5}, {20, 1, 3}, {23, 1, 1}};
    struct graph g = graph_make("complete", 1);
    float zero[DIM] = {0}, ones[DIM];
    double weight = 1;
    struct choice params, compress;
    struct err_text why = {""};
    assert_int_equal(choice_parse(&def_type.spec, 1, "--algorithm", "def", &params, &why), 0);
    assert_int_equal(choice_parse(compress_table, compress_table_count, "--compress", "block:fraction=0.4",
                                  &compress, &why),
                     0);
    struct algo_config config = {.node_count = 1,
                                 .graph = &g,
                                 .weight = &weight,
                                 .dim = DIM,
                                 .x0 = zero,
                                 .patience_us = PATIENCE,
                                 .compress = &compress,
                                 .tensor = tensors,
                                 .tensor_count = 3};
    struct algo *a = NULL;
    assert_int_equal(algo_create(&def_type, &config, &params, &a, &why), 0);
    struct algo_actions acts = {0};
    for (int i = 0; i < DIM; i++) ones[i] = 1;
    struct algo_event start = {.kind = ALGO_START}, trained = {.kind = ALGO_TRAINED};
    trained.trained.steps = 1;
    trained.trained.delta = ones;
    assert_int_equal(def_type.step(a, &start, &acts), 0);
    assert_int_equal(def_type.step(a, &trained, &acts), 0);
    int moved[3] = {0};
    for (int i = 0; i < DIM; i++) moved[i < 20 ? 0 : i < 23 ? 1 : 2] += def_type.model(a)[i] == 1;
    assert_int_equal(moved[0], 8); /* max(1, floor(0.4 size)) of each */
    assert_int_equal(moved[1], 1);
    assert_int_equal(moved[2], 1);
    algo_actions_clear(&acts);
    algo_actions_deinit(&acts);
    def_type.destroy(a);
    graph_deinit(&g);
}

static void def_a_shows_what_is_pending(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct harness *h = harness_make(&def_a_type, "def-a", &g, 4);
    struct harness *plain = harness_make(&def_type, "def", &g, 4);
    harness_set_compress(h, "bernoulli:p=0.3");
    harness_set_compress(plain, "bernoulli:p=0.3");
    harness_run_until(h, 5 * PATIENCE);
    harness_run_until(plain, 5 * PATIENCE);
    for (rank_t r = 0; r < 3; r++) {
        const struct def *d = def_at(h, r), *p = def_at(plain, r);
        assert_memory_equal(d->x, p->x, 3 * sizeof(float)); /* the same run */
        assert_memory_equal(d->e, p->e, 3 * sizeof(float));
        assert_ptr_equal(harness_model(h, r), d->shown);
        assert_ptr_equal(harness_model(plain, r), p->x);
    }
    /* Coordinate r moves by 1/3 a round: less than one round is pending in the model shown. */
    double rounds = (double)allreduce_round(def_at(h, 0)->ring), sum = 0;
    for (rank_t r = 0; r < 3; r++) sum += (double)harness_model(h, r)[1] / 3;
    assert_true(fabs(sum - rounds / 3) < 1e-3 * rounds);
    harness_free(h);
    harness_free(plain);
    graph_deinit(&g);
}

static void workers_agree_after_faults(void **state)
{
    (void)state;
    enum { N = 5 };
    struct graph g = graph_make("complete", N);
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct harness *h = harness_make(&def_type, "def", &g, seed);
        harness_set_compress(h, seed % 2 == 0 ? "block:fraction=0.3" : "bernoulli:p=0.1");
        harness_disturb_and_heal(h, seed, N);
        harness_run_until(h, harness_now(h) + 20 * PATIENCE);
        harness_stop_training(h);
        harness_run_until(h, harness_now(h) + PATIENCE * 9 / 10);
        for (rank_t r = 1; r < N; r++)
            assert_memory_equal(harness_model(h, r), harness_model(h, 0), N * sizeof(float));
        for (rank_t r = 0; r < N; r++) {
            struct algo_report report = report_of(h, r);
            assert_true(report.rounds > 0 && report.steps_handed_over > 0);
            assert_true(report.steps_handed_over <= report.steps);
        }
        harness_free(h);
    }
    graph_deinit(&g);
}

static void what_cannot_be_summed_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *compress;
        int err;
    } row[] = {{"none", 0},
               {"block", 0},
               {"randk", 0},
               {"bernoulli", 0},
               {"topk", ERR_USAGE},
               {"sign", ERR_USAGE},
               {"qsgd", ERR_USAGE},
               {"fp16", ERR_USAGE},
               {"powersgd", ERR_USAGE},
               {"randk:fraction=0.9,variant=unbiased", ERR_USAGE}};
    struct graph g = graph_make("complete", 1);
    float zero[DIM] = {0};
    double weight = 1;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct choice params, compress;
        struct err_text why = {""};
        assert_int_equal(choice_parse(&def_type.spec, 1, "--algorithm", "def", &params, &why), 0);
        assert_int_equal(choice_parse(compress_table, compress_table_count, "--compress", row[i].compress,
                                      &compress, &why),
                         0);
        struct algo_config config = {.node_count = 1,
                                     .graph = &g,
                                     .weight = &weight,
                                     .dim = DIM,
                                     .x0 = zero,
                                     .patience_us = PATIENCE,
                                     .compress = &compress};
        struct algo *a = NULL;
        assert_int_equal(algo_create(&def_type, &config, &params, &a, &why), row[i].err);
        assert_true((why.text[0] != '\0') == (row[i].err != 0));
        if (row[i].err != 0) assert_non_null(strstr(why.text, "block"));
        def_type.destroy(a);
    }
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(x_is_y_as_it_was_when_last_sent),
        cmocka_unit_test(each_tensor_has_a_block_of_its_own),
        cmocka_unit_test(def_a_shows_what_is_pending),
        cmocka_unit_test(workers_agree_after_faults),
        cmocka_unit_test(what_cannot_be_summed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

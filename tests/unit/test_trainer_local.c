/* Goal: the local trainer does plain SGD on its own rows and nothing else.
 *
 * Method: the trainer is compared bit by bit with the loop of its header written out here, on dense, sparse
 * and byte rows; planted loops (another stream, another batch, another row) must differ. Rows outside a
 * trainer's list are poisoned with NaN; a planted trainer over all rows must meet the poison. */
#include <math.h>

#include "experiment_fixture.h"

/* -- the local trainer against a loop ---------------------------------------------------------- */

/* What differs in a planted loop; zeros for the right one. */
struct fault {
    uint64_t index;
    uint32_t batch, row;
};

/* x after `steps` steps of SGD as local_trainer_new describes it. */
static void train_by_hand(const struct experiment *e, const struct dataset *d, const uint32_t *row,
                          uint32_t count, uint32_t steps, struct fault fault, float *x)
{
    const struct config *c = e->config;
    uint32_t batch = (c->batch == 0 ? count : c->batch) + fault.batch;
    struct model_shape shape = experiment_shape(e);
    shape.batch_rows_max = batch;
    struct model *m;
    assert_int_equal(model_new(&c->task, &shape, e->vec, &m, NULL), 0);
    struct sgd sgd;
    sgd_init(&sgd, e->dim, &c->step_size, c->momentum);
    struct prng random;
    prng_split(&random, c->seed, "hand", fault.index);
    struct batch_buffer buffer = {0};
    uint32_t *drawn = mem_new(batch, sizeof *drawn);
    float *grad = mem_new(e->dim, sizeof *grad);
    for (uint32_t s = 0; s < steps; s++) {
        for (uint32_t i = 0; i < batch; i++) {
            uint32_t k = c->batch == 0 ? i % count : prng_below(&random, count);
            drawn[i] = row[(k + fault.row) % count];
        }
        model_loss_grad(m, x, batch_gather(&buffer, d, drawn, batch), grad);
        sgd_step(&sgd, x, grad);
    }
    free(grad);
    free(drawn);
    batch_buffer_deinit(&buffer);
    sgd_deinit(&sgd);
    model_free(m);
}

/* Trains on the rows of node 1: true when the trainer does what the loop does, bit by bit. */
static bool trainer_agrees(const char *data, const char *task, uint32_t batch, double momentum,
                           struct fault fault)
{
    enum { STEPS = 7 };
    struct config c = config_of(data, task, "iid", 3, batch);
    c.momentum = momentum;
    struct experiment e = open_experiment(&c);
    struct dataset all = load_all(&e);
    const uint32_t *row = e.split.row + e.split.offset[1];
    uint32_t count = split_size(&e.split, 1);
    float *by_hand = mem_new(e.dim, sizeof *by_hand), *delta = mem_new(e.dim, sizeof *delta);
    vec_copy(e.dim, e.x0, by_hand);
    train_by_hand(&e, &all, row, count, STEPS, fault, by_hand);
    struct trainer *t = local_trainer_new(&e, &all, row, count, "hand", 0);
    double loss;
    assert_int_equal(t->run(t, e.x0, STEPS, delta, &loss), STEPS);
    assert_true(loss > 0 && isfinite(loss));
    vec_sub(e.dim, by_hand, e.x0, by_hand);
    bool same = memcmp(by_hand, delta, e.dim * sizeof *delta) == 0;
    t->free(t);
    free(delta);
    free(by_hand);
    dataset_deinit(&all);
    close_experiment(&e, &c);
    return same;
}

static void trainer_does_what_the_loop_does(void **state)
{
    (void)state;
    struct files f;
    files_init(&f);
    const struct {
        const char *data, *task;
        uint32_t batch;
        double momentum;
    } cases[] = {
        {MIXTURE, "softmax", 8, 0},       {MIXTURE, "softmax", 1, 0.9}, {MIXTURE, "softmax", 0, 0},
        {MIXTURE, "quadratic", 0, 0},     {MIXTURE, "quadratic", 1, 0}, {MIXTURE, "mlp:hidden=5", 300, 0.5},
        {f.sparse, "logistic", 1, 0},     {f.sparse, "logistic", 5, 0}, {f.sparse, "logistic", 0, 0.9},
        {f.sparse, "softmax", 1, 0},      {f.folder, "softmax", 1, 0},  {f.folder, "softmax", 6, 0},
        {f.folder, "mlp:hidden=4", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool same = trainer_agrees(cases[i].data, cases[i].task, cases[i].batch, cases[i].momentum,
                                   (struct fault){0});
        if (!same) fail_msg("%s, %s, batch %u", cases[i].data, cases[i].task, cases[i].batch);
    }
    files_deinit(&f);
}

static void planted_loops_are_caught(void **state)
{
    (void)state;
    assert_false(trainer_agrees(MIXTURE, "softmax", 8, 0, (struct fault){.index = 1}));
    assert_false(trainer_agrees(MIXTURE, "softmax", 8, 0, (struct fault){.batch = 1}));
    assert_false(trainer_agrees(MIXTURE, "softmax", 8, 0, (struct fault){.row = 1}));
    assert_false(trainer_agrees(MIXTURE, "softmax", 0, 0, (struct fault){.batch = 1}));
}

static void shard_in_memory_or_rows_of_all_data_give_the_same_steps(void **state)
{
    (void)state;
    static const uint32_t batches[] = {0, 1, 16};
    for (size_t b = 0; b < 3; b++) {
        struct config c = config_of(MIXTURE, "softmax", "label:k=2", 5, batches[b]);
        struct experiment e = open_experiment(&c);
        struct dataset all = load_all(&e), shard;
        struct err_text why;
        assert_int_equal(experiment_load_shard(&e, 2, &shard, &why), 0);
        struct trainer *in_sim =
            local_trainer_new(&e, &all, e.split.row + e.split.offset[2], split_size(&e.split, 2), "same", 2);
        struct trainer *in_agent = local_trainer_new(&e, &shard, NULL, 0, "same", 2);
        float *a = mem_new(e.dim, sizeof *a), *b_delta = mem_new(e.dim, sizeof *b_delta);
        double loss, other;
        in_sim->run(in_sim, e.x0, 20, a, &loss);
        in_agent->run(in_agent, e.x0, 20, b_delta, &other);
        assert_memory_equal(a, b_delta, e.dim * sizeof *a);
        assert_true(loss == other);
        free(b_delta);
        free(a);
        in_agent->free(in_agent);
        in_sim->free(in_sim);
        dataset_deinit(&shard);
        dataset_deinit(&all);
        close_experiment(&e, &c);
    }
}

static void trainer_touches_its_own_rows_only(void **state)
{
    (void)state;
    static const uint32_t batches[] = {0, 1, 16};
    for (size_t b = 0; b < 3; b++) {
        struct config c = config_of(MIXTURE, "softmax", "iid", 5, batches[b]);
        struct experiment e = open_experiment(&c);
        struct dataset all = load_all(&e);
        for (uint32_t v = 0; v < 5; v++)
            for (uint32_t i = e.split.offset[v]; v != 3 && i < e.split.offset[v + 1]; i++)
                all.dense[(size_t)e.split.row[i] * all.features] = NAN;
        struct trainer *t =
            local_trainer_new(&e, &all, e.split.row + e.split.offset[3], split_size(&e.split, 3), "own", 3);
        float *delta = mem_new(e.dim, sizeof *delta);
        double loss;
        assert_int_equal(t->run(t, e.x0, 500, delta, &loss), 500);
        assert_true(isfinite(loss));
        assert_true(vec_finite(e.dim, delta));
        t->free(t);
        t = local_trainer_new(&e, &all, NULL, 0, "own", 3); /* planted: all rows, so the poison must be met */
        t->run(t, e.x0, 500, delta, &loss);
        assert_false(vec_finite(e.dim, delta));
        t->free(t);
        free(delta);
        dataset_deinit(&all);
        close_experiment(&e, &c);
    }
}

static bool stop_at_three(void *ctx)
{
    uint32_t *asked = ctx;
    return ++*asked == 3;
}

static void trainer_stops_when_told_and_goes_on_after(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "softmax", "iid", 2, 4);
    struct experiment e = open_experiment(&c);
    struct dataset all = load_all(&e);
    uint32_t asked = 0;
    struct trainer *t = local_trainer_new(&e, &all, NULL, 0, "stop", 0);
    struct trainer *whole = local_trainer_new(&e, &all, NULL, 0, "stop", 0);
    t->stop = stop_at_three;
    t->stop_ctx = &asked;
    float *x = mem_new(e.dim, sizeof *x), *delta = mem_new(e.dim, sizeof *x),
          *once = mem_new(e.dim, sizeof *x);
    double first, second, both;
    assert_int_equal(t->run(t, e.x0, 100, delta, &first), 3);
    assert_int_equal(asked, 3);
    vec_copy(e.dim, e.x0, x);
    vec_ref.axpy(e.dim, 1, delta, x);
    t->stop = NULL;
    assert_int_equal(t->run(t, x, 4, delta, &second), 4);
    assert_int_equal(whole->run(whole, e.x0, 7, once, &both), 7);
    vec_ref.axpy(e.dim, 1, delta, x);
    /* x0 is 0, so the only difference is the rounding of two deltas. */
    assert_true(vec_distance2(e.dim, x, once) < 1e-6 * vec_norm2(e.dim, once));
    assert_true(fabs((3 * first + 4 * second) / 7 - both) < 1e-6);
    free(once);
    free(delta);
    free(x);
    whole->free(whole);
    t->free(t);
    dataset_deinit(&all);
    close_experiment(&e, &c);
}

/* -- state ------------------------------------------------------------------------------------- */

/* Steps of t from x on, which follows. */
static void walk_on(struct trainer *t, size_t dim, uint32_t steps, float *x)
{
    float *delta = mem_new(dim, sizeof *delta);
    double loss;
    assert_int_equal(t->run(t, x, steps, delta, &loss), steps);
    vec_ref.axpy(dim, 1, delta, x);
    free(delta);
}

enum { STATE_WHOLE, STATE_LOST }; /* planted: a trainer that starts without it must be seen */

/* Whether a trainer that takes up the state after 23 steps does the same next 40 as the one it is of. */
static bool goes_on_alike(const char *task, const char *step_size, uint32_t batch, double momentum, int state)
{
    struct config c = config_of(MIXTURE, task, "iid", 3, batch);
    c.momentum = momentum;
    c.step_size = choose(step_size_table, step_size_table_count, step_size);
    struct experiment e = open_experiment(&c);
    struct dataset all = load_all(&e);
    struct trainer *first = local_trainer_new(&e, &all, NULL, 0, "state", 0);
    struct trainer *second = local_trainer_new(&e, &all, NULL, 0, "state", 0);
    float *x = mem_new(e.dim, sizeof *x), *y = mem_new(e.dim, sizeof *y);
    vec_copy(e.dim, e.x0, x);
    walk_on(first, e.dim, 23, x);
    struct blob *saved = first->save(first);
    vec_copy(e.dim, x, y);
    if (state == STATE_WHOLE) assert_int_equal(second->restore(second, saved->data, saved->size), 0);
    walk_on(first, e.dim, 40, x);
    walk_on(second, e.dim, 40, y);
    bool alike = memcmp(x, y, e.dim * sizeof *x) == 0;
    blob_unref(saved);
    free(x);
    free(y);
    first->free(first);
    second->free(second);
    dataset_deinit(&all);
    close_experiment(&e, &c);
    return alike;
}

static void a_loaded_trainer_goes_on_bit_for_bit(void **state)
{
    (void)state;
    static const struct {
        const char *task, *step_size;
        uint32_t batch;
        double momentum;
    } cases[] = {{"softmax", "inverse:scale=1,offset=10", 8, 0},
                 {"softmax", "constant:value=0.1", 8, 0.9},
                 {"softmax", "cosine:value=0.1,steps=50", 0, 0.9},
                 {"softmax", "cosine:value=0.1,steps=50", 1, 0.5}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int kept = STATE_WHOLE; kept <= STATE_LOST; kept++)
            assert_true(goes_on_alike(cases[i].task, cases[i].step_size, cases[i].batch, cases[i].momentum,
                                      kept) == (kept == STATE_WHOLE));
}

static void a_state_that_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "softmax", "iid", 3, 8);
    c.momentum = 0.9;
    struct experiment e = open_experiment(&c);
    struct dataset all = load_all(&e);
    struct trainer *t = local_trainer_new(&e, &all, NULL, 0, "state", 0);
    struct blob *whole = t->save(t), *bad = blob_copy(whole->data, whole->size);
    for (size_t size = 0; size < whole->size; size++)
        assert_int_equal(t->restore(t, whole->data, size), ERR_FORMAT);
    bad->data[0] ^= 1; /* another kind of trainer */
    assert_int_equal(t->restore(t, bad->data, bad->size), ERR_FORMAT);
    memcpy(bad->data, whole->data, whole->size);
    memset(bad->data + 8, 0, 32); /* a stream of zeros */
    assert_int_equal(t->restore(t, bad->data, bad->size), ERR_FORMAT);
    memcpy(bad->data, whole->data, whole->size);
    const float not_finite = INFINITY;
    memcpy(bad->data + bad->size - sizeof not_finite, &not_finite, sizeof not_finite);
    assert_int_equal(t->restore(t, bad->data, bad->size), ERR_FORMAT);
    struct blob *after = t->save(t);
    assert_memory_equal(whole->data, after->data, whole->size);
    assert_int_equal(t->restore(t, after->data, after->size), 0);
    blob_unref(after);
    blob_unref(bad);
    blob_unref(whole);
    t->free(t);
    dataset_deinit(&all);
    close_experiment(&e, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trainer_does_what_the_loop_does),
        cmocka_unit_test(planted_loops_are_caught),
        cmocka_unit_test(shard_in_memory_or_rows_of_all_data_give_the_same_steps),
        cmocka_unit_test(trainer_touches_its_own_rows_only),
        cmocka_unit_test(trainer_stops_when_told_and_goes_on_after),
        cmocka_unit_test(a_loaded_trainer_goes_on_bit_for_bit),
        cmocka_unit_test(a_state_that_does_not_fit_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

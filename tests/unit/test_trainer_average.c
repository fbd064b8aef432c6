/* Goal: the trainer of the task `average` takes a node to the mean of its rows once and never moves it again; the
 * loss it tells is the model's; tensors reach the algorithms when messages are compressed by tensor.
 * Method: rows of an experiment averaged here in double, dense and byte rows; another node's rows must differ. */
#include <math.h>

#include "agent/simulation/simulation.h"
#include "algo/compress/pack.h"
#include "experiment_fixture.h"

extern const struct algo_type choco_type;

/* Greatest difference of the first step from x0 to the mean of node v's rows. */
static double distance_to_mean(const struct experiment *e, const struct dataset *all, const float *delta,
                               uint32_t v)
{
    double worst = 0;
    const uint32_t *row = e->split.row + e->split.offset[v];
    uint32_t count = split_size(&e->split, v);
    for (size_t j = 0; j < e->dim; j++) {
        double mean = 0;
        for (uint32_t i = 0; i < count; i++) {
            size_t at = (size_t)row[i] * e->dim + j;
            mean += all->bytes != NULL ? all->bytes[at] / 255.0 : (double)all->dense[at];
        }
        worst = fmax(worst, fabs(mean / count - (double)e->x0[j] - (double)delta[j]));
    }
    return worst;
}

static void check_trainer(const char *data)
{
    struct config c = config_of(data, "average", "iid", 3, 0);
    struct experiment e = open_experiment(&c);
    struct dataset all = load_all(&e);
    float *delta = mem_new(e.dim, sizeof *delta);
    double loss, expected;
    uint32_t correct;
    struct trainer *t =
        local_trainer_new(&e, &all, e.split.row + e.split.offset[1], split_size(&e.split, 1), "a", 0);
    assert_int_equal(t->run(t, e.x0, 5, delta, &loss), 5);
    assert_true(distance_to_mean(&e, &all, delta, 1) < 1e-6);
    assert_true(distance_to_mean(&e, &all, delta, 0) > 1e-3);
    struct dataset own;
    struct err_text why;
    assert_int_equal(experiment_load_shard(&e, 1, &own, &why), 0);
    struct batch_buffer buffer = {0};
    uint32_t index[600];
    for (uint32_t i = 0; i < own.rows; i++) index[i] = i;
    model_evaluate(e.evaluator, e.x0, batch_gather(&buffer, &own, index, own.rows), &expected, &correct);
    assert_true(fabs(loss - expected) < 1e-5 * expected);
    assert_int_equal(t->run(t, e.x0, 2, delta, &loss), 2);
    for (size_t j = 0; j < e.dim; j++) assert_true(delta[j] == 0);
    t->free(t);
    batch_buffer_deinit(&buffer);
    dataset_deinit(&own);
    dataset_deinit(&all);
    free(delta);
    close_experiment(&e, &c);
}

static void the_first_step_goes_to_the_mean_and_the_others_nowhere(void **state)
{
    (void)state;
    check_trainer(MIXTURE);
    struct files f;
    files_init(&f);
    check_trainer(f.folder);
    files_deinit(&f);
}

static void a_loaded_trainer_does_not_move_again(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "average", "iid", 3, 0);
    struct experiment e = open_experiment(&c);
    struct dataset all = load_all(&e);
    struct trainer *first = local_trainer_new(&e, &all, NULL, 0, "a", 0);
    struct trainer *second = local_trainer_new(&e, &all, NULL, 0, "a", 0);
    float *delta = mem_new(e.dim, sizeof *delta);
    double loss;
    for (int moved = 0; moved < 2; moved++) {
        struct blob *saved = first->save(first);
        assert_int_equal(second->restore(second, saved->data, saved->size), 0);
        assert_int_equal(second->restore(second, saved->data, saved->size - 1), ERR_FORMAT);
        saved->data[4] = 2;
        assert_int_equal(second->restore(second, saved->data, saved->size), ERR_FORMAT);
        second->run(second, e.x0, 1, delta, &loss);
        assert_true((vec_norm2(e.dim, delta) == 0) == (moved == 1));
        first->run(first, e.x0, 1, delta, &loss);
        blob_unref(saved);
    }
    free(delta);
    first->free(first);
    second->free(second);
    dataset_deinit(&all);
    close_experiment(&e, &c);
}

static void sparse_rows_are_refused(void **state)
{
    (void)state;
    struct files f;
    files_init(&f);
    struct config c = config_of(f.sparse, "average", "iid", 3, 0);
    struct experiment e;
    struct err_text why = {""};
    assert_int_equal(experiment_open(&c, &vec_ref, &e, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "average needs dense rows"));
    free(c.data);
    files_deinit(&f);
}

static void tensors_are_told_when_messages_are_compressed_by_them(void **state)
{
    (void)state;
    static const struct {
        const char *task, *compress, *by;
        uint32_t count;
    } rows[] = {
        {"mlp:hidden=7-5", "topk", "model", 0},   {"mlp:hidden=7-5", "topk", "tensor", 6},
        {"mlp:hidden=7-5", "none", "tensor", 0},  {"softmax", "powersgd", "model", 2},
        {"softmax:bias=no", "sign", "tensor", 1}, {"quadratic", "sign", "tensor", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config c = config_of(MIXTURE, rows[i].task, "iid", 3, 0);
        c.algorithm = &choco_type;
        c.compress = choose(compress_table, compress_table_count, rows[i].compress);
        c.compress_by = choose(compress_by_table, compress_by_table_count, rows[i].by);
        struct experiment e = open_experiment(&c);
        assert_int_equal(e.tensor_count, rows[i].count);
        size_t at = 0;
        for (uint32_t t = 0; t < e.tensor_count; t++) {
            assert_int_equal(e.tensor[t].offset, at);
            at += e.tensor[t].rows * e.tensor[t].columns;
        }
        if (e.tensor_count > 0) assert_int_equal(at, e.dim);
        if (strcmp(rows[i].task, "softmax") == 0)
            assert_true(e.tensor[0].rows == 3 && e.tensor[0].columns == 6 && e.tensor[1].rows == 1);
        close_experiment(&e, &c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_step_goes_to_the_mean_and_the_others_nowhere),
        cmocka_unit_test(a_loaded_trainer_does_not_move_again),
        cmocka_unit_test(sparse_rows_are_refused),
        cmocka_unit_test(tensors_are_told_when_messages_are_compressed_by_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a configuration becomes the same experiment everywhere; evaluation and baselines report what they
 * say.
 *
 * Method: small synthetic mixtures and tiny files. Evaluation is compared with single rows evaluated one by
 * one; identities of experiments that differ in one thing must all differ; the baselines of nodes that see
 * one class each must fall behind all the data in one place. */
#include <math.h>

#include "algo/compress/compress.h"
#include "experiment_fixture.h"

/* -- opening ----------------------------------------------------------------------------------- */

static void opening_gives_start_and_weights(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "softmax", "sizes:ratio=2,sorted=no", 4, 8);
    struct experiment e = open_experiment(&c);
    assert_int_equal(e.info.rows, 600);
    assert_int_equal(e.dim, 3 * 6 + 3);
    double total = 0;
    for (uint32_t v = 0; v < 4; v++) {
        double size = split_size(&e.split, v), assigned = e.split.offset[4];
        assert_true(e.weight[v] == size / assigned);
        total += e.weight[v];
    }
    assert_true(fabs(total - 1) < 1e-12);
    assert_true(e.weight[3] > 1.5 * e.weight[2]);
    assert_true(vec_norm2(e.dim, e.x0) == 0);
    struct dataset shard;
    struct err_text why;
    assert_int_equal(experiment_load_shard(&e, 2, &shard, &why), 0);
    assert_int_equal(shard.rows, split_size(&e.split, 2));
    for (uint32_t i = 0; i < shard.rows; i++)
        assert_true(shard.target[i] == e.info.target[e.split.row[e.split.offset[2] + i]]);
    dataset_deinit(&shard);
    close_experiment(&e, &c);
}

static void misfits_are_refused_and_leave_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *data, *task, *split;
        uint32_t nodes;
        int err;
        const char *says;
    } cases[] = {
        {MIXTURE, "logistic", "iid", 4, ERR_USAGE, "--classes"},
        {MIXTURE, "softmax", "label:k=9", 4, ERR_USAGE, "label"},
        {MIXTURE, "softmax", "iid", 601, ERR_USAGE, "601"},
        {"/nowhere/at/all", "softmax", "iid", 2, ERR_IO, "/nowhere/at/all"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c = config_of(cases[i].data, cases[i].task, cases[i].split, cases[i].nodes, 8);
        struct experiment e;
        struct err_text why = {""};
        assert_int_equal(experiment_open(&c, &vec_ref, &e, &why), cases[i].err);
        if (strstr(why.text, cases[i].says) == NULL) fail_msg("%zu: '%s'", i, why.text);
        free(c.data);
    }
}

/* -- evaluation -------------------------------------------------------------------------------- */

/* Loss and accuracy of x on d, row by row. */
static void evaluate_by_hand(struct experiment *e, const struct dataset *d, const float *x, double *loss,
                             double *accuracy)
{
    struct batch_buffer buffer = {0};
    *loss = *accuracy = 0;
    for (uint32_t i = 0; i < d->rows; i++) {
        double one;
        uint32_t right;
        model_evaluate(e->evaluator, x, batch_gather(&buffer, d, &i, 1), &one, &right);
        *loss += one / d->rows;
        *accuracy += (double)right / d->rows;
    }
    batch_buffer_deinit(&buffer);
}

static void evaluation_uses_the_held_out_rows_if_there_are_any(void **state)
{
    (void)state;
    struct files f;
    files_init(&f);
    const struct {
        const char *data, *task;
        double holdout;
        uint32_t rows;
    } cases[] = {
        {MIXTURE, "softmax:l2=0.1", 0, 150},
        {f.sparse, "logistic", 0, FILE_ROWS},
        {f.sparse, "logistic", 0.25, 15},
        {f.folder, "softmax:l2=0.1", 0, FILE_ROWS},
        {"mixture:rows=900,features=4,classes=2,test=0", "logistic", 0, 900},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c = config_of(cases[i].data, cases[i].task, "iid", 2, 4);
        c.holdout = cases[i].holdout;
        struct experiment e = open_experiment(&c);
        float *x = mem_new(e.dim, sizeof *x);
        for (size_t j = 0; j < e.dim; j++) x[j] = (float)(j % 3) - 0.7f;
        double loss, accuracy, loss_by_hand, accuracy_by_hand;
        struct err_text why;
        assert_int_equal(experiment_evaluate(&e, x, &loss, &accuracy, &why), 0);
        assert_int_equal(e.test.rows, cases[i].rows);
        struct dataset d = {0};
        if (e.info.test_rows > 0)
            assert_int_equal(dataset_load(e.source, DATASET_TEST, NULL, e.info.test_rows, &d, &why), 0);
        else
            d = load_all(&e);
        evaluate_by_hand(&e, &d, x, &loss_by_hand, &accuracy_by_hand);
        assert_true(fabs(loss - loss_by_hand) < 1e-5 * loss);
        assert_true(fabs(accuracy - accuracy_by_hand) < 1e-12);
        dataset_deinit(&d);
        free(x);
        close_experiment(&e, &c);
    }
    files_deinit(&f);
}

static void a_quadratic_has_a_loss_but_no_accuracy(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "quadratic", "iid", 2, 0);
    struct experiment e = open_experiment(&c);
    double loss, accuracy;
    struct err_text why;
    assert_int_equal(experiment_evaluate(&e, e.x0, &loss, &accuracy, &why), 0);
    assert_true(loss > 0);
    assert_true(isnan(accuracy));
    close_experiment(&e, &c);
}

/* -- identity ---------------------------------------------------------------------------------- */

static void identity(struct config c, const char *data, uint8_t out[16])
{
    c.data = mem_copy_text(data);
    struct experiment e = open_experiment(&c);
    experiment_cluster_id(&e, out);
    close_experiment(&e, &c);
}

static void identity_depends_on_everything_that_shapes_the_experiment(void **state)
{
    (void)state;
    struct config base = config_of(MIXTURE, "softmax", "iid", 3, 4), other[13];
    free(base.data);
    base.data = NULL;
    enum { OTHERS = sizeof other / sizeof other[0] };
    for (size_t i = 0; i < OTHERS; i++) other[i] = base;
    const char *data[OTHERS];
    for (size_t i = 0; i < OTHERS; i++) data[i] = MIXTURE;
    other[1].nodes = 4;
    other[2].seed = 6;
    other[3].batch = 5;
    other[4].momentum = 0.5;
    other[5].task = choose(model_table, model_table_count, "softmax:l2=0.1");
    other[6].split = choose(split_table, split_table_count, "sorted");
    other[7].step_size = choose(step_size_table, step_size_table_count, "inverse:scale=1,offset=11");
    other[8].task = choose(model_table, model_table_count, "mlp");
    data[9] = "mixture:rows=601,features=6,classes=3,test=150";
    data[10] = "mixture:rows=600,features=7,classes=3,test=150";
    other[11].topology = choose(step_size_table, step_size_table_count, "constant"); /* any choice does */
    other[12].compress = choose(compress_table, compress_table_count, "sign");
    uint8_t id[OTHERS][16], again[16];
    for (size_t i = 0; i < OTHERS; i++) identity(other[i], data[i], id[i]);
    base.steps = 77; /* how long a member trains, and where it writes, is its own affair */
    base.report_every_s = 3;
    identity(base, MIXTURE, again);
    assert_memory_equal(again, id[0], 16);
    for (size_t i = 0; i < OTHERS; i++)
        for (size_t j = 0; j < i; j++) assert_memory_not_equal(id[i], id[j], 16);
}

/* -- baselines --------------------------------------------------------------------------------- */

struct watch {
    uint32_t calls, stop_after;
    double share;
};

static int watch_progress(void *ctx, double share)
{
    struct watch *w = ctx;
    assert_true(share >= w->share && share <= 1);
    w->share = share;
    return ++w->calls == w->stop_after;
}

static void one_class_each_is_no_match_for_all_the_data(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "softmax", "label:k=1", 3, 8);
    struct experiment e = open_experiment(&c);
    struct watch watch = {0};
    struct baseline_result r;
    struct err_text why;
    assert_int_equal(experiment_baselines(&e, 200, 600, watch_progress, &watch, &r, &why), 0);
    assert_true(watch.share == 1);
    /* Alone a node knows one class and cannot tell the other two apart. */
    assert_true(r.accuracy_alone < 0.75);
    assert_true(r.accuracy_pooled > 0.9);
    assert_true(r.loss_pooled < r.loss_alone);
    close_experiment(&e, &c);
}

static void baselines_stop_when_asked(void **state)
{
    (void)state;
    struct config c = config_of(MIXTURE, "softmax", "iid", 3, 8);
    struct experiment e = open_experiment(&c);
    struct watch watch = {.stop_after = 3};
    struct baseline_result r;
    struct err_text why;
    assert_int_equal(experiment_baselines(&e, 200, 600, watch_progress, &watch, &r, &why), ERR_CLOSED);
    assert_int_equal(watch.calls, 3);
    assert_int_equal(experiment_baselines(&e, 0, 0, NULL, NULL, &r, &why),
                     0); /* no steps: the common start */
    assert_true(fabs(r.loss_alone - log(3)) < 1e-6 && fabs(r.loss_pooled - log(3)) < 1e-6);
    close_experiment(&e, &c);
}


int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_gives_start_and_weights),
        cmocka_unit_test(misfits_are_refused_and_leave_nothing),
        cmocka_unit_test(evaluation_uses_the_held_out_rows_if_there_are_any),
        cmocka_unit_test(a_quadratic_has_a_loss_but_no_accuracy),
        cmocka_unit_test(identity_depends_on_everything_that_shapes_the_experiment),
        cmocka_unit_test(one_class_each_is_no_match_for_all_the_data),
        cmocka_unit_test(baselines_stop_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

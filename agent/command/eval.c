/* `gadabout eval`: loss and accuracy of a saved model.
 *
 * Normal course
 *  - the model file is read, the data opened as for a run of one node, the model evaluated on held-out rows.
 * Failure courses: one line and exit 2, nothing printed before
 *  - the file or the data cannot be read; the model has another dimension than task and data ask for; it
 *    holds NaN or infinity (the run diverged).
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/command/commands.h"
#include "agent/experiment/experiment.h"
#include "agent/files/json.h"
#include "agent/files/safetensors.h"
#include "algo/vec.h"

static int check_model(const struct experiment *e, const float *x, size_t dim, struct err_text *why)
{
    const struct config *c = e->config;
    if (dim != e->dim)
        return err_set(why, ERR_USAGE,
                       "--model: %s has %zu parameters, but --task %s on --data %s has %zu; give the "
                       "task and data it was trained with",
                       c->model_file, dim, c->task.spec->name, c->data, e->dim);
    if (!vec_finite(dim, x))
        return err_set(why, ERR_FORMAT,
                       "--model: %s holds NaN or infinity: the run that wrote it diverged; try a "
                       "smaller --step-size there",
                       c->model_file);
    return 0;
}

static void print_result(const struct experiment *e, double loss, double accuracy)
{
    const struct config *c = e->config;
    bool held_out = e->info.test_rows > 0;
    uint32_t rows = held_out ? e->info.test_rows : e->info.rows;
    bool classified = e->info.classes > 1;
    if (!c->json) {
        printf("loss      %.6g\n", loss);
        if (classified) printf("accuracy  %.2f %%\n", accuracy * 100);
        printf("on        %" PRIu32 " %s rows of %s\n", rows, held_out ? "held-out" : "training", c->data);
        return;
    }
    json_t *o = json_object();
    json_object_set_new(o, "model", json_text_or_null(c->model_file));
    json_object_set_new(o, "task", json_choice(&c->task));
    json_object_set_new(o, "data", json_text_or_null(c->data));
    json_object_set_new(o, "dim", json_count_or_null(e->dim));
    json_object_set_new(o, "loss", json_number_or_null(loss));
    json_object_set_new(o, "accuracy", json_number_or_null(classified ? accuracy : (double)NAN));
    json_object_set_new(o, "evaluated_on", json_string(held_out ? "held-out" : "train"));
    json_object_set_new(o, "rows", json_count_or_null(rows));
    json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(o);
    printf("\n");
}

static int evaluate(const struct config *config, const float *x, size_t dim, struct err_text *why)
{
    struct experiment e;
    double loss, accuracy;
    int err = experiment_open(config, &vec_blas, &e, why);
    if (err != 0) return err;
    err = check_model(&e, x, dim, why);
    if (err == 0) err = experiment_evaluate(&e, x, &loss, &accuracy, why);
    if (err == 0) print_result(&e, loss, accuracy);
    experiment_close(&e);
    return err;
}

int command_eval(struct config *config)
{
    struct err_text why = {""};
    float *x;
    size_t dim;
    int err = safetensors_read(config->model_file, &x, &dim, &why);
    bool unread = err != 0;
    if (err == 0) {
        err = evaluate(config, x, dim, &why);
        free(x);
    }
    if (err == 0) return fflush(stdout) == 0 && ferror(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
    fprintf(stderr, "gadabout: %s%s\n", unread ? "--model: " : "", why.text);
    return EXIT_USAGE;
}

/* How good a model is, and what the nodes would reach alone or with all data in one place. */
#include "agent/experiment/experiment.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

enum { GATHER_ROWS = 256 };

/* -- evaluation -------------------------------------------------------------------------------- */

static int load_test(struct experiment *e, struct err_text *why)
{
    if (e->test.rows > 0) return 0;
    if (e->info.test_rows == 0 || e->judge_training) return experiment_load_all(e, &e->test, why);
    return dataset_load(e->source, DATASET_TEST, NULL, e->info.test_rows, &e->test, why);
}

/* Pixels become floats a few rows at a time. The regulariser, part of every piece's mean, stays as it is in
 * their weighted mean. */
static void evaluate_gathered(struct experiment *e, const float *x, double *loss, uint64_t *correct)
{
    struct batch_buffer buffer = {0};
    uint32_t row[GATHER_ROWS];
    double sum = 0;
    *correct = 0;
    for (uint32_t from = 0; from < e->test.rows; from += GATHER_ROWS) {
        uint32_t rows = e->test.rows - from < GATHER_ROWS ? e->test.rows - from : GATHER_ROWS;
        for (uint32_t i = 0; i < rows; i++) row[i] = from + i;
        double piece_loss;
        uint32_t piece_correct;
        model_evaluate(e->evaluator, x, batch_gather(&buffer, &e->test, row, rows), &piece_loss,
                       &piece_correct);
        sum += piece_loss * rows;
        *correct += piece_correct;
    }
    *loss = sum / e->test.rows;
    batch_buffer_deinit(&buffer);
}

/* All rows of a set of floats, in place. */
static struct batch rows_of(const struct dataset *d)
{
    return (struct batch){
        .rows = d->rows,
        .features = d->features,
        .dense = d->dense,
        .row_start = d->row_start,
        .column = d->column,
        .value = d->value,
        .target = d->target,
    };
}

static void evaluate_in_place(struct experiment *e, const float *x, double *loss, uint64_t *correct)
{
    struct batch all = rows_of(&e->test);
    uint32_t right;
    model_evaluate(e->evaluator, x, &all, loss, &right);
    *correct = right;
}

int experiment_evaluate(struct experiment *e, const float *x, double *loss, double *accuracy,
                        struct err_text *why)
{
    int err = load_test(e, why);
    if (err != 0) return err;
    uint64_t correct;
    if (e->test.bytes != NULL)
        evaluate_gathered(e, x, loss, &correct);
    else
        evaluate_in_place(e, x, loss, &correct);
    *accuracy = model_classifies(e->evaluator) ? (double)correct / e->test.rows : (double)NAN;
    return 0;
}

/* The regulariser's gradient, part of every piece's, stays as it is in their weighted mean. */
static void gradient_gathered(struct experiment *e, const float *x, float *grad)
{
    struct batch_buffer buffer = {0};
    uint32_t row[GATHER_ROWS];
    float *piece = mem_new(e->dim, sizeof *piece);
    vec_zero(e->dim, grad);
    for (uint32_t from = 0; from < e->test.rows; from += GATHER_ROWS) {
        uint32_t rows = e->test.rows - from < GATHER_ROWS ? e->test.rows - from : GATHER_ROWS;
        for (uint32_t i = 0; i < rows; i++) row[i] = from + i;
        (void)model_loss_grad(e->evaluator, x, batch_gather(&buffer, &e->test, row, rows), piece);
        e->vec->axpy(e->dim, (float)rows / (float)e->test.rows, piece, grad);
    }
    free(piece);
    batch_buffer_deinit(&buffer);
}

int experiment_gradient_norm(struct experiment *e, const float *x, double *norm, struct err_text *why)
{
    int err = load_test(e, why);
    if (err != 0) return err;
    float *grad = mem_new(e->dim, sizeof *grad);
    if (e->test.bytes != NULL) {
        gradient_gathered(e, x, grad);
    } else {
        struct batch all = rows_of(&e->test);
        (void)model_loss_grad(e->evaluator, x, &all, grad);
    }
    *norm = vec_norm2(e->dim, grad);
    free(grad);
    return 0;
}

/* -- baselines --------------------------------------------------------------------------------- */

struct progress {
    int (*call)(void *ctx, double share);
    void *ctx;
    double done, total; /* local steps */
};

static int progress_tell(struct progress *p, uint32_t steps, struct err_text *why)
{
    p->done += steps;
    if (p->call == NULL || p->call(p->ctx, p->total > 0 ? p->done / p->total : 1) == 0) return 0;
    return err_set(why, ERR_CLOSED, "baselines: stopped");
}

/* Steps that take some 50 ms, from what a step touches: no clock here, and no need to be exact. */
static uint32_t chunk_steps(const struct experiment *e, uint32_t rows)
{
    double batch = e->config->batch > 0 ? e->config->batch : rows;
    double step_ns = 500 + (0.5 + 0.15 * batch) * (double)e->dim;
    double steps = 50e6 / step_ns;
    return steps < 1 ? 1 : (uint32_t)steps;
}

/* One node on its own: `steps` steps over `rows` rows from the common start, then evaluated. */
static int train_one(struct experiment *e, struct trainer *t, uint32_t rows, uint64_t steps,
                     struct progress *p, double *loss, double *accuracy, struct err_text *why)
{
    float *x = mem_new(e->dim, sizeof *x), *delta = mem_new(e->dim, sizeof *delta);
    vec_copy(e->dim, e->x0, x);
    uint32_t chunk = chunk_steps(e, rows);
    int err = 0;
    for (uint64_t done = 0; done < steps && err == 0;) {
        double mean;
        uint32_t ran = t->run(t, x, steps - done < chunk ? (uint32_t)(steps - done) : chunk, delta, &mean);
        e->vec->axpy(e->dim, 1.0f, delta, x);
        done += ran;
        err = progress_tell(p, ran, why);
    }
    if (err == 0) err = experiment_evaluate(e, x, loss, accuracy, why);
    free(delta);
    free(x);
    return err;
}

static int train_alone(struct experiment *e, const struct dataset *data, uint64_t steps, struct progress *p,
                       struct baseline_result *out, struct err_text *why)
{
    out->loss_alone = out->accuracy_alone = 0;
    uint32_t nodes = e->split.node_count;
    for (uint32_t v = 0; v < nodes; v++) {
        uint32_t rows = split_size(&e->split, v);
        struct trainer *t = local_trainer_new(e, data, e->split.row + e->split.offset[v], rows, "alone", v);
        double loss, accuracy;
        int err = train_one(e, t, rows, steps, p, &loss, &accuracy, why);
        t->free(t);
        if (err == 0) err = progress_tell(p, 0, why); /* an evaluation may take long, too */
        if (err != 0) return err;
        out->loss_alone += loss / nodes;
        out->accuracy_alone += accuracy / nodes;
    }
    return 0;
}

static int train_pooled(struct experiment *e, const struct dataset *data, uint64_t steps, struct progress *p,
                        struct baseline_result *out, struct err_text *why)
{
    uint32_t rows = e->split.offset[e->split.node_count];
    struct trainer *t = local_trainer_new(e, data, e->split.row, rows, "pooled", 0);
    local_trainer_stretch(t,
                          e->split.node_count); /* as many steps as all nodes together: the same schedule */
    int err = train_one(e, t, rows, steps, p, &out->loss_pooled, &out->accuracy_pooled, why);
    t->free(t);
    return err;
}

int experiment_baselines(struct experiment *e, uint64_t steps, uint64_t pooled_steps,
                         int (*progress)(void *ctx, double share), void *ctx, struct baseline_result *out,
                         struct err_text *why)
{
    struct dataset data = {0};
    int err = experiment_load_all(e, &data, why);
    if (err != 0) return err;
    struct progress p = {
        .call = progress,
        .ctx = ctx,
        .total = (double)steps * e->split.node_count + (double)pooled_steps,
    };
    err = train_alone(e, &data, steps, &p, out, why);
    if (err == 0) err = train_pooled(e, &data, pooled_steps, &p, out, why);
    dataset_deinit(&data);
    return err;
}

/* The trainer behind every built-in model: SGD over rows of a data set in memory.
 *
 *  - A step draws `batch` rows with replacement, computes loss and gradient, and moves the work vector.
 *  - batch 0 takes all rows in order: the gradient is deterministic.
 *  - Rows that lie in memory as the model wants them (one row of floats or CSR; a whole set of either) are
 *    used in place; pixels and scattered rows are gathered.
 *  - Its state is the place in the schedule, the momentum and the stream that rows are drawn from; the rows
 *    themselves follow from the configuration. */
#include "agent/experiment/experiment.h"

#include <stdlib.h>
#include <string.h>

#include "algo/optimizer.h"
#include "base/check.h"

_Static_assert(sizeof(struct prng) == 4 * sizeof(uint64_t), "a stream is saved as its four words");

struct local_trainer {
    struct trainer base;
    struct model *model;
    struct sgd sgd;
    const struct dataset *data; /* borrowed */
    const uint32_t *row;        /* (count) borrowed; NULL = rows 0..count-1 */
    uint32_t count;
    uint32_t batch; /* 0 = all rows */
    struct prng random;
    uint32_t *drawn; /* (batch) rows of the batch in work */
    struct batch_buffer buffer;
    struct batch whole; /* batch 0: all rows, prepared once */
    float *work, *grad; /* (dim) */
};

/* `rows` rows of d from `first` on, in place; d holds floats. */
static struct batch rows_in_place(const struct dataset *d, uint32_t first, uint32_t rows)
{
    return (struct batch){
        .rows = rows,
        .features = d->features,
        .dense = d->dense != NULL ? d->dense + (size_t)first * d->features : NULL,
        .row_start = d->row_start != NULL ? d->row_start + first : NULL,
        .column = d->column,
        .value = d->value,
        .target = d->target + first,
    };
}

static struct batch next_batch(struct local_trainer *t)
{
    if (t->batch == 0) return t->whole;
    for (uint32_t i = 0; i < t->batch; i++) {
        uint32_t k = prng_below(&t->random, t->count);
        t->drawn[i] = t->row != NULL ? t->row[k] : k;
    }
    if (t->batch == 1 && t->data->bytes == NULL) return rows_in_place(t->data, t->drawn[0], 1);
    return *batch_gather(&t->buffer, t->data, t->drawn, t->batch);
}

static uint32_t local_run(struct trainer *base, const float *x, uint32_t max_steps, float *delta,
                          double *loss_mean)
{
    struct local_trainer *t = (struct local_trainer *)base;
    CHECK(max_steps > 0);
    size_t dim = t->sgd.dim;
    vec_copy(dim, x, t->work);
    double loss = 0;
    uint32_t done = 0;
    do {
        struct batch batch = next_batch(t);
        loss += model_loss_grad(t->model, t->work, &batch, t->grad);
        sgd_step(&t->sgd, t->work, t->grad);
        done++;
    } while (done < max_steps && (base->stop == NULL || !base->stop(base->stop_ctx)));
    vec_sub(dim, t->work, x, delta);
    *loss_mean = loss / done;
    return done;
}

enum { STATE_TAG = 0x31646773, STATE_HEAD = 8 + sizeof(struct prng) }; /* "sgd1" */

static struct blob *local_save(const struct trainer *base)
{
    const struct local_trainer *t = (const struct local_trainer *)base;
    struct blob *state = blob_new(STATE_HEAD + sgd_state_size(&t->sgd));
    const uint32_t head[2] = {STATE_TAG, 0};
    memcpy(state->data, head, sizeof head);
    memcpy(state->data + sizeof head, t->random.word, sizeof t->random.word);
    sgd_save(&t->sgd, state->data + STATE_HEAD);
    return state;
}

static int local_restore(struct trainer *base, const uint8_t *state, size_t size)
{
    struct local_trainer *t = (struct local_trainer *)base;
    const uint32_t expected[2] = {STATE_TAG, 0};
    if (size < STATE_HEAD || memcmp(state, expected, sizeof expected) != 0) return ERR_FORMAT;
    struct prng random;
    memcpy(random.word, state + sizeof expected, sizeof random.word);
    if ((random.word[0] | random.word[1] | random.word[2] | random.word[3]) == 0)
        return ERR_FORMAT; /* such a stream is all zeros for ever */
    int err = sgd_restore(&t->sgd, state + STATE_HEAD, size - STATE_HEAD);
    if (err == 0) t->random = random;
    return err;
}

static void local_free(struct trainer *base)
{
    struct local_trainer *t = (struct local_trainer *)base;
    model_free(t->model);
    sgd_deinit(&t->sgd);
    batch_buffer_deinit(&t->buffer);
    free(t->drawn);
    free(t->work);
    free(t->grad);
    free(t);
}

/* All rows in order, in place if possible, else gathered once. */
static struct batch whole_batch(struct local_trainer *t)
{
    if (t->row == NULL && t->data->bytes == NULL) return rows_in_place(t->data, 0, t->count);
    uint32_t *index = mem_new(t->count, sizeof *index);
    for (uint32_t i = 0; i < t->count; i++) index[i] = t->row != NULL ? t->row[i] : i;
    struct batch whole = *batch_gather(&t->buffer, t->data, index, t->count);
    free(index);
    return whole;
}

struct trainer *local_trainer_new(const struct experiment *e, const struct dataset *data, const uint32_t *row,
                                  uint32_t count, const char *label, uint64_t index)
{
    const struct config *config = e->config;
    if (strcmp(config->task.spec->name, "average") == 0) return average_trainer_new(e, data, row, count);
    struct local_trainer *t = mem_new_zero(1, sizeof *t);
    t->base.run = local_run;
    t->base.free = local_free;
    t->base.save = local_save;
    t->base.restore = local_restore;
    t->data = data;
    t->row = row;
    t->count = row != NULL ? count : data->rows;
    t->batch = config->batch;
    CHECK(t->count > 0);
    struct model_shape shape = experiment_shape(e);
    shape.batch_rows_max = t->batch > 0 ? t->batch : t->count;
    int err = model_new(&config->task, &shape, e->vec, &t->model, NULL);
    CHECK(err == 0); /* experiment_open has made this model before */
    CHECK(model_dim(t->model) == e->dim);
    sgd_init(&t->sgd, e->dim, &config->step_size, config->momentum);
    prng_split(&t->random, config->seed, label, index);
    t->drawn = mem_new(t->batch, sizeof *t->drawn);
    t->work = mem_new(e->dim, sizeof *t->work);
    t->grad = mem_new(e->dim, sizeof *t->grad);
    if (t->batch == 0) t->whole = whole_batch(t);
    return &t->base;
}

void local_trainer_stretch(struct trainer *t, uint64_t stretch)
{
    CHECK(stretch >= 1);
    if (t->run != local_run) return;                    /* `average` has no step size */
    ((struct local_trainer *)t)->sgd.stretch = stretch; /* base is the first field */
}

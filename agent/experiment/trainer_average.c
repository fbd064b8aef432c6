/* The trainer behind the task `average`, consensus alone: node v's own vector is the mean of its rows. Its first
 * local step takes x from the common start to that vector; every later one changes nothing, so that what
 * happens then is the method's mixing (CHOCO-Gossip: choco with this task).
 *
 * The step is mean - x0 wherever x is by then: what a method adds up over the nodes is the same whatever it mixed
 * before. A node that restarts without its state has forgotten its step and takes it again. */
#include <stdlib.h>
#include <string.h>

#include "agent/experiment/experiment.h"
#include "base/check.h"

enum { GATHER_ROWS = 256 };

struct average_trainer {
    struct trainer base;
    size_t dim;
    float *mean, *start; /* (dim) */
    double spread;       /* 1/2 mean ||row - mean||^2: the loss at the mean */
    bool moved;
};

static double loss_at(const struct average_trainer *t, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < t->dim; i++) {
        double difference = (double)x[i] - (double)t->mean[i];
        sum += difference * difference;
    }
    return t->spread + 0.5 * sum;
}

static uint32_t average_run(struct trainer *base, const float *x, uint32_t max_steps, float *delta,
                            double *loss_mean)
{
    struct average_trainer *t = (struct average_trainer *)base;
    CHECK(max_steps > 0);
    *loss_mean = loss_at(t, x);
    if (t->moved)
        vec_zero(t->dim, delta);
    else
        vec_sub(t->dim, t->mean, t->start, delta);
    t->moved = true;
    return max_steps;
}

enum { STATE_TAG = 0x31677661 }; /* "avg1" */

static struct blob *average_save(const struct trainer *base)
{
    const struct average_trainer *t = (const struct average_trainer *)base;
    const uint32_t state[2] = {STATE_TAG, t->moved};
    return blob_copy(state, sizeof state);
}

static int average_restore(struct trainer *base, const uint8_t *state, size_t size)
{
    struct average_trainer *t = (struct average_trainer *)base;
    uint32_t word[2];
    if (size != sizeof word) return ERR_FORMAT;
    memcpy(word, state, sizeof word);
    if (word[0] != STATE_TAG || word[1] > 1) return ERR_FORMAT;
    t->moved = word[1] == 1;
    return 0;
}

static void average_free(struct trainer *base)
{
    struct average_trainer *t = (struct average_trainer *)base;
    free(t->mean);
    free(t->start);
    free(t);
}

/* Fills mean and spread from rows row[0..count) of data, in order. */
static void measure(struct average_trainer *t, const struct dataset *data, const uint32_t *row,
                    uint32_t count)
{
    double *sum = mem_new_zero(t->dim, sizeof *sum), squares = 0;
    uint32_t index[GATHER_ROWS];
    struct batch_buffer buffer = {0};
    for (uint32_t from = 0; from < count; from += GATHER_ROWS) {
        uint32_t rows = count - from < GATHER_ROWS ? count - from : GATHER_ROWS;
        for (uint32_t i = 0; i < rows; i++) index[i] = row != NULL ? row[from + i] : from + i;
        const struct batch *batch = batch_gather(&buffer, data, index, rows);
        for (size_t i = 0; i < (size_t)rows * t->dim; i++) {
            double v = (double)batch->dense[i];
            sum[i % t->dim] += v;
            squares += v * v;
        }
    }
    batch_buffer_deinit(&buffer);
    double norm2 = 0;
    for (size_t i = 0; i < t->dim; i++) {
        t->mean[i] = (float)(sum[i] / count);
        norm2 += (sum[i] / count) * (sum[i] / count);
    }
    t->spread = 0.5 * (squares / count - norm2);
    free(sum);
}

struct trainer *average_trainer_new(const struct experiment *e, const struct dataset *data,
                                    const uint32_t *row, uint32_t count)
{
    struct average_trainer *t = mem_new_zero(1, sizeof *t);
    t->base.run = average_run;
    t->base.free = average_free;
    t->base.save = average_save;
    t->base.restore = average_restore;
    t->dim = e->dim;
    CHECK(e->dim == data->features && data->row_start == NULL); /* the model refuses sparse rows */
    t->mean = mem_new(t->dim, sizeof *t->mean);
    t->start = mem_new(t->dim, sizeof *t->start);
    vec_copy(t->dim, e->x0, t->start);
    measure(t, data, row, row != NULL ? count : data->rows);
    return &t->base;
}

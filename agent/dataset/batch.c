/* Gathering rows of a data set into a batch; the buffer grows to the largest batch and stays. */
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/dataset.h"
#include "base/check.h"

enum { PIXEL_BLOCK = 16 };

/* A fixed inner count lets the compiler use vector registers at -O2: a gather is otherwise half of a small
 * training step. */
static void pixels_to_floats(size_t count, const uint8_t *restrict from, float *restrict to)
{
    size_t j = 0;
    for (; j + PIXEL_BLOCK <= count; j += PIXEL_BLOCK)
        for (size_t k = 0; k < PIXEL_BLOCK; k++) to[j + k] = (float)from[j + k] * (1.0f / 255.0f);
    for (; j < count; j++) to[j] = (float)from[j] * (1.0f / 255.0f);
}

/* Grows one array of the buffer; its old content is not needed. */
static void *room(void *old, size_t count, size_t size)
{
    free(old);
    return mem_new(count, size);
}

static void gather_dense(struct batch_buffer *b, const struct dataset *d, const uint32_t *row, uint32_t count)
{
    size_t features = d->features, need = features * count;
    if (need > b->dense_capacity) {
        b->dense = room(b->dense, need, sizeof *b->dense);
        b->dense_capacity = need;
    }
    for (uint32_t i = 0; i < count; i++) {
        float *to = b->dense + i * features;
        if (d->bytes == NULL) {
            memcpy(to, d->dense + row[i] * features, features * sizeof *to);
            continue;
        }
        const uint8_t *from = d->bytes + row[i] * features;
        pixels_to_floats(features, from, to);
    }
    b->batch.dense = b->dense;
}

static void gather_sparse(struct batch_buffer *b, const struct dataset *d, const uint32_t *row,
                          uint32_t count)
{
    size_t need = 0;
    for (uint32_t i = 0; i < count; i++) need += d->row_start[row[i] + 1] - d->row_start[row[i]];
    CHECK(need <= UINT32_MAX);
    if (need > b->entry_capacity || b->column == NULL) {
        b->column = room(b->column, need, sizeof *b->column);
        b->value = room(b->value, need, sizeof *b->value);
        b->entry_capacity = need;
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = d->row_start[row[i]], entries = d->row_start[row[i] + 1] - from;
        b->row_start[i] = at;
        memcpy(b->column + at, d->column + from, entries * sizeof *b->column);
        memcpy(b->value + at, d->value + from, entries * sizeof *b->value);
        at += entries;
    }
    b->row_start[count] = at;
    b->batch.row_start = b->row_start;
    b->batch.column = b->column;
    b->batch.value = b->value;
}

const struct batch *batch_gather(struct batch_buffer *b, const struct dataset *d, const uint32_t *row,
                                 uint32_t count)
{
    if (count > b->row_capacity || b->target == NULL) {
        b->target = room(b->target, count, sizeof *b->target);
        b->row_start = room(b->row_start, (size_t)count + 1, sizeof *b->row_start);
        b->row_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        CHECK(row[i] < d->rows);
        b->target[i] = d->target[row[i]];
    }
    b->batch = (struct batch){.rows = count, .features = d->features, .target = b->target};
    if (d->row_start != NULL)
        gather_sparse(b, d, row, count);
    else
        gather_dense(b, d, row, count);
    return &b->batch;
}

void batch_buffer_deinit(struct batch_buffer *b)
{
    free(b->dense);
    free(b->row_start);
    free(b->column);
    free(b->value);
    free(b->target);
    memset(b, 0, sizeof *b);
}

/* Reading chosen rows into memory. */
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

/* Returns the owned file rows of rows index[0..count) of a part, ascending, and fills their targets. */
static uint32_t *choose_rows(const struct source_part *p, const uint32_t *index, uint32_t count,
                             float *target)
{
    uint32_t *row = mem_new(count, sizeof *row);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = index != NULL ? index[i] : i;
        CHECK(at < p->rows);
        CHECK(i == 0 || index == NULL || index[i - 1] < at);
        row[i] = p->kept != NULL ? p->kept[at] : at;
        target[i] = p->target[at];
    }
    return row;
}

int dataset_load(const struct dataset_source *s, enum dataset_part part, const uint32_t *index,
                 uint32_t count, struct dataset *out, struct err_text *why)
{
    const struct source_part *p = &s->part[part];
    if (index == NULL) count = p->rows;
    memset(out, 0, sizeof *out);
    out->rows = count;
    out->features = s->info.features;
    out->classes = s->info.classes;
    out->target = mem_new(count, sizeof *out->target);
    uint32_t *row = choose_rows(p, index, count, out->target);
    int err = s->format->load(s, s->held_out ? DATASET_TRAIN : part, row, count, out, why);
    free(row);
    if (err != 0) dataset_deinit(out);
    return err;
}

void dataset_deinit(struct dataset *d)
{
    free(d->bytes);
    free(d->dense);
    free(d->row_start);
    free(d->column);
    free(d->value);
    free(d->target);
    memset(d, 0, sizeof *d);
}

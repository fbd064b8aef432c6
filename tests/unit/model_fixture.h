/* Random rows, dense and CSR, and models to test with. */
#ifndef GADABOUT_TESTS_UNIT_MODEL_FIXTURE_H
#define GADABOUT_TESTS_UNIT_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/model/model.h"
#include "base/check.h"
#include "base/prng.h"

/* -- random rows, dense and CSR ---------------------------------------------------------------- */

struct rows {
    struct batch dense, sparse; /* the same rows */
    float *cells, *value, *target;
    uint32_t *row_start, *column;
};

static inline void rows_init(struct rows *r, uint32_t count, uint32_t features, uint32_t classes,
                             uint64_t seed)
{
    struct prng p;
    prng_seed(&p, seed);
    size_t cells = (size_t)count * features;
    r->cells = mem_new_zero(cells, sizeof *r->cells);
    r->value = mem_new(cells, sizeof *r->value);
    r->column = mem_new(cells, sizeof *r->column);
    r->target = mem_new(count, sizeof *r->target);
    r->row_start = mem_new(count + 1, sizeof *r->row_start);
    uint32_t entries = 0;
    for (uint32_t i = 0; i < count; i++) {
        r->row_start[i] = entries;
        for (uint32_t j = 0; j < features; j++) {
            if (prng_below(&p, 3) == 0) continue;
            r->cells[(size_t)i * features + j] = (float)prng_normal(&p);
            r->value[entries] = r->cells[(size_t)i * features + j];
            r->column[entries++] = j;
        }
        r->target[i] = classes > 1 ? (float)prng_below(&p, classes) : (float)prng_normal(&p);
    }
    r->row_start[count] = entries;
    r->dense = (struct batch){.rows = count, .features = features, .dense = r->cells, .target = r->target};
    r->sparse = (struct batch){.rows = count,
                               .features = features,
                               .row_start = r->row_start,
                               .column = r->column,
                               .value = r->value,
                               .target = r->target};
}

static inline void rows_deinit(struct rows *r)
{
    free(r->cells);
    free(r->value);
    free(r->column);
    free(r->target);
    free(r->row_start);
}

static inline struct model_shape shape_of(uint32_t features, uint32_t classes)
{
    return (struct model_shape){
        .features = features,
        .classes = classes,
        .samples_total = 50,
        .batch_rows_max = 1000,
        .sparse = classes > 1,
    };
}

static inline int try_model(const char *task, const struct model_shape *shape, const struct vec_ops *vec,
                            struct model **m, struct err_text *why)
{
    struct choice choice;
    int err = choice_parse(model_table, model_table_count, "--task", task, &choice, why);
    return err != 0 ? err : model_new(&choice, shape, vec, m, why);
}

static inline struct model *make_model(const char *task, const struct model_shape *shape,
                                       const struct vec_ops *vec)
{
    struct model *m;
    struct err_text why;
    int err = try_model(task, shape, vec, &m, &why);
    if (err != 0) fail_msg("%s: %s", task, why.text);
    return m;
}

/* A point away from the start, where no gradient vanishes. */
static inline float *random_point(size_t dim, uint64_t seed)
{
    struct prng p;
    prng_seed(&p, seed);
    float *x = mem_new(dim, sizeof *x);
    for (size_t i = 0; i < dim; i++) x[i] = (float)(0.5 * prng_normal(&p));
    return x;
}

#endif

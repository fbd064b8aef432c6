/* Experiments to test with: configurations filled by hand, and tiny libsvm and idx files in a temporary
 * directory, so that dense, sparse and byte rows all occur. */
#ifndef GADABOUT_TESTS_UNIT_EXPERIMENT_FIXTURE_H
#define GADABOUT_TESTS_UNIT_EXPERIMENT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/experiment/experiment.h"
#include "algo/optimizer.h"
#include "base/check.h"

#define MIXTURE "mixture:rows=600,features=6,classes=3,test=150,separation=2"

static inline struct choice choose(const struct choice_spec *table, size_t count, const char *text)
{
    struct choice c;
    struct err_text why;
    if (choice_parse(table, count, "--test", text, &c, &why) != 0) fail_msg("%s", why.text);
    return c;
}

static inline struct config config_of(const char *data, const char *task, const char *split, uint32_t nodes,
                                      uint32_t batch)
{
    struct config c = {
        .nodes = nodes,
        .task = choose(model_table, model_table_count, task),
        .split = choose(split_table, split_table_count, split),
        .step_size = choose(step_size_table, step_size_table_count, "inverse:scale=1,offset=10"),
        .data = mem_copy_text(data),
        .seed = 5,
        .batch = batch,
    };
    return c;
}

static inline struct experiment open_experiment(const struct config *c)
{
    struct experiment e;
    struct err_text why;
    if (experiment_open(c, &vec_ref, &e, &why) != 0) fail_msg("%s", why.text);
    return e;
}

static inline void close_experiment(struct experiment *e, struct config *c)
{
    experiment_close(e);
    free(c->data);
}

static inline struct dataset load_all(const struct experiment *e)
{
    struct dataset d;
    struct err_text why;
    if (experiment_load_all(e, &d, &why) != 0) fail_msg("%s", why.text);
    return d;
}

/* -- files ------------------------------------------------------------------------------------- */

enum { FILE_ROWS = 60, FILE_FEATURES = 9 };

struct files {
    char folder[64];
    char sparse[96], images[96], labels[96];
};

static inline void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* A libsvm file, and beside it an idx pair of 3 x 3 pictures. */
static inline void files_init(struct files *f)
{
    snprintf(f->folder, sizeof f->folder, "/tmp/gadabout-experiment-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->sparse, sizeof f->sparse, "%s/sparse.libsvm", f->folder);
    snprintf(f->images, sizeof f->images, "%s/train-images-idx3-ubyte", f->folder);
    snprintf(f->labels, sizeof f->labels, "%s/train-labels-idx1-ubyte", f->folder);
    char text[8192] = "";
    uint8_t images[16 + FILE_ROWS * 9] = {0, 0, 8, 3, 0, 0, 0, FILE_ROWS, 0, 0, 0, 3, 0, 0, 0, 3};
    uint8_t labels[8 + FILE_ROWS] = {0, 0, 8, 1, 0, 0, 0, FILE_ROWS};
    struct prng p;
    prng_seed(&p, 3);
    size_t used = 0;
    for (uint32_t i = 0; i < FILE_ROWS; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%+d", i % 2 == 0 ? -1 : 1);
        for (uint32_t j = 1; j <= FILE_FEATURES; j++) {
            if (prng_below(&p, 3) == 0 || (i == 0 && j == FILE_FEATURES))
                used += (size_t)snprintf(text + used, sizeof text - used, " %u:%.3f", j, prng_normal(&p));
            images[16 + i * 9 + j - 1] = (uint8_t)prng_below(&p, 256);
        }
        used += (size_t)snprintf(text + used, sizeof text - used, "\n");
        labels[8 + i] = (uint8_t)prng_below(&p, 2);
    }
    CHECK(used < sizeof text);
    labels[8] = 0;
    labels[9] = 1;
    write_file(f->sparse, text, used);
    write_file(f->images, images, sizeof images);
    write_file(f->labels, labels, sizeof labels);
}

static inline void files_deinit(struct files *f)
{
    unlink(f->sparse);
    unlink(f->images);
    unlink(f->labels);
    assert_int_equal(rmdir(f->folder), 0);
}

#endif

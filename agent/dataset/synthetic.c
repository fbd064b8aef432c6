/* A data set without a file: a mixture of Gaussians, a pure function of (choice, seed).
 *
 * Class means are `separation` times a standard normal vector; a row is its class's mean plus `spread`
 * times standard normal noise. Every row has a random stream of its own, so that any choice of rows, in
 * any process, gives the same numbers. */
#include <stdlib.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

#define CELL_MAX (1ull << 32) /* floats loaded at once: 16 GiB */

static const struct param_spec mixture_params[] = {
    {"rows", PARAM_INTEGER, "20000", 1, DATASET_ROW_MAX, NULL, "training rows"},
    {"features", PARAM_INTEGER, "20", 1, 100000, NULL, "numbers a row"},
    {"classes", PARAM_INTEGER, "10", 2, 1000, NULL, "Gaussians"},
    {"spread", PARAM_REAL, "1", 0, 1e6, NULL, "standard deviation of the noise"},
    {"test", PARAM_INTEGER, "2000", 0, DATASET_ROW_MAX, NULL, "held-out rows"},
    {"separation", PARAM_REAL, "1", 0, 1e6, NULL, "standard deviation of the class means"},
};

static const struct choice_spec mixture_table[] = {
    {"mixture", "Gaussian mixture, one Gaussian a class", "", mixture_params,
     sizeof mixture_params / sizeof mixture_params[0]},
};

int mixture_parse(const char *text, struct choice *out, struct err_text *why)
{
    return choice_parse(mixture_table, 1, "--data", text, out, why);
}

static void row_stream(const struct dataset_source *s, enum dataset_part part, uint32_t row, struct prng *p)
{
    prng_split(p, s->seed, part == DATASET_TRAIN ? "mixture train row" : "mixture test row", row);
}

static int mixture_scan(struct dataset_source *s, enum dataset_part part, struct err_text *why)
{
    uint32_t rows = choice_integer(&s->mixture, part == DATASET_TRAIN ? "rows" : "test");
    s->label_count = choice_integer(&s->mixture, "classes");
    for (uint32_t i = 0; i < rows; i++) {
        struct prng p;
        row_stream(s, part, i, &p);
        int err = source_add_label(&s->part[part], prng_below(&p, s->label_count), s->name, why);
        if (err != 0) return err;
    }
    return source_set_features(s, choice_integer(&s->mixture, "features"), s->name, why);
}

/* Returns owned means, (classes, features). */
static float *make_means(const struct dataset_source *s)
{
    double separation = choice_number(&s->mixture, "separation");
    float *mean = mem_new((size_t)s->label_count * s->features, sizeof *mean);
    for (uint32_t c = 0; c < s->label_count; c++) {
        struct prng p;
        prng_split(&p, s->seed, "mixture mean", c);
        for (uint32_t j = 0; j < s->features; j++)
            mean[(size_t)c * s->features + j] = (float)(separation * prng_normal(&p));
    }
    return mean;
}

static int mixture_load(const struct dataset_source *s, enum dataset_part part, const uint32_t *row,
                        uint32_t count, struct dataset *out, struct err_text *why)
{
    if ((uint64_t)count * s->features > CELL_MAX)
        return err_set(why, ERR_LIMIT,
                       "--data: %u rows of %u features are more than %llu numbers; ask for fewer", count,
                       s->features, CELL_MAX);
    double spread = choice_number(&s->mixture, "spread");
    float *mean = make_means(s);
    out->dense = mem_new((size_t)count * s->features, sizeof *out->dense);
    for (uint32_t i = 0; i < count; i++) {
        struct prng p;
        row_stream(s, part, row[i], &p);
        const float *centre = mean + (size_t)prng_below(&p, s->label_count) * s->features;
        float *to = out->dense + (size_t)i * s->features;
        for (uint32_t j = 0; j < s->features; j++) to[j] = centre[j] + (float)(spread * prng_normal(&p));
    }
    free(mean);
    return 0;
}

const struct data_format format_mixture = {"mixture", false, mixture_scan, mixture_load};

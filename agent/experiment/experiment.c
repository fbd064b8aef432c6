/* What a configuration means: data, split, model, common start, weights, identity. */
#include "agent/experiment/experiment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "agent/experiment/site.h"
#include "algo/compress/pack.h"
#include "base/check.h"

enum { EVALUATION_ROWS = 256 };

/* -- opening ----------------------------------------------------------------------------------- */

static int open_data(struct experiment *e, struct err_text *why)
{
    const struct config *c = e->config;
    if (c->data == NULL)
        return err_set(why, ERR_USAGE, "--data: is not given; name a directory, a file or a set");
    struct dataset_options options = {
        .path = c->data,
        .classes = c->classes,
        .features = c->features,
        .holdout = c->holdout,
        .seed = c->seed,
    };
    int err = dataset_open(&options, &e->source, why);
    if (err == 0) e->info = *dataset_source_info(e->source);
    return err;
}

static void set_weights(struct experiment *e)
{
    uint32_t nodes = e->config->nodes;
    e->weight = mem_new(nodes, sizeof *e->weight);
    double total = e->split.offset[nodes];
    for (uint32_t v = 0; v < nodes; v++) e->weight[v] = split_size(&e->split, v) / total;
}

struct model_shape experiment_shape(const struct experiment *e)
{
    return (struct model_shape){
        .features = e->info.features,
        .classes = e->info.classes,
        .samples_total = e->split.offset[e->split.node_count],
        .batch_rows_max = EVALUATION_ROWS,
        .sparse = e->info.sparse,
    };
}

int experiment_open(const struct config *config, const struct vec_ops *vec, struct experiment *out,
                    struct err_text *why)
{
    *out = (struct experiment){.config = config, .vec = vec};
    int err = open_data(out, why);
    if (err != 0) goto failed;
    err = split_build(&config->split, out->info.target, out->info.rows, out->info.classes, config->nodes,
                      config->seed, &out->split, why);
    if (err != 0) {
        out->split = (struct split){0};
        goto failed;
    }
    struct model_shape shape = experiment_shape(out);
    err = model_new(&config->task, &shape, vec, &out->evaluator, why);
    if (err != 0) {
        out->evaluator = NULL;
        goto failed;
    }
    out->dim = model_dim(out->evaluator);
    bool by_tensor = config->algorithm != NULL && config->algorithm->by_tensor;
    if (by_tensor && compress_is_by_tensor(&config->compress, &config->compress_by))
        model_tensors(out->evaluator, &out->tensor, &out->tensor_count);
    out->x0 = mem_new(out->dim, sizeof *out->x0);
    model_start(out->evaluator, config->seed, out->x0);
    set_weights(out);
    err = site_make(out, &out->site, why);
    if (err != 0) goto failed;
    return 0;
failed:
    experiment_close(out);
    return err;
}

void experiment_close(struct experiment *e)
{
    model_free(e->evaluator);
    dataset_deinit(&e->test);
    free(e->weight);
    free(e->site);
    free(e->x0);
    if (e->split.offset != NULL) split_deinit(&e->split);
    if (e->source != NULL) dataset_source_free(e->source);
    memset(e, 0, sizeof *e);
}

/* -- data -------------------------------------------------------------------------------------- */

int experiment_load_shard(const struct experiment *e, rank_t rank, struct dataset *out, struct err_text *why)
{
    CHECK(rank < e->split.node_count);
    return dataset_load(e->source, DATASET_TRAIN, e->split.row + e->split.offset[rank],
                        split_size(&e->split, rank), out, why);
}

int experiment_load_all(const struct experiment *e, struct dataset *out, struct err_text *why)
{
    return dataset_load(e->source, DATASET_TRAIN, NULL, e->info.rows, out, why);
}

/* -- identity ---------------------------------------------------------------------------------- */

static void print_choice(FILE *to, const char *name, const struct choice *c)
{
    char text[CHOICE_TEXT_MAX * 4];
    if (c->spec != NULL) fprintf(to, "%s=%s\n", name, choice_print(c, text, sizeof text));
}

/* One line per fact that shapes the experiment, so that no two experiments share a text. */
static void print_identity(const struct experiment *e, FILE *to)
{
    const struct config *c = e->config;
    print_choice(to, "algorithm", &c->algorithm_params);
    print_choice(to, "compress", &c->compress);
    print_choice(to, "compress_by", &c->compress_by);
    print_choice(to, "topology", &c->topology);
    print_choice(to, "task", &c->task);
    print_choice(to, "split", &c->split);
    print_choice(to, "step_size", &c->step_size);
    if (c->tags != NULL) fprintf(to, "tags=%s\n", c->tags);
    fprintf(to, "nodes=%" PRIu32 "\nseed=%" PRIu64 "\nbatch=%" PRIu32 "\nmomentum=%.17g\n", c->nodes, c->seed,
            c->batch, c->momentum);
    fprintf(to, "rows=%" PRIu32 "\nfeatures=%" PRIu32 "\nclasses=%" PRIu32 "\nsparse=%d\ndim=%zu\n",
            e->info.rows, e->info.features, e->info.classes, e->info.sparse, e->dim);
    uint64_t targets = XXH3_64bits(e->info.target, e->info.rows * sizeof *e->info.target);
    fprintf(to, "targets=%016" PRIx64 "\n", targets);
}

void experiment_cluster_id(const struct experiment *e, uint8_t out[16])
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    CHECK(to != NULL);
    print_identity(e, to);
    int err = fclose(to);
    CHECK(err == 0);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(text, size));
    memcpy(out, canonical.digest, 16);
    free(text);
}

uint64_t cluster_name_hash(const char *name)
{
    return XXH3_64bits(name, strlen(name));
}

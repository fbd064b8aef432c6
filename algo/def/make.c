/* DEF, DEF-A, EF-SGD, step-ahead, EF21 and plain all-reduce SGD: their parameters, what fits them, making and
 * ending. They differ in lam, in the compressor and in the model they show; def.c is the method. EF21 does
 * something else with the mean: known.c.
 *
 * Refused with ERR_USAGE and a remedy, beside what algo/fit.c refuses: a compressor that does not send
 * values as they are, as sums of anything else do not decode. */
#include <stdlib.h>
#include <string.h>

#include "algo/compress/pack.h"
#include "algo/def/internal.h"
#include "algo/vec.h"
#include "base/check.h"

extern const struct algo_type def_type;
extern const struct algo_type def_a_type;
extern const struct algo_type ef_sgd_type;
extern const struct algo_type step_ahead_type;
extern const struct algo_type ef21_type;
extern const struct algo_type allreduce_type;

enum { CHUNK_FLOATS = 16384, WEIGHTS_DATA = 1 };

static void destroy(struct algo *a)
{
    struct def *d = (struct def *)a;
    if (d == NULL) return;
    allreduce_free(d->ring);
    compressor_free(d->compressor);
    known_free(d->known);
    free(d->x);
    free(d->e);
    free(d->w);
    free(d->c);
    free(d->shown);
    free(d->handed);
    free(d->owed);
    free(d->unsure);
    free(d->body);
    free(d->part);
    free(d);
}

static void vectors_make(struct def *d, const struct algo_config *config, bool ahead)
{
    d->dim = config->dim;
    d->x = vec_duplicate(d->dim, config->x0);
    d->e = mem_new_zero(d->dim, sizeof *d->e);
    d->w = mem_new_zero(d->dim, sizeof *d->w);
    d->c = mem_new_zero(d->dim, sizeof *d->c);
    d->handed = mem_new_zero(d->dim, sizeof *d->handed);
    if (ahead) d->shown = mem_new(d->dim, sizeof *d->shown);
    if (ahead) memcpy(d->shown, d->x, d->dim * sizeof *d->x);
    d->whole = (struct tensor){0, 1, d->dim};
    d->tensor = config->tensor != NULL ? config->tensor : &d->whole;
    d->tensor_count = config->tensor != NULL ? config->tensor_count : 1;
    d->part = mem_new_zero(d->tensor_count, sizeof *d->part);
    for (uint32_t t = 0; t < d->tensor_count; t++)
        d->body_max += compressor_size_max(d->compressor, d->tensor[t].rows * d->tensor[t].columns);
    d->body_max = d->body_max / sizeof(float) + 1;
    d->body = mem_new(d->body_max, sizeof *d->body);
}

/* Whose rounds begin from the same bits may sum from the first one on: the update is added to them. */
static uint64_t start_hash(const struct algo_config *config)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < config->dim; i++) {
        uint32_t bits;
        memcpy(&bits, &config->x0[i], sizeof bits);
        hash = (hash ^ bits) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return hash;
}

static void ring_make(struct def *d, const struct algo_config *config)
{
    rank_t *member = mem_new(config->node_count, sizeof *member);
    for (rank_t r = 0; r < config->node_count; r++) member[r] = r;
    size_t bound =
        pack_bound(config->compress, config->dim, config->tensor, config->tensor_count) / sizeof(float);
    struct allreduce_config ring = {.rank = config->rank,
                                    .node_count = config->node_count,
                                    .graph = config->graph,
                                    .member = member,
                                    .member_count = config->node_count,
                                    .size_max = d->body_max,
                                    .state_dim = config->dim,
                                    .patience_us = config->patience_us > 0 ? config->patience_us : 1,
                                    .first_kind = 0,
                                    .chunk_max = bound < CHUNK_FLOATS ? (uint32_t)bound : CHUNK_FLOATS,
                                    .rejoining = config->rejoining,
                                    .life = config->life,
                                    .origin = start_hash(config),
                                    .round = config->steps / d->every,
                                    .trace = config->trace};
    d->ring = allreduce_new(&ring);
    allreduce_set_state(d->ring, d->x);
    free(member);
}

static int make(const struct algo_config *config, const struct choice *params, double lam, bool ahead,
                struct algo **out, struct err_text *why)
{
    CHECK(config->rank < config->node_count && config->dim > 0);
    struct choice none;
    CHECK(choice_parse(compress_table, compress_table_count, "--compress", "none", &none, NULL) == 0);
    const struct choice *compress = config->compress != NULL ? config->compress : &none;
    struct compressor *c = compressor_new(compress);
    if (!compressor_is_shared(c) || !compressor_copies_values(c)) {
        compressor_free(c);
        return err_set(
            why, ERR_USAGE,
            "--compress: '%s' does not send entries as they are, and --algorithm %s sums them on the "
            "way; give one of none, randk (variant=plain), block, bernoulli",
            compress->spec->name, params->spec->name);
    }
    struct def *d = mem_new_zero(1, sizeof *d);
    d->compressor = c;
    d->seed = config->seed;
    d->lam = (float)lam;
    d->every = choice_integer(params, "every");
    d->weight = choice_integer(params, "weights") == WEIGHTS_DATA ? config->weight[config->rank] : 1;
    d->trace = config->trace;
    d->rank = config->rank;
    d->rejoining = config->rejoining;
    vectors_make(d, config, ahead);
    ring_make(d, config);
    *out = (struct algo *)d;
    return 0;
}

static int def_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                      struct err_text *why)
{
    return make(config, params, choice_number(params, "lam"), false, out, why);
}

static int def_a_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    return make(config, params, choice_number(params, "lam"), true, out, why);
}

static int plain_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    return make(config, params, 0, false, out, why);
}

static int ef21_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                       struct err_text *why)
{
    int err = make(config, params, 0, false, out, why);
    if (err != 0) return err;
    struct def *d = (struct def *)*out;
    d->known = known_new(config->dim);
    d->known->view = allreduce_view(d->ring); /* nothing is known of anybody in the first one, by all */
    return 0;
}

static int ahead_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    return make(config, params, 1, false, out, why);
}

/* def and def-a take all, the others the first two. */
static const struct param_spec params_of_all[] = {
    {.key = "every",
     .kind = PARAM_INTEGER,
     .initial = "1",
     .low = 1,
     .high = 1e6,
     .help = "local steps of a round"},
    {.key = "weights",
     .kind = PARAM_WORD,
     .initial = "uniform",
     .words = "uniform|data",
     .help = "of the workers in the mean: equal, or by rows"},
    {.key = "lam",
     .kind = PARAM_REAL,
     .initial = "0.3",
     .low = 0,
     .high = 1,
     .help = "how far ahead of the residual the gradient is taken"},
};
enum { PLAIN_PARAMS = 2, DEF_PARAMS = 3 };

#define DEF_TYPE(name_, help_, source_, count_, compresses_, create_, ...)                                   \
    {                                                                                                        \
        .spec = {.name = name_,                                                                              \
                 .help = help_,                                                                              \
                 .source = source_,                                                                          \
                 .params = params_of_all,                                                                    \
                 .param_count = count_},                                                                     \
        .eval = ALGO_EVAL_AVERAGE, .links = ALGO_LINKS_ALL, .packs = true, .compresses = compresses_,        \
        .by_tensor = compresses_, .support = compresses_ ? ALGO_SUPPORT_SHARED : ALGO_SUPPORT_ANY,           \
        .create = create_, .destroy = destroy, .step = def_step, .deadline_us = def_deadline_us,             \
        .model = def_model, .report = def_report, __VA_ARGS__                                                \
    }
#define KEEPS_RESIDUAL .state_version = 1, .state_save = def_state_save, .state_restore = def_state_restore

const struct algo_type def_type =
    DEF_TYPE("def", "all-reduce of shared random entries, error feedback, gradients ahead by lam",
             "Xu, Huang 2022 (arXiv 2004.05298)", DEF_PARAMS, true, def_create, KEEPS_RESIDUAL);
const struct algo_type def_a_type =
    DEF_TYPE("def-a", "the same run, judged at x minus the mean residual (DEF-A)",
             "Xu, Huang 2022 (arXiv 2004.05298)", DEF_PARAMS, true, def_a_create, KEEPS_RESIDUAL);
const struct algo_type ef_sgd_type =
    DEF_TYPE("ef-sgd", "def with lam 0: error feedback with local momentum",
             "Karimireddy et al. 2019 (arXiv 1901.09847)", PLAIN_PARAMS, true, plain_create, KEEPS_RESIDUAL);
const struct algo_type step_ahead_type =
    DEF_TYPE("step-ahead", "def with lam 1: gradients at x minus the own residual",
             "Xu et al. 2020 (arXiv 2008.05823)", PLAIN_PARAMS, true, ahead_create, KEEPS_RESIDUAL);
const struct algo_type ef21_type =
    DEF_TYPE("ef21", "all-reduce of compressed differences to what all know of each worker's update",
             "Richtarik et al. 2021 (arXiv 2106.05203)", PLAIN_PARAMS, true, ef21_create, .state_save = NULL);
const struct algo_type allreduce_type =
    DEF_TYPE("allreduce", "all-reduce SGD: the mean of whole updates, each round", "", PLAIN_PARAMS, false,
             plain_create, KEEPS_RESIDUAL);

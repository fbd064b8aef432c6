/* DeLi-CoCo, CHOCO-SGD and DGD: their parameters, what fits them, making and ending. They differ in the
 * parameters alone; delicoco.c is the method.
 *
 * Refused with ERR_USAGE and a remedy: a compressor that needs matrices, one that does not contract, and a
 * gamma left to a compressor that promises too little to choose it from. */
#include <stdlib.h>
#include <string.h>

#include "algo/delicoco_internal.h"
#include "base/check.h"

extern const struct algo_type delicoco_type;
extern const struct algo_type choco_type;
extern const struct algo_type dgd_type;

static const double omega_min = 1e-3; /* less is no guide to gamma */

static void destroy(struct algo *a)
{
    if (a == NULL) return;
    struct delicoco *d = (struct delicoco *)a;
    for (uint32_t i = 0; i < d->degree; i++) {
        free(d->peer[i].hat);
        blob_unref(d->peer[i].early);
    }
    compressor_free(d->compressor);
    free(d->peer);
    free(d->x0);
    free(d->x);
    free(d->hat);
    free(d->scratch);
    free(d);
}

/* Chooses gamma when it was not given, and refuses what does not contract. */
static int settle_gamma(const struct choice *compress, size_t dim, double *gamma, struct err_text *why)
{
    const char *name = compress->spec->name;
    if (strcmp(name, "powersgd") == 0)
        return err_set(why, ERR_USAGE,
                       "--compress: powersgd needs matrices, and here the model is one vector; "
                       "try topk or qsgd");
    struct compressor *c = compressor_new(compress);
    double omega = compressor_omega(c, dim);
    compressor_free(c);
    if (omega <= 0)
        return err_set(why, ERR_USAGE, "--compress: this %s enlarges vectors; leave out variant=unbiased",
                       name);
    if (*gamma == 0 && omega < omega_min)
        return err_set(why, ERR_USAGE,
                       "--algorithm: gamma cannot be chosen from the quality %.2g that %s promises for %zu "
                       "parameters; give it, as in gamma=0.3",
                       omega, name, dim);
    if (*gamma == 0) *gamma = omega;
    return 0;
}

static float *copy_of(const float *from, size_t dim)
{
    float *to = mem_new(dim, sizeof *to);
    memcpy(to, from, dim * sizeof *to);
    return to;
}

/* every is local steps, gossip is Q; gamma 0 = choose it. */
static int make(const struct algo_config *config, uint32_t every, uint32_t gossip, double gamma,
                struct algo **out, struct err_text *why)
{
    CHECK(config->rank < config->node_count && config->dim > 0);
    struct choice none;
    CHECK(choice_parse(compress_table, compress_table_count, "--compress", "none", &none, NULL) == 0);
    const struct choice *compress = config->compress != NULL ? config->compress : &none;
    int err = settle_gamma(compress, config->dim, &gamma, why);
    if (err != 0) return err;
    struct delicoco *d = mem_new_zero(1, sizeof *d);
    d->rank = config->rank;
    d->degree = graph_degree(config->graph, d->rank);
    d->graph = config->graph;
    d->neighbour = config->graph->neighbour + config->graph->offset[d->rank];
    d->peer = mem_new_zero(d->degree, sizeof *d->peer);
    for (uint32_t i = 0; i < d->degree; i++)
        d->peer[i].weight = metropolis_weight(config->graph, d->rank, d->neighbour[i]);
    d->dim = config->dim;
    d->seed = config->seed;
    d->patience_us = config->patience_us > 0 ? config->patience_us : 1;
    d->every = every;
    d->gossip = gossip;
    d->gamma = (float)gamma;
    d->trace = config->trace;
    d->compressor = compressor_new(compress);
    d->x0 = copy_of(config->x0, d->dim);
    d->x = copy_of(config->x0, d->dim);
    d->hat = copy_of(config->x0, d->dim);
    d->scratch = mem_new(d->dim, sizeof *d->scratch);
    d->step = 1;
    *out = (struct algo *)d;
    return 0;
}

static int delicoco_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                           struct err_text *why)
{
    return make(config, choice_integer(params, "every"), choice_integer(params, "q"),
                choice_number(params, "gamma"), out, why);
}

static int choco_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    return make(config, choice_integer(params, "every"), 1, choice_number(params, "gamma"), out, why);
}

static int dgd_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                      struct err_text *why)
{
    CHECK(config->compress == NULL);
    return make(config, choice_integer(params, "every"), 1, 1, out, why);
}

/* delicoco takes all, choco the first two, dgd the first. */
static const struct param_spec params_of_all[] = {
    {.key = "every",
     .kind = PARAM_INTEGER,
     .initial = "1",
     .low = 1,
     .high = 1e6,
     .help = "local steps of a round"},
    {.key = "gamma",
     .kind = PARAM_REAL,
     .initial = "0",
     .low = 0,
     .high = 1,
     .help = "consensus step; 0 = the omega of the compressor"},
    {.key = "q",
     .kind = PARAM_INTEGER,
     .initial = "4",
     .low = 1,
     .high = 1000,
     .help = "gossip steps of a round"},
};
enum { DGD_PARAMS = 1, CHOCO_PARAMS = 2, DELICOCO_PARAMS = 3 };

const struct algo_type delicoco_type = {
    .spec = {.name = "delicoco",
             .help = "rounds of local steps and q gossip steps of compressed differences",
             .source = "Hashemi et al. 2021 (arXiv 2011.10643)",
             .params = params_of_all,
             .param_count = DELICOCO_PARAMS},
    .eval = ALGO_EVAL_AVERAGE,
    .packs = true,
    .compresses = true,
    .create = delicoco_create,
    .destroy = destroy,
    .step = delicoco_step,
    .deadline_us = delicoco_deadline_us,
    .model = delicoco_model,
    .report = delicoco_report,
};

const struct algo_type choco_type = {
    .spec = {.name = "choco",
             .help = "delicoco with one gossip step a round (CHOCO-SGD)",
             .source = "Koloskova, Stich, Jaggi 2019 (arXiv 1902.00340)",
             .params = params_of_all,
             .param_count = CHOCO_PARAMS},
    .eval = ALGO_EVAL_AVERAGE,
    .packs = true,
    .compresses = true,
    .create = choco_create,
    .destroy = destroy,
    .step = delicoco_step,
    .deadline_us = delicoco_deadline_us,
    .model = delicoco_model,
    .report = delicoco_report,
};

const struct algo_type dgd_type = {
    .spec = {.name = "dgd",
             .help = "the same with gamma 1 and nothing compressed: decentralised gradient descent",
             .source = "Nedic, Ozdaglar 2009",
             .params = params_of_all,
             .param_count = DGD_PARAMS},
    .eval = ALGO_EVAL_AVERAGE,
    .packs = true,
    .create = dgd_create,
    .destroy = destroy,
    .step = delicoco_step,
    .deadline_us = delicoco_deadline_us,
    .model = delicoco_model,
    .report = delicoco_report,
};

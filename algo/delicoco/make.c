/* DeLi-CoCo, CHOCO-SGD and DGD: their parameters, what fits them, making and ending. They differ in the
 * parameters alone; delicoco.c is the method.
 *
 * Refused with ERR_USAGE and a remedy: a compressor that does not contract, and a gamma left to a compressor that
 * promises too little to choose it from. */
#include <stdlib.h>
#include <string.h>

#include "algo/compress/gamma.h"
#include "algo/delicoco/internal.h"
#include "algo/vec.h"
#include "base/check.h"

extern const struct algo_type delicoco_type;
extern const struct algo_type choco_type;
extern const struct algo_type dgd_type;

static void destroy(struct algo *a)
{
    if (a == NULL) return;
    struct delicoco *d = (struct delicoco *)a;
    for (uint32_t i = 0; i < d->degree; i++) {
        free(d->peer[i].hat);
        blob_unref(d->peer[i].early);
    }
    pack_free(d->pack);
    free(d->peer);
    free(d->x0);
    free(d->x);
    free(d->hat);
    free(d->scratch);
    free(d);
}

/* The consensus step for which CHOCO-Gossip converges by proof (Koloskova et al. 2019, theorem 2). */
static double gamma_star(const struct graph *g, double omega)
{
    double delta = spectral_gap(g), beta = spectral_beta(g), beta2 = beta * beta;
    return delta * delta * omega /
           (16 * delta + delta * delta + 4 * beta2 + 2 * delta * beta2 - 8 * delta * omega);
}

/* Chooses gamma when it was not given, and refuses what does not contract. */
static int settle_gamma(const struct algo_config *config, const struct pack *pack, bool star, double *gamma,
                        struct err_text *why)
{
    const char *name = config->compress != NULL ? config->compress->spec->name : "none";
    double omega = pack_omega(pack);
    if (omega <= 0)
        return err_set(why, ERR_USAGE, "--compress: this %s enlarges vectors; leave out variant=unbiased",
                       name);
    if (star && *gamma == 0 && config->node_count > 1) *gamma = gamma_star(config->graph, omega);
    return compress_settle_gamma(pack, name, gamma, why);
}

struct settings {
    uint32_t every, gossip; /* local steps, gossip steps of a round */
    double gamma;           /* 0 = choose it */
    bool star, overlapped;
};

static int make(const struct algo_config *config, const struct settings *s, struct algo **out,
                struct err_text *why)
{
    CHECK(config->rank < config->node_count && config->dim > 0);
    struct pack *pack = pack_new(config->compress, config->dim, config->tensor, config->tensor_count);
    double gamma = s->gamma;
    int err = settle_gamma(config, pack, s->star, &gamma, why);
    if (err != 0) {
        pack_free(pack);
        return err;
    }
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
    d->every = s->every;
    d->gossip = s->gossip;
    d->gamma = (float)gamma;
    d->overlapped = s->overlapped;
    d->trace = config->trace;
    d->pack = pack;
    d->x0 = vec_duplicate(d->dim, config->start != NULL ? config->start : config->x0);
    d->x = vec_duplicate(d->dim, config->x0);
    d->hat = vec_duplicate(d->dim, config->x0);
    d->scratch = mem_new(d->dim, sizeof *d->scratch);
    d->version = config->start != NULL ? 1 : 0; /* the neighbours do not know where we start: it goes out whole */
    d->step = 1;
    d->at = d->overlapped ? 1 : 0; /* overlapped: there is no delta of the first step */
    *out = (struct algo *)d;
    return 0;
}

static bool is_overlapped(const struct choice *params)
{
    return strcmp(choice_text(params, "order"), "overlapped") == 0;
}

static bool is_star(const struct choice *params)
{
    return strcmp(choice_text(params, "gamma_rule"), "star") == 0;
}

static int delicoco_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                           struct err_text *why)
{
    struct settings s = {
        .every = choice_integer(params, "every"),
        .gossip = choice_integer(params, "q"),
        .gamma = choice_number(params, "gamma"),
        .star = is_star(params),
        .overlapped = is_overlapped(params),
    };
    return make(config, &s, out, why);
}

static int choco_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    struct settings s = {
        .every = choice_integer(params, "every"),
        .gossip = 1,
        .gamma = choice_number(params, "gamma"),
        .star = is_star(params),
        .overlapped = is_overlapped(params),
    };
    return make(config, &s, out, why);
}

static int dgd_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                      struct err_text *why)
{
    CHECK(config->compress == NULL);
    struct settings s = {
        .every = choice_integer(params, "every"),
        .gossip = 1,
        .gamma = 1,
        .overlapped = is_overlapped(params),
    };
    return make(config, &s, out, why);
}

/* delicoco takes all, choco the first four, dgd the first two. */
static const struct param_spec params_of_all[] = {
    {.key = "every",
     .kind = PARAM_INTEGER,
     .initial = "1",
     .low = 1,
     .high = 1e6,
     .help = "local steps of a round"},
    {.key = "order",
     .kind = PARAM_WORD,
     .initial = "standard",
     .words = "standard|overlapped",
     .help = "overlapped: send while training, mix one step late"},
    {.key = "gamma",
     .kind = PARAM_REAL,
     .initial = "0",
     .low = 0,
     .high = 1,
     .help = "consensus step; 0 = by gamma_rule"},
    {.key = "gamma_rule",
     .kind = PARAM_WORD,
     .initial = "omega",
     .words = "omega|star",
     .help = "the compressor's omega, or the small step of the proof"},
    {.key = "q",
     .kind = PARAM_INTEGER,
     .initial = "4",
     .low = 1,
     .high = 1000,
     .help = "gossip steps of a round"},
};
enum { DGD_PARAMS = 2, CHOCO_PARAMS = 4, DELICOCO_PARAMS = 5 };

#define DELICOCO_TYPE(name_, help_, source_, count_, compresses_, create_)                                   \
    {                                                                                                        \
        .spec = {.name = name_,                                                                              \
                 .help = help_,                                                                              \
                 .source = source_,                                                                          \
                 .params = params_of_all,                                                                    \
                 .param_count = count_},                                                                     \
        .eval = ALGO_EVAL_AVERAGE, .packs = true, .compresses = compresses_, .by_tensor = compresses_,       \
        .create = create_, .destroy = destroy, .step = delicoco_step, .deadline_us = delicoco_deadline_us,   \
        .model = delicoco_model, .report = delicoco_report                                                   \
    }

const struct algo_type delicoco_type =
    DELICOCO_TYPE("delicoco", "rounds of local steps and q gossip steps of compressed differences",
                  "Hashemi et al. 2021 (arXiv 2011.10643)", DELICOCO_PARAMS, true, delicoco_create);
const struct algo_type choco_type =
    DELICOCO_TYPE("choco", "delicoco with one gossip step a round (CHOCO-SGD)",
                  "Koloskova, Stich, Jaggi 2019 (arXiv 1902.00340)", CHOCO_PARAMS, true, choco_create);
const struct algo_type dgd_type =
    DELICOCO_TYPE("dgd", "the same with gamma 1 and nothing compressed: decentralised gradient descent",
                  "Nedic, Ozdaglar 2009", DGD_PARAMS, false, dgd_create);

/* `local`: local SGD with periodic averaging (FedAvg without a server), and the baseline without any.
 *
 * Normal course
 * - every=0: each node trains alone and never says a word.
 * - every=H: each node does H local steps, then stops training and begins a round of the collective; with
 *   the average x <- sum_v w_v x_v / sum_v w_v it trains on. (McMahan et al. 2017; Stich 2019.)
 *
 * Failure courses (collective.c has the details)
 * - A node that is down or slow for longer than patience is left out of the round's average. When it is
 *   back it takes the others' average over its own model; its steps since the last round are lost then.
 * - An average that arrives while this node still trains (it was slow, or has just rejoined) replaces x at
 *   once; the progress of the running job is added when it comes.
 * - A node that gets no answer from anybody within patience trains on alone and tries again H steps later.
 * - A node restarts: what it kept is its model and, with a compressor, the residual of its sums (collective/pack.c). */
#include <stdlib.h>

#include "algo/collective/collective.h"
#include "algo/step.h"
#include "algo/vec.h"
#include "base/check.h"

extern const struct algo_type local_type;

enum { JOB_STEP_MAX = 16 }; /* keeps the model that others evaluate fresh */

struct local {
    size_t dim;
    uint32_t every;
    uint32_t done; /* steps since the last round */
    bool training; /* a job is out */
    float *x;      /* (dim) */
    struct collective *average;
    struct algo_report report;
};

static struct local *local_of(struct algo *a)
{
    return (struct local *)(void *)a;
}

static const struct local *local_of_const(const struct algo *a)
{
    return (const struct local *)(const void *)a;
}

static const struct param_spec local_params[] = {
    {"every", PARAM_INTEGER, "0", 0, 1e9, NULL, "local steps between averages; 0 = never communicate"},
};

static int local_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    (void)why; /* fits every topology, and compressors were judged by omega_min */
    struct local *l = mem_new_zero(1, sizeof *l);
    l->dim = config->dim;
    l->every = choice_integer(params, "every");
    l->x = vec_duplicate(config->dim, config->x0);
    struct collective_config collective = {.rank = config->rank,
                                           .graph = config->graph,
                                           .dim = config->dim,
                                           .weight = config->weight[config->rank],
                                           .patience_us = config->patience_us,
                                           .first_kind = 0,
                                           .curious = config->rejoining,
                                           .trace = config->trace,
                                           .compress = config->compress,
                                           .tensor = config->tensor,
                                           .tensor_count = config->tensor_count,
                                           .seed = config->seed};
    if (l->every > 0) l->average = collective_new(&collective);
    *out = (struct algo *)(void *)l;
    return 0;
}

static void local_destroy(struct algo *a)
{
    if (a == NULL) return;
    struct local *l = local_of(a);
    collective_free(l->average);
    free(l->x);
    free(l);
}

static void train(struct local *l, struct algo_actions *acts)
{
    CHECK(!l->training);
    uint32_t left = l->every > 0 ? l->every - l->done : JOB_STEP_MAX;
    algo_train(acts, l->x, left < JOB_STEP_MAX ? left : JOB_STEP_MAX);
    l->training = true;
}

static void take_outcome(struct local *l, enum collective_outcome outcome, struct algo_actions *acts)
{
    if (outcome == COLLECTIVE_NONE) return;
    l->done = 0;
    if (outcome == COLLECTIVE_AVERAGE) {
        vec_copy(l->dim, collective_average(l->average), l->x);
        l->report.mixes++;
    }
    if (!l->training) train(l, acts);
}

static void trained(struct local *l, const struct algo_event *event, struct algo_actions *acts)
{
    CHECK(l->training);
    l->training = false;
    for (size_t i = 0; i < l->dim; i++) l->x[i] += event->trained.delta[i];
    l->report.steps += event->trained.steps;
    l->done += event->trained.steps;
    if (l->every == 0 || l->done < l->every) {
        train(l, acts);
        return;
    }
    struct collective_counts before, after;
    collective_counts(l->average, &before);
    uint32_t steps = l->done;
    take_outcome(l, collective_begin(l->average, event->now_us, l->x, acts), acts);
    collective_counts(l->average, &after);
    if (after.contributed > before.contributed) l->report.steps_handed_over += steps;
}

static int averaging(struct local *l, const struct algo_event *event, struct algo_actions *acts)
{
    struct collective_counts before, after;
    collective_counts(l->average, &before);
    uint32_t steps = l->done;
    enum collective_outcome outcome;
    int err = collective_step(l->average, event, acts, &outcome);
    if (err != 0) return err;
    take_outcome(l, outcome, acts);
    collective_counts(l->average, &after);
    if (after.contributed > before.contributed) l->report.steps_handed_over += steps;
    return 0;
}

static int local_step(struct algo *a, const struct algo_event *event, struct algo_actions *acts)
{
    struct local *l = local_of(a);
    switch (event->kind) {
    case ALGO_START:
        train(l, acts);
        return 0;
    case ALGO_TRAINED:
        trained(l, event, acts);
        return 0;
    case ALGO_MESSAGE:
        return l->average != NULL ? averaging(l, event, acts) : ERR_PROTO;
    case ALGO_PEER_UP:
    case ALGO_PEER_DOWN:
    case ALGO_DEADLINE:
        return l->average != NULL ? averaging(l, event, acts) : 0;
    }
    UNREACHABLE();
}

static uint64_t local_deadline_us(const struct algo *a)
{
    const struct local *l = local_of_const(a);
    return l->average != NULL ? collective_deadline_us(l->average) : TIME_NEVER;
}

static const float *local_model(const struct algo *a)
{
    return local_of_const(a)->x;
}

static void local_report(const struct algo *a, struct algo_report *out)
{
    const struct local *l = local_of_const(a);
    *out = l->report;
    if (l->average == NULL) return;
    struct collective_counts counts;
    collective_counts(l->average, &counts);
    out->model_transfers = counts.model_transfers;
    out->duplicates_dropped = counts.late_dropped;
    out->version = collective_round(l->average);
}

static void local_state_save(const struct algo *a, struct state_writer *out)
{
    const struct local *l = local_of_const(a);
    if (l->average != NULL) collective_state_save(l->average, out);
}

static int local_state_restore(struct algo *a, struct state_reader *in, struct err_text *why)
{
    struct local *l = local_of(a);
    if (l->average == NULL) return err_set(why, ERR_FORMAT, "every=0 keeps nothing beside the model");
    return collective_state_restore(l->average, in, why);
}

const struct algo_type local_type = {
    .spec = {"local", "local SGD, averaged over all nodes every so many steps",
             "McMahan et al. 2017; Stich 2019", local_params, sizeof local_params / sizeof local_params[0]},
    .eval = ALGO_EVAL_AVERAGE,
    .packs = true,
    .compresses = true,
    .by_tensor = true,
    .omega_min = 0.99,
    .create = local_create,
    .destroy = local_destroy,
    .step = local_step,
    .deadline_us = local_deadline_us,
    .model = local_model,
    .report = local_report,
    .state_version = 1,
    .state_save = local_state_save,
    .state_restore = local_state_restore,
};

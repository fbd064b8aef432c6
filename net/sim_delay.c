/* Delays of the simulated world: how long a message takes (--latency) and how long a local step takes
 * (--step-time). Both tables and every draw; the streams are the callers', one per ordered link or node. */
#include <math.h>

#include "base/check.h"
#include "net/sim_internal.h"

#define SECONDS_MAX 1e6
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

enum { LATENCY_TRANSFER, LATENCY_EXP, LATENCY_FIXED, LATENCY_UNIFORM };
enum { STEP_CONSTANT, STEP_UNIFORM, STEP_EXP };

static const struct param_spec transfer_params[] = {
    {"shift", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "least time of a message with a body"},
    {"low", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "smallest mean of a link"},
    {"high", PARAM_TIME, "9s", 0, SECONDS_MAX, NULL, "largest mean of a link"},
    {"control", PARAM_TIME, "0s", 0, SECONDS_MAX, NULL, "time of a message without a body"},
};
static const struct param_spec exp_params[] = {
    {"mean", PARAM_TIME, "50ms", 0, SECONDS_MAX, NULL, "mean of every message"},
};
static const struct param_spec fixed_params[] = {
    {"delay", PARAM_TIME, "1ms", 0, SECONDS_MAX, NULL, "time of every message"},
};
static const struct param_spec uniform_params[] = {
    {"low", PARAM_TIME, "1ms", 0, SECONDS_MAX, NULL, "least time of a message"},
    {"high", PARAM_TIME, "9ms", 0, SECONDS_MAX, NULL, "greatest time of a message"},
};

const struct choice_spec latency_table[] = {
    [LATENCY_TRANSFER] = {"transfer", "a mean per link; bodies take shift + Exp(mean)",
                          "DIGEST, arXiv:2307.07652", transfer_params, COUNT_OF(transfer_params)},
    [LATENCY_EXP] = {"exp", "exponential, drawn per message", "", exp_params, COUNT_OF(exp_params)},
    [LATENCY_FIXED] = {"fixed", "the same for every message", "", fixed_params, COUNT_OF(fixed_params)},
    [LATENCY_UNIFORM] = {"uniform", "drawn per message", "", uniform_params, COUNT_OF(uniform_params)},
};
const size_t latency_table_count = COUNT_OF(latency_table);

static const struct param_spec constant_params[] = {
    {"value", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "time of every step"},
};
static const struct param_spec step_uniform_params[] = {
    {"low", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "fastest node"},
    {"high", PARAM_TIME, "5s", 0, SECONDS_MAX, NULL, "slowest node"},
};
static const struct param_spec step_exp_params[] = {
    {"mean", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "mean of every step"},
};

const struct choice_spec step_time_table[] = {
    [STEP_CONSTANT] = {"constant", "the same for every step", "", constant_params, COUNT_OF(constant_params)},
    [STEP_UNIFORM] = {"uniform", "drawn once per node", "", step_uniform_params,
                      COUNT_OF(step_uniform_params)},
    [STEP_EXP] = {"exp", "exponential, drawn per step", "", step_exp_params, COUNT_OF(step_exp_params)},
};
const size_t step_time_table_count = COUNT_OF(step_time_table);

static uint64_t seconds_to_us(double seconds)
{
    return (uint64_t)(seconds * 1e6 + 0.5);
}

void sim_latency_init(struct sim_latency *l, const struct choice *c)
{
    CHECK(c->spec == &latency_table[c->index]);
    *l = (struct sim_latency){.kind = c->index};
    switch (c->index) {
    case LATENCY_TRANSFER:
        l->shift_s = choice_number(c, "shift");
        l->low_s = choice_number(c, "low");
        l->high_s = choice_number(c, "high");
        l->control_s = choice_number(c, "control");
        return;
    case LATENCY_EXP:
        l->mean_s = choice_number(c, "mean");
        return;
    case LATENCY_FIXED:
        l->mean_s = choice_number(c, "delay");
        return;
    case LATENCY_UNIFORM:
        l->low_s = choice_number(c, "low");
        l->high_s = choice_number(c, "high");
        l->mean_s = 0.5 * (l->low_s + l->high_s);
        return;
    }
    UNREACHABLE();
}

double sim_latency_mean_s(const struct sim_latency *l, uint64_t seed, uint64_t link)
{
    if (l->kind != LATENCY_TRANSFER || l->high_s <= l->low_s)
        return l->kind == LATENCY_TRANSFER ? l->low_s : l->mean_s;
    struct prng p;
    prng_split(&p, seed, "sim link mean", link);
    return l->low_s + prng_below(&p, (uint32_t)floor(l->high_s - l->low_s) + 1);
}

uint64_t sim_latency_draw_us(const struct sim_latency *l, struct prng *p, double mean_s, bool body)
{
    switch (l->kind) {
    case LATENCY_TRANSFER:
        return seconds_to_us(body ? l->shift_s + prng_exponential(p, mean_s) : l->control_s);
    case LATENCY_EXP:
        return seconds_to_us(prng_exponential(p, mean_s));
    case LATENCY_FIXED:
        return seconds_to_us(mean_s);
    case LATENCY_UNIFORM:
        return seconds_to_us(prng_uniform(p, l->low_s, l->high_s));
    }
    UNREACHABLE();
}

void sim_step_time_init(struct sim_step_time *s, const struct choice *c)
{
    CHECK(c->spec == &step_time_table[c->index]);
    *s = (struct sim_step_time){.kind = c->index};
    switch (c->index) {
    case STEP_CONSTANT:
        s->mean_s = choice_number(c, "value");
        return;
    case STEP_UNIFORM:
        s->low_s = choice_number(c, "low");
        s->high_s = choice_number(c, "high");
        return;
    case STEP_EXP:
        s->mean_s = choice_number(c, "mean");
        return;
    }
    UNREACHABLE();
}

double sim_step_time_node_s(const struct sim_step_time *s, struct prng *p)
{
    return s->kind == STEP_UNIFORM ? prng_uniform(p, s->low_s, s->high_s) : s->mean_s;
}

uint64_t sim_step_time_draw_us(const struct sim_step_time *s, struct prng *p, double node_s, uint32_t steps)
{
    if (steps == 0) return 0;
    if (s->kind != STEP_EXP) return seconds_to_us(node_s * steps);
    /* A sum of `steps` exponentials is a gamma variable of that shape. */
    return seconds_to_us(steps == 1 ? prng_exponential(p, s->mean_s) : s->mean_s * prng_gamma(p, steps));
}

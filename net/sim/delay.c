/* Delays of the simulated world: how long a message takes (--latency). The table and every draw; the streams
 * are the callers', one per ordered link. */
#include <math.h>

#include "base/check.h"
#include "net/sim/internal.h"

#define SECONDS_MAX 1e6
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

enum { LATENCY_TRANSFER, LATENCY_EXP, LATENCY_FIXED, LATENCY_UNIFORM };

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

double sim_latency_control_s(const struct choice *latency)
{
    struct sim_latency l;
    sim_latency_init(&l, latency);
    return l.kind == LATENCY_TRANSFER ? l.control_s : l.mean_s;
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

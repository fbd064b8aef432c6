/* How long a local step takes in the simulated world (--step-time) and how much slower each node is
 * (--speeds): both tables and every draw. The streams are the callers', one per node.
 *
 * The speed scales the parameter of a node's law, not the time drawn: Poisson(s), floor |N(s, s)| + 1 and
 * floor U(0, s) + 1 with s = 1, 2, ... are the delays of AsGrad's experiments. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/sim/internal.h"

#define SECONDS_MAX 1e6
#define UNIT_MIN_S 1e-3 /* so that a step has at most 1e9 units */
#define SLOWNESS_MIN 1e-3
#define SLOWNESS_MAX 1e3
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

enum { STEP_CONSTANT, STEP_UNIFORM, STEP_EXP, STEP_POISSON, STEP_NORMAL, STEP_JITTER };
enum { SPEEDS_EQUAL, SPEEDS_LINEAR, SPEEDS_UNIFORM, SPEEDS_LIST };

/* -- tables ------------------------------------------------------------------------------------ */

static const struct param_spec constant_params[] = {
    {"value", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "time of every step"},
};
static const struct param_spec uniform_params[] = {
    {"low", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "fastest node"},
    {"high", PARAM_TIME, "5s", 0, SECONDS_MAX, NULL, "slowest node"},
};
static const struct param_spec exp_params[] = {
    {"mean", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "mean of every step"},
};
static const struct param_spec poisson_params[] = {
    {"mean", PARAM_TIME, "1s", UNIT_MIN_S, SECONDS_MAX, NULL, "mean of every step"},
    {"unit", PARAM_TIME, "1s", UNIT_MIN_S, SECONDS_MAX, NULL, "a step is a whole number of these, or 0"},
};
static const struct param_spec scale_params[] = {
    {"scale", PARAM_TIME, "1s", 0, SECONDS_MAX, NULL, "s"},
    {"unit", PARAM_TIME, "1s", UNIT_MIN_S, SECONDS_MAX, NULL, "a step is a whole number of these"},
};

#define ASGRAD "AsGrad, arXiv:2310.20452"

const struct choice_spec step_time_table[] = {
    [STEP_CONSTANT] = {"constant", "the same for every step", "", constant_params, COUNT_OF(constant_params)},
    [STEP_UNIFORM] = {"uniform", "drawn once per node", "", uniform_params, COUNT_OF(uniform_params)},
    [STEP_EXP] = {"exp", "exponential, drawn per step", "", exp_params, COUNT_OF(exp_params)},
    [STEP_POISSON] = {"poisson", "Poisson, drawn per step", ASGRAD, poisson_params, COUNT_OF(poisson_params)},
    [STEP_NORMAL] = {"normal", "floor |N(s, s)| + 1 units, drawn per step", ASGRAD, scale_params,
                     COUNT_OF(scale_params)},
    [STEP_JITTER] = {"jitter", "floor U(0, s) + 1 units, drawn per step", ASGRAD, scale_params,
                     COUNT_OF(scale_params)},
};
const size_t step_time_table_count = COUNT_OF(step_time_table);

static const struct param_spec speeds_uniform_params[] = {
    {"low", PARAM_REAL, "1", SLOWNESS_MIN, SLOWNESS_MAX, NULL, "times slower, least"},
    {"high", PARAM_REAL, "10", SLOWNESS_MIN, SLOWNESS_MAX, NULL, "times slower, greatest"},
};
static const struct param_spec speeds_list_params[] = {
    {"values", PARAM_TEXT, NULL, 0, 0, NULL, "times slower, node by node, as in 1-1-4; then repeated"},
};

const struct choice_spec speeds_table[] = {
    [SPEEDS_EQUAL] = {"equal", "all nodes alike", "", NULL, 0},
    [SPEEDS_LINEAR] = {"linear", "node v is v + 1 times slower", ASGRAD, NULL, 0},
    [SPEEDS_UNIFORM] = {"uniform", "drawn once per node", "", speeds_uniform_params,
                        COUNT_OF(speeds_uniform_params)},
    [SPEEDS_LIST] = {"list", "as given", "", speeds_list_params, COUNT_OF(speeds_list_params)},
};
const size_t speeds_table_count = COUNT_OF(speeds_table);

/* -- speeds ------------------------------------------------------------------------------------ */

static int bad_list(const char *text, struct err_text *why)
{
    return err_set(why, ERR_USAGE,
                   "--speeds: list:values=%s must be numbers from %g to %g with - between them, as in "
                   "list:values=1-1-4",
                   text, SLOWNESS_MIN, SLOWNESS_MAX);
}

static int list_speeds(const char *text, uint32_t node_count, double *slowness, struct err_text *why)
{
    uint32_t count = 0;
    for (const char *at = text;; at++) {
        char *end;
        if (strchr("0123456789.", *at) == NULL || *at == '\0') return bad_list(text, why);
        double value = strtod(at, &end);
        if (!(value >= SLOWNESS_MIN && value <= SLOWNESS_MAX)) return bad_list(text, why);
        if (count < node_count) slowness[count] = value;
        count++;
        at = end;
        if (*at == '\0') break;
        if (*at != '-') return bad_list(text, why);
    }
    for (uint32_t v = count; v < node_count; v++) slowness[v] = slowness[v - count];
    return 0;
}

int sim_speeds(const struct choice *speeds, uint32_t node_count, uint64_t seed, double *slowness,
               struct err_text *why)
{
    CHECK(speeds->spec == &speeds_table[speeds->index]);
    if (speeds->index == SPEEDS_LIST)
        return list_speeds(choice_text(speeds, "values"), node_count, slowness, why);
    for (uint32_t v = 0; v < node_count; v++) {
        struct prng p;
        slowness[v] = 1;
        if (speeds->index == SPEEDS_LINEAR) slowness[v] = v + 1.0;
        if (speeds->index != SPEEDS_UNIFORM) continue;
        prng_split(&p, seed, "sim speed", v);
        slowness[v] = prng_uniform(&p, choice_number(speeds, "low"), choice_number(speeds, "high"));
    }
    return 0;
}

/* -- step times -------------------------------------------------------------------------------- */

/* Many steps of the slowest node can take longer than a run may last: cut there. */
static uint64_t seconds_to_us(double seconds)
{
    return (uint64_t)((seconds < 1e12 ? seconds : 1e12) * 1e6 + 0.5);
}

void sim_step_time_init(struct sim_step_time *s, const struct choice *c)
{
    CHECK(c->spec == &step_time_table[c->index]);
    *s = (struct sim_step_time){.kind = c->index, .unit_s = 1};
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
    case STEP_POISSON:
        s->mean_s = choice_number(c, "mean");
        s->unit_s = choice_number(c, "unit");
        return;
    case STEP_NORMAL:
    case STEP_JITTER:
        s->mean_s = choice_number(c, "scale");
        s->unit_s = choice_number(c, "unit");
        return;
    }
    UNREACHABLE();
}

/* E floor |N(s, s)| is that of |N(s, s)| less about a half: 1.167 s - 0.5, and U's s / 2 less as much. */
double sim_step_time_mean_s(const struct choice *step_time)
{
    struct sim_step_time s;
    sim_step_time_init(&s, step_time);
    switch (s.kind) {
    case STEP_UNIFORM:
        return 0.5 * (s.low_s + s.high_s);
    case STEP_NORMAL:
        return 1.167 * s.mean_s + 0.5 * s.unit_s;
    case STEP_JITTER:
        return 0.5 * s.mean_s + 0.5 * s.unit_s;
    case STEP_CONSTANT:
    case STEP_EXP:
    case STEP_POISSON:
        return s.mean_s;
    }
    UNREACHABLE();
}

double sim_step_time_node_s(const struct sim_step_time *s, struct prng *p, double slowness)
{
    return slowness * (s->kind == STEP_UNIFORM ? prng_uniform(p, s->low_s, s->high_s) : s->mean_s);
}

/* Of `steps` steps, each a whole number of units: the sum. */
static double draw_units(const struct sim_step_time *s, struct prng *p, double units, uint32_t steps)
{
    double sum = 0;
    for (uint32_t i = 0; i < steps; i++)
        sum += s->kind == STEP_NORMAL ? floor(fabs(units + units * prng_normal(p))) + 1
                                      : floor(prng_uniform(p, 0, units)) + 1;
    return sum;
}

uint64_t sim_step_time_draw_us(const struct sim_step_time *s, struct prng *p, double node_s, uint32_t steps)
{
    if (steps == 0) return 0;
    double units = node_s / s->unit_s;
    switch (s->kind) {
    case STEP_CONSTANT:
    case STEP_UNIFORM:
        return seconds_to_us(node_s * steps);
    case STEP_EXP: /* a sum of `steps` exponentials is a gamma variable of that shape */
        return seconds_to_us(steps == 1 ? prng_exponential(p, node_s) : node_s * prng_gamma(p, steps));
    case STEP_POISSON: /* ... of Poisson variables one of the summed mean, which has a limit */
        if (units * steps > 1e9) return seconds_to_us(node_s * steps);
        return seconds_to_us(s->unit_s * prng_poisson(p, units * steps));
    case STEP_NORMAL:
    case STEP_JITTER:
        return seconds_to_us(s->unit_s * draw_units(s, p, units, steps));
    }
    UNREACHABLE();
}

/* SGD with momentum, and the step-size rules. */
#include "algo/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/vec.h"
#include "algo/vec_lanes.h"
#include "base/check.h"
#include "base/err.h"

/* Positions in step_size_table and of the parameters: the rule is asked in every step, so values are read by
 * position and not looked up by name. */
enum { RULE_CONSTANT, RULE_INVERSE, RULE_COSINE };
enum { CONSTANT_VALUE };
enum { INVERSE_SCALE, INVERSE_OFFSET };
enum { COSINE_VALUE, COSINE_STEPS, COSINE_LOW };

static const struct param_spec constant_params[] = {
    [CONSTANT_VALUE] = {"value", PARAM_REAL, "0.05", 0, 1e6, NULL, "step size"},
};
static const struct param_spec inverse_params[] = {
    [INVERSE_SCALE] = {"scale", PARAM_REAL, "10", 0, 1e9, NULL, "numerator"},
    [INVERSE_OFFSET] = {"offset", PARAM_REAL, "100", 1e-9, 1e12, NULL, "added to the step count"},
};
static const struct param_spec cosine_params[] = {
    [COSINE_VALUE] = {"value", PARAM_REAL, "0.1", 0, 1e6, NULL, "first step size"},
    [COSINE_STEPS] = {"steps", PARAM_INTEGER, "1000", 1, 1e15, NULL, "steps from value to low"},
    [COSINE_LOW] = {"low", PARAM_REAL, "0", 0, 1e6, NULL, "last step size"},
};

#define PARAMS(p) (p), sizeof(p) / sizeof(p)[0]
const struct choice_spec step_size_table[] = {
    [RULE_CONSTANT] = {"constant", "the same in every step", "", PARAMS(constant_params)},
    [RULE_INVERSE] = {"inverse", "scale / (t + offset), t = local steps done", "Robbins, Monro 1951",
                      PARAMS(inverse_params)},
    [RULE_COSINE] = {"cosine", "half a cosine from value down to low, then low", "Loshchilov, Hutter 2017",
                     PARAMS(cosine_params)},
};
const size_t step_size_table_count = sizeof step_size_table / sizeof step_size_table[0];

double step_size_at(const struct choice *rule, uint64_t t)
{
    const struct param_value *value = rule->value;
    switch (rule->index) {
    case RULE_CONSTANT:
        return value[CONSTANT_VALUE].number;
    case RULE_INVERSE:
        return value[INVERSE_SCALE].number / ((double)t + value[INVERSE_OFFSET].number);
    case RULE_COSINE: {
        double high = value[COSINE_VALUE].number, low = value[COSINE_LOW].number,
               steps = value[COSINE_STEPS].number;
        if ((double)t >= steps) return low;
        return low + 0.5 * (high - low) * (1.0 + cos(3.141592653589793 * (double)t / steps));
    }
    }
    UNREACHABLE();
}

void sgd_init(struct sgd *s, size_t dim, const struct choice *rule, double momentum)
{
    CHECK(rule->spec == &step_size_table[rule->index]);
    CHECK(momentum >= 0 && momentum < 1);
    *s = (struct sgd){.dim = dim, .momentum = momentum, .scale = 1, .stretch = 1, .rule = *rule};
    if (momentum > 0) s->velocity = mem_new_zero(dim, sizeof *s->velocity);
}

void sgd_deinit(struct sgd *s)
{
    free(s->velocity);
    s->velocity = NULL;
}

static void step_plain(size_t n, float eta, float *x, const float *grad)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) lanes_store(x + i, lanes_load(x + i) - eta * lanes_load(grad + i));
    for (; i < n; i++) x[i] -= eta * grad[i];
}

static void step_momentum(size_t n, float eta, float momentum, float *x, float *velocity, const float *grad)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes v = momentum * lanes_load(velocity + i) + lanes_load(grad + i);
        lanes_store(velocity + i, v);
        lanes_store(x + i, lanes_load(x + i) - eta * v);
    }
    for (; i < n; i++) {
        velocity[i] = momentum * velocity[i] + grad[i];
        x[i] -= eta * velocity[i];
    }
}

void sgd_step(struct sgd *s, float *x, const float *grad)
{
    float eta = (float)(step_size_at(&s->rule, s->t / s->stretch) * s->scale);
    if (s->velocity == NULL)
        step_plain(s->dim, eta, x, grad);
    else
        step_momentum(s->dim, eta, (float)s->momentum, x, s->velocity, grad);
    s->t++;
}

size_t sgd_state_size(const struct sgd *s)
{
    return sizeof s->t + (s->velocity != NULL ? s->dim * sizeof *s->velocity : 0);
}

void sgd_save(const struct sgd *s, uint8_t *out)
{
    memcpy(out, &s->t, sizeof s->t);
    if (s->velocity != NULL) memcpy(out + sizeof s->t, s->velocity, s->dim * sizeof *s->velocity);
}

int sgd_restore(struct sgd *s, const uint8_t *state, size_t size)
{
    if (size != sgd_state_size(s)) return ERR_FORMAT;
    if (s->velocity != NULL) {
        float *velocity = mem_new(s->dim, sizeof *velocity); /* of its own: state need not be aligned */
        memcpy(velocity, state + sizeof s->t, s->dim * sizeof *velocity);
        if (!vec_finite(s->dim, velocity)) {
            free(velocity);
            return ERR_FORMAT;
        }
        free(s->velocity);
        s->velocity = velocity;
    }
    memcpy(&s->t, state, sizeof s->t);
    return 0;
}

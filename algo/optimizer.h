/* SGD with momentum over a flat vector, and the step-size rules. */
#ifndef GADABOUT_ALGO_OPTIMIZER_H
#define GADABOUT_ALGO_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/choice.h"

/* constant:value=0.05         eta_t = value
 * inverse:scale=10,offset=100 eta_t = scale / (t + offset)     (t counts local steps from 0)
 * cosine:value=0.1,steps=1000,low=0  from value down to low over `steps`, then low */
extern const struct choice_spec step_size_table[];
extern const size_t step_size_table_count;

double step_size_at(const struct choice *rule, uint64_t t);

struct sgd {
    size_t dim;
    double momentum;  /* 0 = plain SGD */
    double scale;     /* multiplies every step (n * w_v for reweighted gossip), normally 1 */
    uint64_t t;       /* steps done */
    uint64_t stretch; /* the schedule moves on by one every `stretch` steps, normally 1 */
    struct choice rule;
    float *velocity; /* (dim) owned; NULL without momentum */
};

void sgd_init(struct sgd *s, size_t dim, const struct choice *rule, double momentum);
void sgd_deinit(struct sgd *s);

/* v = momentum v + grad; x -= eta_(t / stretch) * scale * v; t += 1. x, grad are (dim). */
void sgd_step(struct sgd *s, float *x, const float *grad);

/* What the next steps depend on: t and the momentum vector. sgd_save writes sgd_state_size bytes; sgd_restore takes
 * them up in an optimizer of the same dim and kind, or returns ERR_FORMAT and changes nothing. */
size_t sgd_state_size(const struct sgd *s);
void sgd_save(const struct sgd *s, uint8_t *out);
int sgd_restore(struct sgd *s, const uint8_t *state, size_t size);

#endif

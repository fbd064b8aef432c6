/* Who does the gradient work. An algorithm never knows which trainer serves it. */
#ifndef GADABOUT_ALGO_TRAINER_H
#define GADABOUT_ALGO_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"

/* Runs local steps. `run` starts at x (dim, borrowed), does between 1 and max_steps steps (fewer when
 * stop() answers true after a step), writes delta (dim) = x_after - x, adds its losses up and returns the
 * number of steps done. Used by one thread at a time. */
struct trainer {
    uint32_t (*run)(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss_mean);
    void (*free)(struct trainer *t); /* takes t */
    bool (*stop)(void *ctx);         /* NULL, or asked after each step: enough for this job? */
    void *stop_ctx;
    /* NULL = no state. save: all that the next steps depend on beside x (place in the schedule, momentum, random
     * stream); returns owned. restore: takes up what save of a trainer of the same configuration and dim has
     * returned, and goes on as that one would have, bit for bit; ERR_FORMAT when it is not such a state: nothing
     * has changed then. Neither while run() runs. */
    struct blob *(*save)(const struct trainer *t);
    int (*restore)(struct trainer *t, const uint8_t *state, size_t size);
};

#endif

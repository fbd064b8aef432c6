/* Who does the gradient work. An algorithm never knows which trainer serves it. */
#ifndef GADABOUT_ALGO_TRAINER_H
#define GADABOUT_ALGO_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

/* Runs local steps. `run` starts at x (dim, borrowed), does between 1 and max_steps steps (fewer when
 * stop() answers true after a step), writes delta (dim) = x_after - x, adds its losses up and returns the
 * number of steps done. Used by one thread at a time. */
struct trainer {
    uint32_t (*run)(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss_mean);
    void (*free)(struct trainer *t); /* takes t */
    bool (*stop)(void *ctx);         /* NULL, or asked after each step: enough for this job? */
    void *stop_ctx;
};

#endif

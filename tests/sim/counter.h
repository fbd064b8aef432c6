/* A trainer of a simulated cluster that counts its steps instead of learning: what it adds to its owner's coordinates
 * is the test's to say. */
#ifndef GADABOUT_TESTS_SIM_COUNTER_H
#define GADABOUT_TESTS_SIM_COUNTER_H

#include <stdint.h>
#include <string.h>

#include "agent/simulation/simulation.h"

struct counter {
    struct trainer base; /* first */
    void *owner;         /* borrowed: the cluster of the test */
    uint32_t place;      /* or the node, where nodes have no places */
};

/* As trainer.run; it sets all of delta. */
typedef uint32_t (*counter_run_fn)(struct trainer *t, const float *x, uint32_t max_steps, float *delta,
                                   double *loss);

/* For simulation_setup.trainer_new. *out is owned by the simulation. */
int counter_make(counter_run_fn run, void *owner, uint32_t place, struct trainer **out);

/* The n-th word of what sim_observe tells of an event. */
static inline uint64_t observed_word(const uint8_t *bytes, size_t n)
{
    uint64_t word;
    memcpy(&word, bytes + 8 * n, sizeof word);
    return word;
}

#endif

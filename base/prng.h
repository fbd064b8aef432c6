/* Seeded random numbers: xoshiro256** (Blackman, Vigna 2018), seeded through splitmix64. No global
 * state. Streams that serve different concerns come from prng_split with different labels, so that a
 * new concern never reshuffles an old one. */
#ifndef GADABOUT_BASE_PRNG_H
#define GADABOUT_BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t word[4];
};

void prng_seed(struct prng *p, uint64_t seed);

/* Starts an independent stream that is a function of (seed, label, index) only. */
void prng_split(struct prng *p, uint64_t seed, const char *label, uint64_t index);

uint64_t prng_next(struct prng *p);
uint32_t prng_below(struct prng *p, uint32_t bound); /* uniform in [0, bound), bound > 0, no modulo bias */
double prng_unit(struct prng *p);                    /* uniform in [0, 1), 53 bits */
double prng_uniform(struct prng *p, double low, double high);
double prng_exponential(struct prng *p, double mean);
double prng_normal(struct prng *p);              /* mean 0, variance 1; two uniforms per call */
double prng_gamma(struct prng *p, double shape); /* scale 1; Marsaglia and Tsang 2000 */
double prng_poisson(struct prng *p, double mean); /* a whole number; mean in 0..1e9 */
void prng_shuffle(struct prng *p, uint32_t *items, uint32_t count); /* Fisher-Yates, in place */

#endif

#include "base/prng.h"

#include <math.h>

#include "base/check.h"

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void prng_seed(struct prng *p, uint64_t seed)
{
    for (int i = 0; i < 4; i++) p->word[i] = splitmix(&seed);
}

void prng_split(struct prng *p, uint64_t seed, const char *label, uint64_t index)
{
    uint64_t state = seed;
    uint64_t mixed = splitmix(&state);
    for (const char *c = label; *c != '\0'; c++) {
        state = mixed ^ (uint8_t)*c;
        mixed = splitmix(&state);
    }
    state = mixed ^ index;
    prng_seed(p, splitmix(&state));
}

uint64_t prng_next(struct prng *p)
{
    uint64_t *s = p->word;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint32_t prng_below(struct prng *p, uint32_t bound)
{
    CHECK(bound > 0);
    uint32_t threshold = (uint32_t)(-bound) % bound; /* Lemire 2019: reject the biased remainder */
    for (;;) {
        uint64_t product = (prng_next(p) >> 32) * (uint64_t)bound;
        if ((uint32_t)product >= threshold) return (uint32_t)(product >> 32);
    }
}

double prng_unit(struct prng *p)
{
    return (double)(prng_next(p) >> 11) * 0x1.0p-53;
}

double prng_uniform(struct prng *p, double low, double high)
{
    return low + (high - low) * prng_unit(p);
}

double prng_exponential(struct prng *p, double mean)
{
    return -mean * log1p(-prng_unit(p));
}

double prng_normal(struct prng *p)
{
    double radius = sqrt(-2.0 * log1p(-prng_unit(p)));
    return radius * cos(6.283185307179586 * prng_unit(p));
}

double prng_gamma(struct prng *p, double shape)
{
    CHECK(shape > 0);
    if (shape < 1) {
        double boost = pow(1.0 - prng_unit(p), 1.0 / shape);
        return boost * prng_gamma(p, shape + 1);
    }
    double d = shape - 1.0 / 3.0;
    double c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = prng_normal(p);
        double v = 1.0 + c * x;
        if (v <= 0) continue;
        v = v * v * v;
        double u = 1.0 - prng_unit(p);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
    }
}

/* Below a mean of 10 by the product of uniforms (Knuth), above by transformed rejection (Hoermann 1993, PTRS),
 * whose cost does not grow with the mean. */
static double poisson_small(struct prng *p, double mean)
{
    double limit = exp(-mean), product = 1.0 - prng_unit(p), count = 0;
    for (; product > limit; count++) product *= 1.0 - prng_unit(p);
    return count;
}

static double poisson_large(struct prng *p, double mean)
{
    double b = 0.931 + 2.53 * sqrt(mean), a = -0.059 + 0.02483 * b;
    double scale = 1.1239 + 1.1328 / (b - 3.4), squeeze = 0.9277 - 3.6224 / (b - 2);
    for (;;) {
        double u = prng_unit(p) - 0.5, v = 1.0 - prng_unit(p), side = 0.5 - fabs(u);
        if (side <= 0) continue;
        double k = floor((2 * a / side + b) * u + mean + 0.43);
        if (side >= 0.07 && v <= squeeze) return k;
        if (k < 0 || (side < 0.013 && v > side)) continue;
        int sign;
        double log_probability = k * log(mean) - mean - lgamma_r(k + 1, &sign);
        if (log(v * scale / (a / (side * side) + b)) <= log_probability) return k;
    }
}

double prng_poisson(struct prng *p, double mean)
{
    CHECK(mean >= 0 && mean <= 1e9);
    if (mean == 0) return 0;
    return mean < 10 ? poisson_small(p, mean) : poisson_large(p, mean);
}

void prng_shuffle(struct prng *p, uint32_t *items, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = prng_below(p, i);
        uint32_t swapped = items[i - 1];
        items[i - 1] = items[j];
        items[j] = swapped;
    }
}

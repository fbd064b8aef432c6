/* A double carried by float32 coordinates, so that tests of sums and means can compare to 1e-12 and better
 * though models are float32.
 *
 * A scalar v takes LIMB_COUNT neighbouring coordinates. The first holds v rounded to a multiple of 2^-12, the
 * second what is left rounded to a multiple of 2^-28, the third the rest, a multiple of 2^-44. Every limb is
 * an integer of at most about 17 bits times its grid, and float32 has 24: so adding up to 64 limbs, and
 * halving such sums up to five times (means over 2, 4, 8), is exact, whatever the order. The value is the sum
 * of the limbs in double.
 *
 *   range      |v| < 16, and the same for every sum before its division
 *   precision  2^-45 = 3e-14 per delta; means over other counts than powers of two round at 2^-24 of each
 *   limb
 *
 * A trainer reads limb_value(x), computes the new value in double and writes the difference with limb_split:
 * the limbs of the model are sums of such, and over thousands of updates they would outgrow their 24 bits:
 * limb_carry moves an eighth of what a limb holds too much into the one before it (an eighth, as several
 * stale deltas may carry the same excess). */
#ifndef GADABOUT_TESTS_UNIT_LIMBS_H
#define GADABOUT_TESTS_UNIT_LIMBS_H

#include <math.h>

enum { LIMB_COUNT = 3 };

static inline double limb_value(const float *limb)
{
    return (double)limb[0] + (double)limb[1] + (double)limb[2];
}

static const double limb_grid[LIMB_COUNT] = {0x1p-12, 0x1p-28, 0x1p-44};

static inline void limb_split(double value, float *limb)
{
    for (int i = 0; i < LIMB_COUNT; i++) {
        double part = nearbyint(value / limb_grid[i]) * limb_grid[i];
        limb[i] = (float)part;
        value -= part;
    }
}

/* Adds to delta, of value zero in all, what brings the limbs of x nearer to their grids. */
static inline void limb_carry(const float *x, float *delta)
{
    for (int i = LIMB_COUNT - 1; i > 0; i--) {
        double carry = nearbyint((double)x[i] / 8 / limb_grid[i - 1]) * limb_grid[i - 1];
        delta[i] = (float)((double)delta[i] - carry);
        delta[i - 1] = (float)((double)delta[i - 1] + carry);
    }
}

#endif

/* Four floats at a time, with GCC's vector extension. Private to the kernels of algo/.
 *
 * Why not leave it to the compiler: GCC does not vectorise loops of unknown length at -O2, and floating-point
 * sums never without fast-math. With explicit lanes the order of every sum is in the source, so results are
 * the same at every optimisation level, under sanitizers and on every processor (16-byte vectors are native
 * on x86-64 and ARM64). */
#ifndef GADABOUT_ALGO_VEC_LANES_H
#define GADABOUT_ALGO_VEC_LANES_H

#include <stddef.h>

#define LANES 4u

typedef float lanes __attribute__((vector_size(16)));
typedef float lanes_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

static inline lanes lanes_load(const float *x)
{
    return *(const lanes_unaligned *)x;
}

static inline void lanes_store(float *x, lanes v)
{
    *(lanes_unaligned *)x = v;
}

static inline lanes lanes_all(float x)
{
    return (lanes){x, x, x, x};
}

#endif

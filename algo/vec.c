/* Elementwise helpers and norms, the same for every kernel set. */
#include "algo/vec.h"

#include <math.h>
#include <string.h>

#include "algo/vec_lanes.h"
#include "base/check.h"

void vec_copy(size_t n, const float *x, float *y)
{
    if (n > 0) memmove(y, x, n * sizeof *x);
}

float *vec_duplicate(size_t n, const float *x)
{
    float *y = mem_new(n, sizeof *y);
    vec_copy(n, x, y);
    return y;
}

void vec_zero(size_t n, float *x)
{
    if (n > 0) memset(x, 0, n * sizeof *x);
}

void vec_scale(size_t n, float alpha, float *x)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) lanes_store(x + i, alpha * lanes_load(x + i));
    for (; i < n; i++) x[i] *= alpha;
}

void vec_sub(size_t n, const float *x, const float *y, float *out)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) lanes_store(out + i, lanes_load(x + i) - lanes_load(y + i));
    for (; i < n; i++) out[i] = x[i] - y[i];
}

void vec_mean2(size_t n, const float *x, const float *y, float *out)
{
    /* Halving first cannot overflow, and differs from (x + y) / 2 only below the smallest normal numbers. */
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(out + i, 0.5f * lanes_load(x + i) + 0.5f * lanes_load(y + i));
    for (; i < n; i++) out[i] = 0.5f * x[i] + 0.5f * y[i];
}

double vec_norm2(size_t n, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

double vec_distance2(size_t n, const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)x[i] - (double)y[i];
        sum += difference * difference;
    }
    return sqrt(sum);
}

bool vec_finite(size_t n, const float *x)
{
    /* 0 * x is 0 for a finite x and NaN otherwise, and a sum keeps a NaN. */
    lanes sum = lanes_all(0);
    float rest = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) sum += 0.0f * lanes_load(x + i);
    for (; i < n; i++) rest += 0.0f * x[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]) + rest == 0.0f;
}

/* Lags in classes of equal ratio: eight to an octave, so that a life of any length takes the same room. */
#include "agent/report/lag.h"

#include "base/check.h"

/* Below LAG_SPLIT a class holds one value; above it the three bits behind the leading one choose. */
static uint32_t class_of(uint64_t us)
{
    if (us < LAG_SPLIT) return (uint32_t)us;
    uint32_t leading = 63u - (uint32_t)__builtin_clzll(us), octave = leading - 2;
    if (octave > LAG_OCTAVES) return LAG_CLASSES - 1;
    return octave * LAG_SPLIT + (uint32_t)((us >> (leading - 3)) & (LAG_SPLIT - 1));
}

/* The greatest value of a class. */
static uint64_t bound_of(uint32_t c)
{
    if (c < LAG_SPLIT) return c;
    uint32_t octave = c / LAG_SPLIT;
    return ((uint64_t)(LAG_SPLIT + c % LAG_SPLIT + 1) << (octave - 1)) - 1;
}

void lag_add(struct lag *l, uint64_t lag_us, uint64_t period_us)
{
    CHECK(period_us > 0);
    if (lag_us > l->max_us) l->max_us = lag_us;
    if (lag_us > l->recent_max_us) l->recent_max_us = lag_us;
    for (;;) {
        l->count[class_of(lag_us)]++;
        l->total++;
        if (lag_us < period_us) return;
        lag_us -= period_us;
    }
}

uint64_t lag_percentile_us(const struct lag *l, double share)
{
    uint64_t below = 0;
    for (uint32_t c = 0; c < LAG_CLASSES; c++) {
        below += l->count[c];
        if (below == 0 || (double)below < share * (double)l->total) continue;
        uint64_t bound = c < LAG_CLASSES - 1 ? bound_of(c) : UINT64_MAX; /* the last one has no end */
        return bound < l->max_us ? bound : l->max_us;
    }
    return l->max_us;
}

uint64_t lag_take_max(struct lag *l)
{
    uint64_t max_us = l->recent_max_us;
    l->recent_max_us = 0;
    return max_us;
}

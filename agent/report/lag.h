/* How late a loop is: the time between the moment a timer was due and its callback. */
#ifndef GADABOUT_AGENT_REPORT_LAG_H
#define GADABOUT_AGENT_REPORT_LAG_H

#include <stdint.h>

enum {
    LAG_SPLIT = 8,    /* classes per octave: a percentile is at most an eighth too large */
    LAG_OCTAVES = 37, /* up to 2^40 us */
    LAG_CLASSES = LAG_SPLIT * (LAG_OCTAVES + 1)
};

struct lag {
    uint64_t count[LAG_CLASSES];
    uint64_t total, max_us;
    uint64_t recent_max_us; /* since lag_take_max */
};

/* A callback that was due every period_us came lag_us late. While a loop stands still no timer fires at all, so those
 * that would have been due meanwhile are counted too, each later by one period: a stall weighs as much as it lasts. */
void lag_add(struct lag *l, uint64_t lag_us, uint64_t period_us);

/* What `share` of all callbacks did not exceed, rounded up to a class, at most the greatest lag; 0 = none yet. */
uint64_t lag_percentile_us(const struct lag *l, double share);

/* The greatest lag since the last call. */
uint64_t lag_take_max(struct lag *l);

#endif

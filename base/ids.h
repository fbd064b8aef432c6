/* The few words that both algo/ and net/ use. */
#ifndef GADABOUT_BASE_IDS_H
#define GADABOUT_BASE_IDS_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t node_id; /* who a node is, for as long as its identity lives */
typedef uint32_t rank_t;  /* position of a node among the sorted members of an experiment: 0..n-1 */

#define RANK_NONE UINT32_MAX
#define TIME_NEVER UINT64_MAX /* a deadline that never comes; times are microseconds */

/* start + wait; never when either is, or the sum is out of reach. */
static inline uint64_t time_after(uint64_t start_us, uint64_t wait_us)
{
    return start_us > TIME_NEVER - wait_us ? TIME_NEVER : start_us + wait_us;
}

enum lane { LANE_CONTROL, LANE_BULK };

#endif

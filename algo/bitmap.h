/* Maps of ranks as they travel in algo_msg.bits: bit r = rank r, the lowest bit of a byte first. */
#ifndef GADABOUT_ALGO_BITMAP_H
#define GADABOUT_ALGO_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ids.h"

static inline bool bit_get(const uint8_t *map, rank_t r)
{
    return map[r / 8] >> (r % 8) & 1;
}

static inline void bit_set(uint8_t *map, rank_t r)
{
    map[r / 8] = (uint8_t)(map[r / 8] | 1u << (r % 8));
}

#endif

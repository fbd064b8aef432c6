/* The part of a graph that streams cover. Private to the stream files. */
#ifndef GADABOUT_ALGO_STREAMS_PART_H
#define GADABOUT_ALGO_STREAMS_PART_H

#include <stdint.h>

#include "algo/topology/topology.h"

/* Marks in in_part (n) the largest connected part among the alive nodes (alive NULL = all), ties: the part
 * with the lowest rank. Returns its size, 0 when nobody is alive. */
uint32_t streams_part(const struct graph *g, const uint8_t *alive, uint8_t *in_part);

#endif

/* Faults at random for clusters under the algorithm harness, of n nodes in a complete graph. */
#ifndef GADABOUT_TESTS_UNIT_HARNESS_FAULTS_H
#define GADABOUT_TESTS_UNIT_HARNESS_FAULTS_H

#include "base/prng.h"
#include "tests/unit/algo_harness.h"

/* One that is drawn: a node dies or comes back, a link goes down or, half of the time, up. */
void harness_disturb(struct harness *h, struct prng *random, uint32_t n);

/* Twelve in turn, at times that the seed gives: deaths, returns, links that go down; then all is healed. */
void harness_disturb_and_heal(struct harness *h, uint64_t seed, uint32_t n);

#endif

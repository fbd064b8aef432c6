/* What the gossip tests share: making graphs and harnesses, measuring the sum and the agreement. */
#ifndef GADABOUT_TESTS_UNIT_GOSSIP_FIXTURE_H
#define GADABOUT_TESTS_UNIT_GOSSIP_FIXTURE_H

#include "algo/gossip/internal.h"
#include "tests/unit/algo_harness.h"

extern const struct algo_type gossip_type;

enum { NODE_MAX = 16 };
#define SECOND UINT64_C(1000000)
#define PATIENCE UINT64_C(1000000) /* of every harness made here */

/* Builds the topology of the text over n nodes; ends the test when that is impossible. Returns owned. */
struct graph graph_make(const char *text, uint32_t n);

/* A harness with dim = n, x0 = 0 and equal weights. Returns owned. */
struct harness *harness_make(const struct algo_type *type, const char *params, const struct graph *g,
                             uint64_t seed);

const struct gossip *inside(const struct harness *h, rank_t r);
struct algo_report report_of(const struct harness *h, rank_t r);

/* Greatest |sum over nodes of coordinate r - steps of r|: 0 when averaging lost and invented nothing. */
double conservation_error(const struct harness *h, uint32_t n);

/* Greatest distance of any coordinate of any node from its mean. */
double consensus_error(const struct harness *h, uint32_t n);

#endif

/* A configuration, a metrics line and a summary for the tests of the run directory. */
#ifndef GADABOUT_TESTS_UNIT_RUNDIR_FIXTURE_H
#define GADABOUT_TESTS_UNIT_RUNDIR_FIXTURE_H

#include "agent/files/rundir.h"

/* Eight nodes, digest, --classes 9,4, --seed 7; out may be NULL. The caller deinits c. */
void rundir_make_config(enum command command, const char *out, struct config *c);

extern const struct metrics_line rundir_sample_line;

/* Some values unknown; config and lost (one node) are borrowed. */
struct summary rundir_sample_summary(const struct config *c, const struct lost_node *lost);

#endif

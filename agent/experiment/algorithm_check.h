/* Whether the method fits cluster, topology and parameters, asked before anything starts. */
#ifndef GADABOUT_AGENT_EXPERIMENT_ALGORITHM_CHECK_H
#define GADABOUT_AGENT_EXPERIMENT_ALGORITHM_CHECK_H

#include "agent/experiment/experiment.h"

/* Builds the graph and makes the algorithm of rank 0 once and throws both away. *gap (may be NULL) receives the
 * spectral gap of the mixing matrix, NAN for an overlay. Errors: as topology_build and the algorithm's create:
 * ERR_USAGE with why. */
int algorithm_check(const struct experiment *e, double *gap, struct err_text *why);

#endif

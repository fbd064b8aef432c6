/* What a cluster of processes has learnt, from the models its agents wrote. */
#ifndef GADABOUT_AGENT_LAUNCHER_RESULT_H
#define GADABOUT_AGENT_LAUNCHER_RESULT_H

#include <stdbool.h>

#include "agent/experiment/experiment.h"
#include "agent/launcher/launcher.h"

struct result {
    float *x;        /* (dim) owned: weighted average, or the newest model */
    float *average;  /* (dim) owned: weighted average */
    uint32_t models; /* agents whose model was read */
    bool newest;
    double loss, accuracy;     /* of x */
    double accuracy_min;       /* the worst node's own model; NAN = not evaluated */
    double consensus_distance; /* root mean square distance to the average over its norm; NAN if unknown */
    char **file;               /* (models) owned paths */
};

/* Reads folder/nodes/<v>/model.safetensors of every v with use[v]; a missing or unreadable one is left out. With
 * none at all x is the common start. node[v].last.version says which model is the newest. Returns 0; ERR_FORMAT
 * with why for a model of another dimension. */
int result_read(const struct experiment *e, const char *folder, const bool *use,
                const struct launcher_node *node, struct result *out, struct err_text *why);

/* Evaluates x, and with `each` every node's own model, until a signal comes (interrupt.h). There is at least
 * one model. Errors: as experiment_evaluate. */
int result_evaluate(struct experiment *e, bool each, struct result *r, struct err_text *why);

bool result_meets_target(const struct config *c, const struct result *r);
void result_deinit(struct result *r);

#endif

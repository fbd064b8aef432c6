/* One experiment in virtual time, from a configuration to its end: what `gadabout sim` and `gadabout reproduce`
 * share. Repeatable: a function of the configuration, unless a wall-clock limit or Ctrl-C ends it. */
#ifndef GADABOUT_AGENT_SIMULATION_SIM_RUN_H
#define GADABOUT_AGENT_SIMULATION_SIM_RUN_H

#include <stdbool.h>

#include "agent/config/config.h"
#include "agent/experiment/experiment.h"
#include "agent/simulation/sim_faults.h"
#include "agent/simulation/simulation.h"

struct sim_run {
    const struct config *config;  /* borrowed */
    struct experiment experiment; /* the trainers point into the run: it stays where it was opened */
    struct dataset data;
    struct simulation *simulation;
    float *x;                  /* (dim) the result as last evaluated */
    double loss, accuracy;     /* of x; NAN before the first evaluation */
    double began_s;            /* wall clock */
    const char *stopped_by;    /* "steps", "time", "target", "interrupt"; NULL while running */
    bool reached;              /* the asked target */
    struct sim_faults *faults; /* NULL = no --faults */

    /* The owner's, set after sim_run_open; each may be NULL. */
    void *ctx;
    void (*on_report)(void *ctx); /* every report_every_s of virtual time, after an evaluation */
    void (*on_look)(void *ctx);   /* every few hundred events: to show progress */
    void (*on_fault)(void *ctx, const char *text); /* an injected fault begins or ends */
    FILE *faults_log;                              /* borrowed */
};

/* Opens data, split, model and cluster; sums are in a fixed order (vec_ref), so that nothing depends on the
 * processor. Errors: ERR_USAGE, ERR_IO, ERR_FORMAT with why; nothing is to be closed then. */
int sim_run_open(const struct config *config, struct sim_run *out, struct err_text *why);
void sim_run_close(struct sim_run *r);

/* Runs until the virtual time is over, every node has done its steps (for a walking model: all together),
 * the target is reached, the wall time is over or Ctrl-C. Errors: ERR_LIMIT when training diverged. */
int sim_run_to_the_end(struct sim_run *r, struct err_text *why);

/* Evaluates the result so far and folds it into the trace: x, loss, accuracy, reached. */
int sim_run_evaluate(struct sim_run *r, struct err_text *why);

double sim_run_virtual_s(const struct sim_run *r);
double sim_run_wall_s(const struct sim_run *r);        /* since it was opened */
bool sim_run_target_asked(const struct config *c);     /* a loss or an accuracy to reach */
bool sim_run_steps_are_shared(const struct config *c); /* only the node that has the model trains */

#endif

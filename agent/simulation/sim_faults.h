/* A scenario (scenario.h) that drives a simulated cluster. */
#ifndef GADABOUT_AGENT_SIMULATION_SIM_FAULTS_H
#define GADABOUT_AGENT_SIMULATION_SIM_FAULTS_H

#include "agent/scenario/run.h"
#include "agent/simulation/simulation.h"

struct sim_faults;

/* Reads the file. Returns 0 and owned, or the errors of scenario_read. */
int sim_faults_open(const char *path, uint32_t node_count, struct sim_faults **out, struct err_text *why);
void sim_faults_close(struct sim_faults *f);

/* s, log (may be NULL) and say are borrowed until close. */
void sim_faults_begin(struct sim_faults *f, struct simulation *s, FILE *log,
                      void (*say)(void *ctx, const char *text), void *ctx);
uint64_t sim_faults_next_us(const struct sim_faults *f);
/* Between events. A node that cannot be started again: its error. */
int sim_faults_advance(struct sim_faults *f, struct err_text *why);
void sim_faults_finish(struct sim_faults *f); /* all ends */
void sim_faults_totals(const struct sim_faults *f, struct scenario_totals *out);

#endif

/* A scenario in its course: what begins and ends when, whom it concerns, and whether it bit. Pure but for its log:
 * time comes from outside, and what is to be done goes out through operations, for processes (launcher/faults.c)
 * and for simulated nodes (sim_faults.c) alike. */
#ifndef GADABOUT_AGENT_SCENARIO_RUN_H
#define GADABOUT_AGENT_SCENARIO_RUN_H

#include <stdio.h>

#include "agent/scenario/scenario.h"

/* Each returns whether there was something to do it to; then the fault counts as having bitten where no counters
 * tell. A node is told apart by its rank, which is its id. */
struct scenario_ops {
    void *ctx;
    bool (*kill)(void *ctx, uint32_t v, bool comes_back);
    bool (*start)(void *ctx, uint32_t v); /* again; scenario_run_started when it can be told of faults */
    bool (*stop)(void *ctx, uint32_t v);
    bool (*go_on)(void *ctx, uint32_t v);
    /* The node is to have this fault, known to both sides by tag, until heal. False: the node is not there; it is
     * told when it has started. */
    bool (*inject)(void *ctx, uint32_t v, const struct fault_rule *rule, uint32_t tag);
    /* Answered by scenario_run_healed, at once or later; false: there will be no answer. */
    bool (*heal)(void *ctx, uint32_t v, uint32_t tag);
    void (*say)(void *ctx, const char *text); /* a line for the log: a fault begins or ends */
};

struct scenario_totals {
    uint32_t begun;
    uint32_t bit; /* of these; known when they have ended */
};

struct scenario_run;

/* Returns owned. s and what ops points to are borrowed for life; log (faults.jsonl) may be NULL. */
struct scenario_run *scenario_run_new(const struct scenario *s, const struct scenario_ops *ops, FILE *log);
void scenario_run_free(struct scenario_run *r);

uint64_t scenario_run_next_us(const struct scenario_run *r); /* since the start of training; TIME_NEVER */
void scenario_run_advance(struct scenario_run *r, uint64_t now_us); /* begins and ends what is due */

/* What a node's fault had done when it was healed. */
void scenario_run_healed(struct scenario_run *r, uint32_t tag, const struct fault_counts *counts);
void scenario_run_started(struct scenario_run *r,
                          uint32_t v); /* a node is back: it is told of faults again */

/* Ends everything now; nothing begins any more. _close: no answer comes any more; tells what is still owed. */
void scenario_run_finish(struct scenario_run *r, uint64_t now_us);
void scenario_run_close(struct scenario_run *r);
void scenario_run_totals(const struct scenario_run *r, struct scenario_totals *out);

#endif

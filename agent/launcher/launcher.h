/* Starts agents as processes of this machine, follows what they say, and ends them. Used by `gadabout up`.
 * The directory of the run holds nodes/<rank>/ for each agent; their models are there when all have ended. */
#ifndef GADABOUT_AGENT_LAUNCHER_LAUNCHER_H
#define GADABOUT_AGENT_LAUNCHER_LAUNCHER_H

#include "agent/files/rundir.h"
#include "agent/report/progress.h"
#include "agent/scenario/run.h"

/* What became of one agent. */
struct launcher_node {
    struct metrics_line last; /* the newest line of metrics; last.node == RANK_NONE: it never sent one */
    bool lost;                /* it died, did not stop in time, or was killed by a second interrupt */
};

struct launcher_result {
    const char *stopped_by;     /* static: "steps", "time", "target", "interrupt" */
    bool reached;               /* the nodes' mean met the target while they ran */
    struct launcher_node *node; /* (nodes) owned */
    struct lost_node *lost;     /* (lost_count) owned, `how` too, in order of time */
    uint32_t lost_count;
    uint64_t memory_max; /* bytes: the largest agent's anonymous and shared memory (RssAnon + RssShmem of
                                  * /proc/<pid>/status: resident without the pages of program and libraries,
                                  * which all agents share), sampled each interval; 0 = unknown */
    struct scenario_totals faults; /* of the scenario */
    double trained_s;              /* wall seconds of training: from the last agent's ranking to the stop */
};

/* Whether enough files can be opened for as many agents. ERR_LIMIT with the remedy. */
int launcher_check(const struct config *config, struct err_text *why);

/* Runs the whole life of the agents; config is that of `up`, scenario what --faults names or NULL. Metrics go to
 * dir, progress to p. Returns 0 when the run came to its end, with whatever losses; ERR_IO with why when it could
 * not start or all agents died.
 * *out is to be released in both cases. When it returns, SIGINT and SIGTERM are caught (interrupt.h). */
int launcher_run(const struct config *config, const struct scenario *scenario, struct rundir *dir,
                 struct progress *p, struct launcher_result *out, struct err_text *why);
void launcher_result_deinit(struct launcher_result *r);

#endif

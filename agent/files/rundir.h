/* The directory a run leaves: config.yml, metrics.jsonl, summary.json, model.safetensors; of an agent events.jsonl
 * (events.h) beside them. */
#ifndef GADABOUT_AGENT_FILES_RUNDIR_H
#define GADABOUT_AGENT_FILES_RUNDIR_H

#include <stdint.h>
#include <stdio.h>

#include "agent/config/config.h"
#include "agent/experiment/experiment.h"
#include "agent/node/node.h"
#include "agent/scenario/run.h"

/* One line of metrics.jsonl. */
struct metrics_line {
    double time_s; /* since start; virtual in sim */
    rank_t node;
    uint64_t steps, steps_handed_over;
    double loss;     /* training loss, smoothed */
    double accuracy; /* of the node's own model on held-out data; NAN = not evaluated */
    uint32_t links;
    uint64_t bytes_sent, bytes_received, model_transfers, mixes;
    uint64_t tokens_regenerated, rebases, duplicates_dropped, exchanges_torn;
    uint64_t version;
    uint64_t model_steps; /* that the node's model has behind it, fetched ones too; written where it is not `steps` */
    /* written where they are not 0; see algo_report */
    uint64_t rounds, left_out, terms, delay_sum, delay_max, bytes_across;
    double divergence_up, divergence_down;
    double loop_lag_p99_s, loop_lag_max_s; /* of this life; since the line before */
    enum {
        CHECKPOINTS_NONE,
        CHECKPOINTS_OK,
        CHECKPOINTS_FAIL
    } checkpoints; /* "checkpoint_ok": 1, 0; none: absent */
};

/* summary.json. NAN and UINT64_MAX are written as null. */
struct lost_node {
    rank_t node;
    const char *how; /* "killed by signal 9" */
    double time_s;
    uint64_t steps;             /* local steps it had reported */
    uint64_t steps_handed_over; /* of these, passed on to others */
};

struct summary {
    const struct config *config; /* borrowed: algorithm, topology, nodes, task, data, split, seed */
    uint64_t steps_total;
    uint64_t model_steps; /* as in metrics_line */
    double loss, accuracy, accuracy_min, accuracy_alone, accuracy_pooled;
    double consensus_distance;
    double spectral_gap;
    uint64_t bytes_sent, model_transfers;
    uint64_t tokens_regenerated, rebases, duplicates_dropped, exchanges_torn;
    /* sums over nodes, delay_max the greatest; written where they are not 0 */
    uint64_t rounds, left_out, terms, delay_sum, delay_max, bytes_across;
    double divergence_up, divergence_down;
    double wall_s, virtual_s;
    const char *trace_sha256; /* NULL outside sim */
    const char *evaluated_on; /* "held-out" or "train" */
    const char *stopped_by;   /* "steps", "time", "target", "interrupt" */
    const struct lost_node *lost;
    uint32_t lost_count;
    bool faults_given; /* --faults: then faults counts those of the scenario */
    struct scenario_totals faults;
    uint64_t memory_per_agent_max; /* bytes resident, largest agent; 0 = unknown */
};

/* Fills the counters from a report: of one node, or summed over nodes. */
void summary_count(struct summary *s, const struct algo_report *r);

struct rundir {
    char *path; /* owned */
    FILE *metrics;
};

/* Makes the directory (parents too) and writes config.yml. Errors: ERR_IO naming --out and the path, before
 * anything is started. An existing non-empty directory is refused with ERR_USAGE, as is a name of more than
 * RUNDIR_PATH_MAX bytes: what the run puts into it has longer ones. Once there is a directory, Ctrl-C and SIGTERM
 * wait for interrupt_catch or interrupt_release: a directory half made would stay behind. */
#define RUNDIR_PATH_MAX 4000u
/* The directory alone, `out` or runs/<time>-<stem> when that is NULL: owned in *path. Errors likewise. */
int rundir_make(const char *out, const char *stem, char **path, struct err_text *why);
int rundir_open(const struct config *config, struct rundir *out, struct err_text *why);

/* Opens a file of the directory to append lines to; owned. ERR_IO. */
int rundir_append(const struct rundir *r, const char *name, FILE **out, struct err_text *why);

/* What a node reports, as a line; time_s and accuracy are the caller's. */
struct metrics_line metrics_of_node(const struct node_report *r, double time_s, double accuracy);
void rundir_metrics(struct rundir *r, const struct metrics_line *line); /* appends one JSON line, flushed */
int metrics_print(const struct metrics_line *line, FILE *to);           /* the same JSON line */
int metrics_parse(const char *text, struct metrics_line *out);          /* 0 or ERR_FORMAT */

/* Writes model.safetensors: what was learnt is safe before a long judgement begins. Errors: ERR_IO. */
int rundir_save_model(const struct rundir *r, const struct config *config, const float *x, size_t dim,
                      struct err_text *why);

/* Writes the model, if x is not NULL (saved already, or there is none), and summary.json. Errors: ERR_IO. */
int rundir_finish(struct rundir *r, const struct summary *s, const float *x, size_t dim,
                  struct err_text *why);
int summary_print(const struct summary *s, FILE *to); /* the JSON of summary.json */
void rundir_close(struct rundir *r);

#endif

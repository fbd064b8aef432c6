/* What the files of the launcher share: launcher.c (the course of a run), launcher/child.c (one process),
 * launcher/report.c (sums over all, progress), launcher/faults.c (--faults). Private to them. */
#ifndef GADABOUT_AGENT_LAUNCHER_INTERNAL_H
#define GADABOUT_AGENT_LAUNCHER_INTERNAL_H

#include <jansson.h>
#include <uv.h>

#include "agent/launcher/launcher.h"

#define CHILD_LINE_MAX 4096u
#define READ_SIZE 65536u

struct launcher;

/* How far an agent has come by its own words. */
enum child_phase { CHILD_OPENING, CHILD_LISTENING, CHILD_RANKED };

struct child {
    struct launcher *launcher;
    rank_t rank;
    enum child_phase phase;
    uv_process_t process;
    uv_pipe_t out; /* its standard output */
    uv_pipe_t in;  /* its standard input: orders; with --faults only */
    bool started;
    bool comes_back, start_due; /* killed by the scenario, which starts it again; and that time has come */
    bool stopped;               /* by SIGSTOP */
    char address[ADDRESS_TEXT_MAX]; /* where it listens; "" = not told yet */
    uint32_t lives;                 /* before this one */
    uint32_t open_handles;          /* of these; 0 after the start = it is gone and all it said was read */
    int64_t exit_status;
    int exit_signal;
    const char *killed;        /* by us: why (static); NULL = not */
    char line[CHILD_LINE_MAX]; /* the beginning of a line */
    size_t line_size;
    bool line_too_long;         /* the rest of it is thrown away */
    struct metrics_line last;   /* last.node == RANK_NONE: none yet */
    uint64_t steps;             /* as told last */
    uint64_t steps_handed_over; /* of these, told in the same line */
    double loss;                /* of its own model on held-out rows; NAN = not told yet */
    char failure[ERR_TEXT_MAX]; /* why it could not go on; "" */
};

enum launcher_stage { STAGE_STARTING, STAGE_TRAINING, STAGE_SETTLING, STAGE_STOPPING };

struct launcher_faults;

struct launcher {
    const struct config *config;
    struct rundir *dir;
    struct progress *progress;
    struct launcher_result *result;
    enum launcher_stage stage;
    uv_loop_t loop;
    uv_timer_t report, limit; /* limit: of --time, of settling, of stopping */
    uv_signal_t interrupt, terminate;
    uv_timer_t fault_timer;
    uv_handle_t *own[5]; /* (own_count) of these five, those that are open */
    uint32_t own_count;
    struct child *child;            /* (nodes) */
    uint32_t alive;                 /* processes not gone */
    char address[ADDRESS_TEXT_MAX]; /* of agent 0 */
    char program[4096];
    char **arguments; /* (argument_count) of every agent: owned, NULL-terminated */
    size_t argument_count;
    double began_s, ranked_s; /* wall_clock_s */
    struct {
        uint64_t steps;
        double since_s; /* wall_clock_s; 0 = training has not begun */
        bool told;
    } standstill;
    struct launcher_faults *faults; /* NULL = no --faults */
    struct err_text failure;        /* "" = none */
    char *read_buffer;              /* (READ_SIZE) for the callback that runs */
};

/* -- launcher.c: called by children */
void launcher_listening(struct launcher *l, struct child *c, const char *address);
void launcher_ranked(struct launcher *l, struct child *c);
void launcher_metrics(struct launcher *l, struct child *c);
void launcher_steps(struct launcher *l);
void launcher_gone(struct launcher *l, struct child *c);

/* -- launcher/faults.c: does nothing without --faults. What a child's end or start means to the scenario */
int launcher_faults_open(struct launcher *l, const struct scenario *scenario, struct err_text *why);
void launcher_faults_begin(struct launcher *l);  /* training begins: time counts from now */
void launcher_faults_finish(struct launcher *l); /* it is over: all faults end */
void launcher_faults_close(struct launcher *l);  /* takes the totals into the result */
bool launcher_faults_gone(struct child *c);      /* true: it comes back, or is meant to; it is not lost */
void launcher_faults_listening(struct child *c); /* a new life takes orders */
void launcher_faults_answer(struct child *c, const json_t *answer);
bool launcher_faults_await(const struct launcher *l); /* somebody is to come back */

/* -- launcher/child.c */
int child_order(struct child *c, json_t *order); /* takes order; 0, or ERR_CLOSED: it has no ears */
int child_start(struct child *c, const char *join, struct err_text *why); /* join: NULL for the first */
bool child_alive(const struct child *c);
void child_end(struct child *c, int signal);
void child_kill(struct child *c, const char *why);             /* why is static; the first one counts */
void child_how(const struct child *c, char *out, size_t size); /* "killed by signal 9 (Killed)" */
uint64_t child_memory(const struct child *c);                  /* bytes; 0 = unknown */

/* -- launcher/report.c */
struct launcher_sums {
    uint64_t steps, bytes_sent;
    uint32_t links;            /* each counted at both ends */
    uint32_t alive, evaluated; /* evaluated: living nodes that told loss (and accuracy) */
    double loss, accuracy;     /* of living nodes' own models: mean, or of the newest one; NAN */
};
void launcher_sum(const struct launcher *l, struct launcher_sums *out);
bool launcher_newest_counts(const struct config *c); /* a walking model: all nodes' steps count together */
bool launcher_target_met(const struct config *c, double loss, double accuracy);
void launcher_show(struct launcher *l);
void launcher_watch(struct launcher *l); /* says once when nobody has made a step for a while */
void launcher_sample_memory(struct launcher *l);
void launcher_note_lost(struct launcher *l, const struct child *c);

#endif

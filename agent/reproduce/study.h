/* A study: a table of simulated runs and a list of claims about their curves.
 *
 * The runs are command lines of `gadabout sim`, so each can be repeated by hand. A claim is a published
 * relation and a function that measures it: it holds or it does not, and the line says with which figures. */
#ifndef GADABOUT_AGENT_REPRODUCE_STUDY_H
#define GADABOUT_AGENT_REPRODUCE_STUDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/config/config.h"
#include "base/err.h"

/* -- what is measured -------------------------------------------------------------------------- */

enum study_column {
    COLUMN_VIRTUAL_S,
    COLUMN_STEPS,     /* local steps, all nodes together */
    COLUMN_ROUNDS,    /* rounds, averages or updates, the sum over nodes */
    COLUMN_TRANSFERS, /* vectors sent, all nodes together */
    COLUMN_BYTES,     /* sent, all nodes together, as framed */
    COLUMN_LOSS,      /* of the result over the training rows */
    COLUMN_ACCURACY,  /* likewise */
    COLUMN_DISTANCE,  /* consensus distance */
    COLUMN_GRADIENT,  /* norm of the full gradient at the result; NAN where the study does not ask */
    COLUMN_DELAY_SUM,
    COLUMN_DELAY_MAX,
    COLUMN_DIVERGENCE_UP,
    COLUMN_DIVERGENCE_DOWN,
    COLUMN_BYTES_ACROSS, /* of bodies, between groups */
    COLUMN_COUNT
};

extern const char *const study_column_names[COLUMN_COUNT]; /* as in curves.csv */

struct study_point {
    double value[COLUMN_COUNT];
};

enum run_state { RUN_WAITING, RUN_GOING, RUN_DONE, RUN_CUT, RUN_FAILED };

struct study_curve {
    struct study_point *point; /* owned; one per report, the last one is the end */
    uint32_t count, capacity;
    enum run_state state;
    double wall_s;
    struct err_text failure; /* RUN_FAILED */
};

struct study;

struct study_results {
    const struct study *study; /* borrowed */
    bool quick;
    struct study_curve *curve; /* owned, (study->run_count) */
};

void study_results_init(struct study_results *r, const struct study *study, bool quick);
void study_results_deinit(struct study_results *r);
void study_curve_add(struct study_curve *c, const struct study_point *p);

/* The curve of a run of the study's table (checked: it is there). */
const struct study_curve *study_find(const struct study_results *r, const char *panel, const char *name);

/* NAN for a curve without points. */
double curve_last(const struct study_curve *c, enum study_column column);

/* `column` at the first point whose loss is at most `loss`; NAN when there is none. */
double curve_at_loss(const struct study_curve *c, double loss, enum study_column column);

/* `column` at the first point not before `virtual_s`; the last point when the curve ends earlier. */
double curve_at_time(const struct study_curve *c, double virtual_s, enum study_column column);

/* Mean of `column` over the last `share` of the points (at least one). */
double curve_tail(const struct study_curve *c, double share, enum study_column column);

/* -- what a study is --------------------------------------------------------------------------- */

struct study_run {
    const char *panel; /* runs of one panel are compared and drawn together */
    const char *name;  /* unique within the panel; the same name has the same colour everywhere */
    /* of `gadabout sim`, parted by blanks; @set is a set below --data-root, @a|b the first of several that is there */
    const char *options;
    const char *quick; /* added for --quick; NULL = nothing */
};

struct study_claim {
    const char *name;
    const char *published; /* the relation and where it is from */
    /* Returns whether it holds; writes the measured figures, at most size bytes. */
    bool (*holds)(const struct study_results *r, char *measured, size_t size);
};

/* A column of the table of runs beside the usual ones. */
struct study_measure {
    const char *title;
    double (*of)(const struct study_results *r, size_t run); /* NAN = not known */
};

struct study_plot {
    const char *panel; /* whose runs; several plots may show one panel */
    const char *title;
    enum study_column x, y;
    double y_less; /* taken from y, to show the distance to a known value */
    double (*y_less_of)(const struct study_results *r); /* likewise, when it is measured; NULL */
    bool log_x, log_y;
};

#define STUDY_MEASURE_MAX 4

struct study {
    const char *name;
    const char *title;   /* of the plot: what the study shows */
    const char *source;  /* paper */
    const char *setting; /* a few lines for the reader: data, nodes, step sizes and why */
    const char *common;  /* options of every run, before its own */
    const char *quick;   /* options of every run for --quick, after `common`; NULL = none */
    bool gradient;       /* measure COLUMN_GRADIENT */
    const struct study_run *run;
    size_t run_count;
    const struct study_claim *claim;
    size_t claim_count;
    const struct study_plot *plot;
    size_t plot_count;
    struct study_measure measure[STUDY_MEASURE_MAX]; /* up to the first without a title */
};

extern const struct study *const studies[];
extern const size_t study_count;
const struct study *study_by_name(const char *name); /* NULL when there is none */

/* Columns of text that the longest names of its panels and runs take. */
void study_widths(const struct study *s, int *panel, int *run);

/* -- runs (study_run.c, study_pool.c) ---------------------------------------------------------- */

/* Parses the command line of one run. Errors as config_parse; the line names the run. */
int study_run_config(const struct study *s, size_t run, const struct config *asked, struct config *out,
                     struct err_text *why);

/* Whether every run's command line parses and its data set is there. Errors: ERR_USAGE. */
int study_check(const struct study *s, const struct config *asked, struct err_text *why);

/* In a child: runs `c` and writes records to `fd` until it ends. Returns an exit status. */
int study_run_child(const struct study *s, const struct config *c, int fd);

/* Runs all of the table, a few at once, each in a process of its own; results->curve fills up. Returns 0, or
 * ERR_CLOSED after Ctrl-C: what was measured is there. Errors: ERR_USAGE before anything started; ERR_IO. A run
 * that fails is RUN_FAILED and does not end the others. */
int study_run_all(struct study_results *results, const struct config *asked, struct err_text *why);

/* -- verdicts and files (study_judge.c, study_write.c, study_plot.c) --------------------------- */

enum verdict { VERDICT_HOLDS, VERDICT_FAILS, VERDICT_UNKNOWN };

struct study_verdict {
    enum verdict verdict;
    char measured[400];
};

/* verdict (claim_count): UNKNOWN when a run is not complete. */
void study_judge(const struct study_results *r, struct study_verdict *verdict);
int study_exit_status(const struct study_results *r, const struct study_verdict *verdict);

void study_print_runs(const struct study_results *r, FILE *to);
void study_print_verdicts(const struct study_results *r, const struct study_verdict *verdict, FILE *to);
int study_write_runs(const struct study_results *r, FILE *to);   /* runs.csv; 0 or ERR_IO */
int study_write_curves(const struct study_results *r, FILE *to); /* curves.csv */
int study_write_claims(const struct study_results *r, const struct study_verdict *verdict, FILE *to);
int study_write_plot(const struct study_results *r, const struct study_verdict *verdict,
                     FILE *to); /* plot.gp */

/* Writes all files into the directory. Errors: ERR_IO with why. */
int study_write_all(const struct study_results *r, const struct study_verdict *verdict, const char *path,
                    struct err_text *why);

/* Draws plot.svg in the directory by gnuplot. Returns 0, ERR_NOT_FOUND without gnuplot, ERR_IO when it fails. */
int study_draw(const char *path);

#endif

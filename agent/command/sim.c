/* `gadabout sim`: an experiment in virtual time, exactly repeatable.
 *
 * Normal course
 *  - the run (sim_run.h) goes on until the virtual time is over, every node has done its steps, or the target
 *    is reached; at every interval each node writes a line of metrics.
 *  - at the end: the result, the worst node, the baselines, a table, the run directory.
 * Failure courses
 *  - data, topology, algorithm or --faults do not fit, --out cannot be written: one line, exit 2, nothing was started.
 *  - Ctrl-C: the run ends at the next event, the directory is complete, exit 130; a second one kills.
 *  - training diverges or the disk is full: one line, exit 1.
 *  - the target is not reached: exit 3. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/command/commands.h"
#include "agent/files/interrupt.h"
#include "agent/files/rundir.h"
#include "agent/simulation/sim_run.h"

#define PROGRESS_EVERY_S 0.2 /* on a terminal */

struct sim_command {
    const struct config *config;
    struct sim_run run;
    struct rundir dir;
    double told_s; /* wall clock of the run */
    bool terminal;
};

/* -- progress ---------------------------------------------------------------------------------- */

static void progress_print(struct sim_command *s, bool newline)
{
    const struct sim_run *r = &s->run;
    struct simulation_totals t;
    simulation_totals(r->simulation, &t);
    char result[96] = "";
    if (!isnan(r->loss)) snprintf(result, sizeof result, "  loss %.5g", r->loss);
    if (!isnan(r->accuracy)) {
        size_t used = strlen(result);
        snprintf(result + used, sizeof result - used, "  accuracy %.2f %%", 100 * r->accuracy);
    }
    fprintf(stderr, "%s%.0f virtual s  %.1f s  %" PRIu64 " steps  %" PRIu64 " transfers%s%s",
            s->terminal ? "\r\033[K" : "", sim_run_virtual_s(r), sim_run_wall_s(r), t.algo.steps,
            t.algo.model_transfers, result, newline ? "\n" : "");
    s->told_s = sim_run_wall_s(r);
}

static bool is_time_to_tell(const struct sim_command *s)
{
    return s->terminal && !s->config->json && sim_run_wall_s(&s->run) - s->told_s >= PROGRESS_EVERY_S;
}

static void on_look(void *ctx)
{
    struct sim_command *s = ctx;
    if (is_time_to_tell(s)) progress_print(s, false);
}

static int baseline_progress(void *ctx, double share)
{
    struct sim_command *s = ctx;
    if (is_time_to_tell(s)) {
        fprintf(stderr, "\r\033[Kbaselines %.0f %%", 100 * share);
        s->told_s = sim_run_wall_s(&s->run);
    }
    return interrupted();
}

/* -- metrics ----------------------------------------------------------------------------------- */

static void write_metrics(struct sim_command *s, uint32_t v, double accuracy)
{
    struct node *node = simulation_node(s->run.simulation, v);
    if (node == NULL) return;
    struct node_report report;
    node_report(node, &report);
    struct metrics_line line = metrics_of_node(&report, sim_run_virtual_s(&s->run), accuracy);
    line.node = v;
    rundir_metrics(&s->dir, &line);
}

/* On a terminal a line that changes, in a pipe one line per evaluation. */
static void on_report(void *ctx)
{
    struct sim_command *s = ctx;
    for (uint32_t v = 0; v < s->config->nodes; v++) write_metrics(s, v, (double)NAN);
    if (!s->terminal && !s->config->json) progress_print(s, true);
    on_look(s);
}

static void on_fault(void *ctx, const char *text)
{
    struct sim_command *s = ctx;
    if (s->config->json) return;
    fprintf(stderr, "%s%.3f virtual s  %s\n", s->terminal ? "\r\033[K" : "", sim_run_virtual_s(&s->run),
            text);
}

/* -- the result -------------------------------------------------------------------------------- */

/* Every node's own model; the last lines of metrics say how good it is. */
static int evaluate_nodes(struct sim_command *s, double *accuracy_min, struct err_text *why)
{
    struct sim_run *r = &s->run;
    *accuracy_min = (double)NAN;
    for (uint32_t v = 0; v < s->config->nodes; v++) {
        double loss, accuracy;
        const struct node *node = simulation_node(r->simulation, v);
        if (node == NULL) continue;
        if (interrupted() && strcmp(r->stopped_by, "interrupt") != 0) return 0; /* asked to come to an end */
        int err = experiment_evaluate(&r->experiment, node_model(node), &loss, &accuracy, why);
        if (err != 0) return err;
        write_metrics(s, v, accuracy);
        if (!isnan(accuracy) && !(accuracy >= *accuracy_min)) *accuracy_min = accuracy;
    }
    return 0;
}

/* Alone: as many steps as a node did on average; pooled: as many as all did together. */
static int run_baselines(struct sim_command *s, uint64_t steps_total, struct baseline_result *out,
                         struct err_text *why)
{
    static const struct baseline_result unknown = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    *out = unknown;
    if (!s->config->baselines || interrupted()) return 0;
    int err = experiment_baselines(&s->run.experiment, steps_total / s->config->nodes, steps_total,
                                   baseline_progress, s, out, why);
    if (err != 0 || interrupted()) *out = unknown;
    return err == ERR_CLOSED ? 0 : err;
}

static void print_row(const char *name, double loss, double accuracy)
{
    if (isnan(loss)) return;
    printf("%-22s %12.6g", name, loss);
    if (!isnan(accuracy)) printf("   %6.2f %%", 100 * accuracy);
    printf("\n");
}

static void print_table(const struct sim_command *s, const struct summary *m, const struct baseline_result *b)
{
    printf("%-22s %12s   %8s   (%s rows)\n", "", "loss", "accuracy", m->evaluated_on);
    print_row(sim_run_steps_are_shared(s->config) ? "newest model" : "average of all nodes", m->loss,
              m->accuracy);
    if (!isnan(m->accuracy_min))
        printf("%-22s %12s   %6.2f %%\n", "worst node's own", "", 100 * m->accuracy_min);
    print_row("alone, same steps", b->loss_alone, b->accuracy_alone);
    print_row("pooled, all steps", b->loss_pooled, b->accuracy_pooled);
    printf("%" PRIu64 " steps, %" PRIu64 " model transfers, %.3g MB sent, consensus distance %.3g",
           m->steps_total, m->model_transfers, (double)m->bytes_sent * 1e-6, m->consensus_distance);
    if (isnan(m->spectral_gap)) /* an overlay is not the same for long */
        printf("\n");
    else
        printf(", spectral gap %.4g\n", m->spectral_gap);
    printf("%.0f virtual s in %.2f s, stopped by %s, trace %.16s\nresults in %s\n", m->virtual_s, m->wall_s,
           m->stopped_by, m->trace_sha256, s->dir.path);
}

static void summary_fill(const struct sim_command *s, struct summary *m, char trace[TRACE_HASH_TEXT])
{
    const struct sim_run *r = &s->run;
    bool overlay = strcmp(s->config->topology.spec->name, "overlay") == 0;
    struct simulation_totals t;
    simulation_totals(r->simulation, &t);
    *m = (struct summary){
        .config = s->config,
        .steps_total = t.algo.steps,
        .loss = r->loss,
        .accuracy = r->accuracy,
        .accuracy_min = (double)NAN,
        .consensus_distance = simulation_consensus_distance(r->simulation),
        .spectral_gap = overlay ? (double)NAN : spectral_gap(simulation_graph(r->simulation)),
        .bytes_sent = t.bytes_sent,
        .wall_s = sim_run_wall_s(r),
        .virtual_s = sim_run_virtual_s(r),
        .trace_sha256 = simulation_trace(r->simulation, trace),
        .evaluated_on = r->experiment.info.test_rows > 0 ? "held-out" : "train",
        .stopped_by = r->stopped_by,
    };
    if (r->faults != NULL) {
        m->faults_given = true;
        sim_faults_totals(r->faults, &m->faults);
    }
    summary_count(m, &t.algo);
}

static int finish(struct sim_command *s, struct err_text *why)
{
    struct sim_run *r = &s->run;
    struct summary m;
    struct baseline_result baseline;
    char trace[TRACE_HASH_TEXT];
    int err = sim_run_evaluate(r, why);
    if (err != 0) return err;
    summary_fill(s, &m, trace);
    /* safe before what takes long */
    err = rundir_save_model(&s->dir, s->config, r->x, r->experiment.dim, why);
    if (err == 0) err = evaluate_nodes(s, &m.accuracy_min, why);
    if (err == 0) err = run_baselines(s, m.steps_total, &baseline, why);
    if (err != 0) return err;
    m.accuracy_alone = baseline.accuracy_alone;
    m.accuracy_pooled = baseline.accuracy_pooled;
    if (interrupted()) m.stopped_by = r->stopped_by = "interrupt";
    err = rundir_finish(&s->dir, &m, NULL, 0, why);
    if (err != 0) return err;
    if (s->terminal && !s->config->json) fprintf(stderr, "\r\033[K");
    if (s->config->json)
        return summary_print(&m, stdout) == 0 ? 0 : err_set(why, ERR_IO, "cannot write to stdout");
    print_table(s, &m, &baseline);
    return fflush(stdout) == 0 ? 0 : err_set(why, ERR_IO, "cannot write to stdout");
}

/* -- the command ------------------------------------------------------------------------------- */

static int exit_status(const struct sim_command *s)
{
    if (strcmp(s->run.stopped_by, "interrupt") == 0) return EXIT_INTERRUPTED;
    return sim_run_target_asked(s->config) && !s->run.reached ? EXIT_NOT_REACHED : EXIT_DONE;
}

static int run_failed(const struct sim_command *s, const struct err_text *why, int status)
{
    fprintf(stderr, "%sgadabout: %s\n", s->terminal && !s->config->json ? "\r\033[K" : "", why->text);
    return status;
}

static int run_opened(struct sim_command *s)
{
    struct err_text why = {""};
    if (rundir_open(s->config, &s->dir, &why) != 0) return run_failed(s, &why, EXIT_USAGE);
    s->run.ctx = s;
    s->run.on_report = on_report;
    s->run.on_look = on_look;
    s->run.on_fault = on_fault;
    interrupt_catch();
    int err = s->run.faults != NULL ? rundir_append(&s->dir, "faults.jsonl", &s->run.faults_log, &why) : 0;
    if (err == 0) err = sim_run_to_the_end(&s->run, &why);
    if (err == 0) err = finish(s, &why);
    int status = err == 0 ? exit_status(s) : run_failed(s, &why, EXIT_FAILED);
    if (s->run.faults_log != NULL) fclose(s->run.faults_log);
    rundir_close(&s->dir);
    return status;
}

int command_sim(struct config *config)
{
    struct err_text why = {""};
    struct sim_command s = {.config = config, .terminal = isatty(STDERR_FILENO) == 1};
    if (sim_run_open(config, &s.run, &why) != 0) return run_failed(&s, &why, EXIT_USAGE);
    int status = run_opened(&s);
    sim_run_close(&s.run);
    return status;
}

/* `gadabout sim`: an experiment in virtual time, exactly repeatable.
 *
 * Normal course
 *  - data, split and model are opened once; every simulated node trains on its rows of the one data set.
 *  - the run goes on until the virtual time is over, every node has done its steps, or the target is reached;
 *    at every interval the result so far is evaluated and each node writes a line of metrics.
 *  - at the end: the result, the worst node, the baselines, a table, the run directory.
 *  - for a walking model `steps` counts all nodes together (steps times nodes): only the node that has the
 *    model trains, and where it goes is chance.
 * Failure courses
 *  - data, topology or algorithm do not fit, --out cannot be written: one line, exit 2, nothing was started.
 *  - Ctrl-C: the run ends at the next event, the directory is complete, exit 130; a second one kills.
 *  - training diverges or the disk is full: one line, exit 1.
 *  - the target is not reached: exit 3. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/commands.h"
#include "agent/experiment.h"
#include "agent/interrupt.h"
#include "agent/rundir.h"
#include "agent/simulation.h"
#include "base/check.h"

#define EVENTS_BETWEEN_LOOKS 256u /* at the wall clock and the walking model's steps */
#define PROGRESS_EVERY_S 0.2      /* on a terminal */

struct run {
    const struct config *config;
    struct experiment experiment;
    struct dataset data;
    struct simulation *simulation;
    struct rundir dir;
    float *x;               /* (dim) the result as last evaluated */
    double loss, accuracy;  /* of x; NAN before the first evaluation */
    double began_s, told_s; /* wall clock */
    const char *stopped_by; /* NULL while running */
    bool terminal, reached;
};

/* -- clock ------------------------------------------------------------------------------------- */

static double wall_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double virtual_s(const struct run *r)
{
    return (double)simulation_now_us(r->simulation) * 1e-6;
}

/* -- progress ---------------------------------------------------------------------------------- */

static void progress_print(struct run *r, bool newline)
{
    struct simulation_totals t;
    simulation_totals(r->simulation, &t);
    char result[96] = "";
    if (!isnan(r->loss)) snprintf(result, sizeof result, "  loss %.5g", r->loss);
    if (!isnan(r->accuracy)) {
        size_t used = strlen(result);
        snprintf(result + used, sizeof result - used, "  accuracy %.2f %%", 100 * r->accuracy);
    }
    fprintf(stderr, "%s%.0f virtual s  %.1f s  %" PRIu64 " steps  %" PRIu64 " transfers%s%s",
            r->terminal ? "\r\033[K" : "", virtual_s(r), wall_s() - r->began_s, t.algo.steps,
            t.algo.model_transfers, result, newline ? "\n" : "");
    r->told_s = wall_s();
}

/* On a terminal a line that changes, in a pipe one line per evaluation. */
static void progress_tell(struct run *r, bool evaluated)
{
    if (r->config->json) return;
    if (r->terminal ? wall_s() - r->told_s >= PROGRESS_EVERY_S : evaluated) progress_print(r, !r->terminal);
}

static int baseline_progress(void *ctx, double share)
{
    struct run *r = ctx;
    if (r->terminal && !r->config->json && wall_s() - r->told_s >= PROGRESS_EVERY_S) {
        fprintf(stderr, "\r\033[Kbaselines %.0f %%", 100 * share);
        r->told_s = wall_s();
    }
    return interrupted();
}

/* -- metrics ----------------------------------------------------------------------------------- */

static void metrics_of_node(struct run *r, uint32_t v, double accuracy)
{
    struct node *node = simulation_node(r->simulation, v);
    if (node == NULL) return;
    struct node_report report;
    node_report(node, &report);
    struct metrics_line line = {
        .time_s = virtual_s(r),
        .node = v,
        .steps = report.algo.steps,
        .steps_handed_over = report.algo.steps_handed_over,
        .loss = report.loss,
        .accuracy = accuracy,
        .links = report.neighbours_up,
        .bytes_sent = report.net.bytes_sent,
        .bytes_received = report.net.bytes_received,
        .model_transfers = report.algo.model_transfers,
        .mixes = report.algo.mixes,
        .tokens_regenerated = report.algo.tokens_regenerated,
        .rebases = report.algo.rebases,
        .duplicates_dropped = report.algo.duplicates_dropped,
        .exchanges_torn = report.algo.exchanges_torn,
        .version = report.algo.version,
    };
    rundir_metrics(&r->dir, &line);
}

static bool target_asked(const struct config *c)
{
    return !isnan(c->target_loss) || !isnan(c->target_accuracy);
}

static bool target_met(const struct run *r)
{
    const struct config *c = r->config;
    return target_asked(c) && (isnan(c->target_loss) || r->loss <= c->target_loss) &&
           (isnan(c->target_accuracy) || r->accuracy >= c->target_accuracy);
}

/* Evaluates the result so far and folds it into the trace. */
static int evaluate(struct run *r, struct err_text *why)
{
    simulation_model(r->simulation, r->x);
    simulation_fold(r->simulation, r->x);
    int err = experiment_evaluate(&r->experiment, r->x, &r->loss, &r->accuracy, why);
    if (err == 0) r->reached = target_met(r);
    return err;
}

static int report_interval(struct run *r, struct err_text *why)
{
    int err = evaluate(r, why);
    if (err != 0) return err;
    for (uint32_t v = 0; v < r->config->nodes; v++) metrics_of_node(r, v, (double)NAN);
    progress_tell(r, true);
    return 0;
}

/* -- the run ----------------------------------------------------------------------------------- */

static int make_trainer(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)why;
    const struct run *r = ctx;
    const struct split *split = &r->experiment.split;
    *out = local_trainer_new(&r->experiment, &r->data, split->row + split->offset[v], split_size(split, v),
                             "node", v);
    return 0;
}

static bool steps_are_shared(const struct config *c)
{
    return c->algorithm->eval == ALGO_EVAL_NEWEST;
}

static int begin(struct run *r, struct err_text *why)
{
    const struct config *c = r->config;
    int err = experiment_load_all(&r->experiment, &r->data, why);
    if (err != 0) return err;
    struct simulation_setup setup = {
        .node_count = c->nodes,
        .algo = c->algorithm,
        .algo_params = &c->algorithm_params,
        .compress = &c->compress,
        .topology = &c->topology,
        .latency = &c->latency,
        .step_time = &c->step_time,
        .seed = c->seed,
        .dim = r->experiment.dim,
        .x0 = r->experiment.x0,
        .weight = r->experiment.weight,
        .steps_max = steps_are_shared(c) ? 0 : c->steps,
        .patience_us = (uint64_t)(c->patience_s * 1e6),
        .trainer_new = make_trainer,
        .ctx = r,
    };
    err = simulation_new(&setup, &r->simulation, why);
    if (err != 0) r->simulation = NULL;
    return err;
}

/* What is looked at now and then only. */
static void look_around(struct run *r)
{
    const struct config *c = r->config;
    if (c->time_s > 0 && wall_s() - r->began_s >= c->time_s) r->stopped_by = "time";
    if (c->steps > 0 && steps_are_shared(c)) {
        struct simulation_totals t;
        simulation_totals(r->simulation, &t);
        if (t.algo.steps >= c->steps * c->nodes) r->stopped_by = "steps";
    }
    progress_tell(r, false);
}

/* Events up to limit_us. Sets stopped_by when the run is over before. */
static int run_until(struct run *r, uint64_t limit_us, struct err_text *why)
{
    const struct config *c = r->config;
    bool counted = c->steps > 0 && !steps_are_shared(c);
    for (uint32_t events = 1; simulation_step(r->simulation, limit_us); events++) {
        if (interrupted()) {
            r->stopped_by = "interrupt";
        } else if (counted && simulation_finished(r->simulation)) {
            r->stopped_by = "steps";
        } else if (events % EVENTS_BETWEEN_LOOKS == 0) {
            look_around(r);
        }
        if (r->stopped_by != NULL) return 0;
    }
    const char *failure = simulation_failure(r->simulation);
    if (failure[0] != '\0') return err_set(why, ERR_LIMIT, "%s", failure);
    look_around(r);
    if (interrupted()) r->stopped_by = "interrupt";
    return 0;
}

static int run_to_the_end(struct run *r, struct err_text *why)
{
    const struct config *c = r->config;
    uint64_t interval_us = (uint64_t)(c->report_every_s * 1e6);
    if (interval_us == 0) interval_us = 1;
    uint64_t end_us = c->virtual_time_s > 0 ? (uint64_t)(c->virtual_time_s * 1e6) : TIME_NEVER - 1;
    uint64_t next_us = interval_us;
    int err = 0;
    while (r->stopped_by == NULL && err == 0) {
        uint64_t limit_us = next_us < end_us ? next_us : end_us;
        err = run_until(r, limit_us, why);
        if (err != 0 || r->stopped_by != NULL) break;
        err = report_interval(r, why);
        if (r->reached)
            r->stopped_by = "target";
        else if (limit_us == end_us)
            r->stopped_by = "time";
        next_us += interval_us;
    }
    return err;
}

/* -- the result -------------------------------------------------------------------------------- */

/* Every node's own model; the last lines of metrics say how good it is. */
static int evaluate_nodes(struct run *r, double *accuracy_min, struct err_text *why)
{
    *accuracy_min = (double)NAN;
    for (uint32_t v = 0; v < r->config->nodes; v++) {
        double loss, accuracy;
        const struct node *node = simulation_node(r->simulation, v);
        if (node == NULL) continue;
        if (interrupted() && strcmp(r->stopped_by, "interrupt") != 0) return 0; /* asked to come to an end */
        int err = experiment_evaluate(&r->experiment, node_model(node), &loss, &accuracy, why);
        if (err != 0) return err;
        metrics_of_node(r, v, accuracy);
        if (!isnan(accuracy) && !(accuracy >= *accuracy_min)) *accuracy_min = accuracy;
    }
    return 0;
}

/* Alone: as many steps as a node did on average; pooled: as many as all did together. */
static int run_baselines(struct run *r, uint64_t steps_total, struct baseline_result *out,
                         struct err_text *why)
{
    *out = (struct baseline_result){(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    if (!r->config->baselines || interrupted()) return 0;
    int err = experiment_baselines(&r->experiment, steps_total / r->config->nodes, steps_total,
                                   baseline_progress, r, out, why);
    if (err != 0 || interrupted())
        *out = (struct baseline_result){(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    return err == ERR_CLOSED ? 0 : err;
}

static void print_row(const char *name, double loss, double accuracy)
{
    if (isnan(loss)) return;
    printf("%-22s %12.6g", name, loss);
    if (!isnan(accuracy)) printf("   %6.2f %%", 100 * accuracy);
    printf("\n");
}

static void print_table(const struct run *r, const struct summary *s, const struct baseline_result *b)
{
    printf("%-22s %12s   %8s   (%s rows)\n", "", "loss", "accuracy", s->evaluated_on);
    print_row(steps_are_shared(r->config) ? "newest model" : "average of all nodes", s->loss, s->accuracy);
    if (!isnan(s->accuracy_min))
        printf("%-22s %12s   %6.2f %%\n", "worst node's own", "", 100 * s->accuracy_min);
    print_row("alone, same steps", b->loss_alone, b->accuracy_alone);
    print_row("pooled, all steps", b->loss_pooled, b->accuracy_pooled);
    printf("%" PRIu64 " steps, %" PRIu64
           " model transfers, %.3g MB sent, consensus distance %.3g, spectral gap %.4g\n",
           s->steps_total, s->model_transfers, (double)s->bytes_sent * 1e-6, s->consensus_distance,
           s->spectral_gap);
    printf("%.0f virtual s in %.2f s, stopped by %s, trace %.16s\nresults in %s\n", s->virtual_s, s->wall_s,
           s->stopped_by, s->trace_sha256, r->dir.path);
}

static void summary_fill(struct run *r, struct summary *s, char trace[TRACE_HASH_TEXT])
{
    struct simulation_totals t;
    simulation_totals(r->simulation, &t);
    *s = (struct summary){
        .config = r->config,
        .steps_total = t.algo.steps,
        .loss = r->loss,
        .accuracy = r->accuracy,
        .accuracy_min = (double)NAN,
        .consensus_distance = simulation_consensus_distance(r->simulation),
        .spectral_gap = spectral_gap(simulation_graph(r->simulation)),
        .bytes_sent = t.bytes_sent,
        .model_transfers = t.algo.model_transfers,
        .tokens_regenerated = t.algo.tokens_regenerated,
        .rebases = t.algo.rebases,
        .duplicates_dropped = t.algo.duplicates_dropped,
        .exchanges_torn = t.algo.exchanges_torn,
        .wall_s = wall_s() - r->began_s,
        .virtual_s = virtual_s(r),
        .trace_sha256 = simulation_trace(r->simulation, trace),
        .evaluated_on = r->experiment.info.test_rows > 0 ? "held-out" : "train",
        .stopped_by = r->stopped_by,
    };
}

static int finish(struct run *r, struct err_text *why)
{
    struct summary s;
    struct baseline_result baseline;
    char trace[TRACE_HASH_TEXT];
    int err = evaluate(r, why);
    if (err != 0) return err;
    summary_fill(r, &s, trace);
    err =
        rundir_save_model(&r->dir, r->config, r->x, r->experiment.dim, why); /* safe before what takes long */
    if (err == 0) err = evaluate_nodes(r, &s.accuracy_min, why);
    if (err == 0) err = run_baselines(r, s.steps_total, &baseline, why);
    if (err != 0) return err;
    s.accuracy_alone = baseline.accuracy_alone;
    s.accuracy_pooled = baseline.accuracy_pooled;
    if (interrupted()) s.stopped_by = r->stopped_by = "interrupt";
    err = rundir_finish(&r->dir, &s, NULL, 0, why);
    if (err != 0) return err;
    if (r->terminal && !r->config->json) fprintf(stderr, "\r\033[K");
    if (r->config->json)
        return summary_print(&s, stdout) == 0 ? 0 : err_set(why, ERR_IO, "cannot write to stdout");
    print_table(r, &s, &baseline);
    return fflush(stdout) == 0 ? 0 : err_set(why, ERR_IO, "cannot write to stdout");
}

static int exit_status(const struct run *r)
{
    if (strcmp(r->stopped_by, "interrupt") == 0) return EXIT_INTERRUPTED;
    return target_asked(r->config) && !r->reached ? EXIT_NOT_REACHED : EXIT_DONE;
}

static int run_failed(const struct run *r, const struct err_text *why, int status)
{
    fprintf(stderr, "%sgadabout: %s\n", r->terminal && !r->config->json ? "\r\033[K" : "", why->text);
    return status;
}

/* -- the command ------------------------------------------------------------------------------- */

static int run_opened(struct run *r)
{
    struct err_text why = {""};
    if (begin(r, &why) != 0) return run_failed(r, &why, EXIT_USAGE);
    if (rundir_open(r->config, &r->dir, &why) != 0) return run_failed(r, &why, EXIT_USAGE);
    r->x = mem_new(r->experiment.dim, sizeof *r->x);
    interrupt_catch();
    int err = run_to_the_end(r, &why);
    if (err == 0) err = finish(r, &why);
    int status = err == 0 ? exit_status(r) : run_failed(r, &why, EXIT_FAILED);
    rundir_close(&r->dir);
    return status;
}

int command_sim(struct config *config)
{
    struct err_text why = {""};
    struct run r = {
        .config = config,
        .loss = (double)NAN,
        .accuracy = (double)NAN,
        .began_s = wall_s(),
        .terminal = isatty(STDERR_FILENO) == 1,
    };
    /* The plain kernels: their sums do not depend on the processor, so the trace does not either. */
    if (experiment_open(config, &vec_ref, &r.experiment, &why) != 0) return run_failed(&r, &why, EXIT_USAGE);
    int status = run_opened(&r);
    simulation_free(r.simulation);
    dataset_deinit(&r.data);
    experiment_close(&r.experiment);
    free(r.x);
    return status;
}

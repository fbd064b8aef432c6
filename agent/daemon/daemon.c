/* `gadabout agent`: one member of a cluster.
 *
 * Normal course
 *  - data are opened, the address bound, the run directory made; the agent dials those it is to join. When --min-nodes
 *    members are known, or others train already, it takes a place (node.h) and loads the shard of that rank.
 *  - a keeper (--keeper) takes none: it loads no rows, keeps what it fetches, and goes on until it is stopped.
 *  - it trains and mixes until its steps are done (and a settle time is over, see daemon/loop.c), the
 *    time since training began is over, or its own model reaches the target.
 *  - at the end: model.safetensors first, then its evaluation, the baselines, and summary.json with its own
 *    view; exit 0, or 3 when a target was missed.
 *  - with --launched (by `up`) it reports on stdout, goes on until told to stop, and leaves judgement to `up`.
 * Failure courses
 *  - options, data, address or run directory: one line, exit 2, nothing is left behind.
 *  - it cannot go on: one line, exit 1; the run directory holds what was measured.
 *  - SIGINT or SIGTERM: complete run directory, exit 130; baselines are skipped or given up.
 *  - it is stopped before anything was trained: no model.safetensors, and the last line says so. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/daemon/daemon.h"
#include "agent/experiment/algorithm_check.h"
#include "agent/files/interrupt.h"
#include "agent/report/events.h"
#include "base/check.h"

/* -- the end ----------------------------------------------------------------------------------- */

/* On the sample when `up` will judge, otherwise on all held-out rows. A keeper reads no rows to train on. */
static void evaluate_own_model(struct agent *a)
{
    struct experiment *e = &a->experiment;
    if (!a->config->launched) {
        dataset_deinit(&e->test);
        e->test = (struct dataset){0};
    }
    bool unread = a->config->keeper && e->info.test_rows == 0;
    if (unread || experiment_evaluate(e, node_model(a->node), &a->loss, &a->accuracy, NULL) != 0)
        a->loss = a->accuracy = (double)NAN;
}

static bool was_interrupted(const struct agent *a)
{
    return interrupted() || strcmp(a->stopped_by, "interrupt") == 0;
}

static int baseline_progress(void *ctx, double share)
{
    struct agent *a = ctx;
    if (wall_clock_s() - a->progress_s < 0.2) return interrupted();
    a->progress_s = wall_clock_s();
    progress_flicker(&a->progress, "for comparison, alone and pooled: %.0f %%", 100 * share);
    return interrupted();
}

static void run_baselines(struct agent *a, struct summary *s)
{
    struct baseline_result b;
    uint64_t steps = a->steps_before + a->last.algo.steps;
    if (!a->config->baselines || a->config->launched || was_interrupted(a)) return;
    int err =
        experiment_baselines(&a->experiment, steps, steps * a->config->nodes, baseline_progress, a, &b, NULL);
    if (err != 0 || interrupted()) return;
    s->accuracy_alone = b.accuracy_alone;
    s->accuracy_pooled = b.accuracy_pooled;
}

static void summary_fill(struct agent *a, struct summary *s)
{
    const struct algo_report *r = &a->last.algo;
    *s = (struct summary){
        .config = a->config,
        .steps_total = a->steps_before + r->steps,
        .model_steps = agent_model_steps(a, &a->last),
        .loss = a->loss,
        .accuracy = a->accuracy,
        .accuracy_min = a->accuracy,
        .accuracy_alone = (double)NAN,
        .accuracy_pooled = (double)NAN,
        .consensus_distance = (double)NAN,
        .spectral_gap = (double)NAN,
        .bytes_sent = a->last.net.bytes_sent,
        .wall_s = wall_clock_s() - a->began_s,
        .evaluated_on = a->experiment.info.test_rows > 0 ? "held-out" : "train",
        .stopped_by = a->stopped_by,
    };
    summary_count(s, r);
}

/* It is the common start, which everybody has: nobody has trained it, and nothing has come into it. `up` wants a model
 * of each. */
static bool model_is_empty(const struct agent *a)
{
    const struct experiment *e = &a->experiment;
    return !a->config->launched && a->last.progress == 0 &&
           memcmp(node_model(a->node), e->x0, e->dim * sizeof *e->x0) == 0;
}

static int say_empty(struct agent *a, const struct summary *s, struct err_text *why)
{
    printf("nothing was trained, and there is no model; stopped by %s\nresults in %s\n", s->stopped_by,
           a->dir.path);
    return fflush(stdout) == 0 ? 0 : err_set(why, ERR_IO, "cannot write to stdout");
}

static int say_summary(struct agent *a, const struct summary *s, bool empty, struct err_text *why)
{
    progress_clear(&a->progress);
    if (a->config->launched) return 0;
    if (a->config->json) {
        if (summary_print(s, stdout) == 0) return 0;
        return err_set(why, ERR_IO, "cannot write to stdout");
    }
    if (empty) return say_empty(a, s, why);
    printf("%" PRIu64 " steps, own model: ", s->steps_total);
    if (s->model_steps != 0) printf("%" PRIu64 " steps with those it fetched, ", s->model_steps);
    printf("loss %.5g", s->loss);
    if (!isnan(s->accuracy)) printf(", accuracy %.2f %%", 100 * s->accuracy);
    printf(" (%s rows)\n%" PRIu64 " models and %.2f MB sent in %.1f s, stopped by %s\nresults in %s\n",
           s->evaluated_on, s->model_transfers, (double)s->bytes_sent * 1e-6, s->wall_s, s->stopped_by,
           a->dir.path);
    return fflush(stdout) == 0 ? 0 : err_set(why, ERR_IO, "cannot write to stdout");
}

static int finish(struct agent *a, struct err_text *why)
{
    struct summary s;
    bool empty = model_is_empty(a);
    int err = 0;
    if (!empty) err = rundir_save_model(&a->dir, a->config, node_model(a->node), a->experiment.dim, why);
    if (err != 0) return err;
    if (!empty) evaluate_own_model(a);
    agent_say_metrics(a, &a->last);
    summary_fill(a, &s);
    if (!empty) run_baselines(a, &s);
    if (was_interrupted(a)) s.stopped_by = a->stopped_by = "interrupt";
    err = rundir_finish(&a->dir, &s, NULL, 0, why);
    return err != 0 ? err : say_summary(a, &s, empty, why);
}

static int exit_status(const struct agent *a)
{
    if (a->config->launched) return EXIT_DONE;
    if (strcmp(a->stopped_by, "interrupt") == 0) return EXIT_INTERRUPTED;
    return agent_target_asked(a->config) && !a->reached ? EXIT_NOT_REACHED : EXIT_DONE;
}

/* -- the command ------------------------------------------------------------------------------- */

static int check_invitation(const struct agent *a, struct err_text *why)
{
    uint8_t ours[16];
    if (!a->config->invited) return 0;
    experiment_cluster_id(&a->experiment, ours);
    return invite_check(a->config->invited_shape, ours, why);
}

/* What can be known to fail before a port is bound. */
static int prepare(struct agent *a, struct err_text *why)
{
    int err = experiment_open(a->config, &vec_blas, &a->experiment, why);
    if (err == 0 && !a->config->launched) err = algorithm_check(&a->experiment, NULL, why);
    if (err == 0) err = check_invitation(a, why);
    if (err == 0 && !a->config->keeper) err = worker_load_sample(&a->experiment, why);
    /* an agent of `up` knows its rank, and loads while nobody waits for its heartbeat */
    if (err == 0 && a->config->launched) {
        if (a->config->id >= a->config->nodes)
            return err_set(why, ERR_USAGE, "--id: with --launched it must be a rank below --nodes");
        a->place = (rank_t)a->config->id;
        err = worker_new(&a->experiment, a->place, &a->worker, why);
    }
    return err;
}

static int tell_failure(struct agent *a, const struct err_text *why, int status)
{
    if (!a->config->launched) return progress_error(&a->progress, why->text, status);
    a->failure = *why;
    agent_say_failed(a);
    return status;
}

/* Without --state: in the run directory, which is new, so that there is nothing to resume. Agents of `up` keep none:
 * nobody could start them again. */
static int open_own_state(struct agent *a, struct err_text *why)
{
    size_t size = strlen(a->dir.path) + sizeof "/state";
    char *path = mem_new(size, 1);
    snprintf(path, size, "%s/state", a->dir.path);
    int err = agent_state_open(a, path, why);
    free(path);
    return err;
}

static int open_events(struct agent *a, struct err_text *why)
{
    struct events_config config = {.folder = a->dir.path, .id = a->id, .trace = &a->trace};
    return events_open(&config, &a->events, why);
}

static int run_opened(struct agent *a)
{
    struct err_text why = {""};
    interrupt_hold(); /* its threads inherit that: none of them is to be ended by what the loop will be told */
    int err = agent_loop_open(a, &why);
    if (err == 0) err = rundir_open(a->config, &a->dir, &why);
    if (err == 0) err = open_events(a, &why);
    if (err == 0 && a->state == NULL && !a->config->launched) err = open_own_state(a, &why);
    if (err != 0) {
        agent_loop_close(a);
        agent_state_close(a);
        events_close(a->events);
        rundir_close(&a->dir);
        a->stopped_by = "failure";
        return tell_failure(a, &why, EXIT_USAGE);
    }
    agent_loop_run(a);
    bool failed = a->failure.text[0] != '\0';
    if (!failed) agent_state_finish(a);
    if (!failed) err = finish(a, &why);
    int status = exit_status(a);
    if (failed) status = EXIT_FAILED;
    if (failed && !a->config->launched) progress_error(&a->progress, a->failure.text, status);
    if (err != 0) status = tell_failure(a, &why, EXIT_FAILED);
    agent_loop_close(a);
    agent_state_close(a);
    events_close(a->events);
    rundir_close(&a->dir);
    return status;
}

int command_agent(struct config *config)
{
    struct err_text why = {""};
    struct agent a = {
        .config = config,
        .began_s = wall_clock_s(),
        .ranked_s = (double)NAN,
        .loss = (double)NAN,
        .accuracy = (double)NAN,
    };
    a.trace = (struct trace){
        .level = config->launched ? TRACE_WARN : TRACE_INFO, .line = agent_trace_line, .ctx = &a};
    progress_init(&a.progress, config->json || config->launched);
    int status;
    if (prepare(&a, &why) != 0) {
        a.stopped_by = "failure";
        status = tell_failure(&a, &why, EXIT_USAGE);
    } else {
        status = run_opened(&a);
    }
    heard_deinit(&a.heard);
    worker_free(a.worker);
    experiment_close(&a.experiment);
    return status;
}

/* `gadabout up`: a cluster of agent processes on this machine, from start to verdict.
 *
 * Normal course
 *  - data, split, model, topology and method are opened first, so that what does not fit is told before
 *    anything starts; then the run directory is made and the launcher runs the agents (launcher.h).
 *  - the agents' models are read: their weighted average (a walking model: the newest one) is the result. It is
 *    evaluated on all held-out rows, as is every node's own; then the baselines are trained: every node alone
 *    with the mean steps of a node, and one node with all data and the steps of all.
 *  - model.safetensors is written before the judgement, which may take long; then summary.json, a table.
 * Failure courses
 *  - options, data, run directory, too few files may be opened: one line, exit 2.
 *  - an agent dies: the others go on, and the summary says what was lost; when all die, or when none of them
 *    left a model: one line, exit 1.
 *  - Ctrl-C: agents write their models, baselines are skipped, the directory is complete, exit 130; so too
 *    when it comes during the judgement or the baselines. If no agent could write a model, there is none.
 *  - the target is not reached: exit 3. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command/commands.h"
#include "agent/experiment/algorithm_check.h"
#include "agent/files/interrupt.h"
#include "agent/launcher/launcher.h"
#include "agent/launcher/result.h"
#include "agent/scenario/scenario.h"
#include "base/check.h"

struct up {
    const struct config *config;
    struct experiment experiment;
    struct progress progress;
    struct rundir dir;
    struct scenario scenario; /* of --faults */
    struct launcher_result launched;
    struct result result;
    struct baseline_result baseline;
    double gap;             /* spectral gap */
    double began_s, told_s; /* wall_clock_s */
    double wall_s;          /* until the agents had stopped */
    bool reached;
};

static bool was_interrupted(const struct up *u)
{
    return interrupted() || strcmp(u->launched.stopped_by, "interrupt") == 0;
}

/* -- the verdict ------------------------------------------------------------------------------- */

static uint64_t sum_steps(const struct up *u)
{
    uint64_t steps = 0;
    for (uint32_t v = 0; v < u->config->nodes; v++)
        if (u->launched.node[v].last.node != RANK_NONE) steps += u->launched.node[v].last.steps;
    return steps;
}

static int baseline_progress(void *ctx, double share)
{
    struct up *u = ctx;
    if (wall_clock_s() - u->told_s < 0.2) return interrupted();
    u->told_s = wall_clock_s();
    progress_flicker(&u->progress, "for comparison, alone and pooled: %.0f %%", 100 * share);
    return interrupted();
}

static int run_baselines(struct up *u, struct err_text *why)
{
    static const struct baseline_result unknown = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    u->baseline = unknown;
    if (!u->config->baselines || was_interrupted(u)) return 0;
    if (!u->progress.terminal)
        progress_note(&u->progress, "training for comparison: every node alone, and all data pooled");
    uint64_t steps = sum_steps(u);
    int err = experiment_baselines(&u->experiment, steps / u->config->nodes, steps, baseline_progress, u,
                                   &u->baseline, why);
    if (err != 0 || interrupted()) u->baseline = unknown;
    return err == ERR_CLOSED ? 0 : err;
}

static void summary_fill(const struct up *u, struct summary *s)
{
    *s = (struct summary){
        .config = u->config,
        .steps_total = sum_steps(u),
        .loss = u->result.loss,
        .accuracy = u->result.accuracy,
        .accuracy_min = u->result.accuracy_min,
        .accuracy_alone = u->baseline.accuracy_alone,
        .accuracy_pooled = u->baseline.accuracy_pooled,
        .consensus_distance = u->result.consensus_distance,
        .spectral_gap = u->gap,
        .wall_s = u->wall_s,
        .evaluated_on = u->experiment.info.test_rows > 0 ? "held-out" : "train",
        .stopped_by = u->launched.stopped_by,
        .lost = u->launched.lost,
        .lost_count = u->launched.lost_count,
        .faults_given = u->config->faults != NULL,
        .faults = u->launched.faults,
        .memory_per_agent_max = u->launched.memory_max,
    };
    for (uint32_t v = 0; v < u->config->nodes; v++) {
        const struct metrics_line *m = &u->launched.node[v].last;
        if (m->node == RANK_NONE) continue;
        s->bytes_sent += m->bytes_sent;
        s->model_transfers += m->model_transfers;
        s->tokens_regenerated += m->tokens_regenerated;
        s->rebases += m->rebases;
        s->duplicates_dropped += m->duplicates_dropped;
        s->exchanges_torn += m->exchanges_torn;
        s->rounds += m->rounds;
        s->left_out += m->left_out;
        s->terms += m->terms;
        s->delay_sum += m->delay_sum;
        if (m->delay_max > s->delay_max) s->delay_max = m->delay_max;
        s->bytes_across += m->bytes_across;
        s->divergence_up += m->divergence_up;
        s->divergence_down += m->divergence_down;
    }
}

/* -- the table --------------------------------------------------------------------------------- */

static void print_row(const char *name, const char *what, double loss, double accuracy)
{
    if (isnan(loss)) return;
    printf("%-9s", name);
    if (isnan(accuracy))
        printf("  %10s", "");
    else
        printf("  %8.2f %%", 100 * accuracy);
    printf("  %10.4g   %s\n", loss, what);
}

static void print_lost(const struct summary *s)
{
    for (uint32_t i = 0; i < s->lost_count; i++) {
        const struct lost_node *l = &s->lost[i];
        printf("lost: agent %" PRIu32 " after %.1f s, %s; of its %" PRIu64 " steps %" PRIu64
               " had been handed over\n",
               l->node, l->time_s, l->how, l->steps, l->steps_handed_over);
    }
}

static void print_table(const struct up *u, const struct summary *s)
{
    const struct config *c = u->config;
    char together[80];
    snprintf(together, sizeof together, "%s of %" PRIu32 " node%s",
             u->result.newest ? "the newest model" : "the average", u->result.models,
             u->result.models == 1 ? "" : "s");
    printf("%-9s  %10s  %10s   (on %s rows)\n", "", "accuracy", "loss", s->evaluated_on);
    print_row("alone", "each node on its own rows, mean of all", u->baseline.loss_alone,
              u->baseline.accuracy_alone);
    print_row("together", together, s->loss, s->accuracy);
    print_row("pooled", "one node with all rows and as many steps", u->baseline.loss_pooled,
              u->baseline.accuracy_pooled);
    if (!isnan(s->accuracy_min))
        printf("%-9s  %8.2f %%  %10s   the worst node's own model\n", "", 100 * s->accuracy_min, "");
    print_lost(s);
    printf("%" PRIu64 " steps per node, %.2f MB sent per node (%" PRIu64 " models in all)",
           s->steps_total / c->nodes, (double)s->bytes_sent * 1e-6 / c->nodes, s->model_transfers);
    if (isnan(s->spectral_gap)) /* an overlay is not the same for long */
        printf("\n");
    else
        printf(", spectral gap %.3f\n", s->spectral_gap);
    printf("%.1f s (%.1f s of training), stopped by %s; %.1f MB of memory per agent at most\n", s->wall_s,
           u->launched.trained_s, s->stopped_by, (double)s->memory_per_agent_max * 1e-6);
    printf("results in %s\n", u->dir.path);
}

/* -- the command ------------------------------------------------------------------------------- */

/* Nobody could: an error, unless a person did not want to wait for it. */
static int without_model(struct up *u, struct err_text *why)
{
    static const struct baseline_result unknown = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    u->baseline = unknown;
    if (was_interrupted(u)) return 0;
    const struct launcher_result *r = &u->launched;
    if (r->lost_count == 0) return err_set(why, ERR_IO, "no agent left a model");
    return err_set(why, ERR_IO, "no agent left a model; agent %" PRIu32 ": %s",
                   r->lost[r->lost_count - 1].node, r->lost[r->lost_count - 1].how);
}

static int judge(struct up *u, struct err_text *why)
{
    bool *use = mem_new_zero(u->config->nodes, sizeof *use);
    for (uint32_t v = 0; v < u->config->nodes; v++) use[v] = !u->launched.node[v].lost;
    int err = result_read(&u->experiment, u->dir.path, use, u->launched.node, &u->result, why);
    free(use);
    if (err == 0 && u->result.models == 0) return without_model(u, why);
    if (err == 0) err = rundir_save_model(&u->dir, u->config, u->result.x, u->experiment.dim, why);
    if (err == 0) err = result_evaluate(&u->experiment, !was_interrupted(u), &u->result, why);
    if (err != 0) return err;
    u->reached = u->launched.reached || result_meets_target(u->config, &u->result);
    return run_baselines(u, why);
}

static int tell(struct up *u, const struct summary *s, struct err_text *why)
{
    progress_clear(&u->progress);
    int err = 0;
    if (u->config->json)
        err = summary_print(s, stdout);
    else
        print_table(u, s);
    return err == 0 && fflush(stdout) == 0 ? 0 : err_set(why, ERR_IO, "cannot write to stdout");
}

static int exit_status(const struct up *u)
{
    const struct config *c = u->config;
    if (strcmp(u->launched.stopped_by, "interrupt") == 0) return EXIT_INTERRUPTED;
    bool asked = !isnan(c->target_loss) || !isnan(c->target_accuracy);
    return asked && !u->reached ? EXIT_NOT_REACHED : EXIT_DONE;
}

static int run_opened(struct up *u)
{
    struct err_text why = {""};
    const struct scenario *scenario = u->config->faults != NULL ? &u->scenario : NULL;
    int err = launcher_run(u->config, scenario, &u->dir, &u->progress, &u->launched, &why);
    u->wall_s = wall_clock_s() - u->began_s;
    if (err == 0) err = judge(u, &why);
    struct summary s;
    if (err == 0) {
        if (was_interrupted(u)) u->launched.stopped_by = "interrupt";
        summary_fill(u, &s);
        err = rundir_finish(&u->dir, &s, NULL, 0, &why);
    }
    if (err == 0) err = tell(u, &s, &why);
    return err == 0 ? exit_status(u) : progress_error(&u->progress, why.text, EXIT_FAILED);
}

int command_up(struct config *config)
{
    struct err_text why = {""};
    struct up u = {.config = config, .began_s = wall_clock_s()};
    progress_init(&u.progress, config->json);
    if (experiment_open(config, &vec_blas, &u.experiment, &why) != 0)
        return progress_error(&u.progress, why.text, EXIT_USAGE);
    int status;
    bool faults = config->faults != NULL;
    if ((faults && scenario_read(config->faults, config->nodes, &u.scenario, &why) != 0) ||
        algorithm_check(&u.experiment, &u.gap, &why) != 0 || launcher_check(config, &why) != 0 ||
        rundir_open(config, &u.dir, &why) != 0) {
        status = progress_error(&u.progress, why.text, EXIT_USAGE);
    } else {
        status = run_opened(&u);
        rundir_close(&u.dir);
    }
    launcher_result_deinit(&u.launched);
    scenario_deinit(&u.scenario);
    result_deinit(&u.result);
    experiment_close(&u.experiment);
    return status;
}

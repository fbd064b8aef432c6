/* The course of a run of `up`.
 *
 * Normal course
 *  - STARTING: agent 0 starts and tells its address; the others start and join it; all tell that they are
 *    ranked.
 *  - TRAINING: metrics are collected; each interval one line of progress. It ends when every living agent has
 *    done its steps (for a walking model: all together nodes times the steps), when the time is over, when the
 *    mean of the nodes' own models meets the target, or by Ctrl-C. Until then everybody trains: were the faster
 *    ones to rest, the slower ones would pull the model towards their own rows alone, and the rest be forgotten.
 *  - SETTLING: no agent trains any more (SIGUSR1), all mix on for a moment, so that the last progress travels.
 *  - STOPPING: every agent gets SIGTERM, writes its model and exits.
 * Failure courses
 *  - an agent dies while it STARTS: the cluster can never be complete, so the run fails.
 *  - an agent that --faults kills and starts again is not lost (launcher/faults.c), unless the run ends before.
 *  - an agent dies later: it is noted as lost, the others go on; when none is left the run fails.
 *  - nobody makes a step any more, as when a method needs more nodes than are left: one line says so.
 *  - an agent does not stop in time: it is killed and noted as lost.
 *  - a second Ctrl-C: agents are killed at once, and noted as lost by it.
 *  - too few files can be opened: an error with the remedy, before anything starts. */
#include "agent/launcher/launcher.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/files/interrupt.h"
#include "agent/files/open_files.h"
#include "agent/launcher/internal.h"
#include "base/check.h"

#define SETTLE_MS 1000u
#define STOP_MS 10000u            /* for writing models */
#define INTERRUPTED_STOP_MS 6000u /* a person is waiting, who may press again; large models take a while */

/* -- ending ------------------------------------------------------------------------------------ */

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

/* The loop ends when nothing is open any more. */
static void close_when_empty(struct launcher *l)
{
    if (l->stage != STAGE_STOPPING || l->alive > 0) return;
    for (uint32_t i = 0; i < l->own_count; i++) close_handle(l->own[i]);
    interrupt_catch(); /* the signals are no longer the loop's: what follows the run asks for them */
}

static void end_all(struct launcher *l, int number)
{
    for (uint32_t v = 0; v < l->config->nodes; v++) child_end(&l->child[v], number);
}

static void kill_all(struct launcher *l, const char *why)
{
    for (uint32_t v = 0; v < l->config->nodes; v++) child_kill(&l->child[v], why);
}

static void kill_cb(uv_timer_t *timer)
{
    kill_all(timer->data, "did not stop in time");
}

static void stop(struct launcher *l, const char *stopped_by)
{
    if (l->stage == STAGE_STOPPING) return;
    if (l->stage == STAGE_TRAINING) l->result->trained_s = wall_clock_s() - l->ranked_s;
    launcher_faults_finish(l);
    l->stage = STAGE_STOPPING;
    l->result->stopped_by = stopped_by;
    launcher_sample_memory(l);
    uv_timer_stop(&l->report);
    bool hurry = strcmp(stopped_by, "interrupt") == 0;
    uv_timer_start(&l->limit, kill_cb, hurry ? INTERRUPTED_STOP_MS : STOP_MS, 0);
    end_all(l, SIGTERM);
    progress_flicker(l->progress, "stopping ...");
    close_when_empty(l);
}

static void fail(struct launcher *l, const struct err_text *why)
{
    if (l->failure.text[0] == '\0') l->failure = *why;
    stop(l, "failure");
}

static void settled_cb(uv_timer_t *timer)
{
    struct launcher *l = timer->data;
    stop(l, l->result->stopped_by);
}

/* stopped_by is static. */
static void settle(struct launcher *l, const char *stopped_by)
{
    if (l->stage != STAGE_TRAINING) return;
    launcher_faults_finish(l); /* before the agents are told: who is stopped hears nothing */
    l->stage = STAGE_SETTLING;
    l->result->stopped_by = stopped_by;
    l->result->trained_s = wall_clock_s() - l->ranked_s;
    end_all(l, SIGUSR1);
    uv_timer_start(&l->limit, settled_cb, l->config->nodes > 1 ? SETTLE_MS : 0, 0);
}

static void time_over_cb(uv_timer_t *timer)
{
    settle(timer->data, "time");
}

static void signal_cb(uv_signal_t *handle, int number)
{
    struct launcher *l = handle->data;
    (void)number;
    if (l->stage == STAGE_STOPPING && strcmp(l->result->stopped_by, "interrupt") == 0)
        kill_all(l, "killed by a second interrupt");
    if (l->stage == STAGE_STOPPING) /* on its way: what comes after is skipped */
        l->result->stopped_by = l->failure.text[0] == '\0' ? "interrupt" : l->result->stopped_by;
    else
        stop(l, "interrupt");
}

/* -- what children tell ------------------------------------------------------------------------ */

/* Whether the steps that were asked for are done: by every living node, or by all together where one model
 * walks and is trained wherever it happens to be. */
static bool steps_done(const struct launcher *l)
{
    const struct config *c = l->config;
    if (c->steps == 0) return false;
    uint64_t steps = 0;
    bool each = true;
    for (uint32_t v = 0; v < c->nodes; v++) {
        steps += l->child[v].steps;
        if (child_alive(&l->child[v]) && l->child[v].steps < c->steps) each = false;
    }
    return c->algorithm->eval == ALGO_EVAL_NEWEST ? steps / c->nodes >= c->steps : each;
}

void launcher_listening(struct launcher *l, struct child *c, const char *address)
{
    c->phase = CHILD_LISTENING;
    snprintf(c->address, sizeof c->address, "%s", address);
    launcher_faults_listening(c);
    if (c->rank != 0 || l->stage != STAGE_STARTING) return;
    snprintf(l->address, sizeof l->address, "%s", address);
    struct err_text why;
    for (uint32_t v = 1; v < l->config->nodes; v++)
        if (child_start(&l->child[v], l->address, &why) != 0) {
            fail(l, &why);
            return;
        }
}

void launcher_ranked(struct launcher *l, struct child *c)
{
    c->phase = CHILD_RANKED;
    if (l->stage != STAGE_STARTING) return;
    for (uint32_t v = 0; v < l->config->nodes; v++)
        if (l->child[v].phase < CHILD_RANKED) return;
    l->stage = STAGE_TRAINING;
    l->ranked_s = wall_clock_s();
    launcher_faults_begin(l);
    if (l->config->time_s > 0)
        uv_timer_start(&l->limit, time_over_cb, (uint64_t)(l->config->time_s * 1e3), 0);
}

void launcher_metrics(struct launcher *l, struct child *c)
{
    struct metrics_line line = c->last;
    line.time_s = wall_clock_s() - l->began_s; /* one clock for all lines of the file */
    rundir_metrics(l->dir, &line);
    launcher_steps(l);
}

void launcher_steps(struct launcher *l)
{
    if (l->stage == STAGE_TRAINING && steps_done(l)) settle(l, "steps");
}

/* While all stop, an exit on request is no loss, even of one that was not yet listening to signals. */
static bool is_lost(const struct launcher *l, const struct child *c)
{
    if (l->stage != STAGE_STOPPING) return true;
    if (l->failure.text[0] != '\0') return false;
    if (c->exit_signal == SIGTERM || c->exit_signal == SIGINT) return false;
    return c->exit_signal != 0 || c->exit_status != 0;
}

void launcher_gone(struct launcher *l, struct child *c)
{
    CHECK(l->alive > 0);
    l->alive--;
    l->result->node[c->rank].last = c->last;
    c->address[0] = '\0';
    if (launcher_faults_gone(c)) {
        close_when_empty(l);
        return;
    }
    char how[ERR_TEXT_MAX];
    child_how(c, how, sizeof how);
    struct err_text why;
    if (l->stage == STAGE_STARTING && c->exit_signal == SIGINT) {
        stop(l, "interrupt"); /* Ctrl-C reached it before it reached us */
    } else if (l->stage == STAGE_STARTING) {
        err_set(&why, ERR_IO, "agent %" PRIu32 " ended before the cluster was complete: %s", c->rank, how);
        fail(l, &why);
    } else if (is_lost(l, c)) {
        launcher_note_lost(l, c);
        if (l->alive == 0 && l->stage != STAGE_STOPPING && !launcher_faults_await(l)) {
            err_set(&why, ERR_IO, "all agents are lost; the last one, agent %" PRIu32 ": %s", c->rank, how);
            fail(l, &why);
        }
    }
    close_when_empty(l);
}

static void report_cb(uv_timer_t *timer)
{
    struct launcher *l = timer->data;
    launcher_sample_memory(l);
    launcher_show(l);
    launcher_watch(l);
    struct launcher_sums s;
    launcher_sum(l, &s);
    bool all = s.evaluated == s.alive || (launcher_newest_counts(l->config) && s.evaluated > 0);
    if (l->stage == STAGE_STARTING || !all || !launcher_target_met(l->config, s.loss, s.accuracy)) return;
    l->result->reached = true;
    settle(l, "target");
}

/* -- the run ----------------------------------------------------------------------------------- */

static int find_program(struct launcher *l, struct err_text *why)
{
    ssize_t length = readlink("/proc/self/exe", l->program, sizeof l->program - 1);
    if (length <= 0)
        return err_set(why, ERR_IO, "cannot find this program's file (/proc/self/exe): %s", strerror(errno));
    if ((size_t)length == sizeof l->program - 1)
        return err_set(why, ERR_IO, "the path of this program's file is too long (over %zu bytes)",
                       sizeof l->program - 2);
    l->program[length] = '\0';
    return 0;
}

static void make_children(struct launcher *l)
{
    uint32_t nodes = l->config->nodes;
    l->child = mem_new_zero(nodes, sizeof *l->child);
    l->result->node = mem_new_zero(nodes, sizeof *l->result->node);
    for (uint32_t v = 0; v < nodes; v++) {
        struct child *c = &l->child[v];
        c->launcher = l;
        c->rank = v;
        c->last.node = RANK_NONE;
        c->loss = (double)NAN;
        l->result->node[v].last.node = RANK_NONE;
    }
}

/* Counts a handle as open, or not. */
static int take_handle(struct launcher *l, int err, uv_handle_t *handle)
{
    if (err != 0) return err;
    handle->data = l;
    l->own[l->own_count++] = handle;
    return 0;
}

static int open_handles(struct launcher *l)
{
    int err = take_handle(l, uv_timer_init(&l->loop, &l->report), (uv_handle_t *)&l->report);
    if (err == 0) err = take_handle(l, uv_timer_init(&l->loop, &l->limit), (uv_handle_t *)&l->limit);
    CHECK(err == 0); /* timers need nothing from the system */
    if (err == 0)
        err = take_handle(l, uv_timer_init(&l->loop, &l->fault_timer), (uv_handle_t *)&l->fault_timer);
    CHECK(err == 0);
    err = take_handle(l, uv_signal_init(&l->loop, &l->interrupt), (uv_handle_t *)&l->interrupt);
    if (err == 0) err = take_handle(l, uv_signal_init(&l->loop, &l->terminate), (uv_handle_t *)&l->terminate);
    if (err == 0) err = uv_signal_start(&l->interrupt, signal_cb, SIGINT);
    if (err == 0) err = uv_signal_start(&l->terminate, signal_cb, SIGTERM);
    interrupt_release(); /* held since there is a run directory */
    return err;
}

static void run_loop(struct launcher *l)
{
    struct err_text why;
    int err = open_handles(l);
    uint64_t interval_ms = (uint64_t)(l->config->report_every_s * 1e3);
    if (interval_ms == 0) interval_ms = 1;
    uv_timer_start(&l->report, report_cb, interval_ms, interval_ms);
    if (err != 0) {
        err_set(&why, ERR_IO, "cannot watch signals: %s; raise ulimit -n", uv_strerror(err));
        fail(l, &why);
    } else if (child_start(&l->child[0], NULL, &why) != 0) {
        fail(l, &why);
    }
    uv_run(&l->loop, UV_RUN_DEFAULT);
    err = uv_loop_close(&l->loop);
    CHECK(err == 0);
}

int launcher_check(const struct config *config, struct err_text *why)
{
    uint32_t pipes = config->faults != NULL ? 2 : 1; /* to each agent: for orders, and for what it tells */
    return open_files_check(OPEN_FILES_LOOP + pipes * config->nodes, why);
}

int launcher_run(const struct config *config, const struct scenario *scenario, struct rundir *dir,
                 struct progress *p, struct launcher_result *out, struct err_text *why)
{
    *out = (struct launcher_result){.stopped_by = "failure"};
    struct launcher *l = mem_new_zero(1, sizeof *l);
    l->config = config;
    l->dir = dir;
    l->progress = p;
    l->result = out;
    l->began_s = wall_clock_s();
    make_children(l);
    int err = find_program(l, why);
    if (err == 0) {
        err = uv_loop_init(&l->loop);
        if (err != 0)
            err = err_set(why, ERR_IO, "cannot make an event loop: %s; raise ulimit -n", uv_strerror(err));
    }
    if (err == 0) {
        l->arguments = config_experiment_arguments(config, &l->argument_count);
        l->read_buffer = mem_new(READ_SIZE, 1);
        err = scenario != NULL ? launcher_faults_open(l, scenario, &l->failure) : 0;
        if (err == 0)
            run_loop(l);
        else
            uv_loop_close(&l->loop);
        launcher_faults_close(l);
        for (size_t i = 0; i < l->argument_count; i++) free(l->arguments[i]);
        free(l->arguments);
        free(l->read_buffer);
        if (l->failure.text[0] != '\0') err = err_set(why, ERR_IO, "%s", l->failure.text);
    }
    free(l->child);
    free(l);
    return err;
}

void launcher_result_deinit(struct launcher_result *r)
{
    for (uint32_t i = 0; i < r->lost_count; i++) free((char *)(uintptr_t)r->lost[i].how);
    free(r->lost);
    free(r->node);
    *r = (struct launcher_result){0};
}

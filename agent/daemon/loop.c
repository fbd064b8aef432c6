/* The loop of an agent: a node over TCP, timers, signals.
 *
 * Normal course
 *  - the node joins; once ranked it gets the worker of its shard (daemon/place.c) and trains.
 *  - every interval: a line of metrics, and a request to evaluate the node's own model.
 *  - the steps are done: the node mixes on for a settle time, so that its progress travels and that of others
 *    arrives: a second, or a tenth of the time the steps took (peers may be that much slower), or until no
 *    neighbour is left.
 *  - with --launched it is `up` that counts: it is told the number of steps now and then, says by SIGUSR1 that
 *    no more are wanted, and by SIGTERM that it is over.
 *  - it stops: the transport says goodbye and closes, while the node goes on as before; then timers and signals
 *    close, and no job begins any more; that which runs is waited for, so that its steps are in the model and in
 *    what is saved; then the host closes, and the loop is empty.
 * Failure courses
 *  - the node cannot go on (diverged, other cluster, shard unreadable): it stops with that text.
 *  - SIGINT, SIGTERM: it stops; the second one ends the process at once.
 *  - too few files can be opened: an error with the remedy, before a port is bound.
 *  - with --launched SIGINT is left to `up`, which has had it too; the death of `up` is a SIGTERM. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/control/control.h"
#include "agent/control/members.h"
#include "agent/daemon/daemon.h"
#include "agent/files/interrupt.h"
#include "agent/files/open_files.h"
#include "agent/report/events.h"
#include "base/check.h"
#include "net/uv/uv.h"

#define COUNT_MS 20u
#define SETTLE_MIN_S 1.0
#define SETTLE_SHARE 0.1

/* -- why it stops ------------------------------------------------------------------------------ */

static uint64_t milliseconds(double seconds)
{
    return seconds < 0.001 ? 1 : (uint64_t)(seconds * 1e3);
}

static void close_own_handles(struct agent *a)
{
    agent_orders_close(a);
    control_close(a->control);
    a->control = NULL;
    while (a->own_count > 0) uv_close(a->own[--a->own_count], NULL);
}

static void end_cb(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    a->transport->ops->close(a->transport);
}

void agent_tell_faults(struct agent *a)
{
    if (a->stopped_by != NULL || !a->disturbed) return;
    struct fault_status *all = mem_new(FAULT_RULE_MAX, sizeof *all);
    events_faults(a->events, all, a->transport->ops->faults(a->transport, all, FAULT_RULE_MAX));
    free(all);
}

void agent_stop(struct agent *a, const char *stopped_by)
{
    if (a->stopped_by != NULL) return;
    a->stopped_by = stopped_by;
    node_report(a->node, &a->last);
    node_leave(a->node); /* the words go out before the links' goodbyes */
    events_report(a->events, &a->last);
    events_left(a->events, stopped_by);
    uv_timer_stop(&a->report);
    uv_timer_stop(&a->limit);
    uv_timer_stop(&a->count);
    uv_timer_start(&a->end, end_cb, 0, 0);
}

bool agent_target_asked(const struct config *c)
{
    return !isnan(c->target_loss) || !isnan(c->target_accuracy);
}

static bool target_met(const struct agent *a)
{
    const struct config *c = a->config;
    return agent_target_asked(c) && (isnan(c->target_loss) || a->loss <= c->target_loss) &&
           (isnan(c->target_accuracy) || a->accuracy >= c->target_accuracy);
}

static void signal_cb(uv_signal_t *handle, int number)
{
    struct agent *a = handle->data;
    (void)number;
    if (a->stopped_by != NULL && strcmp(a->stopped_by, "interrupt") == 0) _exit(EXIT_INTERRUPTED);
    if (a->stopped_by != NULL) return;
    agent_stop(a, "interrupt");
}

static void freeze_cb(uv_signal_t *handle, int number)
{
    struct agent *a = handle->data;
    (void)number;
    if (a->worker != NULL && a->stopped_by == NULL) worker_freeze(a->worker);
}

static void count_cb(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    agent_say_steps(a);
}

static void limit_cb(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    agent_stop(a, a->finished ? "steps" : "time");
}

/* -- reports ----------------------------------------------------------------------------------- */

static void collect_evaluation(struct agent *a)
{
    if (a->worker == NULL || !worker_answer(a->worker, &a->loss, &a->accuracy)) return;
    agent_say_evaluation(a);
    if (!target_met(a)) return;
    a->reached = true;
    agent_stop(a, "target");
}

static void request_evaluation(struct agent *a)
{
    if (a->worker == NULL || a->stopped_by != NULL) return;
    if (!a->finished) {
        worker_ask(a->worker);
        return;
    }
    struct job *job = worker_evaluation(a->worker, node_model(a->node));
    if (job == NULL) return;
    int err = a->host->ops->start_job(a->host, job); /* a finished node starts none */
    CHECK(err == 0);
}

static void report_cb(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    collect_evaluation(a);
    if (a->stopped_by != NULL) return;
    agent_say_state(a);
    if (a->stopped_by != NULL) return;
    struct node_report r;
    node_report(a->node, &r);
    events_report(a->events, &r);
    agent_tell_faults(a);
    control_members_listen(a);
    bool alone = a->finished && r.neighbours_up == 0 && !a->config->launched;
    if (alone) agent_stop(a, "steps");
    request_evaluation(a);
}

/* -- what the node says ------------------------------------------------------------------------ */

void agent_loop_ranked(struct agent *a)
{
    if (!isnan(a->ranked_s)) return; /* it has another place: the time runs on */
    a->ranked_s = wall_clock_s();
    if (a->config->launched) uv_timer_start(&a->count, count_cb, COUNT_MS, COUNT_MS);
    if (a->config->time_s > 0) uv_timer_start(&a->limit, limit_cb, milliseconds(a->config->time_s), 0);
}

void agent_fail(struct agent *a, const struct err_text *why)
{
    a->failure = *why;
    agent_say_failed(a);
    agent_stop(a, "failure");
}

static void on_failed(void *ctx, const struct err_text *why)
{
    agent_fail(ctx, why);
}

static void on_member(void *ctx, const struct member *m, bool is_new, enum member_state before,
                      uint32_t confirmations)
{
    struct agent *a = ctx;
    events_member(a->events, m, is_new, before, confirmations);
    agent_join_member(a, m);
}

static void on_still(void *ctx)
{
    agent_state_still(ctx);
}

static void on_save(void *ctx)
{
    agent_state_hurry(ctx);
}

static void on_finished(void *ctx)
{
    struct agent *a = ctx;
    a->finished = true;
    agent_say_finished(a);
    if (a->stopped_by != NULL || a->config->launched) return; /* a launched agent mixes on until it is told */
    double settle_s = SETTLE_SHARE * (wall_clock_s() - a->ranked_s);
    if (settle_s < SETTLE_MIN_S) settle_s = SETTLE_MIN_S;
    if (a->config->nodes == 1) settle_s = 0;
    uv_timer_start(&a->limit, limit_cb, milliseconds(settle_s), 0);
}

/* -- the end, and what the host says ----------------------------------------------------------- */

static void host_closed_cb(void *ctx)
{
    (void)ctx; /* the loop is empty now and returns */
}

static void close_host(struct agent *a)
{
    uint32_t links = a->last.neighbours_up; /* as they were when the end began */
    node_report(a->node, &a->last);
    a->last.neighbours_up = links;
    if (a->uv_host != NULL) uv_host_close(a->uv_host, host_closed_cb, a);
}

/* No message comes any more, so nothing but a training job can be running. */
static void on_closed(void *ctx)
{
    struct agent *a = ctx;
    a->transport_closed = true;
    close_own_handles(a);
    agent_state_stop(a);
    agent_join_close(a);
    if (!a->config->launched)
        interrupt_catch(); /* evaluation and baselines are to come, and ask for signals */
    if (a->worker != NULL) worker_stop(a->worker);
    /* `up` has let all mix on without training: the job that was held meanwhile is older than that, and left out */
    bool wait_for_job = !a->config->launched && node_train_end(a->node);
    if (!wait_for_job) close_host(a);
}

static void on_deadline(void *ctx)
{
    struct agent *a = ctx;
    if (!a->transport_closed) a->host_sink.on_deadline(a->host_sink.ctx); /* it would dial */
}

static void on_job_done(void *ctx, struct job *j)
{
    struct agent *a = ctx;
    bool ours = agent_place_job_done(a, j) || (a->worker != NULL && worker_job_done(a->worker, j));
    if (!ours) a->host_sink.on_job_done(a->host_sink.ctx, j);
    if (!ours && a->transport_closed) close_host(a); /* waited for */
    if (ours && !a->transport_closed)
        node_ready(a->node); /* the rows are there, or the thread is free to load */
}

/* -- opening ----------------------------------------------------------------------------------- */

static void make_node(struct agent *a)
{
    struct node_config config = agent_node_settings(a);
    struct membership_config membership;
    membership_defaults(&membership);
    membership.local_health = a->config->lifeguard;
    if (!a->config->lifeguard) membership.suspicion_spread = 1; /* a fixed timer, confirmations or not */
    config.membership = &membership;
    bool keeps = !a->config->launched || a->config->state != NULL;
    struct node_sink sink = {.ctx = a,
                             .on_ranked = agent_place_take,
                             .is_ready = agent_place_ready,
                             .on_failed = on_failed,
                             .on_finished = on_finished,
                             .on_still = on_still,
                             .on_save = keeps ? on_save : NULL,
                             .on_member = on_member};
    a->node = node_new(&config, &sink);
    a->node_sink = node_transport_sink(a->node);
    a->host_sink = node_host_sink(a->node);
}

static void take_handle(struct agent *a, uv_handle_t *handle)
{
    handle->data = a;
    a->own[a->own_count++] = handle;
}

static int open_own_handles(struct agent *a)
{
    uv_timer_t *const timers[] = {&a->report, &a->limit, &a->count, &a->end, &a->lag};
    uv_signal_t *const signals[] = {&a->freeze, &a->interrupt, &a->terminate};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) {
        int err = uv_timer_init(&a->loop, timers[i]);
        CHECK(err == 0); /* it needs nothing from the system */
        take_handle(a, (uv_handle_t *)timers[i]);
    }
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        int err = uv_signal_init(&a->loop, signals[i]);
        if (err != 0) return err;
        take_handle(a, (uv_handle_t *)signals[i]);
    }
    return 0;
}

/* A socket that was asked for must be there; the usual one is a help: without it the agent runs as well. */
static int open_control(struct agent *a, struct err_text *why)
{
    const char *path = a->config->control;
    if (path != NULL && strcmp(path, "off") == 0) return 0;
    struct control_config config = {.loop = &a->loop,
                                    .path = path,
                                    .id = a->id,
                                    .op = control_ops,
                                    .op_count = control_op_count,
                                    .agent = a,
                                    .trace = &a->trace};
    int err = control_open(&config, &a->control, why);
    if (err == 0 || path != NULL) return err;
    trace_line(&a->trace, TRACE_WARN, "nobody can ask this agent for its status: %s", why->text);
    return 0;
}

int agent_loop_open(struct agent *a, struct err_text *why)
{
    int err = open_files_check(OPEN_FILES_LOOP, why);
    if (err != 0) return err;
    err = uv_loop_init(&a->loop);
    a->loop_open = err == 0;
    if (err == 0) err = open_own_handles(a);
    if (err != 0)
        return err_set(why, ERR_IO, "cannot make an event loop: %s; raise ulimit -n", uv_strerror(err));
    a->id =
        a->config->id != UINT64_MAX ? a->config->id : agent_random_bits() >> 1; /* fits every JSON reader */
    a->boot = agent_make_boot();
    if (a->config->state != NULL) err = agent_state_open(a, a->config->state, why);
    if (err != 0) return err;
    make_node(a);
    struct host_sink host_sink = {.ctx = a, .on_deadline = on_deadline, .on_job_done = on_job_done};
    err = agent_transport_open(a, on_closed, &host_sink, why);
    if (err != 0) return err;
    node_attach(a->node, a->transport, a->host);
    err = agent_join_open(a, why);
    return err == 0 ? open_control(a, why) : err;
}

/* -- running and closing ----------------------------------------------------------------------- */

static void watch_signals(struct agent *a)
{
    if (a->config->launched) {
        signal(SIGINT, SIG_IGN);
        uv_signal_start(&a->freeze, freeze_cb, SIGUSR1);
        prctl(PR_SET_PDEATHSIG, (unsigned long)SIGTERM, 0, 0, 0);
    } else {
        uv_signal_start(&a->interrupt, signal_cb, SIGINT);
    }
    uv_signal_start(&a->terminate, signal_cb, SIGTERM);
    interrupt_release(); /* held since there is a run directory */
}

void agent_loop_run(struct agent *a)
{
    watch_signals(a);
    if (a->config->launched) agent_orders_open(a);
    agent_say_listening(a);
    uint64_t interval_ms = milliseconds(a->config->report_every_s);
    agent_state_start(a);
    if (a->config->keeper && a->config->time_s > 0) /* of the others: from the start of training */
        uv_timer_start(&a->limit, limit_cb, milliseconds(a->config->time_s), 0);
    if (a->stopped_by == NULL) uv_timer_start(&a->report, report_cb, interval_ms, interval_ms);
    struct err_text why;
    if (a->stopped_by == NULL && node_start(a->node, &why) != 0) agent_fail(a, &why);
    if (a->stopped_by == NULL) agent_join_start(a);
    agent_lag_start(a);
    uv_run(&a->loop, UV_RUN_DEFAULT);
}

void agent_loop_close(struct agent *a)
{
    if (!a->loop_open) return; /* nothing is */
    a->loop_open = false;
    if (a->stopped_by == NULL) { /* it never ran */
        close_own_handles(a);
        agent_state_stop(a);
        agent_join_close(a);
        a->stopped_by = "failure";
        if (a->transport != NULL) a->transport->ops->close(a->transport);
    }
    uv_run(&a->loop, UV_RUN_DEFAULT);
    int err = uv_loop_close(&a->loop);
    CHECK(err == 0);
    free(a->known);
    a->known = NULL;
    agent_place_close(a);
    node_free(a->node);
    uv_host_free(a->uv_host);
    uv_tcp_free(a->tcp);
    relay_free(a->relay);
}

/* The scenario of `up --faults`: processes by signals, links by orders to the agents.
 *
 * Normal course
 *  - time counts from the moment when all agents are ranked. One timer waits for what is next.
 *  - kill: SIGKILL. stop: SIGSTOP, then SIGCONT. restart: SIGKILL, and after a while the same agent is started
 *    again: same id, same state directory; what its former life left in the run directory is put aside as
 *    nodes/<rank>.before-<n>. It joins up to JOIN_COUNT living agents.
 *  - link faults are orders (daemon/orders.c); each answer carries the order's tag. An agent that starts
 *    again is told of the faults that are still on.
 *  - when training is over all faults end, so that the last progress travels and every agent hears the end.
 * Failure courses
 *  - an agent is dead or does not answer: the fault has not met it, and its counters are unknown.
 *  - it cannot be started again, or the run ends before: it is lost. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/launcher/internal.h"
#include "agent/scenario/fault_request.h"
#include "base/check.h"

#define JOIN_COUNT 3u

struct launcher_faults {
    struct scenario_run *run;
    FILE *log;
    bool on; /* training: the timer may run */
    int *id; /* (id_count) by tag: the fault as its agent calls it; 0 = not told yet */
    uint32_t id_count;
    bool *heals; /* (id_count) by tag: a heal is under way, or waits for the fault's number */
};

static uint64_t now_us(const struct launcher *l)
{
    return (uint64_t)((wall_clock_s() - l->ranked_s) * 1e6);
}

static void fault_cb(uv_timer_t *timer);

static void wait_for_next(struct launcher *l)
{
    uint64_t next_us = scenario_run_next_us(l->faults->run);
    if (!l->faults->on || next_us == TIME_NEVER) return;
    uint64_t now = now_us(l);
    uv_update_time(&l->loop);
    uv_timer_start(&l->fault_timer, fault_cb, next_us > now ? (next_us - now) / 1000 + 1 : 0, 0);
}

static void fault_cb(uv_timer_t *timer)
{
    struct launcher *l = timer->data;
    scenario_run_advance(l->faults->run, now_us(l));
    wait_for_next(l);
}

/* -- processes --------------------------------------------------------------------------------- */

static struct child *child_at(void *ctx, uint32_t v)
{
    struct launcher *l = ctx;
    return &l->child[v];
}

static bool may_be_hit(const struct child *c)
{
    return child_alive(c) && c->killed == NULL && !uv_is_closing((const uv_handle_t *)&c->process);
}

static bool do_kill(void *ctx, uint32_t v, bool comes_back)
{
    struct child *c = child_at(ctx, v);
    if (!may_be_hit(c)) return false;
    c->comes_back = comes_back;
    c->start_due = false;
    c->stopped = false;
    child_kill(c, "killed by the scenario");
    return true;
}

static bool do_stop(void *ctx, uint32_t v)
{
    struct child *c = child_at(ctx, v);
    if (!may_be_hit(c) || c->stopped) return false;
    c->stopped = true;
    child_end(c, SIGSTOP);
    return true;
}

static bool do_go_on(void *ctx, uint32_t v)
{
    struct child *c = child_at(ctx, v);
    if (!c->stopped) return false;
    c->stopped = false;
    child_end(c, SIGCONT);
    return true;
}

/* What the former life wrote goes aside: a run directory is never written into twice. */
static int put_aside(const struct child *c, struct err_text *why)
{
    char from[RUNDIR_PATH_MAX + 32], to[RUNDIR_PATH_MAX + 64];
    snprintf(from, sizeof from, "%s/nodes/%" PRIu32, c->launcher->dir->path, c->rank);
    snprintf(to, sizeof to, "%s.before-%" PRIu32, from, c->lives + 1);
    if (rename(from, to) == 0) return 0;
    return err_set(why, ERR_IO, "cannot put %s aside as %s", from, to);
}

/* "host:port,.." of living agents. */
static void join_text(const struct child *c, char *out, size_t size)
{
    const struct launcher *l = c->launcher;
    uint32_t found = 0;
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 1; i < l->config->nodes && found < JOIN_COUNT; i++) {
        const struct child *other = &l->child[(c->rank + i) % l->config->nodes];
        if (!child_alive(other) || other->address[0] == '\0' || other->killed != NULL) continue;
        int wrote = snprintf(out + used, size - used, "%s%s", found > 0 ? "," : "", other->address);
        CHECK(wrote > 0 && (size_t)wrote < size - used);
        used += (size_t)wrote;
        found++;
    }
}

static void start_again(struct child *c)
{
    struct launcher *l = c->launcher;
    struct err_text why = {""};
    char join[JOIN_COUNT * ADDRESS_TEXT_MAX];
    c->comes_back = c->start_due = false;
    int err = put_aside(c, &why);
    if (err == 0) {
        join_text(c, join, sizeof join);
        c->phase = CHILD_OPENING;
        c->killed = NULL;
        c->exit_status = 0;
        c->exit_signal = 0;
        c->failure[0] = '\0';
        c->line_size = 0;
        c->line_too_long = false;
        c->lives++;
        err = child_start(c, join[0] != '\0' ? join : NULL, &why);
    }
    if (err != 0) progress_note(l->progress, "agent %" PRIu32 " cannot come back: %s", c->rank, why.text);
    if (err != 0 && !child_alive(c)) launcher_note_lost(l, c);
}

static bool do_start(void *ctx, uint32_t v)
{
    struct child *c = child_at(ctx, v);
    if (!c->comes_back || c->launcher->stage > STAGE_TRAINING) return false;
    if (child_alive(c))
        c->start_due = true; /* its end is not over yet */
    else
        start_again(c);
    return true;
}

bool launcher_faults_gone(struct child *c)
{
    struct launcher *l = c->launcher;
    bool back = c->comes_back && l->stage == STAGE_TRAINING;
    c->stopped = false;
    if (!back) return false;
    progress_note(l->progress, "agent %" PRIu32 " is killed by the scenario, to be started again", c->rank);
    if (c->start_due) start_again(c);
    return true;
}

bool launcher_faults_await(const struct launcher *l)
{
    for (uint32_t v = 0; v < l->config->nodes; v++)
        if (l->child[v].comes_back) return true;
    return false;
}

/* -- links ------------------------------------------------------------------------------------- */

/* Takes order. */
static bool send_order(struct child *c, json_t *order, uint32_t tag)
{
    json_object_set_new(order, "tag", json_integer(tag));
    return child_order(c, order) == 0;
}

static bool do_inject(void *ctx, uint32_t v, const struct fault_rule *rule, uint32_t tag)
{
    struct child *c = child_at(ctx, v);
    struct launcher_faults *f = c->launcher->faults;
    if (tag >= f->id_count) {
        uint32_t count = 2 * tag + 16;
        f->id = mem_resize(f->id, count, sizeof *f->id);
        f->heals = mem_resize(f->heals, count, sizeof *f->heals);
        memset(f->id + f->id_count, 0, (count - f->id_count) * sizeof *f->id);
        memset(f->heals + f->id_count, 0, (count - f->id_count) * sizeof *f->heals);
        f->id_count = count;
    }
    f->id[tag] = 0;
    return c->phase >= CHILD_LISTENING && may_be_hit(c) && send_order(c, fault_request_make(rule), tag);
}

static bool do_heal(void *ctx, uint32_t v, uint32_t tag)
{
    struct child *c = child_at(ctx, v);
    struct launcher_faults *f = c->launcher->faults;
    if (!may_be_hit(c) || c->phase < CHILD_LISTENING) return false;
    f->heals[tag] = true;
    return f->id[tag] == 0 || send_order(c, fault_request_heal(f->id[tag]), tag);
}

void launcher_faults_answer(struct child *c, const json_t *answer)
{
    struct launcher_faults *f = c->launcher->faults;
    const json_t *fault = json_object_get(answer, "fault"), *tag_json = json_object_get(answer, "tag");
    const char *error = json_string_value(json_object_get(answer, "error"));
    json_int_t tag = json_integer_value(tag_json);
    if (error != NULL) progress_note(c->launcher->progress, "agent %" PRIu32 ": %s", c->rank, error);
    if (f == NULL || !json_is_integer(tag_json) || tag < 0 || tag >= (json_int_t)f->id_count) return;
    if (json_is_integer(fault)) {
        f->id[tag] = (int)json_integer_value(fault);
        if (f->heals[tag]) (void)send_order(c, fault_request_heal(f->id[tag]), (uint32_t)tag);
        return;
    }
    struct fault_counts counts = {0};
    const json_t *list = json_object_get(answer, "faults");
    if (json_array_size(list) == 1) fault_request_counts(json_array_get(list, 0), &counts);
    scenario_run_healed(f->run, (uint32_t)tag, &counts);
}

void launcher_faults_listening(struct child *c)
{
    const struct launcher *l = c->launcher;
    if (l->faults == NULL || c->lives == 0 || l->stage != STAGE_TRAINING) return;
    progress_note(l->progress, "agent %" PRIu32 " is back", c->rank);
    scenario_run_started(l->faults->run, c->rank);
}

static void do_say(void *ctx, const char *text)
{
    const struct launcher *l = ctx;
    progress_note(l->progress, "%.1f s: %s", (double)now_us(l) * 1e-6, text);
}

/* -- the whole --------------------------------------------------------------------------------- */

int launcher_faults_open(struct launcher *l, const struct scenario *scenario, struct err_text *why)
{
    struct launcher_faults *f = mem_new_zero(1, sizeof *f);
    const struct scenario_ops ops = {.ctx = l,
                                     .kill = do_kill,
                                     .start = do_start,
                                     .stop = do_stop,
                                     .go_on = do_go_on,
                                     .inject = do_inject,
                                     .heal = do_heal,
                                     .say = do_say};
    int err = rundir_append(l->dir, "faults.jsonl", &f->log, why);
    if (err != 0) {
        free(f);
        return err;
    }
    f->run = scenario_run_new(scenario, &ops, f->log);
    l->faults = f;
    return 0;
}

void launcher_faults_begin(struct launcher *l)
{
    if (l->faults == NULL) return;
    l->faults->on = true;
    wait_for_next(l);
}

void launcher_faults_finish(struct launcher *l)
{
    if (l->faults == NULL || !l->faults->on) return;
    l->faults->on = false;
    uv_timer_stop(&l->fault_timer);
    scenario_run_finish(l->faults->run, now_us(l));
    for (uint32_t v = 0; v < l->config->nodes; v++) {
        struct child *c = &l->child[v];
        if (!c->comes_back) continue;
        c->comes_back = false;
        if (!child_alive(c)) launcher_note_lost(l, c);
    }
}

void launcher_faults_close(struct launcher *l)
{
    struct launcher_faults *f = l->faults;
    if (f == NULL) return;
    scenario_run_close(f->run);
    scenario_run_totals(f->run, &l->result->faults);
    scenario_run_free(f->run);
    fclose(f->log);
    free(f->id);
    free(f->heals);
    free(f);
    l->faults = NULL;
}

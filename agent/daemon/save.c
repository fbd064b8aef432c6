/* The state of an agent: what it resumes from, and saving it while it runs.
 *
 * Normal course
 *  - before the node is made: the directory is opened and locked, the identity taken, the last checkpoint loaded.
 *  - every --save-every: at the next still moment, between two jobs, model, method's state and trainer's state are
 *    copied, which are of one moment then, and all is written by libuv's pool. Neither the loop nor the compute thread
 *    waits for the disk.
 *  - the node has a message that may not leave before it would be remembered: likewise, at once; then it is told.
 *  - at a clean end, when the loop is empty: once more, here and now.
 * Failure courses
 *  - the directory cannot be opened, is locked, of another node, another experiment or a later format: one line,
 *    exit 2.
 *  - one generation is damaged: told, the other is used. Both: told, the node begins anew under its old identity.
 *  - no still moment comes for a while (a step takes long, a frozen trainer): what is there is saved; the trainer's
 *    state may be one job ahead of the model, or behind it.
 *  - a save fails: saver.h; no attempt comes earlier because a message waits for it.
 *  - the disk hangs: the next save waits for it, and so does the end of the program; the third signal ends it at once.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/daemon/daemon.h"
#include "agent/report/events.h"
#include "agent/state/address_book.h"
#include "agent/state/saver.h"
#include "base/check.h"

#define POLL_MS 20u /* a step may take longer than that; its end is looked for again */
#define STILL_WAIT_US 2000000u

struct agent_state {
    struct agent *agent;
    struct state_dir *dir;
    struct checkpoint resumed; /* model is NULL when there was nothing */
    struct saver saver;
    uv_timer_t timer;
    uv_work_t work;
    bool running;       /* the timer is open */
    bool wanted;        /* a save, at the next still moment */
    uint64_t wanted_us; /* since when */
    bool urgent;        /* a message waits for a save that has not begun */
    uint64_t mark;      /* node_saving of the one that is being written */
    double saved_at_s;  /* wall_clock_s of the last save that went well; NAN */
};

/* -- coming back ------------------------------------------------------------------------------- */

static int check_id(struct agent_state *s, struct err_text *why)
{
    struct agent *a = s->agent;
    node_id asked = a->id;
    int err = state_dir_identity(s->dir, asked, &a->id, why);
    if (err != 0 || a->config->id == UINT64_MAX || a->id == asked) return err;
    return err_set(why, ERR_USAGE,
                   "--id: %" PRIu64 " is asked for, but %s is of node %" PRIu64 "; leave out "
                   "--id, or name another --state",
                   asked, state_dir_path(s->dir), a->id);
}

static void say_resumed(const struct agent_state *s, const struct err_text *note)
{
    const struct checkpoint *c = &s->resumed;
    char place[32] = "no place";
    if (note->text[0] != '\0')
        trace_line(&s->agent->trace, TRACE_WARN, "%s; generation %" PRIu64 " used", note->text,
                   c->generation);
    if (c->place != RANK_NONE) snprintf(place, sizeof place, "place %" PRIu32, c->place);
    trace_line(&s->agent->trace, TRACE_INFO, "resumed from generation %" PRIu64 ": %" PRIu64 " steps, %s",
               c->generation, c->steps, place);
}

static int resume(struct agent_state *s, struct err_text *why)
{
    uint8_t shape[16];
    struct err_text note;
    experiment_cluster_id(&s->agent->experiment, shape);
    int err = checkpoint_load(s->dir, shape, &s->resumed, &note, why);
    switch (err) {
    case 0:
        CHECK(s->resumed.dim == s->agent->experiment.dim); /* the shape tells of it */
        if (!s->agent->config->keeper) s->agent->steps_before = s->resumed.steps; /* it has made none of them */
        say_resumed(s, &note);
        return 0;
    case ERR_NOT_FOUND:
        return 0;
    case ERR_FORMAT:
        trace_line(&s->agent->trace, TRACE_WARN, "%s; nothing can be resumed, the node begins anew",
                   why->text);
        return 0;
    case ERR_CLUSTER: {
        struct err_text reason = *why;
        return err_set(why, err, "%.400s; give the options of that run, or another --state", reason.text);
    }
    }
    return err;
}

int agent_state_open(struct agent *a, const char *path, struct err_text *why)
{
    struct agent_state *s = a->state = mem_new_zero(1, sizeof *s);
    s->agent = a;
    s->saved_at_s = (double)NAN;
    int err = state_dir_open(path, &s->dir, why);
    if (err == 0) err = check_id(s, why);
    if (err == 0) err = resume(s, why);
    return err;
}

const struct checkpoint *agent_state_resumed(const struct agent *a)
{
    return a->state != NULL && a->state->resumed.model != NULL ? &a->state->resumed : NULL;
}

void agent_state_restore_trainer(struct agent *a)
{
    const struct checkpoint *c = agent_state_resumed(a);
    if (c == NULL) return;
    if (c->trainer != NULL && worker_restore(a->worker, c->trainer) != 0)
        trace_line(&a->trace, TRACE_WARN, "the trainer's state does not fit this program; it begins anew");
    checkpoint_deinit(&a->state->resumed); /* the node has its model */
}

double agent_state_age_s(const struct agent *a)
{
    return a->state != NULL ? wall_clock_s() - a->state->saved_at_s : (double)NAN;
}

bool agent_state_ok(const struct agent *a)
{
    return a->state != NULL && a->state->saver.ok;
}

/* -- saving ------------------------------------------------------------------------------------ */

/* Somebody has trained here, or a keeper has fetched a model. */
static bool anything_to_save(const struct agent *a)
{
    struct node_report r;
    node_report(a->node, &r);
    return a->worker != NULL || (a->config->keeper && r.progress > 0);
}

/* False: a job is in the trainer. *state is the caller's; NULL for a keeper, or a trainer without state. */
static bool take_trainer(struct agent *a, struct blob **state)
{
    *state = NULL;
    if (a->worker == NULL) return true;
    worker_ask_state(a->worker); /* again, should the node have got another worker since */
    return worker_take_state(a->worker, state);
}

/* All that is to be saved, as it is now; takes `trainer`. last: the node is at its end. */
static struct checkpoint snapshot(struct agent_state *s, struct blob *trainer, bool last)
{
    struct agent *a = s->agent;
    struct node_report r;
    node_report(a->node, &r);
    struct checkpoint c = {
        .id = a->id,
        .boot = a->boot,
        .incarnation = r.incarnation,
        .place = r.place,
        .claimed = r.place != RANK_NONE ? r.claimed : 0,
        .steps = r.progress,
        .dim = a->experiment.dim,
        .model = blob_copy(node_model(a->node), a->experiment.dim * sizeof(float)),
        .trainer = trainer,
        .method = node_method_state(a->node, last),
    };
    experiment_cluster_id(&a->experiment, c.shape);
    c.address = mem_new(CHECKPOINT_ADDRESS_MAX, sizeof *c.address);
    uint32_t count = agent_join_book(a, c.address, CHECKPOINT_ADDRESS_MAX);
    c.address_count = book_append(c.address, count, CHECKPOINT_ADDRESS_MAX, a->config->join,
                                  (uint32_t)a->config->join_count);
    return c;
}

static void work_cb(uv_work_t *work)
{
    struct agent_state *s = work->data;
    saver_write(&s->saver);
}

static uint64_t now_us(struct agent_state *s)
{
    return s->agent->host->ops->now_us(s->agent->host);
}

static void arm(struct agent_state *s, uint64_t wait_us);

static void arm_due(struct agent_state *s)
{
    uint64_t at_us = now_us(s);
    arm(s, s->saver.due_us > at_us ? s->saver.due_us - at_us : 0);
}

static void work_done_cb(uv_work_t *work, int status)
{
    struct agent_state *s = work->data;
    CHECK(status == 0); /* it is never cancelled */
    struct err_text why = s->saver.why;
    int err = s->saver.err;
    saver_end(&s->saver, now_us(s));
    if (s->saver.ok) s->saved_at_s = wall_clock_s();
    events_saved(s->agent->events, s->saver.generation, err != 0 ? why.text : NULL);
    if (err == 0 && s->agent->stopped_by == NULL) node_saved(s->agent->node, s->mark);
    if (s->urgent && s->saver.ok)
        arm(s, 0);
    else
        arm_due(s);
}

/* Begins a save with what is there now; not while one is written. False: a step is in the trainer. */
static bool begin(struct agent_state *s)
{
    struct blob *trainer;
    if (!take_trainer(s->agent, &trainer)) return false;
    struct checkpoint c = snapshot(s, trainer, false);
    s->mark = node_saving(s->agent->node);
    s->wanted = s->urgent = false;
    saver_begin(&s->saver, &c);
    int err = uv_queue_work(&s->agent->loop, &s->work, work_cb, work_done_cb);
    CHECK(err == 0); /* only a missing callback fails */
    return true;
}

static void timer_cb(uv_timer_t *timer)
{
    struct agent_state *s = timer->data;
    struct agent *a = s->agent;
    if (s->saver.writing) return; /* its end arms the timer */
    if (!anything_to_save(a)) {
        saver_put_off(&s->saver, now_us(s));
        arm(s, s->saver.every_us);
        return;
    }
    if (!s->wanted) s->wanted_us = now_us(s);
    s->wanted = true;
    bool patient = node_job_runs(a->node) && now_us(s) - s->wanted_us < STILL_WAIT_US;
    if (patient || !begin(s)) arm(s, POLL_MS * 1000u);
}

void agent_state_still(struct agent *a)
{
    struct agent_state *s = a->state;
    if (s == NULL || !s->running || !s->wanted || s->saver.writing) return;
    if (begin(s)) uv_timer_stop(&s->timer);
}

void agent_state_hurry(struct agent *a)
{
    struct agent_state *s = a->state;
    if (s == NULL || s->urgent) return;
    s->urgent = true;
    if (!s->saver.writing && s->saver.ok) arm(s, 0);
}

static void arm(struct agent_state *s, uint64_t wait_us)
{
    if (s->running) uv_timer_start(&s->timer, timer_cb, wait_us / 1000 + 1, 0);
}

void agent_state_start(struct agent *a)
{
    struct agent_state *s = a->state;
    if (s == NULL) return;
    if (a->config->keeper)
        checkpoint_deinit(&s->resumed); /* the node has its model; there will be no worker */
    s->timer.data = s->work.data = s;
    uv_timer_init(&a->loop, &s->timer);
    s->running = true;
    saver_init(&s->saver, s->dir, (uint64_t)(a->config->save_every_s * 1e6), now_us(s), &a->trace);
    arm(s, s->saver.every_us);
}

void agent_state_stop(struct agent *a)
{
    if (a->state == NULL || !a->state->running) return;
    a->state->running = false;
    uv_close((uv_handle_t *)&a->state->timer, NULL);
}

void agent_state_finish(struct agent *a)
{
    struct agent_state *s = a->state;
    struct blob *trainer;
    if (s == NULL || !anything_to_save(a)) return;
    bool taken = take_trainer(a, &trainer); /* no job runs any more */
    CHECK(taken);
    struct checkpoint c = snapshot(s, trainer, true);
    struct err_text why;
    int err = checkpoint_save(s->dir, &c, &why);
    s->saver.ok = err == 0;
    if (err != 0)
        trace_line(&a->trace, TRACE_WARN, "%s; the last steps are not saved", why.text);
    else
        trace_line(&a->trace, TRACE_INFO, "saved as generation %" PRIu64 ": %" PRIu64 " steps", c.generation,
                   c.steps);
    events_saved(a->events, c.generation, err != 0 ? why.text : NULL);
    checkpoint_deinit(&c);
}

void agent_state_close(struct agent *a)
{
    struct agent_state *s = a->state;
    if (s == NULL) return;
    CHECK(!s->running);
    checkpoint_deinit(&s->resumed);
    state_dir_close(s->dir);
    free(s);
    a->state = NULL;
}

/* The host of a simulated node (host.h).
 *
 * Normal course
 *  - start_job runs the job at once and delivers its result after cost * step time.
 *  - set_deadline keeps one time per node. A later deadline leaves the heap entry where it is; when that
 *    comes up too early it is put back at the deadline. Only an earlier one makes a new entry.
 * Failure courses
 *  - a second job is ERR_BUSY.
 *  - the node crashes: its generations go on, so that its entries are stale.
 *  - the node is paused: sim/world.c holds what comes up until it goes on.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/err.h"
#include "net/sim/internal.h"

static const struct sim_host *host_of(const struct host *h)
{
    return (const struct sim_host *)h;
}

static uint64_t host_now_us(const struct host *h)
{
    return host_of(h)->world->now_us;
}

static void deadline_arm(struct sim_host *s)
{
    struct sim_node *node = &s->world->node[s->node];
    node->deadline_generation++;
    s->armed_us = s->deadline_us;
    sim_schedule(s->world, s->deadline_us, SIM_DEADLINE, s->node, 0, node->deadline_generation);
}

static void host_set_deadline(struct host *h, uint64_t at_us)
{
    struct sim_host *s = (struct sim_host *)h;
    s->deadline_us = at_us != TIME_NEVER && at_us < s->world->now_us ? s->world->now_us : at_us;
    if (s->deadline_us < s->armed_us) deadline_arm(s);
}

static int host_start_job(struct host *h, struct job *j)
{
    struct sim_host *s = (struct sim_host *)h;
    struct sim_world *w = s->world;
    struct sim_node *node = &w->node[s->node];
    if (s->job != NULL) return ERR_BUSY;
    s->job = j;
    j->run(j);
    uint64_t takes_us = sim_step_time_draw_us(&w->step_time, &node->step_time, node->step_s, j->cost);
    sim_schedule(w, w->now_us + takes_us, SIM_JOB_DONE, s->node, 0, node->life);
    return 0;
}

static const struct host_ops sim_host_ops = {
    .now_us = host_now_us,
    .set_deadline = host_set_deadline,
    .start_job = host_start_job,
};

struct host *sim_host(struct sim_world *w, uint32_t v, const struct host_sink *sink)
{
    CHECK(v < w->options.node_count);
    struct sim_node *node = &w->node[v];
    CHECK(node->alive);
    /* A job in hand would come back to the wrong owner. */
    CHECK(node->host == NULL || node->host->job == NULL);
    struct sim_host *s = mem_new_zero(1, sizeof *s);
    s->base.ops = &sim_host_ops;
    s->world = w;
    s->node = v;
    s->sink = *sink;
    s->deadline_us = TIME_NEVER;
    s->armed_us = TIME_NEVER;
    free(node->host);
    node->host = s;
    node->deadline_generation++;
    return &s->base;
}

bool sim_deadline_event(struct sim_world *w, uint32_t v, uint32_t generation)
{
    struct sim_node *node = &w->node[v];
    struct sim_host *s = node->host;
    if (s == NULL || generation != node->deadline_generation) return false;
    s->armed_us = TIME_NEVER;
    if (s->deadline_us > w->now_us) {
        if (s->deadline_us != TIME_NEVER) deadline_arm(s);
        return false;
    }
    s->deadline_us = TIME_NEVER;
    sim_tell(w, SIM_DEADLINE, v, v, 0, NULL, NULL);
    s->sink.on_deadline(s->sink.ctx);
    return true;
}

bool sim_job_event(struct sim_world *w, uint32_t v, uint32_t generation)
{
    struct sim_node *node = &w->node[v];
    struct sim_host *s = node->host;
    if (s == NULL || generation != node->life || s->job == NULL) return false;
    struct job *j = s->job;
    s->job = NULL;
    sim_tell(w, SIM_JOB_DONE, v, v, j->cost, NULL, NULL);
    s->sink.on_job_done(s->sink.ctx, j);
    return true;
}

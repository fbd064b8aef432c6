/* The node's training job: one at a time, on buffers of its own, so that the algorithm may change its model
 * while the trainer works.
 *
 * Normal course
 *  - TRAIN copies the model, the host runs the job, TRAINED brings back delta, steps and loss.
 *  - steps_max caps the steps asked for. When they are done the algorithm ends what it does with them, a round
 *    for example; the TRAIN that comes then stays unanswered, and the node is FINISHED. It still mixes.
 *  - the first job of a start is held until the links to all neighbours are there, so that a method of rounds
 *    has them all in its first one.
 * Failure courses
 *  - a neighbour does not come within half the patience: the first job starts without it.
 *  - the place is lost while a job runs: its progress still counts, then the algorithm ends.
 *  - no TRAIN comes within the patience (a walking model is elsewhere): FINISHED all the same.
 *  - progress that is not finite (the step size is too large) would be refused by every peer: the node stops
 *    with a line that says so, and the model keeps its last finite value. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "algo/vec.h"
#include "base/check.h"

#define LOSS_MEMORY_STEPS 50.0 /* local steps over which the reported loss is averaged, about */

static void job_run(struct job *j)
{
    struct node_job *job = (struct node_job *)j;
    job->steps = job->trainer->run(job->trainer, job->x, job->max_steps, job->delta, &job->loss);
    job->finite = vec_finite(job->dim, job->delta); /* here: the loop need not pass over the model for it */
    j->cost = job->steps;
}

void node_train_init(struct node *n)
{
    n->job.base.run = job_run;
    n->job.dim = n->config.dim;
    n->job.x = mem_new(n->config.dim, sizeof(float));
    n->job.delta = mem_new(n->config.dim, sizeof(float));
}

void node_train_drop(struct node *n)
{
    CHECK(!n->job.running || n->job.held); /* a held one was never begun */
    n->job.running = n->job.held = false;
    if (n->job.trainer != NULL) n->job.trainer->free(n->job.trainer);
    n->job.trainer = NULL;
}

void node_train_deinit(struct node *n)
{
    if (n->job.trainer != NULL) n->job.trainer->free(n->job.trainer);
    free(n->job.x);
    free(n->job.delta);
}

static uint64_t steps_left(const struct node *n)
{
    if (n->config.steps_max == 0) return UINT64_MAX;
    return n->config.steps_max > n->steps ? n->config.steps_max - n->steps : 0;
}

void node_train_start(struct node *n, const float *x, uint32_t max_steps)
{
    struct node_job *job = &n->job;
    CHECK(!job->running);
    CHECK(max_steps >= 1);
    if (n->evicted || n->train_ended) return; /* the algorithm is about to end */
    uint64_t left = steps_left(n);
    if (left == 0) {
        n->asked_in_vain = true;
        return;
    }
    if (n->sink.on_still != NULL) n->sink.on_still(n->sink.ctx);
    job->max_steps = left < max_steps ? (uint32_t)left : max_steps;
    memcpy(job->x, x, n->config.dim * sizeof *x);
    job->running = true;
    job->held = n->hold_until_us != TIME_NEVER && n->host->ops->now_us(n->host) < n->hold_until_us;
    if (!job->held) CHECK(n->host->ops->start_job(n->host, &job->base) == 0);
}

bool node_job_runs(const struct node *n)
{
    return n->job.running && !n->job.held;
}

bool node_train_end(struct node *n)
{
    n->train_ended = true;
    return n->job.running && !n->job.held; /* a held one was never begun */
}

void node_train_release(struct node *n)
{
    n->hold_until_us = TIME_NEVER;
    if (!n->job.held || n->failed || n->train_ended) return;
    n->job.held = false;
    CHECK(n->host->ops->start_job(n->host, &n->job.base) == 0);
}

static void loss_fold(struct node *n, const struct node_job *job)
{
    double share = n->loss == 0 ? 1.0 : job->steps / (job->steps + LOSS_MEMORY_STEPS);
    n->loss += share * (job->loss - n->loss);
}

void node_train_done(struct node *n)
{
    struct node_job *job = &n->job;
    CHECK(job->running);
    job->running = false;
    if (n->failed) return;
    CHECK(job->steps >= 1 && job->steps <= job->max_steps);
    if (!job->finite) {
        struct err_text why;
        err_set(&why, ERR_LIMIT,
                "training diverged after %llu local steps (loss %g): try a smaller --step-size",
                (unsigned long long)n->steps + job->steps, job->loss);
        node_fail(n, &why);
        return;
    }
    loss_fold(n, job);
    n->steps += job->steps;
    struct algo_event event = {.kind = ALGO_TRAINED};
    event.trained.steps = job->steps;
    event.trained.loss = job->loss;
    event.trained.delta = job->delta;
    CHECK(node_feed(n, &event) == 0);
    if (n->evicted) node_place_end(n);
    if (n->phase != NODE_TRAINING || steps_left(n) > 0) return;
    uint64_t now_us = n->host->ops->now_us(n->host), patience_us = n->config.patience_us;
    n->finish_at_us = time_after(now_us, patience_us);
    node_arm(n);
}

void node_train_finish(struct node *n)
{
    if (n->phase != NODE_TRAINING) return;
    n->phase = NODE_FINISHED;
    n->finish_at_us = TIME_NEVER;
    n->dirty = true;
    if (n->finish_told) return; /* before it lost a place */
    n->finish_told = true;
    if (n->sink.on_finished != NULL) n->sink.on_finished(n->sink.ctx);
}

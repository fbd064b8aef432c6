/* The holder's half: the buffer of arrived gradients, the batches, the update, the assignments.
 *
 * Normal course
 *  - GRAD (members.c): put behind those that arrived before. b of them make an UPDATE entry of the order log.
 *  - all entries that are ready go to the successors in one LOG; when they have acknowledged it they are
 *    applied in order: x += mean of the differences, in order of job numbers; then the new jobs, which see
 *    the new x.
 *  - a gradient of the holder's own node arrives when the successors hold a copy of it.
 * Failure courses
 *  - no majority of the members is up, or no successor holds the state: nothing is logged or applied.
 *  - what was wanted before (a worker off the list, a job done anew) and is settled meanwhile: passed over.
 *  - another holder is elected: what is held becomes a replica, as good as a successor's. */
#include <stdlib.h>
#include <string.h>

#include "algo/async/internal.h"
#include "algo/vec.h"
#include "base/check.h"

/* -- jobs out ------------------------------------------------------------------------------------ */

struct blob *async_model_blob(struct async *a)
{
    if (a->model == NULL) a->model = blob_copy(a->x, a->dim * sizeof *a->x);
    return a->model;
}

/* Hands a job with a model to its worker, if that can take it now. */
void async_job_send(struct async *a, struct async_job *job, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[job->worker];
    struct blob *model = job->model;
    if (job->worker != a->rank) {
        if (!p->up || p->greeting != ASYNC_GREET_DONE) return;
        struct algo_msg *m = async_send(a, acts, job->worker, ASYNC_JOB, a->term, 4);
        m->field[1] = job->q;
        m->field[2] = job->alpha;
        m->field[3] = p->low;
        m->vec = blob_ref(model);
        a->report.model_transfers++;
    }
    job->model = NULL;
    if (async_ledger_low(&a->ledger, job->worker) == job->q) p->progress_us = a->now_us;
    if (job->worker == a->rank) async_worker_job(a, job->q, job->alpha, model, acts);
    blob_unref(model);
}

/* The last `count` jobs of the table are new. */
static void jobs_dispatch(struct async *a, uint32_t count, struct algo_actions *acts)
{
    for (uint32_t i = a->ledger.job_count - count; i < a->ledger.job_count; i++) {
        a->ledger.job[i].model = blob_ref(async_model_blob(a));
        async_job_send(a, &a->ledger.job[i], acts);
    }
}

void async_jobs_cancel(struct async *a, rank_t worker, const uint64_t *q, uint32_t count,
                       struct algo_actions *acts)
{
    if (count == 0) return;
    if (worker == a->rank) {
        for (uint32_t i = 0; i < count; i++) async_worker_cancel(a, q[i], acts);
        return;
    }
    if (!a->peer[worker].up || a->peer[worker].greeting < ASYNC_GREET_HAVE) return;
    async_send_numbers(a, async_send(a, acts, worker, ASYNC_CANCEL, a->term, 1), q, count);
}

/* -- entries ----------------------------------------------------------------------------------- */

static void gradient_add(struct async *a, const struct async_grad *g, float *sum)
{
    if (g->vec != NULL) {
        const float *delta = blob_floats(g->vec);
        for (size_t i = 0; i < a->dim; i++) sum[i] += delta[i];
        return;
    }
    struct compress_context context = {.seed = a->seed + g->worker, .round = g->q, .dither = g->worker};
    int err =
        compressor_decode_add(a->compressor, &context, a->dim, g->packed->data, g->packed->size, 1.0f, sum);
    CHECK(err == 0); /* it decoded when it came */
}

void async_apply_gradients(struct async *a, const struct async_op *op, const struct async_grads *from)
{
    float *sum = op->count == 1 ? a->x : a->scratch;
    if (op->count > 1) memset(sum, 0, a->dim * sizeof *sum);
    for (uint32_t i = 0; i < op->count; i++) {
        const struct async_grad *g = async_grads_find(from, op->name[i].q);
        CHECK(g != NULL && g->worker == op->name[i].worker);
        gradient_add(a, g, sum);
        a->share[g->worker]++;
    }
    if (op->count > 1) {
        float share = 1.0f / (float)op->count;
        for (size_t i = 0; i < a->dim; i++) a->x[i] += share * sum[i];
    }
    blob_unref(a->model);
    a->model = NULL;
}

static void count_delays(struct async *a, const struct async_op *op)
{
    for (uint32_t i = 0; i < op->count; i++) {
        const struct async_job *job = async_ledger_find(&a->ledger, op->name[i].q);
        uint64_t delay = a->ledger.t - job->alpha;
        a->report.delay_sum += delay;
        if (delay > a->report.delay_max) a->report.delay_max = delay;
    }
    a->report.rounds++;
}

/* Gradients whose jobs are gone: applied or cancelled. */
static void arrivals_purge(struct async *a)
{
    for (uint32_t i = a->arrivals.count; i-- > 0;)
        if (async_ledger_find(&a->ledger, a->arrivals.item[i].q) == NULL) async_grads_remove(&a->arrivals, i);
}

static void worker_off(struct async *a, rank_t worker, struct algo_actions *acts)
{
    uint64_t *q = mem_new(a->ledger.job_count, sizeof *q);
    uint32_t count = 0;
    bool keep = a->peer[worker].silent;
    for (uint32_t i = 0; i < a->ledger.job_count; i++) {
        const struct async_job *job = &a->ledger.job[i];
        if (job->worker != worker) continue;
        /* Who is only silent keeps the job it is at: its gradient, though late, shows that it is back. */
        if (!keep || job->arrived) q[count++] = job->q;
        keep = keep && job->arrived;
    }
    async_jobs_cancel(a, worker, q, count, acts);
    free(q);
    a->report.left_out++;
    trace_line(a->trace, TRACE_INFO, "async: rank %u is taken off the list, %u jobs cancelled", worker,
               count);
}

static void op_apply(struct async *a, const struct async_op *op, struct algo_actions *acts)
{
    if (op->kind == ASYNC_OP_UPDATE) {
        count_delays(a, op);
        async_apply_gradients(a, op, &a->arrivals);
    }
    if (op->kind == ASYNC_OP_OFF) worker_off(a, op->name[0].worker, acts);
    if (op->kind == ASYNC_OP_ON)
        trace_line(a->trace, TRACE_INFO, "async: rank %u is on the list again", op->name[0].worker);
    uint32_t count = async_ledger_apply(&a->ledger, &a->rule, op);
    arrivals_purge(a);
    jobs_dispatch(a, count, acts);
    a->report.version = a->ledger.t > a->report.version ? a->ledger.t : a->report.version;
}

void async_op_want(struct async *a, enum async_op_kind kind, uint64_t q, rank_t worker)
{
    for (uint32_t i = 0; i < a->control.count; i++) {
        const struct async_op *op = &a->control.item[i];
        if (op->kind == kind && op->name[0].q == q && op->name[0].worker == worker) return;
    }
    struct async_name name = {q, worker};
    async_op_append(&a->control, (uint8_t)kind, &name, 1);
}

/* -- the pump ------------------------------------------------------------------------------------ */

static int by_number(const void *left, const void *right)
{
    uint64_t l = ((const struct async_name *)left)->q, r = ((const struct async_name *)right)->q;
    return l < r ? -1 : l > r;
}

/* One wish, alone: it changes what others mean. */
static void flight_control(struct async *a)
{
    while (a->control.count > 0 && a->flight.count == 0) {
        const struct async_op *op = &a->control.item[0];
        const struct async_job *job = async_ledger_find(&a->ledger, op->name[0].q);
        const struct async_peer *p = &a->peer[op->name[0].worker];
        bool late = op->kind == ASYNC_OP_REDO && (job == NULL || job->arrived || job->model != NULL);
        late = late || (op->kind == ASYNC_OP_OFF && p->up && !p->silent);
        if (!late && async_ledger_allows(&a->ledger, op))
            async_op_append(&a->flight, op->kind, op->name, op->count);
        async_ops_drop(&a->control, 1);
    }
}

static void flight_updates(struct async *a)
{
    uint32_t batch = a->rule.batch, at = 0, size = 0;
    struct async_name name[ASYNC_BATCH_MAX];
    while (a->arrivals.count - at >= batch) {
        for (uint32_t i = 0; i < batch; i++)
            name[i] = (struct async_name){a->arrivals.item[at + i].q, a->arrivals.item[at + i].worker};
        qsort(name, batch, sizeof *name, by_number);
        size += ASYNC_OP_HEAD + batch * ASYNC_NAME_BYTES;
        if (size > ALGO_BITS_MAX) return;
        async_op_append(&a->flight, ASYNC_OP_UPDATE, name, batch);
        at += batch;
    }
}

/* Gradients of our own that the successors hold by now arrive. */
static void own_arrive(struct async *a)
{
    uint64_t own = 0; /* steps that nobody else holds */
    for (uint32_t i = 0; i < a->kept.count; i++) {
        const struct async_grad *g = &a->kept.item[i];
        struct async_job *job = async_ledger_find(&a->ledger, g->q);
        if (job == NULL || job->arrived || job->worker != a->rank) continue;
        if (!async_log_own_acked(a, g->sequence)) {
            own += g->steps;
            continue;
        }
        job->arrived = true;
        async_grads_add(&a->arrivals, g);
    }
    uint64_t given = a->report.steps - own;
    if (given > a->report.steps_handed_over) a->report.steps_handed_over = given;
}

void async_holder_pump(struct async *a, struct algo_actions *acts)
{
    async_standby_fill(a, acts);
    while (async_log_ready(a)) {
        async_snapshot_begin(a, acts);
        own_arrive(a);
        if (a->flight.count > 0) {
            if (!async_log_acked(a)) return;
            for (uint32_t i = 0; i < a->flight.count; i++) op_apply(a, &a->flight.item[i], acts);
            async_ops_drop(&a->flight, a->flight.count);
            continue;
        }
        flight_control(a);
        if (a->flight.count == 0) flight_updates(a);
        if (a->flight.count == 0) return;
        async_log_flight(a, acts);
    }
}

/* A gradient that its worker may not be there to send again. */
void async_copies_send(struct async *a, const struct async_grad *g, struct algo_actions *acts)
{
    for (rank_t k = 0; k < a->node_count; k++)
        if (a->peer[k].standby != ASYNC_STANDBY_NONE) async_own_send(a, k, g, a->term, acts);
}

void async_holder_own(struct async *a, struct async_grad *g, struct algo_actions *acts)
{
    struct async_peer *self = &a->peer[a->rank];
    self->progress_us = a->now_us;
    self->silent = false;
    if (!a->ledger.member[a->rank]) async_op_want(a, ASYNC_OP_ON, 0, a->rank);
    g->sequence = ++a->own_sequence;
    async_copies_send(a, g, acts);
    async_holder_pump(a, acts);
}

/* -- beginning, ending ------------------------------------------------------------------------ */

void async_holder_begin(struct async *a, struct algo_actions *acts)
{
    a->role = ASYNC_HOLDER;
    a->holder = a->rank;
    a->greeted = false;
    async_replica_clear(&a->replica);
    a->snapshot_t = a->ledger.t;
    for (uint32_t i = 0; i < a->ledger.job_count; i++) {
        struct async_job *job = &a->ledger.job[i];
        job->arrived = job->worker != a->rank && async_grads_find(&a->arrivals, job->q) != NULL;
    }
    for (uint32_t i = a->arrivals.count; i-- > 0;) { /* our own come by way of the successors */
        const struct async_grad *g = &a->arrivals.item[i];
        const struct async_job *job = async_ledger_find(&a->ledger, g->q);
        if (job == NULL || job->worker != g->worker || !job->arrived) async_grads_remove(&a->arrivals, i);
    }
    a->own_sequence = 0;
    for (uint32_t i = 0; i < a->kept.count; i++) a->kept.item[i].sequence = ++a->own_sequence;
    struct async_peer *self = &a->peer[a->rank];
    self->queued_count = a->queue_count;
    self->queued = mem_new(a->queue_count, sizeof *self->queued);
    for (uint32_t i = 0; i < a->queue_count; i++) self->queued[i] = a->queue[i].q;
    async_members_reconcile(a, a->rank, acts);
    for (rank_t k = 0; k < a->node_count; k++)
        if (k != a->rank && a->peer[k].up && a->peer[k].greeting == ASYNC_GREET_HAVE &&
            a->peer[k].grads_got >= a->peer[k].grads_expected)
            async_members_reconcile(a, k, acts);
}

void async_holder_clear(struct async *a)
{
    for (rank_t k = 0; k < a->node_count; k++) {
        struct async_peer *p = &a->peer[k];
        free(p->queued);
        p->queued = NULL;
        p->queued_count = 0;
        p->greeting = ASYNC_GREET_NONE;
        p->standby = ASYNC_STANDBY_NONE;
        p->silent = p->lame = false;
        p->acked_snapshot = p->acked_log = p->acked_own = p->low = p->low_pending = 0;
    }
    async_ledger_deinit(&a->ledger);
    async_grads_deinit(&a->arrivals);
    async_ops_deinit(&a->control);
    async_ops_deinit(&a->flight);
    blob_unref(a->model);
    a->model = NULL;
    a->snapshot_index = a->hold_until_us = 0;
    a->snapshot_wanted = false;
    memset(a->share, 0, a->node_count * sizeof *a->share);
}

/* What it held becomes a replica: it is as good as a successor's. */
void async_holder_step_down(struct async *a)
{
    CHECK(a->role == ASYNC_HOLDER);
    async_see(a, async_model_blob(a), a->term, a->ledger.t);
    async_replica_clear(&a->replica);
    a->replica.term = a->term;
    async_ledger_copy(&a->replica.base, &a->ledger);
    a->replica.x = blob_ref(async_model_blob(a));
    a->replica.ops = a->flight;
    a->flight = (struct async_ops){0};
    async_holder_clear(a);
    a->role = ASYNC_FOLLOWER;
    async_lose_holder(a);
    trace_line(a->trace, TRACE_INFO, "async: no longer the holder, at update %llu",
               (unsigned long long)a->seen_t);
}

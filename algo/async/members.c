/* The workers as the holder sees them: greeted, on and off the list, their gradients.
 *
 * Normal course
 *  - a link comes: TERM. The worker sends again what it keeps, and HAVE with its queue. Table and queue are
 *    brought into agreement: jobs it lacks are sent if their model is still here, else done anew (REDO), jobs
 *    it should not have are cancelled. Only then it gets new jobs.
 *  - GRAD: put behind those that arrived before.
 * Failure courses
 *  - a worker's link goes: a snapshot is taken at once and its gradients that wait are copied to the
 *    successors (a replay might need them, and it may be gone). After the patience it is taken off the list:
 *    an OFF entry, its jobs are cancelled.
 *  - it comes back: as above, then it comes on the list again (ON).
 *  - a worker with a link answers no job for several times what any other took: OFF as well, until it does.
 *    It keeps the job it is at. The holder's own node: likewise, or until the successors have its gradients.
 *  - a gradient that is not outstanding, or already here, or of another term: dropped and counted.
 *  - a gradient for another worker's job: ERR_PROTO. */
#include <stdlib.h>
#include <string.h>

#include "algo/async/internal.h"
#include "base/check.h"

#define SILENT_PATIENCES 8u /* a job takes at most so many patiences, ... */
#define SILENT_JOBS 4u      /* ... or so many times the longest one seen */

/* -- greeting --------------------------------------------------------------------------- */

void async_members_greet(struct async *a, rank_t peer, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[peer];
    p->greeting = ASYNC_GREET_ASKED;
    p->grads_expected = p->grads_got = 0;
    struct algo_msg *m = async_send(a, acts, peer, ASYNC_TERM, a->term, 2);
    const struct async_ledger *base = a->role == ASYNC_RECOVERING ? &a->replica.base : &a->ledger;
    m->field[1] = async_ledger_low(base, peer);
}

void async_members_peer_down(struct async *a, rank_t peer, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[peer];
    async_standby_lose(a, peer); /* first: it gets no copies any more */
    for (uint32_t i = 0; a->role == ASYNC_HOLDER && i < a->arrivals.count; i++)
        if (a->arrivals.item[i].worker == peer) async_copies_send(a, &a->arrivals.item[i], acts);
    p->greeting = ASYNC_GREET_NONE;
    p->silent = false;
    p->lame = false;
}

static bool was_queued(const struct async_peer *p, uint64_t q)
{
    for (uint32_t i = 0; i < p->queued_count; i++)
        if (p->queued[i] == q) return true;
    return false;
}

/* Brings the table and what the worker has into agreement. */
static void reconcile_jobs(struct async *a, rank_t worker, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[worker];
    bool self = worker == a->rank;
    for (uint32_t i = 0; i < a->ledger.job_count; i++) {
        struct async_job *job = &a->ledger.job[i];
        if (job->worker != worker) continue;
        if (job->arrived || (self ? async_worker_has(a, job->q) : was_queued(p, job->q))) {
            blob_unref(job->model);
            job->model = NULL;
        } else if (job->model != NULL) {
            async_job_send(a, job, acts);
        } else {
            async_op_want(a, ASYNC_OP_REDO, job->q, worker);
        }
    }
}

void async_members_reconcile(struct async *a, rank_t worker, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[worker];
    p->greeting = ASYNC_GREET_DONE;
    p->progress_us = a->now_us;
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->queued_count; i++)
        if (async_ledger_find(&a->ledger, p->queued[i]) == NULL) p->queued[count++] = p->queued[i];
    uint32_t stale = count;
    uint64_t *q = mem_new(stale, sizeof *q);
    memcpy(q, p->queued, stale * sizeof *q);
    reconcile_jobs(a, worker, acts);
    async_jobs_cancel(a, worker, q, stale, acts);
    free(q);
    free(p->queued);
    p->queued = NULL;
    p->queued_count = 0;
    if (!p->silent && !a->ledger.member[worker]) async_op_want(a, ASYNC_OP_ON, 0, worker);
}

/* -- messages ---------------------------------------------------------------------------------- */

int async_on_have(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[from];
    if (m->field_count != 2 || m->bits_size % 8 != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    if (!async_term_valid(a, m->field[0])) return ERR_PROTO;
    if (a->role < ASYNC_RECOVERING || m->field[0] != a->term) return 0;
    if (p->greeting != ASYNC_GREET_ASKED) return ERR_PROTO;
    p->greeting = ASYNC_GREET_HAVE;
    p->grads_expected = m->field[1];
    p->queued_count = m->bits_size / 8;
    free(p->queued);
    p->queued = mem_new(p->queued_count, sizeof *p->queued);
    for (uint32_t i = 0; i < p->queued_count; i++) p->queued[i] = async_number_at(m, i);
    if (a->role == ASYNC_RECOVERING) {
        async_recover_progress(a, acts);
    } else if (p->grads_got >= p->grads_expected) {
        async_members_reconcile(a, from, acts);
    }
    return 0;
}

/* Takes a gradient while the log is being replayed, or puts it behind the others. */
static void gradient_take(struct async *a, const struct async_grad *g)
{
    struct async_peer *p = &a->peer[g->worker];
    struct async_job *job = NULL;
    if (a->role == ASYNC_HOLDER) {
        job = async_ledger_find(&a->ledger, g->q);
        if (job == NULL || job->arrived) {
            a->report.duplicates_dropped++;
            return;
        }
        job->arrived = true;
    } else if (async_grads_find(&a->arrivals, g->q) != NULL) {
        a->report.duplicates_dropped++;
        return;
    }
    async_grads_add(&a->arrivals, g);
    if (p->greeting == ASYNC_GREET_DONE && a->now_us - p->progress_us > a->longest_us)
        a->longest_us = a->now_us - p->progress_us;
    p->progress_us = a->now_us;
}

int async_on_grad(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[from];
    if (m->field_count != 2 || m->bits_size != 0 || (m->vec == NULL) == (m->packed == NULL)) return ERR_PROTO;
    if (!async_term_valid(a, m->field[0])) return ERR_PROTO;
    if (a->role < ASYNC_RECOVERING || m->field[0] != a->term) {
        a->report.duplicates_dropped++;
        return 0;
    }
    struct async_grad g = {.q = m->field[1], .worker = from, .vec = m->vec, .packed = m->packed};
    const struct async_job *job = a->role == ASYNC_HOLDER ? async_ledger_find(&a->ledger, g.q) : NULL;
    if (job != NULL && job->worker != from) return ERR_PROTO;
    if (m->packed != NULL) {
        struct compress_context context = {.seed = a->seed + from, .round = g.q, .dither = from};
        if (a->compressor == NULL || compressor_decode(a->compressor, &context, a->dim, m->packed->data,
                                                       m->packed->size, a->scratch) != 0)
            return ERR_PROTO;
    }
    gradient_take(a, &g);
    p->grads_got++;
    p->silent = false;
    if (a->role == ASYNC_RECOVERING) {
        async_recover_progress(a, acts);
        return 0;
    }
    if (p->greeting == ASYNC_GREET_HAVE && p->grads_got >= p->grads_expected)
        async_members_reconcile(a, from, acts);
    if (p->greeting == ASYNC_GREET_DONE && !a->ledger.member[from]) async_op_want(a, ASYNC_OP_ON, 0, from);
    return 0;
}

/* -- time ------------------------------------------------------------------------------------------ */

/* The oldest job that it has not answered is the one it works on. */
static bool is_silent(const struct async *a, rank_t k)
{
    const struct async_peer *p = &a->peer[k];
    uint64_t limit = SILENT_PATIENCES * a->patience_us;
    if (limit < SILENT_JOBS * a->longest_us) limit = SILENT_JOBS * a->longest_us;
    if (p->greeting != ASYNC_GREET_DONE || a->now_us - p->progress_us < limit) return false;
    for (uint32_t i = 0; i < a->ledger.job_count; i++)
        if (a->ledger.job[i].worker == k && !a->ledger.job[i].arrived) return true;
    return false;
}

/* Our own node is silent as well while the successors do not take copies of what it made; then it has no job
 * at hand whose gradient could bring it back. */
static bool own_is_answered(const struct async *a)
{
    return a->queue_count == 0 && !a->training && async_log_own_acked(a, a->own_sequence);
}

void async_members_tick(struct async *a, struct algo_actions *acts)
{
    for (rank_t k = 0; k < a->node_count; k++) {
        struct async_peer *p = &a->peer[k];
        if (k != a->rank && p->up) async_send(a, acts, k, ASYNC_ALIVE, a->term, 2)->field[1] = a->ledger.t;
        if (a->role != ASYNC_HOLDER || !async_log_ready(a)) continue;
        if (!a->ledger.member[k]) { /* back before it was off */
            if (k == a->rank && own_is_answered(a)) p->silent = false;
            if (p->greeting == ASYNC_GREET_DONE && !p->silent) async_op_want(a, ASYNC_OP_ON, 0, k);
            continue;
        }
        bool gone = k != a->rank && !p->up && a->now_us - p->since_us >= a->patience_us;
        if (!gone && (a->node_count == 1 || !is_silent(a, k))) continue;
        p->silent = !gone;
        async_op_want(a, ASYNC_OP_OFF, 0, k);
    }
    if (a->role == ASYNC_HOLDER) async_standby_tick(a);
}

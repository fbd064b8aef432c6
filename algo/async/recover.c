/* An elected node becomes the holder: best replica, missing gradients, replay.
 *
 * Normal course
 *  - the best replica among the voters is fetched, if it is not our own: SNAPSHOT, LOG, OWN, FETCHED.
 *  - TERM to all: the workers send again every gradient that the snapshot does not cover (GRAD), and their
 *    queues (HAVE).
 *  - when every gradient that the log names is here, the log is replayed: the same sums in the same order, so
 *    x_t is the same bit for bit. Gradients sent but not logged are behind the others and take a new place.
 *  - a TERM entry opens a new range of job numbers; table and queues are brought into agreement (holder.c).
 * Failure courses
 *  - a named gradient is with a worker that is away: waited for until the patience is over.
 *  - nobody has it (its worker died, and the holder before any snapshot): the log is cut there, which is said
 *    and counted in left_out. It takes two losses at once: holders store copies of their own gradients with
 *    the successors, and take a snapshot when a worker's link goes.
 *  - an entry that does not fit the table (a lying holder): cut likewise.
 *  - the holder and all its successors are gone, the voters' logs end before a model that one of them has seen: the
 *    run goes on from the newest such model. Which gradients are in it nobody knows, so those of before count no
 *    more, whoever still keeps them: a step or two of each node is lost, and none is counted twice.
 *  - a voter came back into the running cluster with a model that it fetched: that is such a model, and no log. Taken
 *    for the common start it would get the first gradients once more. */
#include <string.h>

#include "algo/async/internal.h"
#include "base/check.h"

/* -- the best replica ------------------------------------------------------------------------------ */

struct async_extent async_extent_of(const struct async *a)
{
    struct async_extent e = {.seen_term = a->seen_term, .seen_t = a->seen_t};
    if (a->replica.x == NULL) return e;
    e.log_term = a->replica.term;
    e.log_last = async_replica_last(&a->replica);
    e.log_snapshot = a->replica.base.index + 1;
    e.log_t = async_replica_t(&a->replica);
    return e;
}

static bool log_is_longer(const struct async_extent *e, const struct async_extent *than)
{
    if (e->log_snapshot == 0 || than->log_snapshot == 0) return than->log_snapshot < e->log_snapshot;
    if (e->log_term != than->log_term) return e->log_term > than->log_term;
    if (e->log_last != than->log_last) return e->log_last > than->log_last;
    return e->log_snapshot > than->log_snapshot;
}

static bool seen_is_newer(const struct async_extent *e, const struct async_extent *than)
{
    return e->seen_term != than->seen_term ? e->seen_term > than->seen_term : e->seen_t > than->seen_t;
}

/* Entries are applied only when the successors hold them, and models go out after that: as long as one successor is
 * among the voters no model is ahead of the best log. */
static bool goes_on_from_model(const struct async_extent *log, const struct async_extent *seen)
{
    return log->log_snapshot == 0 || (seen->seen_term >= log->log_term && seen->seen_t > log->log_t);
}

static rank_t best_voter(const struct async *a, bool *from_seen)
{
    rank_t log = a->rank, seen = a->rank;
    struct async_extent best_log = async_extent_of(a), best_seen = best_log;
    for (rank_t k = 0; k < a->node_count; k++) {
        const struct async_peer *p = &a->peer[k];
        if (k == a->rank || !p->voted || !p->up) continue;
        if (log_is_longer(&p->extent, &best_log)) {
            log = k;
            best_log = p->extent;
        }
        if (seen_is_newer(&p->extent, &best_seen)) {
            seen = k;
            best_seen = p->extent;
        }
    }
    *from_seen = goes_on_from_model(&best_log, &best_seen);
    return *from_seen ? seen : log;
}

/* The newest model, and first jobs whose numbers nobody has used: whatever was made before belongs to none of them. */
static struct async_replica replica_from_seen(struct async *a, uint64_t term)
{
    struct async_replica r = {.term = a->seen_term, .x = blob_ref(a->seen)};
    uint64_t first = async_round(a, term) << 32;
    async_ledger_init(&r.base, &a->rule, first > a->seen_t ? first : a->seen_t + 1, a->seen_t);
    return r;
}

void async_elected(struct async *a, struct algo_actions *acts)
{
    rank_t best = best_voter(a, &a->from_seen);
    if (best == a->rank) {
        if (a->from_seen) {
            async_replica_clear(&a->replica);
            a->replica = replica_from_seen(a, a->asked);
        }
        async_recover_begin(a, acts);
        return;
    }
    a->role = ASYNC_FETCHING;
    a->source = best;
    a->stage_us = a->now_us;
    a->fetch_told = false;
    async_replica_clear(&a->fetched);
    async_send(a, acts, best, ASYNC_FETCH, a->asked, 2)->field[1] = a->from_seen;
}

static void replica_send(struct async *a, rank_t to, const struct async_replica *r, uint64_t term,
                         struct algo_actions *acts)
{
    async_snapshot_send(a, to, &r->base, r->x, term, r->term, acts);
    for (uint32_t i = 0; i < r->own.count; i++) async_own_send(a, to, &r->own.item[i], term, acts);
    async_log_send(a, to, &r->ops, r->base.index + 1, term, acts);
    struct algo_msg *told = async_send(a, acts, to, ASYNC_FETCHED, term, 3);
    told->field[1] = async_replica_last(r);
    told->field[2] = r->own.count;
}

int async_on_fetch(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 2 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    uint64_t term = m->field[0], from_seen = m->field[1];
    if (!async_term_valid(a, term) || term % a->node_count != from || from_seen > 1) return ERR_PROTO;
    if (a->role != ASYNC_FOLLOWER || term != a->promised) return 0;
    if (from_seen == 0 && a->replica.x != NULL) replica_send(a, from, &a->replica, term, acts);
    if (from_seen == 0 || a->seen == NULL) return 0;
    struct async_replica r = replica_from_seen(a, term);
    replica_send(a, from, &r, term, acts);
    async_replica_clear(&r);
    return 0;
}

int async_on_fetched(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 3 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    if (!async_term_valid(a, m->field[0])) return ERR_PROTO;
    if (a->role != ASYNC_FETCHING || m->field[0] != a->asked || from != a->source) return 0;
    a->fetch_told = true;
    a->fetch_last = m->field[1];
    a->fetch_own = m->field[2];
    async_fetch_progress(a, acts);
    return 0;
}

void async_fetch_progress(struct async *a, struct algo_actions *acts)
{
    struct async_replica *f = &a->fetched;
    if (!a->fetch_told || f->x == NULL || f->own.count < a->fetch_own) return;
    if (async_replica_last(f) != a->fetch_last) return;
    if (f->ops.count > 0 && a->fetch_first != f->base.index + 1) return;
    async_replica_clear(&a->replica);
    a->replica = *f;
    async_replica_init(f);
    async_recover_begin(a, acts);
}

/* -- replay -------------------------------------------------------------------------------------- */

/* Whether the gradient may still come. */
static bool is_awaited(const struct async *a, const struct async_name *name)
{
    if (name->worker == a->rank || async_grads_find(&a->arrivals, name->q) != NULL) return false;
    const struct async_peer *p = &a->peer[name->worker];
    return !p->up || p->greeting < ASYNC_GREET_HAVE || p->grads_got < p->grads_expected;
}

static bool any_awaited(const struct async *a)
{
    for (uint32_t i = 0; i < a->replica.ops.count; i++) {
        const struct async_op *op = &a->replica.ops.item[i];
        for (uint32_t k = 0; op->kind == ASYNC_OP_UPDATE && k < op->count; k++)
            if (is_awaited(a, &op->name[k])) return true;
    }
    return false;
}

static bool can_replay(const struct async *a, const struct async_op *op)
{
    if (!async_ledger_allows(&a->ledger, op)) return false;
    for (uint32_t k = 0; op->kind == ASYNC_OP_UPDATE && k < op->count; k++) {
        const struct async_grad *g = async_grads_find(&a->arrivals, op->name[k].q);
        if (g == NULL || g->worker != op->name[k].worker) return false;
    }
    return true;
}

/* One entry; jobs it assigned keep their model, so that one lost on its way can be sent as it was. */
static void replay(struct async *a, const struct async_op *op)
{
    if (op->kind == ASYNC_OP_UPDATE) async_apply_gradients(a, op, &a->arrivals);
    uint32_t count = async_ledger_apply(&a->ledger, &a->rule, op);
    if (count > 0 && a->model == NULL) a->model = blob_copy(a->x, a->dim * sizeof *a->x);
    for (uint32_t i = a->ledger.job_count - count; i < a->ledger.job_count; i++)
        a->ledger.job[i].model = blob_ref(a->model);
}

static void replay_all(struct async *a)
{
    const struct async_replica *r = &a->replica;
    async_ledger_copy(&a->ledger, &r->base);
    memcpy(a->x, r->x->data, a->dim * sizeof *a->x);
    for (uint32_t i = 0; i < a->ledger.job_count; i++) /* x is the model that these were given */
        if (a->ledger.job[i].alpha == a->ledger.t) a->ledger.job[i].model = blob_ref(r->x);
    uint32_t done = 0;
    while (done < r->ops.count && can_replay(a, &r->ops.item[done])) replay(a, &r->ops.item[done++]);
    a->report.left_out += r->ops.count - done;
    trace_line(a->trace, done < r->ops.count ? TRACE_WARN : TRACE_INFO,
               "async: holder of term %llu at update %llu; %u of %u logged entries could be replayed",
               (unsigned long long)a->term, (unsigned long long)a->ledger.t, done, r->ops.count);
    if (a->from_seen)
        trace_line(a->trace, TRACE_WARN,
                   "async: no voter has a log as far as a model seen: goes on from that one");
}

void async_recover_begin(struct async *a, struct algo_actions *acts)
{
    CHECK(a->replica.x != NULL);
    async_holder_clear(a);
    a->role = ASYNC_RECOVERING;
    a->term = a->promised = a->asked;
    a->holder = a->rank;
    a->greeted = false;
    a->stage_us = a->now_us;
    a->report.terms++;
    for (uint32_t i = 0; i < a->replica.own.count; i++)
        async_grads_add(&a->arrivals, &a->replica.own.item[i]);
    for (uint32_t i = 0; i < a->kept.count; i++)
        if (async_grads_find(&a->arrivals, a->kept.item[i].q) == NULL)
            async_grads_add(&a->arrivals, &a->kept.item[i]);
    for (rank_t k = 0; k < a->node_count; k++)
        if (k != a->rank && a->peer[k].up) async_members_greet(a, k, acts);
    async_recover_progress(a, acts);
}

void async_recover_progress(struct async *a, struct algo_actions *acts)
{
    if (any_awaited(a) && a->now_us - a->stage_us < a->patience_us) return;
    replay_all(a);
    struct async_name term = {async_round(a, a->term) << 32, a->rank};
    async_op_append(&a->control, ASYNC_OP_TERM, &term, 1);
    async_holder_begin(a, acts);
    async_holder_pump(a, acts);
}

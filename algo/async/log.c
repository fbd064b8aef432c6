/* What the holder leaves with its successors, so that nothing logged is lost with it: the order log entry by
 * entry, a snapshot (x, table) now and then, copies of the gradients of its own node.
 *
 * Normal course
 *  - the first `successors` nodes up, in hash order, join: copies (OWN) of uncovered own gradients, then a
 *    SNAPSHOT. When that is acknowledged the successor is a member: entries are applied only when all members
 *    hold them.
 *  - LOG carries all entries that were ready; one LOG is on its way at a time. ACK says what is held.
 *  - every `snapshot` updates a SNAPSHOT goes to all; when all members have it, it is durable: jobs numbered
 *    below the least outstanding one of a worker are covered, and the next JOB tells that worker so.
 * Failure courses
 *  - a successor's link goes, or it does not acknowledge within the patience: it is left out, the next one
 *    joins; nothing is applied for an eighth of the patience, in which a holder that is cut off loses its
 *    majority.
 *  - a LOG overtakes the SNAPSHOT it follows (other lane): it is kept aside until that comes.
 *  - entries come twice: those known are passed over.
 *  - a snapshot of a new term replaces the old replica; until then the old one is kept, as the best there is.
 *    */
#include <string.h>

#include "algo/async/internal.h"
#include "base/check.h"

/* -- replicas ------------------------------------------------------------------------------------ */

void async_replica_init(struct async_replica *r)
{
    *r = (struct async_replica){0};
}

void async_replica_clear(struct async_replica *r)
{
    async_ledger_deinit(&r->base);
    blob_unref(r->x);
    async_ops_deinit(&r->ops);
    async_grads_deinit(&r->own);
    async_replica_init(r);
}

uint64_t async_replica_last(const struct async_replica *r)
{
    return r->base.index + r->ops.count;
}

uint64_t async_replica_t(const struct async_replica *r)
{
    uint64_t t = r->base.t;
    for (uint32_t i = 0; i < r->ops.count; i++) t += r->ops.item[i].kind == ASYNC_OP_UPDATE;
    return t;
}

/* -- holder: sending ----------------------------------------------------------------------------- */

static uint64_t flight_last(const struct async *a)
{
    return a->ledger.index + a->flight.count;
}

static bool owes(const struct async *a, const struct async_peer *p)
{
    if (p->standby == ASYNC_STANDBY_NONE) return false;
    if (p->standby == ASYNC_STANDBY_JOINING || p->acked_own < a->own_sequence) return true;
    return p->acked_log < flight_last(a) || p->acked_snapshot < a->snapshot_index;
}

void async_log_send(struct async *a, rank_t to, const struct async_ops *ops, uint64_t first, uint64_t term,
                    struct algo_actions *acts)
{
    for (uint32_t i = 0; i < ops->count;) {
        uint32_t end = i, size = 0;
        while (end < ops->count && size + async_op_size(&ops->item[end]) <= ALGO_BITS_MAX)
            size += async_op_size(&ops->item[end++]);
        struct algo_msg *m = async_send(a, acts, to, ASYNC_LOG, term, 2);
        m->field[1] = first + i;
        uint8_t *at = async_bits(a, m, size);
        for (; i < end; i++) at += async_op_write(&ops->item[i], at);
    }
}

void async_log_flight(struct async *a, struct algo_actions *acts)
{
    for (rank_t k = 0; k < a->node_count; k++) {
        struct async_peer *p = &a->peer[k];
        if (p->standby == ASYNC_STANDBY_NONE) continue;
        async_log_send(a, k, &a->flight, a->ledger.index + 1, a->term, acts);
    }
}

void async_own_send(struct async *a, rank_t to, const struct async_grad *g, uint64_t term,
                    struct algo_actions *acts)
{
    struct algo_msg *m = async_send(a, acts, to, ASYNC_OWN, term, 4);
    m->field[1] = g->q;
    m->field[2] = g->worker;
    m->field[3] = g->worker == a->rank ? g->sequence : 0; /* others' stand in no order */
    m->vec = blob_ref(g->vec);
    m->packed = blob_ref(g->packed);
    a->report.model_transfers++;
}

void async_snapshot_send(struct async *a, rank_t to, const struct async_ledger *l, struct blob *x,
                         uint64_t term, uint64_t log_term, struct algo_actions *acts)
{
    struct algo_msg *m = async_send(a, acts, to, ASYNC_SNAPSHOT, term, 8);
    m->field[1] = log_term;
    m->field[2] = l->index;
    m->field[3] = l->t;
    m->field[4] = l->next_q;
    m->field[5] = l->draws;
    m->field[6] = l->block;
    m->field[7] = l->place;
    m->vec = blob_ref(x);
    async_ledger_write(l, async_bits(a, m, async_ledger_size(l)));
    a->report.model_transfers++;
}

/* -- holder: acknowledgements ---------------------------------------------------------------------- */

static uint32_t member_count(const struct async *a)
{
    uint32_t count = 0;
    for (rank_t k = 0; k < a->node_count; k++) count += a->peer[k].standby == ASYNC_STANDBY_MEMBER;
    return count;
}

bool async_log_ready(const struct async *a)
{
    if (a->role != ASYNC_HOLDER || a->now_us < a->hold_until_us) return false;
    return a->node_count == 1 || (async_majority(a, async_up_count(a)) && member_count(a) > 0);
}

bool async_log_acked(const struct async *a)
{
    for (rank_t k = 0; k < a->node_count; k++)
        if (a->peer[k].standby == ASYNC_STANDBY_MEMBER && a->peer[k].acked_log < flight_last(a)) return false;
    return true;
}

bool async_log_own_acked(const struct async *a, uint64_t sequence)
{
    for (rank_t k = 0; k < a->node_count; k++)
        if (a->peer[k].standby == ASYNC_STANDBY_MEMBER && a->peer[k].acked_own < sequence) return false;
    return true;
}

/* The snapshot on its way is durable when all members hold it. */
static void snapshot_settle(struct async *a)
{
    if (a->snapshot_index == 0 || (a->node_count > 1 && member_count(a) == 0)) return;
    for (rank_t k = 0; k < a->node_count; k++)
        if (a->peer[k].standby == ASYNC_STANDBY_MEMBER && a->peer[k].acked_snapshot < a->snapshot_index)
            return;
    for (rank_t k = 0; k < a->node_count; k++) a->peer[k].low = a->peer[k].low_pending;
    a->snapshot_index = 0;
    async_worker_covered(a, a->peer[a->rank].low);
}

void async_snapshot_begin(struct async *a, struct algo_actions *acts)
{
    if (a->snapshot_index != 0 || !async_log_ready(a)) return;
    if (!a->snapshot_wanted && a->ledger.t - a->snapshot_t < a->snapshot_every) return;
    a->snapshot_wanted = false;
    a->snapshot_t = a->ledger.t;
    a->snapshot_index = a->ledger.index + 1;
    for (rank_t k = 0; k < a->node_count; k++) {
        struct async_peer *p = &a->peer[k];
        p->low_pending = async_ledger_low(&a->ledger, k);
        if (p->standby == ASYNC_STANDBY_NONE) continue;
        async_snapshot_send(a, k, &a->ledger, async_model_blob(a), a->term, a->term, acts);
    }
    snapshot_settle(a);
}

static void standby_join(struct async *a, rank_t k, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[k];
    p->standby = ASYNC_STANDBY_JOINING;
    p->acked_snapshot = p->acked_log = p->acked_own = 0;
    p->acked_us = a->now_us;
    p->join_index = a->ledger.index + 1;
    for (uint32_t i = 0; i < a->kept.count; i++) async_own_send(a, k, &a->kept.item[i], a->term, acts);
    for (uint32_t i = 0; i < a->arrivals.count; i++) /* whose workers cannot send them again */
        if (a->arrivals.item[i].worker != a->rank && !a->peer[a->arrivals.item[i].worker].up)
            async_own_send(a, k, &a->arrivals.item[i], a->term, acts);
    async_snapshot_send(a, k, &a->ledger, async_model_blob(a), a->term, a->term, acts);
    async_log_send(a, k, &a->flight, a->ledger.index + 1, a->term, acts);
}

void async_standby_fill(struct async *a, struct algo_actions *acts)
{
    if (a->role != ASYNC_HOLDER) return;
    uint32_t count = 0;
    for (rank_t k = 0; k < a->node_count; k++) count += a->peer[k].standby != ASYNC_STANDBY_NONE;
    for (int lame = 0; lame <= 1; lame++) /* who missed its time before is better than nobody */
        for (uint32_t i = 0; i < a->node_count && count < (lame ? 1 : a->successor_count); i++) {
            rank_t k = a->hash_order[i];
            struct async_peer *p = &a->peer[k];
            if (k == a->rank || !p->up || p->greeting < ASYNC_GREET_ASKED) continue;
            if (p->standby != ASYNC_STANDBY_NONE || p->lame != (lame == 1)) continue;
            standby_join(a, k, acts);
            count++;
        }
}

/* Without it, but not at once: if we are cut off, the other links are about to go as well, and then nothing
 * must be applied that only this side knows. */
void async_standby_lose(struct async *a, rank_t k)
{
    if (a->peer[k].standby == ASYNC_STANDBY_MEMBER) a->hold_until_us = a->now_us + a->patience_us / 8;
    a->peer[k].standby = ASYNC_STANDBY_NONE;
    a->snapshot_wanted = true;
}

void async_standby_tick(struct async *a)
{
    for (rank_t k = 0; k < a->node_count; k++) {
        struct async_peer *p = &a->peer[k];
        if (!owes(a, p)) p->acked_us = a->now_us;
        if (a->now_us - p->acked_us < a->patience_us) continue;
        trace_line(a->trace, TRACE_INFO, "async: rank %u is no successor any more: no answer", k);
        async_standby_lose(a, k);
        p->lame = true;
        a->snapshot_wanted = true;
    }
    snapshot_settle(a);
}

int async_on_ack(struct async *a, rank_t from, const struct algo_msg *m)
{
    struct async_peer *p = &a->peer[from];
    if (m->field_count != 4 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    if (!async_term_valid(a, m->field[0])) return ERR_PROTO;
    if (a->role != ASYNC_HOLDER || m->field[0] != a->term || p->standby == ASYNC_STANDBY_NONE) return 0;
    if (m->field[1] > a->ledger.index + 1 || m->field[2] > flight_last(a) || m->field[3] > a->own_sequence)
        return ERR_PROTO;
    if (m->field[1] > p->acked_snapshot) p->acked_snapshot = m->field[1];
    if (m->field[2] > p->acked_log) p->acked_log = m->field[2];
    if (m->field[3] > p->acked_own) p->acked_own = m->field[3];
    p->acked_us = a->now_us;
    if (p->standby == ASYNC_STANDBY_JOINING && p->acked_snapshot >= p->join_index)
        p->standby = ASYNC_STANDBY_MEMBER;
    snapshot_settle(a);
    return 0;
}

/* -- successor ----------------------------------------------------------------------------------- */

static void ack_send(struct async *a, rank_t to, struct algo_actions *acts)
{
    bool held = a->replica.term == a->term;
    struct algo_msg *m = async_send(a, acts, to, ASYNC_ACK, a->term, 4);
    m->field[1] = held ? a->replica.base.index + 1 : 0;
    m->field[2] = held ? async_replica_last(&a->replica) : 0;
    m->field[3] = a->own_last;
}

/* Appends what lies beyond the end of `to`, which holds the entries from `to_first` on. false = a gap. */
static bool ops_extend(struct async_ops *to, uint64_t to_first, const struct async_ops *from, uint64_t first)
{
    uint64_t next = to_first + to->count;
    if (first > next) return false;
    for (uint64_t i = next - first; i < from->count; i++)
        async_op_append(to, from->item[i].kind, from->item[i].name, from->item[i].count);
    return true;
}

static void log_take(struct async *a, uint64_t first, const struct async_ops *ops)
{
    struct async_replica *r = &a->replica;
    if (r->term == a->term && ops_extend(&r->ops, r->base.index + 1, ops, first)) return;
    if (a->early_term == a->term && first >= a->early_first &&
        ops_extend(&a->early, a->early_first, ops, first))
        return;
    async_ops_deinit(&a->early);
    a->early_term = a->term;
    a->early_first = first;
    CHECK(ops_extend(&a->early, first, ops, first));
}

int async_on_log(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 2 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    uint64_t first = m->field[1];
    if (!async_term_valid(a, m->field[0]) || first == 0 || first > UINT64_MAX / 2) return ERR_PROTO;
    struct async_ops ops = {0};
    if (async_ops_read(&ops, a->node_count, m->bits, m->bits_size) != 0) return ERR_PROTO;
    if (a->role == ASYNC_FETCHING && m->field[0] == a->asked && from == a->source) {
        if (a->fetched.ops.count == 0) a->fetch_first = first;
        (void)ops_extend(&a->fetched.ops, a->fetch_first, &ops, first); /* a gap: the fetch never ends */
        async_fetch_progress(a, acts);
    } else if (async_heeds(a, from, m->field[0], acts)) {
        log_take(a, first, &ops);
        ack_send(a, from, acts);
    }
    async_ops_deinit(&ops);
    return 0;
}

/* Entries of the new snapshot's term that come after it. */
static struct async_ops tail_of(struct async *a, uint64_t term, uint64_t index)
{
    struct async_ops tail = {0};
    struct async_replica *r = &a->replica;
    if (r->term == term && r->base.index <= index && async_replica_last(r) > index)
        (void)ops_extend(&tail, index + 1, &r->ops, r->base.index + 1);
    if (a->early_term == term) (void)ops_extend(&tail, index + 1, &a->early, a->early_first);
    return tail;
}

/* Copies of gradients that the snapshot holds already, or that were cancelled before it. */
static void own_prune(struct async_replica *r)
{
    for (uint32_t i = r->own.count; i-- > 0;) {
        uint64_t q = r->own.item[i].q;
        if (q < r->base.next_q && async_ledger_find(&r->base, q) == NULL) async_grads_remove(&r->own, i);
    }
}

static void snapshot_take(struct async *a, uint64_t term, struct async_ledger *l, struct blob *x)
{
    struct async_ops tail = tail_of(a, term, l->index);
    async_ledger_deinit(&a->replica.base);
    async_ops_deinit(&a->replica.ops);
    blob_unref(a->replica.x);
    a->replica.term = term;
    a->replica.base = *l;
    a->replica.x = blob_ref(x);
    a->replica.ops = tail;
    own_prune(&a->replica);
    async_ops_deinit(&a->early);
    a->early_term = 0;
    async_see(a, x, term, l->t);
}

int async_on_snapshot(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 8 || m->vec == NULL || m->field[7] > a->node_count) return ERR_PROTO;
    if (!async_term_valid(a, m->field[0]) || m->field[1] > m->field[0]) return ERR_PROTO;
    struct async_ledger l = {.index = m->field[2],
                             .t = m->field[3],
                             .next_q = m->field[4],
                             .draws = m->field[5],
                             .block = m->field[6],
                             .place = (uint32_t)m->field[7],
                             .node_count = a->node_count};
    uint64_t greatest = l.index | l.t | l.next_q | l.draws | l.block;
    if (greatest > UINT64_MAX / 2 || l.t >= l.next_q || async_ledger_read(&l, m->bits, m->bits_size) != 0) {
        async_ledger_deinit(&l);
        return ERR_PROTO;
    }
    if (a->role == ASYNC_FETCHING && m->field[0] == a->asked && from == a->source && a->fetched.x == NULL) {
        a->fetched.term = m->field[1];
        a->fetched.base = l;
        a->fetched.x = blob_ref(m->vec);
        async_fetch_progress(a, acts);
    } else if (async_heeds(a, from, m->field[0], acts)) {
        snapshot_take(a, m->field[0], &l, m->vec);
        ack_send(a, from, acts);
    } else {
        async_ledger_deinit(&l);
    }
    return 0;
}

int async_on_own(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 4 || m->bits_size != 0 || (m->vec == NULL) == (m->packed == NULL)) return ERR_PROTO;
    if (!async_term_valid(a, m->field[0]) || m->field[2] >= a->node_count) return ERR_PROTO;
    struct async_grad g = {.q = m->field[1],
                           .worker = (rank_t)m->field[2],
                           .sequence = m->field[3],
                           .vec = m->vec,
                           .packed = m->packed};
    if (g.packed != NULL) {
        struct compress_context context = {.seed = a->seed + g.worker, .round = g.q, .dither = g.worker};
        if (a->compressor == NULL || compressor_decode(a->compressor, &context, a->dim, g.packed->data,
                                                       g.packed->size, a->scratch) != 0)
            return ERR_PROTO;
    }
    if (a->role == ASYNC_FETCHING && m->field[0] == a->asked && from == a->source) {
        async_grads_add(&a->fetched.own, &g);
        async_fetch_progress(a, acts);
    } else if (async_heeds(a, from, m->field[0], acts)) {
        if (async_grads_find(&a->replica.own, g.q) == NULL) async_grads_add(&a->replica.own, &g);
        if (g.sequence > a->own_last) a->own_last = g.sequence;
        ack_send(a, from, acts);
    }
    return 0;
}

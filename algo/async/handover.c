/* The holder's role goes on to the next node after `term` updates, so that the load goes round.
 *
 * Normal course
 *  - the next holder is the next node in hash order, taken as a circle, that is up, greeted and on the
 *    list. It joins the successors, if it is not among them.
 *  - the log rests: what is on its way is applied, then a snapshot is sent. When the next holder has it,
 *    there is nothing to replay: HANDOVER to all, and the old holder is a follower with a replica as good.
 *  - who is named asks for the next term at once; the others take the old one for lost and vote. From there
 *    on all goes as after a failure (election.c, recover.c): gradients that were not logged are sent again,
 *    table and queues are brought into agreement. Meanwhile workers do what is in their queues.
 * Failure courses
 *  - the next holder is lost before HANDOVER, or misses the patience: the next but one; with none, all goes
 *    on.
 *  - it is lost, or its HANDOVER is, afterwards: whoever is first to find no holder for long enough asks,
 *    the old one among them.
 *  - ASK overtakes HANDOVER (another link): not answered, as the holder is heard, but remembered; HANDOVER
 *    names who asked, and the vote goes out.
 *  - the old holder dies: it is not needed any more. Where its HANDOVER has not come it is missed as usual. */
#include "algo/async/internal.h"
#include "base/check.h"

/* -- holder ---------------------------------------------------------------------------------------- */

rank_t async_after(const struct async *a, uint32_t i)
{
    uint32_t place = 0;
    while (a->hash_order[place] != a->rank) place++;
    return a->hash_order[(place + 1 + i) % a->node_count];
}

static rank_t next_holder(const struct async *a)
{
    for (uint32_t i = 0; i + 1 < a->node_count; i++) {
        rank_t k = async_after(a, i);
        const struct async_peer *p = &a->peer[k];
        if (p->up && p->greeting == ASYNC_GREET_DONE && !p->silent && !p->lame && a->ledger.member[k])
            return k;
    }
    return RANK_NONE;
}

static void announce(struct async *a, rank_t next, struct algo_actions *acts)
{
    trace_line(a->trace, TRACE_INFO, "async: hands term %llu over to rank %u at update %llu",
               (unsigned long long)a->term, next, (unsigned long long)a->ledger.t);
    for (rank_t k = 0; k < a->node_count; k++)
        if (k != a->rank && a->peer[k].up)
            async_send(a, acts, k, ASYNC_HANDOVER, a->term, 2)->field[1] = next;
    a->ended = a->term;
    async_holder_step_down(a);
}

bool async_handover(struct async *a, struct algo_actions *acts)
{
    CHECK(a->role == ASYNC_HOLDER && a->flight.count == 0);
    if (a->term_updates == 0 || a->ledger.t - a->term_t < a->term_updates) return false;
    rank_t next = next_holder(a);
    if (next == RANK_NONE) return false;
    switch (a->peer[next].standby) {
    case ASYNC_STANDBY_NONE:
        async_standby_join(a, next, acts);
        return true;
    case ASYNC_STANDBY_JOINING:
        return true;
    case ASYNC_STANDBY_MEMBER:
        if (a->peer[next].acked_snapshot > a->ledger.index) {
            announce(a, next, acts);
        } else if (a->snapshot_index == 0) { /* else that one first */
            a->snapshot_wanted = true;
            async_snapshot_begin(a, acts);
        }
        return true;
    }
    UNREACHABLE();
}

/* -- the others ------------------------------------------------------------------------------------ */

int async_on_handover(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 2 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    uint64_t term = m->field[0];
    if (!async_term_valid(a, term) || term % a->node_count != from) return ERR_PROTO;
    if (m->field[1] >= a->node_count || m->field[1] == from) return ERR_PROTO;
    rank_t next = (rank_t)m->field[1];
    if (!async_heeds(a, from, term, acts) || term == a->ended) return 0;
    a->ended = term;
    a->greeted = false; /* gradients wait for the next one */
    async_lose_holder(a);
    bool has_asked = a->asked > a->promised && a->asked % a->node_count == next;
    if (next == a->rank) {
        if (async_majority(a, async_up_count(a))) async_stand(a, acts);
    } else if (has_asked && a->peer[next].up) {
        async_vote(a, next, a->asked, acts);
    }
    return 0;
}

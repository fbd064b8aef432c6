/* Terms and elections: who the holder is.
 *
 * A term is round * n + rank of its holder, so no two candidates ever ask for the same one. A node votes once
 * in a round, so that a round has one holder at most: job numbers go by rounds. Term n + (first in hash order)
 * needs no election: everybody starts with it, but a node that comes back into a running cluster.
 *
 * A vote is a promise that a restart must not break: a voter that comes back within the election would vote again in
 * the same round, and with two holders in a round two jobs would have one number. So VOTE, and ASK, which is the
 * candidate's vote for itself, are durable sends: they leave once the promise is on disk (state.c has it, algo_action
 * says what durable is), and neither loop nor training waits for that. It goes the way of every checkpoint and not by
 * a file of its own: there is one thing on disk, it cannot contradict itself, and elections are rare. What it costs
 * is one more save per election, which must take less than the half patience for which a candidate waits. A promise
 * that did not get to disk was not made: nobody has heard of it.
 *
 * Normal course
 *  - the holder says ALIVE sixteen times in a patience; whoever hears it does nothing.
 *  - it is lost: its link is down for a quarter of the patience, or it is silent for half of it. The next in
 *    hash order asks for a term of the next round (ASK); those after it wait longer.
 *  - a node that has lost the holder too answers VOTE with the extent of its replica, and heeds no older term
 *    from then on. A majority of all n, not of those up, elects: of two parts of a cluster one at most has a
 *    holder.
 *  - the candidate waits a moment for the others' votes, takes the best replica (FETCH, when it is not its
 *    own: greatest term of the log, then last entry, then snapshot), and recovers (recover.c).
 * Failure courses
 *  - a node that still hears the holder does not answer: one bad link deposes nobody.
 *  - no majority, or a candidate that dies: the candidature is given up, the next one asks for a greater
 *    term. A candidate's vote for itself binds nobody once it gave up.
 *  - many ask at once and share the votes of a round: nobody has a majority, and all are quiet for the same
 *    time. They ask again one after the other, as at first, or the same would happen for ever.
 *  - an old holder speaks to a node that has promised a later term: STALE. It steps down; what it holds
 *    becomes a replica.
 *  - an OWN or SNAPSHOT comes before the TERM that was sent first (other lane): it is obeyed likewise.
 *  - the voter that is fetched from is lost: the candidature is given up.
 *  - the disk is slow or full: the vote does not leave. The candidate gives up in time; another may be elected.
 *  - a voter or candidate restarts: it comes back with its promise, and answers no round up to that one again. Without
 *    its state directory it knows nothing and may vote twice.
 *  - another holds the place of the first term's holder by now, for it the first term is its own: whoever knew the
 *    one before heeds that term no more, and says so. An election decides.
 *  - most nodes came back and know nothing: they elect one of them if nobody reachable knows a later term. */
#include "algo/async/internal.h"
#include "base/check.h"
#include "base/prng.h"

static const char *const role_name[] = {"follower", "candidate", "fetching", "recovering", "holder"};

uint64_t async_round(const struct async *a, uint64_t term)
{
    return term / a->node_count;
}

bool async_term_valid(const struct async *a, uint64_t term)
{
    uint64_t round = async_round(a, term),
             known = async_round(a, a->promised > a->asked ? a->promised : a->asked);
    if (term < a->node_count || round >= ASYNC_ROUND_MAX) return false;
    return known == 0 || round <= known + ASYNC_ROUND_AHEAD_MAX;
}

void async_lose_holder(struct async *a)
{
    a->holder = RANK_NONE;
    a->lost_us = a->now_us;
}

/* -- obeying ------------------------------------------------------------------------------------- */

static void give_up(struct async *a)
{
    trace_line(a->trace, TRACE_INFO, "async: gives up term %llu (%s)", (unsigned long long)a->asked,
               role_name[a->role]);
    async_replica_clear(&a->fetched);
    if (a->role == ASYNC_RECOVERING) async_holder_clear(a);
    a->role = ASYNC_FOLLOWER;
    async_lose_holder(a);
}

void async_adopt(struct async *a, uint64_t term)
{
    if (a->role == ASYNC_HOLDER) async_holder_step_down(a);
    if (a->role != ASYNC_FOLLOWER) give_up(a);
    if (term > a->term) {
        a->own_last = 0;
        a->greeted = false;
        a->report.terms++;
    }
    a->term = a->promised = term;
    a->holder = (rank_t)(term % a->node_count);
    a->heard_us = a->now_us;
    a->quiet_until_us = 0;
}

/* Any word of a later term is as good as its TERM: a SNAPSHOT or OWN that comes before it (other lane) and is
 * dropped would be missing for good, as nobody sends it again. */
bool async_heeds(struct async *a, rank_t from, uint64_t term, struct algo_actions *acts)
{
    bool from_holder = term % a->node_count == from;
    if (from_holder && term >= a->term && term >= a->promised) {
        bool obeyed = term == a->term && a->role == ASYNC_FOLLOWER && a->holder == from;
        if (!obeyed) async_adopt(a, term); /* elected elsewhere, or alive after all */
        a->heard_us = a->now_us;
        return true;
    }
    a->report.duplicates_dropped++;
    if (term < a->promised && from_holder) async_send(a, acts, from, ASYNC_STALE, a->promised, 1);
    return false;
}

int async_on_stale(struct async *a, const struct algo_msg *m)
{
    if (m->field_count != 1 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    uint64_t promised = m->field[0];
    if (!async_term_valid(a, promised)) return ERR_PROTO;
    bool deposed = a->role >= ASYNC_RECOVERING ? promised > a->term : promised >= a->asked;
    if (promised > a->asked) a->asked = promised;
    if (!deposed) return 0;
    if (a->role == ASYNC_HOLDER) async_holder_step_down(a);
    if (a->role != ASYNC_FOLLOWER) give_up(a);
    return 0;
}

/* -- asking -------------------------------------------------------------------------------------- */

/* Time since when the holder seems lost; TIME_NEVER = it is there. */
static uint64_t lost_since(const struct async *a)
{
    if (a->holder == RANK_NONE) return a->lost_us;
    const struct async_peer *p = &a->peer[a->holder];
    if (!p->up) return p->since_us;
    return a->now_us - a->heard_us >= a->patience_us / 2 ? a->heard_us + a->patience_us / 4 : TIME_NEVER;
}

/* How many that are up come before us in hash order. */
static uint32_t place_of(const struct async *a)
{
    uint32_t place = 0;
    for (uint32_t i = 0; a->hash_order[i] != a->rank; i++)
        place += a->peer[a->hash_order[i]].up && a->hash_order[i] != a->holder;
    return place;
}

/* A node that came back knowing nothing may have held a term before: it leaves a gap that depends on the
 * time, so as not to ask for that one again. */
static uint64_t amnesia_gap(const struct async *a)
{
    struct prng random;
    prng_split(&random, a->seed, "async round", a->now_us);
    return 1 + prng_below(&random, 1u << 16);
}

void async_ask_send(struct async *a, rank_t to, struct algo_actions *acts)
{
    async_send(a, acts, to, ASYNC_ASK, a->asked, 1);
    algo_send_durably(acts);
}

static void candidate_begin(struct async *a, struct algo_actions *acts)
{
    uint64_t greatest = a->asked > a->promised ? a->asked : a->promised;
    uint64_t round = async_round(a, greatest) + 1;
    if (greatest == 0) round += amnesia_gap(a);
    if (round >= ASYNC_ROUND_MAX)
        return; /* 2^30 rounds: peers that lie about their terms again and again; nothing can be done */
    a->asked = round * a->node_count + a->rank;
    a->role = ASYNC_CANDIDATE;
    a->stage_us = a->now_us;
    a->won_us = TIME_NEVER;
    trace_line(a->trace, TRACE_INFO, "async: asks for term %llu", (unsigned long long)a->asked);
    for (rank_t k = 0; k < a->node_count; k++) {
        a->peer[k].voted = false;
        if (k != a->rank && a->peer[k].up) async_ask_send(a, k, acts);
    }
}

static bool all_voted(const struct async *a)
{
    for (rank_t k = 0; k < a->node_count; k++)
        if (k != a->rank && a->peer[k].up && !a->peer[k].voted) return false;
    return true;
}

static void count_votes(struct async *a, struct algo_actions *acts)
{
    uint32_t votes = 1;
    for (rank_t k = 0; k < a->node_count; k++) votes += k != a->rank && a->peer[k].voted;
    if (!async_majority(a, votes)) return;
    if (a->won_us == TIME_NEVER) a->won_us = a->now_us;
    if (all_voted(a) || a->now_us - a->won_us >= a->patience_us / 8) async_elected(a, acts);
}

void async_election_tick(struct async *a, struct algo_actions *acts)
{
    switch (a->role) {
    case ASYNC_FOLLOWER: {
        uint64_t since = lost_since(a);
        if (since == TIME_NEVER) return;
        uint64_t first_us = since + a->patience_us / 4;
        if (first_us < a->quiet_until_us)
            first_us = a->quiet_until_us; /* the same for all who voted together */
        if (a->now_us < first_us + place_of(a) * (a->patience_us / 8)) return;
        if (!async_majority(a, async_up_count(a))) return;
        candidate_begin(a, acts);
        count_votes(a, acts); /* alone it is elected at once */
        return;
    }
    case ASYNC_CANDIDATE:
        count_votes(a, acts);
        if (a->role == ASYNC_CANDIDATE && a->now_us - a->stage_us >= a->patience_us / 2) give_up(a);
        return;
    case ASYNC_FETCHING:
        if (a->now_us - a->stage_us >= 2 * a->patience_us) give_up(a);
        return;
    case ASYNC_RECOVERING:
        async_recover_progress(a, acts);
        return;
    case ASYNC_HOLDER:
        return;
    }
    UNREACHABLE();
}

void async_election_peer_up(struct async *a, rank_t peer, uint64_t boot)
{
    struct async_peer *p = &a->peer[peer];
    bool other = p->boot != 0 && p->boot != boot;
    p->boot = boot;
    bool first = async_round(a, a->term) == 1; /* which needs no election */
    if (!other || !first || a->holder != peer || a->promised > a->term) return;
    a->promised = a->term + 1;
    async_lose_holder(a);
}

void async_election_peer_down(struct async *a, rank_t peer)
{
    a->peer[peer].voted = false;
    if (a->role == ASYNC_FETCHING && peer == a->source) give_up(a);
}

/* -- voting -------------------------------------------------------------------------------------- */

int async_on_ask(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 1 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    uint64_t term = m->field[0];
    if (!async_term_valid(a, term) || term % a->node_count != from) return ERR_PROTO;
    if (term > a->asked && a->role == ASYNC_FOLLOWER) a->asked = term;
    if (async_round(a, term) <= async_round(a, a->promised)) { /* once in a round, for job numbers' sake */
        async_send(a, acts, from, ASYNC_STALE, a->promised, 1);
        return 0;
    }
    if (a->role >= ASYNC_FETCHING) return 0;
    bool heard = a->holder != RANK_NONE && a->holder != from && a->peer[a->holder].up &&
                 a->now_us - a->heard_us < a->patience_us / 4;
    if (heard || (a->role == ASYNC_CANDIDATE && a->asked > term)) return 0;
    if (a->role == ASYNC_CANDIDATE) give_up(a);
    a->asked = a->promised = term;
    a->quiet_until_us = a->now_us + 2 * a->patience_us;
    struct async_extent e = async_extent_of(a);
    struct algo_msg *vote = async_send(a, acts, from, ASYNC_VOTE, term, 7);
    vote->field[1] = e.log_term;
    vote->field[2] = e.log_last;
    vote->field[3] = e.log_snapshot;
    vote->field[4] = e.log_t;
    vote->field[5] = e.seen_term;
    vote->field[6] = e.seen_t;
    algo_send_durably(acts);
    return 0;
}

int async_on_vote(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 7 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    uint64_t term = m->field[0], last = m->field[2], snapshot = m->field[3];
    if (!async_term_valid(a, term) || last > UINT64_MAX / 2 || snapshot > last + 1) return ERR_PROTO;
    if (m->field[1] > term || m->field[5] > term || (m->field[4] | m->field[6]) > UINT64_MAX / 2)
        return ERR_PROTO;
    if (a->role != ASYNC_CANDIDATE || term != a->asked) return 0;
    struct async_peer *p = &a->peer[from];
    p->voted = true;
    p->extent = (struct async_extent){m->field[1], last, snapshot, m->field[4], m->field[5], m->field[6]};
    count_votes(a, acts);
    return 0;
}

/* Probes: who answers, and what follows when nobody does (SWIM, section 4; Lifeguard's NACKs, section IV-A).
 *
 * Normal course
 *  - each interval one member of a shuffled round is asked over its link. One without a link waits for the budget
 *    of dials, then for its link.
 *  - no ACK after ack_us * (health + 1): PING_REQ to `indirect` random linked members.
 *  - the member's ACK, direct or through one of those, ends the probe: health - 1.
 * Failure courses
 *  - nothing by the end of interval * (health + 1): SUSPECT. Helpers that did not even send a NACK raise our
 *    score, each by one; without helpers it rises by one.
 *  - a link that broke, or was silent: an urgent probe, which asks helpers at once and dials beside.
 *  - nothing is left to wait for (no link, no dial under way, all helpers said NACK): SUSPECT at once; likewise
 *    when its link broke and its host refuses: its process is gone. A refusal alone is asked about: the address may be
 *    one that nobody reaches it at, behind a NAT or on a loopback of another machine.
 *  - we could neither ask the member nor anybody else: nothing is concluded, the probe waits for a dial; but a
 *    member that cannot be dialled and whose link broke is suspected.
 *  - a member that is not linked and cannot be dialled is left to those that have its link, and says by itself that
 *    it is there; helpers are asked about one of which nothing new has come for membership_unheard_us: who had its
 *    link may have died with it. */
#include <string.h>

#include "base/check.h"
#include "net/membership/internal.h"

/* -- health ------------------------------------------------------------------------------------ */

uint64_t membership_scale(const struct membership *m)
{
    return (uint64_t)m->totals.health + 1;
}

void membership_health_add(struct membership *m, int32_t by)
{
    if (!m->config.local_health) return;
    int32_t health = (int32_t)m->totals.health + by;
    if (health < 0) health = 0;
    m->totals.health = health > HEALTH_MAX ? HEALTH_MAX : (uint32_t)health;
}

/* -- the list ---------------------------------------------------------------------------------- */

static struct probe *probe_of(const struct membership *m, node_id target)
{
    for (uint32_t i = 0; i < m->probe_count; i++)
        if (m->probe[i].target == target) return &m->probe[i];
    return NULL;
}

/* In order: those that wait for a dial are served first come, first served. */
static void probe_end(struct membership *m, struct probe *p)
{
    size_t at = (size_t)(p - m->probe);
    m->probe_count--;
    memmove(p, p + 1, (m->probe_count - at) * sizeof *p);
}

void membership_probe_drop(struct membership *m, node_id target)
{
    struct probe *p = probe_of(m, target);
    if (p != NULL) probe_end(m, p);
}

static struct probe *probe_begin(struct membership *m, node_id target)
{
    if (m->probe_count == m->probe_capacity) {
        m->probe_capacity = m->probe_capacity == 0 ? 8 : m->probe_capacity * 2;
        m->probe = mem_resize(m->probe, m->probe_capacity, sizeof *m->probe);
    }
    struct probe *p = &m->probe[m->probe_count++];
    *p = (struct probe){.target = target, .number = ++m->probe_number};
    p->ack_at_us = time_after(m->now_us, m->config.ack_us * membership_scale(m));
    p->end_at_us = time_after(m->now_us, m->config.probe_us * membership_scale(m));
    return p;
}

/* -- steps of a probe -------------------------------------------------------------------------- */

static void ping(struct membership *m, struct probe *p)
{
    p->pinged = true;
    p->ping_us = m->now_us;
    membership_send(m, p->target, (struct swim_msg){.kind = SWIM_PING, .number = p->number});
}

static void ask_helpers(struct membership *m, struct probe *p)
{
    p->stage = PROBE_INDIRECT;
    uint32_t picked = membership_pick_links(m, m->config.indirect, p->target);
    const struct swim_msg msg = {.kind = SWIM_PING_REQ, .number = p->number, .target = p->target};
    for (uint32_t i = 0; i < picked; i++) membership_send(m, m->link[m->scratch[i]]->id, msg);
    p->asked = picked;
    p->nacked = 0;
    /* Helpers get their time, however late they are asked. */
    uint64_t rest_us = (m->config.probe_us - m->config.ack_us) * membership_scale(m);
    if (p->end_at_us < time_after(m->now_us, rest_us)) p->end_at_us = time_after(m->now_us, rest_us);
}

static void probe_failed(struct membership *m, struct probe *p, enum member_evidence evidence)
{
    struct record *r = membership_record(m, p->target);
    CHECK(r != NULL);
    if (p->asked > 0)
        membership_health_add(m, (int32_t)(p->asked - p->nacked));
    else if (evidence != EVIDENCE_REFUSED)
        membership_health_add(m, 1);
    probe_end(m, p);
    membership_suspect(m, r, evidence);
}

static enum member_evidence verdict(const struct probe *p)
{
    return p->evidence != EVIDENCE_NONE ? p->evidence : EVIDENCE_TIMEOUT;
}

/* No answer can come any more: nobody to wait for. */
static bool is_hopeless(const struct membership *m, const struct probe *p)
{
    if (p->stage != PROBE_INDIRECT || p->dial == PROBE_DIAL_UNDER_WAY) return false;
    if (membership_link(m, p->target) != NULL) return false;
    if (p->asked > 0) return p->nacked >= p->asked;
    return p->dial == PROBE_DIAL_FAILED;
}

/* Time is up. True when the probe has ended. A dial with its hello takes three round trips: on a long path more than
 * an interval, so it gets a second one unless there is evidence already. */
static bool probe_time_up(struct membership *m, struct probe *p)
{
    if (p->dial == PROBE_DIAL_UNDER_WAY && p->evidence == EVIDENCE_NONE && !p->waited) {
        p->waited = true;
        p->end_at_us = time_after(m->now_us, m->config.probe_us * membership_scale(m));
        return false;
    }
    bool tried = p->pinged || p->asked > 0 || p->dial == PROBE_DIAL_UNDER_WAY || p->dial == PROBE_DIAL_FAILED;
    if (tried || p->dial == PROBE_DIAL_NONE) {
        probe_failed(m, p, verdict(p));
        return true;
    }
    p->stage = PROBE_WAIT;
    return false;
}

static bool probe_timer(struct membership *m, struct probe *p)
{
    switch (p->stage) {
    case PROBE_WAIT:
        return false;
    case PROBE_DIRECT:
        if (m->now_us >= p->ack_at_us) ask_helpers(m, p);
        return false;
    case PROBE_INDIRECT:
        return m->now_us >= p->end_at_us && probe_time_up(m, p);
    }
    UNREACHABLE();
}

void membership_probe_timers(struct membership *m)
{
    for (uint32_t i = 0; i < m->probe_count;)
        if (!probe_timer(m, &m->probe[i])) i++;
}

uint64_t membership_probe_next_us(const struct membership *m)
{
    uint64_t next_us = TIME_NEVER;
    bool round = false;
    for (uint32_t i = 0; i < m->probe_count; i++) {
        const struct probe *p = &m->probe[i];
        round = round || p->round;
        uint64_t at_us = TIME_NEVER;
        if (p->stage == PROBE_DIRECT) at_us = p->ack_at_us;
        if (p->stage == PROBE_INDIRECT) at_us = p->end_at_us;
        if (at_us < next_us) next_us = at_us;
    }
    return !round && m->probe_at_us < next_us ? m->probe_at_us : next_us;
}

/* -- the round --------------------------------------------------------------------------------- */

static void round_push(struct membership *m, node_id id)
{
    if (m->round_count == m->round_capacity) {
        m->round_capacity = m->round_capacity == 0 ? 16 : m->round_capacity * 2;
        m->round = mem_resize(m->round, m->round_capacity, sizeof *m->round);
    }
    m->round[m->round_count++] = id;
}

/* A new member is asked at a random place of what is left, so that one bound holds for all. */
void membership_round_insert(struct membership *m, node_id id)
{
    round_push(m, id);
    uint32_t at = m->round_next + prng_below(&m->prng, m->round_count - m->round_next);
    m->round[m->round_count - 1] = m->round[at];
    m->round[at] = id;
}

static void round_refill(struct membership *m)
{
    m->round_next = m->round_count = 0;
    for (uint32_t i = 0; i < m->record_count; i++)
        if (m->record[i] != m->self) membership_round_insert(m, m->record[i]->m.id);
}

static bool is_due(const struct membership *m, const struct record *r)
{
    if (r == NULL || r == m->self) return false;
    if (r->m.state != MEMBER_ALIVE && r->m.state != MEMBER_SUSPECT) return false;
    if (probe_of(m, r->m.id) != NULL) return false;
    if (membership_link(m, r->m.id) != NULL || r->m.address[0] != '\0') return true;
    return m->link_count > 0 && m->now_us >= time_after(r->news_us, membership_unheard_us(m));
}

static struct record *round_next(struct membership *m)
{
    for (int turn = 0; turn < 2; turn++) {
        while (m->round_next < m->round_count) {
            struct record *r = membership_record(m, m->round[m->round_next++]);
            if (is_due(m, r)) return r;
        }
        round_refill(m);
    }
    return NULL;
}

void membership_probe_round(struct membership *m)
{
    if (m->now_us < m->probe_at_us) return;
    for (uint32_t i = 0; i < m->probe_count; i++)
        if (m->probe[i].round) return;
    m->probe_at_us = time_after(m->now_us, m->config.probe_us);
    const struct record *r = round_next(m);
    if (r == NULL) return;
    struct probe *p = probe_begin(m, r->m.id);
    p->round = true;
    if (membership_link(m, r->m.id) != NULL) {
        p->stage = PROBE_DIRECT;
        ping(m, p);
    } else if (r->m.address[0] == '\0') {
        ask_helpers(m, p);
    } else {
        p->stage = PROBE_WAIT;
        p->dial = PROBE_DIAL_WANTED;
    }
}

/* -- events ------------------------------------------------------------------------------------ */

void membership_probe_urgent(struct membership *m, struct record *r, enum member_evidence evidence)
{
    struct probe *p = probe_of(m, r->m.id);
    if (p == NULL) p = probe_begin(m, r->m.id);
    p->evidence = evidence;
    if (p->dial == PROBE_DIAL_NONE && r->m.address[0] != '\0') p->dial = PROBE_DIAL_WANTED;
    if (p->stage != PROBE_INDIRECT) ask_helpers(m, p);
}

void membership_probe_linked(struct membership *m, node_id id)
{
    struct probe *p = probe_of(m, id);
    if (p == NULL) return;
    p->dial = PROBE_DIAL_NONE;
    if (p->stage == PROBE_WAIT) {
        p->stage = PROBE_DIRECT;
        p->ack_at_us = time_after(m->now_us, m->config.ack_us * membership_scale(m));
        p->end_at_us = time_after(m->now_us, m->config.probe_us * membership_scale(m));
    }
    /* On a long path the dial itself takes most of the interval: its answer gets the time of an answer. */
    uint64_t answer_us = time_after(m->now_us, m->config.ack_us * membership_scale(m));
    if (p->end_at_us < answer_us) p->end_at_us = answer_us;
    ping(m, p);
}

/* The link went with a goodbye: no evidence, but whoever was asked over it cannot answer there. */
void membership_probe_unlinked(struct membership *m, node_id id)
{
    struct probe *p = probe_of(m, id);
    const struct record *r = membership_record(m, id);
    if (p == NULL || r == NULL) return;
    p->pinged = false;
    if (r->m.address[0] == '\0') {
        probe_end(m, p);
        return;
    }
    p->dial = PROBE_DIAL_WANTED;
    if (p->stage == PROBE_DIRECT) p->stage = PROBE_WAIT;
}

void membership_probe_unreachable(struct membership *m, struct record *r, enum member_evidence evidence)
{
    struct probe *p = probe_of(m, r->m.id);
    if (p != NULL && p->evidence != EVIDENCE_NONE && evidence == EVIDENCE_REFUSED) {
        probe_end(m, p);
        membership_suspect(m, r, evidence);
        return;
    }
    if (p == NULL && evidence != EVIDENCE_REFUSED) return;
    if (p == NULL) p = probe_begin(m, r->m.id);
    if (evidence == EVIDENCE_REFUSED) p->evidence = evidence;
    p->dial = PROBE_DIAL_FAILED;
    if (p->stage != PROBE_INDIRECT) ask_helpers(m, p);
    if (is_hopeless(m, p)) probe_failed(m, p, verdict(p));
}

static struct probe *probe_numbered(const struct membership *m, uint64_t number)
{
    for (uint32_t i = 0; i < m->probe_count; i++)
        if (m->probe[i].number == number) return &m->probe[i];
    return NULL;
}

/* From the member itself, or from one that we asked about it. */
void membership_probe_acked(struct membership *m, node_id from, uint64_t number)
{
    struct probe *p = probe_numbered(m, number);
    if (p == NULL || (p->target != from && p->asked == 0)) return;
    struct member_link *l = membership_link(m, from);
    struct record *r = membership_record(m, p->target);
    if (r != NULL) r->news_us = m->now_us;
    if (p->target == from && l != NULL && p->pinged) l->round_trip_us = m->now_us - p->ping_us;
    probe_end(m, p);
    membership_health_add(m, -1);
}

void membership_probe_nacked(struct membership *m, uint64_t number)
{
    struct probe *p = probe_numbered(m, number);
    if (p == NULL || p->nacked == p->asked) return;
    p->nacked++;
    if (is_hopeless(m, p)) probe_failed(m, p, verdict(p));
}

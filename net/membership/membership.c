/* Membership: events, time, and what the owner reads. The rest is in the other files of this folder, see membership.h.
 *
 * Normal course
 *  - each event is handled at its time; then whoever waits for a dial is served, and the next deadline is armed,
 *    at most ack_us ahead, so that a stop of the process shows.
 * Failure courses
 *  - an event comes later than the armed deadline by more than LATE_US: what waits in the sockets is heard before
 *    the next verdict, which is held back by HOLD_US; once, so that a machine that is always late judges too.
 *  - it comes later by more than an interval: we were stopped. Whatever runs against others is put off by as
 *    much, our health score rises by one for each interval.
 *  - after LEAVE: deaf. */
#include "net/membership/membership.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/membership/internal.h"

enum { LATE_US = 100000, HOLD_US = 20000 };

void membership_defaults(struct membership_config *c)
{
    const uint64_t second_us = 1000000;
    *c = (struct membership_config){.probe_us = second_us,
                                    .ack_us = second_us / 2,
                                    .gossip_us = second_us / 5,
                                    .sync_us = 30 * second_us,
                                    .redial_max_us = 30 * second_us,
                                    .forget_us = 24 * 3600 * second_us,
                                    .indirect = 3,
                                    .gossip_fanout = 3,
                                    .suspicion_mult = 4,
                                    .suspicion_spread = 6,
                                    .local_health = true};
}

struct membership *membership_new(const struct membership_config *config)
{
    CHECK(config->self.id != NOBODY);
    CHECK(config->ack_us > 0 && config->ack_us < config->probe_us);
    CHECK(config->gossip_us > 0 && config->sync_us > 0 && config->redial_max_us >= config->probe_us);
    struct membership *m = mem_new_zero(1, sizeof *m);
    m->config = *config;
    prng_split(&m->prng, config->seed, "membership", config->self.id);
    struct member self = config->self;
    self.state = MEMBER_ALIVE;
    self.accuser = 0;
    self.evidence = EVIDENCE_NONE;
    if (self.incarnation < self.boot) self.incarnation = self.boot;
    if (self.incarnation == 0) self.incarnation = 1;
    m->self = membership_record_add(m, &self);
    m->probe_number = prng_next(&m->prng) >> 16;
    m->record_timer_us = m->deadline_us = TIME_NEVER;
    return m;
}

void membership_free(struct membership *m)
{
    if (m == NULL) return;
    membership_records_free(m);
    for (uint32_t i = 0; i < m->store.block_count; i++) free(m->store.block[i]);
    free(m->store.block);
    free(m->rumour);
    free(m->probe);
    free(m->round);
    free(m);
}

/* -- actions ----------------------------------------------------------------------------------- */

struct membership_action *membership_act(struct membership *m, enum membership_action_kind kind, node_id id)
{
    struct membership_actions *a = m->acts;
    if (a->count == a->capacity) {
        a->capacity = a->capacity == 0 ? 8 : a->capacity * 2;
        a->item = mem_resize(a->item, a->capacity, sizeof *a->item);
    }
    struct membership_action *act = &a->item[a->count++];
    *act = (struct membership_action){.kind = kind, .id = id};
    return act;
}

void membership_changed(struct membership *m, const struct record *r, bool is_new, enum member_state before,
                        uint32_t confirmations)
{
    struct membership_action *a = membership_act(m, MEMBERSHIP_CHANGED, r->m.id);
    a->is_new = is_new;
    a->before = before;
    a->confirmations = confirmations;
}

void membership_actions_clear(struct membership_actions *acts)
{
    acts->count = 0;
}

void membership_actions_deinit(struct membership_actions *acts)
{
    free(acts->item);
    *acts = (struct membership_actions){0};
}

/* -- time -------------------------------------------------------------------------------------- */

/* What runs against others does not run while we do not listen. */
static void put_off(struct membership *m, uint64_t by_us)
{
    for (uint32_t i = 0; i < m->record_count; i++) {
        struct suspicion *s = &m->record[i]->suspicion;
        s->start_us = time_after(s->start_us, by_us);
        m->record[i]->news_us = time_after(m->record[i]->news_us, by_us);
    }
    for (uint32_t i = 0; i < m->probe_count; i++) {
        m->probe[i].ack_at_us = time_after(m->probe[i].ack_at_us, by_us);
        m->probe[i].end_at_us = time_after(m->probe[i].end_at_us, by_us);
    }
    for (uint32_t i = 0; i < m->relay_count; i++)
        m->relay[i].nack_at_us = time_after(m->relay[i].nack_at_us, by_us);
}

static void notice_lateness(struct membership *m)
{
    if (!m->config.local_health || m->now_us <= time_after(m->deadline_us, LATE_US)) return;
    if (!m->held) m->held_us = time_after(m->now_us, HOLD_US);
    m->held = true;
    uint64_t late_us = m->now_us - m->deadline_us;
    if (late_us <= m->config.probe_us) return;
    put_off(m, late_us);
    m->totals.stops++;
    uint64_t missed = late_us / m->config.probe_us;
    membership_health_add(m, missed < HEALTH_MAX ? (int32_t)missed : HEALTH_MAX);
    trace_line(m->config.trace, TRACE_WARN,
               "membership: this process was stopped for %.1f s; nobody is judged by what it missed",
               (double)late_us / 1e6);
}

static void lower(uint64_t *to, uint64_t at_us)
{
    if (at_us < *to) *to = at_us;
}

static void arm(struct membership *m)
{
    m->deadline_us = TIME_NEVER;
    if (m->left || !m->started) return;
    lower(&m->deadline_us, time_after(m->now_us, m->config.ack_us));
    lower(&m->deadline_us, m->record_timer_us);
    lower(&m->deadline_us, m->sync_at_us);
    lower(&m->deadline_us, membership_probe_next_us(m));
    lower(&m->deadline_us, membership_relay_next_us(m));
    if (m->rumour_count > 0 && m->link_count > 0) lower(&m->deadline_us, m->gossip_at_us);
    if (membership_dial_wanted(m)) lower(&m->deadline_us, m->dial_at_us);
    if (m->held && m->deadline_us < m->held_us) m->deadline_us = m->held_us;
    if (m->deadline_us < m->now_us) m->deadline_us = m->now_us; /* lateness counts from here */
}

static void on_deadline(struct membership *m)
{
    if (m->left || (m->held && m->now_us < m->held_us)) return;
    m->held = false;
    membership_probe_timers(m);
    membership_relay_timers(m);
    membership_record_timers(m); /* after probes: these may have shortened a suspicion */
    membership_probe_round(m);
    membership_gossip(m);
    membership_sync_random(m);
}

uint64_t membership_deadline_us(const struct membership *m)
{
    return m->deadline_us;
}

/* -- events ------------------------------------------------------------------------------------ */

static void on_start(struct membership *m)
{
    CHECK(!m->started);
    m->started = true;
    m->start_us = m->now_us;
    m->probe_at_us = time_after(m->now_us, (uint64_t)(prng_unit(&m->prng) * (double)m->config.probe_us));
    m->sync_at_us = time_after(m->now_us, (uint64_t)(prng_unit(&m->prng) * (double)m->config.sync_us));
}

static void on_link_up(struct membership *m, node_id peer, const char *address)
{
    struct member_link *l = membership_link_add(m, peer, address);
    struct record *r = membership_record(m, peer);
    if (r != NULL) {
        r->dialling_us = 0;
        if (r->m.address[0] == '\0' && l->address[0] != '\0') {
            memcpy(r->m.address, l->address, sizeof r->m.address);
            membership_changed(m, r, false, r->m.state, 0);
        }
    }
    if (m->left) {
        membership_tell(m, peer, m->self);
        return;
    }
    if (r != NULL && (r->missed || r->m.state != MEMBER_ALIVE))
        membership_sync(m, l);
    else
        membership_sync_short(m, l);
    if (r != NULL) r->missed = false;
    membership_probe_linked(m, peer);
    membership_relay_linked(m, peer);
}

static bool is_live(const struct record *r)
{
    return r->m.state == MEMBER_ALIVE || r->m.state == MEMBER_SUSPECT;
}

static void on_link_down(struct membership *m, node_id peer, enum member_evidence evidence)
{
    membership_link_remove(m, peer);
    struct record *r = membership_record(m, peer);
    if (r != NULL && evidence != EVIDENCE_NONE) r->missed = true;
    if (r != NULL) r->news_us = m->now_us;
    if (m->left || r == NULL || !is_live(r)) return;
    if (evidence == EVIDENCE_NONE)
        membership_probe_unlinked(m, peer);
    else
        membership_probe_urgent(m, r, evidence);
}

static void on_unreachable(struct membership *m, node_id peer, enum member_evidence evidence)
{
    struct record *r = membership_record(m, peer);
    if (r == NULL || m->left) return;
    r->dialling_us = 0;
    if (membership_link(m, peer) != NULL) return;
    membership_relay_unreachable(m, peer);
    if (is_live(r)) membership_probe_unreachable(m, r, evidence);
}

static void on_self(struct membership *m, const struct member *now)
{
    struct member *self = &m->self->m;
    if (strcmp(self->address, now->address) == 0 && strcmp(self->tag, now->tag) == 0 &&
        memcmp(self->meta, now->meta, sizeof self->meta) == 0)
        return;
    memcpy(self->address, now->address, sizeof self->address);
    memcpy(self->tag, now->tag, sizeof self->tag);
    memcpy(self->meta, now->meta, sizeof self->meta);
    self->incarnation++;
    m->self->told = 0;
    membership_rumour_start(m, m->self);
}

static void on_leave(struct membership *m)
{
    if (m->left) return;
    m->left = true;
    m->self->m.incarnation++;
    m->self->m.state = MEMBER_LEFT;
    m->live--;
    for (uint32_t i = 0; i < m->link_count; i++) membership_tell(m, m->link[i]->id, m->self);
}

static int handle(struct membership *m, const struct membership_event *e)
{
    switch (e->kind) {
    case MEMBERSHIP_START:
        on_start(m);
        return 0;
    case MEMBERSHIP_LINK_UP:
        on_link_up(m, e->peer, e->address);
        return 0;
    case MEMBERSHIP_LINK_DOWN:
        on_link_down(m, e->peer, e->evidence);
        return 0;
    case MEMBERSHIP_UNREACHABLE:
        on_unreachable(m, e->peer, e->evidence);
        return 0;
    case MEMBERSHIP_MESSAGE:
        return membership_message(m, e->peer, e->msg);
    case MEMBERSHIP_SELF:
        on_self(m, e->self);
        return 0;
    case MEMBERSHIP_LEAVE:
        on_leave(m);
        return 0;
    case MEMBERSHIP_DEADLINE:
        on_deadline(m);
        return 0;
    }
    UNREACHABLE();
}

int membership_step(struct membership *m, const struct membership_event *event,
                    struct membership_actions *acts)
{
    CHECK(m->started || event->kind == MEMBERSHIP_START);
    CHECK_IMPLIES(event->kind == MEMBERSHIP_LINK_UP, event->peer != m->config.self.id);
    if (event->now_us > m->now_us) m->now_us = event->now_us;
    m->acts = acts;
    m->store.block_now = m->store.used = 0;
    notice_lateness(m);
    int err = handle(m, event);
    if (!m->left) membership_dial_pump(m);
    arm(m);
    m->acts = NULL;
    CHECK_IMPLIES(event->kind == MEMBERSHIP_DEADLINE, m->deadline_us > m->now_us);
    return err;
}

/* -- what the owner reads ---------------------------------------------------------------------- */

uint32_t membership_count(const struct membership *m)
{
    return m->record_count;
}

const struct member *membership_at(const struct membership *m, uint32_t at)
{
    CHECK(at < m->record_count);
    return &m->record[at]->m;
}

const struct member *membership_find(const struct membership *m, node_id id)
{
    const struct record *r = membership_record(m, id);
    return r != NULL ? &r->m : NULL;
}

const struct member *membership_self(const struct membership *m)
{
    return &m->self->m;
}

void membership_heard(const struct membership *m, node_id id, uint64_t *last_us, uint64_t *round_trip_us)
{
    const struct member_link *l = membership_link(m, id);
    *last_us = l != NULL ? l->last_us : 0;
    *round_trip_us = l != NULL ? l->round_trip_us : 0;
}

uint64_t membership_view_hash(const struct membership *m)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < m->record_count; i++) {
        const struct member *u = &m->record[i]->m;
        if (u->state != MEMBER_ALIVE) continue;
        hash =
            membership_mix(membership_mix(membership_mix(hash, u->id), u->incarnation), (uint64_t)u->state);
    }
    return hash;
}

void membership_totals(const struct membership *m, struct membership_totals *out)
{
    *out = m->totals;
}

const char *member_state_name(enum member_state state)
{
    static const char *const name[] = {"alive", "suspect", "dead", "left"};
    return (uint32_t)state < sizeof name / sizeof name[0] ? name[state] : "?";
}

const char *member_evidence_name(enum member_evidence evidence)
{
    static const char *const name[] = {"none", "timeout", "reset", "silent", "refused"};
    return (uint32_t)evidence < sizeof name / sizeof name[0] ? name[evidence] : "?";
}

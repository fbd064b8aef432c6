/* What is always so between two steps. Tests look after each. */
#include "base/check.h"
#include "net/membership/internal.h"

static bool is_live(enum member_state s)
{
    return s == MEMBER_ALIVE || s == MEMBER_SUSPECT;
}

static void check_record(const struct membership *m, const struct record *r)
{
    CHECK((uint32_t)r->m.state <= MEMBER_LEFT);
    CHECK((uint32_t)r->m.evidence <= EVIDENCE_REFUSED);
    CHECK_IMPLIES(r == m->self, r->m.state == (m->left ? MEMBER_LEFT : MEMBER_ALIVE));
    if (r->m.state != MEMBER_SUSPECT) return;
    const struct suspicion *s = &r->suspicion;
    CHECK(s->count >= 1 && s->count <= s->wanted + 1);
    CHECK(s->min_us > 0 && s->min_us <= s->max_us);
    CHECK(m->record_timer_us <= membership_suspicion_end_us(s));
}

static void check_probes(const struct membership *m)
{
    uint32_t rounds = 0;
    for (uint32_t i = 0; i < m->probe_count; i++) {
        const struct probe *p = &m->probe[i];
        const struct record *r = membership_record(m, p->target);
        CHECK(r != NULL && r != m->self);
        CHECK(is_live(r->m.state));
        CHECK(p->nacked <= p->asked);
        CHECK_IMPLIES(p->stage == PROBE_WAIT, p->dial == PROBE_DIAL_WANTED);
        if (p->round) rounds++;
        for (uint32_t k = 0; k < i; k++) CHECK(m->probe[k].target != p->target);
    }
    CHECK(rounds <= 1);
}

void membership_check_invariants(const struct membership *m)
{
    uint32_t live = 0, rumours = 0;
    for (uint32_t i = 0; i < m->record_count; i++) {
        const struct record *r = m->record[i];
        CHECK_IMPLIES(i > 0, m->record[i - 1]->m.id < r->m.id);
        check_record(m, r);
        if (is_live(r->m.state)) live++;
        if (r->is_rumour) rumours++;
    }
    CHECK(live == m->live);
    CHECK(rumours == m->rumour_count);
    for (uint32_t i = 0; i < m->rumour_count; i++) CHECK(m->rumour[i]->is_rumour);
    for (uint32_t i = 1; i < m->link_count; i++) CHECK(m->link[i - 1]->id < m->link[i]->id);
    CHECK(m->relay_count <= RELAY_MAX);
    CHECK(m->tomb_count <= TOMB_MAX);
    CHECK(m->totals.health <= HEALTH_MAX);
    CHECK_IMPLIES(!m->config.local_health, m->totals.health == 0);
    check_probes(m);
}

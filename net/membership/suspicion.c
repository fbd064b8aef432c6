/* Suspicions with confirmations (Lifeguard, arXiv:1707.00788, section IV-B), and the timers of records.
 *
 * Normal course
 *  - a suspicion of a cluster of n begins with max = spread * min, min = mult * max(1, log10 n) * interval, and
 *    wants k = mult - 2 confirmations, none when n - 2 < k.
 *  - with c confirmations by others than the first accuser it lasts
 *    max - ln(c + 1) / ln(k + 1) * (max - min), never less than min.
 *  - when it ends the member is DEAD; the members that are DEAD are dialled again and again, and told what is said
 *    of them when they are linked already.
 *  - DEAD and LEFT members are forgotten after forget_us. */
#include <math.h>

#include "base/check.h"
#include "net/membership/internal.h"

uint64_t membership_suspicion_end_us(const struct suspicion *s)
{
    uint32_t confirmed = s->count > 0 ? s->count - 1 : 0;
    if (s->wanted == 0 || confirmed >= s->wanted) return time_after(s->start_us, s->min_us);
    double share = log((double)confirmed + 1) / log((double)s->wanted + 1);
    double lasts = (double)s->max_us - share * (double)(s->max_us - s->min_us);
    uint64_t lasts_us = (uint64_t)lasts;
    return time_after(s->start_us, lasts_us > s->min_us ? lasts_us : s->min_us);
}

void membership_timer_lower(struct membership *m, uint64_t at_us)
{
    if (at_us < m->record_timer_us) m->record_timer_us = at_us;
}

void membership_suspicion_begin(struct membership *m, struct record *r, node_id accuser)
{
    struct suspicion *s = &r->suspicion;
    uint32_t wanted = m->config.suspicion_mult > 2 ? m->config.suspicion_mult - 2 : 0;
    if (wanted > CONFIRMATION_MAX) wanted = CONFIRMATION_MAX;
    if (m->live < 2 + wanted) wanted = 0;
    double decades = log10((double)m->live);
    double min = (double)m->config.suspicion_mult * (decades > 1 ? decades : 1) * (double)m->config.probe_us;
    *s = (struct suspicion){.start_us = m->now_us, .min_us = (uint64_t)min, .wanted = wanted, .count = 1};
    s->max_us = s->min_us * m->config.suspicion_spread;
    s->by[0] = accuser;
    membership_timer_lower(m, membership_suspicion_end_us(s));
}

bool membership_suspicion_confirm(struct membership *m, struct record *r, node_id accuser)
{
    struct suspicion *s = &r->suspicion;
    CHECK(r->m.state == MEMBER_SUSPECT);
    if (accuser == 0 || s->count > s->wanted) return false;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->by[i] == accuser) return false;
    s->by[s->count++] = accuser;
    r->told = 0;
    membership_timer_lower(m, membership_suspicion_end_us(s));
    return true;
}

void membership_suspect(struct membership *m, struct record *r, enum member_evidence evidence)
{
    const node_id us = m->config.self.id;
    if (r->m.state == MEMBER_SUSPECT && membership_suspicion_confirm(m, r, us)) membership_rumour_start(m, r);
    if (r->m.state != MEMBER_ALIVE) return;
    r->m.state = MEMBER_SUSPECT;
    r->missed = true;
    r->m.accuser = us;
    r->m.evidence = evidence;
    r->told = 0;
    m->totals.suspicions++;
    membership_suspicion_begin(m, r, us);
    membership_rumour_start(m, r);
    membership_changed(m, r, false, MEMBER_ALIVE, 0);
    if (membership_link(m, r->m.id) != NULL) membership_tell(m, r->m.id, r);
}

/* -- timers of records ------------------------------------------------------------------------- */

static void declare_dead(struct membership *m, struct record *r)
{
    uint32_t confirmations = r->suspicion.count - 1;
    r->m.state = MEMBER_DEAD;
    r->told = 0;
    r->ended_us = m->now_us;
    m->live--;
    m->totals.deaths++;
    membership_probe_drop(m, r->m.id);
    membership_redial_schedule(m, r);
    membership_rumour_start(m, r);
    membership_changed(m, r, false, MEMBER_SUSPECT, confirmations);
}

/* One that is linked hears what is said of it; the others wait for the budget of dials. */
static void remind_the_dead(struct membership *m, struct record *r)
{
    if (m->now_us < r->redial_at_us) {
        membership_timer_lower(m, r->redial_at_us);
    } else if (membership_link(m, r->m.id) != NULL) {
        membership_tell(m, r->m.id, r);
        membership_redial_schedule(m, r);
    } else {
        m->redials_due = true;
    }
}

/* True when the record has gone. */
static bool record_timer(struct membership *m, uint32_t at)
{
    struct record *r = m->record[at];
    if (r == m->self) return false;
    if (r->m.state == MEMBER_SUSPECT) {
        uint64_t end_us = membership_suspicion_end_us(&r->suspicion);
        if (m->now_us >= end_us)
            declare_dead(m, r);
        else
            membership_timer_lower(m, end_us);
    }
    if (r->m.state != MEMBER_DEAD && r->m.state != MEMBER_LEFT) return false;
    uint64_t forget_at_us = time_after(r->ended_us, m->config.forget_us);
    if (m->now_us >= forget_at_us) {
        membership_record_forget(m, at);
        return true;
    }
    membership_timer_lower(m, forget_at_us);
    if (r->m.state == MEMBER_DEAD) remind_the_dead(m, r);
    return false;
}

void membership_record_timers(struct membership *m)
{
    if (m->now_us < m->record_timer_us) return;
    m->record_timer_us = TIME_NEVER;
    m->redials_due = false;
    for (uint32_t at = 0; at < m->record_count;)
        if (!record_timer(m, at)) at++;
}

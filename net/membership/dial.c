/* Dials: at most one CONNECT in DIAL_GAP_US, whoever wants it.
 *
 * Normal course
 *  - probes of members without a link wait in order; DEAD members wait until their back-off is over.
 *  - a probe goes first, but every fourth dial is for the dead when any waits, so that healed halves meet.
 *  - the back-off of a DEAD member doubles from probe_us to redial_max_us, with half of it as jitter.
 * Failure courses
 *  - the owner says nothing about a dial: it counts as over after DIAL_WAIT_US.
 *  - a relay does not wait: without budget it answers NACK at once. */
#include "base/check.h"
#include "net/membership/internal.h"

static bool is_dialable(const struct membership *m, const struct record *r)
{
    return r->m.address[0] != '\0' && membership_link(m, r->m.id) == NULL && m->now_us >= r->dialling_us;
}

static void dial(struct membership *m, struct record *r)
{
    CHECK(m->now_us >= m->dial_at_us);
    m->dial_at_us = time_after(m->now_us, DIAL_GAP_US);
    r->dialling_us = time_after(m->now_us, DIAL_WAIT_US);
    membership_act(m, MEMBERSHIP_CONNECT, r->m.id)->address = r->m.address;
}

void membership_redial_schedule(struct membership *m, struct record *r)
{
    uint64_t wait_us = r->redial_wait_us < m->config.probe_us ? m->config.probe_us : r->redial_wait_us * 2;
    if (wait_us > m->config.redial_max_us) wait_us = m->config.redial_max_us;
    r->redial_wait_us = wait_us;
    double jitter = 0.5 + 0.5 * prng_unit(&m->prng);
    r->redial_at_us = time_after(m->now_us, (uint64_t)((double)wait_us * jitter));
    membership_timer_lower(m, r->redial_at_us);
}

bool membership_dial_try(struct membership *m, struct record *r)
{
    if (m->now_us < m->dial_at_us || membership_dial_wanted(m) || !is_dialable(m, r)) return false;
    dial(m, r);
    return true;
}

static struct probe *probe_that_waits(const struct membership *m)
{
    for (uint32_t i = 0; i < m->probe_count; i++)
        if (m->probe[i].dial == PROBE_DIAL_WANTED) return &m->probe[i];
    return NULL;
}

bool membership_dial_wanted(const struct membership *m)
{
    return m->redials_due || probe_that_waits(m) != NULL;
}

static void dial_for_probe(struct membership *m)
{
    struct probe *p = probe_that_waits(m);
    CHECK(p != NULL);
    struct record *r = membership_record(m, p->target);
    CHECK(r != NULL);
    p->dial = PROBE_DIAL_UNDER_WAY;
    if (p->stage == PROBE_WAIT) {
        p->stage = PROBE_DIRECT;
        p->ack_at_us = time_after(m->now_us, m->config.ack_us * membership_scale(m));
        p->end_at_us = time_after(m->now_us, m->config.probe_us * membership_scale(m));
    }
    if (is_dialable(m, r)) dial(m, r); /* else it is being dialled already */
}

static void dial_for_the_dead(struct membership *m)
{
    struct record *first = NULL;
    m->redials_due = false;
    for (uint32_t i = 0; i < m->record_count; i++) {
        struct record *r = m->record[i];
        if (r->m.state != MEMBER_DEAD || r->redial_at_us > m->now_us) continue;
        if (membership_link(m, r->m.id) != NULL || !is_dialable(m, r)) {
            membership_redial_schedule(m, r); /* it only dials itself, or is being dialled */
            continue;
        }
        if (first != NULL) m->redials_due = true;
        if (first == NULL || r->redial_at_us < first->redial_at_us) first = r;
    }
    if (first == NULL) return;
    dial(m, first);
    membership_redial_schedule(m, first);
    m->dials_since_redial = 0;
}

void membership_dial_pump(struct membership *m)
{
    while (m->now_us >= m->dial_at_us && membership_dial_wanted(m)) {
        bool probe_waits = probe_that_waits(m) != NULL;
        if (m->redials_due && (!probe_waits || m->dials_since_redial >= 3)) {
            dial_for_the_dead(m);
        } else {
            dial_for_probe(m);
            m->dials_since_redial++;
        }
    }
}

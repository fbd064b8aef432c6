/* Probes for others: a PING_REQ that we serve.
 *
 * Normal course
 *  - the target is linked: PING; its ACK goes to the asker with the asker's number and the target's id.
 *  - it is not linked but dialable, and the budget allows: CONNECT, then PING.
 * Failure courses
 *  - no ACK within 4/5 of ack_us: NACK, which tells the asker that we, at least, are well.
 *  - no link and no dial now, or too many at once: NACK at once.
 *  - the asker's own link went: the answer is dropped by the owner. */
#include "base/check.h"
#include "net/membership/internal.h"

static void answer(struct membership *m, const struct relay *r, enum swim_kind kind)
{
    if (membership_link(m, r->asker) == NULL) return;
    membership_send(m, r->asker,
                    (struct swim_msg){.kind = kind, .number = r->asker_number, .target = r->target});
}

static void end(struct membership *m, uint32_t at, enum swim_kind kind)
{
    const struct relay r = m->relay[at];
    m->relay[at] = m->relay[--m->relay_count];
    answer(m, &r, kind);
}

static void ping(struct membership *m, const struct relay *r)
{
    membership_send(m, r->target, (struct swim_msg){.kind = SWIM_PING, .number = r->number});
}

void membership_relay_asked(struct membership *m, node_id asker, const struct swim_msg *msg)
{
    struct relay r = {.asker = asker, .target = msg->target, .asker_number = msg->number};
    if (r.target == m->config.self.id || m->relay_count == RELAY_MAX) {
        answer(m, &r, r.target == m->config.self.id ? SWIM_ACK : SWIM_NACK);
        return;
    }
    r.number = ++m->probe_number;
    r.nack_at_us = time_after(m->now_us, m->config.ack_us * 4 / 5);
    struct record *target = membership_record(m, r.target);
    if (membership_link(m, r.target) != NULL) {
        m->relay[m->relay_count++] = r;
        ping(m, &r);
    } else if (target != NULL && membership_dial_try(m, target)) {
        m->relay[m->relay_count++] = r;
    } else {
        answer(m, &r, SWIM_NACK);
    }
}

bool membership_relay_acked(struct membership *m, node_id from, uint64_t number)
{
    for (uint32_t i = 0; i < m->relay_count; i++) {
        if (m->relay[i].number != number || m->relay[i].target != from) continue;
        end(m, i, SWIM_ACK);
        return true;
    }
    return false;
}

void membership_relay_linked(struct membership *m, node_id id)
{
    for (uint32_t i = 0; i < m->relay_count; i++)
        if (m->relay[i].target == id) ping(m, &m->relay[i]);
}

void membership_relay_unreachable(struct membership *m, node_id id)
{
    for (uint32_t i = m->relay_count; i > 0; i--)
        if (m->relay[i - 1].target == id) end(m, i - 1, SWIM_NACK);
}

void membership_relay_timers(struct membership *m)
{
    for (uint32_t i = m->relay_count; i > 0; i--)
        if (m->now_us >= m->relay[i - 1].nack_at_us) end(m, i - 1, SWIM_NACK);
}

uint64_t membership_relay_next_us(const struct membership *m)
{
    uint64_t next_us = TIME_NEVER;
    for (uint32_t i = 0; i < m->relay_count; i++)
        if (m->relay[i].nack_at_us < next_us) next_us = m->relay[i].nack_at_us;
    return next_us;
}

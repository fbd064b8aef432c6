/* What membership knows: records of members and links to them, both ascending by id, and tombs.
 *
 * A tomb keeps the incarnation of a forgotten member for as long again as it was remembered, so that a peer that
 * forgets a little later does not bring it back.
 *
 * There is room for MEMBER_COUNT_MAX, whatever peers invent; the last LINK_COUNT_MAX places of it are for members that
 * are linked. Who comes then takes the place of the one that has been DEAD or LEFT for longest, or is not kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/membership/internal.h"

static uint32_t record_place(const struct membership *m, node_id id)
{
    uint32_t low = 0, high = m->record_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->record[middle]->m.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct record *membership_record(const struct membership *m, node_id id)
{
    uint32_t at = record_place(m, id);
    return at < m->record_count && m->record[at]->m.id == id ? m->record[at] : NULL;
}

struct record *membership_record_add(struct membership *m, const struct member *from)
{
    uint32_t at = record_place(m, from->id);
    CHECK(at == m->record_count || m->record[at]->m.id != from->id);
    if (m->record_count == m->record_capacity) {
        m->record_capacity = m->record_capacity == 0 ? 16 : m->record_capacity * 2;
        m->record = mem_resize(m->record, m->record_capacity, sizeof *m->record);
    }
    memmove(m->record + at + 1, m->record + at, (m->record_count - at) * sizeof *m->record);
    m->record_count++;
    struct record *r = m->record[at] = mem_new_zero(1, sizeof *r);
    r->m = *from;
    r->news_us = m->now_us;
    if (from->state == MEMBER_ALIVE || from->state == MEMBER_SUSPECT) m->live++;
    return r;
}

static void tomb_add(struct membership *m, const struct member *u)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < m->tomb_count; i++) /* the oldest makes room */
        if (m->tomb[i].until_us < m->tomb[at].until_us) at = i;
    if (m->tomb_count < TOMB_MAX) at = m->tomb_count++;
    m->tomb[at] = (struct tomb){u->id, u->incarnation, time_after(m->now_us, m->config.forget_us)};
}

void membership_record_forget(struct membership *m, uint32_t at)
{
    struct record *r = m->record[at];
    CHECK(r != m->self);
    CHECK(r->m.state == MEMBER_DEAD || r->m.state == MEMBER_LEFT);
    membership_changed(m, r, false, r->m.state, 0);
    tomb_add(m, &r->m);
    membership_rumour_stop(m, r);
    membership_probe_drop(m, r->m.id);
    m->record_count--;
    memmove(m->record + at, m->record + at + 1, (m->record_count - at) * sizeof *m->record);
    free(r);
}

bool membership_make_room(struct membership *m, const struct member *u)
{
    bool linked = membership_link(m, u->id) != NULL;
    if (m->record_count < (linked ? MEMBER_COUNT_MAX : MEMBER_COUNT_MAX - LINK_COUNT_MAX)) return true;
    if (u->state == MEMBER_DEAD || u->state == MEMBER_LEFT) return false;
    uint32_t oldest = m->record_count;
    for (uint32_t i = 0; i < m->record_count; i++) {
        const struct record *r = m->record[i];
        if (r == m->self || (r->m.state != MEMBER_DEAD && r->m.state != MEMBER_LEFT)) continue;
        if (oldest == m->record_count || r->ended_us < m->record[oldest]->ended_us) oldest = i;
    }
    if (oldest == m->record_count) return false;
    membership_record_forget(m, oldest);
    return true;
}

bool membership_is_buried(const struct membership *m, const struct member *u)
{
    for (uint32_t i = 0; i < m->tomb_count; i++) {
        const struct tomb *t = &m->tomb[i];
        if (t->id == u->id && u->incarnation <= t->incarnation && m->now_us < t->until_us) return true;
    }
    return false;
}

/* -- links ------------------------------------------------------------------------------------- */

static uint32_t link_place(const struct membership *m, node_id id)
{
    uint32_t low = 0, high = m->link_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->link[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct member_link *membership_link(const struct membership *m, node_id id)
{
    uint32_t at = link_place(m, id);
    return at < m->link_count && m->link[at]->id == id ? m->link[at] : NULL;
}

struct member_link *membership_link_add(struct membership *m, node_id id, const char *address)
{
    membership_link_remove(m, id);
    if (m->link_count == m->link_capacity) {
        m->link_capacity = m->link_capacity == 0 ? 16 : m->link_capacity * 2;
        m->link = mem_resize(m->link, m->link_capacity, sizeof *m->link);
        m->scratch = mem_resize(m->scratch, m->link_capacity, sizeof *m->scratch);
    }
    uint32_t at = link_place(m, id);
    memmove(m->link + at + 1, m->link + at, (m->link_count - at) * sizeof *m->link);
    m->link_count++;
    struct member_link *l = m->link[at] = mem_new_zero(1, sizeof *l);
    l->id = id;
    l->serial = ++m->link_serial;
    snprintf(l->address, sizeof l->address, "%s", address != NULL ? address : "");
    return l;
}

void membership_link_remove(struct membership *m, node_id id)
{
    uint32_t at = link_place(m, id);
    if (at == m->link_count || m->link[at]->id != id) return;
    free(m->link[at]);
    m->link_count--;
    memmove(m->link + at, m->link + at + 1, (m->link_count - at) * sizeof *m->link);
}

void membership_records_free(struct membership *m)
{
    for (uint32_t i = 0; i < m->record_count; i++) free(m->record[i]);
    for (uint32_t i = 0; i < m->link_count; i++) free(m->link[i]);
    free(m->record);
    free(m->link);
    free(m->scratch);
}

/* What becomes of a record that was heard.
 *
 * Normal course
 *  - the greater incarnation is taken; at equal incarnation the graver state, ALIVE < SUSPECT < DEAD < LEFT (LEFT
 *    is the member's own word). Everything that is taken is passed on.
 *  - the same accusation by another accuser confirms a running suspicion.
 *  - a record without an address gets one: where its link's transport sees the member, else what others know.
 * Failure courses
 *  - DEAD, heard in a SYNC (the other half of a healed partition speaks) or of a member whose link to us lives,
 *    is taken as SUSPECT: it gets the chance to answer.
 *  - a new SUSPECT that is linked hears of it at once.
 *  - somebody says of us what is not so (SUSPECT, DEAD, LEFT, or a former life with a greater incarnation): we go
 *    above it.
 *  - somebody says so of us again and again, each time above our answer, and always of the same other boot: another
 *    process has our id, and neither would ever give in. The owner is told (RIVAL), at most once a minute whatever
 *    comes: it is a peer's word, and no reason to stop.
 *  - impossible values, unfinished or unprintable text, an incarnation more than a day ahead of our own time, a
 *    stranger for whom there is no room: dropped and counted. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "net/membership/internal.h"

/* -- what can be ------------------------------------------------------------------------------- */

bool membership_text_is_sound(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\0') return true;
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) return false;
    }
    return false;
}

/* By our own clock, as the boot id gave it and as the time went on since. */
static uint64_t incarnation_max(const struct membership *m)
{
    return m->config.self.boot + (m->now_us - m->start_us) * BOOT_UNITS_PER_US + DAY_BOOT_UNITS;
}

static bool record_is_sound(const struct membership *m, const struct member *u)
{
    if (u->id == NOBODY || u->incarnation == 0 || u->boot > BOOT_MAX) return false;
    if ((uint32_t)u->state > MEMBER_LEFT || (uint32_t)u->evidence > EVIDENCE_REFUSED) return false;
    if (!membership_text_is_sound(u->address, sizeof u->address) ||
        !membership_text_is_sound(u->tag, sizeof u->tag))
        return false;
    return u->incarnation <= incarnation_max(m);
}

static void drop(struct membership *m, node_id from, const struct member *u, const char *why)
{
    uint64_t count = ++m->totals.records_dropped;
    if ((count & (count - 1)) == 0) /* a line for the 1st, 2nd, 4th, ... */
        trace_line(m->config.trace, TRACE_WARN,
                   "membership: %llu records dropped, now one of %016llx (incarnation %llu) from %016llx: %s",
                   (unsigned long long)count, (unsigned long long)u->id, (unsigned long long)u->incarnation,
                   (unsigned long long)from, why);
}

/* -- ourselves --------------------------------------------------------------------------------- */

void membership_refute(struct membership *m, uint64_t above, node_id to)
{
    struct member *self = &m->self->m;
    self->incarnation = (above > self->incarnation ? above : self->incarnation) + 1;
    m->self->told = 0;
    m->totals.refutations++;
    membership_rumour_start(m, m->self);
    membership_gossip_now(m, to);
}

/* A former life of ours says nothing after our first answer, which is above all that it ever said. */
static void hear_of_rival(struct membership *m, node_id from, const struct member *u)
{
    struct rival *r = &m->rival;
    if (u->boot == m->self->m.boot || u->state != MEMBER_ALIVE) return;
    if (r->boot != u->boot || m->now_us >= time_after(r->since_us, RIVAL_US)) {
        r->boot = u->boot;
        r->since_us = m->now_us;
        r->claims = 0;
    }
    if (r->claims < RIVAL_CLAIM_MAX) r->claims++;
    if (r->claims < RIVAL_CLAIM_MAX || m->now_us < r->say_us) return;
    r->say_us = time_after(m->now_us, RIVAL_US);
    memcpy(r->address, u->address, sizeof r->address);
    struct membership_action *a = membership_act(m, MEMBERSHIP_RIVAL, from);
    a->boot = u->boot;
    a->address = r->address;
}

static void hear_of_ourselves(struct membership *m, node_id from, const struct member *u, uint64_t serial)
{
    const struct member *self = &m->self->m;
    bool wrong = u->incarnation > self->incarnation ||
                 (u->incarnation == self->incarnation && (u->state != self->state || u->boot != self->boot));
    if (!wrong) {
        if (u->incarnation == self->incarnation) m->self->told = serial;
        return;
    }
    if (m->left) return;
    if (u->state == MEMBER_SUSPECT || u->state == MEMBER_DEAD) membership_health_add(m, 1);
    char by[64] = "";
    if (u->accuser != 0)
        snprintf(by, sizeof by, ", as %llu does: %s", (unsigned long long)u->accuser,
                 member_evidence_name(u->evidence));
    trace_limited(&m->refuted, m->now_us, m->config.trace, TRACE_INFO,
                  "membership: node %llu says that we are %s%s; told that it is not so",
                  (unsigned long long)from, member_state_name(u->state), by);
    membership_refute(m, u->incarnation, from);
    hear_of_rival(m, from, u);
}

/* -- others ------------------------------------------------------------------------------------ */

static void set_text(char *to, const char *from, size_t size)
{
    memset(to, 0, size);
    memcpy(to, from, strlen(from));
}

/* A copy without bytes behind the texts' ends; an accusation only where there is one. */
static void clean_copy(struct member *to, const struct member *from)
{
    *to = *from;
    set_text(to->address, from->address, sizeof to->address);
    set_text(to->tag, from->tag, sizeof to->tag);
    if (to->state == MEMBER_ALIVE || to->state == MEMBER_LEFT) {
        to->accuser = 0;
        to->evidence = EVIDENCE_NONE;
    }
}

static bool is_live(enum member_state s)
{
    return s == MEMBER_ALIVE || s == MEMBER_SUSPECT;
}

/* The state has just been set: timers and rumours follow. */
static void enter_state(struct membership *m, struct record *r)
{
    r->told = 0;
    switch (r->m.state) {
    case MEMBER_ALIVE:
        r->redial_wait_us = 0;
        break;
    case MEMBER_SUSPECT:
        r->missed = true;
        membership_suspicion_begin(m, r, r->m.accuser);
        break;
    case MEMBER_DEAD:
    case MEMBER_LEFT:
        r->missed = true;
        r->ended_us = m->now_us;
        membership_timer_lower(m, time_after(m->now_us, m->config.forget_us));
        membership_probe_drop(m, r->m.id);
        if (r->m.state == MEMBER_DEAD) membership_redial_schedule(m, r);
        break;
    }
    membership_rumour_start(m, r);
}

static void fill_address(const struct membership *m, struct record *r, const struct member *before)
{
    if (r->m.address[0] != '\0') return;
    const struct member_link *l = membership_link(m, r->m.id);
    if (l != NULL)
        set_text(r->m.address, l->address, sizeof r->m.address);
    else if (before->boot == r->m.boot)
        set_text(r->m.address, before->address, sizeof r->m.address);
}

static bool same_for_owner(const struct member *a, const struct member *b)
{
    return a->state == b->state && a->boot == b->boot && memcmp(a->meta, b->meta, sizeof a->meta) == 0 &&
           strcmp(a->address, b->address) == 0 && strcmp(a->tag, b->tag) == 0;
}

static void accused_hears(struct membership *m, struct record *r)
{
    if (r->m.state == MEMBER_SUSPECT && membership_link(m, r->m.id) != NULL) membership_tell(m, r->m.id, r);
}

static void hear_of_stranger(struct membership *m, node_id from, const struct member *u)
{
    if (membership_is_buried(m, u)) return;
    if (!membership_make_room(m, u)) {
        drop(m, from, u, "there are too many members");
        return;
    }
    struct member clean;
    clean_copy(&clean, u);
    struct record *r = membership_record_add(m, &clean);
    fill_address(m, r, &clean);
    enter_state(m, r);
    membership_round_insert(m, u->id);
    membership_changed(m, r, true, r->m.state, 0);
    accused_hears(m, r);
}

static void take(struct membership *m, struct record *r, const struct member *u, enum member_state state)
{
    const struct member before = r->m;
    struct member clean = *u;
    clean.state = state;
    clean_copy(&r->m, &clean);
    if (before.incarnation != r->m.incarnation) r->news_us = m->now_us;
    fill_address(m, r, &before);
    m->live += (uint32_t)is_live(state) - (uint32_t)is_live(before.state);
    enter_state(m, r);
    if (!same_for_owner(&before, &r->m)) membership_changed(m, r, false, before.state, 0);
    if (before.state != MEMBER_SUSPECT) accused_hears(m, r);
}

/* Nothing newer; but it may confirm, or bring an address. */
static void hear_the_same(struct membership *m, struct record *r, const struct member *u)
{
    if (u->incarnation != r->m.incarnation) return;
    bool accuses = u->state == MEMBER_SUSPECT || u->state == MEMBER_DEAD;
    if (r->m.state == MEMBER_SUSPECT && accuses && membership_suspicion_confirm(m, r, u->accuser))
        membership_rumour_start(m, r);
    if (r->m.address[0] != '\0' || u->address[0] == '\0') return;
    set_text(r->m.address, u->address, sizeof r->m.address);
    membership_changed(m, r, false, r->m.state, 0);
}

static bool is_newer(const struct member *a, enum member_state state, const struct member *than)
{
    if (a->incarnation != than->incarnation) return a->incarnation > than->incarnation;
    return state > than->state;
}

void membership_hear(struct membership *m, node_id from, const struct member *u, bool sync)
{
    if (!record_is_sound(m, u)) {
        drop(m, from, u, "it is impossible; if clocks differ by a day and more, set them");
        return;
    }
    const struct member_link *l = membership_link(m, from);
    uint64_t serial = l != NULL ? l->serial : 0;
    if (u->id == m->config.self.id) {
        hear_of_ourselves(m, from, u, serial);
        return;
    }
    struct record *r = membership_record(m, u->id);
    if (r == NULL) {
        hear_of_stranger(m, from, u);
        r = membership_record(m, u->id);
        if (r != NULL) r->told = serial;
        return;
    }
    enum member_state state = u->state;
    bool doubtful = sync || membership_link(m, u->id) != NULL;
    if (state == MEMBER_DEAD && doubtful && is_live(r->m.state)) state = MEMBER_SUSPECT;
    if (is_newer(u, state, &r->m))
        take(m, r, u, state);
    else
        hear_the_same(m, r, u);
    if (!is_newer(&r->m, r->m.state, u)) r->told = serial;
}

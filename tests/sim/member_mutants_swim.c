/* Planted bugs of membership: member_mutants.h. */
#include "agent/node/places.h"
#include "net/membership/internal.h"
#include "tests/sim/member_mutants.h"

enum { VICTIM = 1 };

/* NULL: the event was not v's. */
static struct membership *machine(const struct member_storm *s, uint32_t v)
{
    bool ran = (s->touched >> v & 1) != 0 && member_storm_lives(s, v);
    return ran ? (struct membership *)(uintptr_t)node_membership(simulation_node(s->sim, v)) : NULL;
}

/* A suspicion that was refuted goes on to its end. */
void member_never_cancel_a_suspicion(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct membership *m = machine(s, v);
        for (uint32_t i = 0; m != NULL && i < m->record_count; i++) {
            struct record *r = m->record[i];
            if (r == m->self || r->m.state != MEMBER_ALIVE || r->suspicion.count == 0) continue;
            if (m->now_us < membership_suspicion_end_us(&r->suspicion)) continue;
            r->m.state = MEMBER_SUSPECT;
            membership_timer_lower(m, m->now_us);
        }
    }
}

/* A suspicion begins anew with each event. */
void member_never_end_a_suspicion(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct membership *m = machine(s, v);
        for (uint32_t i = 0; m != NULL && i < m->record_count; i++)
            if (m->record[i]->m.state == MEMBER_SUSPECT) m->record[i]->suspicion.start_us = m->now_us;
    }
}

void member_never_redial_the_dead(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct membership *m = machine(s, v);
        for (uint32_t i = 0; m != NULL && i < m->record_count; i++) m->record[i]->redial_at_us = TIME_NEVER;
        if (m != NULL) m->redials_due = false;
    }
}

/* What is said of it, it does not answer with a greater incarnation. */
void member_never_raise_the_incarnation(struct member_storm *s)
{
    struct membership *m = machine(s, VICTIM);
    if (m == NULL) return;
    uint64_t *first = &s->mutant_memory[0], *boot = &s->mutant_memory[1];
    if (*boot != m->self->m.boot) *first = m->self->m.incarnation;
    *boot = m->self->m.boot;
    m->self->m.incarnation = *first;
}

/* One that was declared dead is alive for one node. */
void member_take_the_dead_for_living(struct member_storm *s)
{
    struct membership *m = machine(s, VICTIM);
    for (uint32_t i = 0; m != NULL && i < m->record_count; i++) {
        struct record *r = m->record[i];
        if (r->m.state != MEMBER_DEAD) continue;
        r->m.state = MEMBER_ALIVE;
        m->live++;
    }
}

/* A node that has lost its place says of itself that it has one. */
void member_tell_a_place_that_is_lost(struct member_storm *s)
{
    struct membership *m = machine(s, VICTIM);
    if (m == NULL) return;
    uint64_t *place = &m->self->m.meta[META_PLACE], *had = &s->mutant_memory[2];
    if (*place != 0)
        *had = *place;
    else
        *place = *had;
}

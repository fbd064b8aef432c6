/* One overlay machine, number SELF, whose peers and time are the test's. */
#ifndef GADABOUT_TESTS_UNIT_OVERLAY_FIXTURE_H
#define GADABOUT_TESTS_UNIT_OVERLAY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "net/overlay/overlay.h"

#define SELF 1000u
#define SECOND_US 1000000u

struct fixture {
    struct overlay *o;
    struct overlay_actions acts;
    uint64_t now_us;
};

static inline struct overlay_peer peer_of(node_id id)
{
    struct overlay_peer p = {.id = id};
    snprintf(p.address, sizeof p.address, "10.0.0.%u:7946", (unsigned)id);
    return p;
}

static inline void begin(struct fixture *f, uint32_t active_max)
{
    struct overlay_config c;
    overlay_defaults(&c);
    c.id = SELF;
    snprintf(c.address, sizeof c.address, "10.0.0.1:1");
    c.active_max = active_max;
    c.seed = 7;
    *f = (struct fixture){.o = overlay_new(&c), .now_us = SECOND_US};
}

static inline void end(struct fixture *f)
{
    overlay_free(f->o);
    overlay_actions_deinit(&f->acts);
}

static inline void step(struct fixture *f, enum overlay_event_kind kind, const struct overlay_peer *peer)
{
    overlay_actions_clear(&f->acts);
    struct overlay_event e = {.kind = kind, .now_us = f->now_us};
    if (peer != NULL) e.peer = *peer;
    assert_int_equal(overlay_step(f->o, &e, &f->acts), 0);
}

static inline void event(struct fixture *f, enum overlay_event_kind kind, node_id id)
{
    struct overlay_peer p = peer_of(id);
    step(f, kind, &p);
}

static inline int hear(struct fixture *f, node_id from, const struct overlay_msg *msg)
{
    overlay_actions_clear(&f->acts);
    struct overlay_event e = {.kind = OVERLAY_MESSAGE, .now_us = f->now_us, .peer = {.id = from}, .msg = msg};
    return overlay_step(f->o, &e, &f->acts);
}

static inline void hear_plain(struct fixture *f, node_id from, enum overlay_kind kind, bool urgent)
{
    assert_int_equal(hear(f, from, &(struct overlay_msg){.kind = kind, .urgent = urgent}), 0);
}

/* Time runs until the machine wants it. */
static inline void wait(struct fixture *f)
{
    assert_true(overlay_deadline_us(f->o) != TIME_NEVER);
    if (overlay_deadline_us(f->o) > f->now_us) f->now_us = overlay_deadline_us(f->o);
    step(f, OVERLAY_DEADLINE, NULL);
}

static inline const struct overlay_msg *sent(const struct fixture *f, node_id to, enum overlay_kind kind)
{
    for (size_t i = 0; i < f->acts.count; i++)
        if (f->acts.item[i].kind == OVERLAY_SEND && f->acts.item[i].id == to &&
            f->acts.item[i].msg.kind == kind)
            return &f->acts.item[i].msg;
    return NULL;
}

static inline uint32_t actions(const struct fixture *f, enum overlay_action_kind kind)
{
    uint32_t count = 0;
    for (size_t i = 0; i < f->acts.count; i++) count += f->acts.item[i].kind == kind;
    return count;
}

static inline bool did(const struct fixture *f, enum overlay_action_kind kind, node_id id)
{
    for (size_t i = 0; i < f->acts.count; i++)
        if (f->acts.item[i].kind == kind && f->acts.item[i].id == id) return true;
    return false;
}

/* Peers first..last come with a link each and JOIN. */
static inline void fill(struct fixture *f, node_id first, node_id last)
{
    for (node_id id = first; id <= last; id++) {
        event(f, OVERLAY_LINK_UP, id);
        if (!overlay_is_active(f->o, id)) hear_plain(f, id, OVERLAY_JOIN, false);
        assert_true(overlay_is_active(f->o, id));
    }
}

static inline uint32_t active_count(const struct fixture *f)
{
    const node_id *id;
    return overlay_active(f->o, &id);
}

#endif

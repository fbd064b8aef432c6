/* One membership machine, number SELF, whose peers are the test: they answer PINGs when told to. */
#ifndef GADABOUT_TESTS_UNIT_MEMBERSHIP_FIXTURE_H
#define GADABOUT_TESTS_UNIT_MEMBERSHIP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "net/membership/internal.h"
#include "net/membership/membership.h"

enum { SELF = 5000, SECOND = 1000000, BOOT_SECONDS = 1000000 };

#define BOOT ((uint64_t)BOOT_SECONDS * SECOND * BOOT_UNITS_PER_US)

struct rig {
    struct membership *m;
    struct membership_actions acts; /* of the last step */
    uint64_t now_us;
    int err;      /* of the last step */
    bool silent;  /* PINGs are not answered */
    node_id mute; /* nor are those to this one */
    /* called with what each step does, or NULL */
    void (*look)(struct rig *r);
    uint64_t count[8]; /* of the test */
};

static inline struct membership_config rig_config(void)
{
    struct membership_config c;
    membership_defaults(&c);
    c.self.id = SELF;
    c.self.boot = BOOT;
    c.seed = 7;
    snprintf(c.self.address, sizeof c.self.address, "self:1");
    return c;
}

static inline void rig_step(struct rig *r, struct membership_event e)
{
    e.now_us = r->now_us;
    membership_actions_clear(&r->acts);
    r->err = membership_step(r->m, &e, &r->acts);
    membership_check_invariants(r->m);
    if (r->look != NULL) r->look(r);
}

static inline void rig_open_as(struct rig *r, const struct membership_config *c)
{
    *r = (struct rig){.m = membership_new(c), .now_us = 77 * (uint64_t)SECOND, .mute = NOBODY};
    rig_step(r, (struct membership_event){.kind = MEMBERSHIP_START});
}

static inline void rig_open(struct rig *r)
{
    struct membership_config c = rig_config();
    rig_open_as(r, &c);
}

static inline void rig_close(struct rig *r)
{
    membership_free(r->m);
    membership_actions_deinit(&r->acts);
}

/* A record with an incarnation `later` after BOOT. */
static inline struct member rig_member(node_id id, enum member_state state, int64_t later)
{
    struct member u = {.id = id, .boot = BOOT, .incarnation = BOOT + (uint64_t)later, .state = state};
    return u;
}

static inline void rig_say(struct rig *r, node_id from, struct swim_msg msg)
{
    rig_step(r, (struct membership_event){.kind = MEMBERSHIP_MESSAGE, .peer = from, .msg = &msg});
}

static inline void rig_tell(struct rig *r, node_id from, enum swim_kind kind, const struct member *u,
                            uint32_t count)
{
    rig_say(r, from, (struct swim_msg){.kind = kind, .update = u, .update_count = count});
}

static inline void rig_tell_one(struct rig *r, node_id from, struct member u)
{
    rig_tell(r, from, SWIM_GOSSIP, &u, 1);
}

static inline void rig_link(struct rig *r, node_id peer)
{
    rig_step(r, (struct membership_event){.kind = MEMBERSHIP_LINK_UP, .peer = peer, .address = ""});
}

static inline void rig_down(struct rig *r, node_id peer, enum member_evidence evidence)
{
    rig_step(r, (struct membership_event){.kind = MEMBERSHIP_LINK_DOWN, .peer = peer, .evidence = evidence});
}

/* A linked member that is ALIVE. */
static inline void rig_friend(struct rig *r, node_id peer)
{
    rig_link(r, peer);
    rig_tell_one(r, peer, rig_member(peer, MEMBER_ALIVE, 0));
}

/* Members first .. first + count - 1, ALIVE, told by `from`; without address they are not probed. */
static inline void rig_crowd(struct rig *r, node_id from, node_id first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) rig_tell_one(r, from, rig_member(first + i, MEMBER_ALIVE, 0));
}

static inline const struct membership_action *rig_find(const struct rig *r, enum membership_action_kind kind,
                                                       node_id id)
{
    for (size_t i = 0; i < r->acts.count; i++)
        if (r->acts.item[i].kind == kind && r->acts.item[i].id == id) return &r->acts.item[i];
    return NULL;
}

static inline const struct swim_msg *rig_sent(const struct rig *r, enum swim_kind kind, node_id to)
{
    for (size_t i = 0; i < r->acts.count; i++) {
        const struct membership_action *a = &r->acts.item[i];
        if (a->kind == MEMBERSHIP_SEND && a->msg.kind == kind && (to == NOBODY || a->id == to))
            return &a->msg;
    }
    return NULL;
}

static inline uint32_t rig_count_sent(const struct rig *r, enum swim_kind kind)
{
    uint32_t count = 0;
    for (size_t i = 0; i < r->acts.count; i++)
        if (r->acts.item[i].kind == MEMBERSHIP_SEND && r->acts.item[i].msg.kind == kind) count++;
    return count;
}

/* NULL when msg says nothing of id. */
static inline const struct member *rig_in(const struct swim_msg *msg, node_id id)
{
    for (uint32_t i = 0; msg != NULL && i < msg->update_count; i++)
        if (msg->update[i].id == id) return &msg->update[i];
    return NULL;
}

static inline void rig_answer_pings(struct rig *r)
{
    struct {
        node_id from;
        uint64_t number;
    } due[64];
    size_t count = 0;
    for (size_t i = 0; i < r->acts.count && count < 64; i++) {
        const struct membership_action *a = &r->acts.item[i];
        if (a->kind != MEMBERSHIP_SEND || a->msg.kind != SWIM_PING || r->silent || a->id == r->mute) continue;
        due[count].from = a->id;
        due[count++].number = a->msg.number;
    }
    for (size_t i = 0; i < count; i++)
        rig_say(r, due[i].from, (struct swim_msg){.kind = SWIM_ACK, .number = due[i].number});
}

/* One deadline, if it comes by then; false otherwise. */
static inline bool rig_next(struct rig *r, uint64_t until_us)
{
    uint64_t at_us = membership_deadline_us(r->m);
    if (at_us > until_us) {
        r->now_us = until_us;
        return false;
    }
    if (at_us > r->now_us) r->now_us = at_us;
    rig_step(r, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
    return true;
}

static inline void rig_run(struct rig *r, uint64_t for_us)
{
    for (uint64_t until_us = r->now_us + for_us; rig_next(r, until_us);) rig_answer_pings(r);
}

/* Runs until the machine sends such a message; fails the test when it does not within for_us. */
static inline struct swim_msg rig_await(struct rig *r, enum swim_kind kind, node_id to, uint64_t for_us)
{
    for (uint64_t until_us = r->now_us + for_us; rig_next(r, until_us);) {
        const struct swim_msg *msg = rig_sent(r, kind, to);
        if (msg != NULL) return *msg;
        rig_answer_pings(r);
    }
    fail_msg("no message of kind %d within %.1f s", kind, (double)for_us / 1e6);
    return (struct swim_msg){0};
}

static inline enum member_state rig_state(const struct rig *r, node_id id)
{
    const struct member *u = membership_find(r->m, id);
    assert_non_null(u);
    return u->state;
}

static inline struct membership_totals rig_totals(const struct rig *r)
{
    struct membership_totals t;
    membership_totals(r->m, &t);
    return t;
}

#endif

/* Goal: no order of events and no record, possible or not, breaks a machine or makes it send what cannot be.
 * Method: random events from a few seeds, with ids, incarnations, states and texts from small sets, so that they
 * meet; after each step the machine's invariants, and each message it sends as a receiver checks it. */
#include "base/prng.h"
#include "tests/unit/membership_fixture.h"

enum { IDS = 12, STEPS = 20000 };

static struct member random_member(struct prng *p)
{
    static const char *const texts[] = {"", "host:1", "other:2", "gpu", "bad\ntext"};
    struct member u = rig_member(SELF - IDS / 2 + prng_below(p, IDS), (enum member_state)prng_below(p, 5),
                                 (int64_t)prng_below(p, 40));
    if (prng_below(p, 8) > 0) u.state = (enum member_state)prng_below(p, 4);
    u.accuser = SELF - IDS / 2 + prng_below(p, IDS);
    u.evidence = (enum member_evidence)prng_below(p, 6);
    u.boot += prng_below(p, 2);
    u.meta[prng_below(p, MEMBER_META_MAX)] = prng_below(p, 3);
    snprintf(u.address, sizeof u.address, "%s", texts[prng_below(p, 5)]);
    snprintf(u.tag, sizeof u.tag, "%s", texts[prng_below(p, 5)]);
    if (prng_below(p, 50) == 0) memset(u.tag, 'x', sizeof u.tag);
    if (prng_below(p, 50) == 0) u.incarnation = prng_next(p);
    return u;
}

static void random_message(struct rig *r, struct prng *p, node_id from)
{
    struct member u[6];
    struct swim_msg msg = {.kind = (enum swim_kind)prng_below(p, SWIM_GOSSIP + 2),
                           .number = prng_below(p, 2) == 0 ? 0 : r->m->probe_number - prng_below(p, 4),
                           .update = u,
                           .update_count = prng_below(p, 7)};
    for (uint32_t i = 0; i < msg.update_count; i++) u[i] = random_member(p);
    bool about = msg.kind == SWIM_ACK || msg.kind == SWIM_NACK || msg.kind == SWIM_PING_REQ;
    if (about || prng_below(p, 20) == 0) msg.target = SELF - IDS / 2 + prng_below(p, IDS);
    if (msg.kind == SWIM_GOSSIP && prng_below(p, 4) > 0) msg.number = 0;
    if (prng_below(p, 10) == 0) snprintf(msg.seen, sizeof msg.seen, "seen:%u", prng_below(p, 3));
    rig_say(r, from, msg);
}

/* An owner does not report a link to ourselves. */
static node_id random_peer(struct prng *p)
{
    node_id id = SELF - IDS / 2 + prng_below(p, IDS);
    return id == SELF ? SELF + 1 : id;
}

static void random_event(struct rig *r, struct prng *p)
{
    node_id peer = random_peer(p);
    enum member_evidence evidence = (enum member_evidence)prng_below(p, EVIDENCE_REFUSED + 1);
    struct member self = *membership_self(r->m);
    switch (prng_below(p, 12)) {
    case 0:
        if (membership_link(r->m, peer) == NULL) rig_link(r, peer);
        break;
    case 1:
        if (membership_link(r->m, peer) != NULL) rig_down(r, peer, evidence);
        break;
    case 2:
        evidence = prng_below(p, 2) == 0 ? EVIDENCE_REFUSED : EVIDENCE_TIMEOUT;
        rig_step(
            r, (struct membership_event){.kind = MEMBERSHIP_UNREACHABLE, .peer = peer, .evidence = evidence});
        break;
    case 3:
        self.meta[1] = prng_below(p, 3);
        rig_step(r, (struct membership_event){.kind = MEMBERSHIP_SELF, .self = &self});
        break;
    case 4:
    case 5:
    case 6:
        r->now_us = membership_deadline_us(r->m) + (prng_below(p, 20) == 0 ? prng_below(p, 9 * SECOND) : 0);
        rig_step(r, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
        break;
    default:
        random_message(r, p, peer);
        break;
    }
}

static void check_sent(const struct rig *r)
{
    for (size_t i = 0; i < r->acts.count; i++) {
        const struct membership_action *a = &r->acts.item[i];
        switch (a->kind) {
        case MEMBERSHIP_SEND:
            assert_non_null(membership_link(r->m, a->id));
            assert_true(a->msg.kind >= SWIM_PING && a->msg.kind <= SWIM_GOSSIP);
            assert_true(a->msg.update_count <= SWIM_UPDATE_MAX);
            for (uint32_t k = 0; k < a->msg.update_count; k++) {
                const struct member *u = &a->msg.update[k];
                assert_true(u->state <= MEMBER_LEFT && u->evidence <= EVIDENCE_REFUSED && u->incarnation > 0);
                assert_true(membership_text_is_sound(u->tag, sizeof u->tag));
                assert_true(membership_text_is_sound(u->address, sizeof u->address));
            }
            break;
        case MEMBERSHIP_CONNECT:
            assert_true(a->address[0] != '\0');
            assert_null(membership_link(r->m, a->id));
            break;
        case MEMBERSHIP_CHANGED:
            assert_true(membership_find(r->m, a->id) != NULL ||
                        membership_is_buried(r->m, &(struct member){.id = a->id}));
            assert_true(a->id != SELF);
            break;
        case MEMBERSHIP_SEEN_AS:
            assert_true(a->address[0] != '\0');
            break;
        case MEMBERSHIP_RIVAL:
            assert_true(a->boot != membership_self(r->m)->boot);
            break;
        }
    }
}

static void any_events_in_any_order_leave_a_sound_machine(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct prng p;
        prng_seed(&p, seed);
        struct membership_config c = rig_config();
        c.forget_us = seed % 2 == 0 ? 20 * (uint64_t)SECOND : c.forget_us;
        c.local_health = seed % 3 != 0;
        struct rig r;
        rig_open_as(&r, &c);
        for (uint32_t i = 0; i < STEPS; i++) {
            membership_actions_clear(&r.acts);
            random_event(&r, &p);
            membership_check_invariants(r.m);
            check_sent(&r);
        }
        const struct membership_totals t = rig_totals(&r);
        assert_true(t.suspicions > 0 && t.deaths > 0 && t.refutations > 0 && t.records_dropped > 0);
        rig_step(&r, (struct membership_event){.kind = MEMBERSHIP_LEAVE});
        membership_check_invariants(r.m);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_events_in_any_order_leave_a_sound_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

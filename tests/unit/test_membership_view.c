/* Goal: why a member is doubted can be looked at: since when, who says so, when it ends. Method: a machine that hears
 * of suspicions by messages; the figures follow from Lifeguard's formula. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/membership/membership.h"

enum { MEMBERS = 9, US = 1, DOUBTED = 5 };

static struct member member_of(node_id id, enum member_state state, node_id accuser)
{
    struct member m = {.id = id, .boot = 1000, .incarnation = 1000, .state = state, .accuser = accuser};
    m.evidence = state == MEMBER_SUSPECT ? EVIDENCE_TIMEOUT : EVIDENCE_NONE;
    strcpy(m.address, "10.0.0.5:7946");
    return m;
}

static void hear(struct membership *m, struct membership_actions *acts, uint64_t now_us, node_id from,
                 const struct member *update, uint32_t count)
{
    struct swim_msg msg = {.kind = SWIM_GOSSIP, .update = update, .update_count = count};
    struct membership_event event = {.kind = MEMBERSHIP_MESSAGE, .now_us = now_us, .peer = from, .msg = &msg};
    assert_int_equal(membership_step(m, &event, acts), 0);
    membership_actions_clear(acts);
}

static void a_doubt_is_shown_with_its_accusers(void **state)
{
    (void)state;
    struct membership_config config;
    struct membership_actions acts = {0};
    membership_defaults(&config);
    config.self = member_of(US, MEMBER_ALIVE, 0);
    struct membership *m = membership_new(&config);
    struct membership_event start = {.kind = MEMBERSHIP_START, .now_us = 1000000};
    assert_int_equal(membership_step(m, &start, &acts), 0);
    for (node_id id = 2; id <= 4; id++) {
        struct membership_event up = {
            .kind = MEMBERSHIP_LINK_UP, .now_us = 1000000, .peer = id, .address = "10.0.0.5:7946"};
        assert_int_equal(membership_step(m, &up, &acts), 0);
    }
    struct member all[MEMBERS - 1];
    for (uint32_t i = 0; i < MEMBERS - 1; i++) all[i] = member_of(i + 2, MEMBER_ALIVE, 0);
    hear(m, &acts, 1000000, 2, all, MEMBERS - 1);
    struct membership_doubt doubt;
    assert_false(membership_doubt(m, DOUBTED, &doubt)); /* nobody has said anything */
    assert_false(membership_doubt(m, 777, &doubt));     /* nobody knows it */

    struct member accused = member_of(DOUBTED, MEMBER_SUSPECT, 2);
    hear(m, &acts, 1001000, 2, &accused, 1);
    assert_true(membership_doubt(m, DOUBTED, &doubt));
    assert_true(doubt.since_us == 1001000 && doubt.by_count == 1 && doubt.by[0] == 2);
    assert_int_equal(doubt.wanted, config.suspicion_mult - 2);
    uint64_t min_us = config.suspicion_mult * config.probe_us; /* below ten members */
    assert_true(doubt.ends_us == 1001000 + config.suspicion_spread * min_us);

    accused.accuser = 3;
    hear(m, &acts, 1002000, 3, &accused, 1);
    accused.accuser = 4;
    hear(m, &acts, 1003000, 4, &accused, 1);
    assert_true(membership_doubt(m, DOUBTED, &doubt));
    assert_true(doubt.since_us == 1001000 && doubt.by_count == 3 && doubt.by[1] == 3 && doubt.by[2] == 4);
    assert_true(doubt.ends_us == 1001000 + min_us); /* all that were wanted have confirmed */

    struct member refuted = member_of(DOUBTED, MEMBER_ALIVE, 0);
    refuted.incarnation++;
    hear(m, &acts, 1004000, 2, &refuted, 1);
    assert_false(membership_doubt(m, DOUBTED, &doubt));
    membership_actions_deinit(&acts);
    membership_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_doubt_is_shown_with_its_accusers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

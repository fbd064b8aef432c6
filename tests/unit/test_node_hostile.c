/* Goal: what a hostile peer says of members, places, models or neighbours costs it its link at most, and nobody waits
 * for it for ever; two processes with one id are told of, and neither stops.
 * Method: node_members_fixture.h, word by word. */
#include "tests/unit/node_members_fixture.h"

#include <string.h>

/* -- what hostile peers say ------------------------------------------------------------------------ */

static void impossible_claims_change_nothing(void **state)
{
    (void)state;
    static const struct {
        uint64_t place, claimed;
    } lies[] = {{2, 0},          {2, UINT64_MAX}, {2, BOOT + (1ull << 48)},
                {UINT64_MAX, 5}, {5, 5},          {1ull << 32 | 2, 5}};
    struct fake f;
    uint64_t sequence = open_training(&f);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct member liar = record_of(3, RANK_NONE, 0, NODE_TRAINING);
        liar.incarnation += i;
        liar.meta[META_PLACE] = lies[i].place;
        liar.meta[META_CLAIMED] = lies[i].claimed;
        says_swim(&f, 0, sequence++, SWIM_GOSSIP, &liar, 1);
        assert_int_equal(place_of(&f), 1);
    }
    assert_string_equal(f.events, "");
    assert_int_equal(f.destroyed, 0);
    fake_close(&f);
}

enum offence {
    OVERLAY_WORDS,
    READY_TWICE,
    READY_OF_NO_PLACE,
    CHUNK_WITHOUT_BODY,
    ASK_WITH_BODY,
    CHUNK_TOO_LONG,
    GET_FLOOD,
    SYNC_OF_NOBODY,
    OFFENCE_COUNT
};

static void offend(struct fake *f, enum offence offence, uint64_t sequence)
{
    const struct overlay_msg join = {.kind = OVERLAY_JOIN};
    struct state_msg msg = {.kind = STATE_CHUNK, .snapshot = 1};
    struct blob *body = blob_new(offence == CHUNK_TOO_LONG ? STATE_CHUNK_SIZE + 1 : 8);
    memset(body->data, 0, body->size);
    switch (offence) {
    case OVERLAY_WORDS:
        fake_peer_says(f, 0, LANE_CONTROL, wire_encode_overlay(sequence, &join), NULL);
        break;
    case READY_TWICE:
        says_ready(f, 0, sequence, 0, 1);
        break;
    case READY_OF_NO_PLACE:
        fake_peer_up(f, 3, 1, BOOT + 3, false);
        says_ready(f, 3, 1, FAKE_NODES, 1);
        break;
    case CHUNK_WITHOUT_BODY:
        fake_peer_says(f, 0, LANE_BULK, wire_encode_state(1, &msg), NULL);
        break;
    case ASK_WITH_BODY:
        msg.kind = STATE_ASK;
        fake_peer_says(f, 0, LANE_BULK, wire_encode_state(1, &msg), body);
        break;
    case CHUNK_TOO_LONG:
        fake_peer_says(f, 0, LANE_BULK, wire_encode_state(1, &msg), body);
        break;
    case GET_FLOOD:
        msg = (struct state_msg){.kind = STATE_GET, .snapshot = 7, .count = 1u << 30};
        fake_peer_says(f, 0, LANE_CONTROL, wire_encode_state(sequence, &msg), NULL);
        break;
    case SYNC_OF_NOBODY:
        says_swim(f, 0, sequence, (enum swim_kind)99, NULL, 0);
        break;
    case OFFENCE_COUNT:
        break;
    }
    blob_unref(body);
}

static void offender_loses_its_link_and_nothing_else_happens(void **state)
{
    (void)state;
    for (enum offence offence = OVERLAY_WORDS; offence < OFFENCE_COUNT; offence++) {
        struct fake f;
        uint64_t sequence = open_training(&f);
        offend(&f, offence, sequence);
        struct node_report report;
        node_report(f.node, &report);
        bool third = offence == READY_OF_NO_PLACE;
        if (strstr(f.calls, third ? "disconnect 3 3;" : "disconnect 0 3;") == NULL || f.events[0] != '\0')
            fail_msg("offence %d: %s %s", (int)offence, f.calls, f.events);
        assert_int_equal(report.messages_refused, 1);
        assert_int_equal(report.place, 1);
        fake_close(&f);
    }
}

static void who_does_not_train_yet_has_no_model_to_give(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    open_members(&f, 4);
    fake_peer_up(&f, 0, 1, BOOT, false);
    struct member m = record_of(0, RANK_NONE, 0, NODE_JOINING);
    says_swim(&f, 0, 1, SWIM_SYNC, &m, 1);
    fake_forget(&f);
    for (uint64_t i = 0; i < 5; i++) {
        const struct state_msg ask = {.kind = i == 0 ? STATE_ASK : STATE_GET, .snapshot = i};
        fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_state(2 + i, &ask), NULL);
    }
    assert_string_equal(fake_sent_to(&f, 0, out), "state:5 "); /* BUSY, once */
    assert_string_equal(f.calls, "");
    fake_close(&f);
}

/* -- two processes with one id ----------------------------------------------------------------------- */

/* Whoever says so: a peer's word about our id is told and shown, and stops nobody. */
static void another_process_with_our_id_is_shown_and_both_go_on(void **state)
{
    (void)state;
    for (int we_are_later = 0; we_are_later <= 1; we_are_later++) {
        struct fake f;
        uint64_t sequence = open_training(&f);
        struct member rival = record_of(1, RANK_NONE, 0, NODE_JOINING);
        rival.boot = we_are_later ? BOOT - 5 : BOOT + 5;
        assert_null(node_rival_at(f.node));
        for (uint32_t i = 0; i < 40; i++) {
            rival.incarnation = membership_self(node_membership(f.node))->incarnation + 1;
            says_swim(&f, 0, sequence + i, SWIM_GOSSIP, &rival, 1);
        }
        assert_string_equal(node_rival_at(f.node), "host:1");
        assert_int_equal(f.failed, 0);
        assert_null(strstr(f.calls, "disconnect"));
        assert_true(membership_self(node_membership(f.node))->incarnation > rival.incarnation);
        f.now_us += 121000000;
        assert_null(node_rival_at(f.node));
        fake_close(&f);
    }
}

/* -- fetching the model ------------------------------------------------------------------------------ */

static bool was_asked_for_the_model(struct fake *f, rank_t rank)
{
    char sent[256];
    return strstr(fake_sent_to(f, rank, sent), "state:1") != NULL;
}

/* One tells of a hundred times the steps of the other, and gives nothing. */
static void a_member_that_boasts_does_not_keep_a_newcomer_waiting_for_ever(void **state)
{
    (void)state;
    struct fake f;
    open_members(&f, 4);
    struct member far = record_of(0, 0, BOOT + 1, NODE_TRAINING), near = record_of(2, 2, BOOT + 1, NODE_TRAINING);
    far.meta[META_PROGRESS] = 1000;
    near.meta[META_PROGRESS] = 10;
    far.meta[META_UNDER_WAY] = near.meta[META_UNDER_WAY] = 1;
    fake_peer_up(&f, 0, 1, BOOT, false);
    fake_peer_up(&f, 2, 1, BOOT + 2, false);
    uint32_t asked_s = 0;
    for (uint32_t s = 1; s <= 40 && asked_s == 0; s++) {
        far.incarnation++;
        near.incarnation++;
        says_swim(&f, 0, s, s == 1 ? SWIM_SYNC : SWIM_GOSSIP, &far, 1);
        says_swim(&f, 2, s, s == 1 ? SWIM_SYNC : SWIM_GOSSIP, &near, 1);
        if (s == 1) assert_true(was_asked_for_the_model(&f, 0));
        if (was_asked_for_the_model(&f, 2)) asked_s = s;
        fake_forget(&f);
        fake_deadline_comes(&f, f.now_us + 2 * HALF_SECOND);
        if (was_asked_for_the_model(&f, 2)) asked_s = s;
        fake_forget(&f);
    }
    assert_in_range(asked_s, 30, 33);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_claims_change_nothing),
        cmocka_unit_test(offender_loses_its_link_and_nothing_else_happens),
        cmocka_unit_test(who_does_not_train_yet_has_no_model_to_give),
        cmocka_unit_test(another_process_with_our_id_is_shown_and_both_go_on),
        cmocka_unit_test(a_member_that_boasts_does_not_keep_a_newcomer_waiting_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

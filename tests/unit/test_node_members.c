/* Goal: a node among members that come and go claims a place, presents whom it should and gives its place up to an
 * earlier claim.
 * Method: node_members_fixture.h, word by word. */
#include "tests/unit/node_members_fixture.h"

#include <string.h>

/* -- founding and presenting ----------------------------------------------------------------------- */

static void founders_wait_for_enough_members_and_take_places_by_id(void **state)
{
    (void)state;
    struct fake f;
    char text[NODE_WAIT_MAX];
    open_members(&f, 3);
    assert_string_equal(node_waits_for(f.node, text), "waiting for members: 1 of 3 known");
    fake_peer_up(&f, 3, 1, BOOT + 3, false);
    struct member two[2] = {record_of(3, RANK_NONE, 0, NODE_JOINING),
                            record_of(0, RANK_NONE, 0, NODE_JOINING)};
    says_swim(&f, 3, 1, SWIM_SYNC, two, 1);
    assert_string_equal(node_waits_for(f.node, text), "waiting for members: 2 of 3 known");
    assert_int_equal(place_of(&f), RANK_NONE);
    says_swim(&f, 3, 2, SWIM_SYNC, two, 2);
    assert_string_equal(f.members, "40 alive;10 alive;");
    assert_int_equal(place_of(&f), 1);
    assert_string_equal(f.events, "ranked 1;start;");
    assert_string_equal(node_waits_for(f.node, text), "");
    fake_close(&f);
}

/* The place is claimed, and the owner loads its rows. Pings are answered all the while, and who was to found does so,
 * although others have got ahead. */
static void a_node_whose_owner_is_not_ready_answers_and_begins_later(void **state)
{
    (void)state;
    struct fake f;
    char text[NODE_WAIT_MAX], out[256];
    open_members(&f, 2);
    f.unready = true;
    fake_peer_up(&f, 0, 1, BOOT, false);
    struct member m = record_of(0, 0, BOOT + 1, NODE_TRAINING);
    says_swim(&f, 0, 1, SWIM_SYNC, &m, 1);
    assert_int_equal(place_of(&f), 1);
    assert_non_null(strstr(f.events, "get ready 1;"));
    assert_string_equal(node_waits_for(f.node, text), "loading the rows of place 1");
    fake_forget(&f);
    m.incarnation++;
    m.meta[META_PROGRESS] = 500;
    m.meta[META_UNDER_WAY] = 1;
    const struct swim_msg ping = {.kind = SWIM_PING, .number = 3, .update = &m, .update_count = 1};
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_swim(2, &ping), NULL);
    assert_non_null(strstr(fake_sent_to(&f, 0, out), "swim:2")); /* ACK */
    assert_null(strstr(f.events, "ranked"));
    assert_null(f.job);
    f.unready = false;
    fake_forget(&f);
    node_ready(f.node);
    assert_string_equal(f.events, "ranked 1;start;");
    fake_close(&f);
}

static void a_place_lost_before_the_owner_is_ready_is_not_begun(void **state)
{
    (void)state;
    struct fake f;
    open_members(&f, 2);
    f.unready = true;
    fake_peer_up(&f, 0, 1, BOOT, false);
    struct member m = record_of(0, 0, BOOT + 1, NODE_TRAINING), rival = record_of(3, 1, 5, NODE_TRAINING);
    says_swim(&f, 0, 1, SWIM_SYNC, &m, 1);
    fake_forget(&f);
    says_swim(&f, 0, 2, SWIM_GOSSIP, &rival, 1);
    f.unready = false;
    node_ready(f.node);
    assert_int_equal(place_of(&f), 2);
    assert_non_null(strstr(f.events, "get ready 2;"));
    assert_null(strstr(f.events, "ranked 1;"));
    assert_non_null(strstr(f.events, "ranked 2;start;"));
    fake_close(&f);
}

/* Steps may take minutes: that none has been told yet does not make a newcomer a founder, who would begin without a model. */
static void who_comes_while_training_is_under_way_is_no_founder(void **state)
{
    (void)state;
    for (uint64_t under_way = 0; under_way <= 1; under_way++) {
        struct fake f;
        open_members(&f, 2);
        fake_peer_up(&f, 0, 1, BOOT, false);
        struct member m = record_of(0, 0, BOOT + 1, NODE_TRAINING);
        m.meta[META_UNDER_WAY] = under_way;
        says_swim(&f, 0, 1, SWIM_SYNC, &m, 1);
        assert_string_equal(f.events, under_way ? "" : "ranked 1;start;");
        fake_close(&f);
    }
}

static void only_the_holder_of_a_neighbouring_place_is_presented(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    open_training(&f);
    fake_peer_up(&f, 3, 1, BOOT + 3, false);
    struct member far = record_of(3, 3, BOOT + 1, NODE_TRAINING);
    says_swim(&f, 3, 1, SWIM_SYNC, &far, 1);
    says_ready(&f, 3, 2, 3, 1);
    assert_string_equal(f.events, ""); /* place 3 is none of our neighbours */
    far.incarnation++;
    far.meta[META_PLACE] = 3;
    says_swim(&f, 3, 3, SWIM_GOSSIP, &far, 1);
    assert_non_null(strstr(fake_sent_to(&f, 3, out), "ready "));
    assert_non_null(strstr(f.calls, "disconnect 3 5;")); /* its READY was for its former place */
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void messages_that_overtook_ready_wait_for_it(void **state)
{
    (void)state;
    for (int many = 0; many <= 1; many++) {
        struct fake f;
        open_members(&f, 2);
        fake_peer_up(&f, 0, 1, BOOT, false);
        struct member m = record_of(0, 0, BOOT + 1, NODE_TRAINING);
        says_swim(&f, 0, 1, SWIM_SYNC, &m, 1);
        fake_forget(&f);
        struct blob *vec = fake_vector(1, 2, 3);
        for (uint64_t i = 1; i <= (many ? 100u : 2u); i++) fake_peer_sends_algo(&f, 0, LANE_BULK, i, vec);
        assert_string_equal(f.events, "");
        assert_string_equal(f.calls, many ? "disconnect 0 3;" : "");
        if (!many) says_ready(&f, 0, 2, 0, 1);
        char text[128];
        if (!many) assert_string_equal(f.events, up_text("", "message 0 4;message 0 4;", text));
        assert_int_equal(vec->references, 1);
        blob_unref(vec);
        fake_close(&f);
    }
}

static void a_neighbour_declared_dead_loses_its_link(void **state)
{
    (void)state;
    struct fake f;
    open_training(&f);
    fake_peer_up(&f, 3, 1, BOOT + 3, false);
    struct member word[2] = {record_of(3, 3, BOOT + 1, NODE_TRAINING),
                             record_of(0, 0, BOOT + 1, NODE_TRAINING)};
    word[1].state = MEMBER_LEFT;
    says_swim(&f, 3, 1, SWIM_SYNC, word, 2);
    assert_non_null(strstr(f.calls, "disconnect 0 5;"));
    fake_peer_down(&f, 0, 1);
    assert_string_equal(f.events, "down 0;");
    fake_close(&f);
}

/* -- losing a place -------------------------------------------------------------------------------- */

static bool any_peers(const struct choice *params)
{
    (void)params;
    return true;
}

/* Time passes; only the algorithm's events are kept. */
static void pass(struct fake *f, uint64_t duration_us)
{
    char events[sizeof f->events] = "";
    for (uint64_t end_us = f->now_us + duration_us; f->now_us < end_us;) {
        fake_forget(f);
        fake_deadline_comes(f, f->now_us + HALF_SECOND / 2);
        snprintf(events + strlen(events), sizeof events - strlen(events), "%s", f->events);
    }
    memcpy(f->events, events, sizeof events);
}

/* Nobody holds place 2 of the path: 1 and 3 are neighbours, until somebody does. */
static void a_vacant_place_is_bridged_until_it_is_taken(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    struct algo_type method = *config.algo;
    method.any_peers = any_peers;
    config.algo = &method;
    config.members = NULL;
    config.min_nodes = 3;
    config.boot = BOOT + 1;
    config.patience_us = 20 * HALF_SECOND;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    fake_peer_up(&f, 0, 1, BOOT, false);
    fake_peer_up(&f, 3, 1, BOOT + 3, false);
    struct member two[2] = {record_of(0, 0, BOOT + 1, NODE_TRAINING),
                            record_of(3, 3, BOOT + 4, NODE_TRAINING)};
    says_swim(&f, 0, 1, SWIM_SYNC, two, 2);
    says_ready(&f, 0, 2, 0, 1);
    says_ready(&f, 3, 1, 3, 1); /* it knows already */
    char text[128];
    assert_string_equal(f.events, up_text("ranked 1;start;", "", text));
    pass(&f, HALF_SECOND);
    assert_string_equal(f.events, "");
    pass(&f, 2 * HALF_SECOND);
    snprintf(text, sizeof text, "up 3 %llu;", (unsigned long long)node_life(40, BOOT + 3, BOOT));
    assert_string_equal(f.events, text);
    struct node_report r;
    node_report(f.node, &r);
    assert_int_equal(r.neighbours, 2);
    fake_forget(&f);
    struct member third = record_of(2, 2, BOOT + 9, NODE_TRAINING);
    says_swim(&f, 0, 3, SWIM_GOSSIP, &third, 1);
    assert_null(strstr(f.calls, "disconnect 3"));
    fake_forget(&f);
    for (int k = 0; k < 6 && strstr(f.calls, "disconnect 3") == NULL; k++)
        fake_deadline_comes(&f, f.now_us + HALF_SECOND / 2);
    assert_non_null(strstr(f.calls, "disconnect 3"));
    assert_null(strstr(f.calls, "disconnect 0"));
    fake_forget(&f);
    fake_peer_down(&f, 3, 1);
    assert_string_equal(f.events, "down 3;");
    fake_close(&f);
}

static void an_earlier_claim_takes_our_place_once_the_job_is_done(void **state)
{
    (void)state;
    for (int idle = 0; idle <= 1; idle++) {
        struct fake f;
        uint64_t sequence = open_training(&f);
        if (!idle) {
            f.train = 5;
            f.delta = 0.5f;
            fake_peer_sends_algo(&f, 0, LANE_BULK, 1, NULL);
            fake_deadline_comes(&f, f.now_us + HALF_SECOND); /* the first job waits no longer */
            assert_non_null(f.job);
        }
        fake_forget(&f);
        struct member rival = record_of(3, 1, 5, NODE_TRAINING);
        says_swim(&f, 0, sequence, SWIM_GOSSIP, &rival, 1);
        if (!idle) {
            assert_int_equal(f.destroyed, 0);
            assert_int_equal(place_of(&f), 1);
            fake_job_done(&f);
        }
        assert_int_equal(f.destroyed, 1);
        assert_int_equal(f.created, 2);
        assert_int_equal(place_of(&f), 2); /* the next vacant one */
        assert_non_null(strstr(f.calls, "disconnect 0 5;"));
        assert_non_null(strstr(f.events, "ranked 2;start;"));
        assert_true(node_model(f.node)[0] == (idle ? 1.0f : 1.5f)); /* what was learnt is kept */
        fake_close(&f);
    }
}

static void without_another_place_the_node_waits_with_its_model(void **state)
{
    (void)state;
    struct fake f;
    char text[NODE_WAIT_MAX];
    uint64_t sequence = open_training(&f);
    struct member rival[3], other = record_of(3, RANK_NONE, 0, NODE_TRAINING);
    fake_peer_up(&f, 3, 1, BOOT + 3, false);
    says_swim(&f, 3, 1, SWIM_SYNC, &other, 1);
    for (uint32_t i = 0; i < 3; i++) {
        rival[i] = record_of(3, i + 1, 5, NODE_TRAINING);
        rival[i].id = 100 + i;
    }
    says_swim(&f, 0, sequence, SWIM_GOSSIP, rival, 3);
    assert_int_equal(place_of(&f), RANK_NONE);
    assert_string_equal(node_waits_for(f.node, text), "all 4 places are taken: waiting for one");
    assert_true(node_model(f.node)[0] == 1.0f);
    rival[1].state = MEMBER_LEFT;
    says_swim(&f, 3, 2, SWIM_GOSSIP, &rival[1], 1);
    assert_int_equal(place_of(&f), 2);
    fake_close(&f);
}

/* -- leaving --------------------------------------------------------------------------------------- */

static void leaving_is_said_to_everybody_linked(void **state)
{
    (void)state;
    struct fake f;
    open_training(&f);
    node_leave(f.node);
    bool told = false;
    for (size_t i = 0; i < f.sent_count; i++) {
        struct wire_message m;
        assert_int_equal(wire_decode(f.sent[i].head->data, f.sent[i].head->size, &m, NULL), 0);
        for (uint32_t k = 0; m.kind == WIRE_SWIM && k < m.swim.update_count; k++)
            told |= m.swim.update[k].id == 20 && m.swim.update[k].state == MEMBER_LEFT;
        wire_message_deinit(&m);
    }
    assert_true(told);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(founders_wait_for_enough_members_and_take_places_by_id),
        cmocka_unit_test(a_node_whose_owner_is_not_ready_answers_and_begins_later),
        cmocka_unit_test(a_place_lost_before_the_owner_is_ready_is_not_begun),
        cmocka_unit_test(who_comes_while_training_is_under_way_is_no_founder),
        cmocka_unit_test(only_the_holder_of_a_neighbouring_place_is_presented),
        cmocka_unit_test(messages_that_overtook_ready_wait_for_it),
        cmocka_unit_test(a_neighbour_declared_dead_loses_its_link),
        cmocka_unit_test(a_vacant_place_is_bridged_until_it_is_taken),
        cmocka_unit_test(an_earlier_claim_takes_our_place_once_the_job_is_done),
        cmocka_unit_test(without_another_place_the_node_waits_with_its_model),
        cmocka_unit_test(leaving_is_said_to_everybody_linked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

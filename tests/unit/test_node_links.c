/* Goal: the node keeps its links as node.h says: who counts as a peer, whom it dials and when, and what the
 * algorithm is told of losses and returns. Method: the fakes of node_fake.h around node 1 of a path; the test
 * plays the peers and reads what the node asks of its transport. */
#include "tests/unit/node_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/node/node.h"
#include "agent/wire/wire.h"

static void stranger_is_not_a_peer(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct peer_info info = {.id = 99, .boot = 1};
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_up(sink.ctx, (struct link_id){9, 1}, &info);
    assert_string_equal(f.calls, "disconnect 9 5;");
    sink.on_down(sink.ctx, (struct link_id){9, 1}, DOWN_LOCAL);
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void ready_for_other_places_ends_the_link(void **state)
{
    (void)state;
    const struct wire_ready wrong[] = {{2, 0, 0}, {3, 0, 1}, {FAKE_NODES, 0, 1}};
    for (size_t i = 0; i < 3; i++) {
        struct fake f;
        fake_open_running(&f, 0);
        fake_peer_down(&f, 2, 1);
        fake_peer_up(&f, 2, 1, 102, true);
        fake_forget(&f);
        fake_peer_says(&f, 2, LANE_CONTROL, wire_encode_ready(1, &wrong[i]), NULL);
        assert_string_equal(f.calls, i < 2 ? "disconnect 2 5;" : "disconnect 2 3;");
        assert_string_equal(f.events, "");
        fake_close(&f);
    }
}

static void ready_twice_ends_the_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    const struct wire_ready ready = {2, 0, 1};
    fake_peer_says(&f, 2, LANE_CONTROL, wire_encode_ready(2, &ready), NULL);
    assert_string_equal(f.calls, "disconnect 2 3;");
    fake_close(&f);
}

static void lost_neighbour_is_dialled_and_comes_back_with_its_boot(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    fake_peer_down(&f, 0, 1);
    assert_string_equal(f.events, "down 0;");
    assert_string_equal(f.calls, ""); /* it dialled us and has the first second to come again */
    assert_true(f.deadline_us > f.now_us && f.deadline_us <= f.now_us + 1000000);
    fake_deadline_comes(&f, f.deadline_us);
    assert_string_equal(f.calls, "dial host:0;"); /* after a loss the higher rank dials too */
    fake_peer_up(&f, 0, 2, 555, false);
    assert_string_equal(f.calls, "dial host:0;undial host:0;"); /* it got through first */
    struct transport_sink sink = node_transport_sink(f.node);
    struct blob *head = fake_ready(0);
    sink.on_message(sink.ctx, (struct link_id){0, 2}, LANE_CONTROL, head->data, head->size, NULL);
    blob_unref(head);
    assert_string_equal(f.events, "down 0;up 0 555;");
    char out[256];
    assert_string_equal(fake_sent_to(&f, 0, out), "ready ");
    fake_peer_says(&f, 0, LANE_CONTROL, fake_ready(0), NULL); /* from the link that is gone: ignored */
    assert_string_equal(f.events, "down 0;up 0 555;");
    fake_close(&f);
}

static void our_own_dial_is_kept_while_the_link_is_up(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0); /* link 2 was dialled by us in node_start */
    fake_peer_down(&f, 2, 1);
    fake_peer_up(&f, 2, 2, 102, true);
    assert_string_equal(f.calls, "");
    fake_close(&f);
}

static void neighbour_never_met_is_dialled_from_both_sides_after_the_patience(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    assert_string_equal(f.calls, "dial host:2;");
    assert_int_equal(f.deadline_us, 1050);
    fake_deadline_comes(&f, 1050);
    assert_string_equal(f.calls, "dial host:2;dial host:0;");
    assert_string_equal(f.events, "ranked 1;start;"); /* the algorithm did not ask for this deadline */
    assert_true(f.deadline_us == TIME_NEVER);
    fake_close(&f);
}

static void both_sides_dialling_does_not_make_a_storm(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    for (uint32_t i = 0; i < 20;
         i++) { /* neighbour 0 dials us and is lost, again and again within a second */
        fake_peer_down(&f, 0, 1 + i);
        fake_peer_up(&f, 0, 2 + i, 100, false);
    }
    assert_string_equal(f.calls, "");
    fake_close(&f);
}

static void address_that_cannot_be_dialled_is_tried_again(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    struct member all[FAKE_NODES];
    memcpy(all, config.members, sizeof all);
    strcpy(all[2].address, "nonsense"); /* the fake transport takes it for none */
    config.members = all;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    assert_string_equal(f.calls, "dial nonsense;");
    for (int i = 0; i < 3; i++) {
        fake_forget(&f);
        fake_deadline_comes(&f, f.deadline_us);
        assert_non_null(strstr(f.calls, "dial nonsense;"));
    }
    fake_close(&f);
}

static void words_about_members_cost_the_link_when_all_are_given(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct member lie = fake_member(3);
    const struct swim_msg gossip = {.kind = SWIM_GOSSIP, .update = &lie, .update_count = 1};
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_swim(2, &gossip), NULL);
    assert_string_equal(f.calls, "disconnect 0 3;");
    const struct state_msg ask = {.kind = STATE_ASK};
    fake_peer_says(&f, 2, LANE_CONTROL, wire_encode_state(2, &ask), NULL);
    assert_string_equal(f.calls, "disconnect 0 3;disconnect 2 3;");
    assert_int_equal(f.sent_count, 0);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stranger_is_not_a_peer),
        cmocka_unit_test(ready_for_other_places_ends_the_link),
        cmocka_unit_test(ready_twice_ends_the_link),
        cmocka_unit_test(lost_neighbour_is_dialled_and_comes_back_with_its_boot),
        cmocka_unit_test(our_own_dial_is_kept_while_the_link_is_up),
        cmocka_unit_test(neighbour_never_met_is_dialled_from_both_sides_after_the_patience),
        cmocka_unit_test(both_sides_dialling_does_not_make_a_storm),
        cmocka_unit_test(address_that_cannot_be_dialled_is_tried_again),
        cmocka_unit_test(words_about_members_cost_the_link_when_all_are_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

#include "agent/node.h"
#include "agent/wire.h"

static void stranger_is_not_a_peer(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct peer_info info = {.id = 99, .boot = 1};
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_up(sink.ctx, (struct link_id){9, 1}, &info);
    assert_string_equal(f.calls, ""); /* the list that says so is on its way */
    fake_deadline_comes(&f, f.deadline_us);
    assert_string_equal(f.calls, "disconnect 9 5;");
    sink.on_down(sink.ctx, (struct link_id){9, 1}, DOWN_LOCAL);
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void peer_with_another_member_list_is_refused(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    fake_peer_down(&f, 2, 1);
    fake_peer_up(&f, 2, 1, 102, true);
    fake_forget(&f);
    fake_peer_says(&f, 2, LANE_CONTROL, wire_encode_ready(1, 12345), NULL);
    assert_string_equal(f.calls, "disconnect 2 3;");
    assert_string_equal(f.events, "");
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
    struct blob *head = wire_encode_ready(1, fake_fingerprint());
    sink.on_message(sink.ctx, (struct link_id){0, 2}, LANE_CONTROL, head->data, head->size, NULL);
    blob_unref(head);
    assert_string_equal(f.events, "down 0;up 0 555;");
    char out[256];
    assert_string_equal(fake_sent_to(&f, 0, out), "ready ");
    /* its new boot is news for the others */
    assert_string_equal(fake_sent_to(&f, 2, out), "members:1 ");
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_ready(1, 0),
                   NULL); /* from the link that is gone: ignored */
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

static void neighbour_that_moved_is_dialled_where_it_is_now(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    fake_peer_down(&f, 2, 1);
    fake_forget(&f);
    struct wire_member moved = fake_member(2);
    moved.boot++;
    strcpy(moved.address, "elsewhere:2");
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, &moved, 1), NULL);
    assert_string_equal(f.calls, "undial host:2;dial elsewhere:2;");
    fake_close(&f);
}

static void neighbour_never_met_is_dialled_from_both_sides_after_the_patience(void **state)
{
    (void)state;
    struct fake f;
    struct wire_member all[FAKE_NODES] = {fake_member(0), fake_member(1), fake_member(2), fake_member(3)};
    struct node_config config = fake_config();
    config.members = all;
    config.member_count = FAKE_NODES;
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
    fake_open_running(&f, 0);
    fake_peer_down(&f, 2, 1);
    fake_forget(&f);
    struct wire_member moved = fake_member(2);
    moved.boot++;
    strcpy(moved.address, "nonsense"); /* the fake transport takes it for none */
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, &moved, 1), NULL);
    assert_string_equal(f.calls, "undial host:2;dial nonsense;");
    fake_forget(&f);
    uint64_t at_us = f.deadline_us;
    assert_true(at_us <= f.now_us + 1000000);
    fake_deadline_comes(&f, at_us);
    assert_string_equal(f.calls, "dial nonsense;");
    assert_true(f.deadline_us > at_us && f.deadline_us <= at_us + 1000000);
    fake_close(&f);
}

static uint32_t complete_list_without_us(struct wire_member list[FAKE_NODES])
{
    uint32_t count = 0;
    for (rank_t r = 0; r < FAKE_NODES; r++) { /* the sender, 0, does not name itself */
        struct wire_member m = fake_member(r);
        if (r == 1) m.id = 35;
        if (r > 0) list[count++] = m;
    }
    struct wire_member last = list[1]; /* ascending: 30, 35, 40 */
    list[1] = list[0];
    list[0] = last;
    return count;
}

static void list_without_us_ends_a_newcomer_only_where_it_asked_to_join(void **state)
{
    (void)state;
    for (int dialled = 0; dialled < 2; dialled++)
        for (int parts = 0; parts < 2; parts++) { /* in one message, or cut in two */
            struct fake f;
            struct node_config config = fake_config();
            struct wire_member list[FAKE_NODES];
            uint32_t count = complete_list_without_us(list), first = parts ? 1 : count;
            fake_open(&f, &config);
            assert_int_equal(node_start(f.node, NULL), 0);
            fake_peer_up(&f, 0, 1, 100, dialled);
            fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(1, list, first), NULL);
            if (parts) {
                assert_int_equal(f.failed, 0);
                fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, list + 1, count - 1), NULL);
            }
            assert_int_equal(f.failed, dialled);
            if (!dialled) assert_string_equal(f.calls, "disconnect 0 3;");
            fake_close(&f);
        }
}

static void list_without_us_does_not_end_a_node_that_has_trained(void **state)
{
    (void)state;
    struct fake f;
    struct wire_member list[FAKE_NODES];
    uint32_t count = complete_list_without_us(list);
    fake_open_running(&f, 0);
    fake_peer_down(&f, 2, 1);
    fake_peer_down(&f, 0, 1);
    fake_peer_up(&f, 0, 1, 100, true);
    fake_forget(&f);
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(1, list, count), NULL);
    assert_int_equal(f.failed, 0);
    assert_string_equal(f.calls, "disconnect 0 3;");
    fake_close(&f);
}

/* Of an experiment of two: the hello alone completes the newcomer's list, and it begins before it hears. */
static void list_without_us_ends_a_newcomer_to_two(void **state)
{
    (void)state;
    struct fake f;
    static uint32_t offset[] = {0, 1, 2}, neighbour[] = {1, 0};
    static double delay[] = {1, 1};
    static const struct graph pair = {2, 1, offset, neighbour, delay};
    struct node_config config = fake_config();
    struct wire_member other = fake_member(2);
    config.node_count = 2;
    config.graph = &pair;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    fake_peer_up(&f, 0, 1, 100, true);
    assert_non_null(strstr(f.events, "start;"));
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(1, &other, 1), NULL);
    assert_int_equal(f.failed, 1);
    fake_close(&f);
}

static void hearsay_does_not_change_a_linked_peer(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct wire_member lie = fake_member(2);
    char out[256];
    lie.boot = 1000;
    strcpy(lie.address, "elsewhere:2");
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, &lie, 1), NULL);
    assert_string_equal(fake_sent_to(&f, 2, out), "");
    assert_string_equal(f.calls, "");
    fake_peer_down(&f, 2, 1); /* dialled by us: again at once, where its hello said */
    assert_null(strstr(f.calls, "elsewhere"));
    fake_close(&f);
}

static void boot_that_cannot_be_costs_the_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct wire_member lie = fake_member(3);
    lie.boot = UINT64_MAX;
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, &lie, 1), NULL);
    assert_string_equal(f.calls, "disconnect 0 3;");
    lie.boot = 1000; /* the entry was not taken: this is news */
    fake_peer_says(&f, 2, LANE_CONTROL, wire_encode_members(2, &lie, 1), NULL);
    char out[256];
    assert_string_equal(fake_sent_to(&f, 0, out), "");
    fake_close(&f);
}

static void list_of_a_stranger_is_refused(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct peer_info info = {.id = 99, .boot = 1};
    struct wire_member lie = fake_member(3);
    lie.boot = 1000;
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_up(sink.ctx, (struct link_id){9, 1}, &info);
    fake_forget(&f);
    struct blob *head = wire_encode_members(1, &lie, 1);
    sink.on_message(sink.ctx, (struct link_id){9, 1}, LANE_CONTROL, head->data, head->size, NULL);
    blob_unref(head);
    assert_string_equal(f.calls, "disconnect 9 3;");
    assert_int_equal(f.sent_count, 0);
    fake_close(&f);
}

static void news_of_one_link_are_bounded_by_the_second(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    fake_open_running(&f, 0);
    struct wire_member restless = fake_member(3); /* no neighbour, no link */
    unsigned passed = 0;
    for (uint32_t i = 1; i <= 1000; i++) {
        restless.boot++;
        fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(1 + i, &restless, 1), NULL);
        passed += fake_sent_to(&f, 2, out)[0] != '\0';
        fake_forget(&f);
    }
    assert_true(passed > 10 && passed < 500);
    f.now_us += 1000000;
    restless.boot++;
    fake_peer_says(&f, 0, LANE_CONTROL, wire_encode_members(1002, &restless, 1), NULL);
    assert_string_equal(fake_sent_to(&f, 2, out), "members:1 ");
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stranger_is_not_a_peer),
        cmocka_unit_test(peer_with_another_member_list_is_refused),
        cmocka_unit_test(lost_neighbour_is_dialled_and_comes_back_with_its_boot),
        cmocka_unit_test(our_own_dial_is_kept_while_the_link_is_up),
        cmocka_unit_test(neighbour_that_moved_is_dialled_where_it_is_now),
        cmocka_unit_test(neighbour_never_met_is_dialled_from_both_sides_after_the_patience),
        cmocka_unit_test(both_sides_dialling_does_not_make_a_storm),
        cmocka_unit_test(address_that_cannot_be_dialled_is_tried_again),
        cmocka_unit_test(list_without_us_ends_a_newcomer_only_where_it_asked_to_join),
        cmocka_unit_test(list_without_us_does_not_end_a_node_that_has_trained),
        cmocka_unit_test(list_without_us_ends_a_newcomer_to_two),
        cmocka_unit_test(hearsay_does_not_change_a_linked_peer),
        cmocka_unit_test(boot_that_cannot_be_costs_the_link),
        cmocka_unit_test(list_of_a_stranger_is_refused),
        cmocka_unit_test(news_of_one_link_are_bounded_by_the_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

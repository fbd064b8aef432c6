/* Goal: the node carries messages faithfully both ways; a bad one costs its sender the link and changes
 * nothing else; one bulk message waits for a full link and no more. Method: the fakes of node_fake.h around
 * node 1 of a path; the test plays the peers and commits each offence in turn. */
#include "tests/unit/node_fake.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/node/node.h"
#include "agent/wire/wire.h"

static void messages_reach_the_algorithm_in_each_lane(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = fake_vector(7, 8, 9);
    fake_peer_sends_algo(&f, 0, LANE_BULK, 1, vec);
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL); /* 1 was READY */
    fake_peer_sends_algo(&f, 0, LANE_BULK, 2, vec);
    blob_unref(vec);
    assert_string_equal(f.events, "message 0 4;message 0 4;message 0 4;");
    assert_true(f.seen_vec == 7.0f);
    fake_close(&f);
}

static void a_packed_body_may_be_anything_up_to_the_bound(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *nan = fake_vector(NAN, NAN, NAN), *one = blob_copy("x", 1);
    fake_peer_sends_packed(&f, 0, 1, nan); /* none: as long as a vector */
    assert_int_equal(f.seen_packed, 4 * FAKE_DIM);
    fake_peer_sends_packed(&f, 0, 2, one);
    assert_int_equal(f.seen_packed, 1);
    assert_string_equal(f.events, "message 0 4;message 0 4;");
    assert_string_equal(f.calls, "");
    blob_unref(nan);
    blob_unref(one);
    fake_close(&f);
}

static void message_that_overtook_ready_is_taken(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    fake_peer_down(&f, 2, 1);
    fake_peer_up(&f, 2, 1, 102, true);
    fake_forget(&f);
    struct blob *vec = fake_vector(1, 1, 1);
    fake_peer_sends_algo(&f, 2, LANE_BULK, 1, vec);
    blob_unref(vec);
    fake_peer_says(&f, 2, LANE_CONTROL, fake_ready(2), NULL);
    assert_string_equal(f.events, "up 2 102;message 2 4;");
    fake_close(&f);
}

enum offence {
    HEAD_NONSENSE,
    BODY_SHORT,
    BODY_LONG,
    BODY_NAN,
    BODY_INFINITE,
    SEQUENCE_GAP,
    SEQUENCE_REPEAT,
    ALGORITHM_REFUSES,
    SWIM_WITH_BODY,
    READY_WITH_BODY,
    PACKED_LONG,
    PACKED_WITHOUT_BODY,
    NOT_A_NEIGHBOUR,
    OFFENCE_COUNT
};

static void offend(struct fake *f, enum offence offence)
{
    struct blob *vec = fake_vector(1, 2, offence == BODY_NAN ? NAN : offence == BODY_INFINITE ? INFINITY : 3);
    struct blob *other = blob_new(offence == BODY_SHORT ? 4 * FAKE_DIM - 4 : 4 * FAKE_DIM + 4);
    memset(other->data, 0, other->size);
    const struct swim_msg ping = {.kind = SWIM_PING, .number = 1};
    switch (offence) {
    case HEAD_NONSENSE:
        fake_peer_says(f, 0, LANE_CONTROL, blob_copy("\xdd\x0f\x00\x00\x00", 5), NULL);
        break;
    case BODY_SHORT:
    case BODY_LONG:
        fake_peer_sends_algo(f, 0, LANE_BULK, 1, other);
        break;
    case BODY_NAN:
    case BODY_INFINITE:
        fake_peer_sends_algo(f, 0, LANE_BULK, 1, vec);
        break;
    case PACKED_LONG:
        fake_peer_sends_packed(f, 0, 1, other);
        break;
    case PACKED_WITHOUT_BODY:
        fake_peer_sends_packed(f, 0, 1, NULL);
        break;
    case SEQUENCE_GAP:
        fake_peer_sends_algo(f, 0, LANE_CONTROL, 3, NULL);
        break;
    case SEQUENCE_REPEAT:
        fake_peer_sends_algo(f, 0, LANE_CONTROL, 1, NULL);
        break;
    case ALGORITHM_REFUSES:
        f->answer = ERR_PROTO;
        fake_peer_sends_algo(f, 0, LANE_BULK, 1, vec);
        f->events[0] = '\0';
        break;
    case SWIM_WITH_BODY:
        fake_peer_says(f, 0, LANE_BULK, wire_encode_swim(1, &ping), vec);
        break;
    case READY_WITH_BODY:
        fake_peer_says(f, 0, LANE_BULK, fake_ready(0), vec);
        break;
    case NOT_A_NEIGHBOUR:
        fake_peer_up(f, 3, 1, 103, false);
        fake_peer_sends_algo(f, 3, LANE_BULK, 1, vec);
        break;
    case OFFENCE_COUNT:
        break;
    }
    blob_unref(vec);
    blob_unref(other);
}

static void offender_loses_its_link_and_nothing_else_happens(void **state)
{
    (void)state;
    for (enum offence offence = HEAD_NONSENSE; offence < OFFENCE_COUNT; offence++) {
        struct fake f;
        fake_open_running(&f, 0);
        offend(&f, offence);
        struct node_report report;
        node_report(f.node, &report);
        bool third = offence == NOT_A_NEIGHBOUR;
        if (strcmp(f.calls, third ? "disconnect 3 3;" : "disconnect 0 3;") != 0 || f.events[0] != '\0')
            fail_msg("offence %d: %s %s", (int)offence, f.calls, f.events);
        assert_int_equal(report.messages_refused, 1);
        /* What is still on the way from it is dropped without another count, and nothing goes out. */
        fake_peer_sends_algo(&f, third ? 3 : 0, LANE_BULK, 1, NULL);
        f.send_to = 0;
        fake_peer_sends_algo(&f, 2, LANE_CONTROL, 2, NULL);
        node_report(f.node, &report);
        assert_int_equal(report.messages_refused, 1);
        assert_string_equal(f.events, "message 2 4;");
        char out[256];
        assert_string_equal(fake_sent_to(&f, 0, out), third ? "algo:9 " : "");
        fake_peer_down(&f, third ? 3 : 0, 1);
        assert_string_equal(f.events, third ? "message 2 4;" : "message 2 4;down 0;");
        fake_close(&f);
    }
}

static void message_before_we_are_ready_is_refused(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    config.start_after_us = 500;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    fake_peer_up(&f, 0, 1, 100, false);
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 1, NULL);
    assert_string_equal(f.calls, "disconnect 0 3;");
    fake_close(&f);
}

static void vector_is_sent_without_a_copy_and_to_presented_peers_only(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = fake_vector(1, 2, 3);
    f.send_vec = vec;
    f.send_to = 2;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_int_equal(f.sent_count, 1);
    assert_ptr_equal(f.sent[0].body, vec);
    assert_int_equal(f.sent[0].lane, LANE_BULK);
    fake_peer_down(&f, 2, 1);
    fake_peer_up(&f, 2, 2, 102, true); /* up, but it has not said READY */
    fake_forget(&f);
    f.send_to = 2;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_int_equal(f.sent_count, 0);
    assert_int_equal(vec->references, 1);
    blob_unref(vec);
    fake_close(&f);
}

static void one_bulk_message_waits_for_a_full_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = fake_vector(1, 2, 3);
    f.send_vec = vec;
    f.send_answer = ERR_FULL;
    f.send_to = 2;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_string_equal(f.calls, "");
    assert_int_equal(vec->references, 2);
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_writable(sink.ctx, (struct link_id){2, 1}); /* still full: waits on */
    f.send_answer = 0;
    sink.on_writable(sink.ctx, (struct link_id){2, 1});
    char out[256];
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9+vec ");
    f.send_to = 2;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9+vec algo:9+vec ");
    fake_forget(&f);
    assert_int_equal(vec->references, 1);
    blob_unref(vec);
    fake_close(&f);
}

static void second_bulk_message_closes_a_full_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = fake_vector(1, 2, 3);
    f.send_vec = vec;
    f.send_answer = ERR_FULL;
    f.send_to = 2;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    f.send_answer = 0; /* room again, but the waiting one goes first */
    f.send_to = 2;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_string_equal(f.calls, "disconnect 2 5;");
    assert_int_equal(vec->references, 1);
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_writable(sink.ctx, (struct link_id){2, 1});
    assert_int_equal(f.sent_count, 0);
    fake_peer_down(&f, 2, 1);
    assert_non_null(strstr(f.events, "down 2;"));
    blob_unref(vec);
    fake_close(&f);
}

static void full_control_lane_closes_the_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    f.send_answer = ERR_FULL;
    f.send_to = 2;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_string_equal(f.calls, "disconnect 2 5;");
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_reach_the_algorithm_in_each_lane),
        cmocka_unit_test(a_packed_body_may_be_anything_up_to_the_bound),
        cmocka_unit_test(message_that_overtook_ready_is_taken),
        cmocka_unit_test(offender_loses_its_link_and_nothing_else_happens),
        cmocka_unit_test(message_before_we_are_ready_is_refused),
        cmocka_unit_test(vector_is_sent_without_a_copy_and_to_presented_peers_only),
        cmocka_unit_test(one_bulk_message_waits_for_a_full_link),
        cmocka_unit_test(second_bulk_message_closes_a_full_link),
        cmocka_unit_test(full_control_lane_closes_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: what a node keeps of its algorithm is taken up before START, and a durable message leaves when a save that
 * began after it is on disk, not before. Method: the fakes of node_fake.h around node 1 of a path; the test is the
 * owner that saves. */
#include "tests/unit/node_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/node/node.h"

/* A started node whose owner saves, linked to 0 and 2. */
static void open_keeping(struct fake *f)
{
    struct node_config config = fake_config();
    fake_open_keeping(f, &config);
    assert_int_equal(node_start(f->node, NULL), 0);
    for (rank_t r = 0; r < 3; r += 2) {
        fake_peer_up(f, r, 1, 100 + r, false);
        fake_peer_says(f, r, LANE_CONTROL, fake_ready(r), NULL);
    }
    fake_forget(f);
}

/* The algorithm answers a message of 0 with one to `to`. */
static void answer(struct fake *f, rank_t to, uint64_t sequence, bool durable)
{
    f->send_to = to;
    f->durable = durable;
    fake_peer_sends_algo(f, 0, LANE_CONTROL, sequence, NULL);
    f->durable = false;
}

static void a_durable_message_leaves_with_the_save_that_follows(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    open_keeping(&f);
    uint64_t early = node_saving(f.node); /* a save that began before */
    answer(&f, 2, 2, true);
    assert_int_equal(f.saves_wanted, 1);
    assert_string_equal(fake_sent_to(&f, 2, out), "");
    node_saved(f.node, early);
    assert_string_equal(fake_sent_to(&f, 2, out), "");
    uint64_t mark = node_saving(f.node);
    answer(&f, 2, 3, true); /* too late for that one */
    node_saved(f.node, mark);
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9 ");
    node_saved(f.node, node_saving(f.node));
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9 algo:9 ");
    node_saved(f.node, node_saving(f.node));
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9 algo:9 "); /* once */
    fake_close(&f);
}

static void others_do_not_wait(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    open_keeping(&f);
    answer(&f, 2, 2, true);
    answer(&f, 2, 3, false);
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9 ");
    assert_int_equal(f.saves_wanted, 1);
    fake_close(&f); /* the one that waits is given up */
}

static void without_an_owner_that_saves_nothing_waits(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    fake_open_running(&f, 0);
    answer(&f, 2, 2, true);
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9 ");
    fake_close(&f);
}

static void what_waits_goes_with_its_link(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    open_keeping(&f);
    answer(&f, 2, 2, true);
    fake_peer_down(&f, 2, 1);
    fake_peer_up(&f, 2, 2, 202, false); /* another link, another process perhaps */
    fake_forget(&f);
    node_saved(f.node, node_saving(f.node));
    assert_string_equal(fake_sent_to(&f, 2, out), "");
    fake_close(&f);
}

static void no_more_wait_than_there_is_room_for(void **state)
{
    (void)state;
    struct fake f;
    char out[256];
    open_keeping(&f);
    for (uint64_t i = 0; i < 100; i++) answer(&f, 2, 2 + i, true);
    fake_forget(&f);
    node_saved(f.node, 37); /* the oldest that are left are 37 .. 100 */
    assert_string_equal(fake_sent_to(&f, 2, out), "algo:9 ");
    fake_close(&f);
}

/* -- the state --------------------------------------------------------------------------------- */

/* What a node with an algorithm that owes something gives to save. Returns owned. */
static struct blob *saved_by(uint64_t owes)
{
    struct fake f;
    struct node_config config = fake_config();
    fake_open(&f, &config);
    assert_null(node_method_state(f.node, false)); /* no algorithm yet */
    assert_int_equal(node_start(f.node, NULL), 0);
    f.owes = owes;
    struct blob *state = node_method_state(f.node, false);
    fake_close(&f);
    return state;
}

static void what_was_kept_is_taken_up_before_the_start(void **state)
{
    (void)state;
    assert_null(saved_by(0));
    struct blob *kept = saved_by(1234);
    struct node_config config = fake_config();
    config.method = kept;
    config.start_after_us = 500;
    struct fake f;
    fake_open(&f, &config);
    blob_unref(kept); /* the node has its own reference */
    assert_int_equal(node_start(f.node, NULL), 0);
    struct blob *still = node_method_state(f.node, false); /* saved again before the algorithm is there */
    assert_non_null(still);
    blob_unref(still);
    fake_deadline_comes(&f, 550);
    assert_string_equal(f.events, "ranked 1;restore 0;start;");
    assert_int_equal(f.owes, 1234);
    fake_close(&f);
}

static void what_does_not_fit_is_left_and_the_node_begins(void **state)
{
    (void)state;
    struct blob *kept = saved_by(1234);
    kept->data[20] ^= 1; /* in the name */
    struct node_config config = fake_config();
    config.method = kept;
    struct fake f;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    assert_string_equal(f.events, "ranked 1;start;");
    assert_int_equal(f.owes, 0);
    assert_int_equal(f.failed, 0);
    blob_unref(kept);
    fake_close(&f);
}

/* Between two jobs: the progress of the first is in the model, the second has not begun. */
static void each_job_is_preceded_by_a_still_moment(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    uint32_t before = f.still;
    f.train = 5;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_int_equal(f.still, before + 1);
    assert_true(node_job_runs(f.node));
    f.delta = 0.5f;
    f.train = 5;
    float x = node_model(f.node)[0];
    fake_job_done(&f);
    assert_int_equal(f.still, before + 2);
    assert_true(f.still_x == x + 0.5f);
    fake_job_done(&f);
    assert_false(node_job_runs(f.node));
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_durable_message_leaves_with_the_save_that_follows),
        cmocka_unit_test(others_do_not_wait),
        cmocka_unit_test(without_an_owner_that_saves_nothing_waits),
        cmocka_unit_test(what_waits_goes_with_its_link),
        cmocka_unit_test(no_more_wait_than_there_is_room_for),
        cmocka_unit_test(what_was_kept_is_taken_up_before_the_start),
        cmocka_unit_test(what_does_not_fit_is_left_and_the_node_begins),
        cmocka_unit_test(each_job_is_preceded_by_a_still_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a node with given members starts, trains and keeps time as node.h says, and ends with one
 * clear line when it cannot. Method: the fakes of node_fake.h around node 1 of a path; the test plays the
 * peers, the worker that runs the training job, and the clock. */
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

/* -- joining -------------------------------------------------------------------------------------- */

static void node_begins_says_ready_and_presents_those_who_do(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    const char *const seeds[] = {"host:3"};
    config.seeds = seeds;
    config.seed_count = 1;
    fake_open(&f, &config);
    char out[256];
    assert_null(node_graph(f.node));
    assert_int_equal(node_start(f.node, NULL), 0);
    assert_string_equal(f.events, "ranked 1;start;");
    assert_string_equal(f.calls, "dial host:3;undial host:3;dial host:2;"); /* the lower rank dials */
    fake_peer_up(&f, 3, 1, 103, true);
    fake_peer_up(&f, 0, 1, 100, false);
    assert_string_equal(fake_sent_to(&f, 3, out), ""); /* linked, but no neighbour */
    assert_string_equal(fake_sent_to(&f, 0, out), "ready ");
    struct node_report report;
    node_report(f.node, &report);
    assert_int_equal(report.phase, NODE_TRAINING);
    assert_int_equal(report.rank, 1);
    assert_int_equal(report.neighbours, 2);
    assert_int_equal(report.neighbours_up, 0);
    fake_peer_says(&f, 0, LANE_CONTROL, fake_ready(0), NULL);
    assert_string_equal(f.events, "ranked 1;start;up 0 100;");
    fake_close(&f);
}

static void peer_that_was_ready_first_is_presented_at_the_start(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    config.start_after_us = 500;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    fake_peer_up(&f, 0, 1, 100, false);
    fake_peer_says(&f, 0, LANE_CONTROL, fake_ready(0), NULL);
    fake_deadline_comes(&f, 550);
    assert_string_equal(f.events, "ranked 1;start;up 0 100;");
    char out[256];
    assert_string_equal(fake_sent_to(&f, 0, out), "ready ");
    fake_close(&f);
}

static void start_waits_when_asked_to(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    config.start_after_us = 500;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    assert_string_equal(f.events, "");
    assert_int_equal(f.deadline_us, 550);
    fake_deadline_comes(&f, 550);
    assert_string_equal(f.events, "ranked 1;start;");
    fake_close(&f);
}

static void a_node_that_is_not_among_the_members_does_not_start(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    config.id = 77;
    fake_open(&f, &config);
    struct err_text why = {""};
    assert_int_equal(node_start(f.node, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "--id: 77"));
    fake_close(&f);
}

static void refusal_by_every_seed_ends_the_node(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    const char *const seeds[] = {"host:1", "host:2", "host:3"};
    config.seeds = seeds;
    config.seed_count = 3;
    config.start_after_us = 500;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_refused(sink.ctx, "host:1", ERR_SELF, "that is us");
    sink.on_refused(sink.ctx, "host:2", ERR_CLUSTER, "theirs is another");
    assert_int_equal(f.failed, 0);
    sink.on_refused(sink.ctx, "host:3", ERR_CLUSTER, "theirs is another");
    assert_int_equal(f.failed, 1);
    assert_string_equal(f.failure.text, "--join: host:3 refused us: theirs is another");
    fake_peer_up(&f, 3, 1, 1, true); /* whatever comes now changes nothing */
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void impossible_seed_or_data_is_reported(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = fake_config();
    const char *const seeds[] = {"nonsense"};
    config.seeds = seeds;
    config.seed_count = 1;
    fake_open(&f, &config);
    struct err_text why = {""};
    assert_int_equal(node_start(f.node, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "--join: 'nonsense'"));
    fake_close(&f);

    config = fake_config();
    fake_open(&f, &config);
    f.ranked_answer = ERR_IO;
    assert_int_equal(node_start(f.node, &why), 0);
    assert_int_equal(f.failed, 1);
    assert_string_equal(f.failure.text, "no data");
    fake_close(&f);
}

/* -- training and time ---------------------------------------------------------------------------- */

static void training_starts_from_a_copy_and_is_capped(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 10);
    f.delta = 0.5f;
    f.train = 7;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_non_null(f.job);
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL); /* the algorithm goes on while it runs */
    fake_forget(&f);
    f.train = 100;
    fake_job_done(&f);
    assert_true(f.seen_x == 1.0f);
    assert_int_equal(f.trained_max, 7);
    assert_string_equal(f.events, "trained 7;");
    assert_int_equal(f.finished, 0);
    f.train = 100;
    fake_job_done(&f);
    assert_int_equal(f.trained_max, 3); /* what steps_max leaves */
    assert_true(f.seen_x == 1.5f);
    assert_string_equal(f.events, "trained 7;trained 3;");
    assert_int_equal(f.finished, 1);
    assert_null(f.job); /* asked again, not answered */
    struct node_report report;
    node_report(f.node, &report);
    assert_int_equal(report.phase, NODE_FINISHED);
    assert_true(report.loss == 0.5);
    assert_int_equal(report.net.bytes_sent, 77);
    assert_int_equal(report.algo.version, 5);
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 4, NULL); /* still mixing */
    assert_non_null(strstr(f.events, "message 0 4;"));
    fake_close(&f);
}

/* A node that knows everybody, whose algorithm trains from the start; it has no links yet. */
static void open_training(struct fake *f, bool rejoining)
{
    struct node_config config = fake_config();
    config.rejoining = rejoining;
    fake_open(f, &config);
    f->train = 5;
    assert_int_equal(node_start(f->node, NULL), 0);
    f->train = 0;
}

static void the_first_job_waits_for_all_links_or_half_the_patience(void **state)
{
    (void)state;
    struct fake f;
    open_training(&f, false);
    for (rank_t r = 0; r <= 2; r += 2) {
        assert_null(f.job);
        fake_peer_up(&f, r, 1, 100 + r, r > 1);
        fake_peer_says(&f, r, LANE_CONTROL, fake_ready(r), NULL);
    }
    assert_non_null(f.job);
    fake_close(&f);

    open_training(&f, false);
    assert_int_equal(f.deadline_us, 550);
    fake_deadline_comes(&f, 549);
    assert_null(f.job);
    fake_deadline_comes(&f, 550);
    assert_non_null(f.job);
    fake_close(&f);

    open_training(&f, true); /* who comes back does not keep the others waiting */
    assert_non_null(f.job);
    fake_close(&f);
}

/* The round that the last steps belong to may still run; but not for ever. */
static void a_node_has_finished_when_its_algorithm_wants_more_steps_or_gives_no_sign(void **state)
{
    (void)state;
    for (int silent = 0; silent <= 1; silent++) {
        struct fake f;
        fake_open_running(&f, 10);
        fake_deadline_comes(&f, 2000); /* the redial deadline is out of the way */
        f.train = 10;
        fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
        f.train = 0;
        fake_job_done(&f);
        assert_int_equal(f.finished, 0);
        f.train = silent ? 0 : 10;
        fake_peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
        assert_int_equal(f.finished, !silent);
        fake_deadline_comes(&f, 2999);
        assert_int_equal(f.finished, !silent);
        fake_deadline_comes(&f, 3000);
        assert_int_equal(f.finished, 1);
        assert_null(f.job);
        fake_close(&f);
    }
}

static void the_job_that_runs_at_the_end_counts_and_is_the_last(void **state)
{
    (void)state;
    struct fake f;
    struct node_report report;
    fake_open_running(&f, 0);
    fake_deadline_comes(&f, 2000); /* the redial deadline is out of the way */
    f.train = 5;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_non_null(f.job);
    assert_true(node_train_end(f.node));
    fake_forget(&f);
    fake_job_done(&f); /* the algorithm wants another one */
    assert_string_equal(f.events, "trained 5;");
    assert_null(f.job);
    assert_false(node_train_end(f.node));
    node_report(f.node, &report);
    assert_int_equal(report.progress, 5);
    fake_close(&f);
    open_training(&f, false); /* its job is held until the links are there, and never begun */
    assert_false(node_train_end(f.node));
    fake_deadline_comes(&f, 100000);
    assert_null(f.job);
    fake_close(&f);
}

static void progress_that_is_not_finite_stops_the_node(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    f.delta = NAN;
    f.train = 1;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    fake_forget(&f);
    fake_job_done(&f);
    assert_int_equal(f.failed, 1);
    assert_non_null(strstr(f.failure.text, "--step-size"));
    assert_string_equal(f.events, "");
    assert_true(node_model(f.node)[0] == 1.0f);
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void deadline_follows_the_algorithm(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    fake_deadline_comes(&f, 2000); /* the redial deadline is out of the way */
    f.wants_us = 9000;
    fake_peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_int_equal(f.deadline_us, 9000);
    fake_forget(&f);
    fake_deadline_comes(&f, 8999); /* early: asked for again */
    assert_string_equal(f.events, "");
    assert_int_equal(f.deadline_us, 9000);
    fake_deadline_comes(&f, 9000);
    assert_string_equal(f.events, "deadline;");
    assert_int_equal(f.deadline_us, 9000); /* the algorithm still wants it: at once again */
    f.wants_us = TIME_NEVER;
    fake_deadline_comes(&f, 9000);
    assert_true(f.deadline_us == TIME_NEVER);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_begins_says_ready_and_presents_those_who_do),
        cmocka_unit_test(peer_that_was_ready_first_is_presented_at_the_start),
        cmocka_unit_test(start_waits_when_asked_to),
        cmocka_unit_test(a_node_that_is_not_among_the_members_does_not_start),
        cmocka_unit_test(refusal_by_every_seed_ends_the_node),
        cmocka_unit_test(impossible_seed_or_data_is_reported),
        cmocka_unit_test(training_starts_from_a_copy_and_is_capped),
        cmocka_unit_test(the_first_job_waits_for_all_links_or_half_the_patience),
        cmocka_unit_test(a_node_has_finished_when_its_algorithm_wants_more_steps_or_gives_no_sign),
        cmocka_unit_test(the_job_that_runs_at_the_end_counts_and_is_the_last),
        cmocka_unit_test(progress_that_is_not_finite_stops_the_node),
        cmocka_unit_test(deadline_follows_the_algorithm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

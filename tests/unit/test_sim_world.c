/* Goal: order of events, jobs, deadlines, delays, dialling, queues and closing of the simulated world are as
 * sim.h, host.h and transport.h say. Faults: test_sim_fault.c; determinism: test_sim_swarm.c.
 * Method: the rig's sinks record what comes, in order. */
#include "tests/unit/sim_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/link/frame.h"

static void lane_checker_catches_swap_hole_and_duplicate(void **state)
{
    (void)state;
    static const struct {
        uint32_t value[3];
        int result;
    } cases[] = {{{0, 1, 2}, 3}, {{0, 2, 1}, -1}, {{0, 2, 3}, -1}, {{0, 1, 1}, -1}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct rig_record record[3] = {{.what = RIG_MESSAGE}, {.what = RIG_MESSAGE}, {.what = RIG_MESSAGE}};
        for (int i = 0; i < 3; i++) record[i].value = cases[c].value[i];
        assert_int_equal(rig_lane_run(record, 3, 0, LANE_CONTROL, 0), cases[c].result);
    }
}

/* -- time -------------------------------------------------------------------------------------- */

static void equal_times_run_in_order_of_insertion(void **state)
{
    (void)state;
    struct rig *r = rig_open(1, "fixed:delay=0", "constant", 0);
    static const uint32_t order[RIG_NODES] = {3, 0, 5, 1, 4, 2};
    for (uint32_t i = 0; i < RIG_NODES; i++) {
        struct host *h = r->seat[order[i]].h;
        h->ops->set_deadline(h, 7 * MS);
    }
    rig_run_until(r, 7 * MS - 1);
    assert_int_equal(r->count, 0);
    rig_run_until(r, 7 * MS);
    assert_int_equal(r->count, RIG_NODES);
    for (uint32_t i = 0; i < RIG_NODES; i++) assert_int_equal(r->record[i].node, order[i]);
    rig_close(r);
}

static void deadline_is_one_and_replaceable(void **state)
{
    (void)state;
    static const struct {
        uint64_t set[3];
        uint64_t expected; /* TIME_NEVER: none comes */
    } cases[] = {
        {{5 * MS, 9 * MS, 12 * MS}, 12 * MS},       {{9 * MS, 5 * MS, 3 * MS}, 3 * MS},
        {{3 * MS, 9 * MS, 5 * MS}, 5 * MS},         {{3 * MS, TIME_NEVER, 8 * MS}, 8 * MS},
        {{3 * MS, 2 * MS, TIME_NEVER}, TIME_NEVER}, {{9 * MS, TIME_NEVER, 0}, 1 * MS},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct rig *r = rig_open(1, "fixed", "constant", 0);
        struct host *h = r->seat[2].h;
        rig_run_until(r, 1 * MS);
        for (int i = 0; i < 3; i++) h->ops->set_deadline(h, cases[c].set[i]);
        rig_run_until(r, SECOND);
        assert_int_equal(r->count, cases[c].expected == TIME_NEVER ? 0 : 1);
        if (r->count == 1) assert_int_equal(r->record[0].time_us, cases[c].expected);
        rig_close(r);
    }
}

static void job_runs_at_once_and_takes_cost_times_step(void **state)
{
    (void)state;
    struct rig *r = rig_open(1, "fixed", "constant:value=250ms", 0);
    struct rig_job a = {{rig_job_run, 0}, 8, 0}, b = {{rig_job_run, 0}, 1, 0};
    struct host *h = r->seat[1].h;
    assert_int_equal(h->ops->start_job(h, &a.base), 0);
    assert_int_equal(a.runs, 1);
    assert_int_equal(h->ops->start_job(h, &b.base), ERR_BUSY);
    assert_int_equal(b.runs, 0);
    assert_int_equal(r->count, 0);
    rig_run_until(r, 10 * SECOND);
    assert_int_equal(r->count, 1);
    assert_int_equal(rig_find(r, 1, RIG_JOB, 0)->time_us, 2 * SECOND);
    assert_int_equal(h->ops->start_job(h, &b.base), 0);
    rig_run_until(r, 20 * SECOND);
    assert_int_equal(rig_find(r, 1, RIG_JOB, 1)->time_us, 10 * SECOND + 250 * MS);
    rig_close(r);
}

/* Time of `jobs` one-step jobs in a row at node v, in seconds. */
static double jobs_time_s(const char *step_time, uint32_t v, uint32_t jobs)
{
    struct rig *r = rig_open(5, "fixed", step_time, 0);
    struct rig_job job = {{rig_job_run, 0}, 1, 0};
    for (uint32_t i = 0; i < jobs; i++) {
        assert_int_equal(r->seat[v].h->ops->start_job(r->seat[v].h, &job.base), 0);
        while (rig_count(r, v, RIG_JOB) == i) assert_true(sim_step(r->w, TIME_NEVER));
    }
    double seconds = (double)sim_now_us(r->w) / 1e6;
    rig_close(r);
    return seconds;
}

static void step_times_follow_their_law(void **state)
{
    (void)state;
    double slow = jobs_time_s("uniform:low=1s,high=5s", 0, 1);
    assert_true(slow >= 1 && slow <= 5);
    assert_true(jobs_time_s("uniform:low=1s,high=5s", 1, 1) != slow); /* drawn per node */
    double ratio = jobs_time_s("uniform:low=1s,high=5s", 0, 10) / slow;
    assert_true(ratio > 9.999 && ratio < 10.001);           /* and only once */
    double mean = jobs_time_s("exp:mean=2s", 0, 400) / 400; /* standard error 0.1 */
    assert_true(mean > 1.6 && mean < 2.4);
}

/* -- delays ------------------------------------------------------------------------------------ */

static void transfer_means_are_whole_and_symmetric(void **state)
{
    (void)state;
    struct rig *r = rig_open(3, "transfer", "constant", 0);
    bool differ = false;
    for (uint32_t a = 0; a < RIG_NODES; a++)
        for (uint32_t b = 0; b < RIG_NODES; b++) {
            double m = sim_link_mean_s(r->w, a, b);
            assert_true(m >= 1 && m <= 9 && m == (double)(int)m);
            assert_true(m == sim_link_mean_s(r->w, b, a));
            if (m != sim_link_mean_s(r->w, 0, 1)) differ = true;
        }
    assert_true(differ);
    rig_close(r);
}

static void transfer_delays_bodies_only(void **state)
{
    (void)state;
    struct rig *r = rig_open(3, "transfer", "constant", 0);
    rig_join(r, 0, 1);
    double m = sim_link_mean_s(r->w, 0, 1), sum = 0;
    for (uint32_t i = 0; i < 500; i++) { /* one at a time: no waiting behind another */
        uint64_t sent = sim_now_us(r->w);
        assert_int_equal(rig_send(r, 0, LANE_BULK, i, 100), 0);
        assert_int_equal(rig_send(r, 0, LANE_CONTROL, i, 0), 0);
        rig_run_until(r, sent);
        assert_int_equal(rig_count(r, 1, RIG_MESSAGE), 2 * i + 1); /* control takes no time by default */
        while (rig_count(r, 1, RIG_MESSAGE) == 2 * i + 1) assert_true(sim_step(r->w, TIME_NEVER));
        uint64_t took = sim_now_us(r->w) - sent;
        assert_true(took >= SECOND);
        sum += (double)took / 1e6;
    }
    double mean = sum / 500;
    assert_true(mean > 1 + 0.8 * m && mean < 1 + 1.2 * m); /* standard error m / 22 */
    rig_close(r);
}

static void lanes_are_fifo_and_control_overtakes(void **state)
{
    (void)state;
    struct rig *r = rig_open(4, "exp:mean=200ms", "constant", 0);
    rig_join(r, 0, 1);
    for (uint32_t i = 0; i < 300; i++) {
        rig_send_run(r, 0, LANE_BULK, i, 1);
        rig_send_run(r, 0, LANE_CONTROL, i, 1);
        rig_run_for(r, 5 * MS);
    }
    rig_run_for(r, 20 * SECOND);
    rig_assert_lane(r, 1, LANE_BULK, 300);
    rig_assert_lane(r, 1, LANE_CONTROL, 300);
    uint32_t bulk = 0, control = 0, overtaken = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->record[i].what != RIG_MESSAGE) continue;
        if (r->record[i].lane == LANE_BULK)
            bulk++;
        else
            overtaken += ++control > bulk;
    }
    assert_true(overtaken > 10);
    rig_close(r);
}

/* Arrival times on link 0-1 with or without trouble on other links. */
static uint64_t arrivals_hash(bool others)
{
    struct rig *r = rig_open(9, "exp:mean=40ms", "exp:mean=10ms", 0);
    if (others) rig_join(r, 3, 2);
    rig_run_until(r, 2 * SECOND);
    rig_join(r, 0, 1);
    rig_run_until(r, 5 * SECOND);
    for (uint32_t i = 0; i < 50; i++) {
        rig_send_run(r, 0, LANE_CONTROL, i, 1);
        if (others) rig_send_run(r, 3, LANE_BULK, i, 2);
        if (others && i == 25) sim_cut(r->w, 2, 3);
        rig_run_for(r, 20 * MS);
    }
    rig_run_for(r, 20 * SECOND);
    rig_assert_lane(r, 1, LANE_CONTROL, 50);
    uint64_t hash = 0;
    for (uint32_t i = 0; i < 50; i++) hash = hash * 31 + rig_find(r, 1, RIG_MESSAGE, i)->time_us;
    rig_close(r);
    return hash;
}

static void trouble_elsewhere_changes_no_delay_here(void **state)
{
    (void)state;
    assert_true(arrivals_hash(false) == arrivals_hash(true));
}

/* -- dialling and closing ---------------------------------------------------------------------- */

static void both_dial_and_the_smaller_id_wins(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct rig *r = rig_open(seed, "exp:mean=50ms", "constant", 0);
        rig_dial(r, 4, 1);
        rig_dial(r, 1, 4);
        rig_run_for(r, 20 * SECOND);
        assert_int_equal(rig_count(r, 1, RIG_UP), 1);
        assert_int_equal(rig_count(r, 4, RIG_UP), 1);
        assert_int_equal(rig_find(r, 1, RIG_UP, 0)->value, true);
        assert_int_equal(rig_find(r, 4, RIG_UP, 0)->value, false);
        assert_int_equal(rig_count(r, 1, RIG_DOWN) + rig_count(r, 4, RIG_DOWN), 0);
        assert_true(r->seat[1].peer_boot == 104 && r->seat[4].peer_boot == 101);
        rig_close(r);
    }
}

static void wrong_addresses_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "sim:",   "sim:6", "sim:-1",
                                      "sim:01", "sim:1 ", "tcp:1", "sim:99999999999"};
    struct rig *r = rig_open(1, "fixed", "constant", 0);
    struct transport *t = r->seat[0].t;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(t->ops->dial(t, bad[i]), ERR_USAGE);
    assert_int_equal(r->count, 0);
    rig_dial(r, 0, 0);
    assert_int_equal(r->count, 0); /* told from the loop only */
    t->ops->close(r->seat[3].t);
    rig_run_for(r, SECOND);
    rig_take(r, 3, 500, 1);
    rig_dial(r, 0, 3);
    rig_run_for(r, 10 * SECOND);
    assert_int_equal(rig_find(r, 0, RIG_REFUSED, 0)->value, -ERR_SELF);
    assert_int_equal(rig_find(r, 0, RIG_REFUSED, 1)->value, -ERR_CLUSTER);
    assert_int_equal(rig_count(r, 0, RIG_REFUSED), 2); /* the tries ended */
    rig_dial(r, 0, 3);
    rig_run_for(r, SECOND);
    assert_int_equal(rig_count(r, 0, RIG_REFUSED), 3); /* until asked again */
    assert_int_equal(rig_count(r, 0, RIG_UP), 0);
    rig_close(r);
}

static void undial_ends_the_tries(void **state)
{
    (void)state;
    struct rig *r = rig_open(1, "fixed", "constant", 0);
    sim_cut(r->w, 0, 1);
    rig_dial(r, 0, 1);
    rig_run_for(r, 2 * SECOND);
    r->seat[0].t->ops->undial(r->seat[0].t, "sim:1");
    sim_heal(r->w, 0, 1);
    rig_run_for(r, 10 * SECOND);
    assert_int_equal(r->count, 0);
    rig_join(r, 0, 1); /* dialled anew, it is wanted again */
    rig_close(r);
}

static void close_says_goodbye_and_is_last(void **state)
{
    (void)state;
    struct rig *r = rig_open(1, "fixed:delay=5ms", "constant", 0);
    rig_join(r, 0, 1);
    rig_join(r, 2, 0);
    r->count = 0;
    r->seat[0].t->ops->close(r->seat[0].t);
    assert_int_equal(r->count, 0);
    assert_int_equal(rig_send(r, 0, LANE_CONTROL, 0, 0), ERR_NO_LINK);
    rig_run_for(r, 10 * SECOND);
    assert_int_equal(rig_count(r, 0, RIG_DOWN), 2);
    assert_int_equal(rig_find(r, 0, RIG_DOWN, 1)->value, DOWN_LOCAL);
    assert_int_equal(rig_find(r, 1, RIG_DOWN, 0)->value, DOWN_CLOSED);
    assert_int_equal(rig_find(r, 2, RIG_DOWN, 0)->value, DOWN_CLOSED);
    assert_int_equal(rig_count(r, 0, RIG_CLOSED), 1);
    assert_int_equal(rig_count(r, 0, RIG_UP), 0); /* 2 still dials it, in vain */
    assert_true(rig_find(r, 0, RIG_CLOSED, 0)->time_us >= rig_find(r, 0, RIG_DOWN, 1)->time_us);
    rig_take(r, 0, 777, 0);
    rig_run_for(r, 2 * SECOND);
    assert_true(r->seat[2].peer_boot == 777);
    rig_close(r);
}

/* -- queue ------------------------------------------------------------------------------------- */

static void full_queue_refuses_then_says_writable_once(void **state)
{
    (void)state;
    const size_t size = 1u << 20;
    struct rig *r = rig_open(1, "fixed:delay=1ms", "constant", 10u << 20); /* ten bodies a second */
    rig_join(r, 0, 1);
    uint32_t taken = 0;
    while (taken < 100 && rig_send(r, 0, LANE_BULK, taken, size) == 0) taken++;
    assert_true(taken >= 7 && taken <= 9); /* eight MiB, beside the one under way */
    assert_int_equal(rig_send(r, 0, LANE_BULK, taken, size), ERR_FULL);
    assert_int_equal(rig_send(r, 0, LANE_CONTROL, 0, 0), 0); /* its lane is empty */
    struct link_stats stats;
    assert_int_equal(r->seat[0].t->ops->stats(r->seat[0].t, r->seat[0].link, &stats), 0);
    assert_true(stats.queue_bytes >= taken * size);
    assert_true(stats.bytes_sent == taken * (size + 4 + 17 * FRAME_HEADER_SIZE) + 4 + FRAME_HEADER_SIZE);
    uint64_t start = sim_now_us(r->w);
    rig_run_for(r, 10 * SECOND);
    assert_int_equal(rig_count(r, 0, RIG_WRITABLE), 1);
    rig_assert_lane(r, 1, LANE_BULK, (int)taken);
    uint64_t took = r->record[r->count - 1].time_us - start;
    assert_true(took > taken * 100 * MS && took < taken * 101 * MS);   /* the bytes were serialised */
    assert_true(rig_find(r, 1, RIG_MESSAGE, 0)->lane == LANE_CONTROL); /* and control slipped in */
    assert_int_equal(r->seat[0].t->ops->stats(r->seat[0].t, r->seat[0].link, &stats), 0);
    assert_int_equal(stats.queue_bytes, 0);
    assert_int_equal(rig_send(r, 0, LANE_BULK, taken, 3 * LINK_QUEUE_MAX), 0); /* empty: any size */
    rig_close(r);
}

static void body_over_the_limit_ends_the_link(void **state)
{
    (void)state;
    struct rig *r = rig_open(1, "fixed:delay=1ms", "constant", 0);
    r->seat[1].t->ops->close(r->seat[1].t);
    rig_run_for(r, SECOND);
    r->seat[1].body_size_max = 1000;
    rig_take(r, 1, 500, 0);
    rig_join(r, 0, 1);
    assert_int_equal(rig_send(r, 0, LANE_BULK, 0, 1000), 0);
    assert_int_equal(rig_send(r, 0, LANE_BULK, 1, 1001), 0);
    assert_int_equal(rig_send(r, 0, LANE_BULK, 2, 10), 0);
    rig_run_for(r, 100 * MS);
    rig_assert_lane(r, 1, LANE_BULK, 1);
    assert_int_equal(rig_find(r, 1, RIG_DOWN, 0)->value, DOWN_PROTOCOL);
    assert_int_equal(rig_find(r, 0, RIG_DOWN, 0)->value, DOWN_RESET);
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lane_checker_catches_swap_hole_and_duplicate),
        cmocka_unit_test(equal_times_run_in_order_of_insertion),
        cmocka_unit_test(deadline_is_one_and_replaceable),
        cmocka_unit_test(job_runs_at_once_and_takes_cost_times_step),
        cmocka_unit_test(step_times_follow_their_law),
        cmocka_unit_test(transfer_means_are_whole_and_symmetric),
        cmocka_unit_test(transfer_delays_bodies_only),
        cmocka_unit_test(lanes_are_fifo_and_control_overtakes),
        cmocka_unit_test(trouble_elsewhere_changes_no_delay_here),
        cmocka_unit_test(both_dial_and_the_smaller_id_wins),
        cmocka_unit_test(wrong_addresses_are_refused),
        cmocka_unit_test(undial_ends_the_tries),
        cmocka_unit_test(close_says_goodbye_and_is_last),
        cmocka_unit_test(body_over_the_limit_ends_the_link),
        cmocka_unit_test(full_queue_refuses_then_says_writable_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

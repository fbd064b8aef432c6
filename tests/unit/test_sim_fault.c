/* Goal: every fault of the simulated world does what sim.h says, and what TCP would do, and no more.
 * Method: numbered messages over one link, a fault, and a look at what came, when and why. Each test also
 * proves that the fault bit: something was held, lost or late. */
#include "tests/unit/sim_rig.h"

#include <stdlib.h>

#define SLACK (SILENCE / 16)

static struct rig *linked(void)
{
    struct rig *r = rig_open(1, "fixed:delay=10ms", "constant:value=100ms", 0);
    rig_join(r, 0, 1);
    r->count = 0;
    return r;
}

static void assert_down(const struct rig *r, uint32_t node, enum down_reason why, uint64_t from_us,
                        uint64_t to_us)
{
    assert_int_equal(rig_count(r, node, RIG_DOWN), 1);
    const struct rig_record *down = rig_find(r, node, RIG_DOWN, 0);
    assert_int_equal(down->value, why);
    assert_true(down->time_us >= from_us && down->time_us <= to_us);
}

static void cut_healed_early_delivers_late_and_in_order(void **state)
{
    (void)state;
    struct rig *r = linked();
    rig_send_run(r, 0, LANE_BULK, 0, 5); /* on the way when the cut comes */
    sim_cut(r->w, 0, 1);
    rig_send_run(r, 0, LANE_BULK, 5, 5);
    rig_send_run(r, 1, LANE_CONTROL, 0, 3);
    rig_run_for(r, SILENCE - 1);
    assert_int_equal(r->count, 0);
    sim_heal(r->w, 0, 1);
    rig_run_for(r, 10 * SILENCE);
    rig_assert_lane(r, 1, LANE_BULK, 10);
    rig_assert_lane(r, 0, LANE_CONTROL, 3);
    assert_int_equal(r->count, 13);
    rig_close(r);
}

static void cut_goes_silent_on_each_side_and_redials_after_heal(void **state)
{
    (void)state;
    struct rig *r = linked();
    uint64_t start = sim_now_us(r->w);
    sim_cut(r->w, 0, 1);
    rig_send_run(r, 0, LANE_CONTROL, 0, 4);
    rig_run_for(r, 10 * SILENCE);
    assert_down(r, 0, DOWN_SILENT, start + SILENCE, start + SILENCE + SLACK);
    assert_down(r, 1, DOWN_SILENT, start + SILENCE, start + SILENCE + SLACK);
    assert_true(rig_find(r, 0, RIG_DOWN, 0)->time_us != rig_find(r, 1, RIG_DOWN, 0)->time_us);
    assert_int_equal(rig_send(r, 0, LANE_CONTROL, 9, 0), ERR_NO_LINK);
    sim_heal(r->w, 0, 1);
    rig_run_for(r, SECOND);
    assert_int_equal(rig_count(r, 0, RIG_UP), 1);
    rig_send_run(r, 0, LANE_CONTROL, 0, 2);
    rig_run_for(r, SECOND);
    rig_assert_lane(r, 1, LANE_CONTROL, 2); /* the four are lost */
    rig_close(r);
}

static void silence_counts_from_the_last_delivery(void **state)
{
    (void)state;
    struct rig *r = rig_open(1, "fixed:delay=500ms", "constant", 0);
    rig_join(r, 0, 1);
    rig_run_for(r, SECOND);
    rig_send_run(r, 0, LANE_CONTROL, 0, 1);
    uint64_t start = sim_now_us(r->w);
    sim_pause(r->w, 0);
    rig_run_for(r, 10 * SILENCE);
    rig_assert_lane(r, 1, LANE_CONTROL, 1); /* what a paused node sent still arrives */
    assert_down(r, 1, DOWN_SILENT, start + 500 * MS + SILENCE, start + 500 * MS + SILENCE + SLACK);
    rig_close(r);
}

static void one_way_cut_starves_one_side_and_resets_the_other(void **state)
{
    (void)state;
    struct rig *r = linked();
    uint64_t start = sim_now_us(r->w);
    sim_cut_one_way(r->w, 0, 1);
    rig_send_run(r, 0, LANE_CONTROL, 0, 3);
    rig_send_run(r, 1, LANE_CONTROL, 0, 3);
    rig_run_for(r, SILENCE - 1);
    rig_assert_lane(r, 0, LANE_CONTROL, 3); /* the other direction works */
    rig_assert_lane(r, 1, LANE_CONTROL, 0);
    rig_run_for(r, 5 * SILENCE);
    assert_down(r, 1, DOWN_SILENT, start + SILENCE, start + SILENCE + SLACK);
    uint64_t down_us = rig_find(r, 1, RIG_DOWN, 0)->time_us;
    assert_down(r, 0, DOWN_RESET, down_us + 10 * MS, down_us + 10 * MS);
    assert_int_equal(rig_count(r, 0, RIG_UP), 0); /* no new link over half a path */
    sim_heal_all(r->w);
    rig_run_for(r, SECOND);
    assert_int_equal(rig_count(r, 0, RIG_UP), 1);
    rig_close(r);
}

static void half_open_end_is_reset_by_heal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct rig *r = rig_open(seed, "fixed:delay=1ms", "constant", 0);
        rig_join(r, 0, 1);
        r->seat[0].t->ops->undial(r->seat[0].t, "sim:1"); /* so that no new link replaces the old */
        r->count = 0;
        sim_cut(r->w, 0, 1);
        while (r->count == 0) assert_true(sim_step(r->w, 2 * SILENCE + SECOND));
        uint32_t first = r->record[0].node;
        assert_int_equal(r->record[0].what, RIG_DOWN);
        assert_int_equal(rig_send(r, 1 - first, LANE_BULK, 0, 10), 0); /* into the void */
        uint64_t healed_us = sim_now_us(r->w);
        sim_heal(r->w, 0, 1);
        rig_run_for(r, 5 * SILENCE);
        assert_int_equal(r->count, 2);
        assert_down(r, 1 - first, DOWN_RESET, healed_us + MS, healed_us + MS);
        rig_close(r);
    }
}

static void short_pause_only_delays(void **state)
{
    (void)state;
    struct rig *r = linked();
    struct rig_job job = {{rig_job_run, 0}, 1, 0};
    struct host *h = r->seat[1].h;
    uint64_t start = sim_now_us(r->w), resumed = start + SILENCE - 1;
    assert_int_equal(h->ops->start_job(h, &job.base), 0);
    h->ops->set_deadline(h, start + 50 * MS);
    rig_send_run(r, 0, LANE_CONTROL, 0, 3);
    rig_send_run(r, 1, LANE_CONTROL, 0, 2);
    sim_pause(r->w, 1);
    rig_run_until(r, resumed);
    rig_assert_lane(r, 0, LANE_CONTROL, 2); /* sent before the pause */
    assert_int_equal(r->count, 2);
    sim_resume(r->w, 1);
    rig_run_for(r, 5 * SILENCE);
    rig_assert_lane(r, 1, LANE_CONTROL, 3);
    assert_int_equal(r->count, 7);
    for (uint32_t i = 2; i < 7; i++) assert_int_equal(r->record[i].time_us, resumed);
    assert_int_equal(r->record[5].what, RIG_DEADLINE);
    assert_int_equal(r->record[6].what, RIG_JOB);
    rig_close(r);
}

static void long_pause_finds_dead_links_first(void **state)
{
    (void)state;
    struct rig *r = linked();
    struct rig_job job = {{rig_job_run, 0}, 1, 0};
    struct host *h = r->seat[1].h;
    uint64_t start = sim_now_us(r->w);
    assert_int_equal(h->ops->start_job(h, &job.base), 0);
    h->ops->set_deadline(h, start + 50 * MS);
    sim_pause(r->w, 1);
    rig_send_run(r, 0, LANE_CONTROL, 0, 3);
    rig_run_for(r, 3 * SILENCE);
    assert_down(r, 0, DOWN_SILENT, start + SILENCE, start + SILENCE + SLACK);
    assert_int_equal(r->count, 1); /* nothing reached the paused node, no link was made with it */
    sim_resume(r->w, 1);
    rig_run_for(r, 2 * SECOND);
    assert_int_equal(r->record[1].what, RIG_DOWN);
    assert_int_equal(r->record[1].node, 1);
    assert_int_equal(r->record[1].value, DOWN_RESET);
    assert_int_equal(r->record[2].what, RIG_DEADLINE);
    assert_int_equal(r->record[3].what, RIG_JOB);
    rig_assert_lane(r, 1, LANE_CONTROL, 0);
    assert_int_equal(rig_count(r, 0, RIG_UP), 1);
    assert_int_equal(rig_count(r, 1, RIG_UP), 1);
    rig_close(r);
}

static void crash_is_noticed_by_silence(void **state)
{
    (void)state;
    struct rig *r = linked();
    struct rig_job job = {{rig_job_run, 0}, 1, 0};
    uint64_t start = sim_now_us(r->w);
    assert_int_equal(r->seat[1].h->ops->start_job(r->seat[1].h, &job.base), 0);
    r->seat[1].h->ops->set_deadline(r->seat[1].h, start + 50 * MS);
    sim_crash(r->w, 1, false);
    assert_false(sim_alive(r->w, 1));
    assert_int_equal(rig_send(r, 0, LANE_CONTROL, 0, 0), 0); /* nobody knows yet */
    rig_run_for(r, 5 * SILENCE);
    assert_int_equal(r->count, 1);
    assert_down(r, 0, DOWN_SILENT, start + SILENCE, start + SILENCE + SLACK);
    sim_restart(r->w, 1);
    assert_true(sim_alive(r->w, 1));
    rig_take(r, 1, 4711, 0);
    rig_run_for(r, SECOND);
    assert_int_equal(rig_count(r, 0, RIG_UP), 1); /* 0 still wants it */
    assert_true(r->seat[0].peer_boot == 4711);
    rig_assert_lane(r, 1, LANE_CONTROL, 0);
    rig_close(r);
}

static void crash_takes_its_job_along(void **state)
{
    (void)state;
    struct rig *r = linked();
    struct rig_job old = {{rig_job_run, 0}, 10, 0}, new = {{rig_job_run, 0}, 30, 0};
    uint64_t start = sim_now_us(r->w);
    assert_int_equal(r->seat[1].h->ops->start_job(r->seat[1].h, &old.base), 0);
    sim_pause(r->w, 1);
    sim_crash(r->w, 1, true);
    sim_restart(r->w, 1);
    rig_take(r, 1, 4711, 0);
    assert_int_equal(r->seat[1].h->ops->start_job(r->seat[1].h, &new.base), 0);
    rig_run_for(r, 10 * SECOND);
    assert_int_equal(rig_count(r, 1, RIG_JOB), 1);
    assert_int_equal(rig_find(r, 1, RIG_JOB, 0)->time_us, start + 3 * SECOND);
    rig_close(r);
}

static void crash_with_reset_is_noticed_at_once(void **state)
{
    (void)state;
    struct rig *r = linked();
    uint64_t start = sim_now_us(r->w);
    rig_send_run(r, 1, LANE_CONTROL, 0, 2);
    sim_crash(r->w, 1, true);
    rig_run_for(r, 5 * SILENCE);
    assert_int_equal(r->count, 1); /* what the dead had on the way is lost */
    assert_down(r, 0, DOWN_RESET, start, start);
    rig_close(r);
}

static void restarted_node_replaces_its_old_link(void **state)
{
    (void)state;
    struct rig *r = linked();
    sim_crash(r->w, 1, false);
    sim_restart(r->w, 1);
    rig_take(r, 1, 4711, 0);
    rig_dial(r, 1, 0);
    rig_run_for(r, SILENCE / 2);
    assert_int_equal(r->count, 3);
    assert_int_equal(r->record[0].node, 0);
    assert_int_equal(r->record[0].what, RIG_DOWN);
    assert_int_equal(r->record[0].value, DOWN_REPLACED);
    assert_int_equal(r->record[1].what, RIG_UP);
    assert_int_equal(r->record[1].node, 0);
    assert_true(r->seat[0].peer_boot == 4711);
    assert_true(r->record[0].link.generation != r->record[1].link.generation);
    rig_run_for(r, 5 * SILENCE);
    assert_int_equal(r->count, 3);
    rig_close(r);
}

static void reset_loses_a_tail_never_a_hole(void **state)
{
    (void)state;
    struct rig *r = rig_open(7, "exp:mean=50ms", "constant", 0);
    rig_join(r, 0, 1);
    r->count = 0;
    for (uint32_t i = 0; i < 40; i++) {
        rig_send_run(r, 0, LANE_BULK, i, 1);
        rig_send_run(r, 1, LANE_BULK, i, 1);
        rig_run_for(r, 5 * MS);
    }
    sim_reset_link(r->w, 0, 1);
    r->seat[0].t->ops->undial(r->seat[0].t, "sim:1");
    rig_run_for(r, 5 * SILENCE);
    int there = rig_lane_run(r->record, r->count, 1, LANE_BULK, 0);
    int back = rig_lane_run(r->record, r->count, 0, LANE_BULK, 0);
    assert_true(there > 0 && there < 40);
    assert_true(back > 0 && back < 40);
    assert_int_equal(rig_find(r, 0, RIG_DOWN, 0)->value, DOWN_RESET);
    assert_int_equal(rig_find(r, 1, RIG_DOWN, 0)->value, DOWN_RESET);
    assert_int_equal(rig_count(r, 0, RIG_DOWN) + rig_count(r, 1, RIG_DOWN), 2);
    rig_close(r);
}

static void cut_fills_the_queue_and_heal_makes_it_writable(void **state)
{
    (void)state;
    struct rig *r = linked();
    sim_cut_one_way(r->w, 0, 1);
    uint32_t taken = 0;
    while (taken < 100 && rig_send(r, 0, LANE_BULK, taken, 1u << 20) == 0) taken++;
    assert_true(taken >= 7 && taken <= 9);
    rig_run_for(r, SILENCE / 2);
    assert_int_equal(r->count, 0);
    sim_heal(r->w, 0, 1);
    rig_run_for(r, SECOND);
    assert_int_equal(rig_count(r, 0, RIG_WRITABLE), 1);
    rig_assert_lane(r, 1, LANE_BULK, (int)taken);
    rig_close(r);
}

static void goodbye_lost_in_a_cut_is_silence(void **state)
{
    (void)state;
    struct rig *r = linked();
    uint64_t start = sim_now_us(r->w);
    r->seat[1].t->ops->disconnect(r->seat[1].t, r->seat[1].link, DOWN_LOCAL);
    rig_run_for(r, 5 * MS); /* it takes ten */
    sim_cut(r->w, 0, 1);
    rig_run_for(r, 5 * SILENCE);
    assert_down(r, 1, DOWN_LOCAL, start, start);
    assert_down(r, 0, DOWN_SILENT, start + SILENCE, start + SILENCE + SLACK);
    rig_close(r);
}

static void disconnect_is_heard_on_both_sides_once(void **state)
{
    (void)state;
    struct rig *r = linked();
    struct transport *t = r->seat[1].t;
    struct link_id link = r->seat[1].link;
    rig_send_run(r, 0, LANE_CONTROL, 0, 2);
    t->ops->disconnect(t, link, DOWN_PROTOCOL);
    t->ops->disconnect(t, link, DOWN_LOCAL); /* stale by now */
    assert_int_equal(r->count, 0);
    rig_run_for(r, 100 * MS);
    assert_int_equal(rig_count(r, 1, RIG_MESSAGE), 0);
    assert_int_equal(rig_find(r, 1, RIG_DOWN, 0)->value, DOWN_PROTOCOL);
    assert_int_equal(rig_find(r, 0, RIG_DOWN, 0)->value, DOWN_CLOSED);
    rig_run_for(r, 5 * SECOND);
    assert_int_equal(rig_count(r, 0, RIG_DOWN) + rig_count(r, 1, RIG_DOWN), 2);
    assert_int_equal(rig_count(r, 0, RIG_UP) + rig_count(r, 1, RIG_UP), 2); /* 0 dialled again */
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_healed_early_delivers_late_and_in_order),
        cmocka_unit_test(cut_goes_silent_on_each_side_and_redials_after_heal),
        cmocka_unit_test(silence_counts_from_the_last_delivery),
        cmocka_unit_test(one_way_cut_starves_one_side_and_resets_the_other),
        cmocka_unit_test(half_open_end_is_reset_by_heal),
        cmocka_unit_test(short_pause_only_delays),
        cmocka_unit_test(long_pause_finds_dead_links_first),
        cmocka_unit_test(crash_is_noticed_by_silence),
        cmocka_unit_test(crash_takes_its_job_along),
        cmocka_unit_test(crash_with_reset_is_noticed_at_once),
        cmocka_unit_test(restarted_node_replaces_its_old_link),
        cmocka_unit_test(reset_loses_a_tail_never_a_hole),
        cmocka_unit_test(cut_fills_the_queue_and_heal_makes_it_writable),
        cmocka_unit_test(goodbye_lost_in_a_cut_is_silence),
        cmocka_unit_test(disconnect_is_heard_on_both_sides_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: saves come at their interval, one at a time; an error is told once, in words, and tried again on a new file
 * with growing waits; so is its end; training is never asked to stop.
 * Method: a saver over the disk in memory (disk_fake.h), whose calls fail as long as the test wants, and a clock that
 * is a number. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/state/saver.h"
#include "base/check.h"
#include "checkpoint_fixture.h"
#include "disk_fake.h"

#define SECOND_US 1000000u
#define EVERY_US (10u * SECOND_US)

struct rig {
    struct disk_fake f;
    struct state_dir *dir;
    struct trace trace;
    struct saver s;
    uint64_t now_us;
    uint32_t lines;
    char last[512];
};

static void take_line(void *ctx, enum trace_level level, const char *text)
{
    struct rig *r = ctx;
    assert_int_equal(level, TRACE_WARN);
    r->lines++;
    snprintf(r->last, sizeof r->last, "%s", text);
}

static int make_rig(void **state)
{
    struct rig *r = test_calloc(1, sizeof *r);
    disk_fake_init(&r->f);
    r->dir = checkpoint_state_of(&r->f.disk);
    r->trace = (struct trace){.level = TRACE_DEBUG, .line = take_line, .ctx = r};
    r->now_us = 5u * SECOND_US;
    saver_init(&r->s, r->dir, EVERY_US, r->now_us, &r->trace);
    *state = r;
    return 0;
}

static int free_rig(void **state)
{
    struct rig *r = *state;
    saver_deinit(&r->s);
    state_dir_close(r->dir);
    assert_int_equal(r->f.synced_again, 0);
    disk_fake_deinit(&r->f);
    test_free(r);
    return 0;
}

/* Waits for the next save and does it; it takes took_us. Returns how long it was waited for. */
static uint64_t save_next(struct rig *r, uint64_t took_us)
{
    uint64_t wait_us = r->s.due_us - r->now_us;
    CHECK(!saver_is_due(&r->s, r->s.due_us - 1));
    r->now_us = r->s.due_us;
    assert_true(saver_is_due(&r->s, r->now_us));
    struct checkpoint c = checkpoint_of(FIXTURE_NODE, r->dir->generation + 1);
    saver_begin(&r->s, &c);
    assert_null(c.model); /* taken */
    assert_false(saver_is_due(&r->s, UINT64_MAX));
    saver_write(&r->s);
    r->now_us += took_us;
    saver_end(&r->s, r->now_us);
    return wait_us;
}

static void saves_come_at_their_interval(void **state)
{
    struct rig *r = *state;
    struct err_text note;
    for (uint64_t g = 1; g < 6; g++) {
        assert_int_equal(save_next(r, 3u * SECOND_US), EVERY_US); /* from the end of the one before */
        assert_true(r->s.ok);
        assert_int_equal(r->s.generation, g);
        assert_int_equal(load_generation(r->dir, &note), g);
    }
    assert_int_equal(r->lines, 0);
    r->now_us = r->s.due_us;
    saver_put_off(&r->s, r->now_us);
    assert_int_equal(save_next(r, 0), EVERY_US);
}

static void an_error_is_told_once_and_tried_again_with_growing_waits(void **state)
{
    struct rig *r = *state;
    struct err_text note;
    static const uint64_t waits_s[] = {1, 2, 4, 8, 10, 10, 10};
    save_next(r, 0);
    for (size_t i = 0; i < sizeof waits_s / sizeof waits_s[0]; i++) {
        r->f.failing = i % 2 == 0 ? FAKE_SYNC : FAKE_WRITE;
        r->f.reason = i % 2 == 0 ? EIO : ENOSPC;
        r->f.failing_nth = 1;
        save_next(r, 0);
        assert_false(r->s.ok);
        assert_int_equal(r->s.failed, i + 1);
        assert_int_equal(r->s.generation, 1);
        assert_int_equal(r->s.due_us - r->now_us, waits_s[i] * SECOND_US);
        assert_int_equal(r->lines, 1);
    }
    assert_non_null(strstr(r->last, "state/checkpoint-1"));
    assert_non_null(strstr(r->last, strerror(EIO)));
    assert_non_null(strstr(r->last, "training goes on"));
    assert_int_equal(load_generation(r->dir, &note), 1);
    save_next(r, 0);
    assert_true(r->s.ok);
    assert_int_equal(r->lines, 2);
    assert_non_null(strstr(r->last, "saved again: generation 2"));
    assert_int_equal(r->s.due_us - r->now_us, EVERY_US);
    r->f.failing_nth = 1; /* the next trouble is told again, and begins with a short wait */
    save_next(r, 0);
    assert_int_equal(r->lines, 3);
    assert_int_equal(r->s.due_us - r->now_us, SECOND_US);
}

static void a_short_interval_still_leaves_a_second_between_attempts(void **state)
{
    struct rig *r = *state;
    saver_init(&r->s, r->dir, SECOND_US / 10, r->now_us, &r->trace);
    for (int i = 0; i < 4; i++) {
        r->f.failing = FAKE_RENAME;
        r->f.reason = EROFS;
        r->f.failing_nth = 1;
        save_next(r, 0);
        assert_int_equal(r->s.due_us - r->now_us, SAVER_RETRY_MIN_US);
    }
    save_next(r, 0);
    assert_int_equal(r->s.due_us - r->now_us, SECOND_US / 10);
}

int main(void)
{
#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, make_rig, free_rig)
    const struct CMUnitTest tests[] = {
        WITH_RIG(saves_come_at_their_interval),
        WITH_RIG(an_error_is_told_once_and_tried_again_with_growing_waits),
        WITH_RIG(a_short_interval_still_leaves_a_second_between_attempts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: wherever a save stops or fails, what is loaded afterwards is exactly generation g or g - 1, no file is half
 * written under its final name, and a generation that was reported saved is there after a power cut. A failed sync is
 * never tried again on the same descriptor.
 * Method: a disk in memory that forgets what was not synced (disk_fake.h), stopped after each call of each of the
 * first generations, and failed at each call; crashes that lose all, keep names without contents, or keep any subset
 * (1,000 random ones). Three careless writers are planted and must be caught by the same sweep. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint_fixture.h"
#include "disk_fake.h"

enum { GENERATIONS = 4, RANDOM_CRASHES = 1000 };

/* One life and death: what is expected of it. */
struct outcome {
    uint64_t calls;      /* of the save that was stopped */
    bool finished;       /* it was not stopped in time */
    bool reported;       /* it returned 0 */
    uint64_t generation; /* loaded after the crash */
    bool complaint;      /* the load told of a damaged file */
};

/* Saves generations 1 .. g - 1, then g, stopped after `stop` calls; crashes; loads. code < 0: load failed so. */
static int live_and_die(uint64_t g, uint64_t stop, enum fake_bug bug, enum fake_crash kind, struct prng *p,
                        struct outcome *out)
{
    struct disk_fake f;
    struct err_text why, note = {""};
    struct checkpoint found;
    disk_fake_init(&f);
    struct state_dir *s = checkpoint_state_of(&f.disk);
    f.bug = bug;
    for (uint64_t before = 1; before < g; before++)
        if (save_generation(s, before, &why) != 0) fail_msg("%s", why.text);
    uint64_t begin = f.calls;
    f.stop_after = stop == UINT64_MAX ? stop : begin + stop;
    out->reported = save_generation(s, g, &why) == 0;
    out->calls = f.calls - begin;
    out->finished = out->calls < stop;
    state_dir_close(s);
    disk_fake_crash(&f, kind, p);
    f.bug = FAKE_BUG_NONE;
    s = checkpoint_state_of(&f.disk);
    int err = checkpoint_load(s, fixture_shape, &found, &note, &why);
    out->generation = err == 0 ? found.generation : 0;
    out->complaint = note.text[0] != '\0';
    if (err == 0) {
        struct checkpoint expected = checkpoint_of(FIXTURE_NODE, found.generation);
        if (!checkpoint_equal(&found, &expected)) err = ERR_CHECKSUM;
        checkpoint_deinit(&expected);
        checkpoint_deinit(&found);
    }
    if (err == 0 || err == ERR_NOT_FOUND) { /* and life goes on */
        assert_int_equal(save_generation(s, out->generation + 1, &why), 0);
        assert_int_equal(load_generation(s, &note), out->generation + 1);
    }
    state_dir_close(s);
    assert_int_equal(disk_fake_open_count(&f), 0);
    disk_fake_deinit(&f);
    return err == ERR_NOT_FOUND ? 0 : err;
}

/* Whether an outcome breaks the promise. */
static bool broken(int err, uint64_t g, const struct outcome *o)
{
    if (err != 0 || o->complaint) return true;
    if (o->reported && o->generation != g) return true;
    return o->generation != g && o->generation != g - 1;
}

/* Stops after every call. Returns how many points broke the promise. */
static uint32_t sweep(enum fake_bug bug, enum fake_crash kind, struct prng *p, uint32_t *points)
{
    uint32_t bad = 0;
    for (uint64_t g = 1; g <= GENERATIONS; g++) {
        struct outcome o = {.finished = false};
        for (uint64_t stop = 0; !o.finished; stop++) {
            int err = live_and_die(g, stop, bug, kind, p, &o);
            bad += broken(err, g, &o);
            ++*points;
        }
        assert_true(o.reported && o.calls > 8);
    }
    return bad;
}

static void every_crash_point_leaves_this_or_the_previous_generation(void **state)
{
    (void)state;
    uint32_t points = 0;
    struct prng p;
    prng_seed(&p, 1);
    assert_int_equal(sweep(FAKE_BUG_NONE, FAKE_CRASH_ALL_LOST, &p, &points), 0);
    assert_int_equal(sweep(FAKE_BUG_NONE, FAKE_CRASH_NAMES_KEPT, &p, &points), 0);
    print_message("%u crash points\n", points);
    assert_true(points > 80);
}

static void a_thousand_random_crashes_leave_this_or_the_previous_generation(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 2);
    uint32_t old = 0;
    for (uint32_t i = 0; i < RANDOM_CRASHES; i++) {
        uint64_t g = 1 + prng_below(&p, 6), stop = prng_below(&p, 18);
        struct outcome o;
        int err = live_and_die(g, stop, FAKE_BUG_NONE, FAKE_CRASH_RANDOM, &p, &o);
        if (broken(err, g, &o)) fail_msg("crash %u: generation %d after %d", i, (int)o.generation, (int)g);
        old += o.generation == g - 1;
    }
    assert_true(old > 100 && old < RANDOM_CRASHES - 100); /* both answers occur */
}

/* The process dies in one save, comes back, and the machine stops in its next save. */
static void a_process_that_died_leaves_nothing_to_rest_on_that_is_not_durable(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 4);
    for (uint32_t i = 0; i < RANDOM_CRASHES; i++) {
        struct disk_fake f;
        struct err_text why, note;
        disk_fake_init(&f);
        struct state_dir *s = checkpoint_state_of(&f.disk);
        for (uint64_t g = 1; g < 4; g++) assert_int_equal(save_generation(s, g, &why), 0);
        f.stop_after = f.calls + prng_below(&p, 18);
        save_generation(s, 4, &why);
        state_dir_close(s); /* the disk is as it was; only the process is gone */
        f.stop_after = UINT64_MAX;
        s = checkpoint_state_of(&f.disk);
        uint64_t resumed = load_generation(s, &note);
        assert_true(resumed == 3 || resumed == 4);
        f.stop_after = f.calls + prng_below(&p, 18);
        bool reported = save_generation(s, resumed + 1, &why) == 0;
        state_dir_close(s);
        disk_fake_crash(&f, FAKE_CRASH_RANDOM, &p);
        s = checkpoint_state_of(&f.disk);
        uint64_t after = load_generation(s, &note);
        assert_true(after == resumed + 1 || (after == resumed && !reported));
        assert_string_equal(note.text, "");
        state_dir_close(s);
        disk_fake_deinit(&f);
    }
}

static void careless_writers_are_caught(void **state)
{
    (void)state;
    static const enum fake_bug bugs[] = {FAKE_BUG_NO_FOLDER_SYNC, FAKE_BUG_RENAME_FIRST, FAKE_BUG_NO_SYNC};
    for (size_t b = 0; b < sizeof bugs / sizeof bugs[0]; b++) {
        struct prng p;
        uint32_t points = 0;
        prng_seed(&p, 3);
        uint32_t bad = sweep(bugs[b], FAKE_CRASH_ALL_LOST, &p, &points) +
                       sweep(bugs[b], FAKE_CRASH_NAMES_KEPT, &p, &points);
        print_message("bug %u: caught at %u of %u points\n", (unsigned)bugs[b], bad, points);
        assert_true(bad > 0);
    }
}

/* -- errors ------------------------------------------------------------------------------------ */

struct failure {
    enum fake_call call;
    int reason;
};

static const struct failure failures[] = {
    {FAKE_SYNC, EIO},     {FAKE_SYNC_FOLDER, EIO}, {FAKE_WRITE, ENOSPC},
    {FAKE_WRITE, EIO},    {FAKE_OPEN, EMFILE},     {FAKE_OPEN, EROFS},
    {FAKE_RENAME, EROFS}, {FAKE_RENAME, ENOSPC},   {FAKE_CLOSE, EDQUOT},
};

/* Fails the nth call of a kind during the save of generation 3. Returns false when there are not so many. */
static bool fail_once(const struct failure *what, uint32_t nth, bool crash)
{
    struct disk_fake f;
    struct err_text why = {""}, note;
    disk_fake_init(&f);
    struct state_dir *s = checkpoint_state_of(&f.disk);
    assert_int_equal(save_generation(s, 1, &why), 0);
    assert_int_equal(save_generation(s, 2, &why), 0);
    f.failing = what->call;
    f.reason = what->reason;
    f.failing_nth = nth;
    int err = save_generation(s, 3, &why);
    bool met = f.failing_nth == 0;
    f.failing_nth = 0;
    bool late = what->call == FAKE_SYNC_FOLDER || (what->call == FAKE_CLOSE && nth == 2);
    if (met && !(what->call == FAKE_CLOSE && nth == 2)) { /* all is durable when the directory is closed */
        assert_int_equal(err, ERR_IO);
        assert_non_null(strstr(why.text, strerror(what->reason)));
    }
    size_t size;
    assert_null(disk_fake_file(&f, "checkpoint-0.tmp", &size));
    assert_null(disk_fake_file(&f, "checkpoint-1.tmp", &size));
    uint64_t next = 3;
    if (crash) {
        state_dir_close(s);
        disk_fake_crash(&f, FAKE_CRASH_ALL_LOST, NULL);
        s = checkpoint_state_of(&f.disk);
        next = load_generation(s, &note) + 1;
        assert_string_equal(note.text, "");
        assert_true(next == (err == 0 ? 4 : 3));
    } else if (late || err == 0) {
        next = 4; /* 3 is visible, if not durable */
    }
    assert_int_equal(save_generation(s, next, &why), 0); /* a new file, new descriptors */
    state_dir_close(s);
    disk_fake_crash(&f, FAKE_CRASH_ALL_LOST, NULL);
    s = checkpoint_state_of(&f.disk);
    assert_int_equal(load_generation(s, &note), next);
    assert_string_equal(note.text, "");
    state_dir_close(s);
    assert_int_equal(f.synced_again, 0);
    assert_int_equal(disk_fake_open_count(&f), 0);
    disk_fake_deinit(&f);
    return met;
}

static void a_failing_call_costs_one_save_and_no_generation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        for (int crash = 0; crash < 2; crash++) {
            uint32_t nth = 1;
            while (fail_once(&failures[i], nth, crash)) nth++;
            assert_true(nth > 1);
        }
}

/* After a directory sync that failed, the generation it was for must not become what the next save relies on. */
static void a_directory_that_cannot_be_synced_does_not_cost_the_durable_generation(void **state)
{
    (void)state;
    struct disk_fake f;
    struct err_text why, note;
    disk_fake_init(&f);
    struct state_dir *s = checkpoint_state_of(&f.disk);
    assert_int_equal(save_generation(s, 1, &why), 0);
    for (int i = 0; i < 5; i++) {
        f.failing = FAKE_SYNC_FOLDER;
        f.reason = EIO;
        f.failing_nth = 1;
        struct checkpoint c = checkpoint_of(FIXTURE_NODE, 2);
        assert_int_equal(checkpoint_save(s, &c, &why), ERR_IO);
        checkpoint_deinit(&c);
    }
    state_dir_close(s);
    disk_fake_crash(&f, FAKE_CRASH_ALL_LOST, NULL);
    s = checkpoint_state_of(&f.disk);
    assert_int_equal(load_generation(s, &note), 1);
    state_dir_close(s);
    disk_fake_deinit(&f);
}

static void short_writes_and_reads_make_whole_files(void **state)
{
    (void)state;
    for (size_t max = 1; max < 40; max++) {
        struct disk_fake f;
        struct err_text why, note;
        disk_fake_init(&f);
        f.write_max = max;
        struct state_dir *s = checkpoint_state_of(&f.disk);
        for (uint64_t g = 1; g < 4; g++) assert_int_equal(save_generation(s, g, &why), 0);
        assert_int_equal(load_generation(s, &note), 3);
        state_dir_close(s);
        disk_fake_deinit(&f);
    }
}

static void a_disk_that_cannot_be_read_is_no_empty_one(void **state)
{
    (void)state;
    static const struct failure unreadable[] = {{FAKE_OPEN, EMFILE}, {FAKE_READ, EIO}};
    for (size_t i = 0; i < 2; i++) {
        struct disk_fake f;
        struct err_text why, note;
        struct checkpoint c;
        disk_fake_init(&f);
        struct state_dir *s = checkpoint_state_of(&f.disk);
        assert_int_equal(save_generation(s, 1, &why), 0);
        f.failing = unreadable[i].call;
        f.reason = unreadable[i].reason;
        f.failing_nth = 1;
        assert_int_equal(checkpoint_load(s, fixture_shape, &c, &note, &why), ERR_IO);
        assert_non_null(strstr(why.text, strerror(unreadable[i].reason)));
        assert_int_equal(load_generation(s, &note), 1);
        state_dir_close(s);
        disk_fake_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_crash_point_leaves_this_or_the_previous_generation),
        cmocka_unit_test(a_thousand_random_crashes_leave_this_or_the_previous_generation),
        cmocka_unit_test(a_process_that_died_leaves_nothing_to_rest_on_that_is_not_durable),
        cmocka_unit_test(careless_writers_are_caught),
        cmocka_unit_test(a_failing_call_costs_one_save_and_no_generation),
        cmocka_unit_test(a_directory_that_cannot_be_synced_does_not_cost_the_durable_generation),
        cmocka_unit_test(short_writes_and_reads_make_whole_files),
        cmocka_unit_test(a_disk_that_cannot_be_read_is_no_empty_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

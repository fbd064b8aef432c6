/* Goal: a run leaves a directory of four readable files; a directory that cannot serve is refused before
 * anything starts and left as it was.
 * Method: runs made in a fresh folder and read back; planted obstacles (a file in the way, a non-empty
 * folder, a text that cannot be kept, a stream that cannot be written).
 */
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/files/interrupt.h"
#include "agent/files/safetensors.h"
#include "tests/unit/rundir_fixture.h"

struct fixture {
    char before[512]; /* where the test was started */
    char folder[64];
};

static int enter_folder(void **state)
{
    struct fixture *f = test_calloc(1, sizeof *f);
    assert_non_null(getcwd(f->before, sizeof f->before));
    snprintf(f->folder, sizeof f->folder, "/tmp/gadabout-run-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    assert_int_equal(chdir(f->folder), 0);
    *state = f;
    return 0;
}

static void remove_run(const char *path)
{
    static const char *const names[] = {"config.yml", "metrics.jsonl", "summary.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char file[256];
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        unlink(file);
    }
    assert_int_equal(rmdir(path), 0); /* fails when anything else was left in it */
}

static int leave_folder(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chdir(f->before), 0);
    assert_int_equal(rmdir(f->folder), 0);
    test_free(f);
    return 0;
}

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (o == NULL) fail_msg("%s: %s", path, error.text);
    return o;
}

/* -- directory --------------------------------------------------------------------------------- */

static void open_good(const struct config *c, struct rundir *r)
{
    struct err_text why = {""};
    int err = rundir_open(c, r, &why);
    if (err != 0) fail_msg("%s", why.text);
}

static void a_run_leaves_four_readable_files(void **state)
{
    (void)state;
    const struct lost_node lost = {.node = 2, .how = "x"};
    const float x[3] = {1, 2, 3};
    struct config c, again;
    struct rundir r;
    struct err_text why = {""};
    rundir_make_config(COMMAND_SIM, "deep/er/run", &c);
    open_good(&c, &r);
    assert_string_equal(r.path, "deep/er/run");
    assert_int_equal(access("deep/er/run/config.yml", R_OK), 0);
    assert_int_not_equal(access("deep/er/run/summary.json", R_OK), 0); /* only when complete */
    rundir_metrics(&r, &rundir_sample_line);
    rundir_metrics(&r, &rundir_sample_line);
    struct stat status;
    assert_int_equal(stat("deep/er/run/metrics.jsonl", &status), 0);
    assert_true(status.st_size > 200); /* flushed before the end */
    struct summary s = rundir_sample_summary(&c, &lost);
    assert_int_equal(rundir_finish(&r, &s, x, 3, &why), 0);
    rundir_close(&r);

    json_t *summary = load("deep/er/run/summary.json");
    assert_int_equal(json_integer_value(json_object_get(summary, "steps_total")), 800);
    json_decref(summary);
    float *back;
    size_t dim;
    assert_int_equal(safetensors_read("deep/er/run/model.safetensors", &back, &dim, &why), 0);
    assert_int_equal(dim, 3);
    free(back);
    char text[2048];
    FILE *lines = fopen("deep/er/run/metrics.jsonl", "r");
    assert_non_null(lines);
    for (int i = 0; i < 2; i++) {
        struct metrics_line line;
        assert_non_null(fgets(text, sizeof text, lines));
        assert_int_equal(metrics_parse(text, &line), 0);
    }
    assert_null(fgets(text, sizeof text, lines));
    fclose(lines);
    char *argv[] = {"sim", "--config", "deep/er/run/config.yml"};
    assert_int_equal(config_parse(COMMAND_SIM, 3, argv, &again, &why), 0);
    assert_int_equal(again.seed, 7);
    assert_null(again.out); /* a second run of the same file gets a directory of its own */
    config_deinit(&again);
    config_deinit(&c);
    remove_run("deep/er/run");
    assert_int_equal(rmdir("deep/er") | rmdir("deep"), 0);
}

static void an_empty_directory_is_used_and_a_full_one_refused(void **state)
{
    (void)state;
    struct config c;
    struct rundir r;
    struct err_text why = {""};
    assert_int_equal(mkdir("run", 0777), 0);
    rundir_make_config(COMMAND_SIM, "run", &c);
    open_good(&c, &r);
    rundir_close(&r);
    struct stat before, after;
    assert_int_equal(stat("run/config.yml", &before), 0);
    assert_int_equal(rundir_open(&c, &r, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "--out"));
    assert_non_null(strstr(why.text, "run is not empty"));
    assert_null(strchr(why.text, '\n'));
    assert_int_equal(stat("run/config.yml", &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_size == after.st_size);
    config_deinit(&c);
    remove_run("run");
}

static void a_directory_that_cannot_be_is_refused_and_named(void **state)
{
    (void)state;
    static const char *const paths[] = {"file", "file/run", "/proc/gadabout-run", "/dev/null/run"};
    FILE *file = fopen("file", "w");
    assert_non_null(file);
    fclose(file);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct config c;
        struct rundir r;
        struct err_text why = {""};
        rundir_make_config(COMMAND_SIM, paths[i], &c);
        int err = rundir_open(&c, &r, &why);
        if (err != ERR_IO) fail_msg("%s: %s", paths[i], err_name(err));
        if (strstr(why.text, "--out: ") == NULL || strstr(why.text, paths[i]) == NULL)
            fail_msg("%s", why.text);
        config_deinit(&c);
    }
    assert_int_equal(unlink("file"), 0);
}

/* A text that YAML cannot hold is found when the directories are made already. */
static void what_was_made_for_a_run_that_cannot_be_is_removed_again(void **state)
{
    (void)state;
    static const struct {
        const char *path, *stays, *goes;
    } cases[] = {{"new", ".", "new"},          {"new/er/run", ".", "new"}, {"old/new/run", "old", "old/new"},
                 {"new//er/run/", ".", "new"}, {"old/", "old", NULL},      {"old", "old", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c;
        struct rundir r;
        struct err_text why = {""};
        assert_int_equal(mkdir("old", 0777), 0);
        rundir_make_config(COMMAND_SIM, cases[i].path, &c);
        c.data[0] = '\xff';
        if (rundir_open(&c, &r, &why) != ERR_USAGE || strstr(why.text, "UTF-8") == NULL)
            fail_msg("%s: %s", cases[i].path, why.text);
        assert_true(strncmp(why.text, "--out: ", 7) == 0);
        if (access(cases[i].stays, F_OK) != 0) fail_msg("%s: %s is gone", cases[i].path, cases[i].stays);
        if (cases[i].goes != NULL && access(cases[i].goes, F_OK) == 0) fail_msg("%s is left", cases[i].goes);
        assert_int_equal(rmdir("old"), 0); /* fails when anything is left in it */
        config_deinit(&c);
    }
}

/* Names of files in it, and of agents' directories, must fit too. */
static void a_name_that_is_too_long_is_refused(void **state)
{
    (void)state;
    char path[RUNDIR_PATH_MAX + 2];
    memset(path, 'd', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    for (size_t i = 200; i < sizeof path - 1; i += 201) path[i] = '/';
    struct config c;
    struct rundir r;
    struct err_text why = {""};
    rundir_make_config(COMMAND_SIM, path, &c);
    assert_int_equal(rundir_open(&c, &r, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "--out: a name of 4001 bytes is too long"));
    path[200] = '\0';
    assert_int_not_equal(access(path, F_OK), 0);
    config_deinit(&c);
}

static void default_names_do_not_collide(void **state)
{
    (void)state;
    struct config c;
    struct rundir r[3];
    rundir_make_config(COMMAND_SIM, NULL, &c);
    for (size_t i = 0; i < 3; i++) {
        open_good(&c, &r[i]);
        assert_true(strncmp(r[i].path, "runs/2", 6) == 0);
        assert_non_null(strstr(r[i].path, "-digest"));
    }
    assert_string_not_equal(r[0].path, r[1].path);
    assert_string_not_equal(r[1].path, r[2].path);
    for (size_t i = 0; i < 3; i++) {
        remove_run(r[i].path);
        rundir_close(&r[i]);
    }
    assert_int_equal(rmdir("runs"), 0);
    config_deinit(&c);
}

static void lost_metrics_lines_are_reported(void **state)
{
    (void)state;
    const struct lost_node lost = {.node = 2, .how = "x"};
    const float x[1] = {1};
    struct config c;
    struct rundir r;
    struct err_text why = {""};
    rundir_make_config(COMMAND_SIM, "run", &c);
    open_good(&c, &r);
    fclose(r.metrics);
    r.metrics = fopen("/dev/full", "a"); /* a disk without space */
    assert_non_null(r.metrics);
    rundir_metrics(&r, &rundir_sample_line);
    struct summary s = rundir_sample_summary(&c, &lost);
    assert_int_equal(rundir_finish(&r, &s, x, 1, &why), ERR_IO);
    assert_non_null(strstr(why.text, "metrics.jsonl"));
    assert_int_not_equal(access("run/summary.json", F_OK), 0);
    rundir_close(&r);
    config_deinit(&c);
    remove_run("run");
}

/* A summary that cannot be made must not be there as an empty file: it would say that the run is complete. */
static void a_summary_that_cannot_be_written_is_not_there(void **state)
{
    (void)state;
    const struct lost_node lost = {.node = 2, .how = "x"};
    struct config c;
    struct rundir r;
    struct err_text why = {""};
    rundir_make_config(COMMAND_SIM, "run", &c);
    open_good(&c, &r);
    struct summary s = rundir_sample_summary(&c, &lost);
    /* the temporary file leads to a disk without space */
    char temporary[64];
    snprintf(temporary, sizeof temporary, "run/summary.json.tmp-%ld", (long)getpid());
    assert_int_equal(symlink("/dev/full", temporary), 0);
    assert_int_equal(rundir_finish(&r, &s, NULL, 0, &why), ERR_IO);
    assert_non_null(strstr(why.text, "summary.json"));
    assert_int_not_equal(access("run/summary.json", F_OK), 0);
    assert_int_not_equal(access("run/model.safetensors", F_OK), 0); /* none was given */
    rundir_close(&r);
    config_deinit(&c);
    remove_run("run");
}

/* Ctrl-C between the making of the directory and the handlers of who runs would leave half a directory. */
static void a_signal_waits_from_the_directory_on(void **state)
{
    (void)state;
    struct config c;
    struct rundir r;
    struct err_text why = {""};
    sigset_t pending;
    rundir_make_config(COMMAND_SIM, "run", &c);
    open_good(&c, &r);
    assert_int_equal(raise(SIGTERM), 0); /* would end this process */
    assert_int_equal(sigpending(&pending), 0);
    assert_true(sigismember(&pending, SIGTERM));
    assert_false(interrupted());
    interrupt_catch();
    assert_true(interrupted());
    rundir_close(&r);
    assert_int_equal(rundir_open(&c, &r, &why), ERR_USAGE); /* not empty: the signals are free again */
    sigset_t held;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &held), 0);
    assert_false(sigismember(&held, SIGTERM) || sigismember(&held, SIGINT));
    config_deinit(&c);
    remove_run("run");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_leaves_four_readable_files, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(an_empty_directory_is_used_and_a_full_one_refused, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(a_directory_that_cannot_be_is_refused_and_named, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(what_was_made_for_a_run_that_cannot_be_is_removed_again, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(a_name_that_is_too_long_is_refused, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_summary_that_cannot_be_written_is_not_there, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(default_names_do_not_collide, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(lost_metrics_lines_are_reported, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_signal_waits_from_the_directory_on, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: in a pipe the same state of affairs is said when it is new and then every ten seconds at most.
 * Method: what would be said, at times made up here; and what comes out of a pipe that stands for stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/report/progress.h"

static void a_state_is_news_when_it_changes_and_every_ten_seconds(void **state)
{
    (void)state;
    struct progress p = {
        .state = "waiting: 1 of 3", .state_s = 100, .note = "node 1 has joined", .note_s = 101};
    assert_false(progress_is_news(&p, "waiting: 1 of 3", 100.5));
    assert_false(progress_is_news(&p, "waiting: 1 of 3", 109.9));
    assert_true(progress_is_news(&p, "waiting: 1 of 3", 110));
    assert_true(progress_is_news(&p, "waiting: 2 of 3", 100.5));
    assert_false(progress_is_news(&p, "node 1 has joined", 102));
}

/* What show() writes to stderr, which is a pipe meanwhile. */
static void written(void (*show)(struct progress *p), bool quiet, char out[256])
{
    int ends[2], before = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    fflush(stderr);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    struct progress p;
    progress_init(&p, quiet);
    show(&p);
    assert_true(dup2(before, STDERR_FILENO) >= 0); /* the pipe has no writer any more */
    close(before);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], out + used, 255 - used)) > 0) used += (size_t)got;
    out[used] = '\0';
    close(ends[0]);
}

static void wait_and_join(struct progress *p)
{
    progress_note(p, "waiting: %d of 3", 1);
    for (int i = 0; i < 5; i++) progress_show(p, "waiting: %d of 3", 1);
    progress_note(p, "node 1 has joined");
    for (int i = 0; i < 5; i++) progress_show(p, "waiting: %d of 3", 2);
    progress_flicker(p, "for a terminal");
    progress_note(p, "node 2 has joined");
    progress_note(p, "node 2 has joined");
}

static void a_pipe_hears_of_each_change_once_and_of_every_note(void **state)
{
    (void)state;
    char out[256];
    written(wait_and_join, false, out);
    assert_string_equal(out, "waiting: 1 of 3\nnode 1 has joined\nwaiting: 2 of 3\nnode 2 has joined\n"
                             "node 2 has joined\n");
    written(wait_and_join, true, out);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_is_news_when_it_changes_and_every_ten_seconds),
        cmocka_unit_test(a_pipe_hears_of_each_change_once_and_of_every_note),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: blobs live exactly as long as their references, memory requests and broken invariants end the
 * process rather than go wrong quietly, and error and trace lines stay one line whatever is put in.
 * Method: direct calls; what must abort is run in a child process and its signal looked at. (A blob that is
 * freed late or early is the address sanitizer's finding.) */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/blob.h"
#include "base/check.h"
#include "base/err.h"
#include "base/trace.h"

static void a_copy_is_independent_of_its_source(void **state)
{
    (void)state;
    char bytes[] = "gossip";
    struct blob *b = blob_copy(bytes, sizeof bytes);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(b->size, 7);
    assert_string_equal((const char *)b->data, "gossip");
    assert_int_equal(b->references, 1);
    blob_unref(b);
}

static void references_are_counted(void **state)
{
    (void)state;
    struct blob *b = blob_new(100000);
    assert_ptr_equal(blob_ref(b), b);
    assert_ptr_equal(blob_ref(b), b);
    assert_int_equal(b->references, 3);
    blob_unref(b);
    blob_unref(b);
    assert_int_equal(b->references, 1);
    memset(b->data, 1, b->size); /* all of it is still there */
    blob_unref(b);
    assert_null(blob_ref(NULL));
    blob_unref(NULL);
}

static void data_is_aligned_for_vectors(void **state)
{
    (void)state;
    for (size_t size = 0; size < 100; size++) {
        struct blob *b = blob_new(size);
        assert_int_equal((uintptr_t)b->data % 16, 0);
        assert_int_equal(b->size, size);
        blob_unref(b);
    }
    struct blob *empty = blob_copy(NULL, 0);
    assert_int_equal(empty->size, 0);
    blob_unref(empty);
}

static void use_unreferenced(void)
{
    struct blob *b = blob_new(1);
    b->references = 0;
    blob_unref(b);
}

static void revive_unreferenced(void)
{
    struct blob *b = blob_new(1);
    b->references = 0;
    blob_ref(b);
}

static void overflow_references(void)
{
    struct blob *b = blob_new(1);
    b->references = UINT32_MAX;
    blob_ref(b);
}

static void overflow_blob_size(void)
{
    blob_new(SIZE_MAX);
}

static void overflow_product(void)
{
    free(mem_new(SIZE_MAX / 4, 8));
}

static void fail_check(void)
{
    CHECK(1 + 1 == 3);
}

static void break_implication(void)
{
    CHECK_IMPLIES(1 + 1 == 2, 1 + 1 == 3);
}

static void do_nothing(void)
{
    CHECK(1 + 1 == 2);
    CHECK_IMPLIES(1 + 1 == 3, 1 + 1 == 4);
}

/* Runs act in a child with stderr closed; returns whether it aborted. */
static bool aborts(void (*act)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        act();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void broken_invariants_stop_the_process(void **state)
{
    (void)state;
    static void (*const acts[])(void) = {use_unreferenced,   revive_unreferenced, overflow_references,
                                         overflow_blob_size, overflow_product,    fail_check,
                                         break_implication};
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++)
        if (!aborts(acts[i])) fail_msg("case %zu goes on", i);
    assert_false(aborts(do_nothing));
}

static void memory_is_zeroed_grown_and_never_null(void **state)
{
    (void)state;
    uint32_t *numbers = mem_new_zero(10, sizeof *numbers);
    for (size_t i = 0; i < 10; i++) assert_int_equal(numbers[i], 0);
    numbers[9] = 7;
    numbers = mem_resize(numbers, 1000, sizeof *numbers);
    assert_int_equal(numbers[9], 7);
    free(numbers);
    void *nothing = mem_new(0, 8);
    assert_non_null(nothing);
    free(nothing);
    char *text = mem_copy_text("token");
    assert_string_equal(text, "token");
    free(text);
}

static void error_lines_stay_one_line(void **state)
{
    (void)state;
    struct err_text why;
    assert_int_equal(err_set(&why, ERR_USAGE, "bad '%s'", "a\r\nERROR: forged"), ERR_USAGE);
    assert_string_equal(why.text, "bad 'a  ERROR: forged'");
    char longer[2 * ERR_TEXT_MAX];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    err_set(&why, ERR_IO, "%s", longer);
    assert_int_equal(strlen(why.text), ERR_TEXT_MAX - 1);
    assert_int_equal(err_set(NULL, ERR_LIMIT, "nobody listens"), ERR_LIMIT);
}

static void every_code_has_its_own_name(void **state)
{
    (void)state;
    for (int code = 0; code >= -16; code--) {
        assert_string_not_equal(err_name(code), "unknown error");
        for (int other = code + 1; other <= 0; other++)
            assert_string_not_equal(err_name(code), err_name(other));
    }
    assert_string_equal(err_name(-12345), "unknown error");
}

struct heard {
    int lines;
    char last[600];
};

static void hear(void *ctx, enum trace_level level, const char *text)
{
    struct heard *heard = ctx;
    (void)level;
    heard->lines++;
    strncpy(heard->last, text, sizeof heard->last - 1);
}

static void trace_lines_are_filtered_and_cleaned(void **state)
{
    (void)state;
    struct heard heard = {0};
    struct trace t = {TRACE_INFO, hear, &heard};
    trace_line(&t, TRACE_DEBUG, "too fine");
    assert_int_equal(heard.lines, 0);
    trace_line(&t, TRACE_WARN, "from %s", "peer\n\x1b[31m");
    assert_int_equal(heard.lines, 1);
    assert_string_equal(heard.last, "from peer??[31m");
    trace_line(NULL, TRACE_ERROR, "nobody");
    t.line = NULL;
    trace_line(&t, TRACE_ERROR, "nobody");
    assert_int_equal(heard.lines, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_is_independent_of_its_source),
        cmocka_unit_test(references_are_counted),
        cmocka_unit_test(data_is_aligned_for_vectors),
        cmocka_unit_test(broken_invariants_stop_the_process),
        cmocka_unit_test(memory_is_zeroed_grown_and_never_null),
        cmocka_unit_test(error_lines_stay_one_line),
        cmocka_unit_test(every_code_has_its_own_name),
        cmocka_unit_test(trace_lines_are_filtered_and_cleaned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

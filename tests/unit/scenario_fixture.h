/* Scenarios from texts: each goes through a file of the test program's own, which its group makes and removes. */
#ifndef GADABOUT_TESTS_UNIT_SCENARIO_FIXTURE_H
#define GADABOUT_TESTS_UNIT_SCENARIO_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/scenario/run.h"

#define SECOND 1000000ull
#define NODES 8u

static char path[] = "/tmp/gadabout-scenario-XXXXXX";

static inline int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    return fd >= 0 ? 0 : -1;
}

static inline int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static inline int read_text(const char *text, struct scenario *out, struct err_text *why)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return scenario_read(path, NODES, out, why);
}

static inline void read_good(const char *text, struct scenario *out)
{
    struct err_text why = {""};
    int err = read_text(text, out, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
}

#endif

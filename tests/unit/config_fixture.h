/* Folder, files and command lines for the tests of the configuration. */
#ifndef GADABOUT_TESTS_UNIT_CONFIG_FIXTURE_H
#define GADABOUT_TESTS_UNIT_CONFIG_FIXTURE_H

#include <stddef.h>

#include "agent/config/internal.h"

enum { ARGUMENT_MAX = 64, LINE_MAX_BYTES = 4096 };

struct config_fixture {
    char folder[64];
    char file[96]; /* <folder>/run.yml; removed with the folder */
};

/* Setup and teardown; removal fails when a test left another file. */
int config_folder_make(void **state);
int config_folder_remove(void **state);

/* Parses a command line given as text, words separated by blanks; _good fails the test when it is refused. */
int config_line(enum command command, const char *line, struct config *out, struct err_text *why);
void config_line_good(enum command command, const char *line, struct config *out);

/* Fails the test unless text is one line that holds all words (at most 4, NULL ends them). */
void config_assert_words(const char *text, const char *const *words, const char *what);
void config_write_text(const char *path, const char *text);

/* All options as text: two configs are the same when this is. */
void config_describe(const struct config *c, char *out, size_t size);
void config_assert_same(const struct config *a, const struct config *b);

#endif

/* Folder, files and command lines for the tests of the configuration. */
#include "tests/unit/config_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int config_folder_make(void **state)
{
    struct config_fixture *f = test_calloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/gadabout-config-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->file, sizeof f->file, "%s/run.yml", f->folder);
    *state = f;
    return 0;
}

int config_folder_remove(void **state)
{
    struct config_fixture *f = *state;
    unlink(f->file);
    assert_int_equal(rmdir(f->folder), 0);
    test_free(f);
    return 0;
}

/* Parses a command line given as text, words separated by blanks. */
int config_line(enum command command, const char *line, struct config *out, struct err_text *why)
{
    char copy[LINE_MAX_BYTES];
    char *argv[ARGUMENT_MAX] = {"command"};
    int argc = 1;
    assert_true((size_t)snprintf(copy, sizeof copy, "%s", line) < sizeof copy);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        assert_true(argc + 1 < ARGUMENT_MAX);
        argv[argc++] = word;
    }
    why->text[0] = '\0';
    return config_parse(command, argc, argv, out, why);
}

void config_line_good(enum command command, const char *line, struct config *out)
{
    struct err_text why;
    int err = config_line(command, line, out, &why);
    if (err != 0) fail_msg("'%s' was refused: %s", line, why.text);
}

void config_assert_words(const char *text, const char *const *words, const char *what)
{
    for (size_t i = 0; i < 4 && words[i] != NULL; i++)
        if (strstr(text, words[i]) == NULL) fail_msg("%s: error line lacks \"%s\": %s", what, words[i], text);
    if (strchr(text, '\n') != NULL) fail_msg("%s: not one line: %s", what, text);
}

void config_write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* All options as text: two configs are the same when this is. */
void config_describe(const struct config *c, char *out, size_t size)
{
    char text[CONFIG_VALUE_MAX];
    size_t used = 0;
    for (size_t i = 0; i < config_option_count; i++) {
        if (!option_print(&config_options[i], c, text, sizeof text)) continue;
        int wrote = snprintf(out + used, size - used, "%s=%s\n", config_options[i].name, text);
        assert_true(wrote > 0 && (size_t)wrote < size - used);
        used += (size_t)wrote;
    }
}

void config_assert_same(const struct config *a, const struct config *b)
{
    char left[LINE_MAX_BYTES], right[LINE_MAX_BYTES];
    config_describe(a, left, sizeof left);
    config_describe(b, right, sizeof right);
    assert_string_equal(left, right);
}

/* Goal: metrics lines read back as written and malformed ones are refused; the summary has all its fields in
 * a fixed order, and what is not known is null.
 * Method: print to memory, parse with jansson and compare; a table of changes to a good line.
 */
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/rundir_fixture.h"

/* -- metrics ----------------------------------------------------------------------------------- */

static void print_line(const struct metrics_line *line, char *text, size_t size)
{
    FILE *to = fmemopen(text, size, "w");
    assert_non_null(to);
    assert_int_equal(metrics_print(line, to), 0);
    assert_int_equal(fclose(to), 0);
}

static void assert_same_number(double a, double b)
{
    assert_true(a == b || (isnan(a) && isnan(b)));
}

static void a_metrics_line_reads_back_as_written(void **state)
{
    (void)state;
    const double numbers[] = {0.1, 1.0 / 3, DBL_MIN, DBL_MAX, -0.0, 1e-300, NAN, 12345678901234.5};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct metrics_line line = rundir_sample_line, back;
        line.loss = numbers[i];
        char text[1024] = "";
        print_line(&line, text, sizeof text);
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
        assert_int_equal(metrics_parse(text, &back), 0);
        assert_same_number(back.loss, line.loss);
        assert_same_number(back.time_s, line.time_s);
        assert_same_number(back.accuracy, line.accuracy);
        assert_int_equal(back.node, line.node);
        assert_int_equal(back.links, line.links);
        const uint64_t *left = &line.bytes_sent, *right = &back.bytes_sent;
        for (const uint64_t *end = &line.version + 1; left < end; left++, right++)
            assert_true(*left == *right);
        assert_true(back.steps == line.steps && back.steps_handed_over == line.steps_handed_over);
    }
}

static void what_few_methods_count_is_left_out_while_it_is_0(void **state)
{
    (void)state;
    struct metrics_line line = rundir_sample_line, back;
    char text[1024] = "";
    print_line(&line, text, sizeof text);
    assert_null(strstr(text, "rounds"));
    assert_null(strstr(text, "divergence_up"));
    assert_int_equal(metrics_parse(text, &back), 0);
    assert_true(back.rounds == 0 && back.divergence_down == 0);
    line.model_steps = 4100;
    line.rounds = 5;
    line.left_out = 6;
    line.terms = 7;
    line.delay_sum = 8;
    line.delay_max = 9;
    line.bytes_across = 10;
    line.divergence_up = 0.25;
    line.divergence_down = 0.5;
    line.loop_lag_p99_s = 0.001;
    line.loop_lag_max_s = 0.25;
    print_line(&line, text, sizeof text);
    assert_int_equal(metrics_parse(text, &back), 0);
    assert_true(back.rounds == 5 && back.left_out == 6 && back.terms == 7 && back.delay_sum == 8);
    assert_true(back.delay_max == 9 && back.bytes_across == 10);
    assert_true(back.divergence_up == 0.25 && back.divergence_down == 0.5);
    assert_int_equal(back.model_steps, 4100);
    assert_true(back.loop_lag_p99_s == 0.001 && back.loop_lag_max_s == 0.25);
}

static void the_state_of_the_checkpoints_is_told_where_some_are_kept(void **state)
{
    (void)state;
    static const char *const told[] = {
        [CHECKPOINTS_NONE] = NULL,
        [CHECKPOINTS_OK] = "\"checkpoint_ok\":1",
        [CHECKPOINTS_FAIL] = "\"checkpoint_ok\":0",
    };
    for (int i = CHECKPOINTS_NONE; i <= CHECKPOINTS_FAIL; i++) {
        struct metrics_line line = rundir_sample_line, back;
        char text[1024] = "";
        line.checkpoints = i;
        print_line(&line, text, sizeof text);
        assert_true((strstr(text, "checkpoint_ok") == NULL) == (told[i] == NULL));
        if (told[i] != NULL) assert_non_null(strstr(text, told[i]));
        assert_int_equal(metrics_parse(text, &back), 0);
        assert_int_equal(back.checkpoints, i);
    }
}

static void a_summary_counts_what_a_report_does(void **state)
{
    (void)state;
    struct algo_report sum = {0};
    struct algo_report a = {.rounds = 2, .delay_max = 5, .delay_sum = 7, .version = 3, .divergence_up = 0.5};
    struct algo_report b = {.rounds = 3, .delay_max = 4, .delay_sum = 1, .version = 9, .divergence_up = 0.25};
    a.bytes_across = 12;
    b.bytes_across = 8;
    algo_report_add(&sum, &a);
    algo_report_add(&sum, &b);
    struct config c;
    rundir_make_config(COMMAND_SIM, NULL, &c);
    struct summary s = rundir_sample_summary(&c, NULL);
    s.lost_count = 0;
    summary_count(&s, &sum);
    assert_true(s.rounds == 5 && s.delay_max == 5 && s.delay_sum == 8 && s.divergence_up == 0.75);
    assert_true(s.bytes_across == 20);
    char text[8192] = "";
    FILE *to = fmemopen(text, sizeof text, "w");
    assert_non_null(to);
    assert_int_equal(summary_print(&s, to), 0);
    assert_int_equal(fclose(to), 0);
    assert_non_null(strstr(text, "\"delay_max\": 5"));
    assert_null(strstr(text, "\"terms\""));
    config_deinit(&c);
}

static void a_malformed_metrics_line_is_refused(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"\"node\":3", "\"node\":-3"},
        {"\"node\":3", "\"node\":4294967296"},
        {"\"node\":3", "\"node\":null"},
        {"\"node\":3", "\"knot\":3"},
        {"\"steps\":100", "\"steps\":\"100\""},
        {"\"loss\":", "\"loss\":true,\"l\":"},
        {"\"steps\":100", "\"steps\":100.5"},
        {"\"links\":4", "\"links\":4,\"links\":4"},
        {"}", ""},
        {"{", "["},
    };
    char text[1024] = "";
    struct metrics_line back;
    print_line(&rundir_sample_line, text, sizeof text);
    assert_int_equal(metrics_parse(text, &back), 0);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char changed[1200];
        const char *at = strstr(text, changes[i][0]);
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, changes[i][1],
                 at + strlen(changes[i][0]));
        if (metrics_parse(changed, &back) != ERR_FORMAT) fail_msg("taken: %s", changed);
    }
    assert_int_equal(metrics_parse("", &back), ERR_FORMAT);
    assert_int_equal(metrics_parse("[]", &back), ERR_FORMAT);
}

/* -- summary ----------------------------------------------------------------------------------- */

static void the_summary_has_its_fields_in_order(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "version",
        "command",
        "algorithm",
        "compress",
        "compress_by",
        "topology",
        "nodes",
        "task",
        "data",
        "classes",
        "split",
        "seed",
        "steps_total",
        "loss",
        "accuracy",
        "accuracy_min",
        "accuracy_alone",
        "accuracy_pooled",
        "evaluated_on",
        "consensus_distance",
        "spectral_gap",
        "bytes_sent",
        "model_transfers",
        "tokens_regenerated",
        "rebases",
        "duplicates_dropped",
        "exchanges_torn",
        "lost",
        "memory_per_agent_max",
        "wall_s",
        "stopped_by",
        "virtual_s",
        "trace_sha256",
    };
    const struct lost_node lost = {
        .node = 2, .how = "killed by signal 9", .time_s = 3, .steps = 40, .steps_handed_over = UINT64_MAX};
    const enum command commands[] = {COMMAND_UP, COMMAND_SIM};
    for (size_t k = 0; k < 2; k++) {
        struct config c;
        char text[8192] = "";
        rundir_make_config(commands[k], NULL, &c);
        struct summary s = rundir_sample_summary(&c, &lost);
        FILE *to = fmemopen(text, sizeof text, "w");
        assert_non_null(to);
        assert_int_equal(summary_print(&s, to), 0);
        assert_int_equal(fclose(to), 0);
        const char *at = text;
        size_t count = sizeof keys / sizeof keys[0] - (commands[k] == COMMAND_SIM ? 0 : 2);
        for (size_t i = 0; i < count; i++) {
            char quoted[64];
            snprintf(quoted, sizeof quoted, "\n  \"%s\": ", keys[i]);
            const char *found = strstr(at, quoted);
            if (found == NULL) fail_msg("%s is missing or out of order in %s", keys[i], text);
            at = found;
        }
        json_error_t error;
        json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &error);
        assert_non_null(o);
        assert_int_equal(json_object_size(o), count);
        json_decref(o);
        config_deinit(&c);
    }
}

static void unknown_values_are_null(void **state)
{
    (void)state;
    const struct lost_node lost = {
        .node = 2, .how = "killed by signal 9", .time_s = 3, .steps = 40, .steps_handed_over = UINT64_MAX};
    struct config c;
    char text[8192] = "";
    rundir_make_config(COMMAND_SIM, NULL, &c);
    free(c.data);
    c.data = strdup("caf\xe9"); /* not UTF-8: must not cost the summary */
    struct summary s = rundir_sample_summary(&c, &lost);
    s.trace_sha256 = NULL;
    FILE *to = fmemopen(text, sizeof text, "w");
    assert_non_null(to);
    assert_int_equal(summary_print(&s, to), 0);
    assert_int_equal(fclose(to), 0);
    json_error_t error;
    json_t *o = json_loads(text, 0, &error);
    assert_non_null(o);
    static const char *const nulls[] = {"accuracy_alone", "accuracy_pooled", "memory_per_agent_max",
                                        "trace_sha256"};
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++)
        assert_true(json_is_null(json_object_get(o, nulls[i])));
    assert_string_equal(json_string_value(json_object_get(o, "compress")), "none");
    assert_string_equal(json_string_value(json_object_get(o, "classes")), "9,4");
    assert_string_equal(json_string_value(json_object_get(o, "topology")), "regular:d=4");
    assert_string_equal(json_string_value(json_object_get(o, "data")), "caf?");
    assert_true(json_real_value(json_object_get(o, "accuracy")) == 0.8);
    const json_t *first = json_array_get(json_object_get(o, "lost"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "how")), "killed by signal 9");
    assert_int_equal(json_integer_value(json_object_get(first, "steps")), 40);
    assert_true(json_is_null(json_object_get(first, "steps_handed_over")));
    json_decref(o);
    config_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_metrics_line_reads_back_as_written),
        cmocka_unit_test(what_few_methods_count_is_left_out_while_it_is_0),
        cmocka_unit_test(the_state_of_the_checkpoints_is_told_where_some_are_kept),
        cmocka_unit_test(a_summary_counts_what_a_report_does),
        cmocka_unit_test(a_malformed_metrics_line_is_refused),
        cmocka_unit_test(the_summary_has_its_fields_in_order),
        cmocka_unit_test(unknown_values_are_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

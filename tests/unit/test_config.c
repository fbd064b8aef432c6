/* Goal: defaults follow the command and each other; every option reaches its field; a wrong command line is
 * refused with one line that names the option, the value and the remedy; help fits a screen.
 * Method: tables of command lines, for bad ones with the words that the error line must hold. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/config_fixture.h"

/* -- defaults ---------------------------------------------------------------------------------- */

static void defaults_follow_the_command(void **state)
{
    (void)state;
    struct config c;
    config_line_good(COMMAND_UP, "", &c);
    assert_int_equal(c.nodes, 8);
    assert_string_equal(c.algorithm->spec.name, "digest");
    assert_string_equal(c.topology.spec->name, "regular");
    assert_string_equal(c.task.spec->name, "softmax");
    assert_string_equal(c.data, "data/fashion-mnist");
    assert_string_equal(c.split.spec->name, "iid");
    assert_int_equal(c.steps, 2000);
    assert_true(c.baselines);
    assert_false(c.json);
    assert_int_equal(c.seed, 1);
    assert_true(isnan(c.target_loss) && isnan(c.target_accuracy));
    assert_true(c.time_s == 0 && c.report_every_s == 1);
    config_deinit(&c);
    config_line_good(COMMAND_SIM, "", &c);
    assert_int_equal(c.nodes, 16);
    assert_int_equal(c.steps, 0);
    assert_true(c.virtual_time_s == 1000 && c.report_every_s == 50);
    config_deinit(&c);
    config_line_good(COMMAND_AGENT, "-n 2", &c);
    assert_string_equal(c.listen, "127.0.0.1:0");
    assert_true(c.id == UINT64_MAX);
    assert_null(c.advertise);
    assert_false(c.baselines);
    config_deinit(&c);
}

static void the_default_topology_is_of_who_lives_where_that_fits(void **state)
{
    (void)state;
    static const struct {
        enum command command;
        const char *line, *topology;
    } rows[] = {
        {COMMAND_AGENT, "-n 6 --algorithm gossip", "overlay"},
        {COMMAND_UP, "-n 6 --algorithm walk", "overlay"},
        {COMMAND_DOCTOR, "-n 6 --algorithm gossip", "overlay"},
        {COMMAND_AGENT, "-n 5 --algorithm gossip", "complete"},
        {COMMAND_AGENT, "-n 6 --algorithm gossip:mode=sync", "regular:d=4"},
        {COMMAND_AGENT, "-n 6 --algorithm gossip --topology ring", "ring"},
        {COMMAND_UP, "-n 6 --algorithm digest", "regular:d=4"},
        {COMMAND_UP, "-n 6 --algorithm allreduce", "complete"},
        {COMMAND_SIM, "-n 6 --algorithm gossip", "regular:d=4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config c;
        char text[CHOICE_TEXT_MAX];
        config_line_good(rows[i].command, rows[i].line, &c);
        assert_string_equal(choice_print(&c.topology, text, sizeof text), rows[i].topology);
        config_deinit(&c);
    }
}

static void defaults_follow_other_options(void **state)
{
    (void)state;
    static const struct {
        const char *line, *topology, *step_size;
        uint32_t batch;
        uint64_t steps;
        double virtual_time_s, report_every_s;
    } cases[] = {
        {"-n 5", "complete", "constant:value=0.05", 32, 0, 1000, 50},
        {"-n 6", "regular:d=4", "constant:value=0.05", 32, 0, 1000, 50},
        {"-n 5 --task logistic", "complete", "inverse:scale=10,offset=100", 1, 0, 1000, 50},
        {"-n 5 --task quadratic", "complete", "constant:value=0.1", 0, 0, 1000, 50},
        {"-n 5 --task mlp --batch 7", "complete", "constant:value=0.05", 7, 0, 1000, 50},
        {"-n 5 --steps 10", "complete", "constant:value=0.05", 32, 10, 0, 1000},
        {"-n 5 --time 10", "complete", "constant:value=0.05", 32, 0, 0, 1000},
        {"-n 5 --virtual-time 200", "complete", "constant:value=0.05", 32, 0, 200, 10},
        {"-n 5 --virtual-time 200 --report-every 3", "complete", "constant:value=0.05", 32, 0, 200, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c;
        char text[CHOICE_TEXT_MAX];
        config_line_good(COMMAND_SIM, cases[i].line, &c);
        assert_string_equal(choice_print(&c.topology, text, sizeof text), cases[i].topology);
        assert_string_equal(choice_print(&c.step_size, text, sizeof text), cases[i].step_size);
        assert_int_equal(c.batch, cases[i].batch);
        assert_int_equal(c.steps, cases[i].steps);
        assert_true(c.virtual_time_s == cases[i].virtual_time_s);
        assert_true(c.report_every_s == cases[i].report_every_s);
        config_deinit(&c);
    }
}

/* -- command lines ----------------------------------------------------------------------------- */

static void a_value_may_follow_in_every_usual_form(void **state)
{
    (void)state;
    static const char *const lines[] = {"-n 12", "-n12", "--nodes 12", "--nodes=12", "--nodes 3 -n 12"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct config c;
        config_line_good(COMMAND_SIM, lines[i], &c);
        assert_int_equal(c.nodes, 12);
        config_deinit(&c);
    }
}

static void every_option_reaches_its_field(void **state)
{
    (void)state;
    struct config c;
    config_line_good(
        COMMAND_SIM,
        "-n 20 --topology er:p=0.5 --task mlp:hidden=64 --data some/where --split label:k=2 --classes 9,4 "
        "--features 300 --holdout 0.25 --seed 18446744073709551614 --batch 16 --momentum 0.9 "
        "--step-size cosine:steps=10 --baselines off --steps 7 --time 2min --virtual-time 500ms "
        "--target-loss -0.5 --target-accuracy 1 --latency fixed:delay=2ms --step-time exp:mean=2s "
        "--patience 3s --out some/dir --report-every 250ms --json --algorithm choco --compress "
        "topk:fraction=0.5",
        &c);
    assert_int_equal(c.nodes, 20);
    assert_true(choice_number(&c.topology, "p") == 0.5);
    assert_string_equal(choice_text(&c.task, "hidden"), "64");
    assert_string_equal(c.data, "some/where");
    assert_string_equal(c.compress.spec->name, "topk");
    assert_true(choice_number(&c.compress, "fraction") == 0.5);
    assert_int_equal(choice_integer(&c.split, "k"), 2);
    assert_string_equal(c.classes, "9,4");
    assert_int_equal(c.features, 300);
    assert_true(c.holdout == 0.25 && c.momentum == 0.9);
    assert_true(c.seed == UINT64_MAX - 1);
    assert_int_equal(c.batch, 16);
    assert_string_equal(c.step_size.spec->name, "cosine");
    assert_false(c.baselines);
    assert_int_equal(c.steps, 7);
    assert_true(c.time_s == 120 && c.virtual_time_s == 0.5);
    assert_true(c.target_loss == -0.5 && c.target_accuracy == 1);
    assert_int_equal(choice_time_us(&c.latency, "delay"), 2000);
    assert_int_equal(choice_time_us(&c.step_time, "mean"), 2000000);
    assert_true(c.patience_s == 3 && c.report_every_s == 0.25);
    assert_string_equal(c.out, "some/dir");
    assert_true(c.json);
    config_deinit(&c);
    config_line_good(COMMAND_AGENT,
                     "-n 3 --listen [::]:7946 --advertise host.example:1 --id 17 --launched "
                     "--join a:1,b:2 --join 10.0.0.5:65535",
                     &c);
    assert_string_equal(c.listen, "[::]:7946");
    assert_string_equal(c.advertise, "host.example:1");
    assert_int_equal(c.id, 17);
    assert_true(c.launched);
    assert_int_equal(c.join_count, 3);
    assert_string_equal(c.join[0], "a:1");
    assert_string_equal(c.join[2], "10.0.0.5:65535");
    config_deinit(&c);
}

static void a_keepers_options_are_taken_and_it_makes_no_steps(void **state)
{
    (void)state;
    static const char *const lines[] = {"-n 2 --keeper", "-n 1 --keeper --join a:1",
                                        "-n 2 --keeper --steps 0",
                                        "-n 2 --keeper --time 5 --keep-every 10s --baselines off"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct config c;
        config_line_good(COMMAND_AGENT, lines[i], &c);
        assert_true(c.keeper && c.steps == 0);
        assert_true(c.keep_every_s == (i == 3 ? 10 : 30));
        config_deinit(&c);
    }
}

static void bad_lines_are_refused_with_option_value_and_remedy(void **state)
{
    (void)state;
    static const struct {
        enum command command;
        const char *line;
        const char *words[4];
    } cases[] = {
        {COMMAND_UP, "--nodse 3", {"--nodse", "unknown option", "--nodes", "gadabout up --help"}},
        {COMMAND_UP, "--zzzzzzzzzz 3", {"--zzzzzzzzzz", "unknown option", "--help"}},
        {COMMAND_UP, "--latency fixed", {"--latency", "gadabout up", "gadabout sim"}},
        {COMMAND_SIM, "--launched", {"--launched", "gadabout agent"}},
        {COMMAND_UP, "-x 3", {"--x", "unknown option"}},
        {COMMAND_UP, "extra", {"'extra'", "--"}},
        {COMMAND_UP, "-n 8 -", {"'-'"}},
        {COMMAND_UP, "--nodes", {"--nodes", "no value", "--nodes 8"}},
        {COMMAND_UP, "--data --json", {"--data", "no value", "data/w8a"}},
        {COMMAND_UP, "--data=", {"--data", "no value"}},
        {COMMAND_UP, "-n 0", {"--nodes", "'0'", "1 to 65536"}},
        {COMMAND_UP, "-n -3", {"--nodes", "'-3'", "1 to 65536"}},
        {COMMAND_UP, "-n 8x", {"--nodes", "'8x'", "whole number"}},
        {COMMAND_SIM, "-n 65537", {"--nodes", "'65537'", "65536"}},
        {COMMAND_UP, "-n 5000", {"--nodes", "'5000'", "1024", "gadabout sim"}},
        {COMMAND_UP, "--seed 99999999999999999999", {"--seed", "'99999999999999999999'", "whole number"}},
        {COMMAND_UP, "--seed 1.5", {"--seed", "'1.5'", "whole number"}},
        {COMMAND_UP, "--momentum 1", {"--momentum", "'1'", "below 1", "0.9"}},
        {COMMAND_UP, "--momentum nan", {"--momentum", "'nan'", "number"}},
        {COMMAND_UP, "--holdout 1.0", {"--holdout", "'1.0'", "below 1"}},
        {COMMAND_UP, "--target-accuracy 80", {"--target-accuracy", "'80'", "above 0", "at most 1"}},
        {COMMAND_UP, "--target-accuracy 0", {"--target-accuracy", "'0'", "above 0"}},
        {COMMAND_UP, "--target-loss inf", {"--target-loss", "'inf'"}},
        {COMMAND_UP, "--time -1s", {"--time", "'-1s'", "above 0"}},
        {COMMAND_UP, "--time 0", {"--time", "'0'", "above 0"}},
        {COMMAND_UP, "--time 5parsecs", {"--time", "'5parsecs'", "min", "60s"}},
        {COMMAND_UP, "--baselines maybe", {"--baselines", "'maybe'", "on or off"}},
        {COMMAND_UP, "--json=perhaps", {"--json", "'perhaps'", "on or off"}},
        {COMMAND_UP, "--topology rong", {"--topology", "rong", "ring"}},
        {COMMAND_UP, "--topology regular:e=4", {"--topology", "'e'", "d"}},
        {COMMAND_UP, "--topology regular:d=8", {"topology", "8"}},
        {COMMAND_UP, "-n 7 --topology regular:d=3", {"topology", "7", "3"}},
        {COMMAND_SIM, "-n 7 --topology torus", {"torus", "7"}},
        {COMMAND_SIM, "--algorithm dgd --compress topk", {"--compress", "'topk'", "dgd", "delicoco, choco"}},
        {COMMAND_AGENT, "-n 2 --algorithm walk --compress topk", {"--compress", "walk", "int8"}},
        {COMMAND_UP, "--algorithm dgd --compress-by tensor", {"--compress-by", "'tensor'", "dgd", "choco"}},
        {COMMAND_UP, "--compress topq", {"--compress", "topq", "'topk'"}},
        {COMMAND_UP, "--algorithm gosip", {"--algorithm", "gosip", "gossip"}},
        {COMMAND_UP, "--task softmex", {"--task", "softmex", "softmax"}},
        {COMMAND_UP, "--split label:k=0", {"--split", "k=0"}},
        {COMMAND_UP, "--step-size constant:value=fast", {"--step-size", "value=fast"}},
        {COMMAND_SIM, "--latency exp:mean=soon", {"--latency", "mean=soon"}},
        {COMMAND_AGENT, "-n 2 --keeper --steps 5", {"--steps", "--keeper", "leave it out"}},
        {COMMAND_AGENT, "-n 2 --keeper --launched", {"--launched", "--keeper", "by hand"}},
        {COMMAND_AGENT, "-n 2 --keeper --pace 9", {"--pace", "--keeper", "leave it out"}},
        {COMMAND_AGENT, "-n 2 --keeper --baselines on", {"--baselines", "--keeper", "--baselines off"}},
        {COMMAND_AGENT, "-n 2 --keeper --target-loss 1", {"--target-loss", "--keeper", "the others"}},
        {COMMAND_AGENT,
         "-n 2 --keeper --target-accuracy 0.5",
         {"--target-accuracy", "--keeper", "the others"}},
        {COMMAND_UP, "--keeper", {"--keeper", "gadabout agent"}},
        {COMMAND_AGENT, "-n 2 --keeper --keep-every 0", {"--keep-every", "above 0"}},
        {COMMAND_AGENT, "", {"--nodes", "-n N", "--join"}},
        {COMMAND_AGENT, "--join a:1", {"--nodes", "-n N"}},
        {COMMAND_AGENT, "-n 1 --join a:1", {"--join", "a:1", "--nodes 1", "-n 8"}},
        {COMMAND_AGENT, "-n 2 --join here", {"--join", "'here'", "host:port"}},
        {COMMAND_AGENT, "-n 2 --join a:1,,b:2", {"--join", "''", "host:port"}},
        {COMMAND_AGENT, "-n 2 --join a:1,b:0", {"--join", "'b:0'", "port 0"}},
        {COMMAND_AGENT, "-n 2 --join 0.0.0.0:7946", {"--join", "'0.0.0.0:7946'", "all addresses"}},
        {COMMAND_AGENT, "-n 2 --advertise a:00", {"--advertise", "'a:00'", "port 0"}},
        {COMMAND_AGENT, "-n 2 --advertise 0.0.0.0:5", {"--advertise", "'0.0.0.0:5'", "all addresses"}},
        {COMMAND_AGENT, "-n 2 --advertise [0::0]:5", {"--advertise", "'[0::0]:5'", "all addresses"}},
        {COMMAND_AGENT, "-n 2 --listen 127.0.0.1", {"--listen", "'127.0.0.1'", "host:port"}},
        {COMMAND_AGENT, "-n 2 --listen 127.0.0.1:70000", {"--listen", "70000", "65535"}},
        {COMMAND_AGENT, "-n 2 --listen ::1:80", {"--listen", "'::1:80'", "host:port"}},
        {COMMAND_AGENT, "-n 2 --id 18446744073709551615", {"--id", "18446744073709551615"}},
        {COMMAND_AGENT,
         "-n 2 --join a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,a:10,a:11,a:12,a:13,a:14,a:15,a:16,a:17",
         {"--join", "a:17", "16"}},
        {COMMAND_EVAL, "", {"--model", "missing", "model.safetensors"}},
        {COMMAND_EVAL, "--model m --nodes 3", {"--nodes", "gadabout eval"}},
        {COMMAND_ALGORITHMS, "--seed 1", {"--seed", "gadabout algorithms"}},
        {COMMAND_UP, "--config /nowhere/run.yml", {"--config", "/nowhere/run.yml", "No such file"}},
        {COMMAND_UP, "--config /tmp", {"--config", "/tmp"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c;
        struct err_text why;
        int err = config_line(cases[i].command, cases[i].line, &c, &why);
        if (err >= 0) fail_msg("'%s' was taken", cases[i].line);
        config_assert_words(why.text, cases[i].words, cases[i].line);
    }
}

static void an_overlong_value_is_refused(void **state)
{
    (void)state;
    static char value[CONFIG_VALUE_MAX];
    memset(value, 'x', sizeof value - 1);
    char *argv[] = {"up", "--data", value};
    struct config c;
    struct err_text why;
    assert_int_equal(config_parse(COMMAND_UP, 3, argv, &c, &why), ERR_USAGE);
    config_assert_words(why.text, (const char *const[]){"--data", "too long", "8191", NULL}, "overlong");
}

/* -- help -------------------------------------------------------------------------------------- */

static void help_fits_a_screen_and_its_example_works(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        enum command command = (enum command)i;
        char text[LINE_MAX_BYTES] = "", example[LINE_MAX_BYTES] = "", prefix[64];
        FILE *to = fmemopen(text, sizeof text, "w");
        assert_non_null(to);
        config_print_help(command, false, to);
        assert_int_equal(fclose(to), 0);
        const char *from = strstr(text, "Example:\n");
        assert_non_null(from);
        snprintf(example, sizeof example, "%s", from + strlen("Example:\n"));
        for (char *c = strpbrk(example, "\\\n"); c != NULL; c = strpbrk(c, "\\\n")) *c = ' ';
        int lines = 0;
        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++) {
            if (strlen(line) > 80) fail_msg("over 80 columns: %s", line);
        }
        assert_in_range(lines, 5, 37); /* strtok skips at most three blank lines */
        snprintf(prefix, sizeof prefix, "  gadabout %s ", command_name(command));
        assert_true(strncmp(example, prefix, strlen(prefix)) == 0);
        struct config c;
        config_line_good(command, example + strlen(prefix), &c);
        config_deinit(&c);
    }
}

/* Goal: no option is hidden for good. */
static void all_help_names_every_option(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        char text[LINE_MAX_BYTES] = "", word[64];
        FILE *to = fmemopen(text, sizeof text, "w");
        assert_non_null(to);
        config_print_help((enum command)i, true, to);
        assert_int_equal(fclose(to), 0);
        for (size_t k = 0; k < config_option_count; k++) {
            const struct config_option *o = &config_options[k];
            unsigned unseen = OPTION_HIDDEN | OPTION_BARE;
            if ((o->commands & (1u << i)) == 0 || (o->properties & unseen) != 0) continue;
            snprintf(word, sizeof word, "--%s ", o->name);
            if (strstr(text, word) == NULL)
                fail_msg("%s --help all lacks %s", command_name((enum command)i), word);
        }
    }
}

static void help_wins_over_errors(void **state)
{
    (void)state;
    static const char *const lines[] = {"--help", "-h", "--nodes zero --help"};
    FILE *quiet = fopen("/dev/null", "w");
    assert_non_null(quiet);
    FILE *kept = stdout;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct config c;
        struct err_text why;
        stdout = quiet;
        int err = config_line(COMMAND_SIM, lines[i], &c, &why);
        stdout = kept;
        assert_int_equal(err, CONFIG_HELP);
    }
    fclose(quiet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_follow_the_command),
        cmocka_unit_test(the_default_topology_is_of_who_lives_where_that_fits),
        cmocka_unit_test(defaults_follow_other_options),
        cmocka_unit_test(a_value_may_follow_in_every_usual_form),
        cmocka_unit_test(every_option_reaches_its_field),
        cmocka_unit_test(a_keepers_options_are_taken_and_it_makes_no_steps),
        cmocka_unit_test(bad_lines_are_refused_with_option_value_and_remedy),
        cmocka_unit_test(an_overlong_value_is_refused),
        cmocka_unit_test(help_fits_a_screen_and_its_example_works),
        cmocka_unit_test(all_help_names_every_option),
        cmocka_unit_test(help_wins_over_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a YAML file and the environment mean the same as the command line, later sources override earlier
 * ones, errors name file and line, and what is written reads back as the same.
 * Method: tables of files, for bad ones with the words that the error line must hold; damaged files; round
 * trips through config.yml and through the arguments that `up` gives to agents. Planted: a config with one
 * field changed does not compare equal. */
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

#include "base/prng.h"
#include "tests/unit/config_fixture.h"

/* -- YAML -------------------------------------------------------------------------------------- */

static void a_file_says_the_same_as_the_command_line(void **state)
{
    struct config_fixture *f = *state;
    char line[256];
    struct config from_file, from_line;
    config_write_text(
        f->file, "# a comment\nversion: 9.9\nnodes: 10\ntopology: er:p=0.5\nstep_size: constant:value=0.5\n"
                 "target_accuracy: 0.75\nbaselines: false\nseed: '77'\nlatency: exp:mean=1s\n");
    snprintf(line, sizeof line, "--config %s", f->file);
    config_line_good(COMMAND_SIM, line, &from_file);
    config_line_good(COMMAND_SIM,
                     "-n 10 --topology er:p=0.5 --step-size constant:value=0.5 --target-accuracy 0.75 "
                     "--baselines off --seed 77 --latency exp:mean=1s",
                     &from_line);
    config_assert_same(&from_file, &from_line);
    config_deinit(&from_file);
    config_line_good(COMMAND_UP, line, &from_file); /* `latency` belongs to sim and is skipped */
    assert_int_equal(from_file.nodes, 10);
    config_deinit(&from_file);
    config_deinit(&from_line);
}

static void joins_may_be_a_list_or_one_text(void **state)
{
    struct config_fixture *f = *state;
    static const char *const texts[] = {"nodes: 3\njoin: [a:1, b:2]\n", "nodes: 3\njoin:\n  - a:1\n  - b:2\n",
                                        "nodes: 3\njoin: a:1,b:2\n"};
    char line[256];
    snprintf(line, sizeof line, "--config %s", f->file);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config c;
        config_write_text(f->file, texts[i]);
        config_line_good(COMMAND_AGENT, line, &c);
        assert_int_equal(c.join_count, 2);
        assert_string_equal(c.join[1], "b:2");
        config_deinit(&c);
    }
}

static void empty_files_say_nothing(void **state)
{
    struct config_fixture *f = *state;
    static const char *const texts[] = {"", "# only a comment\n", "---\n", "{}\n"};
    char line[256];
    snprintf(line, sizeof line, "--config %s", f->file);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config c;
        config_write_text(f->file, texts[i]);
        config_line_good(COMMAND_UP, line, &c);
        assert_int_equal(c.nodes, 8);
        config_deinit(&c);
    }
}

static void bad_files_are_refused_with_file_and_line(void **state)
{
    struct config_fixture *f = *state;
    static const struct {
        const char *text;
        const char *words[4];
    } cases[] = {
        {"nodes: 8\n\nsede: 1\n", {"run.yml:3:", "'sede'", "'seed'"}},
        {"nodes: 8\nstep-size: constant\n", {"run.yml:2:", "'step-size'", "'step_size'"}},
        {"\"se\\ned\": 1\n", {"run.yml:1:", "'se ed'", "'seed'"}},
        {"seed: \"1\\n\\e[2J\"\n", {"run.yml:1: seed:", "'1 ?[2J'", "whole number"}},
        {"config: other.yml\n", {"run.yml:1:", "'config'"}},
        {"launched: on\n", {"run.yml:1:", "'launched'"}},
        {"seed: 1\nnodes: 8\nseed: 2\n", {"run.yml:3:", "'seed'", "twice", "line 1"}},
        {"seed: 1\nlatency: fixed\nlatency: fixed\n", {"run.yml:3:", "'latency'", "twice", "line 2"}},
        {"seed: 1\nnodes: many\n", {"run.yml:2: nodes:", "'many'", "whole number"}},
        {"seed: 1\nalgorithm: gosip\n", {"run.yml:2: algorithm:", "gosip", "gossip"}},
        {"topology: rong\n", {"run.yml:1: topology:", "rong", "ring"}},
        {"topology:\n  er:\n    p: 0.5\n", {"run.yml:2:", "topology", "one text"}},
        {"seed: [1, 2]\n", {"run.yml:1:", "seed", "one text"}},
        {"seed:\n", {"run.yml:1: seed:", "no value"}},
        {"join: [[a:1]]\n", {"run.yml:1:", "join"}},
        {"- seed\n- 1\n", {"run.yml:1:", "key: value"}},
        {"just words\n", {"run.yml:1:", "key: value"}},
        {"[a]: 1\n", {"run.yml:1:", "key: value"}},
        {"seed: *other\n", {"run.yml:1:", "one text"}},
        {"seed: 1\nnodes: 'eight\n", {"run.yml:", "not valid YAML"}},
        {"seed: 1\n\tnodes: 8\n", {"run.yml:2:", "not valid YAML"}},
        {"seed: 1\n---\nseed: 2\n", {"run.yml:2:", "second document"}},
        {"seed: \xff\xfe\n", {"run.yml:", "not valid YAML"}},
    };
    char line[256];
    snprintf(line, sizeof line, "--config %s", f->file);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c;
        struct err_text why;
        config_write_text(f->file, cases[i].text);
        int err =
            config_line(strstr(cases[i].text, "join") != NULL ? COMMAND_AGENT : COMMAND_UP, line, &c, &why);
        if (err >= 0) fail_msg("'%s' was taken", cases[i].text);
        config_assert_words(why.text, cases[i].words, cases[i].text);
    }
}

/* Bytes replaced, dropped and doubled: taken or refused with one line, never anything else (the sanitizers
 * watch). */
static void damaged_files_are_taken_or_refused_with_a_line(void **state)
{
    struct config_fixture *f = *state;
    static const char good[] =
        "nodes: 3\njoin: [a:1, \"b:2\"]\nseed: 5 # five\ntask: mlp:hidden=5\nclasses: '9,4'\n";
    char line[256];
    int refused = 0;
    snprintf(line, sizeof line, "--config %s", f->file);
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct prng random;
        prng_seed(&random, seed);
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        for (uint32_t changes = 1 + prng_below(&random, 4); changes > 0; changes--) {
            size_t at = prng_below(&random, sizeof good - 2);
            if (prng_below(&random, 2) == 0)
                text[at] = (char)(1 + prng_below(&random, 255));
            else
                memmove(text + at, text + at + 1, strlen(text + at));
        }
        config_write_text(f->file, text);
        struct config c;
        struct err_text why;
        int err = config_line(COMMAND_AGENT, line, &c, &why);
        if (err == 0) config_deinit(&c);
        if (err != 0 && why.text[0] == '\0') fail_msg("refused without a line: %s", text);
        if (strchr(why.text, '\n') != NULL) fail_msg("more than a line: %s", why.text);
        refused += err != 0;
    }
    assert_in_range(refused, 150, 599);
}

static void an_oversized_file_is_refused(void **state)
{
    struct config_fixture *f = *state;
    FILE *out = fopen(f->file, "w");
    assert_non_null(out);
    for (size_t i = 0; i <= CONFIG_FILE_MAX / 2; i++) fputs("#\n", out);
    assert_int_equal(fclose(out), 0);
    char line[256];
    struct config c;
    struct err_text why;
    snprintf(line, sizeof line, "--config %s", f->file);
    assert_int_equal(config_line(COMMAND_UP, line, &c, &why), ERR_LIMIT);
    config_assert_words(why.text, (const char *const[]){"--config", f->file, "bytes", NULL}, "oversized");
}

/* -- environment and precedence ---------------------------------------------------------------- */

static void later_sources_override_earlier_ones(void **state)
{
    struct config_fixture *f = *state;
    char line[256];
    struct config c;
    config_write_text(f->file, "nodes: 10\nseed: 10\nbatch: 10\n");
    setenv("GADABOUT_SEED", "20", 1);
    setenv("GADABOUT_BATCH", "20", 1);
    setenv("GADABOUT_STEP_SIZE", "constant:value=0.25", 1);
    setenv("GADABOUT_MOMENTUM", "", 1);             /* set but empty: as if unset */
    setenv("GADABOUT_SERVICE_HOST", "10.0.0.1", 1); /* set by platforms: names no option */
    snprintf(line, sizeof line, "--batch 30 --config %s", f->file);
    config_line_good(COMMAND_SIM, line, &c);
    assert_int_equal(c.nodes, 10);
    assert_int_equal(c.seed, 20);
    assert_int_equal(c.batch, 30);
    assert_true(choice_number(&c.step_size, "value") == 0.25);
    assert_true(c.momentum == 0);
    config_deinit(&c);
    setenv("GADABOUT_CONFIG", f->file, 1);
    config_line_good(COMMAND_SIM, "--seed 40", &c);
    assert_int_equal(c.nodes, 10);
    assert_int_equal(c.seed, 40);
    config_deinit(&c);
    config_line_good(COMMAND_AGENT, "--launched -n 2", &c); /* was told everything: no environment */
    assert_int_equal(c.seed, 1);
    config_deinit(&c);
    static const char *const names[] = {"SEED", "BATCH", "STEP_SIZE", "MOMENTUM", "SERVICE_HOST", "CONFIG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "GADABOUT_%s", names[i]);
        unsetenv(name);
    }
}

static void a_bad_variable_is_named(void **state)
{
    (void)state;
    struct config c;
    struct err_text why;
    setenv("GADABOUT_TARGET_ACCURACY", "80", 1);
    assert_int_equal(config_line(COMMAND_UP, "", &c, &why), ERR_USAGE);
    unsetenv("GADABOUT_TARGET_ACCURACY");
    config_assert_words(
        why.text, (const char *const[]){"GADABOUT_TARGET_ACCURACY", "'80'", "at most 1", NULL}, "variable");
}

static void a_later_list_of_joins_replaces_an_earlier_one(void **state)
{
    struct config_fixture *f = *state;
    char line[256];
    struct config c;
    config_write_text(f->file, "nodes: 3\njoin: [a:1, b:2]\n");
    setenv("GADABOUT_JOIN", "c:3", 1);
    snprintf(line, sizeof line, "--config %s", f->file);
    config_line_good(COMMAND_AGENT, line, &c);
    assert_int_equal(c.join_count, 1);
    assert_string_equal(c.join[0], "c:3");
    config_deinit(&c);
    snprintf(line, sizeof line, "--config %s --join d:4 --join e:5", f->file);
    config_line_good(COMMAND_AGENT, line, &c);
    unsetenv("GADABOUT_JOIN");
    assert_int_equal(c.join_count, 2);
    assert_string_equal(c.join[0], "d:4");
    assert_string_equal(c.join[1], "e:5");
    config_deinit(&c);
}

/* -- round trips ------------------------------------------------------------------------------- */

static void config_yml_reads_back_as_the_same(void **state)
{
    struct config_fixture *f = *state;
    static const struct {
        enum command command;
        const char *line;
    } cases[] = {
        {COMMAND_UP, ""},
        {COMMAND_UP, "-n 4 --task logistic --time 90 --target-loss 0.1 --momentum 0.3333333333333333"},
        {COMMAND_UP, "--steps 0 --seed 18446744073709551614 --classes 9,4 --data #odd:'name\"&*{}%@"},
        {COMMAND_SIM, "-n 100 --topology er:p=0.1 --latency uniform:low=1us,high=3ms --virtual-time 0.1"},
        {COMMAND_SIM, "--steps 50 --split sizes:ratio=2.04 --report-every 0.7ms --patience 1us"},
        {COMMAND_AGENT, "-n 3 --join a:1,[::1]:2 --listen 0.0.0.0:7946 --id 0 --advertise x:1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config first, second;
        char line[256];
        config_line_good(cases[i].command, cases[i].line, &first);
        FILE *out = fopen(f->file, "w");
        assert_non_null(out);
        assert_int_equal(config_write_yaml(&first, out), 0);
        assert_int_equal(fclose(out), 0);
        snprintf(line, sizeof line, "--config %s", f->file);
        config_line_good(cases[i].command, line, &second);
        config_assert_same(&first, &second);
        assert_true(first.momentum == second.momentum && first.report_every_s == second.report_every_s);
        assert_true(first.virtual_time_s == second.virtual_time_s && first.patience_s == second.patience_s);
        config_deinit(&first);
        config_deinit(&second);
    }
}

static void agents_get_the_same_experiment(void **state)
{
    (void)state;
    struct config up, agent;
    config_line_good(COMMAND_UP,
                     "-n 6 --task logistic --time 30 --seed 5 --momentum 0.1 --out x --json "
                     "--target-loss 0.5 --report-every 2s",
                     &up);
    size_t count;
    char **arguments = config_experiment_arguments(&up, &count);
    assert_null(arguments[count]);
    char *argv[ARGUMENT_MAX] = {"agent"};
    assert_true(count + 2 < ARGUMENT_MAX);
    memcpy(argv + 1, arguments, count * sizeof *argv);
    struct err_text why;
    int err = config_parse(COMMAND_AGENT, (int)count + 1, argv, &agent, &why);
    if (err != 0) fail_msg("%s", why.text);
    assert_int_equal(agent.nodes, 6);
    assert_int_equal(agent.steps, 0); /* `up` stops by time: the agents must not stop by a default */
    assert_true(agent.report_every_s == 2);
    assert_null(agent.out);
    assert_true(isnan(agent.target_loss) && agent.time_s == 0);
    assert_false(agent.json);
    char left[2048], right[2048];
    assert_string_equal(choice_print(&up.task, left, sizeof left),
                        choice_print(&agent.task, right, sizeof right));
    assert_string_equal(choice_print(&up.step_size, left, sizeof left),
                        choice_print(&agent.step_size, right, sizeof right));
    assert_string_equal(choice_print(&up.topology, left, sizeof left),
                        choice_print(&agent.topology, right, sizeof right));
    assert_int_equal(agent.batch, up.batch);
    assert_true(agent.momentum == up.momentum && agent.seed == up.seed);
    for (size_t i = 0; i < count; i++) free(arguments[i]);
    free(arguments);
    config_deinit(&up);
    config_deinit(&agent);
}

static void a_planted_difference_is_seen(void **state)
{
    (void)state;
    struct config a, b;
    char left[LINE_MAX_BYTES], right[LINE_MAX_BYTES];
    config_line_good(COMMAND_UP, "", &a);
    config_line_good(COMMAND_UP, "--holdout 1e-9", &b);
    config_describe(&a, left, sizeof left);
    config_describe(&b, right, sizeof right);
    assert_string_not_equal(left, right);
    config_deinit(&a);
    config_deinit(&b);
}

static void eval_takes_the_config_beside_the_model(void **state)
{
    struct config_fixture *f = *state;
    char line[256], beside[96];
    struct config c;
    snprintf(beside, sizeof beside, "%s/config.yml", f->folder);
    config_write_text(beside,
                      "command: sim\nnodes: 40\ntask: mlp:hidden=5\ndata: some/set\nlatency: fixed\n");
    snprintf(line, sizeof line, "--model %s/model.safetensors --data other/set", f->folder);
    config_line_good(COMMAND_EVAL, line, &c);
    assert_string_equal(c.task.spec->name, "mlp");
    assert_string_equal(c.data, "other/set");
    assert_int_equal(c.nodes, 1);
    config_deinit(&c);
    config_write_text(f->file, "data: third/set\n");
    snprintf(line, sizeof line, "--model %s/model.safetensors --config %s", f->folder, f->file);
    config_line_good(COMMAND_EVAL, line, &c);
    assert_string_equal(c.task.spec->name, "softmax");
    assert_string_equal(c.data, "third/set");
    config_deinit(&c);
    unlink(beside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_says_the_same_as_the_command_line, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test_setup_teardown(joins_may_be_a_list_or_one_text, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test_setup_teardown(empty_files_say_nothing, config_folder_make, config_folder_remove),
        cmocka_unit_test_setup_teardown(bad_files_are_refused_with_file_and_line, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test_setup_teardown(damaged_files_are_taken_or_refused_with_a_line, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test_setup_teardown(an_oversized_file_is_refused, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test_setup_teardown(later_sources_override_earlier_ones, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test(a_bad_variable_is_named),
        cmocka_unit_test_setup_teardown(a_later_list_of_joins_replaces_an_earlier_one, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test_setup_teardown(config_yml_reads_back_as_the_same, config_folder_make,
                                        config_folder_remove),
        cmocka_unit_test(agents_get_the_same_experiment),
        cmocka_unit_test(a_planted_difference_is_seen),
        cmocka_unit_test_setup_teardown(eval_takes_the_config_beside_the_model, config_folder_make,
                                        config_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

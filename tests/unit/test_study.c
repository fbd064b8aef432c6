/* Goal: claims are judged by what was measured, and the files say the same: a claim that does not hold is told as
 * such and gives its own exit status; a study that is not complete is not judged.
 *
 * Method: a study of the test's own, first with curves made by hand, then run: five small simulations in processes
 * of their own, one of which diverges in a planted variant. Files are read back field by field. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/command/commands.h"
#include "agent/reproduce/study.h"
#include "base/check.h"

/* -- a study ----------------------------------------------------------------------------------- */

static bool first_is_lower(const struct study_results *r, char *measured, size_t size)
{
    double a = curve_last(study_find(r, "one", "plain"), COLUMN_LOSS);
    double b = curve_last(study_find(r, "one", "said, \"so\""), COLUMN_LOSS);
    snprintf(measured, size, "%g against %g", a, b);
    return a < b;
}

static bool never(const struct study_results *r, char *measured, size_t size)
{
    (void)r;
    snprintf(measured, size, "planted");
    return false;
}

static double twice_the_loss(const struct study_results *r, size_t run)
{
    return run == 2 ? (double)NAN : 2 * curve_last(&r->curve[run], COLUMN_LOSS);
}

static const struct study_run runs[] = {
    {"one", "plain", "--algorithm gossip", "--steps 20"},
    {"one", "said, \"so\"", "--algorithm local --step-size constant:value=0.001", NULL},
    {"two", "plain", "--algorithm local:every=5", NULL},
};
static const struct study_claim claims[] = {
    {"first is lower", "as published", first_is_lower},
    {"never", "nowhere", never},
};
static const struct study_plot plots[] = {
    {"one", "it's one", COLUMN_VIRTUAL_S, COLUMN_LOSS, 0, NULL, false, false},
    {"two", "two", COLUMN_BYTES, COLUMN_LOSS, 0, NULL, true, true},
};

static struct study make_study(size_t claim_count)
{
    return (struct study){
        .name = "test",
        .title = "a \"title\"",
        .source = "nobody",
        .setting = "none\n",
        .common = "-n 4 --topology ring --data mixture:rows=200 --steps 40 --report-every 10 --latency fixed",
        .quick = "--steps 30",
        .run = runs,
        .run_count = 3,
        .claim = claims,
        .claim_count = claim_count,
        .plot = plots,
        .plot_count = 2,
        .measure = {{"double, loss", twice_the_loss}},
    };
}

static void add_point(struct study_curve *c, double virtual_s, double bytes, double loss)
{
    struct study_point p = {{0}};
    p.value[COLUMN_VIRTUAL_S] = virtual_s;
    p.value[COLUMN_BYTES] = bytes;
    p.value[COLUMN_TRANSFERS] = bytes;
    p.value[COLUMN_LOSS] = loss;
    p.value[COLUMN_GRADIENT] = NAN;
    study_curve_add(c, &p);
}

/* Curves of 2, 3 and 1 points, all complete. */
static void fill(struct study_results *r, const struct study *s)
{
    study_results_init(r, s, false);
    for (size_t i = 0; i < s->run_count; i++) r->curve[i].state = RUN_DONE;
    add_point(&r->curve[0], 1, 100, 0.75);
    add_point(&r->curve[0], 2, 200, 0.25);
    for (int k = 1; k <= 3; k++) add_point(&r->curve[1], k, 1000 * k, 2.0 / k);
    add_point(&r->curve[2], 1, 5, 0.5);
}

static void write_to(char *text, size_t size, int (*write)(const struct study_results *r, FILE *to),
                     const struct study_results *r)
{
    FILE *to = fmemopen(text, size, "w");
    assert_non_null(to);
    assert_int_equal(write(r, to), 0);
    assert_int_equal(fclose(to), 0);
}

/* -- curves ------------------------------------------------------------------------------------ */

static void curves_answer_questions(void **state)
{
    (void)state;
    struct study_curve c = {0};
    assert_true(isnan(curve_last(&c, COLUMN_LOSS)) && isnan(curve_tail(&c, 0.5, COLUMN_LOSS)));
    assert_true(isnan(curve_at_loss(&c, 1, COLUMN_BYTES)));
    for (int k = 1; k <= 10; k++) add_point(&c, 10 * k, k * k, 1.0 / k);
    assert_true(curve_last(&c, COLUMN_BYTES) == 100);
    assert_true(curve_at_loss(&c, 0.25, COLUMN_BYTES) == 16);
    assert_true(curve_at_loss(&c, 0.26, COLUMN_VIRTUAL_S) == 40);
    assert_true(isnan(curve_at_loss(&c, 0.05, COLUMN_BYTES)));
    assert_true(curve_at_time(&c, 30, COLUMN_BYTES) == 9);
    assert_true(curve_at_time(&c, 31, COLUMN_BYTES) == 16);
    assert_true(curve_at_time(&c, 1e9, COLUMN_BYTES) == 100);
    assert_true(curve_tail(&c, 0.2, COLUMN_VIRTUAL_S) == 95);
    assert_true(curve_tail(&c, 0, COLUMN_VIRTUAL_S) == 100); /* at least one point */
    assert_true(curve_tail(&c, 1, COLUMN_VIRTUAL_S) == 55);
    free(c.point);
}

/* -- verdicts ---------------------------------------------------------------------------------- */

static void a_claim_that_does_not_hold_is_told(void **state)
{
    (void)state;
    struct study s = make_study(1);
    struct study_results r;
    struct study_verdict v[2];
    fill(&r, &s);
    study_judge(&r, v);
    assert_int_equal(v[0].verdict, VERDICT_HOLDS);
    assert_string_equal(v[0].measured, "0.25 against 0.666667");
    assert_int_equal(study_exit_status(&r, v), EXIT_DONE);
    r.curve[0].point[1].value[COLUMN_LOSS] = 0.7; /* planted: now it is higher */
    study_judge(&r, v);
    assert_int_equal(v[0].verdict, VERDICT_FAILS);
    assert_int_equal(study_exit_status(&r, v), EXIT_NOT_REACHED);
    study_results_deinit(&r);

    s = make_study(2);
    fill(&r, &s);
    study_judge(&r, v);
    assert_int_equal(v[0].verdict, VERDICT_HOLDS);
    assert_int_equal(v[1].verdict, VERDICT_FAILS);
    assert_int_equal(study_exit_status(&r, v), EXIT_NOT_REACHED);
    char text[4096] = "";
    FILE *to = fmemopen(text, sizeof text, "w");
    study_print_verdicts(&r, v, to);
    fclose(to);
    assert_ptr_equal(strstr(text, "holds          first is lower: 0.25 against"), text);
    assert_non_null(strstr(text, "\ndoes not hold  never: planted\n"));
    study_results_deinit(&r);
}

static void an_incomplete_study_is_not_judged(void **state)
{
    (void)state;
    static const struct {
        enum run_state state;
        int status;
    } cases[] = {{RUN_WAITING, EXIT_INTERRUPTED}, {RUN_CUT, EXIT_INTERRUPTED}, {RUN_FAILED, EXIT_FAILED}};
    struct study s = make_study(2);
    for (size_t i = 0; i < 3; i++) {
        struct study_results r;
        struct study_verdict v[2];
        fill(&r, &s);
        r.curve[2].state = cases[i].state;
        study_judge(&r, v);
        assert_int_equal(v[0].verdict, VERDICT_UNKNOWN);
        assert_int_equal(v[1].verdict, VERDICT_UNKNOWN);
        assert_int_equal(study_exit_status(&r, v), cases[i].status);
        study_results_deinit(&r);
    }
}

/* -- files ------------------------------------------------------------------------------------- */

static void csv_files_hold_every_point(void **state)
{
    (void)state;
    struct study s = make_study(2);
    struct study_results r;
    char text[8192] = "";
    fill(&r, &s);
    write_to(text, sizeof text, study_write_curves, &r);
    static const char expected[] =
        "panel,run,virtual_s,steps,rounds,transfers,bytes,loss,accuracy,consensus_distance,gradient_norm,"
        "delay_sum,delay_max,divergence_up,divergence_down,bytes_across\n"
        "one,plain,1,0,0,100,100,0.75,0,0,,0,0,0,0,0\n"
        "one,plain,2,0,0,200,200,0.25,0,0,,0,0,0,0,0\n"
        "one,\"said, \"\"so\"\"\",1,0,0,1000,1000,2,0,0,,0,0,0,0,0\n"
        "one,\"said, \"\"so\"\"\",2,0,0,2000,2000,1,0,0,,0,0,0,0,0\n"
        "one,\"said, \"\"so\"\"\",3,0,0,3000,3000,0.6666666667,0,0,,0,0,0,0,0\n"
        "two,plain,1,0,0,5,5,0.5,0,0,,0,0,0,0,0\n";
    assert_string_equal(text, expected);
    memset(text, 0, sizeof text);
    r.curve[2].state = RUN_CUT;
    write_to(text, sizeof text, study_write_runs, &r);
    assert_non_null(strstr(text, ",bytes_across,\"double, loss\",options\none,plain,done,0,2,"));
    assert_non_null(strstr(text, ",0.5,--algorithm gossip\n"));
    assert_non_null(strstr(text, "two,plain,cut short,0,1,"));
    study_results_deinit(&r);
}

static void the_plot_reads_the_rows_of_each_run(void **state)
{
    (void)state;
    struct study s = make_study(2);
    struct study_results r;
    struct study_verdict v[2];
    char text[16384] = "";
    fill(&r, &s);
    study_judge(&r, v);
    FILE *to = fmemopen(text, sizeof text, "w");
    assert_int_equal(study_write_plot(&r, v, to), 0);
    fclose(to);
    static const char *const parts[] = {
        "every ::0::1 using 3:8 with lines lt 1 notitle",
        "every ::2::4 using 3:8 with lines lt 2 notitle",
        "every ::5::5 using 7:8 with lines lt 1 notitle", /* the same name, the same colour */
        "set title 'it''s one'",
        "a \\\"title\\\"\\n1 of 2 claims hold",
        "set logscale x",
        "title 'said, \"so\"'",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(text, parts[i]) == NULL) fail_msg("%s is not in %s", parts[i], text);
    study_results_deinit(&r);
}

/* -- running ----------------------------------------------------------------------------------- */

static struct config asked_for(bool quick)
{
    static char root[] = "data";
    return (struct config){.command = COMMAND_REPRODUCE, .seed = 3, .data_root = root, .quick = quick};
}

static void runs_go_in_processes_and_come_back(void **state)
{
    (void)state;
    struct study s = make_study(2);
    for (int quick = 0; quick < 2; quick++) {
        struct config asked = asked_for(quick != 0);
        struct study_results r, again;
        struct err_text why = {""};
        study_results_init(&r, &s, quick != 0);
        study_results_init(&again, &s, quick != 0);
        if (study_run_all(&r, &asked, &why) != 0) fail_msg("%s", why.text);
        assert_int_equal(study_run_all(&again, &asked, &why), 0);
        for (size_t i = 0; i < s.run_count; i++) {
            assert_int_equal(r.curve[i].state, RUN_DONE);
            assert_true(r.curve[i].count >= 2);
            double steps = quick != 0 ? i == 0 ? 20 : 30 : 40; /* the run's own word is the last */
            assert_true(curve_last(&r.curve[i], COLUMN_STEPS) == 4 * steps);
            assert_true(isfinite(curve_last(&r.curve[i], COLUMN_LOSS)));
            assert_true(isnan(curve_last(&r.curve[i], COLUMN_GRADIENT)));
            assert_int_equal(r.curve[i].count, again.curve[i].count);
            for (uint32_t k = 0; k < r.curve[i].count; k++)
                assert_true(r.curve[i].point[k].value[COLUMN_LOSS] ==
                            again.curve[i].point[k].value[COLUMN_LOSS]);
        }
        assert_true(curve_last(&r.curve[0], COLUMN_BYTES) > 0);
        study_results_deinit(&r);
        study_results_deinit(&again);
    }
}

static void gradients_are_measured_when_asked(void **state)
{
    (void)state;
    struct study s = make_study(0);
    struct config asked = asked_for(false);
    struct study_results r;
    s.gradient = true;
    study_results_init(&r, &s, false);
    assert_int_equal(study_run_all(&r, &asked, NULL), 0);
    double first = r.curve[0].point[0].value[COLUMN_GRADIENT],
           last = curve_last(&r.curve[0], COLUMN_GRADIENT);
    assert_true(first > 0 && last > 0 && last < first);
    study_results_deinit(&r);
}

static void a_run_that_fails_does_not_end_the_others(void **state)
{
    (void)state;
    struct study s = make_study(2);
    struct study_run planted[3];
    memcpy(planted, runs, sizeof planted);
    planted[1].options = "--algorithm local --task mlp --step-size constant:value=1000000";
    s.run = planted;
    struct config asked = asked_for(false);
    struct study_results r;
    struct study_verdict v[2];
    study_results_init(&r, &s, false);
    assert_int_equal(study_run_all(&r, &asked, NULL), 0);
    assert_int_equal(r.curve[0].state, RUN_DONE);
    assert_int_equal(r.curve[1].state, RUN_FAILED);
    assert_true(r.curve[1].failure.text[0] != '\0');
    assert_int_equal(r.curve[2].state, RUN_DONE);
    study_judge(&r, v);
    assert_int_equal(study_exit_status(&r, v), EXIT_FAILED);
    study_results_deinit(&r);
}

static void what_does_not_parse_is_refused_before_the_start(void **state)
{
    (void)state;
    static const struct {
        const char *options, *said;
    } cases[] = {
        {"--algorithm gosip", "gossip"},
        {"--data @nowhere|neither", "--data-root: data does not hold nowhere|neither"},
        {"--topology torus --nodes 7 --topology file:path=none", "test, run 'bad': "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct study s = make_study(0);
        const struct study_run bad = {"one", "bad", cases[i].options, NULL};
        s.run = &bad;
        s.run_count = 1;
        struct config asked = asked_for(false);
        struct err_text why = {""};
        struct study_results r;
        assert_true(study_check(&s, &asked, &why) != 0);
        if (strstr(why.text, cases[i].said) == NULL) fail_msg("%s", why.text);
        study_results_init(&r, &s, false);
        assert_true(study_run_all(&r, &asked, &why) != 0);
        assert_int_equal(r.curve[0].state, RUN_WAITING);
        study_results_deinit(&r);
    }
}

static void the_environment_does_not_change_a_study(void **state)
{
    (void)state;
    struct study s = make_study(0);
    struct config asked = asked_for(false), c;
    setenv("GADABOUT_BATCH", "7", 1);
    setenv("GADABOUT_NODES", "9", 1);
    assert_int_equal(study_run_config(&s, 0, &asked, &c, NULL), 0);
    assert_int_equal(c.batch, 32);
    assert_int_equal(c.nodes, 4);
    assert_int_equal(c.seed, 3);
    config_deinit(&c);
}

static void every_study_parses(void **state)
{
    (void)state;
    for (size_t i = 0; i < study_count; i++) {
        assert_ptr_equal(study_by_name(studies[i]->name), studies[i]);
        for (int quick = 0; quick < 2; quick++) {
            struct config asked = asked_for(quick != 0);
            struct err_text why = {""};
            if (study_check(studies[i], &asked, &why) != 0) fail_msg("%s", why.text);
        }
        for (size_t k = 0; k < studies[i]->plot_count; k++) {
            size_t lines = 0;
            for (size_t n = 0; n < studies[i]->run_count; n++)
                lines += strcmp(studies[i]->run[n].panel, studies[i]->plot[k].panel) == 0;
            assert_true(lines > 0);
        }
    }
    assert_null(study_by_name("nothing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves_answer_questions),
        cmocka_unit_test(a_claim_that_does_not_hold_is_told),
        cmocka_unit_test(an_incomplete_study_is_not_judged),
        cmocka_unit_test(csv_files_hold_every_point),
        cmocka_unit_test(the_plot_reads_the_rows_of_each_run),
        cmocka_unit_test(runs_go_in_processes_and_come_back),
        cmocka_unit_test(gradients_are_measured_when_asked),
        cmocka_unit_test(a_run_that_fails_does_not_end_the_others),
        cmocka_unit_test(what_does_not_parse_is_refused_before_the_start),
        cmocka_unit_test(the_environment_does_not_change_a_study),
        cmocka_unit_test(every_study_parses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: a scenario file means what scenario.h says, every mistake in one is told in one line that names file, line and
 * key, and the course of a scenario does everything at its time and tells rightly whether it bit.
 * Method: files are written, read and compared; a table of bad ones; the course runs against nodes that only note what
 * is done to them. A planted bug - a node that ignores its rule, or answers without counters - must show in the
 * totals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/scenario/run.h"
#include "base/check.h"

#define SECOND 1000000ull
#define NODES 8u

static char path[] = "/tmp/gadabout-scenario-XXXXXX";

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    return fd >= 0 ? 0 : -1;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static int read_text(const char *text, struct scenario *out, struct err_text *why)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return scenario_read(path, NODES, out, why);
}

static void read_good(const char *text, struct scenario *out)
{
    struct err_text why = {""};
    int err = read_text(text, out, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
}

/* -- reading ----------------------------------------------------------------------------------- */

static void each_kind_is_read(void **state)
{
    (void)state;
    struct scenario s;
    read_good("- {at: 10s, for: 30s, fault: partition, groups: [[0-3], [4, 6-7], 5]}\n"
              "- at: 500ms\n"
              "  fault: delay\n"
              "  for: 2min\n"
              "  links: [0, [2-3]]\n"
              "  delay: 50ms\n"
              "  jitter: 10ms\n"
              "  one_way: true\n"
              "- {at: 0, fault: restart, nodes: all}\n"
              "- {at: 1, for: 2, fault: stop, nodes: [5, 3], repeat: 4, every: 10}\n"
              "- {at: 3, fault: corrupt, nodes: 2, one_in: 1000}\n",
              &s);
    assert_int_equal(s.count, 5);
    assert_int_equal(s.fault[0].kind, SCENARIO_PARTITION);
    assert_int_equal(s.fault[0].at_us, 10 * SECOND);
    assert_int_equal(s.fault[0].for_us, 30 * SECOND);
    assert_int_equal(s.fault[0].group_count, 3);
    assert_int_equal(s.fault[0].group[1].count, 3);
    assert_int_equal(s.fault[0].group[1].node[2], 7);
    assert_string_equal(s.fault[0].what, "partition of 0-3 | 4,6-7 | 5");
    assert_int_equal(s.fault[1].line, 2);
    assert_int_equal(s.fault[1].at_us, SECOND / 2);
    assert_int_equal(s.fault[1].rule.delay_us, 50000);
    assert_int_equal(s.fault[1].rule.direction, FAULT_OUT);
    assert_string_equal(s.fault[1].what, "delay of 50 ms +- 10 ms from 0 to 2-3");
    assert_int_equal(s.fault[2].group[0].count, NODES);
    assert_int_equal(s.fault[2].repeat, 1);
    assert_int_equal(s.fault[3].repeat, 4);
    assert_int_equal(s.fault[3].every_us, 10 * SECOND);
    assert_int_equal(s.fault[3].group[0].node[0], 3); /* ascending */
    assert_string_equal(s.fault[4].what, "corrupt of one byte in 1000 at 2, all links");
    scenario_deinit(&s);
    read_good("[]\n", &s);
    assert_int_equal(s.count, 0);
    scenario_deinit(&s);
}

static const struct {
    const char *text;
    unsigned line;
    const char *says; /* part of the error */
} bad[] = {
    {"", 1, "a list"},
    {"at: 1\n", 1, "a list"},
    {"- {at: 1, fault: [\n", 2, "not valid YAML"},
    {"- drop\n", 1, "expected"},
    {"- {at: 1, fault: kill, nodes: 1}\n- {at: 1, falt: kill, nodes: 1}\n", 2, "did you mean 'fault'?"},
    {"- {at: 1, fault: kil, nodes: 1}\n", 1, "did you mean 'kill'?"},
    {"- {at: 1, at: 2, fault: kill, nodes: 1}\n", 1, "given twice"},
    {"- {fault: kill, nodes: 1}\n", 1, "at: missing"},
    {"- {at: 1, nodes: 1}\n", 1, "fault: missing"},
    {"- {at: 1, fault: kill}\n", 1, "nodes: missing"},
    {"- {at: -1, fault: kill, nodes: 1}\n", 1, "at: '-1'"},
    {"- {at: 1, for: 0, fault: drop, nodes: 1}\n", 1, "for: '0'"},
    {"- {at: 1q, fault: kill, nodes: 1}\n", 1, "at: '1q'"},
    {"- {at: 1e99, fault: kill, nodes: 1}\n", 1, "at: '1e99'"},
    {"- {at: [1], fault: kill, nodes: 1}\n", 1, "at: "},
    {"- {at: 1, fault: kill, nodes: 8}\n", 1, "nodes: '8' must be nodes from 0 to 7"},
    {"- {at: 1, fault: kill, nodes: 3-1}\n", 1, "nodes: '3-1'"},
    {"- {at: 1, fault: kill, nodes: []}\n", 1, "nodes: "},
    {"- {at: 1, fault: kill, nodes: [[1]]}\n", 1, "nodes: "},
    {"- {at: 1, fault: kill, nodes: {a: 1}}\n", 1, "nodes: "},
    {"- {at: 1, fault: kill, nodes: 1, for: 2}\n", 1, "for: does not go with the fault kill"},
    {"- {at: 1, fault: stop, nodes: 1, delay: 2}\n", 1, "delay: does not go with the fault stop"},
    {"- {at: 1, fault: drop, nodes: 1, delay: 2}\n", 1, "delay and jitter go with"},
    {"- {at: 1, fault: drop, nodes: 1, links: [1, 2]}\n", 1, "only one of"},
    {"- {at: 1, fault: drop, groups: [1, 2]}\n", 1, "nodes: missing"},
    {"- {at: 1, fault: partition, nodes: 1}\n", 1, "groups: missing"},
    {"- {at: 1, fault: partition, groups: [[1, 2]]}\n", 1, "groups: must be a list of two or more"},
    {"- {at: 1, fault: partition, groups: [[1, 2], [2, 3]]}\n", 1, "groups: node 2 is on both sides"},
    {"- {at: 1, fault: drop, links: [0, 1, 2]}\n", 1, "links: must be a list of two"},
    {"- {at: 1, fault: drop, links: [0-3, 3]}\n", 1, "links: node 3"},
    {"- {at: 1, fault: delay, nodes: 1}\n", 1, "delay: a fault of kind delay needs it"},
    {"- {at: 1, fault: limit, nodes: 1}\n", 1, "rate: "},
    {"- {at: 1, fault: limit, nodes: 1, rate: 0}\n", 1, "rate: '0'"},
    {"- {at: 1, fault: corrupt, nodes: 1}\n", 1, "one_in: "},
    {"- {at: 1, fault: corrupt, nodes: 1, one_in: many}\n", 1, "one_in: 'many'"},
    {"- {at: 1, fault: reset, links: [0, 1], one_way: true}\n", 1, "both ways"},
    {"- {at: 1, fault: drop, nodes: 1, one_way: maybe}\n", 1, "one_way: 'maybe'"},
    {"- {at: 1, fault: kill, nodes: 1, repeat: 3}\n", 1, "every: missing"},
    {"- {at: 1, fault: kill, nodes: 1, every: 3}\n", 1, "repeat: missing"},
    {"- {at: 1, fault: stop, nodes: 1, for: 5,\n   repeat: 3, every: 4}\n", 2,
     "every: must be at least as long"},
    {"- {at: 1, fault: stop, nodes: 1, repeat: 3, every: 4}\n", 1, "every: must be at least as long"},
};

static void every_mistake_is_told_with_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct scenario s;
        struct err_text why = {""};
        char place[64];
        snprintf(place, sizeof place, "%s:%u: ", path, bad[i].line);
        int err = read_text(bad[i].text, &s, &why);
        if (err != ERR_USAGE || strncmp(why.text, place, strlen(place)) != 0 ||
            strstr(why.text, bad[i].says) == NULL)
            fail_msg("%s -> %d, '%s'; expected %s...%s", bad[i].text, err, why.text, place, bad[i].says);
        assert_null(strchr(why.text, '\n'));
    }
}

static void a_file_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct scenario s;
    struct err_text why = {""};
    assert_int_equal(scenario_read("/nowhere/at/all.yml", NODES, &s, &why), ERR_IO);
    assert_non_null(strstr(why.text, "--faults: cannot open /nowhere/at/all.yml"));
}

/* -- rules ------------------------------------------------------------------------------------- */

static void groups_become_rules_at_both_ends(void **state)
{
    (void)state;
    struct scenario s;
    read_good("- {at: 1, fault: partition, groups: [[0-1], [2], [3]]}\n"
              "- {at: 1, fault: drop, links: [0, 1], one_way: true}\n"
              "- {at: 1, fault: limit, links: [[0, 1], [2, 3]], rate: 5}\n"
              "- {at: 1, fault: half_open, nodes: [4, 6]}\n",
              &s);
    bool dropped[NODES][NODES] = {{false}};
    uint32_t node, i;
    struct fault_rule r;
    for (i = 0; scenario_rule_at(&s.fault[0], i, &node, &r); i++) {
        assert_int_equal(r.kind, FAULT_DROP);
        assert_false(r.any || dropped[node][r.peer]);
        dropped[node][r.peer] = true;
    }
    assert_int_equal(i, 10);
    for (uint32_t a = 0; a < 4; a++)
        for (uint32_t b = 0; b < 4; b++) assert_int_equal(dropped[a][b], a != b && !(a < 2 && b < 2));
    assert_true(scenario_rule_at(&s.fault[1], 0, &node, &r));
    assert_true(node == 0 && r.peer == 1 && r.direction == FAULT_OUT);
    assert_true(scenario_rule_at(&s.fault[1], 1, &node, &r));
    assert_true(node == 1 && r.peer == 0 && r.direction == FAULT_IN);
    assert_false(scenario_rule_at(&s.fault[1], 2, &node, &r));
    for (i = 0; scenario_rule_at(&s.fault[2], i, &node, &r); i++) assert_true(node < 2 && r.bytes_s == 5);
    assert_int_equal(i, 4); /* at one end: it counts once */
    assert_true(scenario_rule_at(&s.fault[3], 1, &node, &r));
    assert_true(node == 6 && r.any);
    assert_false(scenario_rule_at(&s.fault[3], 2, &node, &r));
    scenario_deinit(&s);
}

/* -- the course -------------------------------------------------------------------------------- */

/* A cluster that notes what is done to it. */
struct cluster {
    struct scenario scenario;
    struct scenario_run *run;
    uint64_t now_us;
    bool dead[NODES], paused[NODES];
    unsigned rules[NODES];
    unsigned said;
    bool deaf;     /* planted: rules are not taken */
    bool harmless; /* planted: rules are taken and do nothing */
    bool late;     /* answers come later: */
    uint32_t owed[64], owed_count;
    char log[2048];
};

__attribute__((format(printf, 2, 3))) static void note(struct cluster *c, const char *format, ...)
{
    size_t used = strlen(c->log);
    va_list args;
    va_start(args, format);
    vsnprintf(c->log + used, sizeof c->log - used, format, args);
    va_end(args);
}

static bool do_kill(void *ctx, uint32_t v, bool comes_back)
{
    struct cluster *c = ctx;
    note(c, "%g:kill%u%s ", (double)c->now_us * 1e-6, v, comes_back ? "+" : "");
    bool was_alive = !c->dead[v];
    c->dead[v] = true;
    c->rules[v] = 0;
    return was_alive;
}

static bool do_start(void *ctx, uint32_t v)
{
    struct cluster *c = ctx;
    note(c, "%g:start%u ", (double)c->now_us * 1e-6, v);
    c->dead[v] = false;
    scenario_run_started(c->run, v);
    return true;
}

static bool do_stop(void *ctx, uint32_t v)
{
    struct cluster *c = ctx;
    note(c, "%g:stop%u ", (double)c->now_us * 1e-6, v);
    return !c->dead[v];
}

static bool do_go_on(void *ctx, uint32_t v)
{
    struct cluster *c = ctx;
    note(c, "%g:go%u ", (double)c->now_us * 1e-6, v);
    return true;
}

static bool do_inject(void *ctx, uint32_t v, const struct fault_rule *rule, uint32_t tag)
{
    struct cluster *c = ctx;
    (void)tag;
    assert_int_equal(fault_rule_check(rule, NULL), 0);
    if (c->dead[v] || c->deaf) return false;
    note(c, "%g:on%u ", (double)c->now_us * 1e-6, v);
    c->rules[v]++;
    return true;
}

static void answer(struct cluster *c, uint32_t tag)
{
    struct fault_counts counts = {.bytes_held = c->harmless ? 0 : 5};
    scenario_run_healed(c->run, tag, &counts);
}

static bool do_heal(void *ctx, uint32_t v, uint32_t tag)
{
    struct cluster *c = ctx;
    if (c->dead[v]) return false;
    assert_true(c->rules[v] > 0);
    c->rules[v]--;
    note(c, "%g:off%u ", (double)c->now_us * 1e-6, v);
    if (c->late)
        c->owed[c->owed_count++] = tag;
    else
        answer(c, tag);
    return true;
}

static void do_say(void *ctx, const char *text)
{
    struct cluster *c = ctx;
    assert_true(text[0] != '\0');
    c->said++;
}

static void cluster_open(struct cluster *c, const char *text, FILE *log)
{
    memset(c, 0, sizeof *c);
    read_good(text, &c->scenario);
    const struct scenario_ops ops = {c, do_kill, do_start, do_stop, do_go_on, do_inject, do_heal, do_say};
    c->run = scenario_run_new(&c->scenario, &ops, log);
}

static void cluster_run(struct cluster *c, uint64_t until_us)
{
    for (uint64_t at_us; (at_us = scenario_run_next_us(c->run)) <= until_us;) {
        c->now_us = at_us;
        scenario_run_advance(c->run, at_us);
    }
    c->now_us = until_us;
}

static struct scenario_totals cluster_totals(const struct cluster *c)
{
    struct scenario_totals t;
    scenario_run_totals(c->run, &t);
    return t;
}

static void cluster_close(struct cluster *c)
{
    scenario_run_free(c->run);
    scenario_deinit(&c->scenario);
}

static void everything_happens_at_its_time(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c,
                 "- {at: 3, for: 1, fault: stop, nodes: [1, 2], repeat: 2, every: 5}\n"
                 "- {at: 1, for: 2, fault: drop, nodes: 0}\n"
                 "- {at: 4, fault: kill, nodes: 5}\n"
                 "- {at: 6, fault: restart, for: 1, nodes: 6}\n",
                 NULL);
    cluster_run(&c, 100 * SECOND);
    assert_string_equal(c.log,
                        "1:on0 3:off0 3:stop1 3:stop2 4:go1 4:go2 4:kill5 6:kill6+ 7:start6 8:stop1 8:stop2 "
                        "9:go1 9:go2 ");
    assert_int_equal(scenario_run_next_us(c.run), TIME_NEVER);
    assert_int_equal(cluster_totals(&c).begun, 5);
    assert_int_equal(cluster_totals(&c).bit, 5);
    cluster_close(&c);
}

static void who_starts_again_has_its_faults_again(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c,
                 "- {at: 1, for: 10, fault: drop, links: [0, 1]}\n"
                 "- {at: 2, for: 1, fault: restart, nodes: 1}\n"
                 "- {at: 5, fault: kill, nodes: 0}\n",
                 NULL);
    cluster_run(&c, 100 * SECOND);
    assert_string_equal(c.log, "1:on0 1:on1 2:kill1+ 3:start1 3:on1 5:kill0 11:off1 ");
    assert_int_equal(cluster_totals(&c).bit, 3);
    cluster_close(&c);
}

static void the_end_of_the_run_ends_all(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c,
                 "- {at: 1, fault: drop, nodes: [0, 1]}\n"
                 "- {at: 2, fault: stop, nodes: 2}\n"
                 "- {at: 50, fault: kill, nodes: 3}\n",
                 NULL);
    cluster_run(&c, 10 * SECOND);
    scenario_run_finish(c.run, 10 * SECOND);
    scenario_run_close(c.run);
    assert_string_equal(c.log, "1:on0 1:on1 2:stop2 10:off0 10:off1 10:go2 ");
    assert_int_equal(scenario_run_next_us(c.run), TIME_NEVER);
    assert_int_equal(cluster_totals(&c).begun, 2);
    assert_int_equal(cluster_totals(&c).bit, 2);
    cluster_close(&c);
}

static void late_answers_count_and_missing_ones_do_not_hold_up(void **state)
{
    (void)state;
    struct cluster c;
    cluster_open(&c, "- {at: 1, for: 1, fault: drop, nodes: [0-2], repeat: 2, every: 5}\n", NULL);
    c.late = true;
    cluster_run(&c, 3 * SECOND);
    assert_int_equal(c.said, 1); /* the end is told when all have answered */
    for (uint32_t i = 0; i < 3; i++) answer(&c, c.owed[i]);
    assert_int_equal(c.said, 2);
    assert_int_equal(cluster_totals(&c).bit, 1);
    cluster_run(&c, 100 * SECOND);
    answer(&c, c.owed[3]);
    answer(&c, c.owed[3]); /* twice: once counts */
    scenario_run_finish(c.run, 100 * SECOND);
    assert_int_equal(c.said, 3);
    scenario_run_close(c.run);
    assert_int_equal(c.said, 4);
    assert_int_equal(cluster_totals(&c).begun, 2);
    assert_int_equal(cluster_totals(&c).bit, 2);
    cluster_close(&c);
}

static void a_fault_that_met_nothing_has_not_bitten(void **state)
{
    (void)state;
    static const char text[] = "- {at: 1, for: 1, fault: drop, nodes: [0-2]}\n"
                               "- {at: 3, fault: kill, nodes: 4}\n"
                               "- {at: 4, fault: kill, nodes: 4}\n";
    for (unsigned planted = 0; planted < 3; planted++) {
        struct cluster c;
        cluster_open(&c, text, NULL);
        c.deaf = planted == 1;
        c.harmless = planted == 2;
        cluster_run(&c, 100 * SECOND);
        assert_int_equal(cluster_totals(&c).begun, 3);
        assert_int_equal(cluster_totals(&c).bit, planted == 0 ? 2 : 1); /* the second kill met a dead node */
        cluster_close(&c);
    }
}

static void begin_and_end_are_written(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *log = open_memstream(&text, &size);
    struct cluster c;
    cluster_open(&c, "- {at: 1, for: 2, fault: drop, nodes: 0}\n", log);
    cluster_run(&c, 100 * SECOND);
    fclose(log);
    assert_non_null(
        strstr(text, "{\"time_s\":1.0,\"event\":\"begins\",\"fault\":\"drop\",\"line\":1,\"time\":1,"));
    assert_non_null(strstr(text, "\n{\"time_s\":3.0,\"event\":\"ends\""));
    assert_non_null(strstr(text, "\"bit\":true,\"bytes_held\":5"));
    free(text);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_read),
        cmocka_unit_test(every_mistake_is_told_with_its_place),
        cmocka_unit_test(a_file_that_is_not_there_is_an_error),
        cmocka_unit_test(groups_become_rules_at_both_ends),
        cmocka_unit_test(everything_happens_at_its_time),
        cmocka_unit_test(who_starts_again_has_its_faults_again),
        cmocka_unit_test(the_end_of_the_run_ends_all),
        cmocka_unit_test(late_answers_count_and_missing_ones_do_not_hold_up),
        cmocka_unit_test(a_fault_that_met_nothing_has_not_bitten),
        cmocka_unit_test(begin_and_end_are_written),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}

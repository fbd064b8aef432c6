/* Goal: the course of a scenario does everything at its time and tells rightly whether it bit.
 * Method: the course runs against nodes that only note what is done to them. A planted bug - a node that ignores its
 * rule, or answers without counters - must show in the totals. */
#include "tests/unit/scenario_fixture.h"

#include <string.h>

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
        cmocka_unit_test(everything_happens_at_its_time),
        cmocka_unit_test(who_starts_again_has_its_faults_again),
        cmocka_unit_test(the_end_of_the_run_ends_all),
        cmocka_unit_test(late_answers_count_and_missing_ones_do_not_hold_up),
        cmocka_unit_test(a_fault_that_met_nothing_has_not_bitten),
        cmocka_unit_test(begin_and_end_are_written),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}

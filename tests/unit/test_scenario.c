/* Goal: a scenario file means what scenario.h says, and every mistake in one is told in one line that names file, line
 * and key.
 * Method: files are written, read and compared; a table of bad ones. */
#include "tests/unit/scenario_fixture.h"

#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_read),
        cmocka_unit_test(every_mistake_is_told_with_its_place),
        cmocka_unit_test(a_file_that_is_not_there_is_an_error),
        cmocka_unit_test(groups_become_rules_at_both_ends),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}

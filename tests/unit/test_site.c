/* Goal: tags and labels become the same sites everywhere, groups of label-sorted nodes come out alike, and
 * lists that do not fit are refused with a remedy. Method: small lists by hand; a table of label counts; an
 * experiment over a sorted split. */
#include "agent/experiment/site.h"
#include "experiment_fixture.h"

static void lists_of_tags_name_each_node(void **state)
{
    (void)state;
    static const char *const expected[] = {"a", "a", "rack=b", "c", "c", "c"};
    char tag[TAG_TEXT_MAX];
    assert_int_equal(site_tags_check("a*2,rack=b,c*3", 6, NULL), 0);
    for (uint32_t r = 0; r < 6; r++) {
        assert_true(site_tag_at("a*2,rack=b,c*3", r, tag));
        assert_string_equal(tag, expected[r]);
    }
    assert_false(site_tag_at("a*2,rack=b,c*3", 6, tag));
    assert_false(site_tag_at(NULL, 0, tag));
}

static void lists_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *tags, *says;
    } rows[] = {{"a", "names 1 nodes, but there are 4"},
                {"a*5", "names 5 nodes"},
                {"a*2,b*2,", "is no tag"},
                {"", "is no tag"},
                {"a*0,b*4", "how many"},
                {"a*,b*4", "how many"},
                {"a*2x,b*2", "how many"},
                {"a*99999999999,b", "how many"},
                {"*4", "is no tag"},
                {"a b*4", "is no tag"},
                {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa*4", "63 characters"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err_text why = {""};
        assert_int_equal(site_tags_check(rows[i].tags, 4, &why), ERR_USAGE);
        if (strstr(why.text, rows[i].says) == NULL || strncmp(why.text, "--tags: ", 8) != 0)
            fail_msg("%s: %s", rows[i].tags, why.text);
    }
}

/* Ten nodes sorted by label, 4 : 1 mixed : 5. Both groups get five, and two or so of each kind. */
static void sorted_nodes_are_dealt_out_evenly(void **state)
{
    (void)state;
    uint32_t count[10 * 2], site[10], size[2] = {0}, held[2][2] = {{0}};
    for (uint32_t v = 0; v < 10; v++) {
        count[2 * v] = v < 4 ? 1100 : v == 4 ? 471 : 0;
        count[2 * v + 1] = 1100 - count[2 * v];
    }
    static const uint32_t part[] = {2};
    site_balance(count, 10, 2, part, 1, site);
    for (uint32_t v = 0; v < 10; v++) {
        size[site[v]]++;
        for (int c = 0; c < 2; c++) held[site[v]][c] += count[2 * v + (uint32_t)c];
    }
    assert_int_equal(size[0], 5);
    for (int c = 0; c < 2; c++) assert_in_range(held[0][c], held[1][c] - 1100, held[1][c] + 1100);
}

static void nested_parts_are_numbered_from_the_top(void **state)
{
    (void)state;
    uint32_t count[8 * 4] = {0}, site[8], labels[4] = {0};
    for (uint32_t v = 0; v < 8; v++) count[4 * v + v / 2] = 10; /* two nodes of each of four labels */
    static const uint32_t part[] = {2, 2};
    site_balance(count, 8, 4, part, 2, site);
    uint32_t size[4] = {0};
    for (uint32_t v = 0; v < 8; v++) {
        size[site[v]]++;
        labels[v / 2] |= 1u << (site[v] / 2);
    }
    for (int g = 0; g < 4; g++) assert_int_equal(size[g], 2);
    for (int c = 0; c < 4; c++) assert_int_equal(labels[c], 3); /* each label in both halves */
}

static struct config hsgd_config(const char *algorithm, enum command command)
{
    struct config c = config_of(MIXTURE, "softmax", "sorted", 6, 8);
    struct err_text why;
    c.command = command;
    if (algo_choose(algorithm, &c.algorithm_params, &c.algorithm, &why) != 0) fail_msg("%s", why.text);
    return c;
}

static void experiments_have_the_sites_that_are_asked_for(void **state)
{
    (void)state;
    struct config c = hsgd_config("hsgd:groups=2,grouping=balanced", COMMAND_SIM);
    struct experiment e = open_experiment(&c);
    uint32_t ones = 0;
    assert_non_null(e.site);
    for (uint32_t v = 0; v < 6; v++) ones += e.site[v];
    assert_int_equal(ones, 3);
    for (uint32_t v = 0; v < 6; v += 2)
        assert_int_not_equal(e.site[v], e.site[v + 1]); /* of one class each */
    close_experiment(&e, &c);

    c = hsgd_config("hsgd:grouping=tags", COMMAND_UP);
    char tags[] = "b*2,a,b,a*2";
    c.tags = tags;
    e = open_experiment(&c);
    static const uint32_t expected[6] = {0, 0, 1, 0, 1, 1};
    assert_memory_equal(e.site, expected, sizeof expected);
    close_experiment(&e, &c);

    c = hsgd_config("hsgd:grouping=random", COMMAND_SIM);
    e = open_experiment(&c);
    assert_null(e.site);
    close_experiment(&e, &c);
}

static void missing_tags_are_asked_for(void **state)
{
    (void)state;
    static const struct {
        enum command command;
        const char *says;
    } rows[] = {
        {COMMAND_UP, "--tags: missing"}, {COMMAND_SIM, "--tags: missing"}, {COMMAND_AGENT, "--tag: missing"}};
    for (size_t i = 0; i < 3; i++) {
        struct config c = hsgd_config("hsgd:grouping=tags", rows[i].command);
        struct experiment e;
        struct err_text why = {""};
        assert_int_equal(experiment_open(&c, &vec_ref, &e, &why), ERR_USAGE);
        assert_non_null(strstr(why.text, rows[i].says));
        free(c.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_tags_name_each_node),
        cmocka_unit_test(lists_that_do_not_fit_are_refused),
        cmocka_unit_test(sorted_nodes_are_dealt_out_evenly),
        cmocka_unit_test(nested_parts_are_numbered_from_the_top),
        cmocka_unit_test(experiments_have_the_sites_that_are_asked_for),
        cmocka_unit_test(missing_tags_are_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

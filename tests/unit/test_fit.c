/* Goal: what fits an algorithm is judged by its properties alone, and who is refused reads what would fit.
 * Method: toy types with each combination of properties against every compressor, and against two topologies;
 * for every registered algorithm, create() accepts what the properties promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "algo/compress/compress.h"
#include "algo/step.h"
#include "base/check.h"

enum { DIM = 64, NODES = 4 };

static struct choice compressor_of(const char *text)
{
    struct choice c;
    struct err_text why = {""};
    if (choice_parse(compress_table, compress_table_count, "--compress", text, &c, &why) != 0)
        fail_msg("%s", why.text);
    return c;
}

static int never_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                        struct err_text *why)
{
    (void)config, (void)params, (void)out;
    return err_set(why, ERR_LIMIT, "asked to create");
}

static const struct algo_type whole = {.spec = {.name = "whole"}, .create = never_create};
static const struct algo_type differences = {
    .spec = {.name = "differences"}, .compresses = true, .create = never_create};
static const struct algo_type tensors = {
    .spec = {.name = "tensors"}, .compresses = true, .by_tensor = true, .create = never_create};
static const struct algo_type sums = {.spec = {.name = "sums"},
                                      .compresses = true,
                                      .support = ALGO_SUPPORT_SHARED,
                                      .links = ALGO_LINKS_ALL,
                                      .create = never_create};

static void properties_decide_which_compressor_fits(void **state)
{
    (void)state;
    static const struct {
        const char *compress;
        bool whole, differences, tensors, sums;
    } rows[] = {
        {"none", true, true, true, true},
        {"fp16", false, true, true, false},
        {"bf16", false, true, true, false},
        {"int8", false, true, true, false},
        {"topk", false, true, true, false},
        {"randk", false, true, true, true},
        {"randk:fraction=0.1,variant=unbiased", false, false, false, false},
        {"block", false, true, true, true},
        {"bernoulli", false, true, true, true},
        {"sign", false, true, true, false},
        {"qsgd", false, true, true, false},
        {"qsgd:bits=1,variant=unbiased", false, false, false, false},
        {"powersgd", false, false, true, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct choice c = compressor_of(rows[i].compress);
        const struct {
            const struct algo_type *type;
            bool fits;
        } column[] = {{&whole, rows[i].whole},
                      {&differences, rows[i].differences},
                      {&tensors, rows[i].tensors},
                      {&sums, rows[i].sums}};
        for (size_t k = 0; k < sizeof column / sizeof column[0]; k++) {
            struct err_text why = {""};
            int err = algo_fit_compress(column[k].type, &c, DIM, &why);
            if (err != (column[k].fits ? 0 : ERR_USAGE))
                fail_msg("%s with %s: %d %s", rows[i].compress, column[k].type->spec.name, err, why.text);
            assert_int_equal(algo_fit_compress(column[k].type, &c, DIM, NULL), err);
        }
    }
    assert_int_equal(algo_fit_compress(&sums, NULL, DIM, NULL), 0);
}

static void a_type_may_ask_for_little_loss(void **state)
{
    (void)state;
    static const struct algo_type careful = {
        .spec = {.name = "careful"}, .compresses = true, .omega_min = 0.9, .create = never_create};
    static const struct {
        const char *compress;
        bool fits;
    } rows[] = {
        {"none", true},
        {"fp16", true},
        {"bf16", true},
        {"int8", true},
        {"topk:fraction=0.95", true},
        {"topk", false},
        {"randk:fraction=0.5", false},
        {"sign", false},
        {"qsgd:bits=2", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct choice c = compressor_of(rows[i].compress);
        struct err_text why = {""};
        assert_int_equal(algo_fit_compress(&careful, &c, DIM, &why), rows[i].fits ? 0 : ERR_USAGE);
        assert_int_equal(algo_fit_compress(&careful, &c, 0, NULL), rows[i].fits ? 0 : ERR_USAGE);
        if (!rows[i].fits)
            assert_non_null(strstr(why.text, "omega of 0.9; give one of none, fp16, bf16, int8"));
    }
}

static void refusals_say_what_would_fit(void **state)
{
    (void)state;
    static const struct {
        const struct algo_type *type;
        const char *compress, *says[3];
    } rows[] = {
        {&whole, "topk", {"'topk'", "--algorithm whole", "choco"}},
        {&differences, "powersgd", {"'powersgd'", "differences", "topk"}},
        {&sums, "topk", {"'topk'", "sums", "give one of none, randk, block, bernoulli"}},
        {&sums, "qsgd", {"'qsgd'", "sums", "block"}},
        {&differences, "randk:fraction=0.1,variant=unbiased", {"'randk'", "enlarges", "variant=unbiased"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct choice c = compressor_of(rows[i].compress);
        struct err_text why = {""};
        assert_int_equal(algo_fit_compress(rows[i].type, &c, DIM, &why), ERR_USAGE);
        for (size_t k = 0; k < 3; k++)
            if (strstr(why.text, rows[i].says[k]) == NULL)
                fail_msg("row %zu lacks '%s': %s", i, rows[i].says[k], why.text);
    }
}

static void who_needs_all_links_takes_complete_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < topology_table_count; i++) {
        struct err_text why = {""};
        bool complete = strcmp(topology_table[i].name, "complete") == 0;
        if (strcmp(topology_table[i].name, "overlay") == 0) continue; /* the next test's */
        assert_int_equal(algo_fit_topology(&whole, NULL, &topology_table[i], &why), 0);
        assert_int_equal(algo_fit_topology(&sums, NULL, &topology_table[i], &why), complete ? 0 : ERR_USAGE);
        if (complete) continue;
        assert_non_null(strstr(why.text, topology_table[i].name));
        assert_non_null(strstr(why.text, "--topology complete"));
    }
}

static void an_overlay_is_for_those_who_take_any_peers(void **state)
{
    (void)state;
    struct choice overlay;
    struct err_text why = {""};
    assert_int_equal(
        choice_parse(topology_table, topology_table_count, "--topology", "overlay", &overlay, &why), 0);
    static const struct {
        const char *algorithm;
        int expected;
    } rows[] = {{"gossip", 0},           {"gossip:mode=sync", ERR_USAGE}, {"walk", 0},
                {"delicoco", ERR_USAGE}, {"digest", ERR_USAGE},           {"allreduce", ERR_USAGE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct choice params;
        const struct algo_type *type;
        assert_int_equal(algo_choose(rows[i].algorithm, &params, &type, &why), 0);
        assert_int_equal(algo_fit_topology(type, &params, overlay.spec, &why), rows[i].expected);
        if (rows[i].expected != 0) assert_non_null(strstr(why.text, "overlay"));
    }
}

static struct graph graph_of(const char *topology)
{
    struct choice choice;
    struct graph g;
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", topology, &choice, NULL) == 0);
    CHECK(topology_build(&choice, NODES, 1, &g, NULL) == 0);
    return g;
}

/* The maker is asked only when all fits. */
static void creation_begins_with_what_fits(void **state)
{
    (void)state;
    struct graph ring = graph_of("ring"), complete = graph_of("complete");
    struct choice topk = compressor_of("topk"), block = compressor_of("block");
    const struct {
        const struct algo_type *type;
        const struct graph *graph;
        const struct choice *compress;
        int err;
    } rows[] = {
        {&whole, &ring, NULL, ERR_LIMIT},      {&whole, &ring, &topk, ERR_USAGE},
        {&sums, &ring, &block, ERR_USAGE},     {&sums, &complete, &topk, ERR_USAGE},
        {&sums, &complete, &block, ERR_LIMIT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct algo_config config = {
            .node_count = NODES, .graph = rows[i].graph, .dim = DIM, .compress = rows[i].compress};
        struct err_text why = {""};
        struct algo *a = NULL;
        assert_int_equal(algo_create(rows[i].type, &config, NULL, &a, &why), rows[i].err);
    }
    graph_deinit(&ring);
    graph_deinit(&complete);
}

/* A type's properties are a promise: its maker refuses nothing that they let through. */
static void every_algorithm_accepts_the_compressors_that_fit(void **state)
{
    (void)state;
    static const float x0[DIM] = {0};
    static const double weight[NODES] = {0.25, 0.25, 0.25, 0.25};
    static const struct tensor tensor[1] = {{0, 8, 8}};
    struct graph g = graph_of("complete");
    for (size_t i = 0; i < algo_type_count; i++) {
        for (size_t k = 0; k < compress_table_count; k++) {
            struct choice params, compress = compressor_of(compress_table[k].name);
            const struct algo_type *type;
            struct err_text why = {""};
            if (algo_fit_compress(algo_types[i], &compress, DIM, NULL) != 0) continue;
            assert_int_equal(algo_choose(algo_types[i]->spec.name, &params, &type, &why), 0);
            struct algo_config config = {.node_count = NODES,
                                         .graph = &g,
                                         .weight = weight,
                                         .dim = DIM,
                                         .x0 = x0,
                                         .patience_us = 1000000,
                                         .compress = type->compresses ? &compress : NULL,
                                         .tensor = tensor,
                                         .tensor_count = 1};
            struct algo *a = NULL;
            if (algo_create(type, &config, &params, &a, &why) != 0)
                fail_msg("%s with %s: %s", type->spec.name, compress_table[k].name, why.text);
            type->destroy(a);
        }
    }
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties_decide_which_compressor_fits),
        cmocka_unit_test(a_type_may_ask_for_little_loss),
        cmocka_unit_test(refusals_say_what_would_fit),
        cmocka_unit_test(who_needs_all_links_takes_complete_only),
        cmocka_unit_test(an_overlay_is_for_those_who_take_any_peers),
        cmocka_unit_test(creation_begins_with_what_fits),
        cmocka_unit_test(every_algorithm_accepts_the_compressors_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

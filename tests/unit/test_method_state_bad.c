/* Goal: a kept state (algo/state.h) that is not whole, or not of this method, changes nothing.
 * Method: the states of method_state_fixture.h's courses, cut at each length and with single bytes wrong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/compress/compress.h"
#include "tests/unit/method_state_fixture.h"

static struct algo *make_algo(const struct course *k, struct graph *g, struct choice *params)
{
    static const float origin[DIM];
    static const double weight[NODES] = {0.25, 0.25, 0.25, 0.25};
    struct choice topology, compress;
    CHECK(choice_parse(topology_table, topology_table_count, "", k->topology, &topology, NULL) == 0);
    CHECK(topology_build(&topology, NODES, 3, g, NULL) == 0);
    CHECK(choice_parse(&k->type->spec, 1, "", k->params, params, NULL) == 0);
    CHECK(choice_parse(compress_table, compress_table_count, "", k->compress != NULL ? k->compress : "none",
                       &compress, NULL) == 0);
    struct algo_config config = {.rank = VICTIM,
                                 .node_count = NODES,
                                 .graph = g,
                                 .weight = weight,
                                 .dim = DIM,
                                 .x0 = origin,
                                 .seed = 7,
                                 .patience_us = PATIENCE,
                                 .compress = k->compress != NULL ? &compress : NULL,
                                 .rejoining = true};
    struct algo *a;
    CHECK(algo_create(k->type, &config, params, &a, NULL) == 0);
    return a;
}

static bool same_bytes(const struct blob *a, const struct blob *b)
{
    if (a == NULL || b == NULL) return a == b;
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* The bytes must be refused with a reason, and leave the algorithm as it was. */
static void refuse(const struct course *k, struct algo *a, size_t dim, const uint8_t *bytes, size_t size)
{
    struct blob *before = algo_state_save(k->type, a, VICTIM, DIM, true);
    struct err_text why = {""};
    assert_int_equal(algo_state_restore(k->type, a, dim, bytes, size, &why), ERR_FORMAT);
    assert_true(why.text[0] != '\0');
    struct blob *after = algo_state_save(k->type, a, VICTIM, DIM, true);
    assert_true(same_bytes(before, after));
    blob_unref(before);
    blob_unref(after);
}

static void refuse_all(const struct course *k, const struct blob *good)
{
    struct graph g;
    struct choice params;
    struct algo *a = make_algo(k, &g, &params);
    uint8_t *bytes = mem_new(good->size + 4, 1);
    for (size_t size = 0; size < good->size; size++) refuse(k, a, DIM, good->data, size);
    memcpy(bytes, good->data, good->size);
    memset(bytes + good->size, 0, 4);
    refuse(k, a, DIM, bytes, good->size + 4);
    refuse(k, a, DIM + 1, bytes, good->size);
    static const size_t wrong[] = {0, 8, 16, 31, 32, 40}; /* magic, version, name, its end, dim, last */
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memcpy(bytes, good->data, good->size);
        bytes[wrong[i]] ^= 0x42;
        refuse(k, a, DIM, bytes, good->size);
    }
    const float nan = NAN;
    memcpy(bytes, good->data, good->size);
    memcpy(bytes + good->size - sizeof nan, &nan, sizeof nan);
    refuse(k, a, DIM, bytes, good->size);
    assert_int_equal(algo_state_restore(k->type, a, DIM, good->data, good->size, NULL), 0); /* it is good */
    k->type->destroy(a);
    graph_deinit(&g);
    free(bytes);
}

static void what_is_damaged_or_foreign_changes_nothing(void **state)
{
    (void)state;
    for (size_t k = 0; k < COURSES; k++) {
        struct cluster c;
        if (courses[k].type->state_save == NULL) continue;
        cluster_open(&c, &courses[k], 1);
        harness_run_until(c.h, SECOND);
        for (int tries = 0; tries < 1000 && harness_saved_state(c.h, VICTIM) == NULL; tries++) {
            harness_run_until(c.h, harness_now(c.h) + 5000);
            harness_save(c.h, VICTIM, true);
        }
        assert_non_null(harness_saved_state(c.h, VICTIM));
        refuse_all(&courses[k], harness_saved_state(c.h, VICTIM));
        cluster_close(&c);
    }
}

/* Those whose debt is in the model itself, or belongs to their links and views. */
static void the_others_keep_nothing(void **state)
{
    (void)state;
    static const struct algo_type *const types[] = {&choco_type,  &delicoco_type, &dgd_type,
                                                    &gossip_type, &hsgd_type,     &ef21_type};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        assert_null(types[i]->state_save);
        assert_null(types[i]->state_restore);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_damaged_or_foreign_changes_nothing),
        cmocka_unit_test(the_others_keep_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: the node dials what its owner seeks for as long as that is sought, and no longer; an address wanted for two
 * reasons is dialled once, and given up when both are gone. Method: the fakes of node_fake.h around a node that learns of
 * its members; the calls to its transport are read. */
#include "tests/unit/node_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/node/node.h"

static void open_alone(struct fake *f, const char *const *seeds, size_t count)
{
    struct err_text why;
    struct node_config config = fake_config();
    config.members = NULL;
    config.boot = 100 * BOOT_UNITS_PER_US;
    config.seeds = seeds;
    config.seed_count = count;
    fake_open(f, &config);
    assert_int_equal(node_start(f->node, &why), 0);
}

static unsigned count_of(const struct fake *f, const char *call)
{
    unsigned count = 0;
    for (const char *at = f->calls; (at = strstr(at, call)) != NULL; at++) count++;
    return count;
}

static void what_is_sought_is_dialled_until_it_is_not(void **state)
{
    (void)state;
    struct fake f;
    open_alone(&f, NULL, 0);
    assert_int_equal(count_of(&f, "dial"), 0);
    node_seek(f.node, "a:1");
    node_seek(f.node, "b:1");
    assert_string_equal(f.calls, "dial a:1;dial b:1;");
    fake_forget(&f);
    node_unseek(f.node, "a:1");
    assert_string_equal(f.calls, "undial a:1;");
    fake_forget(&f);
    node_seek(f.node, "a:1");
    assert_string_equal(f.calls, "dial a:1;");
    fake_close(&f);
}

static void an_address_wanted_twice_is_dialled_once(void **state)
{
    (void)state;
    struct fake f;
    static const char *const seed[] = {"a:1"};
    open_alone(&f, seed, 1);
    unsigned before = count_of(&f, "dial a:1;");
    node_seek(f.node, "a:1");
    assert_int_equal(count_of(&f, "dial a:1;"), before);
    node_unseek(f.node, "a:1");
    assert_int_equal(count_of(&f, "undial"), 0); /* it is still a seed, and there is no link */
    fake_close(&f);
}

static void a_refusal_of_what_is_sought_does_not_end_the_node(void **state)
{
    (void)state;
    struct fake f;
    open_alone(&f, NULL, 0);
    node_seek(f.node, "a:1");
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_refused(sink.ctx, "a:1", ERR_CLUSTER, "theirs is another");
    assert_int_equal(f.failed, 0); /* the owner judges: it knows of the others */
    node_unseek(f.node, "a:1");
    assert_int_equal(count_of(&f, "undial"), 0); /* the transport has given it up */
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sought_is_dialled_until_it_is_not),
        cmocka_unit_test(an_address_wanted_twice_is_dialled_once),
        cmocka_unit_test(a_refusal_of_what_is_sought_does_not_end_the_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

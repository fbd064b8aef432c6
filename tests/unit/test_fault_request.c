/* Goal: requests for faults (control socket, orders of `up`) mean what fault_request.h says; what is wrong is refused
 * with one line and without effect.
 * Method: requests as text to a transport that only keeps its rules; a table of bad ones; what is made is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "agent/scenario/fault_request.h"

struct fake {
    struct transport base; /* first */
    struct fault_set set;
};

static int fake_inject(struct transport *t, const struct fault_rule *rule)
{
    return fault_set_add(&((struct fake *)t)->set, rule, 1000000);
}

static int fake_heal(struct transport *t, int id)
{
    int healed = 0;
    while (fault_set_heal(&((struct fake *)t)->set, id) != NULL) healed++;
    return healed;
}

static uint32_t fake_faults(const struct transport *t, struct fault_status *out, uint32_t max)
{
    return fault_set_list(&((const struct fake *)t)->set, out, max);
}

static const struct transport_ops fake_ops = {
    .inject = fake_inject, .heal = fake_heal, .faults = fake_faults};

/* Returns the owned reply, NULL for an error. */
static json_t *ask(struct fake *f, const char *text, struct err_text *why)
{
    f->base.ops = &fake_ops;
    json_t *request = json_loads(text, 0, NULL), *reply = json_object();
    assert_non_null(request);
    int err = fault_request(&f->base, 1000000, request, reply, why);
    json_decref(request);
    if (err == 0) return reply;
    json_decref(reply);
    return NULL;
}

static json_t *ask_well(struct fake *f, const char *text)
{
    struct err_text why = {""};
    json_t *reply = ask(f, text, &why);
    assert_string_equal(why.text, "");
    return reply;
}

static void a_rule_comes_through(void **state)
{
    (void)state;
    struct fake f = {0};
    json_t *reply =
        ask_well(&f, "{\"op\": \"fault\", \"kind\": \"delay\", \"peer\": 3, \"direction\": \"in\","
                     " \"for_s\": 30, \"delay_s\": 0.05, \"jitter_s\": 0.01}");
    assert_int_equal(json_integer_value(json_object_get(reply, "fault")), 1);
    json_decref(reply);
    const struct fault_rule *r = &f.set.each[0]->rule;
    assert_int_equal(r->kind, FAULT_DELAY);
    assert_int_equal(r->direction, FAULT_IN);
    assert_false(r->any);
    assert_int_equal(r->peer, 3);
    assert_int_equal(r->for_us, 30000000);
    assert_int_equal(r->delay_us, 50000);
    assert_int_equal(r->jitter_us, 10000);
    fault_set_deinit(&f.set);
}

static void what_is_made_is_understood(void **state)
{
    (void)state;
    const struct fault_rule rules[] = {
        {.kind = FAULT_DROP, .direction = FAULT_OUT, .any = true},
        {.kind = FAULT_DELAY,
         .direction = FAULT_BOTH,
         .peer = 7,
         .delay_us = 123456,
         .jitter_us = 1,
         .for_us = 1},
        {.kind = FAULT_LIMIT, .direction = FAULT_IN, .peer = 1, .bytes_s = 12345},
        {.kind = FAULT_CORRUPT,
         .direction = FAULT_BOTH,
         .peer = INT64_MAX,
         .one_in = 99,
         .for_us = 3600000000},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        struct fake f = {0};
        json_t *request = fault_request_make(&rules[i]);
        char *text = json_dumps(request, JSON_REAL_PRECISION(17));
        json_decref(ask_well(&f, text));
        const struct fault_rule *r = &f.set.each[0]->rule;
        assert_true(r->kind == rules[i].kind && r->direction == rules[i].direction && r->any == rules[i].any);
        assert_true(r->peer == rules[i].peer && r->for_us == rules[i].for_us &&
                    r->delay_us == rules[i].delay_us);
        assert_true(r->jitter_us == rules[i].jitter_us && r->bytes_s == rules[i].bytes_s);
        assert_int_equal(r->one_in, rules[i].one_in);
        free(text);
        json_decref(request);
        fault_set_deinit(&f.set);
    }
}

static void faults_are_listed_and_healed(void **state)
{
    (void)state;
    struct fake f = {0};
    json_decref(ask_well(&f, "{\"kind\": \"drop\", \"for_s\": 5}"));
    json_decref(ask_well(&f, "{\"kind\": \"reset\", \"peer\": \"any\"}"));
    f.set.each[1]->counts.links_reset = 4;
    json_t *reply = ask_well(&f, "{\"op\": \"fault\"}");
    const json_t *list = json_object_get(reply, "faults");
    assert_int_equal(json_array_size(list), 2);
    assert_true(json_is_true(json_object_get(json_array_get(list, 1), "bit")));
    assert_true(json_is_false(json_object_get(json_array_get(list, 0), "bit")));
    assert_true(json_number_value(json_object_get(json_array_get(list, 0), "left_s")) == 5.0);
    assert_true(json_is_null(json_object_get(json_array_get(list, 1), "left_s")));
    json_decref(reply);
    reply = ask_well(&f, "{\"heal\": 2}");
    assert_int_equal(json_integer_value(json_object_get(reply, "healed")), 1);
    list = json_object_get(reply, "faults");
    assert_int_equal(json_array_size(list), 1);
    struct fault_counts counts;
    fault_request_counts(json_array_get(list, 0), &counts);
    assert_int_equal(counts.links_reset, 4);
    json_decref(reply);
    reply = ask_well(&f, "{\"heal\": \"all\"}");
    assert_int_equal(json_integer_value(json_object_get(reply, "healed")), 1);
    assert_int_equal(f.set.live, 0);
    json_decref(reply);
    fault_set_deinit(&f.set);
}

static void what_is_wrong_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *request, *says;
    } bad[] = {
        {"{\"kind\": \"dropp\"}", "kind must be drop"},
        {"{\"kind\": 3}", "kind must be drop"},
        {"{\"kind\": \"drop\", \"peer\": -1}", "peer must be"},
        {"{\"kind\": \"drop\", \"peer\": \"me\"}", "peer must be"},
        {"{\"kind\": \"drop\", \"peer\": 1.5}", "peer must be"},
        {"{\"kind\": \"drop\", \"direction\": \"up\"}", "direction must be"},
        {"{\"kind\": \"drop\", \"direction\": 1}", "direction must be"},
        {"{\"kind\": \"drop\", \"for_s\": -1}", "for_s must be"},
        {"{\"kind\": \"drop\", \"for_s\": 1e300}", "for_s must be"},
        {"{\"kind\": \"drop\", \"for_s\": \"1\"}", "for_s must be"},
        {"{\"kind\": \"delay\"}", "delay: a fault of kind delay needs it"},
        {"{\"kind\": \"limit\", \"rate\": 0}", "rate must be"},
        {"{\"kind\": \"corrupt\", \"one_in\": 0.5}", "one_in must be"},
        {"{\"kind\": \"drop\", \"rate\": 5}", "rate goes with"},
        {"{\"heal\": 7}", "there is no fault 7"},
        {"{\"heal\": 0}", "heal must be"},
        {"{\"heal\": \"some\"}", "heal must be"},
        {"{\"heal\": 99999999999}", "heal must be"},
    };
    struct fake f = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_text why = {""};
        assert_null(ask(&f, bad[i].request, &why));
        if (strstr(why.text, bad[i].says) == NULL) fail_msg("%s: '%s'", bad[i].request, why.text);
        assert_int_equal(f.set.count, 0);
    }
    fault_set_deinit(&f.set);
}

static void too_many_are_refused(void **state)
{
    (void)state;
    struct fake f = {0};
    struct err_text why = {""};
    for (unsigned i = 0; i < FAULT_RULE_MAX; i++) json_decref(ask_well(&f, "{\"kind\": \"drop\"}"));
    assert_null(ask(&f, "{\"kind\": \"drop\"}", &why));
    assert_non_null(strstr(why.text, "heal some"));
    fault_set_deinit(&f.set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_comes_through),         cmocka_unit_test(what_is_made_is_understood),
        cmocka_unit_test(faults_are_listed_and_healed), cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

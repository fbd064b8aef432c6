/* Goal: whatever text a person or a program hands over (an invitation, a scenario file, a request for faults, an
 * address), it is taken or refused with one line, without a crash; and what is taken can be used.
 * Method: valid texts changed at random, seeded, so that a failure repeats; sanitizers and checks watch. More:
 * test_fuzz_texts ROUNDS [SEED]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/control/invite.h"
#include "agent/scenario/fault_request.h"
#include "agent/scenario/scenario.h"
#include "base/check.h"
#include "base/prng.h"
#include "net/discovery/discovery.h"

enum { ROUNDS = 20000, FILES = 2000, TEXT_ROOM = 4096, NODES = 8 };

static uint64_t rounds = 1, seed = 1;

/* A few changes: a bit, a character that matters, a hole, a stretch repeated, a word of another text, an end. */
static void mutate(struct prng *p, char text[TEXT_ROOM], const char *const *words, size_t word_count)
{
    for (uint32_t left = prng_below(p, 5); left > 0; left--) {
        size_t size = strlen(text), at = prng_below(p, (uint32_t)size + 1), length = 1 + prng_below(p, 12);
        static const char matters[] = "[]{}:,-&*!|>'\"#%@ \n\t0199.+e";
        const char *word = words[prng_below(p, (uint32_t)word_count)];
        if (length > size - at) length = size - at;
        switch (prng_below(p, 6)) {
        case 0:
            if (at < size) text[at] = (char)(text[at] ^ (1 << prng_below(p, 8)));
            break;
        case 1:
            if (at < size) text[at] = matters[prng_below(p, sizeof matters - 1)];
            break;
        case 2:
            memmove(text + at, text + at + length, size - at - length + 1);
            break;
        case 3:
            if (size + length >= TEXT_ROOM) break;
            memmove(text + at + length, text + at, size - at + 1);
            break;
        case 4:
            if (size + strlen(word) >= TEXT_ROOM) break;
            memmove(text + at + strlen(word), text + at, size - at + 1);
            memcpy(text + at, word, strlen(word));
            break;
        case 5:
            if (prng_below(p, 4) == 0) text[at] = '\0';
            break;
        }
    }
}

/* -- invitations ------------------------------------------------------------------------------- */

static void any_invitation_is_taken_or_refused(void **state)
{
    (void)state;
    static const char *const words[] = {"gadabout1:", "gadabout", "AAAA", "____", "gadabout2:", "="};
    struct prng p;
    uint64_t taken = 0;
    prng_split(&p, seed, "invitations", 0);
    for (uint64_t i = 0; i < rounds * ROUNDS; i++) {
        struct invite in = {.address_count = 1 + prng_below(&p, INVITE_ADDRESS_MAX), .cluster = "c"}, out,
                      again;
        for (uint32_t k = 0; k < in.address_count; k++)
            snprintf(in.address[k], ADDRESS_TEXT_MAX,
                     k % 3 == 0   ? "host%u:1"
                     : k % 3 == 1 ? "10.0.0.%u:9"
                                  : "[fe80::%u]:7",
                     1 + prng_below(&p, 200));
        char text[TEXT_ROOM];
        struct err_text why = {""};
        assert_int_equal(invite_encode(&in, text, &why), 0);
        mutate(&p, text, words, sizeof words / sizeof words[0]);
        (void)invite_is_meant(text);
        if (invite_decode(text, &out, &why) != 0) {
            assert_true(why.text[0] != '\0');
            continue;
        }
        taken++;
        for (uint32_t k = 0; k < out.address_count; k++) assert_true(discovery_takes(out.address[k]));
        assert_int_equal(invite_encode(&out, text, &why), 0);
        assert_int_equal(invite_decode(text, &again, &why), 0);
        assert_memory_equal(&out, &again, sizeof out);
    }
    assert_in_range(taken, rounds * ROUNDS / 20, rounds * ROUNDS / 2);
}

/* -- scenario files ---------------------------------------------------------------------------- */

static const char *const entries[] = {
    "- {at: 10s, for: 30s, fault: partition, groups: [[0-3], [4-7]]}\n",
    "- {at: 20s, for: 5s, fault: delay, links: [[0-3], [4-7]], delay: 50ms, jitter: 10ms, one_way: true}\n",
    "- {at: 5s, for: 2s, fault: stop, nodes: [3, 5-6], repeat: 10, every: 20s}\n",
    "- {at: 60s, fault: kill, nodes: 2}\n",
    "- at: 1s\n  fault: limit\n  nodes: all\n  rate: 1000\n",
    "- {at: 1s, fault: restart, nodes: [1], for: 3s}\n",
    "- {at: 0s, for: 1s, fault: corrupt, nodes: [0], one_in: 1000}\n",
};

static const char *const scenario_words[] = {"&a ",
                                             "*a",
                                             "[[0], [1]]",
                                             "all",
                                             "0-7",
                                             "reset",
                                             "half_open",
                                             "one_way: yes, ",
                                             "repeat: 99999, every: 1year, ",
                                             "- ",
                                             "nodes: &b [*b]",
                                             "99999999999",
                                             "!!binary ",
                                             "---\n",
                                             "...\n",
                                             "<<: *a, ",
                                             "1e308s",
                                             "-1s",
                                             "nan",
                                             "inf"};

/* Each rule that an entry stands for names nodes of the cluster, and holds together. */
static void check_scenario(const struct scenario *s)
{
    for (uint32_t f = 0; f < s->count; f++) {
        assert_true(s->fault[f].repeat >= 1 && s->fault[f].group_count >= 1 && s->fault[f].what[0] != '\0');
        uint32_t node, i = 0;
        struct fault_rule rule;
        for (; scenario_rule_at(&s->fault[f], i, &node, &rule); i++) {
            assert_true(node < NODES && (rule.any || (rule.peer < NODES && rule.peer != node)));
            assert_int_equal(fault_rule_check(&rule, NULL), 0);
        }
        assert_true(i <= SCENARIO_RULE_MAX);
    }
}

static void any_scenario_is_taken_or_refused(void **state)
{
    (void)state;
    struct prng p;
    uint64_t taken = 0, count = rounds * FILES;
    char path[64];
    snprintf(path, sizeof path, "/tmp/fuzz-scenario-%ld.yml", (long)getpid());
    prng_split(&p, seed, "scenarios", 0);
    for (uint64_t i = 0; i < count; i++) {
        char text[TEXT_ROOM] = "";
        for (uint32_t k = 1 + prng_below(&p, 4); k > 0; k--)
            strncat(text, entries[prng_below(&p, sizeof entries / sizeof entries[0])], TEXT_ROOM / 8);
        mutate(&p, text, scenario_words, sizeof scenario_words / sizeof scenario_words[0]);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
        struct scenario s;
        struct err_text why = {""};
        if (scenario_read(path, NODES, &s, &why) != 0) {
            assert_non_null(strstr(why.text, path));
            continue;
        }
        taken++;
        check_scenario(&s);
        scenario_deinit(&s);
    }
    unlink(path);
    assert_in_range(taken, count / 10, count * 9 / 10);
}

/* -- requests for faults ------------------------------------------------------------------------ */

struct fake {
    struct transport base; /* first */
    struct fault_set set;
};

static int fake_inject(struct transport *t, const struct fault_rule *rule)
{
    assert_int_equal(fault_rule_check(rule, NULL), 0);
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

static void any_request_for_faults_is_taken_or_refused(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "{\"op\":\"fault\",\"kind\":\"drop\",\"peer\":3,\"direction\":\"in\",\"for_s\":2.5}",
        "{\"op\":\"fault\",\"kind\":\"delay\",\"peer\":\"any\",\"delay_s\":0.05,\"jitter_s\":0.01}",
        "{\"op\":\"fault\",\"kind\":\"limit\",\"rate\":1000}",
        "{\"op\":\"fault\",\"heal\":\"all\"}",
        "{\"op\":\"fault\",\"heal\":7}",
        "{\"op\":\"fault\"}",
    };
    static const char *const words[] = {"null",
                                        "\"any\"",
                                        "1e400",
                                        "-1",
                                        "9223372036854775807",
                                        "true",
                                        "[]",
                                        "{}",
                                        "\"kind\":\"reset\",",
                                        "\"one_in\":1,",
                                        "\"heal\":0,",
                                        "1e18"};
    struct fake f = {.base = {&fake_ops}};
    struct prng p;
    uint64_t taken = 0, parsed = 0;
    prng_split(&p, seed, "requests", 0);
    for (uint64_t i = 0; i < rounds * ROUNDS; i++) {
        char text[TEXT_ROOM];
        snprintf(text, sizeof text, "%s", requests[prng_below(&p, sizeof requests / sizeof requests[0])]);
        mutate(&p, text, words, sizeof words / sizeof words[0]);
        json_t *request = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *reply = json_object();
        struct err_text why = {""};
        if (json_is_object(request)) {
            parsed++;
            int err = fault_request(&f.base, 1000000, request, reply, &why);
            assert_true((err == 0) == (why.text[0] == '\0'));
            taken += err == 0;
        }
        json_decref(request);
        json_decref(reply);
        if (prng_below(&p, 50) == 0) fault_set_deinit(&f.set); /* few, so that to tell of all is quick */
    }
    fault_set_deinit(&f.set);
    assert_in_range(parsed, rounds * ROUNDS / 10, rounds * ROUNDS);
    assert_in_range(taken, parsed / 10, parsed * 99 / 100);
}

int main(int argc, char **argv)
{
    if (argc > 1) rounds = strtoull(argv[1], NULL, 10);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_invitation_is_taken_or_refused),
        cmocka_unit_test(any_scenario_is_taken_or_refused),
        cmocka_unit_test(any_request_for_faults_is_taken_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

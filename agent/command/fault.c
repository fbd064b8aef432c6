/* `gadabout fault`: asks a running agent to disturb its own links, to heal them, or what it disturbs.
 *
 * Normal course
 *  - --kind: the fault begins, and its number is printed; it ends after --for, or with --heal.
 *  - --heal: all faults of the agent end, and what each did is printed.
 *  - neither: the agent's faults are listed.
 * Failure courses
 *  - a fault that does not hold together, an option that does not go with it, an agent that cannot be told apart:
 *    one line, exit 2.
 *  - no agent, or it does not answer, or refuses: one line, exit 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command/commands.h"
#include "agent/control/control.h"
#include "agent/scenario/fault_request.h"
#include "base/check.h"

#define ANSWER_MS 5000u

static uint64_t microseconds(double seconds)
{
    return (uint64_t)(seconds * 1e6 + 0.5);
}

static int take_peer(const char *text, struct fault_rule *r, struct err_text *why)
{
    r->any = text == NULL || strcmp(text, "any") == 0;
    if (r->any) return 0;
    size_t length = strlen(text);
    if (length == 0 || length > 18 || strspn(text, "0123456789") != length)
        return err_set(why, ERR_USAGE, "--peer: '%s' must be the id of a node, or any", text);
    r->peer = strtoull(text, NULL, 10);
    return 0;
}

static int make_rule(const struct config *c, struct fault_rule *r, struct err_text *why)
{
    *r = (struct fault_rule){.direction = FAULT_BOTH,
                             .for_us = microseconds(c->fault_for_s),
                             .delay_us = microseconds(c->fault_delay_s),
                             .jitter_us = microseconds(c->fault_jitter_s),
                             .bytes_s = c->fault_rate,
                             .one_in = c->fault_one_in};
    if (fault_kind_parse(c->fault_kind, &r->kind) != 0)
        return err_set(why, ERR_USAGE, "--kind: '%s' must be " FAULT_KIND_NAMES, c->fault_kind);
    if (c->fault_direction != NULL && fault_direction_parse(c->fault_direction, &r->direction) != 0)
        return err_set(why, ERR_USAGE, "--direction: '%s' must be in, out or both", c->fault_direction);
    int err = take_peer(c->fault_peer, r, why);
    if (err != 0) return err;
    struct err_text reason;
    err = fault_rule_check(r, &reason);
    if (err == 0) return 0;
    size_t word = strcspn(reason.text, ": ");
    for (size_t i = 0; i < word; i++)
        if (reason.text[i] == '_')
            reason.text[i] = '-'; /* a key of requests and scenarios, one_in, is --one-in here */
    return err_set(why, err, "--%.400s", reason.text);
}

/* Returns owned, or NULL with why. */
static json_t *make_request(const struct config *c, struct err_text *why)
{
    struct fault_rule rule;
    if (c->fault_heal && c->fault_kind != NULL) {
        err_set(why, ERR_USAGE, "--heal: ends all faults; it does not go with --kind");
        return NULL;
    }
    if (c->fault_heal) return fault_request_heal(0);
    if (c->fault_kind != NULL) return make_rule(c, &rule, why) == 0 ? fault_request_make(&rule) : NULL;
    bool rest = c->fault_peer != NULL || c->fault_direction != NULL || c->fault_for_s + c->fault_delay_s > 0;
    if (rest || c->fault_jitter_s > 0 || c->fault_rate + c->fault_one_in > 0) {
        err_set(why, ERR_USAGE, "--kind: missing; give " FAULT_KIND_NAMES);
        return NULL;
    }
    json_t *list = json_object();
    json_object_set_new(list, "op", json_string("fault"));
    return list;
}

/* -- showing ----------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static void print_fault(const json_t *fault, bool healed)
{
    struct fault_counts counts;
    char did[FAULT_TEXT_MAX], left[48] = "";
    fault_request_counts(fault, &counts);
    fault_counts_print(&counts, did);
    bool ended = json_is_true(json_object_get(fault, "ended"));
    const json_t *left_s = json_object_get(fault, "left_s");
    if (!ended && !healed && json_is_number(left_s))
        snprintf(left, sizeof left, "%.1f s left; ", json_number_value(left_s));
    printf("fault %" JSON_INTEGER_FORMAT "%s: %s; %s%s\n", json_integer_value(json_object_get(fault, "id")),
           ended ? " (ended)" : "", text_of(fault, "what"), left, did);
}

static void print_reply(const struct config *c, const json_t *reply)
{
    if (c->fault_kind != NULL) {
        printf("fault %" JSON_INTEGER_FORMAT ": %s\n", json_integer_value(json_object_get(reply, "fault")),
               text_of(reply, "what"));
        return;
    }
    const json_t *faults = json_object_get(reply, "faults"), *fault;
    size_t i;
    json_array_foreach(faults, i, fault)
    {
        if (!c->fault_heal || !json_is_true(json_object_get(fault, "ended")))
            print_fault(fault, c->fault_heal);
    }
    if (c->fault_heal)
        printf("%" JSON_INTEGER_FORMAT " healed\n", json_integer_value(json_object_get(reply, "healed")));
    else if (json_array_size(faults) == 0)
        printf("no faults\n");
}

static int show(const struct config *c, const json_t *reply)
{
    if (!c->json)
        print_reply(c, reply);
    else if (json_dumpf(reply, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17)) != 0 || putchar('\n') == EOF)
        return EXIT_FAILED;
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

static int complain(const struct err_text *why, int status)
{
    fprintf(stderr, "gadabout: %s\n", why->text);
    return status;
}

int command_fault(struct config *config)
{
    struct err_text why = {""};
    char path[CONTROL_PATH_MAX];
    json_t *request = make_request(config, &why), *reply = NULL;
    if (request == NULL) return complain(&why, EXIT_USAGE);
    int err = control_find(config->agent, path, &why), status;
    if (err != 0) {
        status = complain(&why, err == ERR_USAGE ? EXIT_USAGE : EXIT_FAILED);
    } else {
        err = control_request(path, request, ANSWER_MS, &reply, &why);
        status = err == 0 ? show(config, reply) : complain(&why, EXIT_FAILED);
    }
    json_decref(request);
    json_decref(reply);
    return status;
}

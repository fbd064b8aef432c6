/* Requests for injected faults. See fault_request.h.
 *
 * Failure courses, each with one line that names the key
 *  - a kind, direction or peer that is none; a number that is none or out of range; a rule that does not hold
 *    together; a heal of a fault that there is not.
 *  - more than FAULT_RULE_MAX rules in force. */
#include "agent/scenario/fault_request.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/files/json.h"
#include "base/check.h"

#define TIME_MAX_S 3.2e7 /* a year */
#define COUNT_MAX (INT64_C(1) << 40)

/* -- from JSON --------------------------------------------------------------------------------- */

/* A key that is not there leaves *out as it is. */
static int take_time(const json_t *o, const char *key, uint64_t *out_us, struct err_text *why)
{
    const json_t *value = json_object_get(o, key);
    if (value == NULL || json_is_null(value)) return 0;
    double seconds = json_is_number(value) ? json_number_value(value) : -1;
    if (!(seconds >= 0 && seconds <= TIME_MAX_S))
        return err_set(why, ERR_USAGE, "fault: %s must be a number of seconds, at least 0 and at most a year",
                       key);
    *out_us = (uint64_t)(seconds * 1e6 + 0.5);
    return 0;
}

static int take_count(const json_t *o, const char *key, uint64_t *out, struct err_text *why)
{
    const json_t *value = json_object_get(o, key);
    if (value == NULL || json_is_null(value)) return 0;
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : 0;
    if (number < 1 || number > COUNT_MAX)
        return err_set(why, ERR_USAGE, "fault: %s must be a whole number, at least 1", key);
    *out = (uint64_t)number;
    return 0;
}

static int take_peer(const json_t *o, struct fault_rule *r, struct err_text *why)
{
    const json_t *value = json_object_get(o, "peer");
    const char *text = json_string_value(value);
    r->any = value == NULL || (text != NULL && strcmp(text, "any") == 0);
    if (r->any) return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return err_set(why, ERR_USAGE, "fault: peer must be the id of a node, or \"any\"");
    r->peer = (node_id)json_integer_value(value);
    return 0;
}

static int take_rule(const json_t *o, struct fault_rule *r, struct err_text *why)
{
    const char *kind = json_string_value(json_object_get(o, "kind"));
    const json_t *direction = json_object_get(o, "direction");
    *r = (struct fault_rule){.direction = FAULT_BOTH};
    if (kind == NULL || fault_kind_parse(kind, &r->kind) != 0)
        return err_set(why, ERR_USAGE, "fault: kind must be " FAULT_KIND_NAMES);
    const char *way = json_string_value(direction);
    if (direction != NULL && (way == NULL || fault_direction_parse(way, &r->direction) != 0))
        return err_set(why, ERR_USAGE, "fault: direction must be in, out or both");
    int err = take_peer(o, r, why);
    if (err == 0) err = take_time(o, "for_s", &r->for_us, why);
    if (err == 0) err = take_time(o, "delay_s", &r->delay_us, why);
    if (err == 0) err = take_time(o, "jitter_s", &r->jitter_us, why);
    if (err == 0) err = take_count(o, "rate", &r->bytes_s, why);
    if (err == 0) err = take_count(o, "one_in", &r->one_in, why);
    return err != 0 ? err : fault_rule_check(r, why);
}

/* -- to JSON ----------------------------------------------------------------------------------- */

static json_t *count_json(uint64_t count)
{
    return json_count_or_null(count);
}

static json_t *status_json(const struct fault_status *f, uint64_t now_us)
{
    char text[FAULT_TEXT_MAX];
    const struct fault_counts *c = &f->counts;
    json_t *o = json_object();
    json_object_set_new(o, "id", json_integer(f->id));
    json_object_set_new(o, "kind", json_string(fault_kind_name(f->rule.kind)));
    json_object_set_new(o, "peer", f->rule.any ? json_string("any") : count_json(f->rule.peer));
    json_object_set_new(o, "direction", json_string(fault_direction_name(f->rule.direction)));
    fault_rule_print(&f->rule, text);
    json_object_set_new(o, "what", json_string(text));
    json_object_set_new(o, "ended", json_boolean(f->ended));
    double left_s = f->until_us == TIME_NEVER ? (double)NAN : 0;
    if (f->until_us != TIME_NEVER && f->until_us > now_us && !f->ended)
        left_s = (double)(f->until_us - now_us) * 1e-6;
    json_object_set_new(o, "left_s", json_number_or_null(left_s));
    json_object_set_new(o, "bit", json_boolean(fault_has_bitten(c)));
    json_object_set_new(o, "bytes_held", count_json(c->bytes_held));
    json_object_set_new(o, "bytes_slowed", count_json(c->bytes_slowed));
    json_object_set_new(o, "bytes_swallowed", count_json(c->bytes_swallowed));
    json_object_set_new(o, "bytes_corrupted", count_json(c->bytes_corrupted));
    json_object_set_new(o, "links_reset", count_json(c->links_reset));
    json_object_set_new(o, "links_refused", count_json(c->links_refused));
    return o;
}

static uint64_t count_of(const json_t *o, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(o, key));
    return number > 0 ? (uint64_t)number : 0;
}

void fault_request_counts(const json_t *fault, struct fault_counts *out)
{
    *out = (struct fault_counts){
        .bytes_held = count_of(fault, "bytes_held"),
        .bytes_slowed = count_of(fault, "bytes_slowed"),
        .bytes_swallowed = count_of(fault, "bytes_swallowed"),
        .bytes_corrupted = count_of(fault, "bytes_corrupted"),
        .links_reset = count_of(fault, "links_reset"),
        .links_refused = count_of(fault, "links_refused"),
    };
}

json_t *fault_request_make(const struct fault_rule *r)
{
    json_t *o = json_object();
    json_object_set_new(o, "op", json_string("fault"));
    json_object_set_new(o, "kind", json_string(fault_kind_name(r->kind)));
    json_object_set_new(o, "peer", r->any ? json_string("any") : count_json(r->peer));
    json_object_set_new(o, "direction", json_string(fault_direction_name(r->direction)));
    if (r->for_us > 0) json_object_set_new(o, "for_s", json_real((double)r->for_us * 1e-6));
    if (r->delay_us > 0) json_object_set_new(o, "delay_s", json_real((double)r->delay_us * 1e-6));
    if (r->jitter_us > 0) json_object_set_new(o, "jitter_s", json_real((double)r->jitter_us * 1e-6));
    if (r->bytes_s > 0) json_object_set_new(o, "rate", count_json(r->bytes_s));
    if (r->one_in > 0) json_object_set_new(o, "one_in", count_json(r->one_in));
    return o;
}

json_t *fault_request_heal(int id)
{
    json_t *o = json_object();
    json_object_set_new(o, "op", json_string("fault"));
    json_object_set_new(o, "heal", id == 0 ? json_string("all") : json_integer(id));
    return o;
}

/* -- requests ---------------------------------------------------------------------------------- */

/* Those with this id, or all (0). */
static uint32_t add_faults(const struct transport *t, uint64_t now_us, int id, json_t *reply)
{
    struct fault_status *all = mem_new(FAULT_RULE_MAX, sizeof *all);
    uint32_t count = t->ops->faults(t, all, FAULT_RULE_MAX), found = 0;
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++) {
        if (id != 0 && all[i].id != id) continue;
        json_array_append_new(list, status_json(&all[i], now_us));
        found++;
    }
    free(all);
    json_object_set_new(reply, "faults", list);
    return found;
}

/* What is told of a fault includes what it holds back at that moment. */
static int heal(struct transport *t, uint64_t now_us, const json_t *which, json_t *reply,
                struct err_text *why)
{
    const char *text = json_string_value(which);
    bool all = text != NULL && strcmp(text, "all") == 0;
    json_int_t id = json_is_integer(which) ? json_integer_value(which) : 0;
    if (!all && (id < 1 || id > INT32_MAX))
        return err_set(why, ERR_USAGE, "fault: heal must be the number of a fault, or \"all\"");
    uint32_t found = add_faults(t, now_us, (int)id, reply);
    if (!all && found == 0) return err_set(why, ERR_USAGE, "fault: there is no fault %" PRId64, (int64_t)id);
    json_object_set_new(reply, "healed", json_integer(t->ops->heal(t, (int)id)));
    return 0;
}

int fault_request(struct transport *t, uint64_t now_us, const json_t *request, json_t *reply,
                  struct err_text *why)
{
    const json_t *which = json_object_get(request, "heal");
    if (which != NULL) return heal(t, now_us, which, reply, why);
    if (json_object_get(request, "kind") == NULL) {
        add_faults(t, now_us, 0, reply);
        return 0;
    }
    struct fault_rule rule;
    char text[FAULT_TEXT_MAX];
    int err = take_rule(request, &rule, why);
    if (err != 0) return err;
    int id = t->ops->inject(t, &rule);
    if (id < 0) return err_set(why, id, "fault: %u faults are in force already; heal some", FAULT_RULE_MAX);
    fault_rule_print(&rule, text);
    json_object_set_new(reply, "fault", json_integer(id));
    json_object_set_new(reply, "what", json_string(text));
    return 0;
}

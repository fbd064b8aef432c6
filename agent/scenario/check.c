/* Scenario files: an entry as a whole. See scenario.h.
 *
 * Failure courses, each one line that begins with file:line
 *  - a key that is missing, or does not go with the fault; times that overlap; a node on both sides; too many links. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "agent/scenario/internal.h"

const char *const scenario_key_names[KEY_COUNT] = {"at",     "for",     "fault", "nodes",  "links",
                                                   "groups", "one_way", "delay", "jitter", "rate",
                                                   "one_in", "repeat",  "every"};

int scenario_refuse(const struct reader *r, unsigned long line, struct err_text *why, const char *format, ...)
{
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(why, ERR_USAGE, "%s:%lu: %s", r->path, line, text);
}

static int needs(const struct reader *r, const struct scenario_fault *f, enum key key, const char *example,
                 struct err_text *why)
{
    if (r->given[key] != 0) return 0;
    return scenario_refuse(
        r, f->line, why, "%s: missing; a %s needs it, as in %s: %s", scenario_key_names[key],
        r->given[KEY_FAULT] != 0 ? scenario_kind_name(f) : "fault", scenario_key_names[key], example);
}

static int not_with(const struct reader *r, const struct scenario_fault *f, enum key key,
                    struct err_text *why)
{
    if (r->given[key] == 0) return 0;
    return scenario_refuse(r, r->given[key], why, "%s: does not go with the fault %s",
                           scenario_key_names[key], scenario_kind_name(f));
}

static int check_shape(const struct reader *r, const struct scenario_fault *f, struct err_text *why)
{
    bool links = f->kind == SCENARIO_LINKS, partition = f->kind == SCENARIO_PARTITION;
    int err = needs(r, f, KEY_AT, "10s", why);
    if (err == 0) err = needs(r, f, KEY_FAULT, "drop", why);
    if (err != 0) return err;
    if (partition) err = needs(r, f, KEY_GROUPS, "[[0-3], [4-7]]", why);
    if (err == 0 && !partition && r->given[KEY_LINKS] == 0) err = needs(r, f, KEY_NODES, "[0-3]", why);
    static const enum key of_links[] = {KEY_LINKS, KEY_ONE_WAY, KEY_DELAY, KEY_JITTER, KEY_RATE, KEY_ONE_IN};
    for (size_t i = 0; i < sizeof of_links / sizeof of_links[0] && err == 0 && !links; i++)
        err = not_with(r, f, of_links[i], why);
    if (err == 0 && !partition) err = not_with(r, f, KEY_GROUPS, why);
    if (err == 0 && f->kind == SCENARIO_KILL) err = not_with(r, f, KEY_FOR, why);
    struct err_text what;
    if (err == 0 && links && fault_rule_check(&f->rule, &what) != 0)
        err = scenario_refuse(r, f->line, why, "%s", what.text);
    return err;
}

static int check_times(const struct reader *r, const struct scenario_fault *f, struct err_text *why)
{
    int err = 0;
    if (r->given[KEY_REPEAT] != 0) err = needs(r, f, KEY_EVERY, "20s", why);
    if (err == 0 && r->given[KEY_EVERY] != 0) err = needs(r, f, KEY_REPEAT, "10", why);
    bool lasts = f->kind != SCENARIO_KILL && f->kind != SCENARIO_RESTART;
    if (err == 0 && f->repeat > 1 && lasts && (f->for_us == 0 || f->for_us > f->every_us))
        err = scenario_refuse(r, r->given[KEY_EVERY], why,
                              "every: must be at least as long as for, which must be given");
    return err;
}

static int check_groups(const struct reader *r, const struct scenario_fault *f, struct err_text *why)
{
    uint64_t nodes = 0, rules = 0;
    for (uint32_t g = 0; g < f->group_count; g++) {
        rules += 2 * nodes * f->group[g].count;
        nodes += f->group[g].count;
        for (uint32_t h = 0; h < g; h++)
            for (uint32_t i = 0, k = 0; i < f->group[g].count && k < f->group[h].count;) {
                uint32_t a = f->group[g].node[i], b = f->group[h].node[k];
                if (a == b)
                    return scenario_refuse(r, f->line, why, "%s: node %" PRIu32 " is on both sides",
                                           f->kind == SCENARIO_PARTITION ? "groups" : "links", a);
                i += a < b;
                k += b < a;
            }
    }
    if (rules > SCENARIO_RULE_MAX)
        return scenario_refuse(r, f->line, why, "%" PRIu64 " links are too many for one entry, at most %u",
                               rules / 2, SCENARIO_RULE_MAX / 2);
    return 0;
}

int scenario_check(const struct reader *r, const struct scenario_fault *f, struct err_text *why)
{
    int err = check_shape(r, f, why);
    if (err == 0) err = check_times(r, f, why);
    return err != 0 ? err : check_groups(r, f, why);
}

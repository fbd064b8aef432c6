/* What an entry of a scenario stands for: in words, and as rules of single nodes. See scenario.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/scenario/scenario.h"
#include "base/check.h"

/* -- in words ---------------------------------------------------------------------------------- */

const char *scenario_kind_name(const struct scenario_fault *f)
{
    switch (f->kind) {
    case SCENARIO_LINKS:
        return fault_kind_name(f->rule.kind);
    case SCENARIO_PARTITION:
        return "partition";
    case SCENARIO_KILL:
        return "kill";
    case SCENARIO_STOP:
        return "stop";
    case SCENARIO_RESTART:
        return "restart";
    }
    UNREACHABLE();
}

__attribute__((format(printf, 2, 3))) static void append(char out[SCENARIO_TEXT_MAX], const char *format, ...)
{
    size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, SCENARIO_TEXT_MAX - used, format, args);
    va_end(args);
}

static void append_nodes(char out[SCENARIO_TEXT_MAX], const struct node_list *l)
{
    for (uint32_t i = 0, last; i < l->count; i = last + 1) {
        for (last = i; last + 1 < l->count && l->node[last + 1] == l->node[last] + 1;) last++;
        append(out, "%s%" PRIu32, i > 0 ? "," : "", l->node[i]);
        if (last > i) append(out, "-%" PRIu32, l->node[last]);
    }
}

static void say_links(struct scenario_fault *f)
{
    struct fault_rule bare = f->rule;
    char rule[FAULT_TEXT_MAX];
    fault_rule_print(&bare, rule);
    *strchr(rule, ',') = '\0'; /* the kind and its numbers */
    append(f->what, "%s %s ", rule, f->group_count == 2 ? (f->one_way ? "from" : "between") : "at");
    append_nodes(f->what, &f->group[0]);
    if (f->group_count == 2) {
        append(f->what, f->one_way ? " to " : " and ");
        append_nodes(f->what, &f->group[1]);
    }
    if (f->group_count == 1) append(f->what, f->one_way ? ", what goes out" : ", all links");
}

void scenario_say(struct scenario_fault *f)
{
    f->what[0] = '\0';
    if (f->kind == SCENARIO_LINKS) {
        say_links(f);
        return;
    }
    append(f->what, "%s of ", scenario_kind_name(f));
    for (uint32_t g = 0; g < f->group_count; g++) {
        if (g > 0) append(f->what, " | ");
        append_nodes(f->what, &f->group[g]);
    }
}

/* -- rules ------------------------------------------------------------------------------------- */

/* The i-th pair of nodes of two different groups. */
static bool pair_at(const struct scenario_fault *f, uint32_t i, uint32_t *a, uint32_t *b)
{
    for (uint32_t g = 0; g < f->group_count; g++)
        for (uint32_t h = g + 1; h < f->group_count; h++) {
            uint32_t pairs = f->group[g].count * f->group[h].count;
            if (i < pairs) {
                *a = f->group[g].node[i / f->group[h].count];
                *b = f->group[h].node[i % f->group[h].count];
                return true;
            }
            i -= pairs;
        }
    return false;
}

bool scenario_rule_at(const struct scenario_fault *f, uint32_t i, uint32_t *node, struct fault_rule *out)
{
    *out = f->rule;
    if (f->kind == SCENARIO_PARTITION)
        *out = (struct fault_rule){.kind = FAULT_DROP, .direction = FAULT_BOTH};
    if (f->kind != SCENARIO_LINKS && f->kind != SCENARIO_PARTITION) return false;
    if (f->group_count == 1) {
        out->any = true;
        if (i < f->group[0].count) *node = f->group[0].node[i];
        return i < f->group[0].count;
    }
    bool both_ends = out->kind == FAULT_DROP;
    uint32_t a, b;
    if (!pair_at(f, both_ends ? i / 2 : i, &a, &b)) return false;
    bool other_end = both_ends && i % 2 == 1;
    *node = other_end ? b : a;
    out->peer = other_end ? a : b;
    if (other_end && f->one_way) out->direction = FAULT_IN;
    return true;
}

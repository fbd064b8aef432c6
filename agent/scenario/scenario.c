/* Scenario files: from YAML to faults. See scenario.h.
 *
 * Normal course
 *  - libyaml makes a tree of the file; each entry's keys are taken by one table; then the entry is checked as a
 *    whole, and told in words.
 * Failure courses, each one line that begins with file:line
 *  - not YAML, not a list, an entry that is no mapping, more than SCENARIO_FAULT_MAX of them.
 *  - an unknown key or fault (the nearest known one is named), a key given twice, a value that does not fit.
 *  - nodes that the cluster does not have; what does not go together: scenario/check.c.
 *  - the file cannot be read or is over SCENARIO_FILE_MAX. */
#include "agent/scenario/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/choice.h"

#define SCENARIO_FILE_MAX (1024u * 1024u)
#define TIME_MAX_S 3.2e7 /* a year */

static const char *const kind_names[] = {"drop",    "delay",     "limit", "half_open", "reset",
                                         "corrupt", "partition", "kill",  "stop",      "restart"};
enum { KIND_NAME_COUNT = sizeof kind_names / sizeof kind_names[0] };

static unsigned long line_of(const yaml_node_t *n)
{
    return (unsigned long)n->start_mark.line + 1;
}

/* -- values ------------------------------------------------------------------------------------ */

static const char *text_of(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static int take_time(const struct reader *r, enum key key, const yaml_node_t *n, uint64_t *out_us,
                     struct err_text *why)
{
    const char *text = text_of(n);
    double seconds;
    bool may_be_zero = key == KEY_AT || key == KEY_JITTER;
    bool fits = text != NULL && parse_seconds(text, &seconds) == 0 && isfinite(seconds) && seconds >= 0 &&
                seconds <= TIME_MAX_S && (may_be_zero || seconds * 1e6 >= 1);
    if (!fits)
        return scenario_refuse(
            r, line_of(n), why, "%s: '%s' must be a time%s up to a year, as in 30s, 50ms or 2min",
            scenario_key_names[key], text != NULL ? text : "(a list)", may_be_zero ? "" : " above 0");
    *out_us = (uint64_t)(seconds * 1e6 + 0.5);
    return 0;
}

static int take_count(const struct reader *r, enum key key, const yaml_node_t *n, uint64_t most,
                      uint64_t *out, struct err_text *why)
{
    const char *text = text_of(n);
    bool digits =
        text != NULL && text[0] != '\0' && strlen(text) <= 18 && strspn(text, "0123456789") == strlen(text);
    uint64_t number = digits ? strtoull(text, NULL, 10) : 0;
    if (number < 1 || number > most)
        return scenario_refuse(r, line_of(n), why, "%s: '%s' must be a whole number from 1 to %" PRIu64,
                               scenario_key_names[key], text != NULL ? text : "(a list)", most);
    *out = number;
    return 0;
}

static int take_switch(const struct reader *r, enum key key, const yaml_node_t *n, bool *out,
                       struct err_text *why)
{
    const char *text = text_of(n);
    bool yes =
        text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "on") == 0);
    bool no =
        text != NULL && (strcmp(text, "false") == 0 || strcmp(text, "no") == 0 || strcmp(text, "off") == 0);
    if (!yes && !no)
        return scenario_refuse(r, line_of(n), why, "%s: '%s' must be true or false", scenario_key_names[key],
                               text != NULL ? text : "(a list)");
    *out = yes;
    return 0;
}

static int take_kind(const struct reader *r, const yaml_node_t *n, struct scenario_fault *f,
                     struct err_text *why)
{
    const char *text = text_of(n);
    if (text == NULL) text = "";
    if (fault_kind_parse(text, &f->rule.kind) == 0)
        f->kind = SCENARIO_LINKS;
    else if (strcmp(text, "partition") == 0)
        f->kind = SCENARIO_PARTITION;
    else if (strcmp(text, "kill") == 0)
        f->kind = SCENARIO_KILL;
    else if (strcmp(text, "stop") == 0)
        f->kind = SCENARIO_STOP;
    else if (strcmp(text, "restart") == 0)
        f->kind = SCENARIO_RESTART;
    else {
        const char *near = nearest_word(text, kind_names, KIND_NAME_COUNT);
        return scenario_refuse(r, line_of(n), why,
                               "fault: '%s' is none%s%s%s " FAULT_KIND_NAMES
                               ", partition, kill, stop, restart",
                               text, near != NULL ? ", did you mean '" : ";", near != NULL ? near : "",
                               near != NULL ? "'? There are" : " there are");
    }
    return 0;
}

/* -- nodes ------------------------------------------------------------------------------------- */

static int bad_nodes(const struct reader *r, enum key key, const yaml_node_t *n, struct err_text *why)
{
    const char *text = text_of(n);
    return scenario_refuse(r, line_of(n), why,
                           "%s: '%s' must be nodes from 0 to %" PRIu32
                           " of this cluster: a number, a range as in 0-3, all, "
                           "or a list of these",
                           scenario_key_names[key], text != NULL ? text : "(a list)", r->node_count - 1);
}

/* "7", "0-3", "all" */
static bool parse_range(const struct reader *r, const char *text, uint32_t *first, uint32_t *last)
{
    if (strcmp(text, "all") == 0) {
        *first = 0;
        *last = r->node_count - 1;
        return true;
    }
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9) return false;
    unsigned long from = strtoul(text, NULL, 10), to = from;
    const char *rest = text + digits;
    if (*rest == '-') {
        size_t more = strspn(rest + 1, "0123456789");
        if (more == 0 || more > 9 || rest[1 + more] != '\0') return false;
        to = strtoul(rest + 1, NULL, 10);
    } else if (*rest != '\0') {
        return false;
    }
    if (from > to || to >= r->node_count) return false;
    *first = (uint32_t)from;
    *last = (uint32_t)to;
    return true;
}

/* Marks what one scalar or list of scalars names. */
static int mark_nodes(struct reader *r, enum key key, const yaml_node_t *n, bool *in, struct err_text *why)
{
    if (n->type == YAML_SCALAR_NODE) {
        uint32_t first, last;
        if (!parse_range(r, text_of(n), &first, &last)) return bad_nodes(r, key, n, why);
        for (uint32_t v = first; v <= last; v++) in[v] = true;
        return 0;
    }
    if (n->type != YAML_SEQUENCE_NODE) return bad_nodes(r, key, n, why);
    for (const yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->document, *i);
        if (item->type != YAML_SCALAR_NODE) return bad_nodes(r, key, item, why);
        int err = mark_nodes(r, key, item, in, why);
        if (err != 0) return err;
    }
    return 0;
}

static int take_list(struct reader *r, enum key key, const yaml_node_t *n, struct node_list *out,
                     struct err_text *why)
{
    bool *in = mem_new_zero(r->node_count, sizeof *in);
    int err = mark_nodes(r, key, n, in, why);
    *out = (struct node_list){0};
    for (uint32_t v = 0; v < r->node_count && err == 0; v++) out->count += in[v];
    if (err == 0 && out->count == 0) err = bad_nodes(r, key, n, why);
    if (err == 0) {
        out->node = mem_new(out->count, sizeof *out->node);
        for (uint32_t v = 0, i = 0; v < r->node_count; v++)
            if (in[v]) out->node[i++] = v;
    }
    free(in);
    return err;
}

static struct node_list *add_group(struct scenario_fault *f)
{
    f->group = mem_resize(f->group, f->group_count + 1, sizeof *f->group);
    f->group[f->group_count] = (struct node_list){0};
    return &f->group[f->group_count++];
}

static int take_groups(struct reader *r, enum key key, const yaml_node_t *n, struct scenario_fault *f,
                       struct err_text *why)
{
    if (f->group_count > 0)
        return scenario_refuse(r, line_of(n), why, "%s: only one of nodes, links and groups can be given",
                               scenario_key_names[key]);
    if (key == KEY_NODES) return take_list(r, key, n, add_group(f), why);
    size_t count = n->type == YAML_SEQUENCE_NODE
                       ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start)
                       : 0;
    if (count < 2 || (key == KEY_LINKS && count != 2))
        return scenario_refuse(r, line_of(n), why,
                               "%s: must be a list of %s lists of nodes, as in [[0-3], [4-7]]",
                               scenario_key_names[key], key == KEY_LINKS ? "two" : "two or more");
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->document, n->data.sequence.items.start[i]);
        int err = take_list(r, key, item, add_group(f), why);
        if (err != 0) return err;
    }
    return 0;
}

/* -- one entry --------------------------------------------------------------------------------- */

static int take_value(struct reader *r, enum key key, const yaml_node_t *n, struct scenario_fault *f,
                      struct err_text *why)
{
    uint64_t count = 0;
    int err;
    switch (key) {
    case KEY_AT:
        return take_time(r, key, n, &f->at_us, why);
    case KEY_FOR:
        return take_time(r, key, n, &f->for_us, why);
    case KEY_EVERY:
        return take_time(r, key, n, &f->every_us, why);
    case KEY_DELAY:
        return take_time(r, key, n, &f->rule.delay_us, why);
    case KEY_JITTER:
        return take_time(r, key, n, &f->rule.jitter_us, why);
    case KEY_FAULT:
        return take_kind(r, n, f, why);
    case KEY_NODES:
    case KEY_LINKS:
    case KEY_GROUPS:
        return take_groups(r, key, n, f, why);
    case KEY_ONE_WAY:
        return take_switch(r, key, n, &f->one_way, why);
    case KEY_RATE:
        return take_count(r, key, n, UINT64_C(1) << 40, &f->rule.bytes_s, why);
    case KEY_ONE_IN:
        return take_count(r, key, n, UINT64_C(1) << 40, &f->rule.one_in, why);
    case KEY_REPEAT:
        err = take_count(r, key, n, SCENARIO_REPEAT_MAX, &count, why);
        f->repeat = (uint32_t)count;
        return err;
    case KEY_COUNT:
        break;
    }
    UNREACHABLE();
}

static int take_pair(struct reader *r, const yaml_node_pair_t *pair, struct scenario_fault *f,
                     struct err_text *why)
{
    const yaml_node_t *name = yaml_document_get_node(&r->document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(&r->document, pair->value);
    const char *text = text_of(name);
    for (unsigned k = 0; k < KEY_COUNT && text != NULL; k++) {
        if (strcmp(text, scenario_key_names[k]) != 0) continue;
        if (r->given[k] != 0)
            return scenario_refuse(r, line_of(name), why, "key '%s' is given twice (first in line %lu)", text,
                                   r->given[k]);
        r->given[k] = line_of(name);
        return take_value(r, (enum key)k, value, f, why);
    }
    const char *near = text != NULL ? nearest_word(text, scenario_key_names, KEY_COUNT) : NULL;
    return scenario_refuse(
        r, line_of(name), why,
        "unknown key '%s'%s%s%s at, for, fault, nodes, links, groups, one_way, delay, jitter, rate, "
        "one_in, repeat, every",
        text != NULL ? text : "(a list)", near != NULL ? ", did you mean '" : ";", near != NULL ? near : "",
        near != NULL ? "'? There are" : " there are");
}

/* -- the file ---------------------------------------------------------------------------------- */

static int read_entry(struct reader *r, const yaml_node_t *n, struct scenario_fault *f, struct err_text *why)
{
    memset(r->given, 0, sizeof r->given);
    *f = (struct scenario_fault){.line = line_of(n), .repeat = 1, .rule.direction = FAULT_BOTH};
    if (n->type != YAML_MAPPING_NODE)
        return scenario_refuse(r, f->line, why,
                               "expected `- {at: 10s, for: 30s, fault: drop, nodes: [0-3]}`");
    int err = 0;
    for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top && err == 0;
         p++)
        err = take_pair(r, p, f, why);
    if (err == 0 && f->one_way) f->rule.direction = FAULT_OUT;
    if (err == 0) err = scenario_check(r, f, why);
    if (err == 0) scenario_say(f);
    return err;
}

static int read_entries(struct reader *r, struct scenario *out, struct err_text *why)
{
    const yaml_node_t *root = yaml_document_get_root_node(&r->document);
    if (root == NULL || root->type != YAML_SEQUENCE_NODE)
        return scenario_refuse(
            r, root != NULL ? line_of(root) : 1, why,
            "expected a list of faults, as in `- {at: 10s, for: 30s, fault: drop, nodes: [0-3]}`");
    size_t count = (size_t)(root->data.sequence.items.top - root->data.sequence.items.start);
    if (count > SCENARIO_FAULT_MAX)
        return scenario_refuse(r, line_of(root), why, "%zu faults are too many, at most %u", count,
                               SCENARIO_FAULT_MAX);
    out->fault = mem_new_zero(count, sizeof *out->fault);
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *n = yaml_document_get_node(&r->document, root->data.sequence.items.start[i]);
        int err = read_entry(r, n, &out->fault[out->count++], why);
        if (err != 0) return err;
    }
    return 0;
}

static int read_tree(struct reader *r, FILE *file, struct scenario *out, struct err_text *why)
{
    yaml_parser_t parser;
    CHECK(yaml_parser_initialize(&parser) != 0); /* fails only when memory is exhausted */
    yaml_parser_set_input_file(&parser, file);
    int err;
    if (yaml_parser_load(&parser, &r->document) == 0) {
        err = scenario_refuse(r, (unsigned long)parser.problem_mark.line + 1, why, "not valid YAML: %s",
                              parser.problem != NULL ? parser.problem : "cannot be read");
    } else {
        err = read_entries(r, out, why);
        yaml_document_delete(&r->document);
    }
    yaml_parser_delete(&parser);
    return err;
}

static int check_size(FILE *file, const char *path, struct err_text *why)
{
    long size = -1;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size < 0 || fseek(file, 0, SEEK_SET) != 0)
        return err_set(why, ERR_IO, "--faults: cannot read %s: %s", path, strerror(errno));
    if (size > (long)SCENARIO_FILE_MAX)
        return err_set(why, ERR_LIMIT, "--faults: %s is over %u bytes; is it a scenario file?", path,
                       SCENARIO_FILE_MAX);
    return 0;
}

int scenario_read(const char *path, uint32_t node_count, struct scenario *out, struct err_text *why)
{
    *out = (struct scenario){0};
    FILE *file = fopen(path, "rbe");
    if (file == NULL) return err_set(why, ERR_IO, "--faults: cannot open %s: %s", path, strerror(errno));
    struct reader r = {.path = path, .node_count = node_count};
    int err = check_size(file, path, why);
    if (err == 0) err = read_tree(&r, file, out, why);
    fclose(file);
    if (err != 0) scenario_deinit(out);
    return err;
}

void scenario_deinit(struct scenario *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        for (uint32_t g = 0; g < s->fault[i].group_count; g++) free(s->fault[i].group[g].node);
        free(s->fault[i].group);
    }
    free(s->fault);
    *s = (struct scenario){0};
}

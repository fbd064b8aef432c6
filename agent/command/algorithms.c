/* `gadabout algorithms`: every choice that an option knows, from the tables that parse it, and for each method
 * the topologies and compressors that the options' checks let through. */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/command/commands.h"
#include "agent/dataset/split.h"
#include "algo/compress/compress.h"
#include "algo/model/model.h"
#include "algo/optimizer.h"
#include "algo/topology/topology.h"
#include "base/check.h"
#include "net/sim/sim.h"

enum { FITTING_MAX = 32, LINE_MAX_COLUMNS = 100 };

/* A choice table, or the registered algorithms when table is NULL. */
struct section {
    const char *option, *title, *key;
    const struct choice_spec *table;
    const size_t *count;
};

static const struct section sections[] = {
    {"--algorithm", "methods", "algorithms", NULL, &algo_type_count},
    {"--compress", "what messages carry instead of whole vectors", "compressors", compress_table,
     &compress_table_count},
    {"--topology", "who has links with whom", "topologies", topology_table, &topology_table_count},
    {"--task", "models", "tasks", model_table, &model_table_count},
    {"--split", "which node owns which rows", "splits", split_table, &split_table_count},
    {"--step-size", "step-size rules", "step_sizes", step_size_table, &step_size_table_count},
    {"--latency", "simulated delay of a message", "latencies", latency_table, &latency_table_count},
    {"--step-time", "simulated duration of a local step", "step_times", step_time_table,
     &step_time_table_count},
    {"--speeds", "simulated slowness of each node", "speeds", speeds_table, &speeds_table_count},
};
static const size_t section_count = sizeof sections / sizeof sections[0];

static const struct choice_spec *spec_at(const struct section *s, size_t i)
{
    return s->table != NULL ? &s->table[i] : &algo_types[i]->spec;
}

/* What does not go with every algorithm. */
static bool is_fitted(const struct section *s)
{
    return s->table == compress_table || s->table == topology_table;
}

static const char *kind_word(enum param_kind kind)
{
    switch (kind) {
    case PARAM_INTEGER:
        return "integer";
    case PARAM_REAL:
        return "number";
    case PARAM_TIME:
        return "seconds";
    case PARAM_WORD:
        return "word";
    case PARAM_TEXT:
        return "text";
    }
    UNREACHABLE();
}

static bool has_range(const struct param_spec *p)
{
    return p->kind != PARAM_WORD && p->kind != PARAM_TEXT;
}

/* -- for people -------------------------------------------------------------------------------- */

/* `text` and, if both fit, `more` on one line; else `more` on a line of its own at `indent`. */
static void print_line(int indent, const char *text, const char *more)
{
    if (more[0] == '\0')
        printf("%s\n", text);
    else if (strlen(text) + 1 + strlen(more) <= LINE_MAX_COLUMNS)
        printf("%s %s\n", text, more);
    else
        printf("%s\n%*s%s\n", text, indent, "", more);
}

static void print_param(const struct param_spec *p)
{
    char range[96] = "", text[256], more[256];
    if (p->kind == PARAM_WORD)
        snprintf(range, sizeof range, ", %s", p->words);
    else if (has_range(p))
        snprintf(range, sizeof range, ", %s %g..%g", kind_word(p->kind), p->low, p->high);
    const char *initial = p->initial == NULL ? "" : p->initial[0] == '\0' ? "none" : p->initial;
    snprintf(text, sizeof text, "      %-14s %s", p->key, p->help != NULL ? p->help : "");
    snprintf(more, sizeof more, "(%s%s%s)", p->initial == NULL ? "must be given" : "default ", initial,
             range);
    print_line(21, text, more);
}

/* Names of the topologies or compressors that fit the algorithm, in the table's order; whole: that all do. */
struct fitting {
    const char *name[FITTING_MAX];
    size_t count;
    bool whole;
};

static bool fits(const struct algo_type *type, const struct section *s, size_t i)
{
    struct choice compress, params;
    if (s->table != compress_table) { /* judged with the defaults of the method's parameters */
        CHECK(algo_choose(type->spec.name, &params, &type, NULL) == 0);
        return algo_fit_topology(type, &params, &s->table[i], NULL) == 0;
    }
    CHECK(choice_parse(s->table, *s->count, s->option, s->table[i].name, &compress, NULL) == 0);
    return algo_fit_compress(type, &compress, 0, NULL) == 0;
}

static struct fitting fitting_of(const struct algo_type *type, const struct section *s)
{
    struct fitting out = {.count = 0};
    CHECK(*s->count <= FITTING_MAX);
    for (size_t i = 0; i < *s->count; i++)
        if (fits(type, s, i)) out.name[out.count++] = s->table[i].name;
    out.whole = out.count == *s->count;
    return out;
}

static void print_fitting(const struct algo_type *type, const struct section *s)
{
    struct fitting f = fitting_of(type, s);
    printf("      fits %-9s ", s->option);
    if (f.whole)
        printf("any");
    else
        for (size_t i = 0; i < f.count; i++) printf("%s%s", i > 0 ? " " : "", f.name[i]);
    printf("\n");
}

static void print_section(const struct section *s)
{
    printf("%s: %s\n", s->option, s->title);
    for (size_t i = 0; i < *s->count; i++) {
        const struct choice_spec *spec = spec_at(s, i);
        bool sourced = spec->source != NULL && spec->source[0] != '\0';
        char text[256], source[256] = "";
        snprintf(text, sizeof text, "  %-10s %s", spec->name, spec->help != NULL ? spec->help : "");
        if (sourced) snprintf(source, sizeof source, "[%s]", spec->source);
        print_line(13, text, source);
        for (size_t j = 0; j < spec->param_count; j++) print_param(&spec->params[j]);
        for (size_t k = 0; s->table == NULL && k < section_count; k++)
            if (is_fitted(&sections[k])) print_fitting(algo_types[i], &sections[k]);
    }
    printf("\n");
}

/* -- for programs ------------------------------------------------------------------------------ */

static json_t *param_json(const struct param_spec *p)
{
    json_t *o = json_object();
    json_object_set_new(o, "key", json_string(p->key));
    json_object_set_new(o, "kind", json_string(kind_word(p->kind)));
    json_object_set_new(o, "default", p->initial != NULL ? json_string(p->initial) : json_null());
    if (has_range(p)) {
        json_object_set_new(o, "low", json_real(p->low));
        json_object_set_new(o, "high", json_real(p->high));
    }
    if (p->kind == PARAM_WORD) json_object_set_new(o, "words", json_string(p->words));
    json_object_set_new(o, "help", json_string(p->help != NULL ? p->help : ""));
    return o;
}

static json_t *spec_json(const struct choice_spec *spec)
{
    json_t *o = json_object();
    json_t *params = json_array();
    for (size_t j = 0; j < spec->param_count; j++)
        json_array_append_new(params, param_json(&spec->params[j]));
    json_object_set_new(o, "name", json_string(spec->name));
    json_object_set_new(o, "help", json_string(spec->help != NULL ? spec->help : ""));
    json_object_set_new(o, "source", json_string(spec->source != NULL ? spec->source : ""));
    json_object_set_new(o, "parameters", params);
    return o;
}

/* Adds what fits an algorithm: "topologies" and "compressors". */
static void fitting_json(json_t *o, const struct algo_type *type)
{
    for (size_t k = 0; k < section_count; k++) {
        if (!is_fitted(&sections[k])) continue;
        json_t *list = json_array();
        struct fitting f = fitting_of(type, &sections[k]);
        for (size_t i = 0; i < f.count; i++) json_array_append_new(list, json_string(f.name[i]));
        json_object_set_new(o, sections[k].key, list);
    }
    json_object_set_new(o, "compresses", json_boolean(type->compresses));
}

static int print_json(void)
{
    json_t *all = json_object();
    for (size_t k = 0; k < section_count; k++) {
        json_t *list = json_array();
        for (size_t i = 0; i < *sections[k].count; i++) {
            json_t *o = spec_json(spec_at(&sections[k], i));
            if (sections[k].table == NULL) fitting_json(o, algo_types[i]);
            json_array_append_new(list, o);
        }
        json_object_set_new(all, sections[k].key, list);
    }
    int failed = json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(all);
    printf("\n");
    return failed;
}

int command_algorithms(struct config *config)
{
    int failed = 0;
    if (config->json)
        failed = print_json();
    else
        for (size_t k = 0; k < section_count; k++) print_section(&sections[k]);
    return failed == 0 && fflush(stdout) == 0 && ferror(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

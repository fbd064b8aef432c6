#include "base/choice.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* -- nearest word ------------------------------------------------------------------------------ */

static unsigned edit_distance(const char *a, const char *b)
{
    enum { LENGTH_MAX = 64 };
    size_t n = strlen(b);
    if (strlen(a) >= LENGTH_MAX || n >= LENGTH_MAX) return LENGTH_MAX;
    unsigned row[LENGTH_MAX + 1];
    for (size_t j = 0; j <= n; j++) row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return row[n];
}

const char *nearest_word(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    unsigned best_distance = (unsigned)strlen(word) / 3 + 2; /* more is another word, not a slip */
    for (size_t i = 0; i < count; i++) {
        unsigned d = edit_distance(word, candidates[i]);
        if (d < best_distance) {
            best = candidates[i];
            best_distance = d;
        }
    }
    return best;
}

/* -- values ------------------------------------------------------------------------------------ */

int parse_seconds(const char *text, double *out)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || !isfinite(number)) return ERR_USAGE;
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"min", 60}, {"m", 60}, {"h", 3600}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0) {
            *out = number * units[i].seconds;
            return 0;
        }
    return ERR_USAGE;
}

static int parse_number(enum param_kind kind, const char *text, double *out)
{
    if (kind == PARAM_TIME) return parse_seconds(text, out);
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number)) return ERR_USAGE;
    if (kind == PARAM_INTEGER && number != floor(number)) return ERR_USAGE;
    *out = number;
    return 0;
}

/* Index of `text` among words separated by '|', or -1. */
static int word_index(const char *words, const char *text)
{
    size_t length = strlen(text);
    int index = 0;
    for (const char *w = words;; w++, index++) {
        const char *bar = strchr(w, '|');
        size_t word_length = bar != NULL ? (size_t)(bar - w) : strlen(w);
        if (word_length == length && strncmp(w, text, length) == 0) return index;
        if (bar == NULL) return -1;
        w = bar;
    }
}

static const char *kind_name(enum param_kind kind)
{
    switch (kind) {
    case PARAM_INTEGER:
        return "a whole number";
    case PARAM_REAL:
        return "a number";
    case PARAM_TIME:
        return "a time in s, ms, us, min or h";
    case PARAM_WORD:
        return "a word";
    case PARAM_TEXT:
        return "a text";
    }
    UNREACHABLE();
}

static int value_set(const char *option, const struct choice_spec *spec, const struct param_spec *p,
                     const char *text, struct param_value *out, struct err_text *why)
{
    if (strlen(text) >= sizeof out->text)
        return err_set(why, ERR_USAGE, "%s: value of %s:%s is too long (%zu bytes, at most %zu)", option,
                       spec->name, p->key, strlen(text), sizeof out->text - 1);
    snprintf(out->text, sizeof out->text, "%s", text);
    if (p->kind == PARAM_TEXT) return 0;
    if (p->kind == PARAM_WORD) {
        int index = word_index(p->words, text);
        out->number = index;
        if (index >= 0) return 0;
        return err_set(why, ERR_USAGE, "%s: %s:%s=%s is not one of %s", option, spec->name, p->key, text,
                       p->words);
    }
    if (parse_number(p->kind, text, &out->number) == 0 && out->number >= p->low && out->number <= p->high)
        return 0;
    return err_set(why, ERR_USAGE, "%s: %s:%s=%s must be %s from %g to %g%s", option, spec->name, p->key,
                   text, kind_name(p->kind), p->low, p->high, p->kind == PARAM_TIME ? " seconds" : "");
}

/* -- parsing ----------------------------------------------------------------------------------- */

/* A number alone, where the first choice of the table is a constant: 0.1 for constant:value=0.1. */
static bool is_plain_value(const struct choice_spec *table, const char *name)
{
    double number;
    return table[0].param_count == 1 && strcmp(table[0].params[0].key, "value") == 0 &&
           parse_number(table[0].params[0].kind, name, &number) == 0;
}

/* The choice that a text like "topk,fraction=0.1" begins with; NULL when there is none. */
static const char *name_before_comma(const struct choice_spec *table, size_t count, const char *text)
{
    size_t length = strcspn(text, ",");
    for (size_t i = 0; i < count && text[length] == ','; i++)
        if (strlen(table[i].name) == length && strncmp(table[i].name, text, length) == 0)
            return table[i].name;
    return NULL;
}

static int unknown_name(const struct choice_spec *table, size_t count, const char *option, const char *name,
                        struct err_text *why)
{
    char known[256] = "";
    const char *names[64];
    for (size_t i = 0; i < count && i < 64; i++) {
        names[i] = table[i].name;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", table[i].name);
    }
    const char *near = nearest_word(name, names, count < 64 ? count : 64);
    char hint[96] = "";
    const char *begins = name_before_comma(table, count, name);
    if (is_plain_value(table, name))
        snprintf(hint, sizeof hint, ", did you mean '%s:value=%.40s'?", table[0].name, name);
    else if (begins != NULL)
        snprintf(hint, sizeof hint, ", did you mean '%s:%.60s'?", begins, name + strlen(begins) + 1);
    if (hint[0] != '\0') near = NULL;
    return err_set(why, ERR_USAGE, "%s: unknown '%s'%s%s%s%s; known: %s", option, name,
                   near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "", hint, known);
}

static int unknown_key(const struct choice_spec *spec, const char *option, const char *key,
                       struct err_text *why)
{
    char known[256] = "none";
    const char *keys[CHOICE_PARAM_MAX];
    for (size_t i = 0; i < spec->param_count; i++) {
        keys[i] = spec->params[i].key;
        size_t used = i > 0 ? strlen(known) : 0;
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", keys[i]);
    }
    const char *near = nearest_word(key, keys, spec->param_count);
    return err_set(why, ERR_USAGE, "%s: %s has no parameter '%s'%s%s%s; it has: %s", option, spec->name, key,
                   near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "", known);
}

static int set_pair(const char *option, char *pair, bool *given, struct choice *out, struct err_text *why)
{
    const struct choice_spec *spec = out->spec;
    char *equals = strchr(pair, '=');
    if (equals == NULL)
        return err_set(why, ERR_USAGE, "%s: '%s' in %s is not key=value", option, pair, spec->name);
    *equals = '\0';
    for (size_t i = 0; i < spec->param_count; i++) {
        if (strcmp(spec->params[i].key, pair) != 0) continue;
        if (given[i]) return err_set(why, ERR_USAGE, "%s: %s:%s is given twice", option, spec->name, pair);
        given[i] = true;
        return value_set(option, spec, &spec->params[i], equals + 1, &out->value[i], why);
    }
    return unknown_key(spec, option, pair, why);
}

static int set_defaults(const char *option, const bool *given, struct choice *out, struct err_text *why)
{
    const struct choice_spec *spec = out->spec;
    for (size_t i = 0; i < spec->param_count; i++) {
        const struct param_spec *p = &spec->params[i];
        if (given[i]) continue;
        if (p->initial == NULL)
            return err_set(why, ERR_USAGE, "%s: %s needs %s=... (%s), as in %s:%s=%g", option, spec->name,
                           p->key, p->help, spec->name, p->key, p->low);
        int err = value_set(option, spec, p, p->initial, &out->value[i], why);
        CHECK(err == 0); /* a default of ours must be valid */
    }
    return 0;
}

int choice_parse(const struct choice_spec *table, size_t count, const char *option, const char *text,
                 struct choice *out, struct err_text *why)
{
    char copy[CHOICE_TEXT_MAX];
    if (strlen(text) >= sizeof copy)
        return err_set(why, ERR_USAGE, "%s: value is too long (%zu bytes, at most %u)", option, strlen(text),
                       CHOICE_TEXT_MAX - 1);
    snprintf(copy, sizeof copy, "%s", text);
    char *rest = strchr(copy, ':');
    if (rest != NULL) *rest++ = '\0';
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count && out->spec == NULL; i++)
        if (strcmp(table[i].name, copy) == 0) {
            out->spec = &table[i];
            out->index = i;
        }
    if (out->spec == NULL) return unknown_name(table, count, option, copy, why);
    CHECK(out->spec->param_count <= CHOICE_PARAM_MAX);
    bool given[CHOICE_PARAM_MAX] = {false};
    while (rest != NULL && *rest != '\0') {
        char *comma = strchr(rest, ',');
        if (comma != NULL) *comma++ = '\0';
        int err = set_pair(option, rest, given, out, why);
        if (err != 0) return err;
        rest = comma;
    }
    return set_defaults(option, given, out, why);
}

/* -- reading ----------------------------------------------------------------------------------- */

static const struct param_value *value_of(const struct choice *c, const char *key)
{
    for (size_t i = 0; i < c->spec->param_count; i++)
        if (strcmp(c->spec->params[i].key, key) == 0) return &c->value[i];
    UNREACHABLE();
}

double choice_number(const struct choice *c, const char *key)
{
    return value_of(c, key)->number;
}

uint32_t choice_integer(const struct choice *c, const char *key)
{
    double number = value_of(c, key)->number;
    CHECK(number >= 0 && number <= UINT32_MAX);
    return (uint32_t)number;
}

const char *choice_text(const struct choice *c, const char *key)
{
    return value_of(c, key)->text;
}

uint64_t choice_time_us(const struct choice *c, const char *key)
{
    double seconds = value_of(c, key)->number;
    CHECK(seconds >= 0 && seconds < 1e12);
    return (uint64_t)llround(seconds * 1e6);
}

const char *choice_print(const struct choice *c, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s", c->spec->name);
    for (size_t i = 0; i < c->spec->param_count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%c%s=%s", i == 0 ? ':' : ',',
                                 c->spec->params[i].key, c->value[i].text);
    return out;
}

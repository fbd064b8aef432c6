/* Choices with parameters, written `name:key=value,key=value`: one table per option says the names,
 * their parameters, defaults, ranges and sources. The same table parses them and prints them. */
#ifndef GADABOUT_BASE_CHOICE_H
#define GADABOUT_BASE_CHOICE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

enum param_kind {
    PARAM_INTEGER, /* whole number within [low, high] */
    PARAM_REAL,    /* finite number within [low, high] */
    PARAM_TIME, /* number with unit us, ms, s, min or none (= seconds); kept in seconds, within [low, high] */
    PARAM_WORD, /* one of the words in `words`, separated by '|'; kept as its index */
    PARAM_TEXT, /* any text without ',' */
};

struct param_spec {
    const char *key;
    enum param_kind kind;
    const char *initial; /* default as text, parsed like a given value; NULL = must be given */
    double low, high;    /* allowed range, inclusive; ignored for WORD and TEXT */
    const char *words;   /* WORD only: "dfs|walk" */
    const char *help;    /* a few words */
};

struct choice_spec {
    const char *name;
    const char *help;   /* one line */
    const char *source; /* paper or "" */
    const struct param_spec *params;
    size_t param_count;
};

struct param_value {
    double number;  /* INTEGER, REAL, TIME (seconds); WORD: index among words */
    char text[128]; /* as given; for TEXT the value */
};

struct choice {
    const struct choice_spec *spec; /* borrowed, static */
    size_t index;                   /* of spec in its table */
    struct param_value value[CHOICE_PARAM_MAX];
};

/* Parses `text` against table[0..count). `option` names the option in errors ("--topology").
 * Errors: ERR_USAGE with a line that names the option, the value and what is allowed (for an unknown
 * name or key: the nearest known one). *out is unspecified then. */
int choice_parse(const struct choice_spec *table, size_t count, const char *option, const char *text,
                 struct choice *out, struct err_text *why);

/* Value of `key`, which must be a parameter of the choice (checked). */
double choice_number(const struct choice *c, const char *key);
uint32_t choice_integer(const struct choice *c, const char *key);
const char *choice_text(const struct choice *c, const char *key); /* borrowed from c */
uint64_t choice_time_us(const struct choice *c, const char *key);

/* Writes the choice with all parameters resolved, "name:key=value,...", at most size bytes with
 * terminator. Returns out. */
const char *choice_print(const struct choice *c, char *out, size_t size);

/* Parses one number with an optional time unit into seconds ("50ms" = 0.05). Returns 0 or ERR_USAGE. */
int parse_seconds(const char *text, double *out);

/* Returns the candidate nearest to `word` by edit distance, or NULL when none is near. */
const char *nearest_word(const char *word, const char *const *candidates, size_t count);

#endif

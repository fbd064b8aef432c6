/* What the files of the configuration share: the table of options and the state of one parse. */
#ifndef GADABOUT_AGENT_CONFIG_INTERNAL_H
#define GADABOUT_AGENT_CONFIG_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/config/config.h"

#define UP_NODE_MAX 1024u               /* processes that one `up` starts */
#define CONFIG_OPTION_MAX 96u           /* options in the table */
#define CONFIG_VALUE_MAX 8192u          /* bytes of one value's text with terminator */
#define CONFIG_FILE_MAX (1024u * 1024u) /* bytes of a YAML file */
#define TOPOLOGY_EARLY_MAX 4096u        /* nodes up to which a topology is tried before the start */

enum option_kind {
    OPTION_U32,       /* whole number into uint32_t */
    OPTION_U64,       /* whole number into uint64_t */
    OPTION_REAL,      /* finite number into double; NAN = unset */
    OPTION_SECONDS,   /* number with a unit into double, in seconds; 0 = unset */
    OPTION_SWITCH,    /* on or off into bool */
    OPTION_FLAG,      /* as SWITCH, but on the command line its name alone means on */
    OPTION_TEXT,      /* any text into char *; NULL = unset */
    OPTION_ADDRESS,   /* host:port into char *; NULL = unset */
    OPTION_ADDRESSES, /* lists of host:port and invitations into join[] */
    OPTION_CHOICE,    /* into struct choice, against `table` */
    OPTION_ALGORITHM, /* into algorithm and algorithm_params */
    OPTION_CONFIG,    /* the YAML file's name: read before all others, kept nowhere */
};

enum {
    ON_UP = 1 << COMMAND_UP,
    ON_AGENT = 1 << COMMAND_AGENT | 1 << COMMAND_DOCTOR, /* `doctor` takes an agent's command line */
    ON_SIM = 1 << COMMAND_SIM,
    ON_EVAL = 1 << COMMAND_EVAL,
    ON_ALGORITHMS = 1 << COMMAND_ALGORITHMS,
    ON_REPRODUCE = 1 << COMMAND_REPRODUCE,
    ON_STATUS = 1 << COMMAND_STATUS,
    ON_INVITE = 1 << COMMAND_INVITE,
    ON_FAULT = 1 << COMMAND_FAULT,
    ON_RUN = ON_UP | ON_AGENT | ON_SIM,
};

enum {
    OPTION_HIDDEN = 1,      /* not in --help, YAML, environment or config.yml */
    OPTION_PASSED = 2,      /* shapes the experiment: `up` passes it to its agents */
    OPTION_NOT_KEPT = 4,    /* not in config.yml */
    OPTION_ABOVE_LOW = 8,   /* `low` itself is not allowed */
    OPTION_BELOW_HIGH = 16, /* `high` itself is not allowed */
    OPTION_TO_REACH = 32,   /* an address that others are to reach: no port 0, no wildcard */
    OPTION_BARE = 64,       /* its value may stand alone: gadabout reproduce digest */
    OPTION_RARE = 128,      /* shown by --help all only, where --help would not fit a screen */
    OPTION_OR_NONE = 256,   /* an address, or the word none */
};

/* One row of the table. */
struct config_option {
    const char *name; /* "step-size": flag --step-size, key step_size, variable GADABOUT_STEP_SIZE */
    char letter;      /* 'n' for -n; 0 = none */
    enum option_kind kind;
    unsigned commands;   /* ON_... */
    unsigned properties; /* OPTION_... */
    const char *initial; /* default as text; NULL = unset or derived (config/defaults.c) */
    const char *metavar;
    const char *help;                /* one line with the default in words */
    const char *example;             /* a valid value, shown in errors */
    size_t field;                    /* offset in struct config */
    double low, high;                /* allowed range; U64: low alone counts */
    const struct choice_spec *table; /* CHOICE */
    const size_t *table_count;
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* Finds an option by its long name; NULL when there is none. */
const struct config_option *option_find(const char *name);

/* Sets the option's field from text; `where` begins the error line ("--seed", "run.yml:3: seed"). A list is
 * appended to; option_clear empties it. Errors: ERR_USAGE. */
int option_set(const struct config_option *o, struct config *c, const char *where, const char *text,
               struct err_text *why);
void option_clear(const struct config_option *o, struct config *c);

/* Writes the field as text that option_set reads back. Returns false when it is unset. */
bool option_print(const struct config_option *o, const struct config *c, char *out, size_t size);

/* The YAML key of an option ("step_size"); out holds at least strlen(name) + 1 bytes. */
void option_key(const struct config_option *o, char *out, size_t size);

/* One parse: which options some source has set. */
struct config_parse {
    struct config *config;
    bool given[CONFIG_OPTION_MAX];
};

static inline size_t option_index(const struct config_option *o)
{
    return (size_t)(o - config_options);
}

static inline bool option_given(const struct config_parse *p, const char *name)
{
    return p->given[option_index(option_find(name))];
}

/* Reads a YAML file into the parse. Keys of other commands are allowed and skipped, so that one file serves
 * all commands. Errors: ERR_IO, ERR_FORMAT, ERR_USAGE with "file:line: ...". */
int config_read_yaml(struct config_parse *p, const char *path, struct err_text *why);

/* Sets every option that no source has set; derives those that depend on others. */
int config_fill(struct config_parse *p, struct err_text *why);

/* Checks what concerns several options at once. ERR_USAGE with the option, the value and the remedy. */
int config_check(const struct config_parse *p, struct err_text *why);

#endif

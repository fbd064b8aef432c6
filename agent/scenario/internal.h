/* Shared by scenario.c (from YAML to entries) and scenario/check.c (an entry as a whole). Not for others. */
#ifndef GADABOUT_AGENT_SCENARIO_INTERNAL_H
#define GADABOUT_AGENT_SCENARIO_INTERNAL_H

#include <yaml.h>

#include "agent/scenario/scenario.h"

enum key {
    KEY_AT,
    KEY_FOR,
    KEY_FAULT,
    KEY_NODES,
    KEY_LINKS,
    KEY_GROUPS,
    KEY_ONE_WAY,
    KEY_DELAY,
    KEY_JITTER,
    KEY_RATE,
    KEY_ONE_IN,
    KEY_REPEAT,
    KEY_EVERY,
    KEY_COUNT
};

extern const char *const scenario_key_names[KEY_COUNT];

struct reader {
    const char *path;
    uint32_t node_count;
    yaml_document_t document;
    unsigned long given[KEY_COUNT]; /* line of each key of this entry; 0 = not there */
};

/* "file:line: .."; returns ERR_USAGE. */
int scenario_refuse(const struct reader *r, unsigned long line, struct err_text *why, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Whether what the entry gives goes together. 0 or ERR_USAGE. */
int scenario_check(const struct reader *r, const struct scenario_fault *f, struct err_text *why);

#endif

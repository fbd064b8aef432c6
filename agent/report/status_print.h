/* Answers of agents as a table for a person: at most STATUS_COLUMNS wide. */
#ifndef GADABOUT_AGENT_REPORT_STATUS_PRINT_H
#define GADABOUT_AGENT_REPORT_STATUS_PRINT_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define STATUS_COLUMNS 100

/* What one agent answered. */
struct status_answer {
    const char *path; /* of its socket; borrowed */
    json_t *reply;    /* owned; NULL with an error */
    int err;          /* 0, or why there is none */
    struct err_text why;
};

/* Ids are cut to the digits that tell all that occur apart. */
void status_print(const struct status_answer *answer, size_t count, FILE *to);

/* Seconds and bytes in at most 7 characters: "12 ms", "3.2 s", "41 min"; "512 B", "1.25 MB". */
#define STATUS_FIGURE_MAX 16
void status_seconds(double seconds, char out[STATUS_FIGURE_MAX]);
void status_bytes(double bytes, char out[STATUS_FIGURE_MAX]);

/* How many leading digits tell `count` different numbers apart; at least 4. */
unsigned status_id_digits(const uint64_t *id, size_t count);

#endif

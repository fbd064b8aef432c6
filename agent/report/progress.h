/* What a person sees while something runs: on a terminal one line that changes in place, in a pipe plain
 * lines, nothing with --json. Everything goes to stderr; stdout is for results. */
#ifndef GADABOUT_AGENT_REPORT_PROGRESS_H
#define GADABOUT_AGENT_REPORT_PROGRESS_H

#include <stdbool.h>

struct progress {
    bool quiet;    /* say nothing at all */
    bool terminal; /* stderr is one */
    bool standing; /* an unfinished line stands there */
};

void progress_init(struct progress *p, bool quiet);

/* The state of affairs; the next one takes its place. */
void progress_show(struct progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for what changes too often for a pipe: shown on a terminal only. */
void progress_flicker(struct progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* An event that stays to be read. */
void progress_note(struct progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Removes the standing line; to be called before anything else is printed. */
void progress_clear(struct progress *p);

/* "gadabout: <text>" on stderr, also when quiet. Returns status. */
int progress_error(struct progress *p, const char *text, int status);

double wall_clock_s(void); /* monotonic */

#endif

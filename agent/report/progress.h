/* What a person sees while something runs: on a terminal one line that changes in place, in a pipe plain lines, the
 * same one again after PROGRESS_AGAIN_S at the earliest, nothing with --json. Everything goes to stderr; stdout is for
 * results. */
#ifndef GADABOUT_AGENT_REPORT_PROGRESS_H
#define GADABOUT_AGENT_REPORT_PROGRESS_H

#include <stdbool.h>

#define PROGRESS_AGAIN_S 10.0
#define PROGRESS_LINE_MAX 1024u

struct progress {
    bool quiet;                    /* say nothing at all */
    bool terminal;                 /* stderr is one */
    bool standing;                 /* an unfinished line stands there */
    char state[PROGRESS_LINE_MAX]; /* the last one shown */
    char note[PROGRESS_LINE_MAX];  /* likewise */
    double state_s, note_s;        /* wall_clock_s of them */
};

void progress_init(struct progress *p, bool quiet);

/* Whether a state of affairs would be said in a pipe at now_s: it is new, or was not said for a while. */
bool progress_is_news(const struct progress *p, const char *state, double now_s);

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

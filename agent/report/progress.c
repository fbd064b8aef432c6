/* Progress on stderr; see the header. */
#include "agent/report/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void progress_init(struct progress *p, bool quiet)
{
    *p = (struct progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
}

/* One write for each line, so that lines of several processes do not mix. */
static void print(struct progress *p, const char *line, bool stays)
{
    fprintf(stderr, "%s%s%s", p->terminal ? "\r\033[K" : "", line, stays ? "\n" : "");
    fflush(stderr);
    p->standing = !stays;
}

static bool said_lately(const char *said, double said_s, const char *line, double now_s)
{
    return strcmp(said, line) == 0 && now_s < said_s + PROGRESS_AGAIN_S;
}

bool progress_is_news(const struct progress *p, const char *state, double now_s)
{
    return !said_lately(p->state, p->state_s, state, now_s) && !said_lately(p->note, p->note_s, state, now_s);
}

void progress_show(struct progress *p, const char *format, ...)
{
    char line[PROGRESS_LINE_MAX];
    double now_s = wall_clock_s();
    if (p->quiet) return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!p->terminal && !progress_is_news(p, line, now_s)) return;
    memcpy(p->state, line, sizeof line);
    p->state_s = now_s;
    print(p, line, !p->terminal);
}

void progress_flicker(struct progress *p, const char *format, ...)
{
    char line[PROGRESS_LINE_MAX];
    if (p->quiet || !p->terminal) return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    print(p, line, false);
}

void progress_note(struct progress *p, const char *format, ...)
{
    if (p->quiet) return;
    va_list args;
    va_start(args, format);
    vsnprintf(p->note, sizeof p->note, format, args);
    va_end(args);
    p->note_s = wall_clock_s();
    print(p, p->note, true);
}

void progress_clear(struct progress *p)
{
    if (p->standing) fprintf(stderr, "\r\033[K");
    p->standing = false;
}

int progress_error(struct progress *p, const char *text, int status)
{
    progress_clear(p);
    fprintf(stderr, "gadabout: %s\n", text);
    return status;
}

double wall_clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

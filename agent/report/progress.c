/* Progress on stderr; see the header. */
#include "agent/report/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LINE_SIZE = 1024 };

void progress_init(struct progress *p, bool quiet)
{
    *p = (struct progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
}

/* One write for each line, so that lines of several processes do not mix. */
static void show(struct progress *p, const char *format, va_list args, bool stays)
{
    char line[LINE_SIZE];
    vsnprintf(line, sizeof line, format, args);
    fprintf(stderr, "%s%s%s", p->terminal ? "\r\033[K" : "", line, stays ? "\n" : "");
    fflush(stderr);
    p->standing = !stays;
}

void progress_show(struct progress *p, const char *format, ...)
{
    if (p->quiet) return;
    va_list args;
    va_start(args, format);
    show(p, format, args, !p->terminal);
    va_end(args);
}

void progress_flicker(struct progress *p, const char *format, ...)
{
    if (p->quiet || !p->terminal) return;
    va_list args;
    va_start(args, format);
    show(p, format, args, false);
    va_end(args);
}

void progress_note(struct progress *p, const char *format, ...)
{
    if (p->quiet) return;
    va_list args;
    va_start(args, format);
    show(p, format, args, true);
    va_end(args);
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

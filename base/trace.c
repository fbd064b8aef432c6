#include "base/trace.h"

#include <stdarg.h>
#include <stdio.h>

void trace_line(const struct trace *t, enum trace_level level, const char *format, ...)
{
    if (t == NULL || t->line == NULL || level < t->level) return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ') *c = '?'; /* text from a peer must not forge a line */
    t->line(t->ctx, level, text);
}

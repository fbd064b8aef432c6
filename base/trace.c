#include "base/trace.h"

#include <inttypes.h>
#include <stdio.h>

enum { TEXT_SIZE = 512 };

void trace_line(const struct trace *t, enum trace_level level, const char *format, ...)
{
    if (t == NULL || t->line == NULL || level < t->level) return;
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ') *c = '?'; /* text from a peer must not forge a line */
    t->line(t->ctx, level, text);
}

void trace_limited_list(struct trace_limit *l, uint64_t now_us, const struct trace *t, enum trace_level level,
                        const char *format, va_list args)
{
    if (l->any && now_us - l->at_us < TRACE_LIMIT_US) {
        l->hidden++;
        return;
    }
    char text[TEXT_SIZE], more[48] = "";
    if (l->hidden > 0) snprintf(more, sizeof more, " (and %" PRIu64 " more)", l->hidden);
    *l = (struct trace_limit){.any = true, .at_us = now_us};
    vsnprintf(text, sizeof text - sizeof more, format, args);
    trace_line(t, level, "%s%s", text, more);
}

void trace_limited(struct trace_limit *l, uint64_t now_us, const struct trace *t, enum trace_level level,
                   const char *format, ...)
{
    va_list args;
    va_start(args, format);
    trace_limited_list(l, now_us, t, level, format, args);
    va_end(args);
}

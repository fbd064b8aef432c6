/* Log lines through a callback, so that pure code can say what it does without doing I/O. Never one
 * line per message: state changes, refusals and losses only. */
#ifndef GADABOUT_BASE_TRACE_H
#define GADABOUT_BASE_TRACE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum trace_level { TRACE_DEBUG, TRACE_INFO, TRACE_WARN, TRACE_ERROR };

struct trace {
    enum trace_level level;                                            /* lines below it are not formatted */
    void (*line)(void *ctx, enum trace_level level, const char *text); /* text is borrowed */
    void *ctx;
};

/* t may be NULL: then nothing happens. */
void trace_line(const struct trace *t, enum trace_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For what others can cause as often as they like: the first line of a kind at once, then at most one a second, with
 * the number of those that were left out. One such memory for each kind; all zero at the beginning. */
struct trace_limit {
    bool any;
    uint64_t at_us;  /* of the last line */
    uint64_t hidden; /* since then */
};

#define TRACE_LIMIT_US 1000000u

void trace_limited(struct trace_limit *l, uint64_t now_us, const struct trace *t, enum trace_level level,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));
void trace_limited_list(struct trace_limit *l, uint64_t now_us, const struct trace *t, enum trace_level level,
                        const char *format, va_list args);

#endif

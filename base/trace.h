/* Log lines through a callback, so that pure code can say what it does without doing I/O. Never one
 * line per message: state changes, refusals and losses only. */
#ifndef GADABOUT_BASE_TRACE_H
#define GADABOUT_BASE_TRACE_H

enum trace_level { TRACE_DEBUG, TRACE_INFO, TRACE_WARN, TRACE_ERROR };

struct trace {
    enum trace_level level;                                            /* lines below it are not formatted */
    void (*line)(void *ctx, enum trace_level level, const char *text); /* text is borrowed */
    void *ctx;
};

/* t may be NULL: then nothing happens. */
void trace_line(const struct trace *t, enum trace_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif

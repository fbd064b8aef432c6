#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

const char *err_name(int code)
{
    switch (code) {
    case ERR_OK:
        return "ok";
#define X(name, value, text)                                                                                 \
    case name:                                                                                               \
        return text;
        ERR_LIST(X)
#undef X
    }
    return "unknown error";
}

int err_set(struct err_text *why, int code, const char *format, ...)
{
    if (why == NULL) return code;
    va_list args;
    va_start(args, format);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    for (char *c = why->text; *c != '\0'; c++)
        if (*c == '\n' || *c == '\r') *c = ' '; /* a value from outside must not forge a second line */
    return code;
}

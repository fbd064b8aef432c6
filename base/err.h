/* Error codes and the one-line text that explains an error to a person.
 *
 * Functions return 0 or a negative code. Those that a user's input can make fail also fill a
 * struct err_text: one line, no newline, that names the option or file, the value, and the remedy. */
#ifndef GADABOUT_BASE_ERR_H
#define GADABOUT_BASE_ERR_H

#define ERR_LIST(X)                                                                                          \
    X(ERR_USAGE, -1, "bad usage or configuration")                                                           \
    X(ERR_IO, -2, "input or output failed")                                                                  \
    X(ERR_FORMAT, -3, "malformed data")                                                                      \
    X(ERR_LIMIT, -4, "over a limit")                                                                         \
    X(ERR_PROTO, -5, "the peer broke the protocol")                                                          \
    X(ERR_FULL, -6, "queue is full")                                                                         \
    X(ERR_NO_LINK, -7, "no such link")                                                                       \
    X(ERR_VERSION, -8, "other protocol version")                                                             \
    X(ERR_CLUSTER, -9, "other cluster or experiment")                                                        \
    X(ERR_SELF, -10, "connected to itself")                                                                  \
    X(ERR_TIMEOUT, -11, "timed out")                                                                         \
    X(ERR_CHECKSUM, -12, "checksum mismatch")                                                                \
    X(ERR_CLOSED, -13, "closed")                                                                             \
    X(ERR_BUSY, -14, "busy")                                                                                 \
    X(ERR_NOT_FOUND, -15, "not found")                                                                       \
    X(ERR_DUPLICATE, -16, "duplicate link")

enum err_code {
    ERR_OK = 0,
#define X(name, value, text) name = value,
    ERR_LIST(X)
#undef X
};

#define ERR_TEXT_MAX 512

struct err_text {
    char text[ERR_TEXT_MAX]; /* one line without newline; "" when nothing failed */
};

/* Returns a static text for a code; "ok" for 0, "unknown error" for a code not in the list. */
const char *err_name(int code);

/* Writes the formatted line into why (which may be NULL) and returns code, for
 * `return err_set(why, ERR_USAGE, "...")`. */
int err_set(struct err_text *why, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif

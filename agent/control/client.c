/* Asking an agent: connect, one line out, one line in.
 *
 * Failure courses
 *  - nobody listens, or the file is not there: ERR_NOT_FOUND.
 *  - no answer by the deadline (the agent is stopped, or swamped): ERR_TIMEOUT.
 *  - the answer is longer than CONTROL_REPLY_MAX, not JSON, or ends early: ERR_FORMAT, ERR_IO.
 *  - it is an error's text: ERR_USAGE with that text. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/control/control.h"
#include "base/check.h"

#define FIRST_ROOM 4096u

uint64_t control_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void ask_end(struct control_ask *ask)
{
    if (ask->fd >= 0) close(ask->fd);
    ask->fd = -1;
    free(ask->line);
    ask->line = NULL;
}

static int connect_to(const char *path, struct err_text *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path) + 1;
    if (size > sizeof address.sun_path)
        return err_set(why, ERR_LIMIT, "%s: too long for a socket's path", path);
    memcpy(address.sun_path, path, size);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return err_set(why, ERR_IO, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) return fd;
    int failed = errno;
    close(fd);
    if (failed == EAGAIN)
        return err_set(why, ERR_TIMEOUT, "%s: does not take up calls; is it stopped?", path);
    if (failed == ECONNREFUSED || failed == ENOENT)
        return err_set(why, ERR_NOT_FOUND, "%s: no agent listens there", path);
    return err_set(why, ERR_IO, "%s: %s", path, strerror(failed));
}

int control_ask_start(struct control_ask *ask, const char *path, const json_t *request, struct err_text *why)
{
    *ask = (struct control_ask){.path = path};
    ask->fd = connect_to(path, why);
    if (ask->fd < 0) {
        int err = ask->fd;
        ask->fd = -1;
        return err;
    }
    char *text = json_dumps(request, JSON_COMPACT);
    CHECK(text != NULL);
    size_t length = strlen(text);
    text[length] = '\n'; /* in the terminator's place */
    /* A request is small: it fits into the socket's buffer. An agent that hangs up may have said why. */
    ssize_t sent = send(ask->fd, text, length + 1, MSG_NOSIGNAL);
    bool cut = sent >= 0 ? (size_t)sent != length + 1 : errno != EPIPE && errno != ECONNRESET;
    free(text);
    if (!cut) return 0;
    ask_end(ask);
    return err_set(why, ERR_IO, "%s: cannot send the request", path);
}

/* Reads what is there. 1 = the line is whole, 0 = go on, or an error. */
static int read_some(struct control_ask *ask, struct err_text *why)
{
    if (ask->used == ask->room) {
        if (ask->room >= CONTROL_REPLY_MAX)
            return err_set(why, ERR_LIMIT, "%s: its answer is too long", ask->path);
        ask->room = ask->room == 0 ? FIRST_ROOM : 2 * ask->room;
        ask->line = mem_resize(ask->line, ask->room, 1);
    }
    ssize_t got = recv(ask->fd, ask->line + ask->used, ask->room - ask->used, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) return err_set(why, ERR_IO, "%s: it hung up without an answer", ask->path);
    const char *end = memchr(ask->line + ask->used, '\n', (size_t)got);
    ask->used = end != NULL ? (size_t)(end - ask->line) : ask->used + (size_t)got;
    return end != NULL;
}

static int read_line(struct control_ask *ask, uint64_t deadline_ms, struct err_text *why)
{
    for (;;) {
        uint64_t now_ms = control_clock_ms();
        int left_ms = deadline_ms > now_ms ? (int)(deadline_ms - now_ms) : 0;
        struct pollfd p = {.fd = ask->fd, .events = POLLIN};
        int ready = poll(&p, 1, left_ms);
        if (ready < 0 && errno != EINTR) return err_set(why, ERR_IO, "%s: %s", ask->path, strerror(errno));
        if (ready == 0) return err_set(why, ERR_TIMEOUT, "%s: no answer; is the agent stopped?", ask->path);
        int got = ready > 0 ? read_some(ask, why) : 0;
        if (got != 0) return got < 0 ? got : 0;
    }
}

static int take_reply(const struct control_ask *ask, json_t **reply, struct err_text *why)
{
    json_t *object = json_loadb(ask->line, ask->used, 0, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return err_set(why, ERR_FORMAT, "%s: its answer is not a JSON object", ask->path);
    }
    if (json_is_true(json_object_get(object, "ok"))) {
        *reply = object;
        return 0;
    }
    const char *text = json_string_value(json_object_get(object, "error"));
    err_set(why, ERR_USAGE, "%s", text != NULL ? text : "the agent refused, and did not say why");
    json_decref(object);
    return ERR_USAGE;
}

int control_ask_finish(struct control_ask *ask, uint64_t deadline_ms, json_t **reply, struct err_text *why)
{
    *reply = NULL;
    int err = read_line(ask, deadline_ms, why);
    if (err == 0) err = take_reply(ask, reply, why);
    ask_end(ask);
    return err;
}

int control_request(const char *path, const json_t *request, uint64_t timeout_ms, json_t **reply,
                    struct err_text *why)
{
    struct control_ask ask;
    *reply = NULL;
    int err = control_ask_start(&ask, path, request, why);
    return err != 0 ? err : control_ask_finish(&ask, control_clock_ms() + timeout_ms, reply, why);
}

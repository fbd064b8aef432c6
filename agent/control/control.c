/* The server of the control socket.
 *
 * Normal course
 *  - a client of our own user (or root) connects and writes requests, one a line; each is looked up in the
 *    table, run in the loop, and answered by one line. Slow work runs in a thread of libuv's pool meanwhile.
 *  - one request of a client is under way at a time: the next is not read before the answer is written.
 * Failure courses
 *  - another user: closed without a word.
 *  - not JSON, not an object, no "op", an unknown one, bad arguments: an answer with "error"; the client stays.
 *  - a line over CONTROL_LINE_MAX: the same, and the client is closed.
 *  - more than CONTROL_CLIENT_MAX clients: the one too many is told so and closed.
 *  - a client that does not read its answer, or neither asks nor leaves: closed after CONTROL_IDLE_MS. Its
 *    answer waits in libuv's queue, so the loop never does.
 *  - the end while work runs in the pool: its answer is dropped, its memory goes when it has ended. */
#include "agent/control/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/files/json.h"
#include "base/check.h"

#define BACKLOG 16

struct client {
    uv_pipe_t pipe;
    uv_timer_t idle;
    uv_write_t write;
    uv_work_t work;
    struct control *owner;
    uint32_t open_handles; /* of pipe and idle */
    bool closing;          /* handles are being closed */
    bool working;          /* its work is in the pool: the memory stays */
    bool last;             /* closed once its answer is written */
    bool answering;        /* an answer is on its way: nothing is read */
    char *in;              /* (CONTROL_LINE_MAX) */
    size_t in_used;
    char *out; /* owned by the write under way */
    struct control_call call;
    json_t *request; /* owned; what call.request shows */
    int worked;      /* what its work returned */
};

struct control {
    struct control_config config;
    uv_pipe_t listener;
    char path[CONTROL_PATH_MAX];
    dev_t device; /* of the socket's file, to remove no other */
    ino_t inode;
    bool listening, closing;
    uint32_t client_count; /* with memory */
    struct client *client[CONTROL_CLIENT_MAX];
};

static void control_release(struct control *c)
{
    if (!c->closing || c->listening || c->client_count > 0) return;
    free(c);
}

/* -- the end of a client ----------------------------------------------------------------------- */

static void call_clear(struct client *k)
{
    if (k->call.job_free != NULL) k->call.job_free(k->call.job);
    json_decref(k->call.reply);
    json_decref(k->request);
    k->call = (struct control_call){0};
    k->request = NULL;
}

static void client_release(struct client *k)
{
    struct control *c = k->owner;
    if (k->open_handles > 0 || k->working) return;
    for (uint32_t i = 0; i < CONTROL_CLIENT_MAX; i++)
        if (c->client[i] == k) c->client[i] = NULL;
    c->client_count--;
    call_clear(k);
    free(k->out);
    free(k->in);
    free(k);
    control_release(c);
}

static void client_closed_cb(uv_handle_t *handle)
{
    struct client *k = handle->data;
    k->open_handles--;
    client_release(k);
}

static void client_close(struct client *k)
{
    if (k->closing) return;
    k->closing = true;
    uv_close((uv_handle_t *)&k->pipe, client_closed_cb);
    uv_close((uv_handle_t *)&k->idle, client_closed_cb);
}

static void idle_cb(uv_timer_t *timer)
{
    client_close(timer->data);
}

/* -- answers ----------------------------------------------------------------------------------- */

static void client_go_on(struct client *k);
static void client_take_lines(struct client *k);

static void written_cb(uv_write_t *write, int status)
{
    struct client *k = write->data;
    free(k->out);
    k->out = NULL;
    k->answering = false;
    if (k->closing) return;
    if (status != 0 || k->last)
        client_close(k);
    else
        client_go_on(k);
}

/* Takes object. What the socket takes at once needs no further turn of the loop: even the last answer of an
 * agent that is about to end gets out. */
static void client_answer(struct client *k, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    CHECK(text != NULL);
    size_t length = strlen(text);
    text[length] = '\n'; /* in the terminator's place */
    uv_buf_t all = uv_buf_init(text, (unsigned)(length + 1));
    int wrote = uv_try_write((uv_stream_t *)&k->pipe, &all, 1);
    size_t done = wrote > 0 ? (size_t)wrote : 0;
    k->out = text;
    k->write.data = k;
    k->answering = true;
    uv_timer_start(&k->idle, idle_cb, CONTROL_IDLE_MS, 0);
    uv_buf_t rest = uv_buf_init(text + done, (unsigned)(length + 1 - done));
    /* also with nothing left: requests in one piece then wait their turn behind everything else of the loop */
    if (uv_write(&k->write, (uv_stream_t *)&k->pipe, &rest, 1, written_cb) == 0) return;
    free(k->out);
    k->out = NULL;
    client_close(k);
}

static void client_answer_error(struct client *k, const char *text)
{
    json_t *object = json_object();
    json_object_set_new(object, "ok", json_false());
    json_object_set_new(object, "error", json_text_or_null(text));
    client_answer(k, object);
}

static void call_finish(struct client *k, int err)
{
    if (err == 0) {
        json_object_set_new(k->call.reply, "ok", json_true());
        client_answer(k, json_incref(k->call.reply));
    } else {
        client_answer_error(k, k->call.why.text[0] != '\0' ? k->call.why.text : err_name(err));
    }
    call_clear(k);
}

/* -- requests ---------------------------------------------------------------------------------- */

static void work_cb(uv_work_t *work)
{
    struct client *k = work->data;
    k->worked = k->call.work(&k->call);
}

static void worked_cb(uv_work_t *work, int status)
{
    struct client *k = work->data;
    k->working = k->answering = false;
    if (k->closing)
        client_release(k);
    else
        call_finish(k, status != 0 ? ERR_CLOSED : k->worked);
}

static void unknown_op(const struct control *c, const char *name, struct err_text *why)
{
    char all[256] = "";
    for (size_t i = 0, used = 0; i < c->config.op_count && used < sizeof all; i++)
        used +=
            (size_t)snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? ", " : "", c->config.op[i].name);
    if (name == NULL)
        err_set(why, ERR_USAGE, "\"op\" is missing; give one of: %s", all);
    else
        err_set(why, ERR_USAGE, "'%.64s' is not an operation; give one of: %s", name, all);
}

static void client_run(struct client *k)
{
    const struct control *c = k->owner;
    const char *name = json_string_value(json_object_get(k->request, "op"));
    const struct control_op *op = NULL;
    for (size_t i = 0; i < c->config.op_count && name != NULL; i++)
        if (strcmp(c->config.op[i].name, name) == 0) op = &c->config.op[i];
    k->call = (struct control_call){.request = k->request, .reply = json_object()};
    if (op == NULL) {
        unknown_op(c, name, &k->call.why);
        call_finish(k, ERR_USAGE);
        return;
    }
    int err = op->run(c->config.agent, &k->call);
    if (k->closing) return; /* the operation was the agent's end */
    if (err != 0 || k->call.work == NULL) {
        call_finish(k, err);
        return;
    }
    k->work.data = k;
    k->working = k->answering = true;
    uv_timer_stop(&k->idle);
    err = uv_queue_work(c->config.loop, &k->work, work_cb, worked_cb);
    CHECK(err == 0); /* it needs nothing but a callback */
}

static void client_take_line(struct client *k, const char *line, size_t length)
{
    json_error_t reason;
    k->request = json_loadb(line, length, JSON_REJECT_DUPLICATES, &reason);
    if (json_is_object(k->request)) {
        client_run(k);
        return;
    }
    struct err_text why;
    if (k->request == NULL)
        err_set(&why, ERR_FORMAT, "not JSON: %s", reason.text);
    else
        err_set(&why, ERR_FORMAT, "not a JSON object, as {\"op\": \"status\"} is one");
    json_decref(k->request);
    k->request = NULL;
    client_answer_error(k, why.text);
}

/* The first line that is there, if nothing is under way. */
static void client_take_lines(struct client *k)
{
    if (k->closing || k->answering) return;
    char *end = memchr(k->in, '\n', k->in_used);
    if (end != NULL) {
        size_t length = (size_t)(end - k->in);
        char *line = mem_new(length + 1, 1);
        memcpy(line, k->in, length);
        k->in_used -= length + 1;
        memmove(k->in, end + 1, k->in_used);
        client_take_line(k, line, length);
        free(line);
    } else if (k->in_used == CONTROL_LINE_MAX) {
        k->last = true;
        client_answer_error(k, "a line of more than 64 KiB; requests are short");
    }
}

static void room_cb(uv_handle_t *handle, size_t wanted, uv_buf_t *out)
{
    struct client *k = handle->data;
    (void)wanted;
    *out = uv_buf_init(k->in + k->in_used, (unsigned)(CONTROL_LINE_MAX - k->in_used));
}

static void read_cb(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    struct client *k = stream->data;
    (void)buf;
    if (got == 0) return;
    if (got < 0) {
        client_close(k);
        return;
    }
    k->in_used += (size_t)got;
    uv_read_stop(stream);
    client_go_on(k);
}

/* Answers what is there, else reads. */
static void client_go_on(struct client *k)
{
    uv_timer_start(&k->idle, idle_cb, CONTROL_IDLE_MS, 0);
    client_take_lines(k);
    if (k->closing || k->answering) return;
    if (uv_read_start((uv_stream_t *)&k->pipe, room_cb, read_cb) != 0) client_close(k);
}

/* -- who comes --------------------------------------------------------------------------------- */

static bool peer_may(const uv_pipe_t *pipe)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)pipe, &fd) != 0) return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    return peer.uid == geteuid() || peer.uid == 0;
}

static struct client *client_new(struct control *c)
{
    struct client *k = mem_new_zero(1, sizeof *k);
    k->owner = c;
    c->client_count++;
    uv_pipe_init(c->config.loop, &k->pipe, 0);
    uv_timer_init(c->config.loop, &k->idle);
    k->pipe.data = k->idle.data = k;
    k->open_handles = 2;
    return k;
}

static struct client **free_place(struct control *c)
{
    for (uint32_t i = 0; i < CONTROL_CLIENT_MAX; i++)
        if (c->client[i] == NULL) return &c->client[i];
    return NULL;
}

static void connection_cb(uv_stream_t *listener, int status)
{
    struct control *c = listener->data;
    if (status < 0 || c->closing) return;
    struct client *k = client_new(c);
    if (uv_accept(listener, (uv_stream_t *)&k->pipe) != 0 || !peer_may(&k->pipe)) {
        client_close(k);
        return;
    }
    struct client **place = free_place(c);
    if (place == NULL) {
        static char full[] = "{\"ok\":false,\"error\":\"too many clients at once; try again\"}\n";
        uv_buf_t line = uv_buf_init(full, sizeof full - 1);
        (void)uv_try_write((uv_stream_t *)&k->pipe, &line, 1); /* one who does not get it sees the end */
        client_close(k);
        return;
    }
    *place = k;
    k->in = mem_new(CONTROL_LINE_MAX, 1);
    client_go_on(k);
}

/* -- life -------------------------------------------------------------------------------------- */

static int bind_by_id(struct control *c, const char *folder, const char *suffix, struct err_text *why)
{
    int length =
        snprintf(c->path, sizeof c->path, "%s/%llu%s.sock", folder, (unsigned long long)c->config.id, suffix);
    if (length < 0 || (size_t)length >= sizeof c->path)
        return err_set(why, ERR_LIMIT, "--control: %s is too long a name for sockets; give a PATH or off",
                       folder);
    return control_bind(c->path, why);
}

/* The path that --control gave, or one by our id; with our process's number behind it when another agent of
 * this user has that id: agents of several `up` do. */
static int bind_somewhere(struct control *c, struct err_text *why)
{
    if (c->config.path != NULL) {
        snprintf(c->path, sizeof c->path, "%s", c->config.path); /* one that is cut is refused as too long */
        return control_bind(c->config.path, why);
    }
    char folder[CONTROL_PATH_MAX], number[32];
    int err = control_directory(folder, why);
    if (err != 0) return err;
    int fd = bind_by_id(c, folder, "", why);
    if (fd != ERR_BUSY) return fd;
    snprintf(number, sizeof number, "-%ld", (long)getpid());
    return bind_by_id(c, folder, number, why);
}

static void listener_closed_cb(uv_handle_t *handle)
{
    struct control *c = handle->data;
    c->listening = false;
    control_release(c);
}

int control_open(const struct control_config *config, struct control **out, struct err_text *why)
{
    struct control *c = mem_new_zero(1, sizeof *c);
    c->config = *config;
    int fd = bind_somewhere(c, why);
    if (fd < 0) {
        free(c);
        return fd;
    }
    struct stat s;
    if (lstat(c->path, &s) == 0) {
        c->device = s.st_dev;
        c->inode = s.st_ino;
    }
    uv_pipe_init(config->loop, &c->listener, 0);
    c->listener.data = c;
    c->listening = true;
    int err = uv_pipe_open(&c->listener, fd);
    if (err != 0) close(fd);
    if (err == 0) err = uv_listen((uv_stream_t *)&c->listener, BACKLOG, connection_cb);
    if (err != 0) {
        err_set(why, ERR_IO, "--control: cannot listen on %s: %s; give another PATH or off", c->path,
                uv_strerror(err));
        control_close(c);
        return ERR_IO;
    }
    *out = c;
    return 0;
}

const char *control_path(const struct control *c)
{
    return c->path;
}

void control_close(struct control *c)
{
    if (c == NULL || c->closing) return;
    c->closing = true;
    struct stat s;
    if (lstat(c->path, &s) == 0 && s.st_dev == c->device && s.st_ino == c->inode) unlink(c->path);
    for (uint32_t i = 0; i < CONTROL_CLIENT_MAX; i++)
        if (c->client[i] != NULL) client_close(c->client[i]);
    uv_close((uv_handle_t *)&c->listener, listener_closed_cb);
}

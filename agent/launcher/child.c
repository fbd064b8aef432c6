/* One agent as a child process.
 *
 * Normal course
 *  - it is started as `<this program> agent --launched ...` with its own directory; what it writes to standard
 *    output is read line by line: JSON objects with "event", or lines of metrics. Its standard error is ours.
 *  - it is gone when it has exited and its output has ended, whichever comes last.
 * Failure courses
 *  - it cannot be started: an error with the reason.
 *  - a line that is too long, no JSON or unknown is thrown away: the agent is ours, but may be dying. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/experiment/site.h"
#include "agent/launcher/internal.h"
#include "base/check.h"

/* -- what it says ------------------------------------------------------------------------------ */

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* Both counts are of one line: a count of steps beside an older one of what was handed over would tell of a loss
 * that there was not. */
static void child_steps(struct child *c, uint64_t steps, uint64_t steps_handed_over)
{
    if (steps < c->steps) return;
    c->steps = steps;
    c->steps_handed_over = steps_handed_over;
}

static void child_event(struct child *c, const char *name, const json_t *object)
{
    struct launcher *l = c->launcher;
    if (strcmp(name, "listening") == 0) {
        launcher_listening(l, c, text_of(object, "address"));
    } else if (strcmp(name, "ranked") == 0) {
        launcher_ranked(l, c);
    } else if (strcmp(name, "evaluated") == 0) {
        c->loss = number_of(object, "loss");
    } else if (strcmp(name, "steps") == 0) {
        json_int_t steps = json_integer_value(json_object_get(object, "steps"));
        json_int_t given = json_integer_value(json_object_get(object, "steps_handed_over"));
        if (steps > 0) child_steps(c, (uint64_t)steps, given > 0 ? (uint64_t)given : 0);
        launcher_steps(l);
    } else if (strcmp(name, "answer") == 0) {
        launcher_faults_answer(c, object);
    } else if (strcmp(name, "failed") == 0) {
        snprintf(c->failure, sizeof c->failure, "%s", text_of(object, "text"));
    } else if (strcmp(name, "note") == 0 && l->stage < STAGE_STOPPING) {
        progress_note(l->progress, "agent %" PRIu32 ": %s", c->rank, text_of(object, "text"));
    }
}

static void child_line(struct child *c, const char *text)
{
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *name = json_string_value(json_object_get(object, "event"));
    struct metrics_line line;
    if (name != NULL) {
        child_event(c, name, object);
    } else if (json_is_object(object) && metrics_parse(text, &line) == 0 && line.node == c->rank) {
        c->last = line;
        child_steps(c, line.steps, line.steps_handed_over);
        launcher_metrics(c->launcher, c);
    }
    json_decref(object);
}

static void child_bytes(struct child *c, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != '\n') {
            if (c->line_size + 1 < sizeof c->line)
                c->line[c->line_size++] = bytes[i];
            else
                c->line_too_long = true;
            continue;
        }
        c->line[c->line_size] = '\0';
        if (!c->line_too_long) child_line(c, c->line);
        c->line_size = 0;
        c->line_too_long = false;
    }
}

/* -- its handles ------------------------------------------------------------------------------- */

static void handle_closed_cb(uv_handle_t *handle)
{
    struct child *c = handle->data;
    CHECK(c->open_handles > 0);
    if (--c->open_handles == 0) launcher_gone(c->launcher, c);
}

static void close_once(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) uv_close(handle, handle_closed_cb);
}

static void exit_cb(uv_process_t *process, int64_t exit_status, int exit_signal)
{
    struct child *c = process->data;
    if (c->launcher->faults != NULL) close_once((uv_handle_t *)&c->in);
    c->exit_status = exit_status;
    c->exit_signal = exit_signal;
    close_once((uv_handle_t *)process);
}

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    const struct child *c = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(c->launcher->read_buffer, READ_SIZE);
}

static void read_cb(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct child *c = stream->data;
    if (size > 0) child_bytes(c, buffer->base, (size_t)size);
    if (size < 0) close_once((uv_handle_t *)stream);
}

/* -- start and end ----------------------------------------------------------------------------- */

/* Appends "--name=value"; argv owns it. */
static void add_argument(char **argv, size_t *count, const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 2;
    argv[*count] = mem_new(size, 1);
    snprintf(argv[(*count)++], size, "%s=%s", name, value);
}

/* Returns owned, as its texts from index 2 + argument_count on. */
static char **make_argv(const struct child *c, const char *join, size_t *own_from)
{
    const struct launcher *l = c->launcher;
    char **argv = mem_new_zero(l->argument_count + 16, sizeof *argv);
    static char command[] = "agent", launched[] = "--launched";
    size_t count = 0;
    argv[count++] = (char *)(uintptr_t)l->program;
    argv[count++] = command;
    argv[count++] = launched;
    for (size_t i = 0; i < l->argument_count; i++) argv[count++] = l->arguments[i];
    *own_from = count;
    char text[32], path[RUNDIR_PATH_MAX + 32]; /* longer ones were refused by rundir_open */
    snprintf(text, sizeof text, "%" PRIu32, c->rank);
    snprintf(path, sizeof path, "%s/nodes/%" PRIu32, l->dir->path, c->rank);
    add_argument(argv, &count, "--id", text);
    add_argument(argv, &count, "--out", path);
    add_argument(argv, &count, "--listen", "127.0.0.1:0");
    if (join != NULL) add_argument(argv, &count, "--join", join);
    char tag[TAG_TEXT_MAX];
    if (l->faults != NULL) { /* who is killed comes back with what it had saved */
        snprintf(path, sizeof path, "%s/state/%" PRIu32, l->dir->path, c->rank);
        add_argument(argv, &count, "--state", path);
        add_argument(argv, &count, "--save-every", "2s");
    }
    if (site_tag_at(l->config->tags, c->rank, tag)) add_argument(argv, &count, "--tag", tag);
    return argv;
}

int child_start(struct child *c, const char *join, struct err_text *why)
{
    struct launcher *l = c->launcher;
    size_t own_from;
    char **argv = make_argv(c, join, &own_from);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE}, {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE}, {.flags = UV_INHERIT_FD}};
    stdio[1].data.stream = (uv_stream_t *)&c->out;
    if (l->faults != NULL) stdio[0].flags = UV_CREATE_PIPE | UV_READABLE_PIPE;
    stdio[0].data.stream = (uv_stream_t *)&c->in;
    stdio[2].data.fd = 2;
    uv_process_options_t options = {
        .file = l->program, .args = argv, .exit_cb = exit_cb, .stdio_count = 3, .stdio = stdio};
    int err = uv_pipe_init(&l->loop, &c->out, 0);
    CHECK(err == 0); /* it opens nothing yet */
    err = uv_pipe_init(&l->loop, &c->in, 0);
    CHECK(err == 0);
    c->process.data = c->out.data = c->in.data = c;
    c->open_handles = 3;
    c->started = true;
    l->alive++;
    if (l->faults == NULL) close_once((uv_handle_t *)&c->in); /* no orders */
    err = uv_spawn(&l->loop, &c->process, &options);
    if (err == 0) err = uv_read_start((uv_stream_t *)&c->out, alloc_cb, read_cb);
    for (size_t i = own_from; argv[i] != NULL; i++) free(argv[i]);
    free(argv);
    if (err == 0) return 0;
    close_once((uv_handle_t *)&c->process); /* to be closed also when it was not started */
    close_once((uv_handle_t *)&c->out);
    close_once((uv_handle_t *)&c->in);
    return err_set(why, ERR_IO, "cannot start agent %" PRIu32 " (%s): %s", c->rank, l->program,
                   err == UV_EMFILE ? "too many open files; raise ulimit -n" : uv_strerror(err));
}

static void order_written_cb(uv_write_t *request, int status)
{
    (void)status; /* who is gone does not answer */
    free(request->data);
    free(request);
}

int child_order(struct child *c, json_t *order)
{
    bool ears = child_alive(c) && c->launcher->faults != NULL && !uv_is_closing((uv_handle_t *)&c->in);
    char *text = ears ? json_dumps(order, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(order);
    if (text == NULL) return ERR_CLOSED;
    size_t length = strlen(text);
    text[length] = '\n'; /* in the terminator's place */
    uv_write_t *request = mem_new_zero(1, sizeof *request);
    request->data = text;
    uv_buf_t buf = uv_buf_init(text, (unsigned)length + 1);
    int err = uv_write(request, (uv_stream_t *)&c->in, &buf, 1, order_written_cb);
    if (err == 0) return 0;
    free(text);
    free(request);
    return ERR_CLOSED;
}

bool child_alive(const struct child *c)
{
    return c->started && c->open_handles > 0;
}

void child_end(struct child *c, int number)
{
    if (!child_alive(c) || uv_is_closing((uv_handle_t *)&c->process)) return;
    uv_process_kill(&c->process, number);
}

void child_kill(struct child *c, const char *why)
{
    if (c->killed == NULL) c->killed = why;
    child_end(c, SIGKILL);
}

void child_how(const struct child *c, char *out, size_t size)
{
    if (c->killed != NULL)
        snprintf(out, size, "%s", c->killed);
    else if (c->exit_signal != 0)
        snprintf(out, size, "killed by signal %d (%s)", c->exit_signal, strsignal(c->exit_signal));
    else if (c->failure[0] != '\0')
        snprintf(out, size, "%s", c->failure);
    else
        snprintf(out, size, "ended with status %d", (int)c->exit_status);
}

uint64_t child_memory(const struct child *c)
{
    char path[64], line[256];
    if (!child_alive(c)) return 0;
    snprintf(path, sizeof path, "/proc/%d/status", uv_process_get_pid(&c->process));
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    uint64_t total_kb = 0, kb;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %" SCNu64, &kb) == 1 || sscanf(line, "RssShmem: %" SCNu64, &kb) == 1)
            total_kb += kb;
    fclose(file);
    return total_kb * 1024;
}

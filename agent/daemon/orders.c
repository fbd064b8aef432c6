/* What `up` asks of the agents it has started: a JSON object a line on standard input, an answer a line on standard
 * output. The only order there is injects or heals faults (fault_request.h); "tag" comes back with the answer.
 *
 * Normal course
 *  - standard input is a pipe or a socket: it is read as long as the agent runs.
 * Failure courses
 *  - it is anything else, or cannot be read: there are no orders.
 *  - a line that is too long, no JSON or not understood: an answer with "error".
 *  - it ends: so has `up`; the agent hears of that by a signal. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/daemon/daemon.h"
#include "agent/scenario/fault_request.h"
#include "base/check.h"

#define ORDER_LINE_MAX 4096u

struct agent_orders {
    uv_pipe_t pipe;
    struct agent *agent;
    char line[ORDER_LINE_MAX];
    size_t size;
    bool too_long;
    char read[ORDER_LINE_MAX];
};

static void take_order(struct agent *a, const char *text)
{
    struct err_text why = {""};
    json_t *order = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *answer = json_object();
    const char *op = json_string_value(json_object_get(order, "op"));
    int err;
    if (op == NULL || strcmp(op, "fault") != 0)
        err = err_set(&why, ERR_USAGE, "an order must be {\"op\": \"fault\", ...}");
    else
        err = fault_request(a->transport, a->host->ops->now_us(a->host), order, answer, &why);
    a->disturbed = true;
    agent_tell_faults(a);
    if (err != 0) json_object_set_new(answer, "error", json_string(why.text));
    json_t *tag = json_object_get(order, "tag");
    if (tag != NULL) json_object_set(answer, "tag", tag);
    json_decref(order);
    agent_say_answer(a, answer);
}

static void take_bytes(struct agent_orders *o, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != '\n') {
            if (o->size + 1 < sizeof o->line)
                o->line[o->size++] = bytes[i];
            else
                o->too_long = true;
            continue;
        }
        o->line[o->size] = '\0';
        if (o->agent->stopped_by == NULL) take_order(o->agent, o->too_long ? "" : o->line);
        o->size = 0;
        o->too_long = false;
    }
}

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct agent_orders *o = handle->data;
    (void)suggested;
    *out = uv_buf_init(o->read, sizeof o->read);
}

static void read_cb(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    if (count < 0)
        uv_read_stop(stream);
    else
        take_bytes(stream->data, buffer->base, (size_t)count);
}

static void closed_cb(uv_handle_t *handle)
{
    free(handle->data);
}

void agent_orders_open(struct agent *a)
{
    if (a->stopped_by != NULL || uv_guess_handle(STDIN_FILENO) != UV_NAMED_PIPE) return;
    struct agent_orders *o = mem_new_zero(1, sizeof *o);
    o->agent = a;
    int err = uv_pipe_init(&a->loop, &o->pipe, 0);
    CHECK(err == 0); /* it opens nothing yet */
    o->pipe.data = o;
    a->orders = o;
    err = uv_pipe_open(&o->pipe, STDIN_FILENO);
    if (err == 0) err = uv_read_start((uv_stream_t *)&o->pipe, alloc_cb, read_cb);
    if (err != 0) agent_orders_close(a);
}

void agent_orders_close(struct agent *a)
{
    if (a->orders == NULL) return;
    uv_close((uv_handle_t *)&a->orders->pipe, closed_cb);
    a->orders = NULL;
}

/* What a running agent does when it is asked to. One row, one operation.
 *
 *   {"op": "status"}                  everything that `gadabout status` shows
 *   {"op": "snapshot", "path": FILE}  the present model as safetensors; whole or not at all
 *   {"op": "fault", ...}              injected faults: fault_request.h
 *   {"op": "leave"}                   says goodbye and ends, as at the end of its steps
 *
 * Failure courses
 *  - snapshot: no path, or one that cannot be written: an error; no file appears. */
#include "agent/control/control.h"

#include <stdlib.h>
#include <string.h>

#include "agent/daemon/daemon.h"
#include "agent/files/json.h"
#include "agent/files/safetensors.h"
#include "agent/scenario/fault_request.h"
#include "base/check.h"

/* -- snapshot ---------------------------------------------------------------------------------- */

struct snapshot {
    char *path;
    size_t dim;
    uint64_t steps;
    char algorithm[CHOICE_TEXT_MAX], task[CHOICE_TEXT_MAX];
    float x[]; /* (dim) */
};

static void snapshot_free(void *job)
{
    struct snapshot *s = job;
    free(s->path);
    free(s);
}

static int snapshot_write(struct control_call *call)
{
    const struct snapshot *s = call->job;
    char steps[32];
    snprintf(steps, sizeof steps, "%llu", (unsigned long long)s->steps);
    const struct metadata meta[] = {{"format", "gadabout"},
                                    {"version", GADABOUT_VERSION},
                                    {"algorithm", s->algorithm},
                                    {"task", s->task},
                                    {"steps", steps}};
    return safetensors_write(s->path, s->x, s->dim, meta, sizeof meta / sizeof meta[0], &call->why);
}

static int run_snapshot(struct agent *a, struct control_call *call)
{
    const char *path = json_string_value(json_object_get(call->request, "path"));
    if (path == NULL || path[0] != '/')
        return err_set(&call->why, ERR_USAGE, "snapshot: \"path\" must be a file name that begins with /");
    struct node_report r;
    node_report(a->node, &r);
    size_t dim = a->experiment.dim;
    CHECK(dim <= (SIZE_MAX - sizeof(struct snapshot)) / sizeof(float));
    struct snapshot *s = mem_new(sizeof *s + dim * sizeof(float), 1);
    s->path = mem_copy_text(path);
    s->dim = dim;
    s->steps = r.algo.steps;
    choice_print(&a->config->algorithm_params, s->algorithm, sizeof s->algorithm);
    choice_print(&a->config->task, s->task, sizeof s->task);
    memcpy(s->x, node_model(a->node), dim * sizeof(float));
    json_object_set_new(call->reply, "path", json_text_or_null(path));
    json_object_set_new(call->reply, "id", json_count_or_null(a->id));
    json_object_set_new(call->reply, "steps", json_count_or_null(r.algo.steps));
    json_object_set_new(call->reply, "parameters", json_count_or_null(dim));
    call->work = snapshot_write;
    call->job = s;
    call->job_free = snapshot_free;
    return 0;
}

/* -- fault ------------------------------------------------------------------------------------- */

static int run_fault(struct agent *a, struct control_call *call)
{
    if (a->stopped_by != NULL) return err_set(&call->why, ERR_CLOSED, "fault: the agent is stopping");
    json_object_set_new(call->reply, "id", json_count_or_null(a->id));
    uint64_t now_us = a->host->ops->now_us(a->host);
    int err = fault_request(a->transport, now_us, call->request, call->reply, &call->why);
    a->disturbed = true;
    agent_tell_faults(a);
    return err;
}

/* -- leave ------------------------------------------------------------------------------------- */

static int run_leave(struct agent *a, struct control_call *call)
{
    json_object_set_new(call->reply, "id", json_count_or_null(a->id));
    agent_stop(a, "leave");
    return 0;
}

/* -- all --------------------------------------------------------------------------------------- */

const struct control_op control_ops[] = {
    {"status", control_status}, {"snapshot", run_snapshot}, {"fault", run_fault},
    {"leave", run_leave},       {"invite", control_invite},
};
const size_t control_op_count = sizeof control_ops / sizeof control_ops[0];

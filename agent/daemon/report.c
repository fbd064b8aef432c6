/* What an agent says.
 *
 * Normal course
 *  - to a person: lines on stderr (waiting for members, steps, loss, accuracy, links, bytes), nothing with
 *    --json; metrics.jsonl in the run directory.
 *  - to `up` (--launched): one JSON object per line on stdout. {"event": "listening" | "ranked" | "steps" |
 *    "evaluated" | "note" | "answer" | "failed", ...}; a line without "event" is a line of metrics.
 * Failure courses
 *  - stdout is gone: so is `up`, and the agent stops. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "agent/daemon/daemon.h"
#include "agent/files/json.h"
#include "base/check.h"

/* Takes object. */
static void send_line(struct agent *a, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    CHECK(text != NULL);
    if (printf("%s\n", text) < 0 || fflush(stdout) != 0) agent_stop(a, "interrupt");
    free(text);
}

static json_t *event(const char *name)
{
    json_t *object = json_object();
    json_object_set_new(object, "event", json_string(name));
    return object;
}

static void send_text(struct agent *a, const char *name, const char *text)
{
    json_t *object = event(name);
    json_object_set_new(object, "text", json_text_or_null(text));
    send_line(a, object);
}

void agent_say_listening(struct agent *a)
{
    if (!a->config->launched) {
        if (a->address[0] == '\0')
            progress_note(&a->progress, "nobody can dial this agent, results in %s", a->dir.path);
        else
            progress_note(&a->progress, "listening on %s, results in %s", a->address, a->dir.path);
        return;
    }
    json_t *object = event("listening");
    json_object_set_new(object, "address", json_text_or_null(a->address));
    send_line(a, object);
}

void agent_say_ranked(struct agent *a, rank_t rank)
{
    if (!a->config->launched) {
        progress_note(&a->progress, "training begins at place %" PRIu32 " of %" PRIu32, rank,
                      a->config->nodes);
        return;
    }
    json_t *object = event("ranked");
    json_object_set_new(object, "rank", json_integer(rank));
    send_line(a, object);
}

void agent_say_finished(struct agent *a)
{
    progress_note(&a->progress, "%" PRIu64 " steps are done; mixing on for a moment", a->config->steps);
}

void agent_say_steps(struct agent *a)
{
    struct node_report r;
    node_report(a->node, &r);
    if (r.algo.steps == a->steps_told) return;
    a->steps_told = r.algo.steps;
    json_t *object = event("steps");
    json_object_set_new(object, "steps", json_count_or_null(r.algo.steps));
    json_object_set_new(object, "steps_handed_over", json_count_or_null(r.algo.steps_handed_over));
    send_line(a, object);
}

/* To a person the failure is told at the end, by the command. */
void agent_say_failed(struct agent *a)
{
    if (a->config->launched) send_text(a, "failed", a->failure.text);
}

void agent_say_answer(struct agent *a, json_t *answer)
{
    json_object_set_new(answer, "event", json_string("answer"));
    send_line(a, answer);
}

void agent_say_evaluation(struct agent *a)
{
    if (!a->config->launched) return;
    json_t *object = event("evaluated");
    json_object_set_new(object, "loss", json_number_or_null(a->loss));
    json_object_set_new(object, "accuracy", json_number_or_null(a->accuracy));
    send_line(a, object);
}

/* Errors come by another way: on_failed, or the command's own last line. */
void agent_trace_line(void *ctx, enum trace_level level, const char *text)
{
    struct agent *a = ctx;
    if (level == TRACE_ERROR) return;
    if (a->config->launched)
        send_text(a, "note", text);
    else
        progress_note(&a->progress, "%s", text);
}

uint64_t agent_model_steps(const struct agent *a, const struct node_report *r)
{
    return r->progress != a->steps_before + r->algo.steps ? r->progress : 0;
}

void agent_say_metrics(struct agent *a, const struct node_report *r)
{
    if (r->rank == RANK_NONE) return;
    struct metrics_line line = metrics_of_node(r, wall_clock_s() - a->began_s, a->accuracy);
    line.steps += a->steps_before;
    line.model_steps = agent_model_steps(a, r);
    line.loop_lag_p99_s = (double)lag_percentile_us(&a->loop_lag, 0.99) * 1e-6;
    line.loop_lag_max_s = (double)lag_take_max(&a->loop_lag) * 1e-6;
    if (a->state != NULL) line.checkpoints = agent_state_ok(a) ? CHECKPOINTS_OK : CHECKPOINTS_FAIL;
    rundir_metrics(&a->dir, &line);
    if (a->config->launched && metrics_print(&line, stdout) != 0) agent_stop(a, "interrupt");
}

void agent_say_state(struct agent *a)
{
    struct node_report r;
    node_report(a->node, &r);
    if (r.rank == RANK_NONE) {
        char text[NODE_WAIT_MAX];
        node_waits_for(a->node, text);
        if (!a->config->launched && text[0] != '\0') progress_show(&a->progress, "%s", text);
        return;
    }
    agent_say_metrics(a, &r);
    if (a->config->launched) return;
    char loss[32] = "", accuracy[32] = "", model[48] = "";
    uint64_t model_steps = agent_model_steps(a, &r);
    if (model_steps != 0) snprintf(model, sizeof model, " (its model %" PRIu64 ")", model_steps);
    if (r.algo.steps > 0) snprintf(loss, sizeof loss, "  loss %.4g", r.loss);
    if (!isnan(a->accuracy)) snprintf(accuracy, sizeof accuracy, "  accuracy %.2f %%", 100 * a->accuracy);
    progress_show(&a->progress, "%.0f s  %" PRIu64 " steps%s%s%s  %" PRIu32 " links  %.2f MB sent",
                  wall_clock_s() - a->began_s, a->steps_before + r.algo.steps, model, loss, accuracy,
                  r.neighbours_up, (double)r.net.bytes_sent * 1e-6);
}

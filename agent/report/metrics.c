/* One line of metrics.jsonl, written and read: `up` reads the same lines from its agents. What only some
 * methods count is left out while it is 0.
 * Refused when reading: what is not a JSON object, a missing field that every method has, a field of the wrong type. */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "agent/files/json.h"
#include "agent/files/rundir.h"
#include "base/check.h"

enum field_kind { FIELD_NUMBER, FIELD_COUNT, FIELD_COUNT32, FIELD_VERDICT };

#define FIELD(name, kind, optional)                                                                          \
    {                                                                                                        \
#name, kind, optional, offsetof(struct metrics_line, name)                                           \
    }
#define NUMBER(name) FIELD(name, FIELD_NUMBER, false)
#define COUNT(name) FIELD(name, FIELD_COUNT, false)
#define COUNT32(name) FIELD(name, FIELD_COUNT32, false)
#define SOME_NUMBER(name) FIELD(name, FIELD_NUMBER, true)
#define SOME_COUNT(name) FIELD(name, FIELD_COUNT, true)

static const struct metrics_field {
    const char *name;
    enum field_kind kind;
    bool optional; /* left out when 0 */
    size_t offset;
} fields[] = {
    NUMBER(time_s),
    COUNT32(node),
    COUNT(steps),
    COUNT(steps_handed_over),
    NUMBER(loss),
    NUMBER(accuracy),
    COUNT32(links),
    COUNT(bytes_sent),
    COUNT(bytes_received),
    COUNT(model_transfers),
    COUNT(mixes),
    COUNT(tokens_regenerated),
    COUNT(rebases),
    COUNT(duplicates_dropped),
    COUNT(exchanges_torn),
    COUNT(version),
    SOME_COUNT(model_steps),
    SOME_COUNT(rounds),
    SOME_COUNT(left_out),
    SOME_COUNT(terms),
    SOME_COUNT(delay_sum),
    SOME_COUNT(delay_max),
    SOME_COUNT(bytes_across),
    SOME_NUMBER(divergence_up),
    SOME_NUMBER(divergence_down),
    SOME_NUMBER(loop_lag_p99_s),
    SOME_NUMBER(loop_lag_max_s),
    {"checkpoint_ok", FIELD_VERDICT, true, offsetof(struct metrics_line, checkpoints)},
};
static const size_t field_count = sizeof fields / sizeof fields[0];

struct metrics_line metrics_of_node(const struct node_report *r, double time_s, double accuracy)
{
    return (struct metrics_line){
        .time_s = time_s,
        .node = r->rank,
        .steps = r->algo.steps,
        .steps_handed_over = r->algo.steps_handed_over,
        .loss = r->algo.steps > 0 ? r->loss : (double)NAN, /* nothing was trained: no loss is known */
        .accuracy = accuracy,
        .links = r->neighbours_up,
        .bytes_sent = r->net.bytes_sent,
        .bytes_received = r->net.bytes_received,
        .model_transfers = r->algo.model_transfers,
        .mixes = r->algo.mixes,
        .tokens_regenerated = r->algo.tokens_regenerated,
        .rebases = r->algo.rebases,
        .duplicates_dropped = r->algo.duplicates_dropped,
        .exchanges_torn = r->algo.exchanges_torn,
        .version = r->algo.version,
        .rounds = r->algo.rounds,
        .left_out = r->algo.left_out,
        .terms = r->algo.terms,
        .delay_sum = r->algo.delay_sum,
        .delay_max = r->algo.delay_max,
        .bytes_across = r->algo.bytes_across,
        .divergence_up = r->algo.divergence_up,
        .divergence_down = r->algo.divergence_down,
    };
}

static bool field_is_absent(const struct metrics_line *line, const struct metrics_field *f)
{
    const char *at = (const char *)line + f->offset;
    if (f->kind == FIELD_VERDICT) return line->checkpoints == CHECKPOINTS_NONE;
    return f->kind == FIELD_NUMBER ? *(const double *)(const void *)at == 0
                                   : *(const uint64_t *)(const void *)at == 0;
}

static json_t *field_value(const struct metrics_line *line, const struct metrics_field *f)
{
    const char *at = (const char *)line + f->offset;
    switch (f->kind) {
    case FIELD_NUMBER:
        return json_number_or_null(*(const double *)(const void *)at);
    case FIELD_COUNT:
        return json_count_or_null(*(const uint64_t *)(const void *)at);
    case FIELD_COUNT32:
        return json_integer(*(const uint32_t *)(const void *)at);
    case FIELD_VERDICT:
        return json_integer(line->checkpoints == CHECKPOINTS_OK);
    }
    UNREACHABLE();
}

int metrics_print(const struct metrics_line *line, FILE *to)
{
    json_t *object = json_object();
    for (size_t i = 0; i < field_count; i++) {
        if (fields[i].optional && field_is_absent(line, &fields[i])) continue;
        json_object_set_new(object, fields[i].name, field_value(line, &fields[i]));
    }
    /* one write per line: lines of several processes do not mix, and a reader sees whole lines */
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    CHECK(text != NULL);
    int wrote = fprintf(to, "%s\n", text);
    free(text);
    return wrote > 0 && fflush(to) == 0 ? 0 : ERR_IO;
}

static int read_field(const json_t *value, const struct metrics_field *f, struct metrics_line *out)
{
    char *at = (char *)out + f->offset;
    if (value == NULL) return f->optional ? 0 : ERR_FORMAT;
    if (f->kind == FIELD_NUMBER) {
        if (!json_is_number(value) && !json_is_null(value)) return ERR_FORMAT;
        *(double *)(void *)at = json_is_null(value) ? NAN : json_number_value(value);
        return 0;
    }
    if (f->kind == FIELD_COUNT && json_is_null(value)) {
        *(uint64_t *)(void *)at = UINT64_MAX;
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) return ERR_FORMAT;
    uint64_t count = (uint64_t)json_integer_value(value);
    if (f->kind == FIELD_VERDICT) {
        out->checkpoints = count == 0 ? CHECKPOINTS_FAIL : CHECKPOINTS_OK;
        return 0;
    }
    if (f->kind == FIELD_COUNT) {
        *(uint64_t *)(void *)at = count;
        return 0;
    }
    if (count > UINT32_MAX) return ERR_FORMAT;
    *(uint32_t *)(void *)at = (uint32_t)count;
    return 0;
}

int metrics_parse(const char *text, struct metrics_line *out)
{
    json_error_t error;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    int err = json_is_object(object) ? 0 : ERR_FORMAT;
    *out = (struct metrics_line){0};
    for (size_t i = 0; i < field_count && err == 0; i++)
        err = read_field(json_object_get(object, fields[i].name), &fields[i], out);
    json_decref(object);
    return err;
}

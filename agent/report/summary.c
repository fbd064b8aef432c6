/* summary.json: what a run was and what it reached, keys in a fixed order, unknown values null.
 * What only some methods count is left out where it is 0. */
#include <jansson.h>

#include "agent/files/json.h"
#include "agent/files/rundir.h"
#include "base/check.h"

void summary_count(struct summary *s, const struct algo_report *r)
{
    s->model_transfers = r->model_transfers;
    s->tokens_regenerated = r->tokens_regenerated;
    s->rebases = r->rebases;
    s->duplicates_dropped = r->duplicates_dropped;
    s->exchanges_torn = r->exchanges_torn;
    s->rounds = r->rounds;
    s->left_out = r->left_out;
    s->terms = r->terms;
    s->delay_sum = r->delay_sum;
    s->delay_max = r->delay_max;
    s->bytes_across = r->bytes_across;
    s->divergence_up = r->divergence_up;
    s->divergence_down = r->divergence_down;
}

static json_t *lost_nodes(const struct summary *s)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < s->lost_count; i++) {
        const struct lost_node *l = &s->lost[i];
        json_t *node = json_object();
        json_object_set_new(node, "node", json_integer(l->node));
        json_object_set_new(node, "how", json_text_or_null(l->how));
        json_object_set_new(node, "time_s", json_number_or_null(l->time_s));
        json_object_set_new(node, "steps", json_count_or_null(l->steps));
        json_object_set_new(node, "steps_handed_over", json_count_or_null(l->steps_handed_over));
        json_array_append_new(list, node);
    }
    return list;
}

static void add_experiment(json_t *o, const struct config *c)
{
    json_object_set_new(o, "version", json_string(GADABOUT_VERSION));
    json_object_set_new(o, "command", json_string(command_name(c->command)));
    json_object_set_new(o, "algorithm", json_choice(&c->algorithm_params));
    json_object_set_new(o, "compress", json_choice(&c->compress));
    json_object_set_new(o, "compress_by", json_choice(&c->compress_by));
    json_object_set_new(o, "topology", json_choice(&c->topology));
    json_object_set_new(o, "nodes", json_integer(c->nodes));
    json_object_set_new(o, "task", json_choice(&c->task));
    json_object_set_new(o, "data", json_text_or_null(c->data));
    json_object_set_new(o, "classes", json_text_or_null(c->classes));
    json_object_set_new(o, "split", json_choice(&c->split));
    json_object_set_new(o, "seed", json_count_or_null(c->seed));
}

static void add_results(json_t *o, const struct summary *s)
{
    json_object_set_new(o, "steps_total", json_count_or_null(s->steps_total));
    if (s->model_steps != 0) json_object_set_new(o, "model_steps", json_count_or_null(s->model_steps));
    json_object_set_new(o, "loss", json_number_or_null(s->loss));
    json_object_set_new(o, "accuracy", json_number_or_null(s->accuracy));
    json_object_set_new(o, "accuracy_min", json_number_or_null(s->accuracy_min));
    json_object_set_new(o, "accuracy_alone", json_number_or_null(s->accuracy_alone));
    json_object_set_new(o, "accuracy_pooled", json_number_or_null(s->accuracy_pooled));
    json_object_set_new(o, "evaluated_on", json_text_or_null(s->evaluated_on));
    json_object_set_new(o, "consensus_distance", json_number_or_null(s->consensus_distance));
    json_object_set_new(o, "spectral_gap", json_number_or_null(s->spectral_gap));
}

/* What only some methods count. */
static void add_count(json_t *o, const char *key, uint64_t value)
{
    if (value != 0) json_object_set_new(o, key, json_count_or_null(value));
}

static void add_measure(json_t *o, const char *key, double value)
{
    if (value != 0) json_object_set_new(o, key, json_number_or_null(value));
}

static void add_costs(json_t *o, const struct summary *s)
{
    json_object_set_new(o, "bytes_sent", json_count_or_null(s->bytes_sent));
    json_object_set_new(o, "model_transfers", json_count_or_null(s->model_transfers));
    json_object_set_new(o, "tokens_regenerated", json_count_or_null(s->tokens_regenerated));
    json_object_set_new(o, "rebases", json_count_or_null(s->rebases));
    json_object_set_new(o, "duplicates_dropped", json_count_or_null(s->duplicates_dropped));
    json_object_set_new(o, "exchanges_torn", json_count_or_null(s->exchanges_torn));
    add_count(o, "rounds", s->rounds);
    add_count(o, "left_out", s->left_out);
    add_count(o, "terms", s->terms);
    add_count(o, "delay_sum", s->delay_sum);
    add_count(o, "delay_max", s->delay_max);
    add_count(o, "bytes_across", s->bytes_across);
    add_measure(o, "divergence_up", s->divergence_up);
    add_measure(o, "divergence_down", s->divergence_down);
    json_object_set_new(o, "lost", lost_nodes(s));
    if (s->faults_given) {
        json_object_set_new(o, "faults", json_integer(s->faults.begun));
        json_object_set_new(o, "faults_bit", json_integer(s->faults.bit));
    }
    uint64_t memory = s->memory_per_agent_max;
    json_object_set_new(o, "memory_per_agent_max", json_count_or_null(memory == 0 ? UINT64_MAX : memory));
    json_object_set_new(o, "wall_s", json_number_or_null(s->wall_s));
    json_object_set_new(o, "stopped_by", json_text_or_null(s->stopped_by));
    if (s->config->command != COMMAND_SIM) return;
    json_object_set_new(o, "virtual_s", json_number_or_null(s->virtual_s));
    json_object_set_new(o, "trace_sha256", json_text_or_null(s->trace_sha256));
}

int summary_print(const struct summary *s, FILE *to)
{
    CHECK(s->config != NULL);
    json_t *object = json_object();
    add_experiment(object, s->config);
    add_results(object, s);
    add_costs(object, s);
    int failed = json_dumpf(object, to, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(object);
    return failed == 0 && fputc('\n', to) != EOF && fflush(to) == 0 ? 0 : ERR_IO;
}

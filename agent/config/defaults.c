/* Defaults of options that nobody gave, and checks that concern several options at once. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/config/internal.h"
#include "algo/topology/topology.h"
#include "base/check.h"
#include "base/limits.h"
#include "net/sim/sim.h"

#define MEMBER_DELAY_MAX_S 0.1 /* a probe of net/membership waits for half a second */

/* -- defaults ---------------------------------------------------------------------------------- */

static const char *initial_nodes(const struct config *c)
{
    switch (c->command) {
    case COMMAND_UP:
        return "8";
    case COMMAND_SIM:
        return "16";
    case COMMAND_AGENT:
    case COMMAND_EVAL:
    case COMMAND_ALGORITHMS:
    case COMMAND_REPRODUCE:
    case COMMAND_STATUS:
    case COMMAND_INVITE:
    case COMMAND_FAULT:
    case COMMAND_COUNT:
        return "1";
    case COMMAND_DOCTOR:
        return NULL; /* it then looks at no experiment */
    }
    UNREACHABLE();
}

/* Good starting values of SGD for each task. */
static const struct task_initial {
    const char *task, *batch, *step_size;
} task_initials[] = {
    {"logistic", "1", "inverse:scale=10,offset=100"},
    {"average", "0", "constant:value=1"},
    {"quadratic", "0", "constant:value=0.1"},
    {NULL, "32", "constant:value=0.05"}, /* softmax, mlp */
};

static const struct task_initial *initial_of_task(const struct config *c)
{
    const struct task_initial *t = task_initials;
    while (t->task != NULL && strcmp(t->task, c->task.spec->name) != 0) t++;
    return t;
}

static const char *initial_steps(const struct config_parse *p)
{
    bool sim = p->config->command == COMMAND_SIM;
    return sim || option_given(p, "time") || p->config->keeper ? "0" : "2000";
}

static const char *initial_virtual_time(const struct config_parse *p)
{
    bool limited = option_given(p, "steps") || option_given(p, "time");
    return p->config->command != COMMAND_SIM || limited ? NULL : "1000";
}

static const char *initial_report_every(const struct config *c, char *buffer, size_t size)
{
    if (c->command != COMMAND_SIM) return "1";
    if (c->virtual_time_s == 0) return "1000";
    snprintf(buffer, size, "%.17g", c->virtual_time_s / 20);
    return buffer;
}

/* Whoever takes any peers is given those who live, where members come and go; of up to six each has all others then.
 * The doctor must find the agents' default. */
static const char *initial_topology(const struct config *c)
{
    bool live = c->command == COMMAND_UP || c->command == COMMAND_AGENT || c->command == COMMAND_DOCTOR;
    if (c->nodes < 6 || c->algorithm->links == ALGO_LINKS_ALL) return "complete";
    return live && algo_takes_any_peers(c->algorithm, &c->algorithm_params) ? "overlay" : "regular:d=4";
}

/* The default as text; NULL leaves the option unset. */
static const char *initial_of(const struct config_option *o, const struct config_parse *p, char *buffer,
                              size_t size)
{
    const struct config *c = p->config;
    if (strcmp(o->name, "cluster") == 0 && c->invited) return c->invited_cluster;
    if (o->initial != NULL) return o->initial;
    if (strcmp(o->name, "nodes") == 0) return initial_nodes(c);
    if (strcmp(o->name, "topology") == 0) return initial_topology(c);
    if (strcmp(o->name, "batch") == 0) return initial_of_task(c)->batch;
    if (strcmp(o->name, "step-size") == 0) return initial_of_task(c)->step_size;
    if (strcmp(o->name, "baselines") == 0) return c->command == COMMAND_AGENT ? "off" : "on";
    if (strcmp(o->name, "steps") == 0) return initial_steps(p);
    if (strcmp(o->name, "virtual-time") == 0) return initial_virtual_time(p);
    if (strcmp(o->name, "report-every") == 0) return initial_report_every(c, buffer, size);
    return NULL;
}

int config_fill(struct config_parse *p, struct err_text *why)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        char buffer[64], where[64];
        const char *text = p->given[i] ? NULL : initial_of(o, p, buffer, sizeof buffer);
        if (text == NULL) continue;
        snprintf(where, sizeof where, "--%s (default)", o->name);
        int err = option_set(o, p->config, where, text, why);
        if (err != 0) return err;
    }
    return 0;
}

/* -- checks ------------------------------------------------------------------------------------ */

static int check_keeper(const struct config *c, struct err_text *why)
{
    const struct {
        bool wrong;
        const char *option, *reason;
    } rules[] = {
        {c->launched, "launched", "agents of `up` train; start the keeper by hand"},
        {c->steps > 0, "steps", "a keeper makes none; leave it out, or give --steps 0"},
        {c->pace > 0, "pace", "a keeper makes no steps; leave it out"},
        {c->baselines, "baselines", "a keeper trains nothing; give --baselines off"},
        {!isnan(c->target_loss), "target-loss", "a keeper trains towards nothing; give it to the others"},
        {!isnan(c->target_accuracy), "target-accuracy",
         "a keeper trains towards nothing; give it to the others"},
    };
    if (!c->keeper) return 0;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].wrong)
            return err_set(why, ERR_USAGE, "--%s: does not go with --keeper: %s", rules[i].option,
                           rules[i].reason);
    return 0;
}

static int check_agent(const struct config_parse *p, struct err_text *why)
{
    const struct config *c = p->config;
    if (!option_given(p, "nodes"))
        return err_set(why, ERR_USAGE,
                       "--nodes: an agent must know how many members the cluster has; give the same "
                       "-n N to every agent, and --join HOST:PORT to all but the first");
    if (c->min_nodes > c->nodes)
        return err_set(why, ERR_USAGE, "--min-nodes: %" PRIu32 " is more than the %" PRIu32 " of --nodes",
                       c->min_nodes, c->nodes);
    if (c->nodes == 1 && c->join_count > 0 && !c->keeper)
        return err_set(why, ERR_USAGE,
                       "--join: %s cannot be joined in a cluster of --nodes 1; give the number of all "
                       "members, as in -n 8",
                       c->join[0]);
    if (c->invited && strcmp(c->cluster, c->invited_cluster) != 0)
        return err_set(
            why, ERR_USAGE,
            "--cluster: '%s' is not the cluster that --join invites to, which is '%s'; leave --cluster out",
            c->cluster, c->invited_cluster);
    /* Saved addresses of a former life would do, so --state is let through. */
    if (c->nodes > 1 && strcmp(c->listen, "none") == 0 && c->join_count == 0 && c->state == NULL &&
        strcmp(c->multicast, "off") == 0)
        return err_set(why, ERR_USAGE,
                       "--listen: 'none' without --join meets nobody: this agent cannot be dialled and knows "
                       "nobody to dial; give a member, as in --join 10.0.0.5:7946, or an invitation");
    return check_keeper(c, why);
}

/* A newcomer hears one chunk at a time, and takes who is silent for longer than a second or two for gone. */
static int check_give_rate(const struct config *c, struct err_text *why)
{
    if (c->give_rate == 0 || c->give_rate >= GIVE_RATE_MIN) return 0;
    return err_set(why, ERR_USAGE,
                   "--give-rate: %" PRIu64 " bytes per second are less than a chunk of %u bytes per second; give "
                   "at least that, or 0 for no cap",
                   c->give_rate, GIVE_RATE_MIN);
}

static int check_up(const struct config *c, struct err_text *why)
{
    if (c->nodes <= UP_NODE_MAX) return 0;
    return err_set(why, ERR_USAGE,
                   "--nodes: '%" PRIu32 "' is more than the %u processes that `up` starts; try "
                   "gadabout sim",
                   c->nodes, UP_NODE_MAX);
}

/* Tries the graph, so that an impossible one is refused before the start. A complete one always fits. */
static int check_topology(const struct config *c, struct err_text *why)
{
    if (c->nodes > TOPOLOGY_EARLY_MAX || strcmp(c->topology.spec->name, "complete") == 0) return 0;
    struct graph g;
    int err = topology_build(&c->topology, c->nodes, c->seed, &g, why);
    if (err == 0) graph_deinit(&g);
    return err;
}

static int check_compress_by(const struct config *c, struct err_text *why)
{
    if (c->algorithm->by_tensor || strcmp(c->compress_by.spec->name, "model") == 0) return 0;
    char fits[160] = "";
    for (size_t i = 0; i < algo_type_count; i++) {
        size_t used = strlen(fits);
        if (!algo_types[i]->by_tensor || used >= sizeof fits) continue;
        snprintf(fits + used, sizeof fits - used, "%s%s", used > 0 ? ", " : "", algo_types[i]->spec.name);
    }
    return err_set(why, ERR_USAGE,
                   "--compress-by: '%s' does not fit --algorithm %s, which packs a model as one vector; give "
                   "--compress-by model, or one of --algorithm %s",
                   c->compress_by.spec->name, c->algorithm->spec.name, fits);
}

/* Members find each other with the times of real networks, in virtual time too. */
static int check_members_keep_pace(const struct config *c, struct err_text *why)
{
    double delay_s = sim_latency_control_s(&c->latency);
    if (strcmp(c->topology.spec->name, "overlay") != 0 || delay_s <= MEMBER_DELAY_MAX_S) return 0;
    return err_set(
        why, ERR_USAGE,
        "--latency: members of an overlay find each other as in a real network, for which words that "
        "take %g s are too slow; give %g s or less, as in --latency exp:mean=20ms, or --topology "
        "regular",
        delay_s, MEMBER_DELAY_MAX_S);
}

int config_check(const struct config_parse *p, struct err_text *why)
{
    const struct config *c = p->config;
    int err = 0;
    switch (c->command) {
    case COMMAND_UP:
        err = check_up(c, why);
        break;
    case COMMAND_AGENT:
        err = check_agent(p, why);
        break;
    case COMMAND_EVAL:
        if (c->model_file != NULL) return 0;
        return err_set(why, ERR_USAGE,
                       "--model: missing; give the model file of a run, as in --model "
                       "runs/first/model.safetensors");
    case COMMAND_ALGORITHMS:
    case COMMAND_STATUS:
    case COMMAND_INVITE:
    case COMMAND_FAULT:
        return 0;
    case COMMAND_REPRODUCE:
        if (c->study != NULL) return 0;
        return err_set(why, ERR_USAGE, "which study? give one, as in gadabout reproduce digest; see --help");
    case COMMAND_DOCTOR:
        if (c->nodes == 0) return 0;
        break;
    case COMMAND_SIM:
        err = check_members_keep_pace(c, why);
        break;
    case COMMAND_COUNT:
        break;
    }
    if (err == 0) err = check_give_rate(c, why);
    if (err == 0) err = algo_fit_topology(c->algorithm, &c->algorithm_params, c->topology.spec, why);
    if (err == 0) err = algo_fit_compress(c->algorithm, &c->compress, 0, why);
    if (err == 0) err = check_compress_by(c, why);
    return err != 0 ? err : check_topology(c, why);
}

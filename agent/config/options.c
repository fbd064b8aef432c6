/* The one table of options. Command line, YAML, environment, --help, config.yml and the arguments that `up`
 * gives to its agents are all made from it. Order matters twice: --help shows it, and a default that depends
 * on another option (config/defaults.c) comes after that option. */
#include <string.h>

#include "agent/config/internal.h"
#include "agent/dataset/split.h"
#include "algo/compress/pack.h"
#include "algo/model/model.h"
#include "algo/optimizer.h"
#include "algo/topology/topology.h"
#include "base/limits.h"
#include "net/sim/sim.h"

#define FIELD(f) .field = offsetof(struct config, f)
#define RANGE(a, b) .low = (a), .high = (b)
#define CHOICES(t) .table = t, .table_count = &t##_count
#define TIME_MAX_S 3.2e7 /* a year: its microseconds fit everywhere */
#define VIRTUAL_TIME_MAX_S 1e12

/* A row of the table is two or three lines. */
/* clang-format off */
const struct config_option config_options[] = {
    {.name = "config", .kind = OPTION_CONFIG, .commands = ON_RUN | ON_EVAL, .metavar = "FILE",
     .help = "options from a YAML file, keys as here with _", .example = "run.yml"},
    {.name = "model", .kind = OPTION_TEXT, .commands = ON_EVAL, .metavar = "FILE", FIELD(model_file),
     .help = "the model.safetensors of a run", .example = "runs/first/model.safetensors"},

    {.name = "study", .kind = OPTION_TEXT, .commands = ON_REPRODUCE, .properties = OPTION_BARE,
     .metavar = "STUDY", FIELD(study), .example = "digest",
     .help = "digest, delicoco, def, hsgd, async or bytes"},
    {.name = "data-root", .kind = OPTION_TEXT, .commands = ON_REPRODUCE, .initial = "data", .metavar = "DIR",
     FIELD(data_root), .example = "data", .help = "where the data sets are (data)"},
    {.name = "quick", .kind = OPTION_FLAG, .commands = ON_REPRODUCE, .initial = "off", FIELD(quick),
     .example = "on", .help = "a smaller study, of some seconds"},

    /* experiment */
    {.name = "nodes", .letter = 'n', .kind = OPTION_U32, .commands = ON_RUN, .properties = OPTION_PASSED,
     .metavar = "N", FIELD(nodes), RANGE(1, NODE_COUNT_MAX), .example = "8",
     .help = "places for members (up 8, sim 16, agent: give it)"},
    {.name = "min-nodes", .kind = OPTION_U32, .commands = ON_AGENT, .initial = "0", .metavar = "N",
     FIELD(min_nodes), RANGE(0, NODE_COUNT_MAX), .example = "3",
     .help = "begin when so many are known (0 = --nodes)"},
    {.name = "keeper", .kind = OPTION_FLAG, .commands = ON_AGENT, .initial = "off", FIELD(keeper), .example = "on",
     .help = "train nothing: keep the model, give it to who comes"},
    {.name = "keep-every", .kind = OPTION_SECONDS, .commands = ON_AGENT, .properties = OPTION_ABOVE_LOW | OPTION_RARE,
     .initial = "30s", .metavar = "T", FIELD(keep_every_s), RANGE(0, TIME_MAX_S), .example = "30s",
     .help = "keeper: between fetches of the model (30s)"},
    {.name = "algorithm", .kind = OPTION_ALGORITHM, .commands = ON_RUN, .properties = OPTION_PASSED,
     .initial = "digest:streams=path", .metavar = "CHOICE", FIELD(algorithm), .example = "gossip",
     .help = "method (digest:streams=path)"},
    {.name = "compress", .kind = OPTION_CHOICE, .commands = ON_RUN, .properties = OPTION_PASSED,
     .initial = "none", .metavar = "CHOICE", FIELD(compress), CHOICES(compress_table), .example = "topk",
     .help = "compressor of what is sent (none)"},
    {.name = "compress-by", .kind = OPTION_CHOICE, .commands = ON_RUN, .properties = OPTION_PASSED | OPTION_RARE,
     .initial = "model", .metavar = "CHOICE", FIELD(compress_by), CHOICES(compress_by_table),
     .example = "tensor", .help = "pack the model as one, or each tensor (model)"},
    {.name = "topology", .kind = OPTION_CHOICE, .commands = ON_RUN, .properties = OPTION_PASSED,
     .metavar = "CHOICE", FIELD(topology), CHOICES(topology_table), .example = "regular:d=4",
     .help = "links (by method: overlay, regular:d=4 or complete)"},
    {.name = "task", .kind = OPTION_CHOICE, .commands = ON_RUN | ON_EVAL, .properties = OPTION_PASSED,
     .initial = "softmax", .metavar = "CHOICE", FIELD(task), CHOICES(model_table), .example = "softmax",
     .help = "model to train (softmax)"},
    {.name = "data", .kind = OPTION_TEXT, .commands = ON_RUN | ON_EVAL, .properties = OPTION_PASSED,
     .initial = "data/fashion-mnist", .metavar = "PATH", FIELD(data), .example = "data/w8a",
     .help = "directory or file (data/fashion-mnist)"},
    {.name = "split", .kind = OPTION_CHOICE, .commands = ON_RUN, .properties = OPTION_PASSED,
     .initial = "iid", .metavar = "CHOICE", FIELD(split), CHOICES(split_table), .example = "label:k=2",
     .help = "who owns which rows (iid)"},
    {.name = "classes", .kind = OPTION_TEXT, .commands = ON_RUN | ON_EVAL, .properties = OPTION_PASSED,
     .metavar = "A,B,..", FIELD(classes), .example = "9,4",
     .help = "keep only these labels, as in 9,4 (all)"},
    {.name = "features", .kind = OPTION_U32, .commands = ON_RUN | ON_EVAL, .properties = OPTION_PASSED | OPTION_RARE,
     .initial = "0", .metavar = "N", FIELD(features), RANGE(0, DATASET_FEATURE_MAX), .example = "300",
     .help = "width of libsvm rows (0 = found in the data)"},
    {.name = "holdout", .kind = OPTION_REAL, .commands = ON_RUN | ON_EVAL,
     .properties = OPTION_PASSED | OPTION_BELOW_HIGH, .initial = "0", .metavar = "SHARE", FIELD(holdout),
     RANGE(0, 1), .example = "0.2", .help = "rows held out if there is no test file (0)"},
    {.name = "seed", .kind = OPTION_U64, .commands = ON_RUN | ON_EVAL | ON_REPRODUCE, .properties = OPTION_PASSED,
     .initial = "1", .metavar = "N", FIELD(seed), .example = "1", .help = "of everything random (1)"},
    {.name = "batch", .kind = OPTION_U32, .commands = ON_RUN, .properties = OPTION_PASSED, .metavar = "N",
     FIELD(batch), RANGE(0, DATASET_ROW_MAX), .example = "32",
     .help = "rows a step, 0 = all (32; logistic 1, quadratic 0)"},
    {.name = "step-size", .kind = OPTION_CHOICE, .commands = ON_RUN, .properties = OPTION_PASSED,
     .metavar = "CHOICE", FIELD(step_size), CHOICES(step_size_table), .example = "constant:value=0.05",
     .help = "step-size rule (follows the task)"},
    {.name = "momentum", .kind = OPTION_REAL, .commands = ON_RUN,
     .properties = OPTION_PASSED | OPTION_BELOW_HIGH | OPTION_RARE, .initial = "0", .metavar = "M", FIELD(momentum),
     RANGE(0, 1), .example = "0.9", .help = "of the local SGD (0)"},
    {.name = "baselines", .kind = OPTION_SWITCH, .commands = ON_RUN, .metavar = "on|off", FIELD(baselines),
     .example = "off", .help = "also train alone and pooled (on; agent off)"},

    /* length */
    {.name = "steps", .kind = OPTION_U64, .commands = ON_RUN, .properties = OPTION_PASSED, .metavar = "N",
     FIELD(steps), .example = "2000", .help = "local steps per node, 0 = no limit (up, agent 2000)"},
    {.name = "time", .kind = OPTION_SECONDS, .commands = ON_RUN, .properties = OPTION_ABOVE_LOW,
     .metavar = "T", FIELD(time_s), RANGE(0, TIME_MAX_S), .example = "60s",
     .help = "stop after this wall time, as in 60s (none)"},
    {.name = "virtual-time", .kind = OPTION_SECONDS, .commands = ON_SIM, .properties = OPTION_ABOVE_LOW,
     .metavar = "T", FIELD(virtual_time_s), RANGE(0, VIRTUAL_TIME_MAX_S), .example = "1000",
     .help = "stop at this virtual time (1000 if no other limit)"},
    {.name = "target-loss", .kind = OPTION_REAL, .commands = ON_RUN, .metavar = "LOSS", FIELD(target_loss),
     RANGE(-1e300, 1e300), .example = "0.5", .help = "stop when reached; exit 3 if it is not (none)"},
    {.name = "target-accuracy", .kind = OPTION_REAL, .commands = ON_RUN, .properties = OPTION_ABOVE_LOW,
     .metavar = "SHARE", FIELD(target_accuracy), RANGE(0, 1), .example = "0.8",
     .help = "likewise, of accuracy, as in 0.8 (none)"},

    /* simulator */
    {.name = "latency", .kind = OPTION_CHOICE, .commands = ON_SIM, .initial = "transfer", .metavar = "CHOICE",
     FIELD(latency), CHOICES(latency_table), .example = "exp:mean=50ms",
     .help = "delay of messages (transfer)"},
    {.name = "step-time", .kind = OPTION_CHOICE, .commands = ON_SIM, .initial = "constant:value=1s",
     .metavar = "CHOICE", FIELD(step_time), CHOICES(step_time_table), .example = "uniform:low=1,high=5",
     .help = "duration of a local step (constant:value=1s)"},
    {.name = "speeds", .kind = OPTION_CHOICE, .commands = ON_SIM, .initial = "equal", .metavar = "CHOICE",
     FIELD(speeds), CHOICES(speeds_table), .example = "linear",
     .help = "how much slower each node is (equal)"},
    {.name = "bandwidth", .kind = OPTION_U64, .commands = ON_SIM, .initial = "0", .metavar = "N",
     FIELD(bandwidth), .example = "1000000", .help = "bytes per second of a link (0 = no limit)"},

    /* agent */
    {.name = "listen", .kind = OPTION_ADDRESS, .commands = ON_AGENT, .initial = "127.0.0.1:0",
     .properties = OPTION_OR_NONE, .metavar = "H:PORT", FIELD(listen), .example = "0.0.0.0:7946",
     .help = "accept links here, or none (127.0.0.1:0)"},
    {.name = "advertise", .kind = OPTION_ADDRESS, .commands = ON_AGENT,
     .properties = OPTION_TO_REACH, .metavar = "H:PORT", FIELD(advertise), .example = "10.0.0.5:7946",
     .help = "address to tell peers (what they see)"},
    {.name = "join", .kind = OPTION_ADDRESSES, .commands = ON_AGENT,
     .properties = OPTION_TO_REACH, .metavar = "H:PORT,..", FIELD(join), .example = "10.0.0.5:7946",
     .help = "members, names of several, or an invitation"},
    {.name = "multicast", .kind = OPTION_TEXT, .commands = ON_AGENT, .properties = OPTION_RARE,
     .initial = "off", .metavar = "on|G:PORT", FIELD(multicast), .example = "on",
     .help = "find members on the local network (off)"},
    {.name = "relay-rate", .kind = OPTION_U64, .commands = ON_AGENT, .properties = OPTION_RARE,
     .initial = "8388608", .metavar = "N", FIELD(relay_rate), .example = "1000000",
     .help = "bytes per second passed on for others (8388608; 0 = none)"},
    {.name = "give-rate", .kind = OPTION_U64, .commands = ON_UP | ON_AGENT,
     .properties = OPTION_PASSED | OPTION_RARE, .initial = "33554432", .metavar = "N", FIELD(give_rate),
     .example = "10000000", .help = "bytes of models per second to newcomers (33554432; 0 = no cap)"},
    {.name = "cluster", .kind = OPTION_TEXT, .commands = ON_UP | ON_AGENT,
     .properties = OPTION_PASSED | OPTION_RARE, .initial = "gadabout", .metavar = "NAME", FIELD(cluster),
     .example = "lab-2", .help = "members of another name are refused (gadabout)"},
    {.name = "id", .kind = OPTION_U64, .commands = ON_AGENT, .metavar = "N", FIELD(id), .example = "17",
     .help = "identity in the cluster (drawn at random)"},
    {.name = "patience", .kind = OPTION_SECONDS, .commands = ON_RUN,
     .properties = OPTION_PASSED | OPTION_ABOVE_LOW, .metavar = "T", FIELD(patience_s), RANGE(0, TIME_MAX_S),
     .example = "10s", .help = "wait for an absent peer this long (by command)"},
    {.name = "tag", .kind = OPTION_TEXT, .commands = ON_AGENT, .properties = OPTION_RARE, .metavar = "TEXT", FIELD(tag),
     .example = "rack=a", .help = "where it belongs, for grouping=tags (nothing)"},
    {.name = "tags", .kind = OPTION_TEXT, .commands = ON_UP | ON_SIM, .metavar = "A,A,B", FIELD(tags),
     .example = "a*4,b*4", .help = "of all nodes, for grouping=tags (nothing)"},
    {.name = "pace", .kind = OPTION_REAL, .commands = ON_UP | ON_AGENT, .properties = OPTION_PASSED,
     .initial = "0", .metavar = "N", FIELD(pace), RANGE(0, 1e6), .example = "200",
     .help = "local steps per second at most (0 = no limit)"},
    {.name = "control", .kind = OPTION_TEXT, .commands = ON_AGENT, .properties = OPTION_NOT_KEPT | OPTION_RARE,
     .metavar = "PATH|off", FIELD(control), .example = "/run/gadabout/a.sock",
     .help = "socket for status and the like (by id)"},

    {.name = "state", .kind = OPTION_TEXT, .commands = ON_AGENT, .metavar = "DIR", FIELD(state),
     .example = "state/a", .help = "to come back from (RUN/state: never resumed)"},
    {.name = "save-every", .kind = OPTION_SECONDS, .commands = ON_AGENT, .properties = OPTION_ABOVE_LOW,
     .initial = "60s", .metavar = "T", FIELD(save_every_s), RANGE(0, TIME_MAX_S), .example = "60s",
     .help = "between saves of the state (60s)"},
    {.name = "faults", .kind = OPTION_TEXT, .commands = ON_UP | ON_SIM, .metavar = "FILE", FIELD(faults),
     .example = "scenario.yml", .help = "inject the faults of a scenario file (none)"},
    {.name = "launched", .kind = OPTION_FLAG, .commands = ON_AGENT,
     .properties = OPTION_HIDDEN | OPTION_NOT_KEPT, .initial = "off", FIELD(launched), .example = "on"},
    {.name = "lifeguard", .kind = OPTION_SWITCH, .commands = ON_AGENT, .metavar = "on|off",
     .properties = OPTION_HIDDEN | OPTION_NOT_KEPT, .initial = "on", FIELD(lifeguard), .example = "off"},

    /* talking to a running agent */
    {.name = "agent", .kind = OPTION_TEXT, .commands = ON_STATUS | ON_INVITE | ON_FAULT,
     .properties = OPTION_NOT_KEPT | OPTION_BARE, .metavar = "ID|PATH", FIELD(agent), .example = "4611",
     .help = "beginning of its id, or its socket (all)"},
    {.name = "watch", .kind = OPTION_FLAG, .commands = ON_STATUS, .properties = OPTION_NOT_KEPT,
     .initial = "off", FIELD(watch), .example = "on", .help = "again each second, until Ctrl-C"},

    {.name = "kind", .kind = OPTION_TEXT, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT,
     .metavar = "KIND", FIELD(fault_kind), .example = "drop",
     .help = "drop delay limit half_open reset corrupt (list)"},
    {.name = "peer", .kind = OPTION_TEXT, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT,
     .metavar = "ID|any", FIELD(fault_peer), .example = "5", .help = "links with whom (any)"},
    {.name = "direction", .kind = OPTION_TEXT, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT,
     .metavar = "WAY", FIELD(fault_direction), .example = "both", .help = "in, out or both (both)"},
    {.name = "for", .kind = OPTION_SECONDS, .commands = ON_FAULT,
     .properties = OPTION_NOT_KEPT | OPTION_ABOVE_LOW, .metavar = "T", FIELD(fault_for_s), RANGE(0, TIME_MAX_S),
     .example = "30s", .help = "how long (until healed)"},
    {.name = "delay", .kind = OPTION_SECONDS, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT,
     .metavar = "T", FIELD(fault_delay_s), RANGE(0, TIME_MAX_S), .example = "50ms", .help = "of kind delay"},
    {.name = "jitter", .kind = OPTION_SECONDS, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT,
     .metavar = "T", FIELD(fault_jitter_s), RANGE(0, TIME_MAX_S), .example = "10ms",
     .help = "of kind delay: so much more or less (0)"},
    {.name = "rate", .kind = OPTION_U64, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT, .initial = "0",
     .metavar = "N", FIELD(fault_rate), .example = "100000", .help = "of kind limit: bytes per second"},
    {.name = "one-in", .kind = OPTION_U64, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT, .initial = "0",
     .metavar = "N", FIELD(fault_one_in), .example = "10000", .help = "of kind corrupt: one byte in N"},
    {.name = "heal", .kind = OPTION_FLAG, .commands = ON_FAULT, .properties = OPTION_NOT_KEPT, .initial = "off",
     FIELD(fault_heal), .example = "on", .help = "end all faults of the agent, say what each did"},

    /* output; `out` is not kept because a run never writes into the directory of an older one */
    {.name = "out", .kind = OPTION_TEXT, .commands = ON_RUN | ON_REPRODUCE,
     .properties = OPTION_NOT_KEPT, .metavar = "DIR",
     FIELD(out), .example = "runs/first", .help = "new run directory (runs/<time>-<name>)"},
    {.name = "report-every", .kind = OPTION_SECONDS, .commands = ON_RUN,
     .properties = OPTION_PASSED | OPTION_ABOVE_LOW | OPTION_RARE, .metavar = "T", FIELD(report_every_s),
     RANGE(0, VIRTUAL_TIME_MAX_S), .example = "1s",
     .help = "between metrics lines (1s; sim 1/20 of the run)"},
    {.name = "json", .kind = OPTION_FLAG, .commands = ON_RUN | ON_EVAL | ON_ALGORITHMS | ON_STATUS | ON_FAULT,
     .properties = OPTION_NOT_KEPT, .initial = "off", FIELD(json), .example = "on",
     .help = "print the result as JSON and nothing else"},
};
/* clang-format on */
const size_t config_option_count = sizeof config_options / sizeof config_options[0];

_Static_assert(sizeof config_options / sizeof config_options[0] <= CONFIG_OPTION_MAX, "room to note each");

const struct config_option *option_find(const char *name)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (strcmp(config_options[i].name, name) == 0) return &config_options[i];
    return NULL;
}

void option_key(const struct config_option *o, char *out, size_t size)
{
    size_t i = 0;
    for (; o->name[i] != '\0' && i + 1 < size; i++) out[i] = o->name[i] == '-' ? '_' : o->name[i];
    out[i] = '\0';
}

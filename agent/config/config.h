/* The whole configuration of a command, parsed and validated before anything starts.
 *
 * One table of options (config.c) serves the command line (--sync-every), YAML files (sync_every, given
 * with --config FILE), environment variables (GADABOUT_SYNC_EVERY), --help and config.yml of a run. A later source
 * overrides an earlier one: defaults, YAML, environment, command line. */
#ifndef GADABOUT_AGENT_CONFIG_CONFIG_H
#define GADABOUT_AGENT_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/control/invite.h"
#include "algo/step.h"
#include "base/choice.h"

enum command {
    COMMAND_UP,
    COMMAND_AGENT,
    COMMAND_SIM,
    COMMAND_EVAL,
    COMMAND_ALGORITHMS,
    COMMAND_REPRODUCE,
    COMMAND_STATUS,
    COMMAND_INVITE,
    COMMAND_DOCTOR,
    COMMAND_FAULT,
    COMMAND_COUNT
};

#define CONFIG_JOIN_MAX 16

struct config {
    enum command command;

    /* experiment: up, agent, sim */
    uint32_t nodes;
    bool keeper;         /* agent: no data, no training: holds the model and gives it */
    double keep_every_s; /* keeper: between fetches of the model */
    uint32_t min_nodes;  /* agent: members that must be known before training begins; 0 = nodes */
    const struct algo_type *algorithm;
    struct choice algorithm_params;
    struct choice compress;    /* what bodies of messages become */
    struct choice compress_by; /* of compress_by_table: as one vector or by tensor */
    struct choice topology;    /* default: complete below 6 nodes, else regular:d=4 */
    struct choice task;        /* a model */
    struct choice split;
    struct choice step_size; /* default follows the task */
    char *data;              /* directory, file, or a synthetic set "mixture:..." */
    char *classes;           /* NULL or "9,4" */
    uint32_t features;       /* 0 = known or found */
    double holdout;
    uint64_t seed;
    uint32_t batch; /* rows per local step; 0 = the whole shard. default follows the task */
    double momentum;
    bool baselines; /* also train alone and pooled */

    /* length */
    uint64_t steps;         /* local steps per node; 0 = not limited by steps */
    double time_s;          /* wall seconds; 0 = none */
    double virtual_time_s;  /* sim; 0 = none */
    double target_loss;     /* NAN = none */
    double target_accuracy; /* in 0..1; NAN = none */

    /* simulator */
    struct choice latency;   /* see net/sim/sim.h latency_table */
    struct choice step_time; /* step_time_table: virtual duration of one local step, per node */
    struct choice speeds;    /* speeds_table: how much slower each node is */
    uint64_t bandwidth;      /* bytes per second of each link and direction; 0 = no limit */

    /* agent */
    char *listen;        /* "host:port"; port 0 = any free one; "none" = nobody can dial us */
    uint64_t relay_rate; /* bytes per second passed on for others; 0 = none */
    uint64_t give_rate;  /* up, agent: bytes per second of models given to newcomers, all together; 0 = no cap */
    char *advertise;     /* NULL = what peers see */
    char *cluster;       /* its name: both ends of a link must agree */
    char *multicast;     /* "on", "off" or "239.x.y.z:port" */
    char *join[CONFIG_JOIN_MAX];
    uint32_t join_count;
    bool invited; /* --join had an invitation: */
    char invited_cluster[INVITE_CLUSTER_MAX];
    uint8_t invited_shape[16];
    uint64_t id;         /* node id; UINT64_MAX = drawn at random */
    double patience_s;   /* 0 = the command's default */
    char *tag;           /* where this agent belongs; NULL = nothing said */
    char *tags;          /* up, sim: the nodes' tags, "a,a,b" or "a*2,b"; NULL = none */
    double pace;         /* up, agent: local steps per second at most; 0 = as fast as it goes */
    char *state;         /* agent: what it comes back from; NULL = `state` in the run directory */
    double save_every_s; /* between checkpoints */
    char *faults;        /* up, sim: scenario file; NULL = none */
    bool launched;       /* hidden: started by `up`, reports as JSON lines on stdout */
    bool lifeguard;      /* hidden: off = plain SWIM, only to show what Lifeguard is for (tests/chaos, M-5) */
    char *control;       /* path of the control socket, or "off"; NULL = one named by id */

    /* output */
    char *out;             /* run directory; NULL = runs/<time>-<algorithm> */
    double report_every_s; /* wall seconds (virtual in sim) between metrics lines */
    bool json;

    /* status, invite */
    char *agent; /* which one: the beginning of its id, or a socket's path; NULL = all */
    bool watch;  /* again each second */

    /* fault */
    char *fault_kind, *fault_peer, *fault_direction; /* as typed; NULL = not given */
    double fault_for_s, fault_delay_s, fault_jitter_s;
    uint64_t fault_rate, fault_one_in; /* bytes per second; one byte in so many */
    bool fault_heal;

    /* eval */
    char *model_file;

    /* reproduce */
    char *study;     /* NULL = not given */
    char *data_root; /* directory of the data sets */
    bool quick;
};

/* Parses argv (argv[0] is the command's own name) with YAML and environment behind it.
 * Returns 0, ERR_USAGE/ERR_IO/ERR_FORMAT with why ("--topology: ..." / "run.yml:3: unknown key 'sede', did
 * you mean 'seed'?"), or CONFIG_HELP when --help was asked for (and printed). */
#define CONFIG_HELP 1
int config_parse(enum command command, int argc, char **argv, struct config *out, struct err_text *why);
void config_deinit(struct config *c);

/* Writes every option resolved, with version and seed, as YAML that --config reads back. */
int config_write_yaml(const struct config *c, FILE *to);

/* Appends to argv-like list the options that make `agent` run the same experiment (used by `up`).
 * Returns owned, NULL-terminated; free each and the list. */
char **config_experiment_arguments(const struct config *c, size_t *count);

/* Fits 80 x 40 and ends in an example; `all`: with the rare options, as long as it takes. */
void config_print_help(enum command command, bool all, FILE *to);
const char *command_name(enum command command);

#endif

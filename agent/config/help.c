/* --help of each command, made from the table of options: at most 80 columns and 40 lines, and the last line
 * (of at most two parts) is a command that works. Where not all options fit, the rare ones are shown by --help all. */
#include <stdio.h>
#include <string.h>

#include "agent/config/internal.h"

static const struct command_help {
    const char *what;    /* one line */
    const char *example; /* arguments behind the program's name; a line break in a shell's spelling */
} command_helps[COMMAND_COUNT] = {
    [COMMAND_UP] = {"start a cluster of agent processes here and train together",
                    "up -n 8 --algorithm digest:sync_every=5 --split label:k=2 \\\n"
                    "    --steps 1000 --pace 200"},
    [COMMAND_AGENT] = {"run one member of a cluster; all get the same options",
                       "agent -n 2 --listen 127.0.0.1:7946 --steps 1000 --pace 200"},
    [COMMAND_SIM] = {"simulate a cluster in virtual time, exactly repeatable",
                     "sim -n 100 --algorithm gossip --split label:k=2 --steps 200"},
    [COMMAND_EVAL] = {"loss and accuracy of a saved model",
                      "eval --model runs/first/model.safetensors --json"},
    [COMMAND_ALGORITHMS] = {"list all choices with parameters, defaults and sources", "algorithms --json"},
    [COMMAND_REPRODUCE] = {"repeat a published comparison and judge its claims", "reproduce digest --quick"},
    [COMMAND_FAULT] = {"disturb the links of a running agent, for a test",
                       "fault --agent 3 --peer 5 --kind drop --for 30s"},
    [COMMAND_STATUS] = {"what the agents on this machine do, and whom they know", "status --watch"},
    [COMMAND_INVITE] = {"print the line with which others join a running agent", "invite --agent 17"},
    [COMMAND_DOCTOR] = {"what is wrong with the set-up of an agent, in words",
                        "doctor --listen 0.0.0.0:7946 --join 127.0.0.1:7947"},
};

/* It takes all options of an agent; these are those it looks at by themselves. */
static bool doctor_shows(const struct config_option *o)
{
    static const char *const names[] = {"nodes",   "listen", "advertise", "join",
                                        "cluster", "id",     "state",     "json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], o->name) == 0) return true;
    return false;
}

static void print_option(const struct config_option *o, FILE *to)
{
    char left[48], name[40];
    bool bare = o->kind == OPTION_FLAG;
    if ((o->properties & OPTION_BARE) != 0)
        snprintf(name, sizeof name, "%s", o->metavar);
    else
        snprintf(name, sizeof name, "--%s%s%s", o->name, bare ? "" : " ", bare ? "" : o->metavar);
    if (o->letter != 0)
        snprintf(left, sizeof left, "-%c, %s", o->letter, name);
    else
        snprintf(left, sizeof left, "%s", name);
    fprintf(to, "  %-26s %s\n", left, o->help);
}

void config_print_help(enum command command, bool all, FILE *to)
{
    const struct command_help *h = &command_helps[command];
    bool choices = false, left_out = false;
    fprintf(to, "gadabout %s: %s\n\n", command_name(command), h->what);
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if ((o->commands & (1u << command)) == 0 || (o->properties & OPTION_HIDDEN) != 0) continue;
        if (!all && (command == COMMAND_DOCTOR ? !doctor_shows(o) : (o->properties & OPTION_RARE) != 0)) {
            left_out = true;
            continue;
        }
        print_option(o, to);
        choices = choices || o->kind == OPTION_CHOICE;
    }
    fprintf(to, "  %-26s this text%s\n\n", left_out ? "-h, --help [all]" : "-h, --help",
            left_out ? "; all: with rarer options" : "");
    if (choices)
        fprintf(to, "A CHOICE is name:key=value,..; `gadabout algorithms` lists all. --step-size is\n"
                    "step_size in a YAML file and GADABOUT_STEP_SIZE in the environment.\n");
    if (command == COMMAND_REPRODUCE)
        fprintf(to, "A study is a set of simulated runs and claims about them. One verdict per claim\n"
                    "is printed; runs.csv, curves.csv, claims.json, plot.svg (gnuplot) stay in DIR.\n"
                    "Exit 0: all claims hold; 3: one does not.\n\n"
                    "  digest    DIGEST, gossip, walk: loss, time, models sent (w8a, 100 nodes)\n"
                    "  delicoco  several compressed gossip steps a round (MNIST 4-9, torus of 9)\n"
                    "  def       error feedback with a detached look-ahead (a9a, 8 nodes)\n"
                    "  hsgd      local SGD in groups: how often, who with whom (phishing, 10 nodes)\n"
                    "  async     asynchronous SGD: who gets the next job (w7a, 10 unequal nodes)\n"
                    "  bytes     method by compressor: bytes to the optimum (w8a, 16 nodes)\n\n");
    if (command == COMMAND_DOCTOR)
        fprintf(to, "Give it the options of the agent, all of them: with -n it opens the experiment\n"
                    "and compares it with that of the members. It joins nothing and changes nothing.\n"
                    "Exit 0: nothing is wrong; 1: each finding is a line that begins with \"wrong\".\n");
    if (command == COMMAND_FAULT)
        fprintf(to, "--agent may be left out when one agent runs here. Without --kind and --heal\n"
                    "its faults are listed. Exit 0: done; 1: no agent, or no answer; 2: options that\n"
                    "do not go together. For a whole cluster: up --faults, sim --faults.\n\n"
                    "  gadabout fault --agent 3 --kind delay --delay 50ms --jitter 10ms\n"
                    "  gadabout fault --agent 3 --heal\n\n");
    if (command == COMMAND_AGENT)
        fprintf(to, "A keeper:  gadabout agent -n 2 --join 127.0.0.1:7946 --keeper --state kept\n");
    if (command == COMMAND_EVAL)
        fprintf(to, "What is not given is taken from config.yml beside the model file.\n");
    fprintf(to, "Example:\n  gadabout %s\n", h->example);
}

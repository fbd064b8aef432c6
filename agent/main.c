/* gadabout: reads the command's name, parses its options, runs it.
 *
 * Normal course
 *  - the environment that OpenBLAS reads when it is loaded is completed first: one thread (nodes are the
 *    parallelism) and, on processors with AVX-512 that an older OpenBLAS does not know, its AVX-512 kernels
 *    (twice the speed). As the library is loaded before main, that takes one exec of ourselves; the children
 *    that `up` starts inherit the result and do not exec again.
 *  - exit status: see commands.h.
 * Failure courses
 *  - no command, an unknown one, bad options: one line on stderr, exit 2.
 *  - /proc is not mounted or the program's file is gone: no exec, OpenBLAS chooses for itself.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/command/commands.h"
#include "agent/config/config.h"

static const struct command_entry {
    const char *what;
    int (*run)(struct config *config);
} entries[COMMAND_COUNT] = {
    [COMMAND_UP] = {"start a cluster of agent processes here and train together", command_up},
    [COMMAND_AGENT] = {"run one member of a cluster", command_agent},
    [COMMAND_SIM] = {"simulate a cluster in virtual time, exactly repeatable", command_sim},
    [COMMAND_EVAL] = {"loss and accuracy of a saved model", command_eval},
    [COMMAND_ALGORITHMS] = {"list methods, compressors, topologies, models, ... and parameters",
                            command_algorithms},
    [COMMAND_REPRODUCE] = {"repeat a published comparison and judge its claims", command_reproduce},
    [COMMAND_FAULT] = {"disturb the links of a running agent, for a test", command_fault},
    [COMMAND_STATUS] = {"what the agents on this machine do, and whom they know", command_status},
    [COMMAND_INVITE] = {"print the line with which others join a running agent", command_invite},
    [COMMAND_DOCTOR] = {"what is wrong with the set-up of an agent", command_doctor},
};

/* -- environment of OpenBLAS ------------------------------------------------------------------- */

static bool has_avx512(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

/* Sets a variable that the user has not set. Returns true when it was missing. */
static bool complete(const char *name, const char *value)
{
    return getenv(name) == NULL && setenv(name, value, 1) == 0;
}

/* Starts ourselves anew when a variable was missing. The new process has GADABOUT_TUNED: no loop. */
static void tune_openblas(char **argv)
{
    bool missing = complete("OPENBLAS_NUM_THREADS", "1");
    if (has_avx512()) missing = complete("OPENBLAS_CORETYPE", "SkylakeX") || missing;
    if (!missing || !complete("GADABOUT_TUNED", "1")) return;
    char path[4096]; /* by its own name: a process started from the link would be called "exe" in ps */
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = '\0';
    execv(path, argv);
}

/* -- commands ---------------------------------------------------------------------------------- */

static void print_overview(FILE *to)
{
    fprintf(to,
            "gadabout %s: train a model together with peers, without a server\n\n"
            "  gadabout <command> [options]        options of a command: gadabout <command> --help\n\n",
            GADABOUT_VERSION);
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-11s %s\n", command_name((enum command)i), entries[i].what);
    fprintf(to, "\nExamples:\n"
                "  gadabout up -n 8 --algorithm digest:sync_every=5 --split label:k=2 \\\n"
                "      --steps 1000 --pace 200\n"
                "  gadabout sim -n 100 --algorithm gossip --topology er:p=0.1 --split label:k=2 \\\n"
                "      --latency exp:mean=50ms --steps 200\n");
}

static int unknown_command(const char *word)
{
    const char *names[COMMAND_COUNT];
    for (unsigned i = 0; i < COMMAND_COUNT; i++) names[i] = command_name((enum command)i);
    const char *near = nearest_word(word, names, COMMAND_COUNT);
    fprintf(stderr, "gadabout: '%s' is not a command%s%s%s gadabout --help shows all\n", word,
            near != NULL ? ", did you mean '" : "", near != NULL ? near : "", near != NULL ? "'?" : ";");
    return EXIT_USAGE;
}

static int run_command(enum command command, int argc, char **argv)
{
    struct config config;
    struct err_text why = {""};
    int err = config_parse(command, argc, argv, &config, &why);
    if (err == CONFIG_HELP) return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
    if (err != 0) {
        fprintf(stderr, "gadabout: %s\n", why.text);
        return EXIT_USAGE;
    }
    int status = entries[command].run(&config);
    config_deinit(&config);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    char ask[] = "--help", *of_command[] = {argv[0], argc > 2 ? argv[2] : NULL, ask, NULL};
    if (argc > 2 && strcmp(argv[1], "help") == 0) { /* help up: up --help */
        argc = 3;
        argv = of_command;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_overview(stdout);
        return EXIT_DONE;
    }
    if (strcmp(word, "--version") == 0) {
        printf("gadabout %s\n", GADABOUT_VERSION);
        return EXIT_DONE;
    }
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(word, command_name((enum command)i)) == 0) {
            tune_openblas(argv);
            return run_command((enum command)i, argc - 1, argv + 1);
        }
    return unknown_command(word);
}

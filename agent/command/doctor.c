/* `gadabout doctor`: what is wrong with a set-up, in words, before or while an agent runs.
 *
 * Takes the command line of the agent, with `doctor` in its place, and tries what that agent would need: open
 * files, a clock, the experiment's data, its port, its state directory; then it visits everybody that --join
 * names, and compares. It joins nothing and changes nothing.
 *
 * One line for each thing on stdout: "ok" or "wrong" with the remedy; --json the same as one object. Exit 0:
 * nothing is wrong; 1: something is. */
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "agent/command/commands.h"
#include "agent/control/invite.h"
#include "agent/doctor/doctor.h"
#include "agent/experiment/algorithm_check.h"
#include "agent/experiment/experiment.h"
#include "agent/files/json.h"
#include "base/check.h"

#define FILES_WANTED 256u        /* links, and what else is open */
#define CLOCK_MIN_S 1735689600.0 /* 2025: this program is younger */

/* -- saying ------------------------------------------------------------------------------------ */

static void say(const struct doctor *d, const char *word, const char *text)
{
    if (!d->config->json) printf("%-6s %s\n", word, text);
    fflush(stdout); /* the next visit may take seconds */
}

void doctor_good(struct doctor *d, const char *format, ...)
{
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(d->good, json_text_or_null(text));
    say(d, "ok", text);
}

void doctor_finding(struct doctor *d, const char *code, const char *format, ...)
{
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_t *finding = json_object();
    json_object_set_new(finding, "code", json_string(code));
    json_object_set_new(finding, "text", json_text_or_null(text));
    json_array_append_new(d->findings, finding);
    say(d, "wrong", text);
}

/* -- this machine ------------------------------------------------------------------------------ */

static void check_files(struct doctor *d)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    if (limit.rlim_cur < FILES_WANTED)
        doctor_finding(d, "files",
                       "ulimit -n: %llu open files are few for the links of an agent; raise it: ulimit -n "
                       "4096",
                       (unsigned long long)limit.rlim_cur);
    else
        doctor_good(d, "ulimit -n: %llu open files", (unsigned long long)limit.rlim_cur);
}

static void check_clock(struct doctor *d)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char text[64];
    struct tm parts;
    gmtime_r(&now.tv_sec, &parts);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
    if ((double)now.tv_sec < CLOCK_MIN_S)
        doctor_finding(d, "clock",
                       "the clock says %s: an agent that was started in the past is taken for a former one; "
                       "set the clock, by NTP",
                       text);
    else
        doctor_good(d, "clock: %s", text);
}

static int try_listen(const struct doctor_target *at)
{
    int fd = socket(at->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1, failed = 0;
    if (fd < 0) return errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* as the agent does */
    if (bind(fd, (const struct sockaddr *)&at->address, at->size) != 0 || listen(fd, 1) != 0) failed = errno;
    close(fd);
    return failed;
}

static void check_listen(struct doctor *d)
{
    const char *text = d->config->listen;
    struct doctor_target at;
    if (strcmp(text, "none") == 0) {
        doctor_good(d, "--listen: none: this agent only dials; members of its kind reach it through others");
        return;
    }
    int got = doctor_resolve(text, true, &at, 1);
    int failed = got == 1 ? try_listen(&at) : 0;
    if (got < 1)
        doctor_finding(d, "name", "--listen: %s does not resolve: %s; give an address of this machine", text,
                       got < 0 ? gai_strerror(got) : "no address");
    else if (failed == EADDRINUSE)
        doctor_finding(d, "port",
                       "--listen: the port of %s is taken: an agent may run already (gadabout status); stop "
                       "it, or give another port",
                       text);
    else if (failed == EADDRNOTAVAIL)
        doctor_finding(d, "port",
                       "--listen: %s is no address of this machine; give 0.0.0.0:PORT to listen on all it "
                       "has",
                       text);
    else if (failed != 0)
        doctor_finding(d, "port", "--listen: cannot listen on %s: %s; give a port from 1024 on", text,
                       strerror(failed));
    else
        doctor_good(d, "--listen: %s is free", text);
}

/* -- the experiment ---------------------------------------------------------------------------- */

/* Opens it as the agent would, for the identity that members compare. */
static void check_experiment(struct doctor *d, struct config *c)
{
    struct experiment e;
    struct err_text why = {""};
    if (c->nodes == 0) return; /* nothing is said about it */
    c->command = COMMAND_AGENT;
    int err = experiment_open(c, &vec_blas, &e, &why);
    if (err == 0) {
        err = algorithm_check(&e, NULL, &why);
        experiment_cluster_id(&e, d->hello.cluster);
        if (err == 0)
            doctor_good(d, "experiment: %zu parameters, %u rows for %u nodes", e.dim, e.info.rows, c->nodes);
        experiment_close(&e);
    }
    c->command = COMMAND_DOCTOR;
    d->compare = err == 0;
    if (err == 0 && c->invited) err = invite_check(c->invited_shape, d->hello.cluster, &why);
    if (err != 0) doctor_finding(d, "experiment", "%s", why.text);
}

/* -- the command ------------------------------------------------------------------------------- */

static int finish(struct doctor *d)
{
    size_t wrong = json_array_size(d->findings);
    int err = 0;
    if (d->config->json) {
        json_t *all = json_object();
        json_object_set(all, "ok", d->good);
        json_object_set(all, "findings", d->findings);
        err = json_dumpf(all, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF;
        json_decref(all);
    } else if (wrong == 0) {
        printf("nothing is wrong\n");
    } else {
        printf("%zu finding%s\n", wrong, wrong > 1 ? "s" : "");
    }
    json_decref(d->good);
    json_decref(d->findings);
    return err == 0 && fflush(stdout) == 0 && wrong == 0 ? EXIT_DONE : EXIT_FAILED;
}

int command_doctor(struct config *config)
{
    struct doctor d = {.config = config, .good = json_array(), .findings = json_array()};
    d.hello = (struct hello){.version = PROTOCOL_VERSION, .visitor = true};
    d.hello.name = cluster_name_hash(config->cluster);
    d.compare_id = config->id != UINT64_MAX;
    if (d.compare_id) d.hello.id = config->id;
    if (d.compare_id) d.hello.boot = VISITOR_ASKS;
    check_files(&d);
    check_clock(&d);
    check_experiment(&d, config);
    check_listen(&d);
    doctor_state(&d);
    for (uint32_t i = 0; i < config->join_count; i++) doctor_join(&d, config->join[i]);
    if (config->join_count == 0)
        doctor_good(&d, "nobody was visited: give --join to try the way to a member");
    return finish(&d);
}

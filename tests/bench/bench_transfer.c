/* How long does a newcomer need for the model? Goal: seconds from its first dial until the model is in place, every
 * chunk's hash checked, with all donors alive and with one killed at half way.
 * Method: a process for each donor and one for the newcomer, over the real transport on loopback; both sides run
 * agent/transfer/transfer.h. Heads are a plain row of numbers here, bodies and lanes as in the agent. Donors' models differ in
 * every number, so that afterwards (not timed) each chunk is recognised as some donor's.
 *
 * Failures
 *  - a process that fails says why and ends with 1; the run counts as failed.
 *  - nothing is whole within LIMIT_S: the newcomer ends with 1. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "tests/bench/life.h"

#define RUN_MAX 100u
#define LIMIT_S 60u
#define BAR_S 1.2
#define BAR_KILL 1.3

struct outcome {
    double seconds, newcomer_cpu, donors_cpu;
};

/* The number at `index` of a donor's model: all different between donors, all finite. */
static float model_value(unsigned donor, size_t index)
{
    return (float)(donor + 1) + (float)(index & 0xfffff) * 0x1p-21f;
}

/* CPU seconds that a process has used, from its schedstat (nanoseconds); 0 when that is not to be had. */
static double cpu_seconds(pid_t pid)
{
    char name[64];
    unsigned long long ns = 0;
    snprintf(name, sizeof name, "/proc/%d/schedstat", (int)pid);
    FILE *f = fopen(name, "r");
    if (f == NULL) return 0;
    if (fscanf(f, "%llu", &ns) != 1) ns = 0;
    fclose(f);
    return (double)ns * 1e-9;
}

/* -- processes --------------------------------------------------------------------------------- */

/* Never returns: the parent kills it. Its address is the word that it is ready. */
static _Noreturn void donor_main(const struct options *o, unsigned number, int ready)
{
    static struct life l;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "donor"); /* for profilers */
    life_init(&l, o, DONOR_ID + number);
    for (size_t i = 0; i < l.dim; i++) l.x[i] = model_value(number, i);
    struct donor_config config = {.dim = l.dim,
                                  .chunk_size = (size_t)o->chunk_kib * 1024,
                                  .newcomer_max = 4,
                                  .snapshot_us = 30000000,
                                  .queue_max = 8,
                                  .seed = number};
    l.donor = donor_new(&config);
    if (write(ready, l.address, sizeof l.address) != (ssize_t)sizeof l.address) give_up("no parent");
    uv_run(&l.loop, UV_RUN_DEFAULT);
    exit(1);
}

/* Each chunk must be some donor's. */
static void check_model(const struct life *l)
{
    size_t step = (size_t)l->options->chunk_kib * 1024 / sizeof(float);
    for (size_t from = 0; from < l->dim; from += step) {
        unsigned donor = (unsigned)lroundf(floorf(l->x[from])) - 1;
        size_t end = l->dim - from < step ? l->dim : from + step, wrong = donor >= l->options->donors;
        for (size_t i = from; i < end; i++) wrong += l->x[i] != model_value(donor, i);
        if (wrong > 0) give_up("the model is not what the donors have");
    }
}

static void limit_cb(uv_timer_t *timer)
{
    (void)timer;
    give_up("not whole within the limit");
}

static _Noreturn void newcomer_main(const struct options *o, char address[][ADDRESS_TEXT_MAX], pid_t victim,
                                    int result)
{
    static struct life l;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "newcomer");
    life_init(&l, o, NEWCOMER_ID);
    memset(l.x, 1, l.dim * sizeof *l.x); /* as a node's own start model, it has been written to */
    struct fetch_config config = {.x = l.x,
                                  .dim = l.dim,
                                  .donor_max = o->donors,
                                  .window = o->window,
                                  .silence_us = 2000000,
                                  .seed = 1};
    l.fetch = fetch_new(&config);
    l.victim = victim;
    uv_timer_t limit;
    uv_timer_init(&l.loop, &limit);
    uv_timer_start(&limit, limit_cb, LIMIT_S * 1000, 0);
    double before = cpu_seconds(getpid());
    l.dialled_us = now_us();
    for (unsigned i = 0; i < o->donors; i++) l.transport->ops->dial(l.transport, address[i]);
    uv_run(&l.loop, UV_RUN_DEFAULT);
    if (!fetch_done(l.fetch)) give_up("the loop ended early");
    if (l.victim != 0) give_up("nobody was killed");
    double used = cpu_seconds(getpid()) - before;
    check_model(&l);
    double out[2] = {(double)(l.done_us - l.dialled_us) * 1e-6, used};
    if (write(result, out, sizeof out) != (ssize_t)sizeof out) give_up("no parent");
    exit(0);
}

static pid_t start_donor(const struct options *o, unsigned number, char address[ADDRESS_TEXT_MAX])
{
    int ready[2];
    if (pipe(ready) != 0) give_up("no pipe");
    pid_t pid = fork();
    if (pid < 0) give_up("no process");
    if (pid == 0) donor_main(o, number, ready[1]);
    close(ready[1]);
    if (read(ready[0], address, ADDRESS_TEXT_MAX) != (ssize_t)ADDRESS_TEXT_MAX)
        give_up("a donor did not start");
    close(ready[0]);
    return pid;
}

static int run_once(const struct options *o, bool with_kill, struct outcome *out)
{
    static char address[DONOR_MAX][ADDRESS_TEXT_MAX];
    pid_t donor[DONOR_MAX];
    int result[2], status;
    double before = 0, said[2] = {0};
    if (pipe(result) != 0) give_up("no pipe");
    for (unsigned i = 0; i < o->donors; i++) donor[i] = start_donor(o, i, address[i]);
    for (unsigned i = 0; i < o->donors; i++) before += cpu_seconds(donor[i]);
    pid_t newcomer = fork();
    if (newcomer < 0) give_up("no process");
    if (newcomer == 0) newcomer_main(o, address, with_kill ? donor[0] : 0, result[1]);
    close(result[1]);
    bool heard = read(result[0], said, sizeof said) == (ssize_t)sizeof said;
    close(result[0]);
    out->seconds = said[0];
    out->newcomer_cpu = said[1];
    out->donors_cpu = -before;
    for (unsigned i = 0; i < o->donors; i++) out->donors_cpu += cpu_seconds(donor[i]);
    waitpid(newcomer, &status, 0);
    for (unsigned i = 0; i < o->donors; i++) {
        kill(donor[i], SIGKILL);
        waitpid(donor[i], NULL, 0);
    }
    return heard && status == 0 ? 0 : -1;
}

/* -- the table --------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const struct outcome *left = a, *right = b;
    return (left->seconds > right->seconds) - (left->seconds < right->seconds);
}

/* Prints a row and returns the median. */
static double print_row(const struct options *o, const char *name, struct outcome *run)
{
    qsort(run, o->runs, sizeof *run, ascending);
    const struct outcome *m = &run[o->runs / 2];
    printf("%-28s %8.3f %8.3f %8.3f %10.0f %10.2f %10.2f\n", name, m->seconds, run[0].seconds,
           run[o->runs - 1].seconds, o->mib * 1.048576 / m->seconds, m->newcomer_cpu, m->donors_cpu);
    return m->seconds;
}

static unsigned number_after(const char *name, const char *text, unsigned max)
{
    char *end;
    unsigned long value = text != NULL ? strtoul(text, &end, 10) : 0;
    if (text == NULL || *end != '\0' || value == 0 || value > max) {
        fprintf(stderr, "bench_transfer: %s needs a number from 1 to %u\n", name, max);
        exit(2);
    }
    return (unsigned)value;
}

static void read_options(int argc, char **argv, struct options *o)
{
    const struct {
        const char *name;
        unsigned *value, max;
    } known[] = {{"--mib", &o->mib, 8192},
                 {"--chunk-kib", &o->chunk_kib, 4096},
                 {"--donors", &o->donors, DONOR_MAX},
                 {"--runs", &o->runs, RUN_MAX},
                 {"--window", &o->window, TRANSFER_AHEAD_MAX}};
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == sizeof known / sizeof *known) {
            fprintf(stderr,
                    "usage: bench_transfer [--mib N] [--chunk-kib N] [--donors N] [--window N] [--runs N]\n");
            exit(2);
        }
        *known[k].value = number_after(known[k].name, i + 1 < argc ? argv[i + 1] : NULL, known[k].max);
    }
}

int main(int argc, char **argv)
{
    struct options o = {.mib = 256, .chunk_kib = 1024, .donors = 3, .runs = 7, .window = 4};
    read_options(argc, argv, &o);
    double load = 0;
    if (getloadavg(&load, 1) == 1 && load > 1)
        printf("others are at work here (load %.1f): the seconds are theirs too\n", load);
    fflush(stdout); /* before the processes inherit it */
    static struct outcome live[RUN_MAX], dead[RUN_MAX];
    bool with_kill = o.donors > 1;
    for (unsigned i = 0; i < o.runs; i++) /* in turn, so that both rows see the same machine */
        if (run_once(&o, false, &live[i]) != 0 || (with_kill && run_once(&o, true, &dead[i]) != 0)) return 1;
    printf("%u MiB from %u donors, chunks of %u KiB, %u runs each\n", o.mib, o.donors, o.chunk_kib, o.runs);
    printf("%-28s %8s %8s %8s %10s %10s %10s\n", "seconds", "median", "least", "most", "MB/s", "newcomer",
           "donors CPU");
    double whole = print_row(&o, "all donors live", live);
    double killed = with_kill ? print_row(&o, "one killed at half way", dead) : 0;
    if (o.mib != 256 || o.donors != 3) return 0;
    bool good = whole <= BAR_S && killed <= BAR_KILL * whole;
    printf("bars: %.3f s of %.1f s; with the kill %+.0f %% of %+.0f %%: %s\n", whole, BAR_S,
           100 * (killed / whole - 1), 100 * (BAR_KILL - 1), good ? "kept" : "MISSED");
    return good ? 0 : 1;
}

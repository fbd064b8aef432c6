/* One run of a study: from its row in the table to a configuration, and the child process that runs it.
 *
 * Normal course
 *  - the row's options are put behind the study's, as words of a command line of `sim`, and parsed like one.
 *  - the child evaluates at every report and writes one record (pool.h) for each point, then a last one.
 * Failure courses
 *  - a row that does not parse (a data set is missing): ERR_USAGE with the run's name, before anything starts.
 *  - the run fails or data cannot be read: a record with the reason, exit 1.
 *  - Ctrl-C or SIGTERM: the run ends at the next event; the last record says that it was cut.
 *  - the parent is gone: writing fails (SIGPIPE), and the child with it. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/command/commands.h"
#include "agent/files/interrupt.h"
#include "agent/reproduce/pool.h"
#include "agent/simulation/sim_run.h"
#include "base/check.h"

#define WORD_MAX 128
#define LINE_SIZE 4096

/* -- the command line -------------------------------------------------------------------------- */

/* "a|b": "<root>/a" when that is there, else "<root>/b". Returns owned; NULL when none is there. */
static char *find_set(const char *root, const char *names)
{
    for (const char *at = names; *at != '\0';) {
        size_t length = strcspn(at, "|"), size = strlen(root) + length + 2;
        struct stat status;
        char *path = mem_new(size, 1);
        snprintf(path, size, "%s/%.*s", root, (int)length, at);
        if (stat(path, &status) == 0) return path;
        free(path);
        at += length + (at[length] == '|');
    }
    return NULL;
}

struct words {
    char *word[WORD_MAX]; /* owned */
    int count;
};

static int words_add(struct words *w, const char *options, const char *root, struct err_text *why)
{
    while (options != NULL && *(options += strspn(options, " ")) != '\0') {
        size_t length = strcspn(options, " ");
        char text[LINE_SIZE];
        CHECK(w->count + 1 < WORD_MAX && length < sizeof text);
        snprintf(text, sizeof text, "%.*s", (int)length, options);
        char *word = text[0] == '@' ? find_set(root, text + 1) : mem_copy_text(text);
        if (word == NULL)
            return err_set(why, ERR_USAGE,
                           "--data-root: %s does not hold %s; data/README.md says where it is from", root,
                           text + 1);
        w->word[w->count++] = word;
        options += length;
    }
    return 0;
}

/* A study is what its table says: options from the environment are for other commands. */
static void forget_environment(void)
{
    static const char *const kept[] = {"GADABOUT_DATA=", "GADABOUT_TUNED="};
    extern char **environ;
    for (size_t i = 0; environ != NULL && environ[i] != NULL;) {
        char name[64];
        bool keep = strncmp(environ[i], "GADABOUT_", 9) != 0;
        for (size_t k = 0; k < 2; k++) keep = keep || strncmp(environ[i], kept[k], strlen(kept[k])) == 0;
        size_t length = strcspn(environ[i], "=");
        if (keep || length >= sizeof name) {
            i++;
            continue;
        }
        memcpy(name, environ[i], length);
        name[length] = '\0';
        unsetenv(name); /* the next one takes its place */
    }
}

int study_run_config(const struct study *s, size_t run, const struct config *asked, struct config *out,
                     struct err_text *why)
{
    const struct study_run *row = &s->run[run];
    struct words w = {{mem_copy_text("sim")}, 1};
    struct err_text reason = {""};
    char first[128];
    snprintf(first, sizeof first, "--baselines off --seed %" PRIu64, asked->seed);
    const char *const parts[] = {
        first, s->common, asked->quick ? s->quick : NULL, row->options, asked->quick ? row->quick : NULL,
    };
    int err = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && err == 0; i++)
        err = words_add(&w, parts[i], asked->data_root, &reason);
    forget_environment();
    if (err == 0) err = config_parse(COMMAND_SIM, w.count, w.word, out, &reason);
    for (int i = 0; i < w.count; i++) free(w.word[i]);
    return err == 0 ? 0 : err_set(why, err, "%s, run '%s': %s", s->name, row->name, reason.text);
}

int study_check(const struct study *s, const struct config *asked, struct err_text *why)
{
    int err = 0;
    for (size_t i = 0; i < s->run_count && err == 0; i++) {
        struct config c;
        err = study_run_config(s, i, asked, &c, why);
        if (err == 0) config_deinit(&c);
    }
    return err;
}

/* -- the child --------------------------------------------------------------------------------- */

struct child {
    const struct study *study;
    struct sim_run run;
    double told_s; /* virtual time of the last point */
    int fd;
    struct err_text failure;
};

static void send_record(const struct child *c, const struct pool_record *record)
{
    const char *at = (const char *)record;
    for (size_t left = sizeof *record; left > 0;) {
        ssize_t wrote = write(c->fd, at, left);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return;
        at += wrote;
        left -= (size_t)wrote;
    }
}

static void send_point(void *ctx)
{
    struct child *c = ctx;
    struct sim_run *r = &c->run;
    struct simulation_totals t;
    simulation_totals(r->simulation, &t);
    double gradient = NAN;
    if (c->study->gradient && experiment_gradient_norm(&r->experiment, r->x, &gradient, &c->failure) != 0)
        return;
    c->told_s = sim_run_virtual_s(r);
    struct pool_record record = {.kind = POOL_POINT};
    double *value = record.point.value;
    value[COLUMN_VIRTUAL_S] = c->told_s;
    value[COLUMN_STEPS] = (double)t.algo.steps;
    value[COLUMN_ROUNDS] = (double)t.algo.rounds;
    value[COLUMN_TRANSFERS] = (double)t.algo.model_transfers;
    value[COLUMN_BYTES] = (double)t.bytes_sent;
    value[COLUMN_LOSS] = r->loss;
    value[COLUMN_ACCURACY] = r->accuracy;
    value[COLUMN_DISTANCE] = simulation_consensus_distance(r->simulation);
    value[COLUMN_GRADIENT] = gradient;
    value[COLUMN_DELAY_SUM] = (double)t.algo.delay_sum;
    value[COLUMN_DELAY_MAX] = (double)t.algo.delay_max;
    value[COLUMN_DIVERGENCE_UP] = t.algo.divergence_up;
    value[COLUMN_DIVERGENCE_DOWN] = t.algo.divergence_down;
    value[COLUMN_BYTES_ACROSS] = (double)t.algo.bytes_across;
    send_record(c, &record);
}

/* The end is a point, too, unless it was just told. */
static int finish(struct child *c, struct err_text *why)
{
    if (c->told_s == sim_run_virtual_s(&c->run)) return 0;
    int err = sim_run_evaluate(&c->run, why);
    if (err == 0) send_point(c);
    return err;
}

int study_run_child(const struct study *s, const struct config *config, int fd)
{
    struct child c = {.study = s, .fd = fd, .told_s = -1};
    struct err_text why = {""};
    struct pool_record last = {.kind = POOL_FAILED};
    int err = sim_run_open(config, &c.run, &why);
    if (err == 0) {
        c.run.experiment.judge_training = true;
        c.run.ctx = &c;
        c.run.on_report = send_point;
        err = sim_run_to_the_end(&c.run, &why);
        if (err == 0) err = finish(&c, &why);
        bool cut = err == 0 && strcmp(c.run.stopped_by, "interrupt") == 0;
        if (err == 0) last.kind = cut ? POOL_CUT : POOL_DONE;
        sim_run_close(&c.run);
    }
    if (err != 0) last.failure = why;
    send_record(&c, &last);
    return err == 0 ? EXIT_DONE : EXIT_FAILED;
}

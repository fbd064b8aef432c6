/* The directory of a run.
 *
 * Normal course
 *  - open makes the directory with its parents and writes config.yml; metrics.jsonl grows line by line, each
 *    flushed, so that a run that is killed leaves what it had measured.
 *  - finish writes summary.json and model.safetensors whole (temporary name, sync, rename).
 * Failure courses
 *  - --out exists and is not empty: ERR_USAGE, nothing is touched.
 *  - it is a file, or cannot be made or written: ERR_IO naming --out, before anything starts; what open
 *    made is removed, parents too.
 *  - the default name is taken (two runs in one second): -2, -3, ... is appended.
 *  - the disk fills during the run: finish says so.
 */
#include "agent/files/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/files/atomic_file.h"
#include "agent/files/interrupt.h"
#include "agent/files/safetensors.h"
#include "base/check.h"

enum { DEFAULT_NAME_TRIES = 1000 };

/* -- directories ------------------------------------------------------------------------------- */

/* Removes path and its parents, but none of the first `kept` bytes of it. They are empty, or stay. */
static void remove_made(const char *path, size_t kept)
{
    char *copy = mem_copy_text(path);
    for (size_t last = strlen(copy); last-- > 1 && copy[last] == '/';) copy[last] = '\0';
    for (size_t length = strlen(copy); length > kept; length = strlen(copy)) {
        (void)rmdir(copy);
        char *slash = strrchr(copy, '/');
        if (slash == NULL) break;
        *slash = '\0';
    }
    free(copy);
}

/* Makes the parents of path. *kept is the length of the longest part of it that was there before; all that is
 * made is longer. Returns 0 or errno; then nothing is left. */
static int make_parents(const char *path, size_t *kept)
{
    char *copy = mem_copy_text(path);
    int reason = 0;
    bool made = false; /* "a//b" names the same folder twice: what was made is not what was there */
    *kept = 0;
    for (char *slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        struct stat status;
        if (mkdir(copy, 0777) != 0) {
            reason = errno;
            if (stat(copy, &status) == 0) reason = S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
            if (reason != 0) break; /* copy ends at what could not be made */
            if (!made) *kept = strlen(copy);
        } else {
            made = true;
        }
        *slash = '/';
    }
    if (reason != 0) remove_made(copy, *kept);
    free(copy);
    return reason;
}

static bool is_empty_folder(const char *path, bool *empty)
{
    DIR *folder = opendir(path);
    if (folder == NULL) return false;
    *empty = true;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) *empty = false;
    closedir(folder);
    return true;
}

static int cannot_make(const char *path, int reason, struct err_text *why)
{
    return err_set(why, ERR_IO, "--out: cannot make %s: %s; name a directory that can be written", path,
                   strerror(reason));
}

/* Makes the directory that the user named. *kept: as of make_parents, for the whole. */
static int make_named(const char *path, size_t *kept, struct err_text *why)
{
    if (strlen(path) > RUNDIR_PATH_MAX)
        return err_set(why, ERR_USAGE, "--out: a name of %zu bytes is too long; at most %u", strlen(path),
                       RUNDIR_PATH_MAX);
    int reason = make_parents(path, kept);
    if (reason != 0) return cannot_make(path, reason, why);
    if (mkdir(path, 0777) == 0) return 0;
    reason = errno;
    if (reason != EEXIST) {
        remove_made(path, *kept);
        return cannot_make(path, reason, why);
    }
    if (path[strlen(path) - 1] != '/') *kept = strlen(path); /* else it is one of its own parents */
    bool empty;
    if (!is_empty_folder(path, &empty)) return cannot_make(path, errno, why);
    if (empty) return 0;
    return err_set(why, ERR_USAGE, "--out: %s is not empty; name a new directory or remove it", path);
}

/* Makes runs/<time>-<stem>, with a number behind it when that is taken. *path is owned. */
static int make_default(const char *stem, char **path, size_t *kept, struct err_text *why)
{
    char stamp[32];
    time_t now = time(NULL);
    struct tm parts;
    localtime_r(&now, &parts);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &parts);
    char name[128];
    snprintf(name, sizeof name, "runs/%s-%s", stamp, stem);
    int reason = make_parents(name, kept);
    for (int number = 2; reason == 0 && number < DEFAULT_NAME_TRIES; number++) {
        if (mkdir(name, 0777) == 0) {
            *path = mem_copy_text(name);
            return 0;
        }
        if (errno != EEXIST)
            reason = errno;
        else
            snprintf(name, sizeof name, "runs/%s-%s-%d", stamp, stem, number);
    }
    return cannot_make(name, reason != 0 ? reason : EEXIST, why);
}

static char *path_in(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = mem_new(size, 1);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

/* -- opening ----------------------------------------------------------------------------------- */

static int write_config(const char *path, const struct config *config, struct err_text *why)
{
    struct err_text reason;
    struct atomic_file f;
    int err = atomic_file_open(path, &f, &reason);
    if (err == 0 && config_write_yaml(config, f.stream) != 0 && ferror(f.stream) == 0) {
        atomic_file_abandon(&f);
        return err_set(why, ERR_USAGE, "--out: cannot write %s: an option's text is not UTF-8", path);
    }
    if (err == 0) err = atomic_file_commit(&f, &reason);
    return err == 0 ? 0 : err_set(why, err, "--out: %s", reason.text);
}

static int fill_folder(struct rundir *r, const struct config *config, struct err_text *why)
{
    char *config_path = path_in(r->path, "config.yml");
    char *metrics_path = path_in(r->path, "metrics.jsonl");
    int err = write_config(config_path, config, why);
    if (err == 0) {
        r->metrics = fopen(metrics_path, "ae"); /* e: agents started later do not inherit it */
        if (r->metrics == NULL) {
            err = err_set(why, ERR_IO, "--out: cannot write %s: %s", metrics_path, strerror(errno));
            unlink(config_path);
        }
    }
    free(config_path);
    free(metrics_path);
    return err;
}

static int make_folder(const char *named, const char *stem, char **path, size_t *kept, struct err_text *why)
{
    interrupt_hold();
    int err = named != NULL ? make_named(named, kept, why) : make_default(stem, path, kept, why);
    if (err == 0 && named != NULL) *path = mem_copy_text(named);
    if (err != 0) interrupt_release();
    return err;
}

int rundir_make(const char *out, const char *stem, char **path, struct err_text *why)
{
    size_t kept;
    return make_folder(out, stem, path, &kept, why);
}

int rundir_open(const struct config *config, struct rundir *out, struct err_text *why)
{
    *out = (struct rundir){0};
    size_t kept;
    int err = make_folder(config->out, config->algorithm_params.spec->name, &out->path, &kept, why);
    if (err != 0) return err;
    err = fill_folder(out, config, why);
    if (err == 0) return 0;
    remove_made(out->path, kept);
    rundir_close(out);
    interrupt_release();
    return err;
}

int rundir_append(const struct rundir *r, const char *name, FILE **out, struct err_text *why)
{
    char *path = path_in(r->path, name);
    *out = fopen(path, "ae");
    int err = *out != NULL ? 0 : err_set(why, ERR_IO, "--out: cannot write %s: %s", path, strerror(errno));
    free(path);
    return err;
}

/* -- during and after the run ------------------------------------------------------------------ */

void rundir_metrics(struct rundir *r, const struct metrics_line *line)
{
    (void)metrics_print(line, r->metrics); /* an error stays in the stream: rundir_finish reports it */
}

static int write_summary(const char *path, const struct summary *s, struct err_text *why)
{
    struct atomic_file f;
    int err = atomic_file_open(path, &f, why);
    if (err != 0) return err;
    if (summary_print(s, f.stream) == 0) return atomic_file_commit(&f, why);
    atomic_file_abandon(&f); /* a summary that is cut off would say that the run is complete */
    return err_set(why, ERR_IO, "cannot write %s; is the disk full?", path);
}

int rundir_save_model(const struct rundir *r, const struct config *c, const float *x, size_t dim,
                      struct err_text *why)
{
    char algorithm[2048], task[2048], seed[32];
    choice_print(&c->algorithm_params, algorithm, sizeof algorithm);
    choice_print(&c->task, task, sizeof task);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)c->seed);
    const struct metadata meta[] = {
        {"format", "gadabout"}, {"version", GADABOUT_VERSION}, {"algorithm", algorithm}, {"task", task},
        {"seed", seed},
    };
    char *path = path_in(r->path, "model.safetensors");
    int err = safetensors_write(path, x, dim, meta, sizeof meta / sizeof meta[0], why);
    free(path);
    return err;
}

int rundir_finish(struct rundir *r, const struct summary *s, const float *x, size_t dim, struct err_text *why)
{
    char *summary_path = path_in(r->path, "summary.json");
    /* the summary last: where it is, the run is complete */
    int err = x != NULL ? rundir_save_model(r, s->config, x, dim, why) : 0;
    if (err == 0 && (fflush(r->metrics) != 0 || ferror(r->metrics) != 0))
        err = err_set(why, ERR_IO, "cannot write %s/metrics.jsonl: lines were lost; is the disk full?",
                      r->path);
    if (err == 0) err = write_summary(summary_path, s, why);
    free(summary_path);
    return err;
}

void rundir_close(struct rundir *r)
{
    if (r->metrics != NULL) fclose(r->metrics);
    free(r->path);
    *r = (struct rundir){0};
}

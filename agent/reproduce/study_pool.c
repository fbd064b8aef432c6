/* All runs of a study, a few at a time, each in a process of its own.
 *
 * Normal course
 *  - every row is parsed before the first one starts. As many runs as there are processors go at once, in the
 *    order of the table; a child is a fork of this process: it opens its data itself.
 *  - a child's records are read as they come; when its pipe ends it is waited for and the next run starts.
 * Failure courses
 *  - a row does not parse: ERR_USAGE, nothing was started.
 *  - a child dies without its last record (killed, out of memory): that run has failed, the others go on.
 *  - Ctrl-C or SIGTERM: children are told, come to their end, and no other starts: ERR_CLOSED. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/files/interrupt.h"
#include "agent/report/progress.h"
#include "agent/reproduce/pool.h"
#include "base/check.h"

enum { GOING_MAX = 8 };

struct going {
    size_t run;
    pid_t pid; /* 0 = this place is free */
    int fd;
    double began_s;
    struct pool_record record; /* as far as it has been read */
    size_t filled;             /* bytes of it */
    bool ended;                /* the last record is there */
};

struct pool {
    struct study_results *results;
    struct config *config; /* (run_count) */
    struct going going[GOING_MAX];
    uint32_t width, count; /* at most, and now */
    size_t next, done;
    bool told; /* the children know of Ctrl-C */
    struct progress progress;
};

static const struct study_run *row_of(const struct pool *p, size_t run)
{
    return &p->results->study->run[run];
}

/* -- one child --------------------------------------------------------------------------------- */

static int start_run(struct pool *p, struct going *g, struct err_text *why)
{
    int ends[2];
    if (pipe(ends) != 0) return err_set(why, ERR_IO, "cannot make a pipe: %s", strerror(errno));
    fflush(NULL); /* the child must not write what stands in our buffers */
    *g = (struct going){.run = p->next, .fd = ends[0], .began_s = wall_clock_s()};
    pid_t pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return err_set(why, ERR_IO, "cannot start a process: %s", strerror(errno));
    }
    if (pid == 0) {
        close(ends[0]);
        for (uint32_t i = 0; i < p->width; i++) /* else a sibling would not notice that the parent is gone */
            if (p->going[i].pid > 0) close(p->going[i].fd);
        _exit(study_run_child(p->results->study, &p->config[p->next], ends[1]));
    }
    close(ends[1]);
    g->pid = pid;
    p->results->curve[p->next++].state = RUN_GOING;
    p->count++;
    return 0;
}

static void take_record(struct pool *p, struct going *g)
{
    struct study_curve *curve = &p->results->curve[g->run];
    switch (g->record.kind) {
    case POOL_POINT:
        study_curve_add(curve, &g->record.point);
        return;
    case POOL_DONE:
        curve->state = RUN_DONE;
        break;
    case POOL_CUT:
        curve->state = RUN_CUT;
        break;
    case POOL_FAILED:
        curve->state = RUN_FAILED;
        curve->failure = g->record.failure;
        break;
    }
    g->ended = true;
}

static void say_ended(struct pool *p, const struct going *g)
{
    const struct study_curve *c = &p->results->curve[g->run];
    const struct study_run *row = row_of(p, g->run);
    const struct study *s = p->results->study;
    int panel, name;
    study_widths(s, &panel, &name);
    if (c->state == RUN_FAILED)
        progress_note(&p->progress, "%s, run '%s' of %s failed: %s", s->name, row->name, row->panel,
                      c->failure.text);
    else
        progress_note(&p->progress, "%2zu of %zu  %-*s  %-*s  loss %-9.5g %6.1f s%s", p->done, s->run_count,
                      panel, row->panel, name, row->name, curve_last(c, COLUMN_LOSS), c->wall_s,
                      c->state == RUN_CUT ? "  cut short" : "");
}

static void end_run(struct pool *p, struct going *g)
{
    struct study_curve *curve = &p->results->curve[g->run];
    int status = 0;
    close(g->fd);
    while (waitpid(g->pid, &status, 0) < 0 && errno == EINTR) {
    }
    curve->wall_s = wall_clock_s() - g->began_s;
    if (!g->ended) {
        curve->state = RUN_FAILED;
        if (WIFSIGNALED(status))
            err_set(&curve->failure, ERR_IO, "its process was ended by signal %d", WTERMSIG(status));
        else
            err_set(&curve->failure, ERR_IO, "its process ended with status %d", WEXITSTATUS(status));
    }
    p->count--;
    p->done++;
    say_ended(p, g);
    g->pid = 0;
}

static void read_records(struct pool *p, struct going *g)
{
    ssize_t got = read(g->fd, (char *)&g->record + g->filled, sizeof g->record - g->filled);
    if (got < 0 && errno == EINTR) return;
    if (got <= 0) {
        end_run(p, g);
        return;
    }
    g->filled += (size_t)got;
    if (g->filled < sizeof g->record) return;
    g->filled = 0;
    take_record(p, g);
}

/* -- all of them ------------------------------------------------------------------------------- */

static void show_state(struct pool *p)
{
    char text[256] = "";
    for (uint32_t i = 0; i < p->width; i++) {
        const struct going *g = &p->going[i];
        if (g->pid == 0) continue;
        const struct study_curve *c = &p->results->curve[g->run];
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "  %s %s", row_of(p, g->run)->panel,
                 row_of(p, g->run)->name);
        used = strlen(text);
        if (c->count > 0)
            snprintf(text + used, sizeof text - used, " (%.0f virtual s, loss %.4g)",
                     curve_last(c, COLUMN_VIRTUAL_S), curve_last(c, COLUMN_LOSS));
    }
    progress_flicker(&p->progress, "%zu of %zu done;%s", p->done, p->results->study->run_count, text);
}

static void tell_children(struct pool *p)
{
    if (p->told || !interrupted()) return;
    p->told = true;
    for (uint32_t i = 0; i < p->width; i++)
        if (p->going[i].pid != 0) kill(p->going[i].pid, SIGTERM);
}

static void wait_for_records(struct pool *p)
{
    struct pollfd fds[GOING_MAX];
    struct going *of[GOING_MAX];
    nfds_t count = 0;
    for (uint32_t i = 0; i < p->width; i++) {
        if (p->going[i].pid == 0) continue;
        of[count] = &p->going[i];
        fds[count++] = (struct pollfd){.fd = p->going[i].fd, .events = POLLIN};
    }
    if (poll(fds, count, 200) <= 0) return; /* a signal: looked at by the caller */
    for (nfds_t i = 0; i < count; i++)
        if (fds[i].revents != 0) read_records(p, of[i]);
}

static int start_more(struct pool *p, struct err_text *why)
{
    for (uint32_t i = 0; i < p->width; i++) {
        if (p->next == p->results->study->run_count || interrupted()) return 0;
        if (p->going[i].pid != 0) continue;
        int err = start_run(p, &p->going[i], why);
        if (err != 0) return err;
    }
    return 0;
}

static int run_pool(struct pool *p, struct err_text *why)
{
    int err = 0;
    while (p->count > 0 || (err == 0 && !interrupted() && p->next < p->results->study->run_count)) {
        if (err == 0) err = start_more(p, why);
        tell_children(p);
        if (p->count > 0) wait_for_records(p);
        show_state(p);
    }
    progress_clear(&p->progress);
    if (err == 0 && interrupted()) err = err_set(why, ERR_CLOSED, "stopped");
    return err;
}

static uint32_t pool_width(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors > GOING_MAX ? GOING_MAX : (uint32_t)processors;
}

int study_run_all(struct study_results *results, const struct config *asked, struct err_text *why)
{
    const struct study *s = results->study;
    struct pool p = {.results = results, .width = pool_width()};
    p.config = mem_new_zero(s->run_count, sizeof *p.config);
    progress_init(&p.progress, false);
    size_t parsed = 0;
    int err = 0;
    while (parsed < s->run_count && err == 0) {
        err = study_run_config(s, parsed, asked, &p.config[parsed], why);
        if (err == 0) parsed++;
    }
    if (err == 0) err = run_pool(&p, why);
    for (size_t i = 0; i < parsed; i++) config_deinit(&p.config[i]);
    free(p.config);
    return err;
}

/* The state directory that an agent would come back from: can it be opened, and is what it holds whole?
 *
 * Nothing is made and no checkpoint is touched; where no agent has it, it is locked for the moment of looking. Both
 * generations are read to their ends, also when one would do: who has lost one should know. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/doctor/doctor.h"
#include "agent/state/checkpoint_file.h"
#include "agent/state/state_dir.h"
#include "base/check.h"

/* The nearest directory that is there above one that is not. */
static void check_missing(struct doctor *d, const char *path)
{
    char *above = mem_copy_text(path);
    const char *place = above;
    int failed = ENOENT;
    while (failed == ENOENT && place == above) {
        char *slash = strrchr(above, '/');
        if (slash == NULL)
            place = ".";
        else
            *(slash == above ? slash + 1 : slash) = '\0';
        failed = access(place, W_OK | X_OK) == 0 ? 0 : errno;
        if (slash == above) break;
    }
    if (failed != 0)
        doctor_finding(d, "state", "--state: cannot make %s: %s: %s; name a directory that can be written",
                       path, place, strerror(failed));
    else
        doctor_good(d, "--state: %s is not there yet, the agent makes it", path);
    free(above);
}

static void check_identity(struct doctor *d, struct state_dir *s)
{
    node_id id;
    struct err_text why;
    if (faccessat(s->folder, "identity", F_OK, AT_SYMLINK_NOFOLLOW) != 0) return; /* looking would make one */
    if (state_dir_identity(s, 0, &id, &why) != 0)
        doctor_finding(d, "state", "%s", why.text);
    else if (d->config->id != UINT64_MAX && d->config->id != id)
        doctor_finding(d, "state",
                       "--id: %llu is asked for, but %s is of node %llu; leave out --id, or name another "
                       "--state",
                       (unsigned long long)d->config->id, s->path, (unsigned long long)id);
    else
        doctor_good(d, "--state: %s is of node %llu", s->path, (unsigned long long)id);
}

/* Returns 0 when it could be resumed from, or why it could not. */
static int check_generation(struct doctor *d, const struct state_dir *s, const char *name,
                            uint64_t *generation, struct err_text *why)
{
    struct checkpoint_reading r;
    struct checkpoint c;
    int err = checkpoint_reading_open(&s->disk, s->folder, name, &r, why);
    if (err != 0) return err;
    *generation = r.generation;
    err = checkpoint_reading_take(&r, &c, why);
    if (err == 0) checkpoint_deinit(&c);
    if (err == 0 && d->compare && memcmp(r.shape, d->hello.cluster, sizeof r.shape) != 0)
        err = err_set(why, ERR_CLUSTER, "is of another experiment (other options or data)");
    else if (err == 0 && s->has_identity && r.id != s->id)
        err = err_set(why, ERR_FORMAT, "is of node %llu", (unsigned long long)r.id);
    checkpoint_reading_close(&r);
    return err;
}

static void check_generations(struct doctor *d, const struct state_dir *s)
{
    for (uint32_t slot = 0; slot < CHECKPOINT_SLOT_COUNT; slot++) {
        struct err_text why = {""};
        uint64_t generation = 0;
        const char *name = checkpoint_name(slot);
        int err = check_generation(d, s, name, &generation, &why);
        if (err == ERR_NOT_FOUND) continue;
        if (err == 0)
            doctor_good(d, "--state: %s/%s is whole: generation %llu", s->path, name,
                        (unsigned long long)generation);
        else if (err == ERR_CLUSTER || err == ERR_VERSION)
            doctor_finding(d, "state",
                           "--state: %s/%s %.200s; give the options of that run, or another --state", s->path,
                           name, why.text);
        else
            doctor_finding(d, "state",
                           "--state: %s/%s %.200s: it will not be used; what is left is the other "
                           "generation or, without one, a fresh start and the copy that members give",
                           s->path, name, why.text);
    }
}

void doctor_state(struct doctor *d)
{
    const char *path = d->config->state;
    struct state_dir *s;
    struct err_text why;
    if (path == NULL) return;
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        check_missing(d, path);
        return;
    }
    if (state_dir_open(path, &s, &why) != 0) {
        doctor_finding(d, "state", "%s", why.text);
        return;
    }
    check_identity(d, s);
    check_generations(d, s);
    state_dir_close(s);
}

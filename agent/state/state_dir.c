/* The state directory: made, locked, and who the node is.
 *
 * Normal course
 *  - open makes the directory with its parents (0700), locks `lock` for as long as it is open and writes the
 *    process there; temporaries that a crash has left are removed.
 *  - identity is read, or written durably the first time.
 * Failure courses
 *  - it cannot be made, or is no directory: one line that names --state.
 *  - `lock` is held: ERR_BUSY with the process that has it. The lock ends with its process, however that ends.
 *  - `lock` or `identity` is a symbolic link, a FIFO, a directory: refused, not followed, never waited for.
 *  - `identity` is not what was written (it carries a hash): refused, left as it is, the remedy named. */
#include "agent/state/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/check.h"

enum { HOLDER_SIZE = 21, IDENTITY_MAX = 128 };

const char *checkpoint_name(uint32_t slot)
{
    static const char *const names[CHECKPOINT_SLOT_COUNT] = {"checkpoint-0", "checkpoint-1"};
    CHECK(slot < CHECKPOINT_SLOT_COUNT);
    return names[slot];
}

/* -- the directory ----------------------------------------------------------------------------- */

/* What was made lasts once the directory that it is in is synced. Where that cannot be, it is made again. */
static void sync_parent(const char *made)
{
    char *parent = mem_copy_text(made);
    char *slash = strrchr(parent, '/');
    if (slash != NULL) slash[slash == parent ? 1 : 0] = '\0';
    int fd = open(slash != NULL ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(parent);
}

static int make_one(const char *path)
{
    if (mkdir(path, 0700) == 0) {
        sync_parent(path);
        return 0;
    }
    return errno == EEXIST ? 0 : errno; /* what is there and no directory shows when it is opened */
}

static int make_folder(const char *path, struct err_text *why)
{
    char *part = mem_copy_text(path);
    int reason = 0;
    for (char *slash = part; reason == 0 && (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
        *slash = '\0';
        reason = make_one(part);
    }
    if (reason == 0) reason = make_one(path);
    free(part);
    if (reason == 0) return 0;
    return err_set(why, ERR_IO, "--state: cannot make %s: %s; name a directory that can be written", path,
                   strerror(reason));
}

/* Opens without following a link and without waiting for a FIFO; *size is that of a regular file.
 * Returns a descriptor or -errno. */
static int open_regular(struct state_dir *s, const char *name, int flags, int64_t *size)
{
    const struct disk *d = &s->disk;
    int fd = d->ops->open(d->ctx, s->folder, name, flags | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0) return fd;
    *size = d->ops->size(d->ctx, fd);
    if (*size >= 0) return fd;
    d->ops->close(d->ctx, fd);
    return (int)*size;
}

static const char *reason_text(int err)
{
    if (err == -ELOOP) return "it is a symbolic link";
    if (err == -EINVAL || err == -EISDIR || err == -ENXIO) return "it is not a regular file";
    return strerror(-err);
}

static int busy(struct state_dir *s, struct err_text *why)
{
    char holder[HOLDER_SIZE + 1] = "";
    int64_t got = disk_read_all(&s->disk, s->lock, holder, HOLDER_SIZE);
    long pid = got == HOLDER_SIZE ? strtol(holder, NULL, 10) : 0;
    if (pid <= 0) return err_set(why, ERR_BUSY, "--state: %s is used by another agent", s->path);
    return err_set(why, ERR_BUSY,
                   "--state: %s is used by another agent, process %ld; stop it, or name another", s->path,
                   pid);
}

static int take_lock(struct state_dir *s, struct err_text *why)
{
    const struct disk *d = &s->disk;
    int64_t size;
    s->lock = open_regular(s, "lock", O_RDWR | O_CREAT, &size);
    if (s->lock < 0)
        return err_set(why, ERR_IO, "--state: cannot open %s/lock: %s", s->path, reason_text(s->lock));
    int err = d->ops->lock(d->ctx, s->lock);
    if (err == -EWOULDBLOCK) return busy(s, why);
    if (err != 0) return err_set(why, ERR_IO, "--state: cannot lock %s: %s", s->path, strerror(-err));
    char holder[HOLDER_SIZE + 1];
    snprintf(holder, sizeof holder, "%-20ld\n", (long)getpid());
    (void)d->ops->write(d->ctx, s->lock, holder, HOLDER_SIZE); /* a courtesy: the lock itself holds */
    return 0;
}

/* What a process that died has left: half files go; names that it may not have synced are made to last, so that the
 * next save does not rest on a generation that a power cut would take back. */
static int clean_up(struct state_dir *s, struct err_text *why)
{
    for (uint32_t i = 0; i < CHECKPOINT_SLOT_COUNT; i++) disk_sweep(&s->disk, s->folder, checkpoint_name(i));
    disk_sweep(&s->disk, s->folder, "identity");
    int err = disk_sync_folder(&s->disk, s->folder);
    if (err == 0) return 0;
    return err_set(why, ERR_IO, "--state: cannot sync %s: %s", s->path, strerror(-err));
}

int state_dir_attach(const struct disk *disk, const char *path, struct state_dir **out, struct err_text *why)
{
    struct state_dir *s = mem_new_zero(1, sizeof *s);
    s->disk = *disk;
    s->path = mem_copy_text(path);
    s->lock = -1;
    s->good_slot = CHECKPOINT_SLOT_COUNT;
    s->folder = disk->ops->open(disk->ctx, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    int err = 0;
    if (s->folder < 0)
        err = err_set(why, ERR_IO, "--state: cannot open %s: %s; name a directory of this agent", path,
                      strerror(-s->folder));
    if (err == 0) err = take_lock(s, why);
    if (err == 0) err = clean_up(s, why);
    if (err != 0) {
        state_dir_close(s);
        return err;
    }
    *out = s;
    return 0;
}

int state_dir_open(const char *path, struct state_dir **out, struct err_text *why)
{
    int err = make_folder(path, why);
    return err != 0 ? err : state_dir_attach(&disk_real, path, out, why);
}

void state_dir_close(struct state_dir *s)
{
    if (s == NULL) return;
    if (s->lock >= 0) s->disk.ops->close(s->disk.ctx, s->lock);
    if (s->folder >= 0) s->disk.ops->close(s->disk.ctx, s->folder);
    free(s->path);
    free(s);
}

const char *state_dir_path(const struct state_dir *s)
{
    return s->path;
}

/* -- identity ---------------------------------------------------------------------------------- */

static size_t print_identity(node_id id, char out[IDENTITY_MAX])
{
    int length = snprintf(out, IDENTITY_MAX, "gadabout identity 1: %" PRIu64 " ", id);
    uint64_t hash = XXH3_64bits(out, (size_t)length);
    length += snprintf(out + length, IDENTITY_MAX - (size_t)length, "%016" PRIx64 "\n", hash);
    return (size_t)length;
}

/* True when text is what print_identity has made. */
static bool parse_identity(const char *text, size_t size, node_id *id)
{
    char again[IDENTITY_MAX];
    if (sscanf(text, "gadabout identity 1: %" SCNu64, id) != 1) return false;
    return print_identity(*id, again) == size && memcmp(text, again, size) == 0;
}

static int read_identity(struct state_dir *s, node_id *id, struct err_text *why)
{
    char text[IDENTITY_MAX + 1] = "";
    int64_t size;
    int fd = open_regular(s, "identity", O_RDONLY, &size);
    if (fd == -ENOENT) return ERR_NOT_FOUND;
    int64_t got = fd < 0 ? fd : disk_read_all(&s->disk, fd, text, IDENTITY_MAX);
    if (fd >= 0) s->disk.ops->close(s->disk.ctx, fd);
    if (got < 0)
        return err_set(why, ERR_IO, "--state: cannot read %s/identity: %s", s->path, reason_text((int)got));
    if (parse_identity(text, (size_t)got, id)) return 0;
    return err_set(why, ERR_FORMAT,
                   "--state: %s/identity is damaged; remove it to come back as a new node, or name another "
                   "directory",
                   s->path);
}

static int write_identity(struct state_dir *s, node_id id, struct err_text *why)
{
    char text[IDENTITY_MAX];
    struct disk_piece piece = {text, print_identity(id, text)};
    int renamed;
    int err = disk_replace(&s->disk, s->folder, "identity", &piece, 1, &renamed);
    if (err == 0) return 0;
    return err_set(why, ERR_IO, "--state: cannot write %s/identity: %s", s->path, strerror(-err));
}

int state_dir_identity(struct state_dir *s, node_id fresh, node_id *id, struct err_text *why)
{
    int err = read_identity(s, id, why);
    if (err == ERR_NOT_FOUND) {
        *id = fresh;
        err = write_identity(s, fresh, why);
    }
    if (err != 0) return err;
    s->has_identity = true;
    s->id = *id;
    return 0;
}

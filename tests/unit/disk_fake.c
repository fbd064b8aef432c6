/* The disk in memory: names and contents twice, as they are and as they would be after a power cut. */
#include "disk_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* -- names ------------------------------------------------------------------------------------- */

static struct fake_entry *find(struct fake_entry *list, const char *name)
{
    for (int i = 0; i < FAKE_ENTRY_MAX; i++)
        if (list[i].inode >= 0 && strcmp(list[i].name, name) == 0) return &list[i];
    return NULL;
}

static void set_name(struct fake_entry *list, const char *name, int inode)
{
    struct fake_entry *e = find(list, name);
    for (int i = 0; e == NULL && i < FAKE_ENTRY_MAX; i++)
        if (list[i].inode < 0) e = &list[i];
    CHECK(e != NULL && strlen(name) < sizeof e->name);
    memcpy(e->name, name, strlen(name) + 1);
    e->inode = inode;
}

static void apply(struct fake_entry *list, const struct fake_change *c)
{
    struct fake_entry *gone = c->from[0] != '\0' ? find(list, c->from) : NULL;
    if (gone != NULL) gone->inode = -1;
    if (c->to[0] != '\0') set_name(list, c->to, c->inode);
}

static void change(struct disk_fake *f, const char *from, const char *to, int inode)
{
    CHECK(f->change_count < FAKE_CHANGE_MAX && strlen(from) < DISK_NAME_MAX && strlen(to) < DISK_NAME_MAX);
    struct fake_change *c = &f->change[f->change_count++];
    *c = (struct fake_change){.inode = inode};
    memcpy(c->from, from, strlen(from));
    memcpy(c->to, to, strlen(to));
    apply(f->now, c);
}

/* -- contents ---------------------------------------------------------------------------------- */

static bool is_used(const struct disk_fake *f, int inode)
{
    for (int i = 0; i < FAKE_ENTRY_MAX; i++)
        if (f->now[i].inode == inode || f->kept[i].inode == inode) return true;
    for (size_t i = 0; i < f->change_count; i++)
        if (f->change[i].to[0] != '\0' && f->change[i].inode == inode) return true;
    for (int i = 0; i < FAKE_FD_MAX; i++)
        if (f->fd[i].open && f->fd[i].inode == inode) return true;
    return false;
}

static int new_inode(struct disk_fake *f)
{
    int at = 0;
    while (at < f->inode_count && is_used(f, at)) at++;
    CHECK(at < FAKE_INODE_MAX);
    if (at == f->inode_count) f->inode_count++;
    free(f->inode[at].now);
    free(f->inode[at].kept);
    f->inode[at] = (struct fake_inode){.now = NULL};
    return at;
}

static void resize(uint8_t **bytes, size_t *size, size_t wanted)
{
    *bytes = mem_resize(*bytes, wanted, 1);
    if (wanted > *size) memset(*bytes + *size, 0, wanted - *size);
    *size = wanted;
}

static void keep(struct fake_inode *n)
{
    if (n->lost) return;
    resize(&n->kept, &n->kept_size, n->now_size);
    if (n->now_size > 0) memcpy(n->kept, n->now, n->now_size);
}

/* -- calls ------------------------------------------------------------------------------------- */

/* Counts a call; nonzero = it does nothing and returns that. */
static int enter(struct disk_fake *f, enum fake_call call)
{
    if (f->calls >= f->stop_after) return -EIO; /* the machine has stopped: nothing has an effect any more */
    f->calls++;
    if (f->failing_nth == 0 || f->failing != call || --f->failing_nth > 0) return 0;
    return -f->reason;
}

static int fake_open(void *ctx, int folder, const char *name, int flags, uint32_t mode)
{
    struct disk_fake *f = ctx;
    (void)folder;
    (void)mode;
    int err = enter(f, FAKE_OPEN), fd = 0;
    if (err != 0) return err;
    while (fd < FAKE_FD_MAX && f->fd[fd].open) fd++;
    CHECK(fd < FAKE_FD_MAX);
    bool is_folder = (flags & O_DIRECTORY) != 0;
    struct fake_entry *e = is_folder ? NULL : find(f->now, name);
    if (!is_folder && e == NULL && (flags & O_CREAT) == 0) return -ENOENT;
    if (e != NULL && (flags & O_EXCL) != 0) return -EEXIST;
    int inode = e != NULL ? e->inode : -1;
    if (!is_folder && e == NULL) {
        inode = new_inode(f);
        change(f, "", name, inode);
    }
    f->fd[fd] = (struct fake_fd){.open = true, .folder = is_folder, .inode = inode};
    return fd;
}

static struct fake_fd *fd_of(struct disk_fake *f, int fd)
{
    CHECK(fd >= 0 && fd < FAKE_FD_MAX && f->fd[fd].open);
    return &f->fd[fd];
}

static int64_t fake_size(void *ctx, int fd)
{
    struct disk_fake *f = ctx;
    return (int64_t)f->inode[fd_of(f, fd)->inode].now_size;
}

static int64_t fake_read(void *ctx, int fd, void *out, size_t size)
{
    struct disk_fake *f = ctx;
    int err = enter(f, FAKE_READ);
    if (err != 0) return err;
    struct fake_fd *d = fd_of(f, fd);
    const struct fake_inode *n = &f->inode[d->inode];
    size_t left = n->now_size - d->at;
    if (size > left) size = left;
    if (size > f->write_max) size = f->write_max; /* short reads, too */
    if (size > 0) memcpy(out, n->now + d->at, size);
    d->at += size;
    return (int64_t)size;
}

static int64_t fake_write(void *ctx, int fd, const void *bytes, size_t size)
{
    struct disk_fake *f = ctx;
    int err = enter(f, FAKE_WRITE);
    if (err != 0) return err;
    struct fake_fd *d = fd_of(f, fd);
    struct fake_inode *n = &f->inode[d->inode];
    if (size > f->write_max) size = f->write_max;
    if (d->at + size > n->now_size) resize(&n->now, &n->now_size, d->at + size);
    memcpy(n->now + d->at, bytes, size);
    d->at += size;
    return (int64_t)size;
}

static void sync_names(struct disk_fake *f)
{
    if (f->bug == FAKE_BUG_NO_FOLDER_SYNC) return;
    memcpy(f->kept, f->now, sizeof f->kept);
    f->change_count = 0;
}

static int fake_sync(void *ctx, int fd)
{
    struct disk_fake *f = ctx;
    struct fake_fd *d = fd_of(f, fd);
    int err = enter(f, d->folder ? FAKE_SYNC_FOLDER : FAKE_SYNC);
    if (d->failed && f->calls < f->stop_after) f->synced_again++;
    if (err != 0) {
        d->failed = true;
        if (!d->folder) f->inode[d->inode].lost = true;
        return err;
    }
    if (d->folder)
        sync_names(f);
    else if (f->bug == FAKE_BUG_RENAME_FIRST)
        f->deferred = d->inode;
    else if (f->bug != FAKE_BUG_NO_SYNC)
        keep(&f->inode[d->inode]);
    return 0;
}

static int fake_lock(void *ctx, int fd)
{
    struct disk_fake *f = ctx;
    fd_of(f, fd);
    if (f->locked >= 0) return -EWOULDBLOCK;
    f->locked = fd;
    return 0;
}

static int fake_close(void *ctx, int fd)
{
    struct disk_fake *f = ctx;
    fd_of(f, fd)->open = false;
    if (f->locked == fd) f->locked = -1;
    return enter(f, FAKE_CLOSE);
}

static int fake_rename(void *ctx, int folder, const char *from, const char *to)
{
    struct disk_fake *f = ctx;
    (void)folder;
    int err = enter(f, FAKE_RENAME);
    if (err != 0) return err;
    const struct fake_entry *e = find(f->now, from);
    if (e == NULL) return -ENOENT;
    change(f, from, to, e->inode);
    if (f->deferred >= 0 && enter(f, FAKE_SYNC) == 0) keep(&f->inode[f->deferred]); /* a call of its own */
    f->deferred = -1;
    return 0;
}

static int fake_unlink(void *ctx, int folder, const char *name)
{
    struct disk_fake *f = ctx;
    (void)folder;
    int err = enter(f, FAKE_CALL_COUNT);
    if (err != 0) return err;
    if (find(f->now, name) == NULL) return -ENOENT;
    change(f, name, "", -1);
    return 0;
}

static const struct disk_ops ops = {
    .open = fake_open,
    .size = fake_size,
    .read = fake_read,
    .write = fake_write,
    .sync = fake_sync,
    .lock = fake_lock,
    .close = fake_close,
    .rename = fake_rename,
    .unlink = fake_unlink,
};

/* -- life -------------------------------------------------------------------------------------- */

void disk_fake_init(struct disk_fake *f)
{
    *f = (struct disk_fake){.locked = -1, .stop_after = UINT64_MAX, .write_max = SIZE_MAX, .deferred = -1};
    f->disk = (struct disk){.ops = &ops, .ctx = f};
    for (int i = 0; i < FAKE_ENTRY_MAX; i++) f->now[i].inode = f->kept[i].inode = -1;
}

void disk_fake_deinit(struct disk_fake *f)
{
    for (int i = 0; i < f->inode_count; i++) {
        free(f->inode[i].now);
        free(f->inode[i].kept);
    }
}

/* -- crash ------------------------------------------------------------------------------------- */

static void crash_content(struct fake_inode *n, enum fake_crash kind, struct prng *p)
{
    size_t old = n->kept_size, new = n->now_size;
    if (kind == FAKE_CRASH_NAMES_KEPT && new > old) resize(&n->kept, &n->kept_size, new);
    if (kind == FAKE_CRASH_RANDOM && !n->lost) {
        size_t least = old < new ? old : new, most = old < new ? new : old;
        resize(&n->kept, &n->kept_size, least + prng_below(p, (uint32_t)(most - least) + 1));
        for (size_t i = 0; i < n->kept_size && i < new; i++)
            if (prng_below(p, 2) == 0) n->kept[i] = n->now[i];
    }
    n->lost = false;
    resize(&n->now, &n->now_size, n->kept_size);
    if (n->kept_size > 0) memcpy(n->now, n->kept, n->kept_size);
}

void disk_fake_crash(struct disk_fake *f, enum fake_crash kind, struct prng *p)
{
    for (size_t i = 0; i < f->change_count; i++)
        if (kind == FAKE_CRASH_NAMES_KEPT || (kind == FAKE_CRASH_RANDOM && prng_below(p, 2) == 0))
            apply(f->kept, &f->change[i]);
    for (int i = 0; i < f->inode_count; i++) crash_content(&f->inode[i], kind, p);
    memcpy(f->now, f->kept, sizeof f->now);
    memset(f->fd, 0, sizeof f->fd);
    f->change_count = 0;
    f->locked = f->deferred = -1;
    f->stop_after = UINT64_MAX;
    f->failing_nth = 0;
}

/* -- looking and planting ---------------------------------------------------------------------- */

const uint8_t *disk_fake_file(const struct disk_fake *f, const char *name, size_t *size)
{
    for (int i = 0; i < FAKE_ENTRY_MAX; i++) {
        if (f->now[i].inode < 0 || strcmp(f->now[i].name, name) != 0) continue;
        *size = f->inode[f->now[i].inode].now_size;
        return f->inode[f->now[i].inode].now;
    }
    return NULL;
}

void disk_fake_put(struct disk_fake *f, const char *name, const void *bytes, size_t size)
{
    struct fake_entry *e = find(f->now, name);
    int inode = e != NULL ? e->inode : new_inode(f);
    struct fake_inode *n = &f->inode[inode];
    resize(&n->now, &n->now_size, size);
    if (size > 0) memcpy(n->now, bytes, size);
    keep(n);
    set_name(f->now, name, inode);
    set_name(f->kept, name, inode);
}

void disk_fake_remove(struct disk_fake *f, const char *name)
{
    struct fake_entry *e = find(f->now, name), *kept = find(f->kept, name);
    if (e != NULL) e->inode = -1;
    if (kept != NULL) kept->inode = -1;
}

uint32_t disk_fake_open_count(const struct disk_fake *f)
{
    uint32_t count = 0;
    for (int i = 0; i < FAKE_FD_MAX; i++) count += f->fd[i].open;
    return count;
}

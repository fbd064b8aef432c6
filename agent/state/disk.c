/* The real disk, and durable replacement of a file.
 *
 * Normal course of disk_replace
 *  - an old temporary is removed, a new one made (O_EXCL: always a file of its own), written, synced, closed, renamed
 *    onto the name; then the directory is synced, through a descriptor of its own.
 * Failure courses
 *  - any step fails: the descriptor is closed, the temporary removed, and the reason returned. A next attempt is
 *    on a new file and new descriptors.
 *  - the sync of the directory fails: the rename has happened, but may not last; the caller is told.
 *  - a file system that cannot sync directories says EINVAL: the rename stands. */
#include "agent/state/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

/* -- the real one ------------------------------------------------------------------------------ */

static int real_open(void *ctx, int folder, const char *name, int flags, uint32_t mode)
{
    (void)ctx;
    int fd = openat(folder, name, flags | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

static int64_t real_size(void *ctx, int fd)
{
    (void)ctx;
    struct stat status;
    if (fstat(fd, &status) != 0) return -errno;
    return S_ISREG(status.st_mode) ? (int64_t)status.st_size : -EINVAL;
}

static int64_t real_read(void *ctx, int fd, void *out, size_t size)
{
    (void)ctx;
    ssize_t got;
    do got = read(fd, out, size);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static int64_t real_write(void *ctx, int fd, const void *bytes, size_t size)
{
    (void)ctx;
    ssize_t put;
    do put = write(fd, bytes, size);
    while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
}

static int real_sync(void *ctx, int fd)
{
    (void)ctx;
    return fsync(fd) != 0 ? -errno : 0;
}

static int real_lock(void *ctx, int fd)
{
    (void)ctx;
    return flock(fd, LOCK_EX | LOCK_NB) != 0 ? -errno : 0;
}

static int real_close(void *ctx, int fd)
{
    (void)ctx;
    return close(fd) != 0 ? -errno : 0;
}

static int real_rename(void *ctx, int folder, const char *from, const char *to)
{
    (void)ctx;
    return renameat(folder, from, folder, to) != 0 ? -errno : 0;
}

static int real_unlink(void *ctx, int folder, const char *name)
{
    (void)ctx;
    return unlinkat(folder, name, 0) != 0 ? -errno : 0;
}

static const struct disk_ops real_ops = {
    .open = real_open,
    .size = real_size,
    .read = real_read,
    .write = real_write,
    .sync = real_sync,
    .lock = real_lock,
    .close = real_close,
    .rename = real_rename,
    .unlink = real_unlink,
};

const struct disk disk_real = {.ops = &real_ops};

/* -- whole files ------------------------------------------------------------------------------- */

int64_t disk_read_all(const struct disk *d, int fd, void *out, size_t size)
{
    size_t done = 0;
    while (done < size) {
        int64_t got = d->ops->read(d->ctx, fd, (char *)out + done, size - done);
        if (got < 0) return got;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

static int write_all(const struct disk *d, int fd, const struct disk_piece *p)
{
    size_t done = 0;
    while (done < p->size) {
        int64_t put = d->ops->write(d->ctx, fd, (const char *)p->bytes + done, p->size - done);
        if (put < 0) return (int)put;
        if (put == 0) return -EIO; /* no progress and no reason */
        done += (size_t)put;
    }
    return 0;
}

static int write_temporary(const struct disk *d, int folder, const char *name, const struct disk_piece *piece,
                           size_t count)
{
    int fd = d->ops->open(d->ctx, folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0) return fd;
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++) err = write_all(d, fd, &piece[i]);
    if (err == 0) err = d->ops->sync(d->ctx, fd);
    int closed = d->ops->close(d->ctx, fd);
    return err != 0 ? err : closed;
}

static void temporary_name(const char *name, char out[DISK_NAME_MAX])
{
    int length = snprintf(out, DISK_NAME_MAX, "%s.tmp", name);
    CHECK(length > 0 && length < (int)DISK_NAME_MAX);
}

static int sync_names(const struct disk *d, int fd)
{
    int err = d->ops->sync(d->ctx, fd);
    return err == -EINVAL ? 0 : err;
}

int disk_replace(const struct disk *d, int folder, const char *name, const struct disk_piece *piece,
                 size_t count, int *renamed)
{
    char temporary[DISK_NAME_MAX];
    temporary_name(name, temporary);
    *renamed = 0;
    disk_sweep(d, folder, name);
    int err = write_temporary(d, folder, temporary, piece, count);
    /* opened before the rename, so that a lack of descriptors cannot leave it half done */
    int fd = err != 0 ? err : d->ops->open(d->ctx, folder, ".", O_RDONLY | O_DIRECTORY, 0);
    err = fd < 0 ? fd : d->ops->rename(d->ctx, folder, temporary, name);
    if (err == 0) {
        *renamed = 1;
        err = sync_names(d, fd);
    } else {
        disk_sweep(d, folder, name);
    }
    if (fd >= 0) d->ops->close(d->ctx, fd);
    return err;
}

int disk_sync_folder(const struct disk *d, int folder)
{
    int fd = d->ops->open(d->ctx, folder, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return fd;
    int err = sync_names(d, fd);
    d->ops->close(d->ctx, fd);
    return err;
}

void disk_sweep(const struct disk *d, int folder, const char *name)
{
    char temporary[DISK_NAME_MAX];
    temporary_name(name, temporary);
    (void)d->ops->unlink(d->ctx, folder, temporary); /* mostly there is none */
}

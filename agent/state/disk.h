/* The system calls by which an agent's state reaches the disk, as a table, so that tests can fail any of them,
 * stop after any of them and lose what was not synced; and files that are replaced durably. */
#ifndef GADABOUT_AGENT_STATE_DISK_H
#define GADABOUT_AGENT_STATE_DISK_H

#include <stddef.h>
#include <stdint.h>

/* As the system calls of the same names, but what fails returns -errno. Descriptors are the disk's own. */
struct disk_ops {
    int (*open)(void *ctx, int folder, const char *name, int flags, uint32_t mode);
    int64_t (*size)(void *ctx, int fd); /* of a regular file; -EINVAL = it is none */
    int64_t (*read)(void *ctx, int fd, void *out, size_t size);
    int64_t (*write)(void *ctx, int fd, const void *bytes, size_t size);
    int (*sync)(void *ctx, int fd);
    int (*lock)(void *ctx, int fd); /* alone or not at all: -EWOULDBLOCK */
    int (*close)(void *ctx, int fd);
    int (*rename)(void *ctx, int folder, const char *from, const char *to);
    int (*unlink)(void *ctx, int folder, const char *name);
};

struct disk {
    const struct disk_ops *ops;
    void *ctx;
};

extern const struct disk disk_real;

/* Reads up to `size` bytes; fewer only at the end of the file. Returns their number or -errno. */
int64_t disk_read_all(const struct disk *d, int fd, void *out, size_t size);

struct disk_piece {
    const void *bytes;
    size_t size;
};

/* Replaces `name` in `folder` by the pieces in order: written to `name`.tmp, synced, renamed, directory synced.
 * Returns 0 or -errno. On error the temporary is removed and, unless *renamed is set, `name` is as it was; with
 * *renamed it is the new file, but a power cut may still bring back the old one. A descriptor whose sync has failed
 * is closed and never synced again: the system has dropped what was to be written. */
int disk_replace(const struct disk *d, int folder, const char *name, const struct disk_piece *piece,
                 size_t count, int *renamed);

#define DISK_NAME_MAX 32u /* bytes of a name for disk_replace with ".tmp" and terminator */

/* Removes the temporary of `name` that an interrupted disk_replace has left, if there is one. */
void disk_sweep(const struct disk *d, int folder, const char *name);

/* Makes the names that are visible in a folder last. Returns 0 or -errno. */
int disk_sync_folder(const struct disk *d, int folder);

#endif

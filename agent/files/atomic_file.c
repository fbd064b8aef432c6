/* Whole files.
 *
 * Normal course
 *  - open makes <path>.tmp-<pid>, the caller writes, commit flushes, syncs, renames and syncs the directory,
 *    so that after a power cut there is either the old file or the new one.
 * Failure courses
 *  - the temporary file cannot be made, written or renamed (full disk): it is removed, the target stays.
 *  - the process dies in between: a file named .tmp-<pid> stays; nobody reads such names.
 *  - a directory that cannot be synced (some network file systems refuse it): the rename stands.
 */
#include "agent/files/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

static void release(struct atomic_file *f)
{
    free(f->path);
    free(f->temporary);
    *f = (struct atomic_file){0};
}

int atomic_file_open(const char *path, struct atomic_file *out, struct err_text *why)
{
    size_t size = strlen(path) + 32;
    char *temporary = mem_new(size, 1);
    snprintf(temporary, size, "%s.tmp-%ld", path, (long)getpid());
    FILE *stream = fopen(temporary, "wb");
    if (stream == NULL) {
        int reason = errno;
        free(temporary);
        return err_set(why, ERR_IO, "cannot write %s: %s", path, strerror(reason));
    }
    *out = (struct atomic_file){.stream = stream, .path = mem_copy_text(path), .temporary = temporary};
    return 0;
}

static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? mem_copy_text(".") : mem_copy_text(path);
    if (slash != NULL) folder[slash == path ? 1 : slash - path] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

int atomic_file_commit(struct atomic_file *f, struct err_text *why)
{
    errno = 0;
    bool good = ferror(f->stream) == 0 && fflush(f->stream) == 0 && fsync(fileno(f->stream)) == 0;
    int reason = errno;
    if (fclose(f->stream) != 0 && good) {
        good = false;
        reason = errno;
    }
    if (good && rename(f->temporary, f->path) != 0) {
        good = false;
        reason = errno;
    }
    int err = 0;
    if (good) {
        sync_folder(f->path);
    } else {
        unlink(f->temporary);
        err = err_set(why, ERR_IO, "cannot write %s: %s", f->path,
                      reason != 0 ? strerror(reason) : "write failed; is the disk full?");
    }
    release(f);
    return err;
}

void atomic_file_abandon(struct atomic_file *f)
{
    fclose(f->stream);
    unlink(f->temporary);
    release(f);
}

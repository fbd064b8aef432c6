/* A power cut at a chosen operation on checkpoints, for a program that cannot be asked: preloaded, it counts what is
 * done to files whose name holds "checkpoint-" (open for writing, write, fsync, rename, fsync of their folder).
 *
 *   POWER_SHIM=FOLDER   once there is a file `crash` with "K V" in it, the process dies (SIGKILL) behind the K-th
 *                       operation from then on, and `cut` tells which that was
 *
 * With the power goes what was not synced. V 0: all of it; a file that was not synced is empty, a rename before the
 * folder's sync has not happened. V 1: as little as can be; half of the file is there, the rename has happened. */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT "power-kept"

static int unsynced = -1; /* descriptor of a checkpoint that is being written */
static off_t written;
static int renamed_in = -1; /* folder of a rename that was not synced */
static char renamed_from[256], renamed_to[256];
static int done; /* operations since `crash` is there */

static const char *control(const char *name, char out[4096])
{
    const char *folder = getenv("POWER_SHIM");
    snprintf(out, 4096, "%s/%s", folder != NULL ? folder : "/nowhere", name);
    return out;
}

static bool path_of(int fd, char out[4096])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, 4095);
    out[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static bool is_checkpoint(int fd)
{
    char path[4096];
    return path_of(fd, path) && strstr(path, "/checkpoint-") != NULL;
}

static void real_rename(int folder, const char *from, const char *to)
{
    int (*real)(int, const char *, int, const char *) =
        (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
    (void)real(folder, from, folder, to);
}

static void lose(bool all)
{
    if (unsynced >= 0) (void)!ftruncate(unsynced, all ? 0 : written / 2);
    if (renamed_in < 0 || !all) return;
    real_rename(renamed_in, renamed_to, renamed_from);
    real_rename(renamed_in, KEPT, renamed_to); /* there was none: nothing */
}

static void operation(const char *what)
{
    char path[4096];
    int last, variant;
    FILE *f = fopen(control("crash", path), "re");
    if (f == NULL) return;
    int got = fscanf(f, "%d %d", &last, &variant);
    fclose(f);
    if (got != 2 || ++done < last) return;
    lose(variant == 0);
    f = fopen(control("cut", path), "we");
    if (f != NULL) {
        fprintf(f, "%s\n", what);
        fclose(f);
    }
    kill(getpid(), SIGKILL);
    pause();
}

int openat(int folder, const char *name, int flags, ...)
{
    int (*real)(int, const char *, int, ...) =
        (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    int fd = real(folder, name, flags, mode);
    if (fd < 0 || (flags & O_CREAT) == 0 || strncmp(name, "checkpoint-", 11) != 0) return fd;
    unsynced = fd;
    written = 0;
    operation("open");
    return fd;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    ssize_t put = real(fd, bytes, size);
    if (fd != unsynced || put <= 0) return put;
    written += put;
    operation("write");
    return put;
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int err = real(fd);
    struct stat status;
    bool folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
    if (folder && renamed_in >= 0) {
        unlinkat(renamed_in, KEPT, 0);
        close(renamed_in);
        renamed_in = -1;
        operation("fsync of the folder");
    } else if (is_checkpoint(fd)) {
        unsynced = -1;
        operation("fsync");
    }
    return err;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    int (*real)(int, const char *, int, const char *) =
        (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
    bool ours = strncmp(to, "checkpoint-", 11) == 0;
    if (ours) {
        unlinkat(to_folder, KEPT, 0);
        (void)!linkat(to_folder, to, to_folder, KEPT, 0);
    }
    int err = real(from_folder, from, to_folder, to);
    if (!ours || err != 0) return err;
    renamed_in = dup(to_folder);
    snprintf(renamed_from, sizeof renamed_from, "%s", from);
    snprintf(renamed_to, sizeof renamed_to, "%s", to);
    operation("rename");
    return 0;
}

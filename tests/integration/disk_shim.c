/* A disk that fails on demand, for a program that cannot be asked: preloaded, it answers fsync and write of files whose
 * path holds "/checkpoint-". What it does is told by files in the folder $DISK_SHIM: `eio` = fsync fails with EIO;
 * `full` = write fails with ENOSPC; `block` = fsync makes `blocked` and waits until `block` is gone; `stall` = each write
 * takes as many milliseconds as it says; `log` = each fsync adds a line "fsync of RESULT" to it, and each opening of a file "open NAME DESCRIPTOR". */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_checkpoint(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return false;
    path[length] = '\0';
    return strstr(path, "/checkpoint-") != NULL;
}

static const char *control(const char *name, char out[4096])
{
    const char *folder = getenv("DISK_SHIM");
    snprintf(out, 4096, "%s/%s", folder != NULL ? folder : "/nowhere", name);
    return out;
}

static bool is_set(const char *name)
{
    char path[4096];
    return access(control(name, path), F_OK) == 0;
}

static void log_line(const char *what, const char *of, int number)
{
    char path[4096];
    FILE *f = is_set("log") ? fopen(control("log", path), "ae") : NULL;
    if (f == NULL) return;
    fprintf(f, "%s %s %d\n", what, of, number);
    fclose(f);
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
    if ((flags & O_CREAT) != 0 && strncmp(name, "checkpoint-", 11) == 0) log_line("open", name, fd);
    return fd;
}

static void stall(void)
{
    char path[4096];
    unsigned ms = 0;
    FILE *f = fopen(control("stall", path), "re");
    if (f == NULL) return;
    if (fscanf(f, "%u", &ms) != 1) ms = 0;
    fclose(f);
    for (; ms > 0 && is_set("stall"); ms -= ms < 5 ? ms : 5) usleep(5000);
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    char path[4096];
    if (!is_checkpoint(fd)) return real(fd);
    if (is_set("block")) close(open(control("blocked", path), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    while (is_set("block")) usleep(5000);
    bool fails = is_set("eio");
    int result = fails ? -1 : real(fd);
    log_line("fsync", "of", result);
    if (fails) errno = EIO;
    return result;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (!is_checkpoint(fd)) return real(fd, bytes, size);
    stall();
    if (size > 64 && is_set("full")) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, size);
}

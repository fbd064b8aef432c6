/* A disk that fails on demand, for a program that cannot be asked: preloaded, it answers fsync and write of files whose
 * path holds "/checkpoint-". What it does is told by files in the folder $DISK_SHIM: `eio` = fsync fails with EIO;
 * `full` = write fails with ENOSPC; `block` = fsync makes `blocked` and waits until `block` is gone. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
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

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    char path[4096];
    if (!is_checkpoint(fd)) return real(fd);
    if (is_set("block")) close(open(control("blocked", path), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    while (is_set("block")) usleep(5000);
    if (is_set("eio")) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (size > 64 && is_checkpoint(fd) && is_set("full")) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, size);
}

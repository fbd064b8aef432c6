/* Where control sockets are, and who still listens on them.
 *
 * Normal course
 *  - the directory is made, 0700; a socket is bound under a passing name and gets its own name, by link(2), once
 *    it listens. So a name that refuses connections is a dead agent's, always.
 * Failure courses
 *  - the directory belongs to someone else, lets others in, is a link: refused, with what to do.
 *  - the name is taken: by a living agent: ERR_BUSY; by a dead one: its file is removed.
 *  - a path that does not fit into a socket address: ERR_LIMIT. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/control/control.h"
#include "base/check.h"

#define BACKLOG 16

/* -- the directory ----------------------------------------------------------------------------- */

/* The place that agents and those who ask them agree on. */
static void directory_name(char out[CONTROL_PATH_MAX])
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    bool usable = runtime != NULL && runtime[0] == '/' && strlen(runtime) < CONTROL_PATH_MAX / 2 &&
                  access(runtime, W_OK | X_OK) == 0;
    if (usable)
        snprintf(out, CONTROL_PATH_MAX, "%.*s/gadabout", (int)(CONTROL_PATH_MAX / 2), runtime);
    else
        snprintf(out, CONTROL_PATH_MAX, "/tmp/gadabout-%lu", (unsigned long)geteuid());
}

static int directory_check(const char *path, struct err_text *why)
{
    struct stat s;
    if (lstat(path, &s) != 0)
        return err_set(why, ERR_IO, "--control: cannot make %s: %s; give a PATH or off", path,
                       strerror(errno));
    if (!S_ISDIR(s.st_mode))
        return err_set(why, ERR_IO, "--control: %s is not a directory; remove it, or give a PATH or off",
                       path);
    if (s.st_uid != geteuid())
        return err_set(why, ERR_IO, "--control: %s belongs to user %lu; give a PATH or off", path,
                       (unsigned long)s.st_uid);
    if ((s.st_mode & 077u) != 0)
        return err_set(why, ERR_IO, "--control: %s lets other users in; chmod 700 it, or give a PATH or off",
                       path);
    return 0;
}

int control_directory(char out[CONTROL_PATH_MAX], struct err_text *why)
{
    directory_name(out);
    (void)mkdir(out, 0700); /* what came of it is looked at */
    return directory_check(out, why);
}

/* -- sockets ----------------------------------------------------------------------------------- */

static int address_of(const char *path, struct sockaddr_un *out, struct err_text *why)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t size = strlen(path) + 1;
    if (size > sizeof out->sun_path)
        return err_set(why, ERR_LIMIT, "--control: %s has %zu bytes; a socket's path has at most %zu", path,
                       size - 1, sizeof out->sun_path - 1);
    memcpy(out->sun_path, path, size);
    return 0;
}

enum listener { LISTENER_NONE, LISTENER_ALIVE, LISTENER_UNKNOWN };

/* Whether somebody accepts there: the kernel answers at once, also for an agent that stands still. */
static enum listener who_listens(const char *path)
{
    struct sockaddr_un address;
    if (address_of(path, &address, NULL) != 0) return LISTENER_UNKNOWN;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return LISTENER_UNKNOWN;
    int failed = connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 ? errno : 0;
    close(fd);
    if (failed == ECONNREFUSED) return LISTENER_NONE;
    return failed == 0 || failed == EAGAIN ? LISTENER_ALIVE : LISTENER_UNKNOWN;
}

/* Removes the file of a dead agent's socket. A file of any other kind stays. */
static bool remove_stale(const char *path)
{
    struct stat s;
    if (lstat(path, &s) != 0 || !S_ISSOCK(s.st_mode)) return false;
    return who_listens(path) == LISTENER_NONE && unlink(path) == 0;
}

/* Gives the socket its name. Returns 0 or an errno. */
static int take_name(const char *passing, const char *path)
{
    int failed = link(passing, path) == 0 ? 0 : errno;
    if (failed == EEXIST && remove_stale(path)) failed = link(passing, path) == 0 ? 0 : errno;
    return failed;
}

static int listen_as(int fd, const char *passing, const char *path)
{
    struct sockaddr_un address;
    if (address_of(passing, &address, NULL) != 0) return ENAMETOOLONG;
    unlink(passing); /* of a process that had our pid and died right here */
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) return errno;
    int failed = chmod(passing, 0600) != 0 || listen(fd, BACKLOG) != 0 ? errno : take_name(passing, path);
    unlink(passing);
    return failed;
}

int control_bind(const char *path, struct err_text *why)
{
    struct sockaddr_un address;
    int err = address_of(path, &address, why);
    if (err != 0) return err;
    const char *slash = strrchr(path, '/');
    size_t folder = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    char passing[CONTROL_PATH_MAX + 32];
    snprintf(passing, sizeof passing, "%.*s.new-%ld", (int)folder, path, (long)getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int failed = fd < 0 ? errno : listen_as(fd, passing, path);
    if (failed == 0) return fd;
    if (fd >= 0) close(fd);
    if (failed == EEXIST)
        return err_set(why, ERR_BUSY, "--control: %s is in use; give another PATH or off", path);
    return err_set(why, ERR_IO, "--control: cannot listen on %s: %s; give another PATH or off", path,
                   strerror(failed));
}

/* -- listing ----------------------------------------------------------------------------------- */

static bool ends_in_sock(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".sock") == 0;
}

static void list_folder(const char *folder, struct control_list *list)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) return;
    const struct dirent *entry;
    while (list->count < CONTROL_AGENT_MAX && (entry = readdir(dir)) != NULL) {
        char path[CONTROL_PATH_MAX];
        if (!ends_in_sock(entry->d_name)) continue;
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= sizeof path) continue;
        struct stat s;
        if (remove_stale(path) || lstat(path, &s) != 0 || !S_ISSOCK(s.st_mode)) continue;
        memcpy(list->path[list->count++], path, sizeof path);
    }
    closedir(dir);
}

/* By file name, numbers by their value: a shorter number is a smaller one. */
static int compare_paths(const void *a, const void *b)
{
    const char *x = strrchr(a, '/') + 1, *y = strrchr(b, '/') + 1;
    size_t digits_x = strspn(x, "0123456789"), digits_y = strspn(y, "0123456789");
    if (digits_x != digits_y) return digits_x < digits_y ? -1 : 1;
    return strcmp(x, y);
}

void control_list_make(struct control_list *out)
{
    *out = (struct control_list){.path = mem_new(CONTROL_AGENT_MAX, sizeof *out->path)};
    char folder[CONTROL_PATH_MAX];
    directory_name(folder);
    if (directory_check(folder, NULL) == 0) list_folder(folder, out);
    if (out->count > 1) qsort(out->path, out->count, sizeof *out->path, compare_paths);
}

void control_list_free(struct control_list *list)
{
    free(list->path);
    *list = (struct control_list){0};
}

static bool name_begins(const char *path, const char *text)
{
    const char *name = strrchr(path, '/') + 1;
    return strncmp(name, text, strlen(text)) == 0;
}

/* The whole id, not just its beginning. */
static bool name_is(const char *path, const char *text)
{
    return name_begins(path, text) && strcmp(strrchr(path, '/') + 1 + strlen(text), ".sock") == 0;
}

static int find_by_number(const struct control_list *list, const char *text, char out[CONTROL_PATH_MAX],
                          struct err_text *why)
{
    size_t fits = 0;
    bool whole = false;
    for (size_t i = 0; i < list->count && !whole; i++) {
        if (text != NULL && !name_begins(list->path[i], text)) continue;
        whole = text != NULL && name_is(list->path[i], text);
        memcpy(out, list->path[i], sizeof list->path[i]);
        fits++;
    }
    if (whole || fits == 1) return 0;
    if (fits == 0 && text == NULL)
        return err_set(why, ERR_NOT_FOUND, "no agent of this user runs on this machine");
    if (fits == 0)
        return err_set(why, ERR_NOT_FOUND,
                       "--agent: no agent here has an id that begins with %s; gadabout status "
                       "shows all",
                       text);
    return err_set(why, ERR_USAGE,
                   "--agent: %zu agents %s%s; give more of the id, as gadabout status shows it", fits,
                   text != NULL ? "have an id that begins with " : "run here", text != NULL ? text : "");
}

int control_find(const char *text, char out[CONTROL_PATH_MAX], struct err_text *why)
{
    if (text != NULL && strchr(text, '/') != NULL) {
        struct sockaddr_un address;
        if (address_of(text, &address, NULL) != 0)
            return err_set(why, ERR_USAGE, "--agent: %s is too long for a socket's path", text);
        memcpy(out, address.sun_path, CONTROL_PATH_MAX);
        return 0;
    }
    struct control_list list;
    control_list_make(&list);
    int err = find_by_number(&list, text, out, why);
    control_list_free(&list);
    return err;
}

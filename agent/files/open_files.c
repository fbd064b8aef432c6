/* Tries it: opens that many and closes them again. */
#include "agent/files/open_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

int open_files_check(uint32_t count, struct err_text *why)
{
    int *fd = mem_new(count, sizeof *fd);
    uint32_t got = 0;
    while (got < count && (fd[got] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0) got++;
    int reason = errno;
    for (uint32_t i = 0; i < got; i++) close(fd[i]);
    free(fd);
    if (got == count) return 0;
    return err_set(why, ERR_LIMIT,
                   "%" PRIu32 " more files must be opened, but %" PRIu32 " can be (%s); raise ulimit -n",
                   count, got, strerror(reason));
}

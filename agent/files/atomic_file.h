/* Files that appear whole or not at all: written under a temporary name beside the target, synced and
 * renamed. */
#ifndef GADABOUT_AGENT_FILES_ATOMIC_FILE_H
#define GADABOUT_AGENT_FILES_ATOMIC_FILE_H

#include <stdio.h>

#include "base/err.h"

struct atomic_file {
    FILE *stream;    /* write here */
    char *path;      /* owned: the target */
    char *temporary; /* owned */
};

/* Errors: ERR_IO with why naming path and reason; nothing to release then. */
int atomic_file_open(const char *path, struct atomic_file *out, struct err_text *why);

/* Puts the file in its place, replacing an older one, and releases f. On error (ERR_IO) the target is as it
 * was and nothing is left behind. */
int atomic_file_commit(struct atomic_file *f, struct err_text *why);

void atomic_file_abandon(struct atomic_file *f); /* removes what was written and releases f */

#endif

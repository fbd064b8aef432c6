/* The limit of open files, looked at before libuv is used: it aborts the process when it gets no descriptor
 * for its signals. */
#ifndef GADABOUT_AGENT_FILES_OPEN_FILES_H
#define GADABOUT_AGENT_FILES_OPEN_FILES_H

#include <stdint.h>

#include "base/err.h"

/* What an event loop, its signals and the files of a run directory need at most. */
#define OPEN_FILES_LOOP 20u

/* Whether `count` more files can be opened now. ERR_LIMIT with the remedy. */
int open_files_check(uint32_t count, struct err_text *why);

#endif

/* Model files that other tools read: safetensors, one float32 tensor "x" of shape [dim], with string
 * metadata. Written to a temporary name, synced, renamed. */
#ifndef GADABOUT_AGENT_FILES_SAFETENSORS_H
#define GADABOUT_AGENT_FILES_SAFETENSORS_H

#include <stddef.h>

#include "base/err.h"

struct metadata {
    const char *key, *value;
};

int safetensors_write(const char *path, const float *x, size_t dim, const struct metadata *meta,
                      size_t meta_count, struct err_text *why);

/* Returns an owned vector in *x and its length. Header and offsets are validated against the file's size
 * before any allocation. Errors: ERR_IO, ERR_FORMAT, ERR_LIMIT. */
int safetensors_read(const char *path, float **x, size_t *dim, struct err_text *why);

#endif

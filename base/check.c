#include "base/check.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "gadabout: broken invariant at %s:%d: %s\n", file, line, what);
    abort();
}

void *mem_new(size_t count, size_t size)
{
    return mem_resize(NULL, count, size);
}

void *mem_new_zero(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    CHECK(memory != NULL);
    return memory;
}

void *mem_resize(void *old, size_t count, size_t size)
{
    CHECK(size == 0 || count <= SIZE_MAX / size);
    size_t bytes = count * size;
    void *memory = realloc(old, bytes > 0 ? bytes : 1);
    CHECK(memory != NULL);
    return memory;
}

char *mem_copy_text(const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(mem_new(bytes, 1), text, bytes);
}

#include "base/blob.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct blob *blob_new(size_t size)
{
    CHECK(size <= SIZE_MAX - sizeof(struct blob));
    struct blob *b = mem_new(sizeof *b + size, 1);
    b->references = 1;
    b->size = size;
    return b;
}

struct blob *blob_copy(const void *bytes, size_t size)
{
    struct blob *b = blob_new(size);
    if (size > 0) memcpy(b->data, bytes, size);
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    if (b != NULL) {
        CHECK(b->references > 0 && b->references < UINT32_MAX);
        b->references++;
    }
    return b;
}

void blob_unref(struct blob *b)
{
    if (b == NULL) return;
    CHECK(b->references > 0);
    if (--b->references == 0) free(b);
}

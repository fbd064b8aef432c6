#include "base/blob.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define LARGE_SIZE ((size_t)32 << 20) /* from here on malloc would map fresh pages each time anyway */
#define SLAB_ALIGN 64u

struct blob_slab {
    uint32_t live; /* blobs not gone */
};

static struct blob *blob_init(struct blob *b, struct blob_slab *slab, size_t size)
{
    b->references = 1;
    b->slab = slab;
    b->size = size;
    return b;
}

struct blob *blob_new(size_t size)
{
    CHECK(size <= SIZE_MAX - sizeof(struct blob));
    size_t bytes = sizeof(struct blob) + size;
    return blob_init(size < LARGE_SIZE ? mem_new(bytes, 1) : mem_new_large(bytes), NULL, size);
}

void blob_new_slab(uint32_t count, size_t size, size_t last_size, struct blob **out)
{
    CHECK(count > 0 && last_size <= size && size <= SIZE_MAX / 2 / count - sizeof(struct blob) - SLAB_ALIGN);
    size_t stride = (sizeof(struct blob) + size + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
    size_t bytes = SLAB_ALIGN + count * stride;
    uint8_t *memory = bytes < LARGE_SIZE ? mem_new(bytes, 1) : mem_new_large(bytes);
    struct blob_slab *slab = (struct blob_slab *)(void *)memory;
    slab->live = count;
    for (uint32_t i = 0; i < count; i++) {
        void *place = memory + SLAB_ALIGN + i * stride;
        out[i] = blob_init(place, slab, i + 1 < count ? size : last_size);
    }
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
    if (--b->references > 0) return;
    if (b->slab == NULL)
        free(b);
    else if (--b->slab->live == 0)
        free(b->slab);
}

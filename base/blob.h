/* Immutable, reference-counted bytes: encoded once, sent to many, never copied on the way. The count
 * is not atomic: a blob belongs to the thread of its loop. Only who has the one reference may change it. */
#ifndef GADABOUT_BASE_BLOB_H
#define GADABOUT_BASE_BLOB_H

#include <stddef.h>
#include <stdint.h>

struct blob {
    uint32_t references;
    size_t size; /* bytes in data */
    _Alignas(16) uint8_t data[];
};

/* Returns an owned blob of `size` bytes with one reference. The maker fills data before sharing it;
 * while it is shared nobody writes to it. blob_new leaves data uninitialised, blob_copy copies `bytes`. */
struct blob *blob_new(size_t size);
struct blob *blob_copy(const void *bytes, size_t size);

struct blob *blob_ref(struct blob *b); /* returns b with one more reference; b may be NULL */
void blob_unref(struct blob *b);       /* drops one reference, frees at zero; b may be NULL */

/* The data of a vector: float32 values, aligned. Borrowed from b. */
static inline const float *blob_floats(const struct blob *b)
{
    return (const float *)(const void *)b->data;
}

/* The same for who has the one reference to b. */
static inline float *blob_floats_own(struct blob *b)
{
    return (float *)(void *)b->data;
}

#endif

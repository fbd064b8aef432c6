/* The frame codec, see frame.h. Pure: bytes in, numbers out. */
#include "net/link/frame.h"

#include <xxhash.h>

#include "base/check.h"

enum { AT_LENGTH = 0, AT_TYPE = 4, AT_FLAGS = 5, AT_RESERVED = 6, AT_VALUE = 8, AT_CHECKSUM = 16 };

void le_put(uint8_t *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(value >> (8 * i));
}

uint64_t le_get(const uint8_t *from, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* The payload is hashed where it lies, in one pass; the header enters through the seed. */
static uint64_t checksum(const uint8_t header[FRAME_HEADER_SIZE], const void *payload, size_t length)
{
    return XXH3_64bits_withSeed(payload, length, XXH3_64bits(header, AT_CHECKSUM));
}

void frame_encode(const struct frame_header *h, const void *payload, uint8_t out[FRAME_HEADER_SIZE])
{
    CHECK(h->length <= FRAME_CHUNK_MAX);
    CHECK(h->type != 0);
    le_put(out + AT_LENGTH, h->length, 4);
    out[AT_TYPE] = h->type;
    out[AT_FLAGS] = h->flags;
    le_put(out + AT_RESERVED, 0, 2);
    le_put(out + AT_VALUE, h->value, 8);
    le_put(out + AT_CHECKSUM, checksum(out, payload, h->length), 8);
}

int frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame_header *out)
{
    out->length = (uint32_t)le_get(in + AT_LENGTH, 4);
    out->type = in[AT_TYPE];
    out->flags = in[AT_FLAGS];
    out->value = le_get(in + AT_VALUE, 8);
    if (out->length > FRAME_CHUNK_MAX) return ERR_LIMIT;
    if (out->type == 0 || (out->flags & ~(FRAME_IGNORABLE | FRAME_WITH_BODY)) != 0) return ERR_PROTO;
    return le_get(in + AT_RESERVED, 2) == 0 ? 0 : ERR_PROTO;
}

int frame_verify(const uint8_t in[FRAME_HEADER_SIZE], const void *payload)
{
    size_t length = (size_t)le_get(in + AT_LENGTH, 4);
    CHECK(length <= FRAME_CHUNK_MAX);
    return checksum(in, payload, length) == le_get(in + AT_CHECKSUM, 8) ? 0 : ERR_CHECKSUM;
}

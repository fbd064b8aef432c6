/* The frame: what travels on a link. A header of FRAME_HEADER_SIZE bytes, little-endian, then the payload:
 *
 *   0  u32 length     payload bytes, at most FRAME_CHUNK_MAX
 *   4  u8  type       enum frame_type
 *   5  u8  flags      FRAME_IGNORABLE | FRAME_WITH_BODY
 *   6  u16 reserved   0
 *   8  u64 value      body size of a HEAD, offset of a BODY chunk, stamp of PING, PONG, reason of GOODBYE
 *  16  u64 checksum   XXH3-64 of the payload, seeded with XXH3-64 of bytes 0..15
 *
 * The header's limits are checked by frame_decode, before a byte of the payload is kept or waited for. */
#ifndef GADABOUT_NET_LINK_FRAME_H
#define GADABOUT_NET_LINK_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

#define FRAME_HEADER_SIZE 24u

enum frame_type {
    FRAME_HELLO = 1,
    FRAME_PING,
    FRAME_PONG,
    FRAME_HEAD_CONTROL, /* starts a message of a lane; the order of the lanes is that of enum lane */
    FRAME_HEAD_BULK,
    FRAME_BODY_CONTROL, /* the next chunk of the lane's body */
    FRAME_BODY_BULK,
    FRAME_GOODBYE,
};

#define FRAME_IGNORABLE 1u /* a receiver that does not know the type skips the frame */
#define FRAME_WITH_BODY 2u /* HEAD: a body of `value` bytes follows, perhaps of 0 bytes */

struct frame_header {
    uint32_t length;
    uint8_t type;
    uint8_t flags;
    uint64_t value;
};

/* Writes the header of a frame whose payload is payload[0..h->length). */
void frame_encode(const struct frame_header *h, const void *payload, uint8_t out[FRAME_HEADER_SIZE]);

/* Reads a header. Errors: ERR_LIMIT (length), ERR_PROTO (type 0, unknown flags, reserved bits). The type may
 * be one that we do not know. */
int frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame_header *out);

/* Compares the checksum of a decoded header with the `length` bytes of its payload. Returns 0 or
 * ERR_CHECKSUM. */
int frame_verify(const uint8_t in[FRAME_HEADER_SIZE], const void *payload);

/* Little-endian numbers at any address. */
void le_put(uint8_t *to, uint64_t value, size_t bytes);
uint64_t le_get(const uint8_t *from, size_t bytes);

#endif

/* The hello: who is at the other end. The payload of the first frame in each direction, little-endian:
 *
 *   0  "gadabout"     8  u16 version     10  u8 role (1 dialler, 2 acceptor)    11  u8 0
 *  12  u16 port      14  u16 bytes of address    16  cluster[16]    32  u64 id    40  u64 boot    48  address
 *
 * The frame header and the first ten bytes keep their meaning in every version, so that two versions can
 * always tell each other apart. */
#ifndef GADABOUT_NET_HELLO_H
#define GADABOUT_NET_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"

#define PROTOCOL_VERSION 1u
#define HELLO_FIXED_SIZE 48u
#define HELLO_SIZE_MAX (HELLO_FIXED_SIZE + ADDRESS_TEXT_MAX)

struct hello {
    uint16_t version;
    bool dialler;
    uint16_t port; /* where it accepts links; 0 = it only dials */
    uint8_t cluster[16];
    node_id id;
    uint64_t boot;
    char address[ADDRESS_TEXT_MAX]; /* advertised; "" = use the host you see with `port` */
};

/* Returns the bytes written. */
size_t hello_encode(const struct hello *h, uint8_t out[HELLO_SIZE_MAX]);

/* Errors: ERR_VERSION (then only out->version is set), ERR_PROTO for anything malformed. */
int hello_decode(const uint8_t *in, size_t size, struct hello *out);

#endif

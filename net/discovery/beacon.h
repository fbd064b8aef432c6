/* What members say to a multicast group to find each other on a local network: one datagram of fixed size.
 *
 *   "GDB" 1 (4) | kind (1) | 0 (3) | cluster (16) | node id (8) | port (2) | XXH32 of that (4), big-endian
 *
 * It is a hint where to dial, nothing more: whoever answers there must still say a good hello. */
#ifndef GADABOUT_NET_DISCOVERY_BEACON_H
#define GADABOUT_NET_DISCOVERY_BEACON_H

#include <stddef.h>
#include <stdint.h>

#include "base/ids.h"

#define BEACON_SIZE 38u

enum beacon_kind {
    BEACON_ASK = 1, /* I am alone; I accept links at my address and this port */
    BEACON_HERE,    /* the answer of one who is not alone */
};

struct beacon {
    enum beacon_kind kind;
    uint8_t cluster[16];
    node_id id;
    uint16_t port;
};

void beacon_encode(const struct beacon *b, uint8_t out[BEACON_SIZE]);

/* Returns 0, ERR_VERSION, ERR_CHECKSUM or ERR_FORMAT (size, kind, port 0, reserved bytes). */
int beacon_decode(const uint8_t *data, size_t size, struct beacon *out);

#endif

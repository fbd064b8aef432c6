/* The hello: who is at the other end. The payload of the first frame in each direction, little-endian:
 *
 *   0  "gadabout"     8  u16 version     10  u8 role (1 dialler, 2 acceptor, 3 visitor)    11  u8 0
 *  12  u16 port      14  u16 bytes of address    16  cluster[16]    32  u64 id    40  u64 boot
 *  48  u64 name of the cluster, hashed   56  address
 *
 * A visitor (`gadabout doctor`) wants to know who is there and no link: it is answered by a hello and a goodbye,
 * whatever its cluster, and nobody else hears of it. With boot 1 it asks who has the id that it gives.
 *
 * The payload of a goodbye, a word about who says it, so that the refused can tell a person why:
 *
 *   0  u64 id     8  u64 name     16  u16 version     18  to a visitor: the "host:port" that it is seen under; and if
 *   it asked: a 0 byte, u8 (1 = a living member has that id, 0 = none that we know), that member's "host:port" if known
 *
 * The frame header and the first ten bytes of a hello keep their meaning in every version, so that two versions
 * can always tell each other apart. */
#ifndef GADABOUT_NET_LINK_HELLO_H
#define GADABOUT_NET_LINK_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"

#define PROTOCOL_VERSION 3u
#define HELLO_FIXED_SIZE 56u
#define HELLO_SIZE_MAX (HELLO_FIXED_SIZE + ADDRESS_TEXT_MAX)
#define GOODBYE_FIXED_SIZE 18u
#define GOODBYE_SIZE_MAX (GOODBYE_FIXED_SIZE + 2 * ADDRESS_TEXT_MAX)
#define VISITOR_ASKS 1u /* as a visitor's boot */

struct hello {
    uint16_t version;
    bool dialler, visitor; /* neither: acceptor */
    uint16_t port;         /* where it accepts links; 0 = it only dials */
    uint8_t cluster[16];   /* of everything that must match but the name */
    uint64_t name;         /* hash of the cluster's name */
    node_id id;
    uint64_t boot;
    char address[ADDRESS_TEXT_MAX]; /* advertised; "" = use the host you see with `port` */
};

/* Returns the bytes written. */
size_t hello_encode(const struct hello *h, uint8_t out[HELLO_SIZE_MAX]);

/* Errors: ERR_VERSION (then only out->version is set), ERR_PROTO for anything malformed. */
int hello_decode(const uint8_t *in, size_t size, struct hello *out);

struct goodbye {
    node_id id;
    uint64_t name;
    uint16_t version;
    char seen[ADDRESS_TEXT_MAX]; /* "" = not told */
    bool answers, used;          /* it says whether the id that was asked for is used */
    char user[ADDRESS_TEXT_MAX]; /* where; "" = not told */
};

/* Returns the bytes written. */
size_t goodbye_encode(const struct goodbye *g, uint8_t out[GOODBYE_SIZE_MAX]);

/* Takes what is there: older versions say less, and then it is 0. A seen address that is not clean is "". Returns
 * false when not even the id is there. */
bool goodbye_decode(const uint8_t *in, size_t size, struct goodbye *out);

#endif

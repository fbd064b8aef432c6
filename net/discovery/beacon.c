/* Datagrams of the multicast search. Whatever is not exactly one is refused. */
#include "net/discovery/beacon.h"

#include <string.h>
#include <xxhash.h>

#include "base/err.h"

#define VERSION 1u
#define CLUSTER_AT 8u
#define ID_AT 24u
#define PORT_AT 32u
#define SUM_AT 34u

static void checksum(const uint8_t *data, uint8_t out[4])
{
    XXH32_canonical_t canonical;
    XXH32_canonicalFromHash(&canonical, XXH32(data, SUM_AT, 0));
    memcpy(out, canonical.digest, 4);
}

void beacon_encode(const struct beacon *b, uint8_t out[BEACON_SIZE])
{
    memset(out, 0, BEACON_SIZE);
    memcpy(out, "GDB", 3);
    out[3] = VERSION;
    out[4] = (uint8_t)b->kind;
    memcpy(out + CLUSTER_AT, b->cluster, sizeof b->cluster);
    for (unsigned i = 0; i < 8; i++) out[ID_AT + i] = (uint8_t)(b->id >> (56 - 8 * i));
    out[PORT_AT] = (uint8_t)(b->port >> 8);
    out[PORT_AT + 1] = (uint8_t)b->port;
    checksum(out, out + SUM_AT);
}

int beacon_decode(const uint8_t *data, size_t size, struct beacon *out)
{
    uint8_t sum[4];
    if (size < 4 || memcmp(data, "GDB", 3) != 0) return ERR_FORMAT;
    if (data[3] != VERSION) return ERR_VERSION;
    if (size != BEACON_SIZE) return ERR_FORMAT;
    checksum(data, sum);
    if (memcmp(sum, data + SUM_AT, sizeof sum) != 0) return ERR_CHECKSUM;
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < 8; i++) out->id = out->id << 8 | data[ID_AT + i];
    out->port = (uint16_t)(data[PORT_AT] << 8 | data[PORT_AT + 1]);
    memcpy(out->cluster, data + CLUSTER_AT, sizeof out->cluster);
    if ((data[4] != BEACON_ASK && data[4] != BEACON_HERE) || (data[5] | data[6] | data[7]) != 0)
        return ERR_FORMAT;
    out->kind = data[4];
    return out->port != 0 ? 0 : ERR_FORMAT;
}

/* Invitations: encode and decode.
 *
 * Failures of decoding, one line each: another version; a character that is none of the alphabet (a line
 * break, a quote); cut off or changed (the checksum); bytes that make no address. */
#include "agent/control/invite.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define PREFIX "gadabout1:"
#define PREFIX_SIZE (sizeof PREFIX - 1)
#define COPY_IT "copy the whole line that `gadabout invite` printed"
#define CHECKSUM_SIZE 4u
#define NAME_BASE 16u /* of the byte that says an address's kind */
#define NAME_MAX 239u

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct bytes {
    uint8_t data[INVITE_BYTES_MAX];
    size_t size, at;
    bool bad; /* too many, or read past the end */
};

static void put(struct bytes *b, const void *from, size_t size)
{
    if (size > sizeof b->data - b->size) {
        b->bad = true;
        return;
    }
    memcpy(b->data + b->size, from, size);
    b->size += size;
}

static void put_byte(struct bytes *b, unsigned byte)
{
    uint8_t one = (uint8_t)byte;
    put(b, &one, 1);
}

static void take(struct bytes *b, void *to, size_t size)
{
    memset(to, 0, size);
    if (b->bad || size > b->size - b->at) {
        b->bad = true;
        return;
    }
    memcpy(to, b->data + b->at, size);
    b->at += size;
}

static unsigned take_byte(struct bytes *b)
{
    uint8_t one;
    take(b, &one, 1);
    return one;
}

static void checksum(const struct bytes *b, size_t size, uint8_t out[CHECKSUM_SIZE])
{
    XXH32_canonical_t canonical;
    XXH32_canonicalFromHash(&canonical, XXH32(b->data, size, 0));
    memcpy(out, canonical.digest, CHECKSUM_SIZE);
}

bool invite_is_meant(const char *text)
{
    static const char word[] = "gadabout";
    if (strncmp(text, word, sizeof word - 1) != 0) return false;
    const char *number = text + sizeof word - 1;
    size_t digits = strspn(number, "0123456789");
    if (digits == 0 || number[digits] != ':') return false;
    const char *rest = number + digits + 1;
    size_t port = strspn(rest, "0123456789");
    return rest[port] != '\0' || port > 5; /* gadabout1:7946 is a host and a port */
}

/* -- addresses ------------------------------------------------------------------------------------- */

static bool host_is_sound(const char *host)
{
    for (const char *c = host; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~' || strchr("[]:,", *c) != NULL) return false;
    return host[0] != '\0' && strlen(host) <= NAME_MAX;
}

static int put_address(struct bytes *b, const char *address, struct err_text *why)
{
    char host[ADDRESS_TEXT_MAX];
    const char *colon = strrchr(address, ':');
    long port = colon != NULL ? strtol(colon + 1, NULL, 10) : 0;
    if (colon == NULL || colon == address || strlen(address) >= sizeof host || port < 1 || port > 65535)
        return err_set(why, ERR_USAGE, "'%s' is no address that others could dial", address);
    size_t length = (size_t)(colon - address);
    memcpy(host, address, length);
    host[length] = '\0';
    uint8_t number[16];
    if (host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, number) != 1)
            return err_set(why, ERR_USAGE, "'%s' is no address that others could dial", address);
        put_byte(b, 6);
        put(b, number, 16);
    } else if (inet_pton(AF_INET, host, number) == 1) {
        put_byte(b, 4);
        put(b, number, 4);
    } else {
        if (!host_is_sound(host))
            return err_set(why, ERR_USAGE, "'%s' is no address that others could dial", address);
        put_byte(b, (unsigned)(NAME_BASE + length));
        put(b, host, length);
    }
    put_byte(b, (unsigned)port >> 8);
    put_byte(b, (unsigned)port & 255);
    return 0;
}

static void take_address(struct bytes *b, char out[ADDRESS_TEXT_MAX])
{
    uint8_t number[16] = {0};
    static const uint8_t nobody[16];
    char host[NAME_MAX + 1] = "";
    unsigned kind = take_byte(b);
    if (kind == 4 || kind == 6) {
        take(b, number, kind == 4 ? 4 : 16);
        if (memcmp(number, nobody, 16) == 0) b->bad = true;
        inet_ntop(kind == 4 ? AF_INET : AF_INET6, number, host, sizeof host);
    } else if (kind > NAME_BASE) {
        take(b, host, kind - NAME_BASE);
        if (strlen(host) != kind - NAME_BASE || !host_is_sound(host)) b->bad = true;
    } else {
        b->bad = true;
    }
    unsigned port = take_byte(b) << 8;
    port |= take_byte(b);
    if (port == 0) b->bad = true;
    snprintf(out, ADDRESS_TEXT_MAX, kind == 6 ? "[%s]:%u" : "%s:%u", host, port);
}

/* -- base64url ------------------------------------------------------------------------------------- */

static void text_of(const struct bytes *b, char *out)
{
    uint32_t bits = 0, count = 0;
    for (size_t i = 0; i < b->size; i++) {
        bits = bits << 8 | b->data[i];
        for (count += 8; count >= 6; count -= 6) *out++ = alphabet[bits >> (count - 6) & 63];
    }
    if (count > 0) *out++ = alphabet[bits << (6 - count) & 63];
    *out = '\0';
}

/* Returns false for a character outside the alphabet. What is too long or ends in the middle of a byte is
 * bad. */
static bool bytes_of(const char *text, struct bytes *b)
{
    uint32_t bits = 0, count = 0;
    for (; *text != '\0'; text++) {
        const char *found = strchr(alphabet, *text);
        if (found == NULL) return false;
        bits = bits << 6 | (uint32_t)(found - alphabet);
        count += 6;
        if (count < 8) continue;
        count -= 8;
        put_byte(b, bits >> count & 255);
    }
    if (count >= 6 || (bits & ((1u << count) - 1)) != 0) b->bad = true;
    return true;
}

/* -- the whole ------------------------------------------------------------------------------------- */

_Static_assert(INVITE_ADDRESS_MAX *(1 + NAME_MAX + 2) + INVITE_CLUSTER_MAX + 32 <= INVITE_BYTES_MAX,
               "all fit");
_Static_assert((INVITE_BYTES_MAX * 8 + 5) / 6 + sizeof PREFIX <= INVITE_TEXT_MAX, "all fit as text");

int invite_encode(const struct invite *in, char out[INVITE_TEXT_MAX], struct err_text *why)
{
    struct bytes b = {.size = 0};
    size_t length = strlen(in->cluster);
    if (in->address_count < 1 || in->address_count > INVITE_ADDRESS_MAX)
        return err_set(why, ERR_LIMIT, "an invitation holds 1 to %u addresses", INVITE_ADDRESS_MAX);
    if (length < 1 || length >= INVITE_CLUSTER_MAX)
        return err_set(why, ERR_LIMIT, "--cluster: an invitation takes a name of 1 to %u bytes",
                       INVITE_CLUSTER_MAX - 1);
    put_byte(&b, in->address_count);
    for (uint32_t i = 0; i < in->address_count; i++) {
        int err = put_address(&b, in->address[i], why);
        if (err != 0) return err;
    }
    put_byte(&b, (unsigned)length);
    put(&b, in->cluster, length);
    put(&b, in->shape, sizeof in->shape);
    uint8_t sum[CHECKSUM_SIZE];
    checksum(&b, b.size, sum);
    put(&b, sum, sizeof sum);
    memcpy(out, PREFIX, PREFIX_SIZE);
    text_of(&b, out + PREFIX_SIZE);
    return 0;
}

static bool invite_take(struct bytes *b, struct invite *out)
{
    out->address_count = take_byte(b);
    if (out->address_count < 1 || out->address_count > INVITE_ADDRESS_MAX) return false;
    for (uint32_t i = 0; i < out->address_count; i++) take_address(b, out->address[i]);
    unsigned length = take_byte(b);
    if (length < 1 || length >= INVITE_CLUSTER_MAX) return false;
    take(b, out->cluster, length);
    take(b, out->shape, sizeof out->shape);
    return !b->bad && strlen(out->cluster) == length && b->at == b->size;
}

int invite_decode(const char *text, struct invite *out, struct err_text *why)
{
    struct bytes b = {.size = 0};
    memset(out, 0, sizeof *out);
    if (strncmp(text, PREFIX, PREFIX_SIZE) != 0)
        return err_set(
            why, ERR_FORMAT,
            "the invitation is not of version 1, the only one that this program reads; have both of the "
            "same version");
    if (!bytes_of(text + PREFIX_SIZE, &b))
        return err_set(why, ERR_FORMAT,
                       "the invitation has a character that does not belong there; " COPY_IT);
    uint8_t sum[CHECKSUM_SIZE] = {0};
    bool whole = !b.bad && b.size > CHECKSUM_SIZE;
    if (whole) checksum(&b, b.size - CHECKSUM_SIZE, sum);
    if (!whole || memcmp(sum, b.data + b.size - CHECKSUM_SIZE, CHECKSUM_SIZE) != 0)
        return err_set(why, ERR_FORMAT,
                       "the invitation is cut off or changed (its checksum is wrong); " COPY_IT);
    b.size -= CHECKSUM_SIZE;
    if (!invite_take(&b, out))
        return err_set(why, ERR_FORMAT, "the invitation has contents that make no sense; ask for a new one");
    return 0;
}

int invite_check(const uint8_t invited[16], const uint8_t ours[16], struct err_text *why)
{
    char theirs[12], own[12];
    if (memcmp(invited, ours, 16) == 0) return 0;
    return err_set(why, ERR_USAGE,
                   "--join: the invitation is to an experiment with other options (its fingerprint is %s, "
                   "ours %s); give "
                   "the same as the agent that printed it",
                   invite_fingerprint(invited, theirs), invite_fingerprint(ours, own));
}

const char *invite_fingerprint(const uint8_t shape[16], char out[12])
{
    snprintf(out, 12, "%02x%02x%02x%02x", shape[0], shape[1], shape[2], shape[3]);
    return out;
}

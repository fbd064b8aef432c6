/* The pre-scan of a msgpack head: decides, without allocating and without recursion, whether msgpack-c may
 * see the bytes at all. Five bytes can announce 2^32 - 1 elements, for which msgpack-c would reserve memory
 * before reading any (docs/protocol.md).
 *
 * Normal course
 *  - one value after the other is skipped; open containers are counted down on a small stack.
 *  - the scan ends where the outermost value ends, which must be the end of the bytes.
 * Failure courses
 *  - a value that reaches beyond the bytes, a container that announces more than the bytes left can hold.
 *  - more than WIRE_DEPTH_MAX containers inside each other, more than WIRE_OBJECT_MAX values altogether.
 *  - a string over WIRE_STRING_MAX, a binary over ALGO_BITS_MAX, an ext type, the reserved byte 0xc1.
 *  - bytes after the value. */
#include "agent/wire/wire.h"

#include "base/check.h"

enum scan_class { SCAN_PLAIN, SCAN_STRING, SCAN_BINARY, SCAN_ARRAY, SCAN_MAP, SCAN_EXT, SCAN_RESERVED };

struct scan {
    const uint8_t *data;
    size_t size, at;
    uint32_t objects;              /* values seen or announced so far */
    uint32_t depth;                /* open containers */
    uint32_t open[WIRE_DEPTH_MAX]; /* values still to come in each */
};

/* One value's header: its class, its length or count, and the bytes the header itself takes. */
struct scan_tag {
    enum scan_class class;
    uint64_t count;
    size_t header;
};

static uint64_t scan_big_endian(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) v = (v << 8) | p[i];
    return v;
}

/* Classes and widths of the tags 0xc0..0xdf. `width` is the length field in bytes (its value is the count),
 * `fixed` the payload in bytes where there is no length field. */
static const struct {
    uint8_t class, width, fixed;
} scan_table[32] = {
    [0x00] = {SCAN_PLAIN, 0, 0},  [0x01] = {SCAN_RESERVED, 0, 0}, [0x02] = {SCAN_PLAIN, 0, 0},
    [0x03] = {SCAN_PLAIN, 0, 0},  [0x04] = {SCAN_BINARY, 1, 0},   [0x05] = {SCAN_BINARY, 2, 0},
    [0x06] = {SCAN_BINARY, 4, 0}, [0x07] = {SCAN_EXT, 0, 0},      [0x08] = {SCAN_EXT, 0, 0},
    [0x09] = {SCAN_EXT, 0, 0},    [0x0a] = {SCAN_PLAIN, 0, 4},    [0x0b] = {SCAN_PLAIN, 0, 8},
    [0x0c] = {SCAN_PLAIN, 0, 1},  [0x0d] = {SCAN_PLAIN, 0, 2},    [0x0e] = {SCAN_PLAIN, 0, 4},
    [0x0f] = {SCAN_PLAIN, 0, 8},  [0x10] = {SCAN_PLAIN, 0, 1},    [0x11] = {SCAN_PLAIN, 0, 2},
    [0x12] = {SCAN_PLAIN, 0, 4},  [0x13] = {SCAN_PLAIN, 0, 8},    [0x14] = {SCAN_EXT, 0, 0},
    [0x15] = {SCAN_EXT, 0, 0},    [0x16] = {SCAN_EXT, 0, 0},      [0x17] = {SCAN_EXT, 0, 0},
    [0x18] = {SCAN_EXT, 0, 0},    [0x19] = {SCAN_STRING, 1, 0},   [0x1a] = {SCAN_STRING, 2, 0},
    [0x1b] = {SCAN_STRING, 4, 0}, [0x1c] = {SCAN_ARRAY, 2, 0},    [0x1d] = {SCAN_ARRAY, 4, 0},
    [0x1e] = {SCAN_MAP, 2, 0},    [0x1f] = {SCAN_MAP, 4, 0},
};

/* Reads the header at s->at; returns false when it is cut short. */
static bool scan_read_tag(const struct scan *s, struct scan_tag *tag)
{
    uint8_t byte = s->data[s->at];
    size_t width = 0;
    tag->class = SCAN_PLAIN;
    tag->count = 0;
    if (byte >= 0x80 && byte <= 0x8f) {
        tag->class = SCAN_MAP;
        tag->count = byte & 0x0fu;
    } else if (byte >= 0x90 && byte <= 0x9f) {
        tag->class = SCAN_ARRAY;
        tag->count = byte & 0x0fu;
    } else if (byte >= 0xa0 && byte <= 0xbf) {
        tag->class = SCAN_STRING;
        tag->count = byte & 0x1fu;
    } else if (byte >= 0xc0 && byte <= 0xdf) {
        tag->class = (enum scan_class)scan_table[byte - 0xc0].class;
        width = scan_table[byte - 0xc0].width;
        tag->count = scan_table[byte - 0xc0].fixed;
    } /* else a small integer, 0x00..0x7f or 0xe0..0xff */
    tag->header = 1 + width;
    if (tag->header > s->size - s->at) return false;
    if (width > 0) tag->count = scan_big_endian(s->data + s->at + 1, width);
    return true;
}

static int scan_payload(struct scan *s, uint64_t bytes, struct err_text *why)
{
    if (bytes > s->size - s->at) return err_set(why, ERR_FORMAT, "head: a value reaches beyond its end");
    s->at += (size_t)bytes;
    return 0;
}

static int scan_open(struct scan *s, uint64_t values, struct err_text *why)
{
    if (s->depth == WIRE_DEPTH_MAX)
        return err_set(why, ERR_LIMIT, "head: nested deeper than %u", WIRE_DEPTH_MAX);
    /* Every value takes at least one byte. */
    if (values > s->size - s->at)
        return err_set(why, ERR_FORMAT, "head: a container announces more than there is");
    if (values > WIRE_OBJECT_MAX - s->objects)
        return err_set(why, ERR_LIMIT, "head: more than %u values", WIRE_OBJECT_MAX);
    s->objects += (uint32_t)values;
    if (values > 0) s->open[s->depth++] = (uint32_t)values;
    return 0;
}

static int scan_value(struct scan *s, struct err_text *why)
{
    struct scan_tag tag;
    if (s->at == s->size || !scan_read_tag(s, &tag)) return err_set(why, ERR_FORMAT, "head: cut short");
    s->at += tag.header;
    switch (tag.class) {
    case SCAN_PLAIN:
        return scan_payload(s, tag.count, why);
    case SCAN_STRING:
        if (tag.count > WIRE_STRING_MAX)
            return err_set(why, ERR_LIMIT, "head: a string over %u bytes", WIRE_STRING_MAX);
        return scan_payload(s, tag.count, why);
    case SCAN_BINARY:
        if (tag.count > ALGO_BITS_MAX)
            return err_set(why, ERR_LIMIT, "head: a binary over %u bytes", ALGO_BITS_MAX);
        return scan_payload(s, tag.count, why);
    case SCAN_ARRAY:
        return scan_open(s, tag.count, why);
    case SCAN_MAP:
        return scan_open(s, 2 * tag.count, why);
    case SCAN_EXT:
        return err_set(why, ERR_FORMAT, "head: an ext type");
    case SCAN_RESERVED:
        return err_set(why, ERR_FORMAT, "head: the reserved byte 0xc1");
    }
    UNREACHABLE();
}

int wire_scan(const uint8_t *data, size_t size, struct err_text *why)
{
    struct scan s = {.data = data, .size = size, .objects = 1};
    if (size > MESSAGE_HEAD_MAX) return err_set(why, ERR_LIMIT, "head: over %u bytes", MESSAGE_HEAD_MAX);
    do {
        uint32_t depth = s.depth;
        int err = scan_value(&s, why);
        if (err != 0) return err;
        if (s.depth > depth) continue; /* a container opened: it is complete when its last value is */
        while (s.depth > 0 && --s.open[s.depth - 1] == 0) s.depth--;
    } while (s.depth > 0);
    if (s.at != size) return err_set(why, ERR_FORMAT, "head: %zu bytes after its end", size - s.at);
    return 0;
}

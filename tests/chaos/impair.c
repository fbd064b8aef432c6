/* The verdicts of impair.h. */
#include "tests/chaos/impair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- words ------------------------------------------------------------------------------------- */

enum { TIME, SHARE, RATE, SIZE };

static const struct word {
    const char *name;
    int kind;
    size_t offset;
} words[] = {
    {"delay", TIME, offsetof(struct impair_config, delay_us)},
    {"jitter", TIME, offsetof(struct impair_config, jitter_us)},
    {"loss", SHARE, offsetof(struct impair_config, loss)},
    {"duplicate", SHARE, offsetof(struct impair_config, duplicate)},
    {"reorder", SHARE, offsetof(struct impair_config, reorder)},
    {"corrupt", SHARE, offsetof(struct impair_config, corrupt)},
    {"rate", RATE, offsetof(struct impair_config, rate_bits_s)},
    {"queue", SIZE, offsetof(struct impair_config, queue_bytes)},
};

static const struct unit {
    const char *name;
    int kind;
    double factor;
} units[] = {
    {"us", TIME, 1},  {"ms", TIME, 1e3}, {"s", TIME, 1e6}, {"", SHARE, 1},   {"", RATE, 1},
    {"k", RATE, 1e3}, {"m", RATE, 1e6},  {"", SIZE, 1},    {"k", SIZE, 1e3}, {"m", SIZE, 1e6},
};

/* Reads a number with its unit; the text must end at one of `ends`. Returns what follows, or NULL. */
static const char *read_number(const char *text, int kind, const char *ends, double *out)
{
    char *after;
    errno = 0;
    double value = strtod(text, &after);
    size_t length = strcspn(after, ends);
    if (after == text || errno != 0 || !(value >= 0) || value > 1e12) return NULL;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        const struct unit *u = &units[i];
        if (u->kind != kind || strlen(u->name) != length || strncmp(u->name, after, length) != 0) continue;
        *out = value * u->factor;
        if (kind == SHARE && *out > 1) return NULL;
        return after + length;
    }
    return NULL;
}

/* burst=BAD/GOOD/LOSS */
static const char *read_burst(const char *text, struct impair_config *c)
{
    double bad, good;
    text = read_number(text, TIME, "/ ", &bad);
    if (text == NULL || *text != '/') return NULL;
    text = read_number(text + 1, TIME, "/ ", &good);
    if (text == NULL || *text != '/') return NULL;
    c->bad_us = (uint64_t)bad;
    c->good_us = (uint64_t)good;
    return read_number(text + 1, SHARE, " ", &c->bad_loss);
}

static const char *read_word(const char *text, struct impair_config *c)
{
    size_t length = strcspn(text, "= ");
    if (text[length] != '=') return NULL;
    const char *value = text + length + 1;
    if (length == 5 && strncmp(text, "burst", 5) == 0) return read_burst(value, c);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        double number;
        void *field = (char *)c + words[i].offset;
        if (strlen(words[i].name) != length || strncmp(words[i].name, text, length) != 0) continue;
        const char *after = read_number(value, words[i].kind, " ", &number);
        if (after == NULL) return NULL;
        if (words[i].kind == SHARE)
            *(double *)field = number;
        else
            *(uint64_t *)field = (uint64_t)number;
        return after;
    }
    return NULL;
}

int impair_parse(struct impair_config *out, const char *text, const char **bad)
{
    struct impair_config c = {0};
    const char *at = text + strspn(text, " ");
    while (*at != '\0') {
        const char *after = read_word(at, &c);
        *bad = at;
        if (after == NULL) return -1;
        at = after + strspn(after, " ");
    }
    *bad = text;
    if (c.jitter_us > c.delay_us) return -1;
    if (c.rate_bits_s > 0 && c.queue_bytes == 0) c.queue_bytes = 100000;
    *out = c;
    return 0;
}

/* -- verdicts ---------------------------------------------------------------------------------- */

void impair_init(struct impair *p, uint64_t seed, uint64_t index)
{
    *p = (struct impair){0};
    prng_split(&p->prng, seed, "impair", index);
}

void impair_set(struct impair *p, const struct impair_config *config, uint64_t now_us)
{
    p->config = *config;
    p->bad = false;
    p->free_us = now_us;
    p->switch_us = config->bad_us > 0 ? now_us + (uint64_t)prng_exponential(&p->prng, (double)config->good_us)
                                      : UINT64_MAX;
}

/* Probability 0 draws nothing: what is off does not shift the stream of what is on. */
static bool happens(struct impair *p, double probability)
{
    return probability > 0 && prng_unit(&p->prng) < probability;
}

static void pass_time(struct impair *p, uint64_t now_us)
{
    while (p->switch_us <= now_us) {
        p->bad = !p->bad;
        double mean = (double)(p->bad ? p->config.bad_us : p->config.good_us);
        p->switch_us += 1 + (uint64_t)prng_exponential(&p->prng, mean);
    }
}

static bool is_lost(struct impair *p, uint64_t now_us)
{
    pass_time(p, now_us);
    if (p->bad && happens(p, p->config.bad_loss)) {
        p->counts.burst_lost++;
        return true;
    }
    if (!happens(p, p->config.loss)) return false;
    p->counts.lost++;
    return true;
}

/* When the last bit of the frame has gone out; false = the queue is full. */
static bool send_at_rate(struct impair *p, uint64_t now_us, size_t size, uint64_t *at_us)
{
    *at_us = now_us;
    if (p->config.rate_bits_s == 0) return true;
    if (p->free_us < now_us) p->free_us = now_us;
    double per_byte_us = 8e6 / (double)p->config.rate_bits_s;
    if ((double)(p->free_us - now_us) / per_byte_us + (double)size > (double)p->config.queue_bytes)
        return false;
    p->free_us += (uint64_t)((double)size * per_byte_us);
    *at_us = p->free_us;
    return true;
}

static uint64_t wait_us(struct impair *p)
{
    const struct impair_config *c = &p->config;
    if (c->delay_us == 0) return 0;
    if (happens(p, c->reorder)) {
        p->counts.reordered++;
        return 0;
    }
    p->counts.delayed++;
    if (c->jitter_us == 0) return c->delay_us;
    return c->delay_us - c->jitter_us + (uint64_t)(prng_unit(&p->prng) * 2 * (double)c->jitter_us);
}

void impair_judge(struct impair *p, uint64_t now_us, size_t size, struct impair_verdict *out)
{
    uint64_t sent_us;
    *out = (struct impair_verdict){0};
    p->counts.frames++;
    p->counts.bytes += size;
    if (is_lost(p, now_us)) return;
    if (!send_at_rate(p, now_us, size, &sent_us)) {
        p->counts.overflowed++;
        return;
    }
    out->copies = 1;
    out->at_us[0] = sent_us + wait_us(p);
    if (happens(p, p->config.duplicate)) {
        p->counts.duplicated++;
        out->at_us[out->copies++] = sent_us + wait_us(p);
    }
    out->corrupt = happens(p, p->config.corrupt);
}

/* -- damage ------------------------------------------------------------------------------------ */

enum { ETHERNET = 14, IP_TCP = 6, IP_UDP = 17 };

static uint32_t word16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

/* RFC 1624, equation 3, for one changed 16-bit word. */
static void correct_checksum(uint8_t *at, uint32_t before, uint32_t after)
{
    uint32_t sum = (~word16(at) & 0xffff) + (~before & 0xffff) + after;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum & 0xffff;
    at[0] = (uint8_t)(sum >> 8);
    at[1] = (uint8_t)sum;
}

/* Finds segment, payload and checksum; false when it is no TCP or UDP with a payload. */
static bool find_payload(uint8_t *frame, size_t size, uint8_t **segment, uint8_t **payload, uint8_t **end,
                         uint8_t **checksum)
{
    if (size < ETHERNET + 20 || word16(frame + 12) != 0x0800) return false;
    uint8_t *ip = frame + ETHERNET;
    size_t ip_header = (size_t)(ip[0] & 15) * 4, total = word16(ip + 2);
    bool fragment = (word16(ip + 6) & 0x3fff) != 0;
    if (ip[0] >> 4 != 4 || ip_header < 20 || fragment || total > size - ETHERNET) return false;
    if (total < ip_header + (ip[9] == IP_TCP ? 20 : 8)) return false;
    *segment = ip + ip_header;
    *end = ip + total;
    if (ip[9] == IP_TCP) {
        *payload = *segment + (size_t)((*segment)[12] >> 4) * 4;
        *checksum = *segment + 16;
    } else if (ip[9] == IP_UDP) {
        *payload = *segment + 8;
        *checksum = *segment + 6;
    } else {
        return false;
    }
    return *payload < *end;
}

bool impair_corrupt(struct impair *p, uint8_t *frame, size_t size)
{
    uint8_t *segment, *payload, *end, *checksum;
    if (!find_payload(frame, size, &segment, &payload, &end, &checksum)) return false;
    uint8_t *at = payload + prng_below(&p->prng, (uint32_t)(end - payload));
    uint8_t bit = (uint8_t)(1u << prng_below(&p->prng, 8));
    /* the checksum sums 16-bit words from the segment's start on; a last odd byte has a zero after it */
    uint32_t shift = (at - segment) % 2 == 0 ? 8 : 0;
    uint32_t before = (uint32_t)*at << shift, after = (uint32_t)(*at ^ bit) << shift;
    *at ^= bit;
    correct_checksum(checksum, before, after);
    p->counts.corrupted++;
    return true;
}

/* Which addresses to dial while there is no link. See discovery.h for the courses. */
#include "net/discovery/discovery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/prng.h"

#define SAY_US 30000000u
#define SAY_FIRST_US 3000000u
#define WHY_ENTRY_MAX 2u /* addresses that are explained one by one */

/* What the last try came to. */
enum outcome {
    OUTCOME_NONE,
    OUTCOME_REFUSED,
    OUTCOME_SILENT,
    OUTCOME_NAME,
    OUTCOME_SELF,
    OUTCOME_CLUSTER,
    OUTCOME_VERSION
};

struct entry {
    char address[ADDRESS_TEXT_MAX];
    enum discovery_source source;
    bool own;     /* told to be ours */
    bool trying;  /* wanted now */
    bool by_name; /* what it stands for may change */
    enum outcome outcome;
    uint32_t failures;
    uint64_t next_us; /* trying: when this try is over; else when the next may begin */
};

struct discovery {
    struct discovery_config config;
    struct prng jitter;
    struct entry *entry; /* (count) seeds, found, book; each in the order of their coming */
    uint32_t count, capacity, trying;
    uint32_t links;
    bool ever_linked;
    uint64_t linked_us, alone_us; /* since when there are links, or none; 0 = not told yet */
    uint64_t early_until_us; /* we have not been alone for long until then; links that did not last do not count */
    uint64_t again_us;       /* linked: when seeds are asked again */
    uint64_t again_wait_us;
    uint64_t say_us;
};

void discovery_defaults(struct discovery_config *c)
{
    *c = (struct discovery_config){.try_us = 10000000,
                                   .backoff_min_us = 250000,
                                   .backoff_max_us = 30000000,
                                   .early_us = 30000000,
                                   .early_max_us = 2000000,
                                   .link_us = 5000000,
                                   .self_us = 600000000,
                                   .again_min_us = 10000000,
                                   .again_max_us = 480000000};
}

struct discovery *discovery_new(const struct discovery_config *config)
{
    CHECK(config->try_us > 0 && config->backoff_min_us > 0 &&
          config->backoff_max_us >= config->backoff_min_us);
    CHECK(config->early_us == 0 || config->early_max_us > 0);
    CHECK(config->again_min_us > 0 && config->again_max_us >= config->again_min_us);
    struct discovery *d = mem_new_zero(1, sizeof *d);
    d->config = *config;
    prng_split(&d->jitter, config->seed, "discovery", 0);
    d->again_us = d->alone_us = d->say_us = TIME_NEVER;
    return d;
}

void discovery_free(struct discovery *d)
{
    if (d == NULL) return;
    free(d->entry);
    free(d);
}

/* -- addresses ------------------------------------------------------------------------------------- */

bool discovery_takes(const char *address)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || strlen(address) >= ADDRESS_TEXT_MAX) return false;
    size_t digits = strspn(colon + 1, "0123456789"), host = (size_t)(colon - address);
    long port = strtol(colon + 1, NULL, 10);
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' || port < 1 || port > 65535) return false;
    bool bracketed = address[0] == '[' && address[host - 1] == ']' && host > 2;
    for (size_t i = 0; i < host; i++) {
        bool frame = bracketed && (i == 0 || i == host - 1);
        if (address[i] <= ' ' || address[i] > '~') return false;
        if (!frame && (address[i] == '[' || address[i] == ']')) return false;
        if (!bracketed && address[i] == ':') return false;
    }
    return true;
}

/* Neither "1.2.3.4:5" nor "[v6]:5". */
static bool address_has_name(const char *text)
{
    return text[0] != '[' && text[strspn(text, "0123456789.")] != ':';
}

static struct entry *entry_find(const struct discovery *d, const char *address)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (strcmp(d->entry[i].address, address) == 0) return &d->entry[i];
    return NULL;
}

static void entry_remove(struct discovery *d, uint32_t at)
{
    if (d->entry[at].trying) d->trying--;
    d->count--;
    memmove(&d->entry[at], &d->entry[at + 1], (d->count - at) * sizeof *d->entry);
}

/* Behind all of its own source and better ones. */
static void entry_insert(struct discovery *d, const struct entry *e)
{
    if (d->count == d->capacity) {
        d->capacity = d->capacity > 0 ? 2 * d->capacity : 16;
        d->entry = mem_resize(d->entry, d->capacity, sizeof *d->entry);
    }
    uint32_t at = d->count;
    while (at > 0 && d->entry[at - 1].source > e->source) at--;
    memmove(&d->entry[at + 1], &d->entry[at], (d->count - at) * sizeof *d->entry);
    d->entry[at] = *e;
    d->count++;
}

static bool make_room(struct discovery *d)
{
    if (d->count < DISCOVERY_ENTRY_MAX) return true;
    uint32_t worst = d->count;
    for (uint32_t i = d->count; i-- > 0 && d->entry[i].source != DISCOVERY_SEED;) {
        const struct entry *e = &d->entry[i];
        if (e->trying || e->own) continue;
        if (worst < d->count && e->source < d->entry[worst].source) break;
        if (worst == d->count || e->failures > d->entry[worst].failures) worst = i;
    }
    if (worst == d->count) return false;
    entry_remove(d, worst);
    return true;
}

bool discovery_add(struct discovery *d, const char *address, enum discovery_source source)
{
    if (!discovery_takes(address)) return false;
    struct entry e = {.source = source};
    struct entry *known = entry_find(d, address);
    if (known != NULL) {
        if (known->source <= source) return true;
        e = *known;
        e.source = source;
        entry_remove(d, (uint32_t)(known - d->entry));
        if (e.trying) d->trying++;
    } else {
        if (!make_room(d)) return false;
        memcpy(e.address, address, strlen(address) + 1);
        e.by_name = address_has_name(address);
    }
    entry_insert(d, &e);
    return true;
}

void discovery_own(struct discovery *d, const char *address)
{
    if (!discovery_add(d, address, DISCOVERY_BOOK)) return;
    struct entry *e = entry_find(d, address);
    if (e->trying) d->trying--;
    e->trying = false;
    e->own = true;
}

/* -- tries ----------------------------------------------------------------------------------------- */

/* While it is not long that we are alone: whoever is to be there is perhaps being started just now. */
static uint64_t backoff_max_us(const struct discovery *d, uint64_t now_us)
{
    bool early = d->links == 0 && now_us < d->early_until_us;
    bool capped = early && d->config.early_max_us < d->config.backoff_max_us;
    return capped ? d->config.early_max_us : d->config.backoff_max_us;
}

static uint64_t backoff_us(struct discovery *d, uint32_t failures, uint64_t now_us)
{
    uint64_t most_us = d->config.backoff_min_us, max_us = backoff_max_us(d, now_us);
    for (uint32_t i = 0; i < failures && most_us < max_us; i++) most_us *= 2;
    if (most_us > max_us) most_us = max_us;
    return 1 + (uint64_t)((double)most_us * prng_uniform(&d->jitter, 0.5, 1.0));
}

static void try_end(struct discovery *d, struct entry *e, uint64_t now_us)
{
    if (!e->trying) return;
    e->trying = false;
    d->trying--;
    e->next_us = time_after(now_us, backoff_us(d, e->failures, now_us));
    if (e->failures < UINT32_MAX) e->failures++;
}

static bool entry_is_due(const struct discovery *d, const struct entry *e, uint64_t now_us, bool again)
{
    if (e->trying || e->own || now_us < e->next_us) return false;
    if (d->links == 0) return true;
    if (e->source != DISCOVERY_FOUND && !again) return false;
    if (d->config.is_member == NULL) return e->source != DISCOVERY_BOOK;
    return e->by_name || !d->config.is_member(d->config.ctx, e->address);
}

/* The next whose turn it is: the first in order; while linked one tried least, so that a long book is gone
 * through. */
static struct entry *next_due(struct discovery *d, uint64_t now_us, bool again)
{
    struct entry *best = NULL;
    for (uint32_t i = 0; i < d->count; i++) {
        struct entry *e = &d->entry[i];
        bool better = best == NULL || (d->links > 0 && e->source == DISCOVERY_BOOK &&
                                       e->failures < best->failures && best->source == DISCOVERY_BOOK);
        if (better && entry_is_due(d, e, now_us, again)) best = e;
        if (best != NULL && d->links == 0) break;
    }
    return best;
}

static void tries_begin(struct discovery *d, uint64_t now_us, bool again)
{
    while (d->trying < DISCOVERY_DIAL_MAX) {
        struct entry *e = next_due(d, now_us, again);
        if (e == NULL) return;
        e->trying = true;
        e->next_us = time_after(now_us, d->config.try_us);
        d->trying++;
    }
}

static void say(struct discovery *d, uint64_t now_us)
{
    if (d->links > 0 || now_us < d->say_us) return;
    char why[DISCOVERY_WHY_MAX];
    d->say_us = time_after(now_us, SAY_US);
    if (d->count > 0) trace_line(d->config.trace, TRACE_INFO, "%s", discovery_why(d, now_us, why));
}

static void alone_since(struct discovery *d, uint64_t now_us)
{
    d->alone_us = now_us;
    d->say_us = time_after(now_us, SAY_FIRST_US);
    d->again_us = TIME_NEVER;
}

void discovery_tick(struct discovery *d, uint64_t now_us)
{
    if (d->links == 0 && d->alone_us == TIME_NEVER) {
        d->early_until_us = time_after(now_us, d->config.early_us);
        alone_since(d, now_us);
    }
    for (uint32_t i = 0; i < d->count; i++) {
        struct entry *e = &d->entry[i];
        if (!e->trying || now_us < e->next_us) continue;
        if (d->links == 0 && e->outcome != OUTCOME_SELF) e->outcome = OUTCOME_SILENT;
        try_end(d, e, now_us);
    }
    bool again = d->links > 0 && now_us >= d->again_us;
    if (again) {
        d->again_wait_us *= 2;
        if (d->again_wait_us > d->config.again_max_us) d->again_wait_us = d->config.again_max_us;
        d->again_us =
            time_after(now_us, (uint64_t)((double)d->again_wait_us * prng_uniform(&d->jitter, 0.75, 1.25)));
    }
    tries_begin(d, now_us, again);
    say(d, now_us);
}

/* The first link ends all tries; their back-off goes on from here if it does not last. */
static void links_came(struct discovery *d, uint64_t now_us)
{
    d->linked_us = now_us;
    d->ever_linked = true;
    d->again_wait_us = d->config.again_min_us;
    d->again_us = time_after(now_us, d->again_wait_us);
    for (uint32_t i = 0; i < d->count; i++) try_end(d, &d->entry[i], now_us);
}

static void links_went(struct discovery *d, uint64_t now_us)
{
    bool lasted = now_us >= time_after(d->linked_us, d->config.link_us);
    if (lasted) d->early_until_us = time_after(now_us, d->config.early_us);
    for (uint32_t i = 0; i < d->count; i++) {
        struct entry *e = &d->entry[i];
        if (!lasted || e->own || e->outcome == OUTCOME_SELF) continue;
        try_end(d, e, now_us);
        e->failures = 0;
        e->next_us = 0;
        e->outcome = OUTCOME_NONE;
    }
    alone_since(d, now_us);
}

void discovery_links(struct discovery *d, uint64_t now_us, uint32_t count)
{
    uint32_t before = d->links;
    d->links = count;
    if (before == 0 && count > 0) links_came(d, now_us);
    if (before > 0 && count == 0) links_went(d, now_us);
    discovery_tick(d, now_us);
}

void discovery_unreachable(struct discovery *d, uint64_t now_us, const char *address, int err)
{
    struct entry *e = entry_find(d, address);
    if (e == NULL || !e->trying) return;
    e->outcome = err == ERR_CLOSED ? OUTCOME_REFUSED : err == ERR_NOT_FOUND ? OUTCOME_NAME : OUTCOME_SILENT;
    try_end(d, e, now_us);
    discovery_tick(d, now_us);
}

void discovery_refused(struct discovery *d, uint64_t now_us, const char *address, int err)
{
    struct entry *e = entry_find(d, address);
    if (e == NULL && err == ERR_SELF && !address_has_name(address)) { /* one of a name's addresses */
        discovery_own(d, address);
        return;
    }
    if (e == NULL) return;
    e->outcome = err == ERR_SELF ? OUTCOME_SELF : err == ERR_VERSION ? OUTCOME_VERSION : OUTCOME_CLUSTER;
    if (err == ERR_SELF && e->by_name) return; /* the try goes on: it is resolved again meanwhile */
    uint64_t wait_us = err == ERR_SELF ? d->config.self_us : d->config.backoff_max_us;
    try_end(d, e, now_us);
    if (e->next_us < time_after(now_us, wait_us)) e->next_us = time_after(now_us, wait_us);
    discovery_tick(d, now_us);
}

uint64_t discovery_deadline_us(const struct discovery *d)
{
    if (d->links == 0 && d->alone_us == TIME_NEVER) return 0; /* the first tick */
    uint64_t next_us = d->links > 0 ? d->again_us : d->count > 0 ? d->say_us : TIME_NEVER;
    bool full = d->trying == DISCOVERY_DIAL_MAX;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct entry *e = &d->entry[i];
        bool waits = d->links == 0 && !e->trying && !e->own && !full;
        if ((e->trying || waits) && e->next_us < next_us) next_us = e->next_us;
    }
    return next_us;
}

uint32_t discovery_wanted(const struct discovery *d, const char *address[DISCOVERY_DIAL_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->count; i++)
        if (d->entry[i].trying) address[count++] = d->entry[i].address;
    CHECK(count == d->trying && count <= DISCOVERY_DIAL_MAX);
    return count;
}

/* -- in words -------------------------------------------------------------------------------------- */

static const char *outcome_text(const struct entry *e)
{
    switch (e->outcome) {
    case OUTCOME_NONE:
        return e->trying ? "is being tried" : "waits for its turn";
    case OUTCOME_REFUSED:
        return "refuses connections (nobody listens there)";
    case OUTCOME_SILENT:
        return "does not answer";
    case OUTCOME_NAME:
        return "does not resolve";
    case OUTCOME_SELF:
        return e->by_name ? "stands for nobody but ourselves yet" : "is ourselves";
    case OUTCOME_CLUSTER:
        return "belongs to another cluster or experiment";
    case OUTCOME_VERSION:
        return "speaks another version of the protocol";
    }
    UNREACHABLE();
}

static size_t append_entry(const struct entry *e, uint64_t now_us, char *out, size_t size, bool first)
{
    int wrote = snprintf(out, size, "%s%s %s", first ? ": " : "; ", e->address, outcome_text(e));
    size_t used = wrote < 0 ? 0 : (size_t)wrote;
    if (used >= size) return size - 1;
    if (!e->trying && e->next_us > now_us && e->next_us != TIME_NEVER)
        wrote =
            snprintf(out + used, size - used, ", next try in %.0f s", (double)(e->next_us - now_us) * 1e-6);
    else
        wrote =
            snprintf(out + used, size - used, "%s", e->outcome == OUTCOME_NONE ? "" : ", being tried again");
    used += wrote < 0 ? 0 : (size_t)wrote;
    return used < size ? used : size - 1;
}

const char *discovery_why(const struct discovery *d, uint64_t now_us, char out[DISCOVERY_WHY_MAX])
{
    out[0] = '\0';
    if (d->links > 0) return out;
    uint64_t alone_us = d->alone_us == TIME_NEVER || now_us < d->alone_us ? 0 : now_us - d->alone_us;
    int wrote = snprintf(out, DISCOVERY_WHY_MAX, "no link for %.0f s", (double)alone_us * 1e-6);
    size_t used = wrote < 0 ? 0 : (size_t)wrote;
    uint32_t told = 0, more = 0;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct entry *e = &d->entry[i];
        if (e->own) continue;
        if (told == WHY_ENTRY_MAX) {
            more++;
            continue;
        }
        used += append_entry(e, now_us, out + used, DISCOVERY_WHY_MAX - used, told == 0);
        told++;
    }
    if (told == 0)
        snprintf(out + used, DISCOVERY_WHY_MAX - used, ": nobody to dial is known; others may dial us");
    else if (more > 0)
        snprintf(out + used, DISCOVERY_WHY_MAX - used, "; %u more", more);
    return out;
}

int discovery_verdict(const struct discovery *d, struct err_text *why)
{
    const struct entry *one = NULL;
    if (d->ever_linked) return 0;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct entry *e = &d->entry[i];
        if (e->own || (e->outcome == OUTCOME_SELF && !e->by_name)) continue;
        if (e->outcome != OUTCOME_CLUSTER && e->outcome != OUTCOME_VERSION) return 0;
        if (one == NULL && e->source == DISCOVERY_SEED) one = e;
    }
    if (one == NULL) return 0;
    return err_set(why, one->outcome == OUTCOME_CLUSTER ? ERR_CLUSTER : ERR_VERSION, "--join: %s %s",
                   one->address, outcome_text(one));
}

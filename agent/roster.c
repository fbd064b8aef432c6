/* The list of members: one sorted array of our own over a borrowed, shared one. */
#include "agent/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void roster_init(struct roster *r, uint32_t expected, const struct wire_member *known, uint32_t known_count)
{
    CHECK(expected >= 1 && expected <= NODE_COUNT_MAX);
    CHECK(known_count <= expected);
    for (uint32_t i = 1; i < known_count; i++) CHECK(known[i - 1].id < known[i].id);
    *r = (struct roster){
        .expected = expected, .known = known, .known_count = known_count, .total = known_count};
}

void roster_deinit(struct roster *r)
{
    free(r->member);
    *r = (struct roster){0};
}

/* Position of the first entry whose id is not below `id`. */
static uint32_t member_position(const struct wire_member *member, uint32_t count, node_id id)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (member[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct wire_member *member_find(const struct wire_member *member, uint32_t count, node_id id)
{
    uint32_t at = member_position(member, count, id);
    return at < count && member[at].id == id ? &member[at] : NULL;
}

const struct wire_member *roster_find(const struct roster *r, node_id id)
{
    const struct wire_member *own = member_find(r->member, r->count, id);
    return own != NULL ? own : member_find(r->known, r->known_count, id);
}

/* Our own entry of m->id, made a copy of m when there was none. */
static struct wire_member *roster_entry(struct roster *r, const struct wire_member *m)
{
    uint32_t at = member_position(r->member, r->count, m->id);
    if (at < r->count && r->member[at].id == m->id) return &r->member[at];
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 8 : 2 * r->capacity;
        r->member = mem_resize(r->member, r->capacity, sizeof *r->member);
    }
    memmove(&r->member[at + 1], &r->member[at], (r->count - at) * sizeof *r->member);
    r->member[at] = *m;
    r->count++;
    return &r->member[at];
}

static bool roster_add(struct roster *r, const struct wire_member *m)
{
    if (r->total == r->expected) return false;
    roster_entry(r, m);
    r->total++;
    return true;
}

static void roster_replace(struct roster *r, const struct wire_member *old, const struct wire_member *m)
{
    struct wire_member merged = *m;
    if (merged.address[0] == '\0') memcpy(merged.address, old->address, sizeof merged.address);
    if (old->tag[0] != '\0')
        memcpy(merged.tag, old->tag, sizeof merged.tag); /* for as long as it is a member */
    *roster_entry(r, &merged) = merged;
}

bool roster_learn(struct roster *r, const struct wire_member *m)
{
    const struct wire_member *old = roster_find(r, m->id);
    if (old == NULL) return roster_add(r, m);
    bool newer = m->boot > old->boot;
    bool fills = m->boot == old->boot && old->address[0] == '\0' && m->address[0] != '\0';
    if (newer || fills) roster_replace(r, old, m);
    return newer || fills;
}

bool roster_tag(struct roster *r, node_id id, const char *tag)
{
    const struct wire_member *old = roster_find(r, id);
    if (old == NULL || tag[0] == '\0' || old->tag[0] != '\0') return false;
    struct wire_member tagged = *old;
    snprintf(tagged.tag, sizeof tagged.tag, "%s", tag);
    *roster_entry(r, &tagged) = tagged;
    return true;
}

bool roster_tagged(const struct roster *r)
{
    for (uint32_t i = 0; i < r->total; i++)
        if (roster_at(r, i)->tag[0] == '\0') return false;
    return roster_complete(r);
}

bool roster_meet(struct roster *r, const struct wire_member *m)
{
    const struct wire_member *old = roster_find(r, m->id);
    if (old == NULL) return roster_add(r, m);
    if (m->boot == old->boot && (m->address[0] == '\0' || strcmp(m->address, old->address) == 0))
        return false;
    roster_replace(r, old, m);
    return true;
}

bool roster_complete(const struct roster *r)
{
    return r->total == r->expected;
}

const struct wire_member *roster_at(const struct roster *r, uint32_t at)
{
    CHECK(at < r->total);
    if (r->known_count == 0) return &r->member[at];
    if (r->known_count == r->total) return roster_find(r, r->known[at].id);
    uint32_t own = 0, known = 0;
    for (;; at--) {
        bool take_own =
            known == r->known_count || (own < r->count && r->member[own].id <= r->known[known].id);
        bool same = take_own && known < r->known_count && r->member[own].id == r->known[known].id;
        const struct wire_member *m = take_own ? &r->member[own] : &r->known[known];
        if (at == 0) return m;
        own += take_own;
        known += !take_own || same;
    }
}

rank_t roster_rank(const struct roster *r, node_id id)
{
    if (!roster_complete(r) || roster_find(r, id) == NULL) return RANK_NONE;
    uint32_t below = member_position(r->known, r->known_count, id);
    uint32_t own_below = member_position(r->member, r->count, id);
    if (r->known_count == r->total) return below; /* our own entries only shadow known ones */
    for (uint32_t i = 0; i < own_below; i++)
        below += member_find(r->known, r->known_count, r->member[i].id) == NULL;
    return below;
}

uint64_t roster_fingerprint(const struct roster *r)
{
    /* FNV-1a over the ids, eight bytes at a time, with a final mix (splitmix64). */
    uint64_t hash = 0xcbf29ce484222325u ^ r->total;
    for (uint32_t i = 0; i < r->total; i++) {
        const struct wire_member *m = roster_at(r, i);
        hash = (hash ^ m->id) * 0x100000001b3u;
        for (const char *t = m->tag; *t != '\0'; t++) hash = (hash ^ (uint8_t)*t) * 0x100000001b3u;
    }
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
    return hash ^ (hash >> 31);
}

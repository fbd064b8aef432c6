/* The table of places: claims in one array by id, and for each place who holds it by them. A claim that changes
 * costs one walk over the claims for each place it concerns. */
#include "agent/node/places.h"

#include <stdlib.h>
#include <string.h>

#include "agent/node/node.h"
#include "base/check.h"
#include "base/limits.h"

#define CLAIM_AHEAD_MAX (86400ull * 1000000u * BOOT_UNITS_PER_US)

void places_init(struct places *p, uint32_t count, const struct member *fixed)
{
    CHECK(count >= 1 && count <= NODE_COUNT_MAX);
    *p = (struct places){.count = count, .fixed = fixed};
    if (fixed == NULL) p->place = mem_new_zero(count, sizeof *p->place);
    for (uint32_t i = 1; fixed != NULL && i < count; i++) CHECK(fixed[i - 1].id < fixed[i].id);
}

void places_deinit(struct places *p)
{
    free(p->place);
    free(p->claim);
    *p = (struct places){0};
}

/* -- claims ------------------------------------------------------------------------------------ */

/* Position of the first claim whose id is not below `id`. */
static uint32_t claim_position(const struct places *p, node_id id)
{
    uint32_t low = 0, high = p->claim_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->claim[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct place_claim *claim_find(const struct places *p, node_id id)
{
    uint32_t at = claim_position(p, id);
    return at < p->claim_count && p->claim[at].id == id ? &p->claim[at] : NULL;
}

static struct place_claim *claim_entry(struct places *p, node_id id)
{
    uint32_t at = claim_position(p, id);
    if (at < p->claim_count && p->claim[at].id == id) return &p->claim[at];
    if (p->claim_count == p->capacity) {
        p->capacity = p->capacity == 0 ? 8 : 2 * p->capacity;
        p->claim = mem_resize(p->claim, p->capacity, sizeof *p->claim);
    }
    memmove(&p->claim[at + 1], &p->claim[at], (p->claim_count - at) * sizeof *p->claim);
    p->claim_count++;
    p->claim[at] = (struct place_claim){.id = id, .place = RANK_NONE};
    return &p->claim[at];
}

static struct place_claim claim_of(const struct places *p, const struct member *m, uint64_t now)
{
    struct place_claim c = {.id = m->id, .place = RANK_NONE};
    if (m->meta[META_PHASE] == NODE_KEEPING + 1) return c;
    c.living = m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
    uint64_t place = m->meta[META_PLACE], claimed = m->meta[META_CLAIMED];
    bool ahead = claimed > now && claimed - now > CLAIM_AHEAD_MAX;
    if (place == 0 || place > p->count || claimed == 0 || ahead) return c;
    c.place = (rank_t)(place - 1);
    c.claimed = claimed;
    return c;
}

/* -- places ------------------------------------------------------------------------------------ */

/* Living before dead; of the living the earlier claim, of the dead the later one; then the smaller id. */
static bool claim_beats(const struct place_claim *a, const struct place_claim *b)
{
    if (a->living != b->living) return a->living;
    if (a->claimed != b->claimed) return a->living ? a->claimed < b->claimed : a->claimed > b->claimed;
    return a->id < b->id;
}

/* Returns true when the place has changed. */
static bool place_refresh(struct places *p, rank_t place)
{
    if (place == RANK_NONE) return false;
    const struct place_claim *best = NULL;
    for (uint32_t i = 0; i < p->claim_count; i++) {
        const struct place_claim *c = &p->claim[i];
        if (c->place == place && (best == NULL || claim_beats(c, best))) best = c;
    }
    struct place now = {.state = PLACE_VACANT};
    if (best != NULL) now = (struct place){best->living ? PLACE_HELD : PLACE_DESERTED, best->id};
    struct place *was = &p->place[place];
    bool changed = was->state != now.state || was->holder != now.holder;
    *was = now;
    return changed;
}

bool places_learn(struct places *p, const struct member *m, uint64_t now)
{
    CHECK(p->fixed == NULL);
    struct place_claim *c = claim_entry(p, m->id);
    struct place_claim old = *c;
    *c = claim_of(p, m, now);
    p->living += c->living;
    p->living -= old.living;
    rank_t place = c->place;
    bool changed = place_refresh(p, place);
    if (old.place != place && place_refresh(p, old.place)) changed = true;
    return changed;
}

bool places_forget(struct places *p, node_id id)
{
    CHECK(p->fixed == NULL);
    struct place_claim *c = claim_find(p, id);
    if (c == NULL) return false;
    rank_t place = c->place;
    p->living -= c->living;
    memmove(c, c + 1, (size_t)(&p->claim[p->claim_count] - (c + 1)) * sizeof *c);
    p->claim_count--;
    return place_refresh(p, place);
}

static rank_t fixed_place(const struct places *p, node_id id)
{
    uint32_t low = 0, high = p->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->fixed[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->count && p->fixed[low].id == id ? low : RANK_NONE;
}

rank_t places_of(const struct places *p, node_id id)
{
    if (p->fixed != NULL) return fixed_place(p, id);
    const struct place_claim *c = claim_find(p, id);
    if (c == NULL || c->place == RANK_NONE || p->place[c->place].state != PLACE_HELD) return RANK_NONE;
    return p->place[c->place].holder == id ? c->place : RANK_NONE;
}

bool places_holder(const struct places *p, rank_t place, node_id *id)
{
    CHECK(place < p->count);
    if (p->fixed == NULL && p->place[place].state != PLACE_HELD) return false;
    *id = p->fixed != NULL ? p->fixed[place].id : p->place[place].holder;
    return true;
}

enum place_state places_state(const struct places *p, rank_t place)
{
    CHECK(place < p->count);
    return p->fixed != NULL ? PLACE_HELD : p->place[place].state;
}

uint32_t places_held(const struct places *p)
{
    uint32_t held = 0;
    for (rank_t r = 0; r < p->count; r++) held += places_state(p, r) == PLACE_HELD;
    return held;
}

/* The place at position `index` of those in the given state. */
static rank_t place_at(const struct places *p, enum place_state state, uint32_t *index)
{
    for (rank_t r = 0; r < p->count; r++) {
        if (p->place[r].state != state) continue;
        if (*index == 0) return r;
        --*index;
    }
    return RANK_NONE;
}

rank_t places_choose(const struct places *p, node_id id, rank_t wanted)
{
    CHECK(p->fixed == NULL);
    if (wanted < p->count && p->place[wanted].state != PLACE_HELD) return wanted;
    uint32_t index = 0; /* among the living without a place */
    for (uint32_t i = 0; i < p->claim_count && p->claim[i].id < id; i++)
        index += p->claim[i].living && places_of(p, p->claim[i].id) == RANK_NONE;
    rank_t place = place_at(p, PLACE_VACANT, &index);
    return place != RANK_NONE ? place : place_at(p, PLACE_DESERTED, &index);
}

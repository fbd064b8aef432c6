/* What fetching and giving share, see transfer/internal.h. Pure.
 *
 * Failures
 *  - an unknown kind, a field that the kind does not name: state_msg_is_plain is false.
 *  - a chunk size that is 0, no multiple of 4, too large, or makes too many chunks: ERR_PROTO. */
#include <stdlib.h>

#include <xxhash.h>

#include "agent/transfer/internal.h"
#include "base/check.h"
#include "base/limits.h"

/* -- actions ----------------------------------------------------------------------------------- */

static struct transfer_action *append(struct transfer_actions *acts)
{
    if (acts->count == acts->capacity) {
        acts->capacity = acts->capacity == 0 ? 16 : 2 * acts->capacity;
        acts->item = mem_resize(acts->item, acts->capacity, sizeof *acts->item);
    }
    struct transfer_action *a = &acts->item[acts->count++];
    *a = (struct transfer_action){0};
    return a;
}

struct state_msg *transfer_send(struct transfer_actions *acts, node_id to, enum state_kind kind)
{
    struct transfer_action *a = append(acts);
    a->kind = TRANSFER_SEND;
    a->to = to;
    a->msg.kind = kind;
    return &a->msg;
}

void transfer_finish(struct transfer_actions *acts)
{
    append(acts)->kind = TRANSFER_DONE;
}

void transfer_actions_clear(struct transfer_actions *acts)
{
    for (size_t i = 0; i < acts->count; i++) blob_unref(acts->item[i].msg.body);
    acts->count = 0;
}

void transfer_actions_deinit(struct transfer_actions *acts)
{
    transfer_actions_clear(acts);
    free(acts->item);
    *acts = (struct transfer_actions){0};
}

/* -- messages ---------------------------------------------------------------------------------- */

enum {
    HAS_SNAPSHOT = 1,
    HAS_SIZE = 2,
    HAS_CHUNK_SIZE = 4,
    HAS_PROGRESS = 8,
    HAS_FIRST = 16,
    HAS_COUNT = 32,
    HAS_HASH = 64,
    HAS_WAIT = 128,
    HAS_BODY = 256,
};

static const unsigned named[] = {
    [STATE_ASK] = 0,
    [STATE_OFFER] = HAS_SNAPSHOT | HAS_SIZE | HAS_CHUNK_SIZE | HAS_PROGRESS,
    [STATE_GET] = HAS_SNAPSHOT | HAS_FIRST | HAS_COUNT,
    [STATE_CHUNK] = HAS_SNAPSHOT | HAS_FIRST | HAS_HASH | HAS_BODY,
    [STATE_BUSY] = HAS_WAIT,
    [STATE_GONE] = HAS_SNAPSHOT,
    [STATE_DONE] = HAS_SNAPSHOT,
};

static unsigned present(const struct state_msg *m)
{
    return (m->snapshot != 0 ? HAS_SNAPSHOT : 0u) | (m->size != 0 ? HAS_SIZE : 0u) |
           (m->chunk_size != 0 ? HAS_CHUNK_SIZE : 0u) | (m->progress != 0 ? HAS_PROGRESS : 0u) |
           (m->first != 0 ? HAS_FIRST : 0u) | (m->count != 0 ? HAS_COUNT : 0u) |
           (m->hash != 0 ? HAS_HASH : 0u) | (m->wait_us != 0 ? HAS_WAIT : 0u) |
           (m->body != NULL ? HAS_BODY : 0u);
}

bool state_msg_is_plain(const struct state_msg *m)
{
    unsigned kind = (unsigned)m->kind;
    return kind >= STATE_ASK && kind <= STATE_DONE && (present(m) & ~named[kind]) == 0;
}

/* -- chunks ------------------------------------------------------------------------------------ */

int chunk_grid_set(struct chunk_grid *g, size_t size, uint64_t chunk_size)
{
    if (chunk_size == 0 || chunk_size % sizeof(float) != 0 || chunk_size > TRANSFER_CHUNK_MAX)
        return ERR_PROTO;
    uint64_t count = (size + chunk_size - 1) / chunk_size;
    if (count == 0 || count > TRANSFER_CHUNK_COUNT_MAX) return ERR_PROTO;
    *g = (struct chunk_grid){size, (size_t)chunk_size, (uint32_t)count};
    return 0;
}

size_t chunk_grid_bytes(const struct chunk_grid *g, uint32_t chunk)
{
    CHECK(chunk < g->count);
    size_t left = g->size - chunk_grid_offset(g, chunk);
    return left < g->chunk_size ? left : g->chunk_size;
}

uint64_t chunk_hash(const struct blob *body, uint64_t snapshot, uint64_t chunk)
{
    return XXH3_64bits_withSeed(body->data, body->size, snapshot + chunk);
}

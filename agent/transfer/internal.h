/* What the two machines of transfer.h share: actions, the shape of messages, and how a model is cut. */
#ifndef GADABOUT_AGENT_TRANSFER_INTERNAL_H
#define GADABOUT_AGENT_TRANSFER_INTERNAL_H

#include "agent/transfer/transfer.h"

/* A model of `size` bytes in `count` chunks of chunk_size; the last one may be smaller. */
struct chunk_grid {
    size_t size, chunk_size;
    uint32_t count;
};

/* ERR_PROTO when these numbers cannot be of a model of `size` bytes, or are beyond limits.h. */
int chunk_grid_set(struct chunk_grid *g, size_t size, uint64_t chunk_size);
size_t chunk_grid_bytes(const struct chunk_grid *g, uint32_t chunk);

static inline size_t chunk_grid_offset(const struct chunk_grid *g, uint32_t chunk)
{
    return (size_t)chunk * g->chunk_size;
}

/* Of a chunk at its place: the same bytes elsewhere, or of another snapshot, have another hash. */
uint64_t chunk_hash(const struct blob *body, uint64_t snapshot, uint64_t chunk);

/* Whether the kind is known and everything is 0 that it does not name. */
bool state_msg_is_plain(const struct state_msg *m);

/* Appends an empty action; the caller fills in the rest. Valid until the next append. */
struct state_msg *transfer_send(struct transfer_actions *acts, node_id to, enum state_kind kind);
void transfer_finish(struct transfer_actions *acts);

#endif

/* A model that was frozen to be given away: one copy in blobs of a chunk each, so that sending copies nothing. */
#ifndef GADABOUT_AGENT_TRANSFER_SNAPSHOT_H
#define GADABOUT_AGENT_TRANSFER_SNAPSHOT_H

#include "agent/transfer/internal.h"

struct snapshot {
    uint64_t id; /* 0 = none */
    uint64_t progress;
    uint64_t made_us;
    uint64_t unused_us; /* since when nobody uses it */
    uint32_t users;
    struct blob **chunk; /* (count) */
    uint64_t *hash;      /* (count) valid where hashed */
    uint8_t *hashed;     /* (count) */
    uint32_t count;
};

/* Copies x (grid->size bytes). snapshot_hash hashes a chunk at its first use. */
void snapshot_make(struct snapshot *s, const struct chunk_grid *grid, uint64_t id, const float *x,
                   uint64_t progress, uint64_t now_us);
void snapshot_drop(struct snapshot *s);
uint64_t snapshot_hash(struct snapshot *s, uint32_t chunk);

#endif

/* A model that is given away in blobs of a chunk each. A chunk is copied out of the model when it is first sent, and is
 * then the same for everybody who uses the snapshot: offering copies nothing, so that no message waits behind the copy
 * of a whole model, and of what other donors give no copy is made. Chunks may thus be of different moments, as they
 * are when they come from different donors. */
#ifndef GADABOUT_AGENT_TRANSFER_SNAPSHOT_H
#define GADABOUT_AGENT_TRANSFER_SNAPSHOT_H

#include "agent/transfer/internal.h"

struct snapshot {
    uint64_t id; /* 0 = none */
    uint64_t progress;
    uint64_t made_us;
    uint64_t unused_us; /* since when nobody uses it */
    uint32_t users;
    struct blob **chunk; /* (count) NULL = not sent yet */
    uint64_t *hash;      /* (count) valid where there is a chunk */
    uint32_t count;
};

void snapshot_make(struct snapshot *s, const struct chunk_grid *grid, uint64_t id, uint64_t progress,
                   uint64_t now_us);
void snapshot_drop(struct snapshot *s);

/* The chunk, borrowed, and its hash. The first time it is copied out of x (grid->size bytes). */
struct blob *snapshot_chunk(struct snapshot *s, const struct chunk_grid *grid, uint32_t chunk, const float *x,
                            uint64_t *hash);

#endif

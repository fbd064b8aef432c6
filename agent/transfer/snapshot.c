/* The frozen model, see transfer/snapshot.h. Pure. */
#include "agent/transfer/snapshot.h"

#include <stdlib.h>

#include "base/check.h"

void snapshot_make(struct snapshot *s, const struct chunk_grid *grid, uint64_t id, uint64_t progress,
                   uint64_t now_us)
{
    CHECK(s->id == 0 && id != 0);
    *s = (struct snapshot){
        .id = id, .progress = progress, .made_us = now_us, .unused_us = now_us, .count = grid->count};
    s->chunk = mem_new_zero(grid->count, sizeof *s->chunk);
    s->hash = mem_new(grid->count, sizeof *s->hash);
}

void snapshot_drop(struct snapshot *s)
{
    for (uint32_t i = 0; i < s->count; i++) blob_unref(s->chunk[i]);
    free(s->chunk);
    free(s->hash);
    *s = (struct snapshot){0};
}

struct blob *snapshot_chunk(struct snapshot *s, const struct chunk_grid *grid, uint32_t chunk, const float *x,
                            uint64_t *hash)
{
    CHECK(chunk < s->count);
    if (s->chunk[chunk] == NULL) {
        s->chunk[chunk] =
            blob_copy((const uint8_t *)x + chunk_grid_offset(grid, chunk), chunk_grid_bytes(grid, chunk));
        s->hash[chunk] = chunk_hash(s->chunk[chunk], s->id, chunk);
    }
    *hash = s->hash[chunk];
    return s->chunk[chunk];
}

/* The frozen model, see transfer/snapshot.h. Pure. Hashes are made when a chunk is first sent: with several donors
 * each gives only its share. */
#include "agent/transfer/snapshot.h"

#include <stdlib.h>

#include "base/check.h"

void snapshot_make(struct snapshot *s, const struct chunk_grid *grid, uint64_t id, const float *x,
                   uint64_t progress, uint64_t now_us)
{
    CHECK(s->id == 0 && id != 0);
    *s = (struct snapshot){
        .id = id, .progress = progress, .made_us = now_us, .unused_us = now_us, .count = grid->count};
    s->chunk = mem_new(grid->count, sizeof *s->chunk);
    s->hash = mem_new(grid->count, sizeof *s->hash);
    s->hashed = mem_new_zero(grid->count, 1);
    for (uint32_t i = 0; i < grid->count; i++)
        s->chunk[i] = blob_copy((const uint8_t *)x + chunk_grid_offset(grid, i), chunk_grid_bytes(grid, i));
}

void snapshot_drop(struct snapshot *s)
{
    for (uint32_t i = 0; i < s->count; i++) blob_unref(s->chunk[i]);
    free(s->chunk);
    free(s->hash);
    free(s->hashed);
    *s = (struct snapshot){0};
}

uint64_t snapshot_hash(struct snapshot *s, uint32_t chunk)
{
    CHECK(chunk < s->count);
    if (!s->hashed[chunk]) {
        s->hash[chunk] = chunk_hash(s->chunk[chunk], s->id, chunk);
        s->hashed[chunk] = 1;
    }
    return s->hash[chunk];
}

/* One checkpoint file: its bytes from a checkpoint, and a checkpoint from its bytes. Little-endian.
 *
 *    0   8  magic "gadabCKP"
 *    8   4  u32 format version (1)
 *   12   4  u32 count of sections
 *   16   8  XXH3-64 of bytes 0..15: these 24 bytes are the same in all versions
 *   24  16  shape
 *   40   8  u64 generation, from 1
 *   48   8  u64 id
 *   56   8  u64 boot
 *   64   8  u64 size of the file
 *   72  24  for each section: u32 kind, u32 0, u64 size, u64 XXH3-64 of its bytes; kinds ascend
 *        8  XXH3-64 of all before it
 *           the sections, in order, without gaps
 *       32  SHA-256 of all before it
 *
 * Sections: 1 counters (u64 incarnation, claimed, steps, dim; u32 place, u32 0), 2 model (dim float32), 3 trainer,
 * 4 method (both as their makers wrote them; absent = none), 5 addresses (each u16 length and text; absent = none).
 * Private to checkpoint*.c, doctor/state.c and their tests. */
#ifndef GADABOUT_AGENT_STATE_CHECKPOINT_FILE_H
#define GADABOUT_AGENT_STATE_CHECKPOINT_FILE_H

#include "agent/simulation/trace_hash.h"
#include "agent/state/checkpoint.h"
#include "agent/state/disk.h"

#define CHECKPOINT_VERSION 1u
#define CHECKPOINT_PROLOGUE_SIZE 24u
#define CHECKPOINT_FIXED_SIZE 72u /* of the header, without its table */
#define CHECKPOINT_ENTRY_SIZE 24u
#define CHECKPOINT_SECTION_COUNT 5u
#define CHECKPOINT_HEADER_MAX (CHECKPOINT_FIXED_SIZE + CHECKPOINT_SECTION_COUNT * CHECKPOINT_ENTRY_SIZE + 8u)
#define CHECKPOINT_COUNTERS_SIZE 40u
#define CHECKPOINT_PIECE_MAX (CHECKPOINT_SECTION_COUNT + 2u)

/* What disk_replace writes; model, trainer and method are borrowed from the checkpoint. */
struct checkpoint_image {
    uint8_t header[CHECKPOINT_HEADER_MAX];
    uint8_t counters[CHECKPOINT_COUNTERS_SIZE];
    uint8_t sha256[TRACE_HASH_SIZE];
    uint8_t *book; /* owned; NULL = no addresses */
    struct disk_piece piece[CHECKPOINT_PIECE_MAX];
    size_t piece_count;
};

void checkpoint_image_init(struct checkpoint_image *image, const struct checkpoint *c);
void checkpoint_image_deinit(struct checkpoint_image *image);

/* A file that is being read. */
struct checkpoint_reading {
    const struct disk *disk;
    int fd;
    uint64_t size;
    uint32_t section_count;
    uint8_t header[CHECKPOINT_HEADER_MAX];
    size_t header_size;
    uint8_t shape[16];
    uint64_t generation;
    node_id id;
    uint64_t boot;
};

/* Opens `name` and checks the header; no more than it is read. why receives a reason without the file's name.
 * Errors: ERR_NOT_FOUND, ERR_IO, ERR_FORMAT (also for a link or FIFO), ERR_VERSION of a later format. Only after
 * 0 there is something to close. */
int checkpoint_reading_open(const struct disk *disk, int folder, const char *name,
                            struct checkpoint_reading *out, struct err_text *why);
void checkpoint_reading_close(struct checkpoint_reading *r);

/* Reads and checks the rest: owned in *out. Errors: ERR_IO, ERR_FORMAT; nothing to release then. */
int checkpoint_reading_take(struct checkpoint_reading *r, struct checkpoint *out, struct err_text *why);

#endif

/* What an agent keeps on disk, so that it comes back as itself: identity, address book, model, trainer, counters.
 *
 * A state directory holds `lock` (one agent at a time), `identity` (the node id), `checkpoint-0` and `checkpoint-1`:
 * generations written in turn, so that the previous one stays whole while the next is written.
 * A file is a header (magic, format version, shape hash, generation, section table), the sections, each with its
 * XXH3 hash, and the SHA-256 of all before it; little-endian.
 *
 * Normal course
 *  - save: temporary file in the same directory, write, fsync, rename onto the older generation, fsync of the
 *    directory. Loading takes the greatest valid generation.
 * Failure courses
 *  - an error of write or fsync: that file is given up and removed, the good generation stays; the caller tries
 *    again later on a new file, never fsync again on the old descriptor.
 *  - magic, hash, length, generation, owner or shape wrong, a symbolic link, a FIFO: refused with the reason, the
 *    other generation is tried; the damaged file is left as it is until a save takes its place.
 *  - a later format version: refused, never overwritten, whatever the other file is.
 *  - the directory is locked: ERR_BUSY naming the process.
 */
#ifndef GADABOUT_AGENT_STATE_CHECKPOINT_H
#define GADABOUT_AGENT_STATE_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"

struct checkpoint {
    uint8_t shape[16]; /* of the experiment: what must match (experiment_cluster_id) */
    node_id id;
    uint64_t boot;        /* of the process that saved */
    uint64_t incarnation; /* greatest one used */
    uint64_t generation;  /* set by save */
    rank_t place;         /* RANK_NONE */
    uint64_t claimed;     /* when the place was claimed, in boot units */
    uint64_t steps;       /* local steps that the model has behind it, over all lives */
    size_t dim;
    struct blob *model;                /* dim float32 */
    struct blob *trainer;              /* the trainer's state (trainer.h), NULL = none */
    struct blob *method;               /* the algorithm's state, NULL = none */
    char (*address)[ADDRESS_TEXT_MAX]; /* (address_count) book of addresses, best first; owned */
    uint32_t address_count;
};

void checkpoint_deinit(struct checkpoint *c); /* drops references and the book */

struct state_dir; /* an open, locked state directory */

/* Makes the directory when it is not there. Errors: ERR_BUSY, ERR_IO with why naming --state. Returns owned. */
int state_dir_open(const char *path, struct state_dir **out, struct err_text *why);
void state_dir_close(struct state_dir *s);
const char *state_dir_path(const struct state_dir *s);

/* The node id kept there; draws and keeps `fresh` when there is none yet. */
int state_dir_identity(struct state_dir *s, node_id fresh, node_id *id, struct err_text *why);

/* Blocks for fsync: call from a thread of its own, or when no loop runs. c is borrowed; generation is set.
 * Errors: ERR_IO with why, the previous generation is untouched; ERR_VERSION. Not by two threads at once. */
int checkpoint_save(struct state_dir *s, struct checkpoint *c, struct err_text *why);

/* Returns 0 with an owned checkpoint; ERR_NOT_FOUND when there is none; ERR_CLUSTER when it is of another
 * experiment (why says so); ERR_FORMAT when no generation is whole; ERR_VERSION when a file is of a later format;
 * ERR_IO when none could be read. note: "" or what was wrong with the one not used. A checkpoint with another id
 * than that of state_dir_identity counts as damaged. */
int checkpoint_load(struct state_dir *s, const uint8_t shape[16], struct checkpoint *out,
                    struct err_text *note, struct err_text *why);

#endif

/* What the files of the state directory share: state_dir.c (directory, lock, identity), checkpoint.c (generations),
 * checkpoint_file.c (one file). Private to them and their tests; see checkpoint.h for the whole. */
#ifndef GADABOUT_AGENT_STATE_STATE_DIR_H
#define GADABOUT_AGENT_STATE_STATE_DIR_H

#include <stdbool.h>

#include "agent/state/checkpoint.h"
#include "agent/state/disk.h"

#define CHECKPOINT_SLOT_COUNT 2u

struct state_dir {
    struct disk disk;
    char *path; /* owned */
    int folder, lock;
    bool has_identity;
    node_id id;
    bool surveyed;                     /* what follows is known */
    bool later[CHECKPOINT_SLOT_COUNT]; /* of a later format: not ours to overwrite */
    uint32_t good_slot;                /* the last generation that is whole; CHECKPOINT_SLOT_COUNT = none */
    uint64_t generation;               /* greatest one seen */
};

/* state_dir_open on a disk of the caller's choice; the directory must be there. disk is copied. */
int state_dir_attach(const struct disk *disk, const char *path, struct state_dir **out, struct err_text *why);

/* The name of a checkpoint file by slot: static. */
const char *checkpoint_name(uint32_t slot);

#endif

/* A disk in memory that forgets: what was not synced may be lost, kept or torn when the machine stops. Any call
 * can be the last one, or fail. One folder, named "state". */
#ifndef GADABOUT_TESTS_UNIT_DISK_FAKE_H
#define GADABOUT_TESTS_UNIT_DISK_FAKE_H

#include <stdbool.h>

#include "agent/state/disk.h"
#include "base/prng.h"

enum { FAKE_ENTRY_MAX = 8, FAKE_FD_MAX = 16, FAKE_INODE_MAX = 64, FAKE_CHANGE_MAX = 64 };

enum fake_call {
    FAKE_OPEN,
    FAKE_WRITE,
    FAKE_SYNC,
    FAKE_SYNC_FOLDER,
    FAKE_CLOSE,
    FAKE_RENAME,
    FAKE_READ,
    FAKE_CALL_COUNT
};

/* Planted: what a careless writer would do. */
enum fake_bug { FAKE_BUG_NONE, FAKE_BUG_NO_FOLDER_SYNC, FAKE_BUG_RENAME_FIRST, FAKE_BUG_NO_SYNC };

/* What happens to that which was not synced. */
enum fake_crash {
    FAKE_CRASH_ALL_LOST,
    FAKE_CRASH_NAMES_KEPT, /* all changes of names last, no content does: sizes do, filled with zeros */
    FAKE_CRASH_RANDOM,     /* any of the changes of names, any bytes */
};

struct fake_inode {
    uint8_t *now, *kept;
    size_t now_size, kept_size;
    bool lost; /* a sync has failed: what is in memory counts as written, and is not */
};

struct fake_entry {
    char name[DISK_NAME_MAX];
    int inode; /* -1 = free */
};

struct fake_change {
    char from[DISK_NAME_MAX]; /* "" = none: the name that goes */
    char to[DISK_NAME_MAX];   /* "" = none: the name that comes, of inode */
    int inode;
};

struct fake_fd {
    bool open, folder, failed; /* failed: its sync has */
    int inode;
    size_t at;
};

struct disk_fake {
    struct disk disk; /* to be given away */
    struct fake_inode inode[FAKE_INODE_MAX];
    int inode_count;
    struct fake_entry now[FAKE_ENTRY_MAX], kept[FAKE_ENTRY_MAX];
    struct fake_change change[FAKE_CHANGE_MAX]; /* since the folder was synced */
    size_t change_count;
    struct fake_fd fd[FAKE_FD_MAX];
    int locked; /* descriptor; -1 */
    uint64_t calls, stop_after;
    enum fake_call failing; /* the failing_nth next one of this kind (from 1; 0 = none), with `reason` */
    uint32_t failing_nth;
    int reason;
    size_t write_max; /* bytes of one write */
    enum fake_bug bug;
    int deferred;          /* FAKE_BUG_RENAME_FIRST: inode whose sync waits; -1 */
    uint32_t synced_again; /* syncs of a descriptor whose sync had failed: must stay 0 */
};

void disk_fake_init(struct disk_fake *f);
void disk_fake_deinit(struct disk_fake *f);

/* The machine stops and starts: descriptors and locks are gone. p only for FAKE_CRASH_RANDOM. */
void disk_fake_crash(struct disk_fake *f, enum fake_crash kind, struct prng *p);

/* The content of a file as it is now, NULL = none; borrowed. And another one in its place. */
const uint8_t *disk_fake_file(const struct disk_fake *f, const char *name, size_t *size);
void disk_fake_put(struct disk_fake *f, const char *name, const void *bytes, size_t size);
void disk_fake_remove(struct disk_fake *f, const char *name);

uint32_t disk_fake_open_count(const struct disk_fake *f); /* descriptors that nobody has closed */

#endif

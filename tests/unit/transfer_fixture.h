/* One newcomer and a few donors in virtual time: a network in memory between the two machines of transfer.h, and the
 * laws that every fetch must keep, whatever happens:
 *  - the newcomer speaks only to donors whose link is up;
 *  - a message to the newcomer changes x in at most one chunk, the one it brings, and no chunk twice;
 *  - at the end every chunk is, bit by bit, what its snapshot was when that chunk was first sent. */
#ifndef GADABOUT_TESTS_UNIT_TRANSFER_FIXTURE_H
#define GADABOUT_TESTS_UNIT_TRANSFER_FIXTURE_H

#include "agent/transfer/transfer.h"
#include "base/prng.h"

#define RIG_DONOR_MAX 6u
#define RIG_NEWCOMER 1u
#define RIG_CHUNK 256u /* bytes */
#define RIG_SNAPSHOT_US 30000000u
#define RIG_SILENCE_US 2000000u

/* Faults of the implementation that the laws must find. They stand between the machines and the net. */
enum rig_bug {
    BUG_NONE,
    BUG_HASH_NOT_CHECKED,
    BUG_COUNTED_TWICE,   /* a second copy of a chunk counts as another chunk */
    BUG_DEATH_IGNORED,   /* the newcomer does not hear that a donor's link went */
    BUG_OVERWRITTEN,     /* a second copy of a chunk is written over the first */
    BUG_SNAPSHOT_SHARED, /* the donor sends what it has now, again and again */
};

struct rig_donor {
    node_id id;
    struct donor *machine;
    float *x; /* (dim) its model; changes with every message */
    bool linked;
    bool keeper;                          /* it does not train */
    uint64_t chunk_us;                    /* the link carries one chunk in that time */
    uint64_t delay_us;                    /* of a message without a body */
    uint64_t free_us;                     /* when its link has carried what it was given */
    uint32_t in_flight;                   /* chunks */
    uint32_t capacity;                    /* of the link; 0 = no limit */
    bool full;                            /* refused one */
    uint64_t mute_from_us, mute_until_us; /* what it says and hears meanwhile comes later */
    uint32_t sent;                        /* chunks on the way or arrived */
};

struct rig_message {
    uint64_t at_us, order;
    node_id from, to;
    struct state_msg msg;
};

struct rig_snapshot {
    uint64_t id;
    float *x;   /* (dim) what its chunks are, where sent */
    bool *sent; /* (chunk_count) */
};

struct rig {
    uint64_t now_us, order;
    size_t dim;
    uint32_t chunk_count;
    struct fetch *fetch;
    float *x, *before;
    uint64_t *source;  /* (chunk_count) snapshot that the chunk was first taken from, 0 = none */
    uint32_t *copies;  /* (chunk_count) how often x changed there */
    uint32_t *arrived; /* (chunk_count) good copies delivered */
    struct rig_donor donor[RIG_DONOR_MAX];
    uint32_t donor_count;
    struct rig_message *message;
    size_t message_count, message_capacity;
    struct rig_snapshot *snapshot;
    size_t snapshot_count;
    struct transfer_actions acts;
    struct prng p;
    enum rig_bug bug;
    uint32_t delivered;  /* chunks that reached the newcomer */
    uint32_t corrupt_at; /* 1-based: this one arrives damaged; 0 = none */
    uint32_t kill_at;    /* 1-based: when it arrives its donor dies for good; 0 = none */
    bool tolerant;       /* a donor may refuse a word of the newcomer; the link is then made anew */
    uint32_t proto_errors;
    bool bug_done;       /* of BUG_COUNTED_TWICE */
    uint32_t gets, busy; /* messages seen */
    char wrong[160];     /* the first law that was broken; "" = none */
};

/* floats: size of the model. Each donor is linked and carries a chunk in 1 ms. */
struct rig *rig_new(size_t floats, uint32_t donor_count, uint64_t seed);
void rig_free(struct rig *r);
void rig_up(struct rig *r, uint32_t donor);
void rig_down(struct rig *r, uint32_t donor);

/* A message that nobody sent. Returns what the machine says of it. */
int rig_tell_newcomer(struct rig *r, struct rig_donor *d, const struct state_msg *msg);
int rig_tell_donor(struct rig *r, struct rig_donor *d, const struct state_msg *msg);

/* Runs until the fetch is done (true), nothing more can happen, or the time is over. */
bool rig_run(struct rig *r, uint64_t until_us);

/* After rig_run returned true: NULL, or which law is broken. */
const char *rig_verdict(struct rig *r);
uint32_t rig_arrived_twice(const struct rig *r);

#endif

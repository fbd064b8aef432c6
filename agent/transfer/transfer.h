/* The model for a node that joins while the others train: fetched in chunks from several donors at once.
 * Two pure machines; the node carries their messages (STATE in wire.h, chunks as bodies in the bulk lane).
 *
 * Donors' models differ a little while they train. Each donor freezes a chunk of its own when it is first asked for it
 * (one copy, shared by all who ask within snapshot_us); the newcomer may take different chunks from different donors:
 * each coordinate is one that some donor had, as in block-wise gossip, and the method goes on from there.
 *
 * Normal course
 *  - the newcomer ASKs up to donor_max linked members that train; each answers OFFER: snapshot, bytes, chunk size,
 *    progress. It GETs chunks, `window` ahead per donor; a CHUNK comes with its XXH3 hash, which is checked before it
 *    is copied into place. All chunks there: DONE; donors forget the snapshot when nobody uses it for snapshot_us.
 *  - the last chunks are asked of a second donor when the first one takes long; the second copy is dropped.
 * Failure courses
 *  - who trains cannot be asked, is busy or silent: of the keepers that are linked (members that only hold a model)
 *    those with most progress are asked.
 *  - a donor's link goes, or it is silent for silence_us: its open chunks go to the others; what has come stays.
 *  - a wrong hash, an index not asked for, another size, NaN: ERR_PROTO; the node closes that link, as above.
 *  - a donor is BUSY (rate or newcomers over its cap; answers ASK): asked again after the time it names, others
 *    meanwhile.
 *  - no donor is left: the fetch waits; new ones may come (DONOR_UP). The owner may give up.
 *  - a snapshot was dropped at the donor (GONE; answers GET): it is asked again. ASK begins anew: the donor forgets
 *    what this newcomer asked before and was not sent.
 *  - chunks may still come when the fetch is over and freed: the node drops them.
 */
#ifndef GADABOUT_AGENT_TRANSFER_TRANSFER_H
#define GADABOUT_AGENT_TRANSFER_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/err.h"
#include "base/ids.h"

enum state_kind { STATE_ASK = 1, STATE_OFFER, STATE_GET, STATE_CHUNK, STATE_BUSY, STATE_GONE, STATE_DONE };

/* One message. Fields that a kind does not name are 0. */
struct state_msg {
    enum state_kind kind;
    uint64_t snapshot;   /* OFFER, GET, CHUNK, GONE, DONE: drawn by the donor, not 0 (DONE: 0 = none yet) */
    uint64_t size;       /* OFFER: bytes of the model */
    uint64_t chunk_size; /* OFFER */
    uint64_t progress;   /* OFFER: steps that the donor has done */
    uint64_t first;      /* GET, CHUNK: index of the chunk */
    uint64_t count;      /* GET: chunks from `first` on */
    uint64_t hash;     /* CHUNK: XXH3 (64 bits) of the body, seeded with snapshot + first: its place counts */
    uint64_t wait_us;  /* BUSY: when to ask again */
    struct blob *body; /* CHUNK: as an action, a reference of the action's; in an event, borrowed */
};

enum transfer_action_kind {
    TRANSFER_SEND, /* to, msg */
    TRANSFER_DONE, /* fetch: all is in place */
};

struct transfer_action {
    enum transfer_action_kind kind;
    node_id to;
    struct state_msg msg;
};

struct transfer_actions {
    struct transfer_action *item;
    size_t count, capacity;
};

void transfer_actions_clear(struct transfer_actions *acts); /* drops body references, keeps memory */
void transfer_actions_deinit(struct transfer_actions *acts);

/* -- fetching ---------------------------------------------------------------------------------- */

struct fetch_config {
    float *x; /* (dim) filled in place; borrowed until fetch_free */
    size_t dim;
    uint32_t donor_max;  /* 3 */
    uint32_t window;     /* chunks asked ahead of each donor, 4; at most TRANSFER_AHEAD_MAX */
    uint64_t silence_us; /* 2 s */
    uint64_t seed;
    /* answers to an earlier fetch may be under way: what was not asked for is dropped, no error */
    bool again;
};

struct fetch;

struct fetch *fetch_new(const struct fetch_config *config); /* returns owned */
void fetch_free(struct fetch *f);
/* A linked member trains (again: its progress is news). At most LINK_COUNT_MAX are remembered. */
void fetch_donor_up(struct fetch *f, node_id id, uint64_t progress, uint64_t now_us,
                    struct transfer_actions *acts);
/* The same of a member that only keeps a model. */
void fetch_keeper_up(struct fetch *f, node_id id, uint64_t progress, uint64_t now_us,
                     struct transfer_actions *acts);
/* The link is gone, or the member trains no more. */
void fetch_donor_down(struct fetch *f, node_id id, uint64_t now_us, struct transfer_actions *acts);
int fetch_message(struct fetch *f, node_id from, const struct state_msg *msg, uint64_t now_us,
                  struct transfer_actions *acts); /* 0 or ERR_PROTO */
void fetch_deadline(struct fetch *f, uint64_t now_us, struct transfer_actions *acts);
uint64_t fetch_deadline_us(const struct fetch *f);
bool fetch_done(const struct fetch *f);
bool fetch_awaits(const struct fetch *f, node_id id); /* an answer of this donor's may be on its way */
void fetch_progress(const struct fetch *f, uint64_t *chunks, uint64_t *of, uint32_t *donors);
uint64_t fetch_steps(const struct fetch *f); /* once done: the greatest progress among donors that gave */

/* -- giving ------------------------------------------------------------------------------------ */

struct donor_config {
    size_t dim;
    size_t chunk_size;     /* bytes, a multiple of 4; 1 MiB */
    uint32_t newcomer_max; /* served at once, 4 */
    uint64_t rate_bytes_s; /* to all newcomers together; 0 = no limit */
    uint64_t snapshot_us;  /* 30 s */
    uint32_t queue_max; /* chunks that one newcomer asked for and was not sent: more is ERR_PROTO; 8, at least
                            * TRANSFER_AHEAD_MAX */
    uint64_t seed;
};

struct donor;

struct donor *donor_new(const struct donor_config *config); /* returns owned */
void donor_free(struct donor *d);

/* x (dim) is our model, looked at within the call only: a chunk is copied out of it when it is first sent. progress:
 * steps done so far. */
int donor_message(struct donor *d, node_id from, const struct state_msg *msg, const float *x,
                  uint64_t progress, uint64_t now_us, struct transfer_actions *acts); /* 0 or ERR_PROTO */
void donor_writable(struct donor *d, node_id to, const float *x, uint64_t now_us,
                    struct transfer_actions *acts); /* room in the link */

/* The link refused this chunk (ERR_FULL), which is told before the next event: again when writable. */
void donor_full(struct donor *d, node_id to, uint64_t chunk);

void donor_link_down(struct donor *d, node_id id);
void donor_deadline(struct donor *d, const float *x, uint64_t now_us, struct transfer_actions *acts);
uint64_t donor_deadline_us(const struct donor *d);
uint64_t donor_bytes_given(const struct donor *d);
bool donor_serves(const struct donor *d, node_id id); /* it is a newcomer that fetches from us */

#endif

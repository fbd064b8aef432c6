/* What the newcomer knows of the donors, and who is asked for what: the inside of agent/transfer/fetch.c.
 *
 * A donor is IDLE, ASKED, GIVING, RESTING (busy or silent until a time) or USELESS (it cuts its model otherwise).
 * `ahead` is what we wait for from it: at most `window` chunks. `owed` remembers beyond that how often it was asked
 * for each chunk and has not sent it, so that a chunk that comes late, after we gave up on it, is welcome,
 * while one that was never asked for breaks the protocol. */
#ifndef GADABOUT_AGENT_TRANSFER_GIVER_H
#define GADABOUT_AGENT_TRANSFER_GIVER_H

#include "agent/transfer/internal.h"
#include "base/limits.h"

#define THERE UINT8_MAX

enum giver_state { GIVER_IDLE, GIVER_ASKED, GIVER_GIVING, GIVER_RESTING, GIVER_USELESS };

struct ahead {
    uint32_t chunk;
    uint64_t asked_us;
};

struct giver {
    node_id id;
    bool keeper;       /* asked only while nobody who trains can be */
    uint64_t progress; /* as the owner knows it */
    uint64_t offered;  /* that of its snapshot */
    uint64_t lot;      /* drawn: order among equals */
    enum giver_state state;
    bool silent;       /* RESTING: because of silence */
    uint32_t strikes;  /* silences since the last chunk */
    uint32_t asks;     /* not answered yet */
    uint64_t until_us; /* RESTING */
    uint64_t word_us;  /* its last word, or what we asked when nothing was open: silence counts from there */
    uint64_t snapshot; /* 0 = none */
    uint64_t previous; /* the one before: chunks of it may be under way */
    uint8_t *owed;     /* (grid.count), NULL before the first OFFER */
    uint64_t pace_us;  /* of one chunk, exponential mean; 0 = unknown */
    uint64_t arrived_us; /* its last chunk */
    uint32_t ahead_count;
    struct ahead ahead[TRANSFER_AHEAD_MAX];
};

struct fetch {
    struct fetch_config config;
    struct chunk_grid grid; /* count 0 = not known yet */
    uint8_t *state;         /* (grid.count) THERE, or how many donors have it ahead */
    uint32_t there;
    uint32_t cursor; /* no chunk below it is missing and unasked */
    struct giver *giver;
    uint32_t giver_count, giver_capacity;
    uint64_t steps;
    bool done;
};

/* What g has ahead is missing again, unless another has it ahead too. */
void giver_release(struct fetch *f, struct giver *g);
void giver_unqueue(struct fetch *f, struct giver *g, uint32_t chunk); /* g is no longer asked for it */
void giver_rest(struct fetch *f, struct giver *g, bool silent, uint64_t until_us);

struct giver *giver_find(const struct fetch *f, node_id id); /* NULL = unknown */
uint32_t giver_active_count(const struct fetch *f);          /* ASKED or GIVING */

/* When g has nothing to do: the time to ask it for a chunk that another owes; else TIME_NEVER. */
uint64_t giver_second_ask_us(const struct fetch *f, const struct giver *g);

/* Asks whatever may be asked now: idle donors for an offer, all for chunks. After every change. */
void fetch_work(struct fetch *f, uint64_t now_us, struct transfer_actions *acts);

#endif

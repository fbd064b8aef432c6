/* Where to look for others: which addresses are to be dialled while we have no link, and now and then
 * afterwards. A pure state machine: what happened goes in, the set of addresses that are wanted dialled now
 * comes out.
 *
 * Normal course
 *  - without a link: all that are due are wanted, at most DISCOVERY_DIAL_MAX at once: those the user gave
 *    (seeds) before those found on the local network, and these before the book's, in the order in which they
 *    came.
 *  - a link is up: nothing is wanted any more; whoever answered tells of the others.
 *  - seeds, then the book's, are asked again after 10 s, then after twice as long each time, up to 8 min: two
 *    parts of a cluster that started apart find each other so, also when all restart at once and have but
 *    their books. Not those that are living members' addresses (is_member; without it the book is left alone
 *    while linked); a name always, since what it stands for changes. One found on the network is asked at once
 *    unless it is a member.
 * Failure courses
 *  - an address refuses, is silent for try_us, or its name does not resolve: the next try after a jittered
 *    back-off, from 250 ms up to backoff_max_us, or to early_max_us while we have not been alone for early_us: a
 *    seed that is started after those who join it is found within 2 s. A name is so resolved anew at every try.
 *  - a link goes within link_us: as if it had not come, the back-off goes on.
 *  - an address of numbers is our own: not again for self_us. A name that stands for ourselves only, so far:
 *    its try goes on, others may come to stand behind it.
 *  - another cluster, another version: again after backoff_max_us at least; discovery_verdict tells when that
 *    is all there is.
 *  - more addresses than DISCOVERY_ENTRY_MAX: one of the lowest kind with the most failures goes, seeds
 *    never.
 */
#ifndef GADABOUT_NET_DISCOVERY_DISCOVERY_H
#define GADABOUT_NET_DISCOVERY_DISCOVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/trace.h"

#define DISCOVERY_DIAL_MAX 16u
#define DISCOVERY_ENTRY_MAX 512u
#define DISCOVERY_WHY_MAX 512u

enum discovery_source {
    DISCOVERY_SEED,  /* --join, an invitation */
    DISCOVERY_FOUND, /* on the local network */
    DISCOVERY_BOOK,  /* where members were in a former life */
};

struct discovery_config {
    uint64_t try_us;         /* 10 s: how long an address is dialled before others have their turn */
    uint64_t backoff_min_us; /* 250 ms */
    uint64_t backoff_max_us; /* 30 s */
    uint64_t early_us;       /* 30 s: without a link no longer than that, the back-off goes up to early_max_us only */
    uint64_t early_max_us;   /* 2 s */
    uint64_t link_us;        /* 5 s: a link shorter than that was none */
    uint64_t self_us;        /* 10 min */
    uint64_t again_min_us, again_max_us; /* 10 s, 8 min: seeds, while linked */
    uint64_t seed;                       /* of the jitter */
    const struct trace *trace; /* may be NULL; borrowed for life. A line every 30 s without a link */
    /* May be NULL: a living member accepts links at this address. Asked while linked only. */
    bool (*is_member)(void *ctx, const char *address);
    void *ctx;
};

void discovery_defaults(struct discovery_config *c);

struct discovery;

struct discovery *discovery_new(const struct discovery_config *config); /* returns owned */
void discovery_free(struct discovery *d);

/* Whether it is "host:port" or "[v6]:port" that a transport takes: what peers say of themselves need not be. */
bool discovery_takes(const char *address);

/* "host:port". One that is known already keeps its back-off, and the better source. One that is not well
 * formed or has no room is not taken: false. A tick should follow. */
bool discovery_add(struct discovery *d, const char *address, enum discovery_source source);
void discovery_own(struct discovery *d, const char *address); /* we are there ourselves: never dialled */

/* What happened. Each may change what is wanted. */
void discovery_links(struct discovery *d, uint64_t now_us,
                     uint32_t count); /* links up, whoever dialled them */
void discovery_unreachable(struct discovery *d, uint64_t now_us, const char *address,
                           int err);                                                        /* transport.h */
void discovery_refused(struct discovery *d, uint64_t now_us, const char *address, int err); /* transport.h */
void discovery_tick(struct discovery *d, uint64_t now_us);

uint64_t discovery_deadline_us(const struct discovery *d); /* of the next tick; TIME_NEVER */

/* Addresses to be dialled now; what is not among them need not be. Returns the count; borrowed until d is
 * told something or freed. */
uint32_t discovery_wanted(const struct discovery *d, const char *address[DISCOVERY_DIAL_MAX]);

/* In words, as in "no link for 42 s: seed.example:7946 does not resolve, next try in 12 s; 2 more"; "" while
 * linked. */
const char *discovery_why(const struct discovery *d, uint64_t now_us, char out[DISCOVERY_WHY_MAX]);

/* ERR_CLUSTER or ERR_VERSION with why when no link ever came and every address, one given by the user among them, has
 * refused us for that; else 0: who comes back with nothing but an old book waits for those that dial it.
 * Waiting on may still help: they may be started anew. */
int discovery_verdict(const struct discovery *d, struct err_text *why);

#endif

/* How an agent looks for others: discovery, the address book and the multicast search, driven by one timer of
 * the loop. The owner passes on what the transport tells, and carries out `dial` and `undial`. */
#ifndef GADABOUT_AGENT_DAEMON_SEARCH_H
#define GADABOUT_AGENT_DAEMON_SEARCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/state/address_book.h"
#include "net/discovery/discovery.h"
#include "net/transport.h"

struct search_config {
    uv_loop_t *loop;
    const char *const *join; /* addresses given by the user; borrowed during open, as are all texts here */
    uint32_t join_count;
    const char (*saved)[ADDRESS_TEXT_MAX]; /* the book of a former life, best first; may be NULL */
    uint32_t saved_count;
    const char *bound;     /* where we listen: "host:port" */
    const char *advertise; /* NULL = nothing given */
    const char *multicast; /* NULL or "off"; "on"; or "239.x.y.z:port" */
    uint8_t cluster[16];   /* as in the transport's hello */
    node_id id;
    /* times; NULL = the defaults. Its seed, trace, callbacks are ours */
    const struct discovery_config *discovery;
    uint64_t seed;
    const struct trace *trace; /* may be NULL; borrowed for life */

    /* An address is wanted dialled, or no longer. Each pair matches; called from the loop and from the calls
     * below. */
    void (*dial)(void *ctx, const char *address);
    void (*undial)(void *ctx, const char *address);
    bool (*is_member)(void *ctx, const char *address); /* a living member accepts links there; may be NULL */
    void *ctx;
};

struct search;

/* Nothing is dialled before search_start. Errors: those of --multicast. Returns owned. */
int search_open(const struct search_config *config, struct search **out, struct err_text *why);
void search_start(struct search *s);

/* s may be NULL. Nothing is dialled or undialled any more; the memory goes when the loop has closed the
 * handles. */
void search_close(struct search *s);

/* What the transport told. */
void search_up(struct search *s, const struct peer_info *peer);
void search_down(struct search *s);
void search_refused(struct search *s, const char *address, int err);
void search_unreachable(struct search *s, const char *address, int err);

/* What membership told: a living member, or one that is not to be looked for any more. */
void search_heard(struct search *s, node_id id, const char *address);
void search_forget(struct search *s, node_id id);
void search_own(struct search *s, const char *address); /* peers see us there */

/* The book for checkpoint.h, best first; returns the count. */
uint32_t search_addresses(const struct search *s, char out[][ADDRESS_TEXT_MAX], uint32_t max);

/* What we wait for, in words; "" while there is a link. */
const char *search_why(const struct search *s, char out[DISCOVERY_WHY_MAX]);
int search_verdict(const struct search *s, struct err_text *why); /* discovery_verdict */

#endif

/* Finding members on a local network by IPv4 multicast: an option, off by default. */
#ifndef GADABOUT_NET_UV_MULTICAST_H
#define GADABOUT_NET_UV_MULTICAST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/trace.h"

#define MULTICAST_GROUP "239.192.71.66:7946"

struct uv_loop_s;

struct uv_multicast_config {
    const char *group; /* "239.x.y.z:port"; borrowed during open */
    /* numeric address of ours whose network is meant; NULL = the system's choice; borrowed during open */
    const char *interface;
    uint8_t cluster[16];
    node_id id;
    uint16_t port;        /* where we accept links; not 0 */
    uint64_t announce_us; /* 2 s: between two questions while alone */
    uint64_t answer_us;   /* 500 ms: an answer waits a random part of it */
    uint64_t seed;
    const struct trace *trace; /* may be NULL; borrowed for life */
    /* A member of our cluster accepts links at address ("ip:port", borrowed). While we are alone only. */
    void (*on_found)(void *ctx, node_id id, const char *address);
    void *ctx;
};

void uv_multicast_defaults(struct uv_multicast_config *c); /* group and times */

struct uv_multicast;

/* Joins the group; we are alone until told otherwise. Errors: ERR_USAGE or ERR_IO naming --multicast. Returns
 * owned. */
int uv_multicast_open(struct uv_loop_s *loop, const struct uv_multicast_config *config,
                      struct uv_multicast **out, struct err_text *why);

/* Alone: asks each announce_us, and tells whom it hears. Otherwise: only answers those who ask. */
void uv_multicast_alone(struct uv_multicast *m, bool alone);

/* m may be NULL. The memory goes when the loop has closed its handles; no callback comes after this. */
void uv_multicast_close(struct uv_multicast *m);

struct uv_multicast_totals {
    uint64_t asked, answered;
    uint64_t found;
    uint64_t dropped; /* malformed, of another version or cluster */
};
void uv_multicast_totals(const struct uv_multicast *m, struct uv_multicast_totals *out);

#endif

/* What a link to a peer can do. Implemented by uv/tcp.c (real) and sim/net.c (simulated); one contract
 * suite, tests/contract/, runs against both.
 *
 * Contract (each clause has a test):
 *  1. Messages of one lane of one link arrive whole, in order, at most once, until the link goes down.
 *     Control messages may overtake bulk messages (a bulk body is cut into chunks), never the reverse
 *     order within a lane.
 *  2. When a link goes down, messages already accepted may be lost: a tail of each lane, never a hole.
 *  3. send() never calls back and never blocks. ERR_FULL: the link's queue is over its byte limit, nothing
 *     was taken. A message is always accepted when its lane is empty, however large its body.
 *  4. After ERR_FULL exactly one on_writable() follows, or on_down().
 *  5. head bytes given to on_message() are borrowed until it returns; body may be kept with blob_ref.
 *  6. Callbacks come only from the loop, never from inside send(), dial(), disconnect() or close().
 *  7. on_down() comes exactly once per on_up(); afterwards the id is dead and send() gives ERR_NO_LINK.
 *  8. At most one link per peer (node id): when both sides dial, the link dialled by the smaller id stays.
 *     A peer that comes back with a greater boot id replaces its old link (down, then up); a smaller one has
 *     to wait until the old link is silent or gone.
 *  9. dial() keeps trying, with jittered back-off, until undial() or close(); reaching oneself or another
 *     cluster, or another process with our id, is reported by on_refused() and ends the tries for that address.
 *     Another dial() of it begins anew.
 *     A name stands for all the addresses that it resolves to, again and again: each is tried, a refusal ends the
 *     tries for that one, and is reported under the name when all there are have refused, else under its numbers.
 *     A try that fails for now is told by on_unreachable(), one at a time; the tries go on.
 * 10. A frame over the limit, a bad checksum, a bad hello or silence ends the link with a reason, never
 *     the process.
 * 11. close() is asynchronous; on_closed() is the last callback ever; then memory may be freed.
 * 12. inject() puts a fault (fault.h) on our side of the links with one peer or all, those that come later too,
 *     from the next turn of the loop until its time is over or heal(). What clauses 1 to 11 promise holds
 *     meanwhile: a fault delays, stops or ends links as a network would, it never changes a message or its order.
 * 13. Under drop and half_open both ends see silence and a link to the peer cannot be made; a drop that is healed
 *     before the link is given up has lost nothing. A link that lost bytes to half_open is reset at its end.
 * 14. A corrupted link ends with DOWN_PROTOCOL at the receiver; after reset both ends are down, and while it
 *     lasts no link stays up.
 * 15. faults() tells what each rule did, of ended ones too, until newer ones need the room.
 */
#ifndef GADABOUT_NET_TRANSPORT_H
#define GADABOUT_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/trace.h"

/* Slot and generation: a stale id is an error code, not a crash. */
struct link_id {
    uint32_t slot;
    uint32_t generation;
};

/* Who is at the other end, from its hello. */
struct peer_info {
    node_id id;
    uint64_t boot;                  /* new at every start of the process */
    char address[ADDRESS_TEXT_MAX]; /* "host:port" where it accepts links; as advertised, or what we
                                          * see joined with its listening port; "" when it only dials */
    bool dialled;                   /* we dialled it */
    bool relayed;                   /* the link goes through another node (net/relay/relay.h), .. */
    node_id relayer;                /* .. this one */
};

enum down_reason {
    DOWN_CLOSED,   /* the peer said goodbye */
    DOWN_RESET,    /* reset or unexpected end of stream */
    DOWN_SILENT,   /* no word for silence_us, or the kernel gave up */
    DOWN_PROTOCOL, /* malformed frame, checksum, limit: see the log */
    DOWN_REPLACED, /* a newer link to the same peer took over */
    DOWN_LOCAL,    /* we asked for it */
};

const char *down_reason_name(enum down_reason why);

/* What our hello says, and the limits of every link. */
struct transport_config {
    node_id id;
    uint64_t boot;
    uint8_t cluster[16];   /* both ends must agree: a hash of everything that must match */
    uint64_t cluster_name; /* and of the cluster's name, told apart so that people hear what differs */
    char advertise[ADDRESS_TEXT_MAX]; /* "" = let peers use what they see */
    size_t body_size_max;             /* bytes; larger announced bodies end the link before any allocation */
    uint64_t heartbeat_us;            /* interval of pings on a quiet link */
    uint64_t silence_us;              /* no byte for that long: the link is down */
    uint64_t hello_us;                /* deadline of the hello */
    uint64_t redial_min_us, redial_max_us;
    uint64_t seed;             /* of the back-off jitter */
    const struct trace *trace; /* may be NULL; borrowed for life */
    /* May be NULL. For a visitor that asks: whether a living member has this id, and where ("" = it is not known). */
    bool (*find_member)(void *ctx, node_id id, char address[ADDRESS_TEXT_MAX]);
    void *ctx; /* of find_member */
};

struct link_stats {
    uint64_t bytes_sent, bytes_received; /* on the wire, framing included */
    uint64_t messages_sent, messages_received;
    uint64_t round_trip_us; /* last measured; 0 = none yet */
    uint64_t last_word_us;  /* time of the last byte from the peer */
    size_t queue_bytes;
};

struct transport_totals {
    uint64_t bytes_sent, bytes_received;
    uint32_t links; /* up now */
    uint64_t links_lost;
};

struct transport;
struct fault_rule;
struct fault_status;

struct transport_ops {
    /* head (1..MESSAGE_HEAD_MAX bytes) and body (may be NULL, <= body_size_max): takes a reference on each
     * on success, none on failure. Returns 0, ERR_FULL, ERR_NO_LINK. */
    int (*send)(struct transport *t, struct link_id to, enum lane lane, struct blob *head, struct blob *body);
    int (*dial)(struct transport *t, const char *address); /* 0, or ERR_USAGE when it cannot be an address */
    void (*undial)(struct transport *t, const char *address); /* existing links stay */
    void (*disconnect)(struct transport *t, struct link_id link, enum down_reason why);
    int (*stats)(const struct transport *t, struct link_id link,
                 struct link_stats *out); /* 0 or ERR_NO_LINK */
    void (*totals)(const struct transport *t, struct transport_totals *out);
    void (*close)(struct transport *t);
    /* The id of the fault, >= 1; ERR_USAGE when the rule does not hold together, ERR_LIMIT when there are too
     * many. */
    int (*inject)(struct transport *t, const struct fault_rule *rule);
    int (*heal)(struct transport *t, int id); /* 0 = all; returns how many ended */
    /* Copies the newest `max`, in order of id; returns how many. */
    uint32_t (*faults)(const struct transport *t, struct fault_status *out, uint32_t max);
};

struct transport {
    const struct transport_ops *ops;
};

/* Implemented by the owner (agent/node/node.c). peer and reason texts are borrowed. */
struct transport_sink {
    void *ctx;
    void (*on_up)(void *ctx, struct link_id link, const struct peer_info *peer);
    void (*on_down)(void *ctx, struct link_id link, enum down_reason why);
    void (*on_message)(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t head_size,
                       struct blob *body);
    void (*on_writable)(void *ctx, struct link_id link);
    /* err is ERR_SELF, ERR_CLUSTER or ERR_VERSION */
    void (*on_refused)(void *ctx, const char *address, int err, const char *reason);
    /* A try to reach a dialled address failed: ERR_CLOSED when its host refuses connections (nobody listens),
     * ERR_NOT_FOUND when the name does not resolve, else ERR_TIMEOUT. May be NULL. */
    void (*on_unreachable)(void *ctx, const char *address, int err);
    void (*on_closed)(void *ctx);
};

#endif

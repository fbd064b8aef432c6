/* Links through a common neighbour, for two members that can only dial out: a transport over a transport, and a
 * host over a host for its deadlines. Pure: it runs over TCP and over the simulator alike.
 *
 * It is the sink of the inner transport and host, and a transport and host for its owner. Links of the inner
 * transport pass through untouched. dial() of relay_address(ID) asks linked neighbours, one after the other,
 * whether they have a link to that member; the first that has becomes the relayer of a link between the two. To
 * the owner that is a link as any other (contract of transport.h), with these differences:
 *  - peer_info.address is ""; the id's slot is RELAY_SLOT or greater.
 *  - heads are at most RELAY_HEAD_MAX bytes (checked).
 *  - on_unreachable() says ERR_TIMEOUT: that nobody relays says nothing about the member.
 *  - a direct link to the peer replaces it (clause 8), and none is made while there is one.
 *  - injected faults (clauses 12 to 15) that name its peer are applied to its messages at our end; those for every
 *    peer, or for the relayer, to the real link that it goes over. stats have no round trip; totals count its bytes
 *    there.
 *
 * The node is also a relayer for others: between two of its own real links, never further, for RELAY_PAIR_MAX pairs;
 * who is refused for that asks its next neighbour. It holds at most a window per lane and direction (limits.h); credit
 * goes back as messages go on, at config.bytes_s for all pairs together: what is over that waits, and nothing is
 * dropped. */
#ifndef GADABOUT_NET_RELAY_RELAY_H
#define GADABOUT_NET_RELAY_RELAY_H

#include "net/host.h"
#include "net/transport.h"

#define RELAY_SLOT 0x80000000u

struct relay;

struct relay_config {
    node_id id;    /* as the inner transport's */
    uint64_t boot; /* likewise */
    uint64_t seed; /* of calls and of the back-off's jitter */
    /* that we pass on for others, all together; 0 = we relay for nobody; <= RELAY_RATE_MAX */
    uint64_t bytes_s;
    uint64_t answer_us;                    /* a neighbour that was asked has this long */
    uint64_t redial_min_us, redial_max_us; /* between tries */
    const struct trace *trace;             /* may be NULL; borrowed for life */
};

#define RELAY_RATE_MAX (1ull << 40)

/* Returns owned; config and sinks are copied. Order of use: give the inner transport and host the sinks
 * relay_inner_sink and relay_inner_host_sink, attach both, then give the owner relay_transport and relay_host.
 * Without a host yet nothing may be dialled. */
struct relay *relay_new(const struct relay_config *config, const struct transport_sink *sink,
                        const struct host_sink *host_sink);
struct transport_sink relay_inner_sink(struct relay *r);
struct host_sink relay_inner_host_sink(struct relay *r);
void relay_attach_transport(struct relay *r, struct transport *inner); /* borrowed until relay_free */
void relay_attach_host(struct relay *r, struct host *inner);           /* likewise */
struct transport *relay_transport(struct relay *r);                    /* borrowed from r */
struct host *relay_host(struct relay *r);                              /* likewise */
void relay_free(struct relay *r); /* when the inner transport will call no more; may be NULL */

/* What dial() takes for the member `id`. No host and port reads like it. */
void relay_address(node_id id, char out[ADDRESS_TEXT_MAX]);
bool relay_address_parse(const char *address, node_id *out); /* false: it is another address */

/* In which order neighbours are asked for a link to `target`, the smallest first. It is the same at all nodes, so that
 * who can only dial out does well to keep links to the first of all members. */
uint64_t relay_order(node_id target, node_id neighbour);

/* True, and through whom, when the link is a relayed one that is up. */
bool relay_through(const struct relay *r, struct link_id link, node_id *relayer);

/* What we do for others. */
struct relay_totals {
    uint32_t pairs;           /* now */
    uint64_t messages, bytes; /* passed on, heads and bodies */
    uint64_t refused;         /* calls, since RELAY_PAIR_MAX pairs were there already */
};
void relay_totals(const struct relay *r, struct relay_totals *out);

#endif

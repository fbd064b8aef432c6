/* One link as a machine: bytes in, bytes out, messages between. No socket and no clock; the owner moves the
 * bytes and says what time it is (microseconds, monotonic).
 *
 * Use: after every conn_received drain conn_next; after every call that may queue something, move what
 * conn_peek_send shows to the socket and say so with conn_sent; call conn_tick at conn_deadline_us.
 * No function calls back. The machine never waits for more than one frame before it checks its limits. */
#ifndef GADABOUT_NET_LINK_CONN_H
#define GADABOUT_NET_LINK_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "net/link/hello.h"
#include "net/link/outbox.h"
#include "net/transport.h"

struct conn;

enum conn_event {
    CONN_NONE,    /* more bytes are needed */
    CONN_GREETED, /* the peer's hello is good: answer with conn_accept or conn_close, then go on */
    CONN_MESSAGE,
};

struct conn_message {
    enum lane lane;
    const uint8_t *head; /* borrowed until the next call of conn_next, conn_recv_space or conn_free */
    size_t head_size;
    struct blob *body; /* as head; blob_ref to keep; NULL when the message has none */
};

/* Returns owned. config is borrowed for life; port is where we accept links (0 = nowhere). A dialler's hello
 * is ready to be sent at once, an acceptor's after conn_accept. */
struct conn *conn_new(const struct transport_config *config, bool dialler, uint16_t port, uint64_t now_us);
void conn_free(struct conn *c);

/* The address under which we see the peer, for a visitor that wants to know. Borrowed during the call. */
void conn_saw(struct conn *c, const char *remote);

/* Counts the link's open bodies in a budget that links share; borrowed until conn_free. Before any byte. */
struct inbox_budget;
void conn_share_budget(struct conn *c, struct inbox_budget *budget);

/* Where the next bytes go; often the body itself. Returns its size, > 0 once conn_next said CONN_NONE. */
size_t conn_recv_space(struct conn *c, uint8_t **to);
void conn_received(struct conn *c, size_t bytes, uint64_t now_us);

/* Returns an enum conn_event, or the error that ended the link (see conn_error), again and again. */
int conn_next(struct conn *c, struct conn_message *out);

/* After CONN_GREETED: this is the link to that peer. */
void conn_accept(struct conn *c);
const struct hello *conn_peer(const struct conn *c); /* valid from CONN_GREETED on */

/* As transport send: 0, ERR_FULL, or ERR_NO_LINK when the link is not open. */
int conn_send(struct conn *c, enum lane lane, struct blob *head, struct blob *body);
bool conn_take_writable(struct conn *c); /* true once after ERR_FULL, when a refused message would fit */

/* Fills iov with bytes to send; they stay where they are until conn_sent or conn_free. */
size_t conn_peek_send(struct conn *c, struct iov *iov, size_t max);
void conn_sent(struct conn *c, size_t bytes);

/* Says goodbye with the reason `err` (ERR_CLOSED, ERR_SELF, ERR_DUPLICATE, ...) and ends the link; later
 * bytes are thrown away. With `flush` everything queued goes before the goodbye, otherwise it is forgotten.
 */
void conn_close(struct conn *c, int err, bool flush);
bool conn_drained(const struct conn *c); /* nothing is left to send */

/* Pings when due; checks silence and the hello's deadline. Returns 0 or the error that ended the link. */
int conn_tick(struct conn *c, uint64_t now_us);
uint64_t conn_deadline_us(const struct conn *c);

/* 0 while alive, else why it ended: ERR_CLOSED (a goodbye), ERR_PROTO, ERR_LIMIT, ERR_CHECKSUM, ERR_VERSION,
 * ERR_CLUSTER, ERR_SELF, ERR_DUPLICATE, ERR_TIMEOUT. conn_why says it in one line, borrowed from c. */
int conn_error(const struct conn *c);
const char *conn_why(const struct conn *c);

/* After ERR_DUPLICATE said by the peer: the id it gave with its goodbye. Returns false if it gave none. */
bool conn_duplicate_of(const struct conn *c, node_id *id);

void conn_stats(const struct conn *c, struct link_stats *out);

#endif

/* One TCP transport in a loop of its own, whose peer is the test with a plain socket on loopback. Waits are bounded and
 * on the loop, which must close with 0. A failed assertion ends the test. */
#ifndef GADABOUT_TESTS_CONTRACT_SOCKET_WORLD_H
#define GADABOUT_TESTS_CONTRACT_SOCKET_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "net/link/frame.h"
#include "net/link/hello.h"
#include "net/uv/uv.h"

#define WAIT_MAX_US 20000000u
#define HELLO_US 1000000u

struct world {
    uv_loop_t loop;
    struct transport *transport;
    char address[ADDRESS_TEXT_MAX];
    struct trace trace;
    unsigned ups, downs, messages, bodies, refusals, warnings;
    enum down_reason why;
    struct link_id link;
    struct peer_info peer;
    int refused_err;
    bool closed, control_came_first;
    char warning[512];
    int fd; /* the test's socket */
    uint8_t in[4096];
    size_t in_size;
    bool ended; /* the transport closed the test's socket */
};

/* A transport with this id in w->loop, which is open. Errors: as uv_tcp_new. */
int transport_open(struct world *w, const char *listen, node_id id, struct err_text *why);
void world_open(struct world *w); /* node 5, on a port of its own; no socket of the test's yet */
void world_close(struct world *w);
void turn(struct world *w); /* one turn of the loop; takes what came on the test's socket */

/* The condition may have effects: it is not looked at again once it held. */
#define RUN_UNTIL(w, condition)                                                                              \
    do {                                                                                                     \
        uint64_t run_limit_us = uv_hrtime() / 1000 + WAIT_MAX_US;                                            \
        while (!(condition)) {                                                                               \
            if (uv_hrtime() / 1000 > run_limit_us) fail_msg("not within the limit: %s", #condition);         \
            turn(w);                                                                                         \
        }                                                                                                    \
    } while (0)

/* The test's socket. raw_open connects it, raw_greet says hello as node 77 too, and waits until the link is up. */
int raw_connect(const char *address);
void raw_open(struct world *w);
void raw_send(struct world *w, const void *bytes, size_t size);
void raw_greet(struct world *w);

/* Write a frame, or that of a hello; return its size. */
size_t raw_frame(uint8_t *out, uint8_t type, uint8_t flags, uint64_t value, const void *payload, size_t size);
size_t raw_hello(uint8_t *out, uint16_t version, node_id id, uint8_t cluster, bool dialler);
uint64_t raw_goodbye(const struct world *w); /* the reason of the goodbye among the frames that came, or 0 */

#endif

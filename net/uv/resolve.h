/* Names to addresses, each asked for by a thread of its own that may be left behind: a name's server can hang for half
 * a minute, and neither libuv's pool nor the end of the program is to wait for it.
 *
 * Normal course
 *  - resolver_ask queues a question; at most RESOLVE_AT_ONCE_MAX threads ask. The answer comes from the loop.
 *  - resolver_close: nothing more is told; threads that still wait end by themselves, the last one frees what is
 *    shared.
 * Failure courses
 *  - no thread can be made: the answer is EAI_AGAIN. */
#ifndef GADABOUT_NET_UV_RESOLVE_H
#define GADABOUT_NET_UV_RESOLVE_H

#include "base/limits.h"

#define RESOLVE_AT_ONCE_MAX 4u

struct uv_loop_s;
struct addrinfo;
struct resolver;
struct question;

/* Returns owned, or NULL when there is no descriptor left (libuv's code in *err). */
struct resolver *resolver_new(struct uv_loop_s *loop, int *err);

/* answered() is called once from the loop, unless the question is dropped before: status 0 or a code of getaddrinfo;
 * found is the callee's (freeaddrinfo), NULL unless status is 0. host and port are copied. The question is valid until
 * then. */
struct question *resolver_ask(struct resolver *r, const char *host, const char *port,
                              void (*answered)(void *ctx, int status, struct addrinfo *found), void *ctx);
void resolver_drop(struct resolver *r, struct question *q);

/* Drops all questions (takes r); closed() is called from the loop. */
void resolver_close(struct resolver *r, void (*closed)(void *ctx), void *ctx);

#endif

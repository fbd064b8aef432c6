/* Constructors of the real world: libuv TCP transport and libuv host. The only net/ header of the real
 * side; it does not include uv.h, so that its users need not. */
#ifndef GADABOUT_NET_UV_UV_H
#define GADABOUT_NET_UV_UV_H

#include "base/err.h"
#include "net/host.h"
#include "net/transport.h"

struct uv_loop_s;

/* Listens on `listen` ("127.0.0.1:0", "[::]:7946"); *address receives "host:port" as bound. config is copied.
 * With listen NULL nobody can dial us: no port in the hello, *address is "".
 * Errors: ERR_USAGE for a malformed address, ERR_IO naming --listen, the address and the reason (port in use).
 * Returns owned in *out; call ops->close and free with uv_tcp_free after on_closed. */
int uv_tcp_new(struct uv_loop_s *loop, const char *listen, const struct transport_config *config,
               const struct transport_sink *sink, struct transport **out, char address[ADDRESS_TEXT_MAX],
               struct err_text *why);
void uv_tcp_free(struct transport *t);

/* Owns one timer, one async handle and one compute thread. uv_host_close stops the thread after the running
 * job (wait at most one job) and calls closed(ctx) when the handles are closed; then uv_host_free. */
int uv_host_new(struct uv_loop_s *loop, const struct host_sink *sink, struct host **out,
                struct err_text *why);
void uv_host_close(struct host *h, void (*closed)(void *ctx), void *ctx);
void uv_host_free(struct host *h);

#endif

/* The one line that `gadabout invite` prints and `--join` takes: where members are, and what the newcomer
 * must agree on. "gadabout1:" and base64url without padding of
 *
 *   address count (1), addresses, length of the cluster's name (1), the name, fingerprint (16), XXH32 (4)
 *
 * An address is a byte that says its kind (4, 6 or a name's length + 16), the bytes, and the port (2,
 * big-endian). Two IPv4 addresses make a line of 71 characters. Nothing in it is secret. */
#ifndef GADABOUT_AGENT_CONTROL_INVITE_H
#define GADABOUT_AGENT_CONTROL_INVITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

#define INVITE_ADDRESS_MAX 8u
#define INVITE_CLUSTER_MAX 128u /* bytes of the cluster's name with terminator */
#define INVITE_BYTES_MAX 2304u
#define INVITE_TEXT_MAX 3200u

struct invite {
    char address[INVITE_ADDRESS_MAX][ADDRESS_TEXT_MAX];
    uint32_t address_count;
    char cluster[INVITE_CLUSTER_MAX];
    uint8_t shape[16]; /* experiment_cluster_id: all that members must agree on */
};

/* Whether a text given to --join is meant as one, whole or not: a host may be called gadabout1 as well. */
bool invite_is_meant(const char *text);

/* Errors: ERR_USAGE for an address that nobody could dial, ERR_LIMIT for too long a name of the cluster. */
int invite_encode(const struct invite *in, char out[INVITE_TEXT_MAX], struct err_text *why);

/* Errors: ERR_FORMAT with what is wrong and what to do; out is undefined then. */
int invite_decode(const char *text, struct invite *out, struct err_text *why);

/* 0, or ERR_USAGE naming --join: the invitation is to another experiment than `ours`. */
int invite_check(const uint8_t invited[16], const uint8_t ours[16], struct err_text *why);

/* "3fa4..": the first bytes of a fingerprint, for people. */
const char *invite_fingerprint(const uint8_t shape[16], char out[12]);

#endif

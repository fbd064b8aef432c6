/* SHA-256 over the bytes of a run: two runs with the same hash went through the same events. */
#ifndef GADABOUT_AGENT_SIMULATION_TRACE_HASH_H
#define GADABOUT_AGENT_SIMULATION_TRACE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_HASH_SIZE 32u
#define TRACE_HASH_TEXT 65u /* 64 hexadecimal digits and a terminator */

struct trace_hash;

struct trace_hash *trace_hash_new(void); /* returns owned */
void trace_hash_free(struct trace_hash *h);
void trace_hash_add(struct trace_hash *h, const void *bytes, size_t size);

/* The hash of all bytes so far, in lower case; more may be added afterwards. Returns out. */
const char *trace_hash_text(const struct trace_hash *h, char out[TRACE_HASH_TEXT]);

/* The same as bytes. */
void trace_hash_bytes(const struct trace_hash *h, uint8_t out[TRACE_HASH_SIZE]);

#endif

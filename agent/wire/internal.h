/* What the files of the wire format share: wire.c (heads as a whole, the algorithm's messages), wire/control.c
 * (READY, SWIM, OVERLAY, STATE). Private to them; msgpack's types are named without its header. */
#ifndef GADABOUT_AGENT_WIRE_INTERNAL_H
#define GADABOUT_AGENT_WIRE_INTERNAL_H

#include "agent/wire/wire.h"

struct msgpack_object;
struct msgpack_packer;

enum wire_key {
    KEY_KIND,
    KEY_SEQUENCE,
    KEY_SWIM,
    KEY_ALGO_KIND,
    KEY_FIELDS,
    KEY_BITS,
    KEY_READY,
    KEY_PACKED,
    KEY_RECORDS,
    KEY_OVERLAY,
    KEY_STATE,
    KEY_COUNT
};

#define HEAD_OVERHEAD 64u /* bytes: map, keys, kind, sequence, container headers */
#define INTEGER_MAX 9u    /* bytes of one packed integer */

/* wire.c: a head of at most `capacity` bytes, of kind, sequence and `keys` further ones. */
struct head_writer {
    struct blob *blob;
    size_t capacity;
    struct msgpack_packer *packer; /* borrowed */
};
void head_begin(struct head_writer *w, struct msgpack_packer *packer, size_t capacity, size_t keys,
                enum wire_kind kind, uint64_t sequence);
void head_key(struct head_writer *w, enum wire_key key);
void head_number(struct head_writer *w, uint64_t number);
void head_array(struct head_writer *w, size_t count);
void head_text(struct head_writer *w, const char *text);
struct blob *head_end(const struct head_writer *w); /* returns owned */

/* wire.c: an unsigned integer in low..high; a string of printable ASCII without blanks below room bytes. */
int read_unsigned(const struct msgpack_object *o, enum wire_key key, uint64_t low, uint64_t high,
                  uint64_t *out, struct err_text *why);
int read_text(const struct msgpack_object *o, const char *what, char *out, size_t room, struct err_text *why);

/* wire/control.c: the value of a key into m. */
int read_ready(const struct msgpack_object *o, struct wire_message *m, struct err_text *why);
int read_swim(const struct msgpack_object *o, struct wire_message *m, struct err_text *why);
int read_records(const struct msgpack_object *o, struct wire_message *m, struct err_text *why);
int read_overlay(const struct msgpack_object *o, struct wire_message *m, struct err_text *why);
int read_state(const struct msgpack_object *o, struct wire_message *m, struct err_text *why);

#endif

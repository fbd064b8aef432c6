/* Injected faults: what a transport does to its own links on request, so that users and tests can see how a
 * cluster lives with a bad network, without root. Pure: rules, which of them concern a link, and a lens
 * through which the bytes of one direction of a link are seen. Time comes from outside (microseconds).
 *
 *   drop       nothing gets through and nothing is answered: bytes wait, as in a partition; what is healed
 *              before the link is given up comes late and in order
 *   delay      every byte comes delay +- jitter later; never out of order
 *   limit      so many bytes per second
 *   half_open  as a host that has vanished: what is written is taken and lost, nothing is read; a link that
 *              has lost bytes is reset when the fault ends
 *   reset      links are reset now, and new ones while it lasts
 *   corrupt    a bit is flipped in one byte of n; the frame's checksum ends the link
 *
 * Of several rules of one kind that concern a link the newest counts; rules of different kinds add up. */
#ifndef GADABOUT_NET_FAULT_FAULT_H
#define GADABOUT_NET_FAULT_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"

enum fault_kind { FAULT_DROP, FAULT_DELAY, FAULT_LIMIT, FAULT_HALF_OPEN, FAULT_RESET, FAULT_CORRUPT };
#define FAULT_KIND_COUNT 6u
#define FAULT_TEXT_MAX 192u

enum fault_direction { FAULT_IN = 1, FAULT_OUT = 2, FAULT_BOTH = 3 };

struct fault_rule {
    enum fault_kind kind;
    enum fault_direction direction; /* as seen from the node that has the rule; reset is always both */
    bool any;                       /* with every peer */
    node_id peer;                   /* unless any */
    uint64_t for_us;                /* from now; 0 = until healed */
    uint64_t delay_us, jitter_us;   /* delay: uniform in delay +- jitter, at least 0 */
    uint64_t bytes_s;               /* limit */
    uint64_t one_in;                /* corrupt: one byte in so many, on average */
};

/* Proof that a rule bit. */
struct fault_counts {
    uint64_t bytes_held;      /* drop, half_open: were waiting when the rule or the link ended */
    uint64_t bytes_slowed;    /* delay, limit: went through the line */
    uint64_t bytes_swallowed; /* half_open */
    uint64_t bytes_corrupted;
    uint64_t links_reset;
    uint64_t links_refused; /* drop, half_open: dials and new links that got no answer */
};

/* A rule in force, or one that has ended and is still told of. */
struct fault_status {
    int id; /* >= 1, unique in its transport */
    struct fault_rule rule;
    uint64_t until_us; /* TIME_NEVER = until healed */
    bool ended;
    struct fault_counts counts;
};

/* -- words ------------------------------------------------------------------------------------- */

const char *fault_kind_name(enum fault_kind kind);
int fault_kind_parse(const char *text, enum fault_kind *out);           /* 0 or ERR_USAGE */
const char *fault_direction_name(enum fault_direction direction);       /* in, out, both */
int fault_direction_parse(const char *text, enum fault_direction *out); /* 0 or ERR_USAGE */
#define FAULT_KIND_NAMES "drop, delay, limit, half_open, reset or corrupt"

/* Whether a rule says what it needs and nothing that does not go with its kind. ERR_USAGE with why. */
int fault_rule_check(const struct fault_rule *r, struct err_text *why);
/* "delay of 50 ms +- 10 ms, both ways, with node 3, for 30 s" */
void fault_rule_print(const struct fault_rule *r, char out[FAULT_TEXT_MAX]);

bool fault_has_bitten(const struct fault_counts *c);
void fault_counts_add(struct fault_counts *to, const struct fault_counts *c);
void fault_counts_print(const struct fault_counts *c, char out[FAULT_TEXT_MAX]); /* "12 bytes held, .." */

/* -- rules ------------------------------------------------------------------------------------- */

/* All rules of one transport, in order of their ids. Zeroed = empty. The entries stay where they are until
 * they are forgotten, which happens only to ended ones, when there is no room for a new one. */
struct fault_set {
    struct fault_status **each; /* (count) owned */
    uint32_t count, live;       /* live: not ended */
    int last_id;
};

void fault_set_deinit(struct fault_set *s);
int fault_set_add(struct fault_set *s, const struct fault_rule *r, uint64_t now_us); /* id or ERR_LIMIT */
uint64_t fault_set_next_us(const struct fault_set *s); /* when the next rule ends; TIME_NEVER */

/* Ends one rule whose time is over, or (_heal) one that has this id, 0 = any; borrowed, NULL when there is none
 * any more. Callers repeat until NULL, then look at their links again before they add another rule. */
struct fault_status *fault_set_expire(struct fault_set *s, uint64_t now_us);
struct fault_status *fault_set_heal(struct fault_set *s, int id);

/* Copies the newest `max`, oldest of them first; returns how many. */
uint32_t fault_set_list(const struct fault_set *s, struct fault_status *out, uint32_t max);

/* The rules that concern one direction of a link, by kind; NULL = none. Borrowed from the set. */
struct fault_effect {
    struct fault_status *by[FAULT_KIND_COUNT];
};

/* peer NULL: nobody knows yet who is at the other end, so only rules for any peer count. */
void fault_set_match(const struct fault_set *s, const node_id *peer, enum fault_direction direction,
                     struct fault_effect *out);
bool fault_effect_none(const struct fault_effect *e);
struct fault_status *fault_effect_block(const struct fault_effect *e); /* a drop or half_open, or NULL */

/* -- the lens ---------------------------------------------------------------------------------- */

/* One direction of one link. Bytes are put in as they come and taken out when they are due. */
struct fault_lens;

/* Returns owned, without effect. Everything random in it follows from (seed, index). */
struct fault_lens *fault_lens_new(enum fault_direction direction, uint64_t seed, uint64_t index);
void fault_lens_free(struct fault_lens *l);

/* What it does from now on; the rules are borrowed and counted in until the next call. What waits for a delay
 * that is over is due at once. */
void fault_lens_set(struct fault_lens *l, const struct fault_effect *e);
const struct fault_effect *fault_lens_effect(const struct fault_lens *l);

size_t fault_lens_room(const struct fault_lens *l); /* bytes it takes now; 0 = stop reading */
void fault_lens_put(struct fault_lens *l, const uint8_t *bytes, size_t size, uint64_t now_us); /* <= room */

/* Bytes that are due, in one piece; there may be more behind it. Borrowed until fault_lens_free: a taken piece
 * is overwritten by later puts only. take: the first `size` of them have gone on. */
size_t fault_lens_peek(const struct fault_lens *l, uint64_t now_us, const uint8_t **bytes);
void fault_lens_take(struct fault_lens *l, size_t size);
uint64_t fault_lens_next_us(const struct fault_lens *l); /* of the first byte; TIME_NEVER: none, or blocked */

size_t fault_lens_held(const struct fault_lens *l);
bool fault_lens_torn(const struct fault_lens *l); /* bytes are lost: the stream cannot go on */

#endif

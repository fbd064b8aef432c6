/* Where members were reached, so that a node that comes back finds the cluster though every address it was
 * first given is gone. What nobody could dial is not kept. Pure; kept in checkpoint.h's list of addresses, best first.
 *
 * Best: those that did not fail since they last answered, the latest answer first; then those that failed,
 * the fewest times first; one that was only heard of stands between the two. A member has one address: a new
 * one takes the place of the old one. */
#ifndef GADABOUT_AGENT_STATE_ADDRESS_BOOK_H
#define GADABOUT_AGENT_STATE_ADDRESS_BOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ids.h"
#include "base/limits.h"

#define BOOK_ENTRY_MAX 256u
#define BOOK_ID_NONE UINT64_MAX

struct book_entry {
    node_id id; /* BOOK_ID_NONE = read from disk, and not met since */
    char address[ADDRESS_TEXT_MAX];
    uint64_t answered_us; /* when a link to it was last up; 0 = never in this life */
    uint32_t failures;    /* since then */
    uint64_t rank;        /* ties: earlier read or heard of is better */
};

struct book {
    struct book_entry *entry; /* (count) best first; owned */
    uint32_t count, capacity;
    uint64_t next_rank;
};

void book_init(struct book *b);
void book_deinit(struct book *b);

/* As it was saved, best first; at most BOOK_ENTRY_MAX are taken. The book was empty. */
void book_load(struct book *b, const char address[][ADDRESS_TEXT_MAX], uint32_t count);

/* A link to `id`, which accepts links at `address`, is up (or still is). "" = it only dials: what was known
 * goes. */
void book_answered(struct book *b, node_id id, const char *address, uint64_t now_us);
void book_heard(struct book *b, node_id id, const char *address); /* a living member, by membership */
void book_failed(struct book *b, const char *address);            /* it could not be reached there */
void book_forget(struct book *b, node_id id);                     /* it has left for good, or was forgotten */

/* Copies at most max, best first; returns how many. What checkpoint.h saves. */
uint32_t book_list(const struct book *b, char out[][ADDRESS_TEXT_MAX], uint32_t max);

/* Behind the `count` of a list: those given that are not in it and can be dialled, as far as there is room. Returns the
 * new count. */
uint32_t book_append(char out[][ADDRESS_TEXT_MAX], uint32_t count, uint32_t max, char *const *given,
                     uint32_t given_count);

#endif

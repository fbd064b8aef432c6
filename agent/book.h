/* The address book: where members could be dialled when the state was saved, so that a node that comes back finds
 * the cluster though every address it was once given is gone. Kept in the checkpoint. */
#ifndef GADABOUT_AGENT_BOOK_H
#define GADABOUT_AGENT_BOOK_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/checkpoint.h"
#include "net/membership.h"

/* Fills c->address, which must be NULL: members other than c->id that can be dialled, the living first, the dead last,
 * then those `given` by the user and those of the `former` book that are not among them. At most
 * CHECKPOINT_ADDRESS_MAX, each once. m may be NULL. */
void book_fill(struct checkpoint *c, const struct membership *m, char (*former)[ADDRESS_TEXT_MAX],
               uint32_t former_count, char *const *given, uint32_t given_count);

/* "host:port" or "[v6]:port" that a transport takes: what peers say of themselves need not be. */
bool book_is_dialable(const char *address);

#endif

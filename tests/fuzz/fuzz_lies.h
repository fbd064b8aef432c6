/* What a hostile peer says instead of what was said. */
#ifndef GADABOUT_TESTS_FUZZ_FUZZ_LIES_H
#define GADABOUT_TESTS_FUZZ_FUZZ_LIES_H

#include <stdint.h>

#include "base/blob.h"
#include "base/prng.h"
#include "net/transport.h"

/* Replaces head and body (owned) by a lie that keeps the sequence, so that it is looked at: a message of any of the
 * node's kinds, about the cluster's `nodes` members (10, 20, ..) or ghosts; now: in boot units. */
void fuzz_lie(struct prng *p, uint32_t nodes, uint64_t now, enum lane lane, struct blob **head,
              struct blob **body);

#endif

/* A small cluster of algorithms whose messages are tampered with: what any peer may send, within what a node
 * lets through (algo/step.h: a vector has dim finite entries, a packed body is within the compressor's bound).
 * Everything follows from the seed. */
#ifndef GADABOUT_TESTS_FUZZ_FUZZ_ALGO_H
#define GADABOUT_TESTS_FUZZ_FUZZ_ALGO_H

#include <stdbool.h>
#include <stdint.h>

#include "algo/step.h"

enum { FUZZ_NODES = 4, FUZZ_DIM = 12 };

struct fuzz_plan {
    const struct algo_type *type;
    const struct choice *params;
    const struct choice *compress; /* NULL = none */
    const char *topology;
    uint64_t seed;
    uint32_t events;
};

struct fuzz_tally {
    uint64_t steps, messages, refused, trained, mixed; /* mixed: what the algorithms' reports say */
};

/* Returns true, or false with the first problem: an answer other than 0 and ERR_PROTO, a model changed by a
 * refused message, a model that is not finite, two TRAINs at once, a message to nobody. A failed check of the
 * algorithm itself ends the program. Adds to *tally. */
bool fuzz_algo_run(const struct fuzz_plan *plan, struct fuzz_tally *tally, struct err_text *why);

#endif

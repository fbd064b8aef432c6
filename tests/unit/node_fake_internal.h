/* Shared by the files of the fakes: node_fake.c (transport, host, trainer, owner; the node and its peers) and
 * node_fake_algo.c (the algorithm). */
#ifndef GADABOUT_TESTS_UNIT_NODE_FAKE_INTERNAL_H
#define GADABOUT_TESTS_UNIT_NODE_FAKE_INTERNAL_H

#include "tests/unit/node_fake.h"

/* Appends to a log of `size` bytes. */
__attribute__((format(printf, 3, 4))) void fake_log(char *log, size_t size, const char *format, ...);

#define CALL(f, ...) fake_log((f)->calls, sizeof(f)->calls, __VA_ARGS__)
#define EVENT(f, ...) fake_log((f)->events, sizeof(f)->events, __VA_ARGS__)

extern const struct algo_type fake_algo;
void fake_algo_belongs_to(struct fake *f); /* those that it makes from now on */

#endif

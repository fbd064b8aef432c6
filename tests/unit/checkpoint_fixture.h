/* Checkpoints to test with: every field a function of (node, generation), so that a loaded one tells whether it is
 * exactly that. */
#ifndef GADABOUT_TESTS_UNIT_CHECKPOINT_FIXTURE_H
#define GADABOUT_TESTS_UNIT_CHECKPOINT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/state/state_dir.h"

enum { FIXTURE_DIM = 5, FIXTURE_NODE = 77 };

extern const uint8_t fixture_shape[16];

/* Sections that may be absent are so at some generations. Returns owned. */
struct checkpoint checkpoint_of(node_id node, uint64_t generation);

/* The same in everything, bit for bit. */
bool checkpoint_equal(const struct checkpoint *a, const struct checkpoint *b);

/* Opens "state" of the disk as FIXTURE_NODE; fails the test when that cannot be. */
struct state_dir *checkpoint_state_of(const struct disk *disk);

/* Saves checkpoint_of(FIXTURE_NODE, generation); it must become that generation when it succeeds. */
int save_generation(struct state_dir *s, uint64_t generation, struct err_text *why);

/* Loads: the generation, when it is exactly checkpoint_of that; 0 when there is none; else fails the test.
 * note receives what load noted. */
uint64_t load_generation(struct state_dir *s, struct err_text *note);

#endif

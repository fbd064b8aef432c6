/* Checks that stay on in release builds. CHECK is for our own invariants only: a value that a peer, a
 * file or a user supplied is answered with an error code, never with CHECK. */
#ifndef GADABOUT_BASE_CHECK_H
#define GADABOUT_BASE_CHECK_H

#include <stddef.h>

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))
#define CHECK_IMPLIES(a, b) CHECK(!(a) || (b))
#define UNREACHABLE() check_failed("unreachable", __FILE__, __LINE__)

_Noreturn void check_failed(const char *what, const char *file, int line);

/* Allocation that aborts when memory is exhausted. Sizes influenced from outside are compared with
 * limits.h by the caller first. count * size must not overflow (checked). Returns owned memory,
 * zeroed by the _zero forms; free() it. A request of zero bytes returns a unique pointer. */
void *mem_new(size_t count, size_t size);
void *mem_new_zero(size_t count, size_t size);
void *mem_resize(void *old, size_t count, size_t size); /* takes old */
char *mem_copy_text(const char *text);                  /* returns owned */

#endif

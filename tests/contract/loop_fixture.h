/* A libuv loop that a test turns until something holds, and the parts of a transport's sink that it has no use for.
 * Waits are bounded and on the loop. */
#ifndef GADABOUT_TESTS_CONTRACT_LOOP_FIXTURE_H
#define GADABOUT_TESTS_CONTRACT_LOOP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <uv.h>

#include "net/transport.h"

#define WAIT_MAX_US 20000000u

void loop_turn(uv_loop_t *loop); /* what happens next, at most 5 ms away, and what follows from it at once */

/* `w` has a member `loop`. */
#define RUN_UNTIL(w, condition)                                                                              \
    do {                                                                                                     \
        uint64_t limit_us = uv_hrtime() / 1000 + WAIT_MAX_US;                                                \
        while (!(condition)) {                                                                               \
            assert_true(uv_hrtime() / 1000 < limit_us);                                                      \
            loop_turn(&(w)->loop);                                                                           \
        }                                                                                                    \
    } while (0)

/* As on_message and on_writable of struct transport_sink. */
void ignore_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                    struct blob *body);
void ignore_writable(void *ctx, struct link_id link);

#endif

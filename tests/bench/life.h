/* One process of bench_transfer: a machine of agent/transfer/transfer.h, a transport, a loop. */
#ifndef GADABOUT_TESTS_BENCH_LIFE_H
#define GADABOUT_TESTS_BENCH_LIFE_H

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "agent/transfer/transfer.h"
#include "net/transport.h"

#define DONOR_MAX 8u
#define NEWCOMER_ID 1u
#define DONOR_ID 100u /* of the first donor */

struct options {
    unsigned mib, chunk_kib, donors, runs, window;
};

struct life {
    uv_loop_t loop;
    uv_timer_t timer;
    struct transport *transport;
    struct link_id link[DONOR_MAX + 1]; /* donors' links, or [0] = the newcomer's */
    bool linked[DONOR_MAX + 1];
    char address[ADDRESS_TEXT_MAX];
    struct transfer_actions acts;
    const struct options *options;
    float *x;
    size_t dim;
    struct donor *donor; /* of a donor */
    struct fetch *fetch; /* of the newcomer */
    pid_t victim;        /* of the newcomer: killed at half way; 0 = none */
    uint64_t dialled_us, done_us;
};

uint64_t now_us(void);
_Noreturn void give_up(const char *what); /* says it and ends the process with 1 */

/* Listens on loopback and allocates x; the caller sets donor or fetch before the loop runs. */
void life_init(struct life *l, const struct options *o, node_id id);

#endif

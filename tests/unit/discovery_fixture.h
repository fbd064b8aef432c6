/* One discovery machine, whose links, refusals and time are the test's. */
#ifndef GADABOUT_TESTS_UNIT_DISCOVERY_FIXTURE_H
#define GADABOUT_TESTS_UNIT_DISCOVERY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/discovery/discovery.h"

#define SECOND_US 1000000ull

struct fixture {
    struct discovery *d;
    uint64_t now_us;
    const char *member; /* a living member's address; NULL */
    struct trace trace;
    unsigned lines;
};

static inline bool is_member(void *ctx, const char *address)
{
    const struct fixture *f = ctx;
    return f->member != NULL && strcmp(f->member, address) == 0;
}

static inline void on_line(void *ctx, enum trace_level level, const char *text)
{
    struct fixture *f = ctx;
    (void)level;
    (void)text;
    f->lines++;
}

static inline void begin(struct fixture *f)
{
    struct discovery_config c;
    *f = (struct fixture){.now_us = 5 * SECOND_US, .trace = {TRACE_INFO, on_line, f}};
    discovery_defaults(&c);
    c.seed = 3;
    c.is_member = is_member;
    c.ctx = f;
    c.trace = &f->trace;
    f->d = discovery_new(&c);
}

static inline void tick(struct fixture *f)
{
    discovery_tick(f->d, f->now_us);
}

static inline uint32_t wanted_count(const struct fixture *f)
{
    const char *address[DISCOVERY_DIAL_MAX];
    return discovery_wanted(f->d, address);
}

static inline bool wants(const struct fixture *f, const char *which)
{
    const char *address[DISCOVERY_DIAL_MAX];
    uint32_t count = discovery_wanted(f->d, address);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(address[i], which) == 0) return true;
    return false;
}

/* To the next moment at which something may change. */
static inline void wait(struct fixture *f)
{
    uint64_t at_us = discovery_deadline_us(f->d);
    assert_true(at_us != TIME_NEVER);
    if (at_us > f->now_us) f->now_us = at_us;
    tick(f);
}

static inline void wait_until_wanted(struct fixture *f, const char *which, uint64_t most_us)
{
    uint64_t start_us = f->now_us;
    while (!wants(f, which)) {
        wait(f);
        assert_true(f->now_us - start_us <= most_us);
    }
}

#endif

/* Goal: each question for a name is answered once from the loop, unless it was dropped, and a resolver that is closed
 * says nothing more, whatever its threads do meanwhile.
 * Method: addresses of numbers, which no server is asked for, in more questions than are asked at once; dropped ones
 * at every position. The loop must close with 0, the sanitizers find what is used or lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <uv.h>

#include "net/uv/resolve.h"

#define QUESTIONS (3u * RESOLVE_AT_ONCE_MAX)

struct world {
    uv_loop_t loop;
    struct resolver *resolver;
    struct question *question[QUESTIONS];
    uint32_t answers[QUESTIONS];
    uint32_t answered, wanted; /* the resolver is closed when so many are there */
    bool closed;
};

struct asker {
    struct world *world;
    uint32_t number;
};

static void closed(void *ctx)
{
    ((struct world *)ctx)->closed = true;
}

static void answered(void *ctx, int status, struct addrinfo *found)
{
    const struct asker *a = ctx;
    struct world *w = a->world;
    assert_false(w->closed);
    assert_int_equal(status, 0);
    assert_non_null(found);
    freeaddrinfo(found);
    w->answers[a->number]++;
    w->answered++;
}

/* The resolver may not be closed from within an answer. */
static void close_when_done(uv_check_t *check)
{
    struct world *w = check->data;
    if (w->resolver == NULL || w->answered < w->wanted) return;
    resolver_close(w->resolver, closed, w);
    w->resolver = NULL;
    uv_close((uv_handle_t *)check, NULL);
}

static void ask_all(struct world *w, struct asker asker[QUESTIONS])
{
    int err;
    *w = (struct world){.wanted = QUESTIONS};
    assert_int_equal(uv_loop_init(&w->loop), 0);
    w->resolver = resolver_new(&w->loop, &err);
    assert_non_null(w->resolver);
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        asker[i] = (struct asker){w, i};
        w->question[i] = resolver_ask(w->resolver, "127.0.0.1", "7946", answered, &asker[i]);
    }
}

static void run(struct world *w)
{
    uv_check_t check;
    assert_int_equal(uv_check_init(&w->loop, &check), 0);
    check.data = w;
    uv_check_start(&check, close_when_done);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->closed);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static void every_question_is_answered_once_but_those_that_were_dropped(void **state)
{
    (void)state;
    static const uint32_t sets[] = {0, 1, 1u << (QUESTIONS - 1), 3u << (QUESTIONS - 2), 0xff0, 0x555, 0xffe};
    for (size_t k = 0; k < sizeof sets / sizeof sets[0]; k++) {
        struct world w;
        struct asker asker[QUESTIONS];
        ask_all(&w, asker);
        for (uint32_t i = 0; i < QUESTIONS; i++) {
            if ((sets[k] >> i & 1) == 0) continue;
            resolver_drop(w.resolver, w.question[i]);
            w.wanted--;
        }
        run(&w);
        for (uint32_t i = 0; i < QUESTIONS; i++) assert_int_equal(w.answers[i], (sets[k] >> i & 1) == 0);
    }
}

static void what_is_asked_behind_dropped_ones_is_answered(void **state)
{
    (void)state;
    struct world w;
    struct asker asker[QUESTIONS];
    ask_all(&w, asker);
    for (uint32_t i = RESOLVE_AT_ONCE_MAX; i < QUESTIONS; i++) resolver_drop(w.resolver, w.question[i]);
    uint32_t last = QUESTIONS - 1;
    w.question[last] = resolver_ask(w.resolver, "127.0.0.1", "7946", answered, &asker[last]);
    w.wanted = RESOLVE_AT_ONCE_MAX + 1;
    run(&w);
    assert_int_equal(w.answers[last], 1);
}

static void a_resolver_that_is_closed_tells_nothing_more(void **state)
{
    (void)state;
    struct world w;
    struct asker asker[QUESTIONS];
    ask_all(&w, asker);
    w.wanted = 0;
    run(&w);
    assert_in_range(w.answered, 0, RESOLVE_AT_ONCE_MAX); /* those that came before the first look */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_is_answered_once_but_those_that_were_dropped),
        cmocka_unit_test(what_is_asked_behind_dropped_ones_is_answered),
        cmocka_unit_test(a_resolver_that_is_closed_tells_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Questions for names, see resolve.h. What the loop and the threads share is under a lock: whether anybody still
 * listens, and the list of answers. It lives until neither the loop nor a thread uses it. */
#include "net/uv/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/check.h"

#define STACK_SIZE (512u * 1024u) /* libraries that answer for names are called on it */

struct question {
    struct resolver *resolver;
    struct question *next;
    char host[ADDRESS_TEXT_MAX], port[8];
    bool asked, dropped; /* the loop's: a thread asks or has asked; nobody wants the answer */
    int status;
    struct addrinfo *found;
    void (*answered)(void *ctx, int status, struct addrinfo *found);
    void *ctx;
};

struct resolver {
    uv_async_t news;
    struct question *first, *last; /* not asked yet; the loop's */
    uint32_t running;              /* threads whose answer the loop has not seen */
    void (*closed)(void *ctx);
    void *closed_ctx;

    pthread_mutex_t lock; /* of what follows */
    bool open;            /* the loop listens */
    uint32_t users;       /* the loop and the threads */
    struct question *done;
};

static void question_free(struct question *q)
{
    if (q->found != NULL) freeaddrinfo(q->found);
    free(q);
}

/* -- the threads ------------------------------------------------------------------------------- */

/* The lock is held, and let go of. */
static void resolver_leave(struct resolver *r)
{
    CHECK(r->users > 0);
    bool last = --r->users == 0;
    pthread_mutex_unlock(&r->lock);
    if (!last) return;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static void *ask_thread(void *arg)
{
    struct question *q = arg;
    struct resolver *r = q->resolver;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    q->status = getaddrinfo(q->host, q->port, &hints, &q->found);
    if (q->status != 0) q->found = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->open) {
        q->next = r->done;
        r->done = q;
        uv_async_send(&r->news); /* under the lock: it is closed only once open is false */
    } else {
        question_free(q);
    }
    resolver_leave(r);
    return NULL;
}

/* Signals are the loop's. */
static int thread_begin(struct question *q)
{
    pthread_t thread;
    pthread_attr_t how;
    sigset_t all, before;
    int err = pthread_attr_init(&how);
    if (err != 0) return err;
    (void)pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&how, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&thread, &how, ask_thread, q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&how);
    return err;
}

/* -- the loop ---------------------------------------------------------------------------------- */

static void question_begin(struct resolver *r, struct question *q)
{
    q->asked = true;
    r->running++;
    pthread_mutex_lock(&r->lock);
    r->users++;
    pthread_mutex_unlock(&r->lock);
    if (thread_begin(q) == 0) return;
    pthread_mutex_lock(&r->lock);
    r->users--; /* not the last: the loop is one */
    q->status = EAI_AGAIN;
    q->next = r->done;
    r->done = q;
    uv_async_send(&r->news);
    pthread_mutex_unlock(&r->lock);
}

static void ask_next(struct resolver *r)
{
    while (r->first != NULL && r->running < RESOLVE_AT_ONCE_MAX) {
        struct question *q = r->first;
        r->first = q->next;
        question_begin(r, q);
    }
    if (r->first == NULL) r->last = NULL;
}

/* The callee may ask and drop, but not close. */
static void answer(struct question *q)
{
    struct addrinfo *found = q->found;
    q->found = NULL;
    if (!q->dropped)
        q->answered(q->ctx, q->status, found);
    else if (found != NULL)
        freeaddrinfo(found);
    question_free(q);
}

static void news_cb(uv_async_t *handle)
{
    struct resolver *r = handle->data;
    pthread_mutex_lock(&r->lock);
    struct question *done = r->done;
    r->done = NULL;
    pthread_mutex_unlock(&r->lock);
    for (struct question *q = done; q != NULL;) {
        struct question *next = q->next;
        r->running--;
        answer(q);
        q = next;
    }
    ask_next(r);
}

struct question *resolver_ask(struct resolver *r, const char *host, const char *port,
                              void (*answered)(void *ctx, int status, struct addrinfo *found), void *ctx)
{
    struct question *q = mem_new_zero(1, sizeof *q);
    CHECK(strlen(host) < sizeof q->host && strlen(port) < sizeof q->port);
    memcpy(q->host, host, strlen(host) + 1);
    memcpy(q->port, port, strlen(port) + 1);
    q->resolver = r;
    q->answered = answered;
    q->ctx = ctx;
    if (r->last != NULL)
        r->last->next = q;
    else
        r->first = q;
    r->last = q;
    ask_next(r);
    return q;
}

/* One that waits goes at once: behind names that hang, those that are given up again and again would pile up. */
void resolver_drop(struct resolver *r, struct question *q)
{
    if (q->asked) {
        q->dropped = true; /* whoever has it last frees it */
        return;
    }
    struct question **place = &r->first, *before = NULL;
    while (*place != q) {
        CHECK(*place != NULL);
        before = *place;
        place = &before->next;
    }
    *place = q->next;
    if (r->last == q) r->last = before;
    question_free(q);
}

/* -- life -------------------------------------------------------------------------------------- */

static void closed_cb(uv_handle_t *handle)
{
    struct resolver *r = handle->data;
    void (*closed)(void *ctx) = r->closed;
    void *ctx = r->closed_ctx;
    pthread_mutex_lock(&r->lock);
    resolver_leave(r);
    closed(ctx);
}

static void free_list(struct question *q)
{
    while (q != NULL) {
        struct question *next = q->next;
        question_free(q);
        q = next;
    }
}

void resolver_close(struct resolver *r, void (*closed)(void *ctx), void *ctx)
{
    r->closed = closed;
    r->closed_ctx = ctx;
    pthread_mutex_lock(&r->lock);
    r->open = false;
    struct question *done = r->done;
    r->done = NULL;
    pthread_mutex_unlock(&r->lock);
    free_list(done);
    free_list(r->first);
    r->first = NULL;
    uv_close((uv_handle_t *)&r->news, closed_cb);
}

struct resolver *resolver_new(struct uv_loop_s *loop, int *err)
{
    struct resolver *r = mem_new_zero(1, sizeof *r);
    *err = uv_async_init(loop, &r->news, news_cb);
    if (*err != 0) {
        free(r);
        return NULL;
    }
    r->news.data = r;
    r->open = true;
    r->users = 1;
    *err = pthread_mutex_init(&r->lock, NULL);
    CHECK(*err == 0); /* it needs nothing from the system */
    return r;
}

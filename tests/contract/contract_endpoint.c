/* The hands of the contract suite, see contract_endpoint.h. */
#include "tests/contract/contract_endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/err.h"

/* -- messages that can be checked -------------------------------------------------------------- */

/* In words, so that large bodies do not hold up the world while they are made and checked. */
static uint64_t body_word(uint32_t number, size_t i)
{
    return (number + 1) * 0x9e3779b97f4a7c15u + i * 0x100000001b3u;
}

static struct blob *body_new(uint32_t number, size_t size)
{
    struct blob *b = blob_new(size);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = body_word(number, i);
        memcpy(b->data + i, &word, size - i < 8 ? size - i : 8);
    }
    return b;
}

void contract_body_check(const struct blob *b, uint32_t number)
{
    size_t wrong = 0;
    for (size_t i = 0; i < b->size; i += 8) {
        uint64_t word = body_word(number, i);
        wrong += memcmp(b->data + i, &word, b->size - i < 8 ? b->size - i : 8) != 0;
    }
    assert_int_equal(wrong, 0);
}

/* -- the recording sink ------------------------------------------------------------------------ */

static struct seen *seen_of(struct endpoint *e, struct link_id id)
{
    for (unsigned i = 0; i < e->ups; i++)
        if (e->seen[i].id.slot == id.slot && e->seen[i].id.generation == id.generation) return &e->seen[i];
    fail_msg("callback for a link that never came up");
    return NULL;
}

static void expect_callback_allowed(const struct endpoint *e)
{
    assert_false(e->in_downcall); /* clause 6 */
    assert_false(e->closed);      /* clause 11 */
}

int endpoint_send(struct endpoint *e, struct link_id to, enum lane lane, uint32_t number, struct blob *body)
{
    uint8_t head[MESSAGE_HEAD_SIZE] = {0};
    memcpy(head, &number, sizeof number);
    uint32_t has_body = body != NULL;
    memcpy(head + 4, &has_body, sizeof has_body);
    struct blob *blob = blob_copy(head, sizeof head);
    bool nested = e->in_downcall;
    e->in_downcall = true;
    int err = e->transport->ops->send(e->transport, to, lane, blob, body);
    e->in_downcall = nested;
    blob_unref(blob);
    return err;
}

static void record_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct endpoint *e = ctx;
    expect_callback_allowed(e);
    for (unsigned i = 0; i < e->ups; i++) {
        bool same_peer = e->seen[i].peer.id == peer->id;
        assert_false(same_peer && e->seen[i].downs == 0); /* clause 8 */
    }
    assert_true(e->ups < LINK_SEEN_MAX);
    e->seen[e->ups] = (struct seen){.id = link, .peer = *peer};
    e->ups++;
}

static void record_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct endpoint *e = ctx;
    expect_callback_allowed(e);
    struct seen *s = seen_of(e, link);
    assert_int_equal(s->downs++, 0); /* clause 7 */
    s->why = why;
    assert_int_equal(endpoint_send(e, link, LANE_CONTROL, 0, NULL), ERR_NO_LINK);
}

static void record_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head,
                           size_t head_size, struct blob *body)
{
    struct endpoint *e = ctx;
    expect_callback_allowed(e);
    struct seen *s = seen_of(e, link);
    uint32_t number, has_body;
    assert_int_equal(s->downs, 0);
    assert_int_equal(head_size, MESSAGE_HEAD_SIZE);
    memcpy(&number, head, sizeof number);
    memcpy(&has_body, head + 4, sizeof has_body);
    assert_int_equal(number, s->next[lane]++); /* clauses 1, 2 */
    assert_int_equal(has_body, body != NULL);
    s->messages[lane]++;
    if (body != NULL) {
        contract_body_check(body, number);
        blob_unref(e->kept);
        e->kept = blob_ref(body);
        e->kept_number = number;
    }
    if (e->echo) assert_int_equal(endpoint_send(e, link, lane, number, body), 0);
    if (e->disconnect_on_message) {
        e->in_downcall = true;
        e->transport->ops->disconnect(e->transport, link, DOWN_LOCAL);
        e->in_downcall = false;
    }
}

static void record_writable(void *ctx, struct link_id link)
{
    struct endpoint *e = ctx;
    expect_callback_allowed(e);
    struct seen *s = seen_of(e, link);
    assert_int_equal(s->downs, 0);
    s->writables++;
}

static void record_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct endpoint *e = ctx;
    expect_callback_allowed(e);
    assert_true(reason[0] != '\0');
    e->refusals++;
    e->refused_err = err;
    strncpy(e->refused_address, address, sizeof e->refused_address - 1);
}

static void record_unreachable(void *ctx, const char *address, int err)
{
    struct endpoint *e = ctx;
    expect_callback_allowed(e);
    e->unreachables++;
    e->unreachable_err = err;
    strncpy(e->unreachable_address, address, sizeof e->unreachable_address - 1);
}

static void record_closed(void *ctx)
{
    struct endpoint *e = ctx;
    expect_callback_allowed(e);
    for (unsigned i = 0; i < e->ups; i++) assert_int_equal(e->seen[i].downs, 1);
    e->closed = true;
}

/* -- the suite's hands ------------------------------------------------------------------------- */

struct transport_config suite_config(uint32_t v)
{
    struct transport_config c = {.id = v,
                                 .boot = 1000 + v,
                                 .body_size_max = CONTRACT_BODY_MAX,
                                 .heartbeat_us = CONTRACT_HEARTBEAT_US,
                                 .silence_us = CONTRACT_SILENCE_US,
                                 .hello_us = CONTRACT_SILENCE_US,
                                 .redial_min_us = CONTRACT_REDIAL_US / 2,
                                 .redial_max_us = CONTRACT_REDIAL_US * 2,
                                 .seed = 7 + v};
    memset(c.cluster, 0xc1, sizeof c.cluster);
    return c;
}

struct endpoint *suite_start(struct suite *s, const struct transport_config *config)
{
    uint32_t v = (uint32_t)config->id;
    if (s->endpoint[v] != NULL) s->endpoint[CONTRACT_ENDPOINT_MAX + s->former_count++] = s->endpoint[v];
    struct endpoint *e = mem_new_zero(1, sizeof *e);
    s->endpoint[v] = e;
    e->v = v;
    e->config = *config;
    struct transport_sink sink = {.ctx = e,
                                  .on_up = record_up,
                                  .on_down = record_down,
                                  .on_message = record_message,
                                  .on_writable = record_writable,
                                  .on_refused = record_refused,
                                  .on_unreachable = record_unreachable,
                                  .on_closed = record_closed};
    e->transport = s->factory->start(s->world, v, config, &sink, e->address);
    assert_non_null(e->transport);
    return e;
}

void suite_open(struct suite *s, void **state, uint32_t count)
{
    memset(s, 0, sizeof *s);
    s->factory = *state;
    s->world = s->factory->open(count, 42);
    for (uint32_t v = 0; v < count; v++) {
        struct transport_config config = suite_config(v);
        suite_start(s, &config);
    }
}

void suite_close(struct suite *s)
{
    s->factory->close(s->world);
    for (uint32_t i = 0; i < 2 * CONTRACT_ENDPOINT_MAX; i++) {
        if (s->endpoint[i] != NULL) blob_unref(s->endpoint[i]->kept);
        free(s->endpoint[i]);
    }
}

void endpoint_dial(struct endpoint *e, const char *address)
{
    e->in_downcall = true;
    int err = e->transport->ops->dial(e->transport, address);
    e->in_downcall = false;
    assert_int_equal(err, 0);
}

void endpoint_disconnect(struct endpoint *e, struct link_id link, enum down_reason why)
{
    e->in_downcall = true;
    e->transport->ops->disconnect(e->transport, link, why);
    e->in_downcall = false;
}

void endpoint_close(struct endpoint *e)
{
    e->in_downcall = true;
    e->transport->ops->close(e->transport);
    e->in_downcall = false;
}

void suite_run_for(struct suite *s, uint64_t us)
{
    uint64_t limit_us = s->factory->now_us(s->world) + us;
    while (s->factory->step(s->world, limit_us)) continue;
}

/* The last link of e, which is up when it has no downs. */
struct seen *endpoint_last(struct endpoint *e)
{
    assert_true(e->ups > 0);
    return &e->seen[e->ups - 1];
}

bool endpoint_is_up(struct endpoint *e)
{
    return e->ups > 0 && endpoint_last(e)->downs == 0;
}

/* Sends the next message of e's last link in a lane; size SIZE_MAX = without a body. */
int suite_send_next(struct suite *s, struct endpoint *e, enum lane lane, size_t size)
{
    uint32_t *number = &s->sent[e->v][e->ups - 1][lane];
    struct blob *body = size != SIZE_MAX ? body_new(*number, size) : NULL;
    int err = endpoint_send(e, endpoint_last(e)->id, lane, *number, body);
    blob_unref(body);
    if (err == 0) ++*number;
    return err;
}

void suite_link(struct suite *s, struct endpoint *dialler, struct endpoint *acceptor)
{
    endpoint_dial(dialler, acceptor->address);
    RUN_UNTIL(s, endpoint_is_up(dialler) && endpoint_is_up(acceptor));
}

/* The hands of the contract suite: endpoints with recording sinks, and messages that can be checked.
 *
 * The recorder itself fails the test when a callback comes from inside a downcall or after on_closed, when a
 * message is damaged, out of order or after a hole, when a down or an up comes twice (clauses 1, 2, 6, 7, 8,
 * 11). */
#ifndef GADABOUT_TESTS_CONTRACT_ENDPOINT_H
#define GADABOUT_TESTS_CONTRACT_ENDPOINT_H

#include "tests/contract/transport_contract.h"

#define LINK_SEEN_MAX 64u
#define MESSAGE_HEAD_SIZE 8u

/* One link as an endpoint saw it. */
struct seen {
    struct link_id id;
    struct peer_info peer;
    unsigned downs, writables, messages[2];
    uint32_t next[2]; /* number expected in each lane */
    enum down_reason why;
};

struct endpoint {
    uint32_t v;
    struct transport *transport; /* NULL when not started */
    struct transport_config config;
    char address[ADDRESS_TEXT_MAX];
    bool in_downcall, closed, crashed;
    struct seen seen[LINK_SEEN_MAX];
    unsigned ups, refusals;
    int refused_err;
    char refused_address[ADDRESS_TEXT_MAX];
    unsigned unreachables;
    int unreachable_err; /* of the last one */
    char unreachable_address[ADDRESS_TEXT_MAX];
    struct blob *kept; /* body of the last message that had one */
    uint32_t kept_number;
    bool echo, disconnect_on_message;
};

struct suite {
    const struct contract_factory *factory;
    struct contract_world *world;
    struct endpoint *endpoint[2 * CONTRACT_ENDPOINT_MAX]; /* the second half: former lives */
    uint32_t former_count;
    uint32_t sent[CONTRACT_ENDPOINT_MAX][LINK_SEEN_MAX][2]; /* numbers given, by endpoint, seen link, lane */
};

/* Opens a world and starts `count` endpoints; *state is the factory. */
void suite_open(struct suite *s, void **state, uint32_t count);
void suite_close(struct suite *s);

struct transport_config suite_config(uint32_t v);
struct endpoint *suite_start(struct suite *s,
                             const struct transport_config *config); /* borrowed until suite_close */
void suite_run_for(struct suite *s, uint64_t us);
void suite_link(struct suite *s, struct endpoint *dialler, struct endpoint *acceptor); /* until both are up */

/* Sends the next message of e's last link in a lane; size SIZE_MAX = without a body. */
int suite_send_next(struct suite *s, struct endpoint *e, enum lane lane, size_t size);
void contract_body_check(const struct blob *b, uint32_t number);

/* Downcalls; no callback may come from inside them. */
int endpoint_send(struct endpoint *e, struct link_id to, enum lane lane, uint32_t number, struct blob *body);
void endpoint_dial(struct endpoint *e, const char *address);
void endpoint_disconnect(struct endpoint *e, struct link_id link, enum down_reason why);
void endpoint_close(struct endpoint *e);

struct seen *endpoint_last(struct endpoint *e); /* its last link, which is up when it has no downs */
bool endpoint_is_up(struct endpoint *e);

/* Runs until the condition holds; fails the test when it does not within CONTRACT_LIMIT_US. */
#define RUN_UNTIL(s, condition)                                                                              \
    do {                                                                                                     \
        uint64_t run_limit_us = (s)->factory->now_us((s)->world) + CONTRACT_LIMIT_US;                        \
        while (!(condition) && (s)->factory->step((s)->world, run_limit_us)) continue;                       \
        if (!(condition)) fail_msg("not within the limit: %s", #condition);                                  \
    } while (0)

#endif

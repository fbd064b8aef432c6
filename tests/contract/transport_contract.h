/* One suite of tests for the transport contract (net/transport.h), run against every implementation.
 *
 * An implementation gives a factory: how to make a world of endpoints, let it go on, and end it. The suite
 * (transport_contract.c) makes the configurations and recording sinks, and says which clause each test is
 * for. A test program is `int main(void) { return contract_run(&factory); }`. */
#ifndef GADABOUT_TESTS_TRANSPORT_CONTRACT_H
#define GADABOUT_TESTS_TRANSPORT_CONTRACT_H

#include <stdbool.h>
#include <stdint.h>

#include "net/host.h"
#include "net/transport.h"

#define CONTRACT_ENDPOINT_MAX 8u
#define CONTRACT_BODY_MAX (64u * 1024u * 1024u) /* body_size_max of every endpoint */
#define CONTRACT_HEARTBEAT_US 50000u
#define CONTRACT_SILENCE_US 1500000u /* a simulated world sets its link_silence_us to this, */
#define CONTRACT_REDIAL_US 30000u    /* its redial_us to this, and a link delay of about 1 ms */
#define CONTRACT_LIMIT_US 20000000u  /* no wait of the suite is longer, in the world's time */

struct contract_world; /* defined by each implementation */

struct contract_factory {
    const char *name;
    bool relayed;         /* links between endpoints go through another one: one cluster, no round trips */
    uint32_t links_extra; /* in the totals of each endpoint, beside those to other endpoints */

    /* Makes a world with room for endpoint_count endpoints (0..endpoint_count-1), none started. Returns
     * owned. */
    struct contract_world *(*open)(uint32_t endpoint_count, uint64_t seed);

    /* Starts endpoint v: config->id is v and sink is copied; address receives what others may dial. May be
     * called again for v after release(v) or crash(v); the address may then be another one. Returns borrowed,
     * valid until release, crash or close of the world. */
    struct transport *(*start)(struct contract_world *w, uint32_t v, const struct transport_config *config,
                               const struct transport_sink *sink, char address[ADDRESS_TEXT_MAX]);

    /* The host of an endpoint that was started: clock and deadline. Borrowed, as the transport. */
    struct host *(*host)(struct contract_world *w, uint32_t v, const struct host_sink *sink);

    /* Lets the world go on by one event or one loop turn. False: nothing more happens before limit_us, and
     * now_us() is limit_us or later. Sinks are called from here (and from close) only. */
    bool (*step)(struct contract_world *w, uint64_t limit_us);

    uint64_t (*now_us)(const struct contract_world *w); /* 0 at open, or any start; never decreases */

    /* Frees endpoint v, whose on_closed has come. */
    void (*release)(struct contract_world *w, uint32_t v);

    /* Endpoint v stops without a word (power cut): peers see silence; its sink is called no more, except that
     * it may get on_down and on_closed from inside close(). Not NULL. */
    void (*crash)(struct contract_world *w, uint32_t v);

    /* Endpoint v stands still and goes on, as with SIGSTOP and SIGCONT: bytes to it wait in its kernel. */
    void (*pause)(struct contract_world *w, uint32_t v);
    void (*resume)(struct contract_world *w, uint32_t v);

    /* The link between a and b is reset (messages in flight are lost). NULL: not possible, its tests skip. */
    void (*reset)(struct contract_world *w, uint32_t a, uint32_t b);

    /* Ends all that is left, started or crashed, and frees the world. Fails the test (cmocka) when anything
     * leaks that it can see, such as a loop that does not close. */
    void (*close)(struct contract_world *w);
};

extern const struct contract_factory contract_sim;         /* contract_sim.c */
extern const struct contract_factory contract_uv;          /* contract_uv.c: TCP over loopback */
extern const struct contract_factory contract_relayed_sim; /* contract_relay.c: over a relayer, in either */
extern const struct contract_factory contract_relayed_uv;

/* Runs every test against the factory. Returns the number of failures: the exit code. */
int contract_run(const struct contract_factory *factory);

/* link_contract.c: those of clauses 7 to 9, a part of contract_run. */
int contract_run_links(const struct contract_factory *factory);

/* fault_contract.c: those of clauses 12 to 15, a part of contract_run. */
int contract_run_faults(const struct contract_factory *factory);

#endif

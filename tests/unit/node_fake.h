/* A node among fakes: a transport, a host, a trainer and an algorithm in one object that records what they
 * are asked; the test plays the peers. Ours is node 1 of a path 0 - 1 - 2, with node 3 beyond (edges 0-1,
 * 1-2, 2-3). A test opens a struct fake, scripts its answers, lets things happen, compares what was recorded
 * and closes it. A failed assertion of the fakes ends the test. */
#ifndef GADABOUT_TESTS_UNIT_NODE_FAKE_H
#define GADABOUT_TESTS_UNIT_NODE_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/node/node.h"
#include "agent/wire/wire.h"

#define FAKE_DIM 3u
#define FAKE_NODES 4u
#define FAKE_SENT_MAX 64u

struct fake_sent {
    struct link_id link;
    enum lane lane;
    struct blob *head, *body; /* owned */
};

struct fake {
    struct transport transport; /* first of three faces of one object */
    struct host host;
    struct trainer trainer;
    struct fake_sent sent[FAKE_SENT_MAX];
    size_t sent_count;
    int send_answer;
    char calls[1024]; /* dials, undials, disconnects */
    uint64_t now_us, deadline_us;
    struct job *job;
    char events[1024];  /* what the algorithm saw */
    char members[1024]; /* new ones and changes of state, as the owner was told */
    /* the script of the algorithm: what it answers to the next event */
    int answer;
    uint32_t train;
    rank_t send_to;
    struct blob *send_vec; /* borrowed */
    bool durable;          /* ... as a durable message */
    uint64_t wants_us;
    uint64_t owes;        /* what it keeps beside the model; 0 = nothing */
    float delta;          /* of the trainer */
    uint32_t trained_max; /* max_steps of its last run */
    float seen_x, seen_vec;
    size_t seen_packed; /* bytes */
    int ranked_answer;
    bool unready; /* the owner has no trainer at hand yet */
    uint32_t finished, failed, created, destroyed, ranked, trainers_freed;
    struct err_text failure;
    uint32_t saves_wanted, still;
    float still_x; /* the model at the last of these */
    uint32_t node_count;
    struct node *node;
};

/* -- opening and closing -------------------------------------------------------------------------- */

/* Member of a rank: ids 10, 20, 30, 40 (ours is 20), boot 100 + rank, address "host:<rank>". */
struct member fake_member(rank_t rank);
/* READY of the holder of a rank to us, as the first message of its control lane. Returns owned. */
struct blob *fake_ready(rank_t rank);
/* Our node with all four members given: no seeds, patience 1000 us, x0 = 1, 2, 3. */
struct node_config fake_config(void);

/* Makes the node at time 50 us and attaches it; it is not started. Borrows config for the call, and what it
 * points to as node.h says. One fake is open at a time. */
void fake_open(struct fake *f, const struct node_config *config);
/* The same with an owner that saves (node_sink.on_save). */
void fake_open_keeping(struct fake *f, const struct node_config *config);
/* A started node with the members given, linked to 0 and 2, both presented; the logs are empty. */
void fake_open_running(struct fake *f, uint64_t steps_max);
/* Frees the node and asserts that it freed its algorithm and trainer, each once. */
void fake_close(struct fake *f);
/* Empties what was recorded: sent, calls, events. */
void fake_forget(struct fake *f);

/* -- what happens to the node --------------------------------------------------------------------- */

/* Link ids: slot = rank, generation counts up by hand. */
void fake_peer_up(struct fake *f, rank_t rank, uint32_t generation, uint64_t boot, bool dialled);
void fake_peer_down(struct fake *f, rank_t rank, uint32_t generation);
/* A message on the link of generation 1. Takes head, borrows body. */
void fake_peer_says(struct fake *f, rank_t rank, enum lane lane, struct blob *head, struct blob *body);
/* The same with an algorithm's message of kind 4. Borrows body. */
void fake_peer_sends_algo(struct fake *f, rank_t rank, enum lane lane, uint64_t sequence, struct blob *body);
/* Runs the job the node started and reports it. */
void fake_job_done(struct fake *f);
/* Sets the clock and fires the deadline, which is then no longer set. */
void fake_deadline_comes(struct fake *f, uint64_t now_us);

/* -- what the test looks at or hands over --------------------------------------------------------- */

/* What the node sent to a link: kinds in order, as in "swim:5 ready algo:9+vec ". Asserts that the
 * sequence of each lane has no gap. Returns out. */
const char *fake_sent_to(struct fake *f, rank_t rank, char out[256]);
/* FAKE_DIM floats. Returns owned. */
/* As fake_peer_sends_algo, but the head says that the body is packed. */
void fake_peer_sends_packed(struct fake *f, rank_t rank, uint64_t sequence, struct blob *body);

struct blob *fake_vector(float a, float b, float c);

#endif

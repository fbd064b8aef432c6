/* Shared by the files of the cluster of membership machines: swim_make.c (making one), swim_cluster.c (links, input
 * of the machines), swim_queue.c (events in order), swim_faults.c (what tests do to it), swim_view.c (what they ask). */
#ifndef GADABOUT_TESTS_SIM_SWIM_INTERNAL_H
#define GADABOUT_TESTS_SIM_SWIM_INTERNAL_H

#include "tests/sim/swim_cluster.h"

enum {
    SILENCE_US = 2000000,
    HEARTBEAT_US = 500000,
    HELLO_US = 5000000,
    RETRY_US = 200000, /* of TCP, on a link */
    SYN_US = 1000000,  /* of TCP, of a dial */
    LOOK_US = 20000,
    LATENCY_MIN_US = 200,
    LATENCY_MAX_US = 2000,
};

enum swim_event_kind {
    EVENT_TIMER,   /* at `node`; serial */
    EVENT_MESSAGE, /* from peer to node, over the link of `generation` */
    EVENT_DOWN,    /* node's end of its link to peer; evidence */
    EVENT_SILENT,  /* node's end has heard nothing, if the cut `serial` still stands */
    EVENT_DIAL,    /* node tries to reach peer; until serial (time) */
    EVENT_SEED,    /* node looks for the seed */
    EVENT_SPARE,   /* the link of `generation` has had its time */
    EVENT_EXIT,    /* the process `serial` of node ends */
};

/* Updates that several messages share. */
struct swim_parcel {
    uint32_t references, count;
    struct member update[];
};

struct swim_event {
    uint64_t at_us, sequence;
    enum swim_event_kind kind;
    uint32_t node, peer, generation;
    uint64_t serial;
    enum member_evidence evidence;
    bool for_machine; /* DIAL: the machine asked */
    struct swim_msg *msg;
    struct swim_parcel *parcel;
};

/* What a frozen machine will get. */
struct swim_waiting {
    struct swim_waiting *next;
    struct swim_event event;
    bool up; /* LINK_UP rather than event */
};

void swim_push(struct swim_cluster *c, struct swim_event e);
struct swim_event swim_pop(struct swim_cluster *c);
void swim_event_free(struct swim_event *e);
void swim_step(struct swim_cluster *c, uint32_t v, struct membership_event e);
void swim_arm(struct swim_cluster *c, uint32_t v);
void swim_off(struct swim_cluster *c, uint32_t v, enum member_evidence evidence);
void swim_watch(struct swim_cluster *c, uint32_t at, uint32_t from);
void swim_watch_all(struct swim_cluster *c, uint32_t v);
void swim_reset_if_half(struct swim_cluster *c, uint32_t at, uint32_t from, enum member_evidence evidence);
void swim_take_message(struct swim_cluster *c, struct swim_event *e);
void swim_dispatch(struct swim_cluster *c, struct swim_event *e);
void swim_address(uint32_t v, char *text);
uint64_t swim_latency_us(struct swim_cluster *c);
uint64_t swim_between(struct swim_cluster *c, uint64_t low, uint64_t high);

#endif

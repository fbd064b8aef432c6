/* Every bound of gadabout in one place. A length, count or index that comes from outside (a peer, a
 * file, an option) is compared with one of these before it is used or allocated. */
#ifndef GADABOUT_BASE_LIMITS_H
#define GADABOUT_BASE_LIMITS_H

#include <assert.h>

/* Cluster. */
#define NODE_COUNT_MAX 65536u /* ranks in one experiment */
#define LINK_COUNT_MAX 1024u  /* links one node keeps */
#define MEMBER_COUNT_MAX                                                                                     \
    8192u /* members one node knows, the dead included; places of it are kept for links */
#define EDGE_COUNT_MAX 8388608u /* edges of one mixing graph: a complete one of 4096 nodes fits */
#define STREAM_COUNT_MAX 65536u /* DIGEST streams of one plan */
#define BOOT_UNITS_PER_US 1024u /* boot ids count microseconds since 1970, with room for a drawn part */
#define BOOT_MAX (1ull << 62)   /* boot ids grow with the time: the last ones of the year 2112 */

/* Wire. */
#define FRAME_CHUNK_MAX (64u * 1024u)       /* payload bytes of one frame */
#define MESSAGE_HEAD_MAX (64u * 1024u)      /* msgpack control fields of one message */
#define WIRE_DEPTH_MAX 8u                   /* nesting of msgpack containers */
#define WIRE_OBJECT_MAX 4096u               /* msgpack objects in one head */
#define WIRE_STRING_MAX 1024u               /* bytes of one msgpack string */
#define LINK_QUEUE_MAX (8u * 1024u * 1024u) /* queued bytes per link beside one message in flight */
#define FAULT_RULE_MAX 1024u           /* injected faults of one node, ended ones that are told of included */
#define FAULT_LINE_MAX (1024u * 1024u) /* bytes in the delay line of one direction of a link */
#define SCENARIO_FAULT_MAX 1024u       /* entries of one scenario file */
#define SCENARIO_REPEAT_MAX 100000u    /* times that one entry happens */
#define SCENARIO_RULE_MAX 65536u       /* faults of single nodes that one entry stands for */
#define TAG_TEXT_MAX 64u               /* bytes of one member's tag with terminator */
#define ADDRESS_TEXT_MAX 272u          /* "host:port" with terminator; a DNS name is <= 253 */

/* Relayed links (net/relay/relay.h). */
#define RELAY_PAIR_MAX 16u                      /* pairs of members that one node relays for */
#define RELAY_LINK_MAX 64u                      /* relayed links of one node */
#define RELAY_ASK_MAX 8u                        /* neighbours asked in one try */
#define RELAY_WINDOW_MESSAGES 16u               /* of one lane and direction that a relayer holds, .. */
#define RELAY_WINDOW_BYTES (1024u * 1024u)      /* .. unless it is a single message, of any size */
#define RELAY_HEAD_MAX (MESSAGE_HEAD_MAX - 64u) /* bytes of a head over a relayed link */

/* Models and algorithms. */
#define MODEL_DIM_MAX 2147483648ull /* float32 parameters: 2^31 */
#define ALGO_FIELD_MAX 24u          /* integers of one algorithm message */
/* Rounds, views, versions: how far a peer's may be ahead of what a node knows. A newcomer knows nothing: two years of
 * rounds of a millisecond. Beyond it is a lie, which would use up the numbers there are. */
#define NUMBER_AHEAD_MAX (1ull << 36)
#define NUMBER_TOP (1ull << 62)
#define ALGO_BITS_MAX 8192u   /* bytes of one algorithm message's bit map */
#define CHOICE_PARAM_MAX 16u  /* key=value pairs of one choice */
#define CHOICE_TEXT_MAX 1024u /* bytes of one "name:key=value,..." */

/* The model for a newcomer. */
#define TRANSFER_CHUNK_MAX (4u * 1024u * 1024u) /* bytes of one chunk */
#define TRANSFER_CHUNK_COUNT_MAX 65536u         /* chunks of one model */
#define TRANSFER_AHEAD_MAX 8u                   /* chunks that one newcomer asks of one donor ahead */
#define GIVE_RATE_MIN (1024u * 1024u)           /* bytes per second of a donor, if it has a cap */
#define TRANSFER_WAIT_MAX_US 30000000u          /* a donor's "ask again later" counts up to that */

/* Checkpoints. */
#define CHECKPOINT_ADDRESS_MAX 256u            /* addresses in the book */
#define CHECKPOINT_GENERATION_MAX (1ull << 62) /* saves of one state directory */
#define CHECKPOINT_SECTION_MAX                                                                               \
    (64ull * MODEL_DIM_MAX) /* bytes of one section: 16 vectors of the largest model */

/* Data files. */
#define DATASET_ROW_MAX 100000000u
#define DATASET_FEATURE_MAX 16777216u
#define DATASET_CLASS_MAX 65536u
#define DATASET_LINE_MAX (256u * 1024u * 1024u) /* bytes of one line of text */

static_assert(MESSAGE_HEAD_MAX <= FRAME_CHUNK_MAX, "a head travels in one frame");
static_assert(MEMBER_COUNT_MAX > 2u * LINK_COUNT_MAX, "there is room for whom we only hear of");
static_assert(ALGO_BITS_MAX * 8u >= NODE_COUNT_MAX, "a visited map covers every rank");
static_assert((unsigned long long)TRANSFER_CHUNK_MAX * TRANSFER_CHUNK_COUNT_MAX >= 4 * MODEL_DIM_MAX,
              "every model can be cut");
static_assert(ALGO_BITS_MAX + ALGO_FIELD_MAX * 9u + 64u <= MESSAGE_HEAD_MAX, "an algorithm head fits");

#endif

/* What a bad network does to the frames of one direction of one path: wait, get lost (alone or in bursts), come
 * twice, overtake, get damaged. A seeded function of the frames' times and sizes; no clock and no I/O.
 *
 * Bursts follow Gilbert and Elliott: the path is good or bad for exponentially distributed times; in a bad time
 * frames are lost with their own probability. */
#ifndef GADABOUT_TESTS_CHAOS_IMPAIR_H
#define GADABOUT_TESTS_CHAOS_IMPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/prng.h"

struct impair_config {
    uint64_t delay_us;  /* each frame waits delay +- jitter, uniform */
    uint64_t jitter_us; /* at most delay_us */
    double loss;        /* probabilities in [0, 1] */
    double duplicate;
    double reorder; /* share of frames that do not wait at all, and so overtake */
    double corrupt; /* share of frames with one bit of TCP or UDP payload flipped, checksum made to fit */
    uint64_t good_us, bad_us; /* mean lengths of good and bad times; bad_us = 0: always good */
    double bad_loss;
    uint64_t rate_bits_s; /* 0 = no limit */
    uint64_t queue_bytes; /* what may wait for the rate; more is lost */
};

struct impair_counts {
    uint64_t frames, bytes; /* that came in */
    uint64_t lost, burst_lost, overflowed;
    uint64_t delayed, duplicated, reordered, corrupted;
};

struct impair {
    struct impair_config config;
    struct impair_counts counts;
    struct prng prng;
    bool bad;
    uint64_t switch_us; /* when the good or bad time ends */
    uint64_t free_us;   /* when what waits for the rate has gone out */
};

struct impair_verdict {
    uint32_t copies; /* 0 = lost, 1, 2 */
    uint64_t at_us[2];
    bool corrupt;
};

/* Words as in "delay=200ms jitter=50ms loss=0.05 burst=2s/10s/1": bad/good/loss. Times: us, ms, s; rate: bits per
 * second, with k or m. What is not named is off. Returns 0, or -1 with *bad at the word that makes no sense. */
int impair_parse(struct impair_config *out, const char *words, const char **bad);

/* The stream of draws is a function of (seed, index). */
void impair_init(struct impair *p, uint64_t seed, uint64_t index);
void impair_set(struct impair *p, const struct impair_config *config, uint64_t now_us);

/* Counts the frame and says what becomes of it. */
void impair_judge(struct impair *p, uint64_t now_us, size_t size, struct impair_verdict *out);

/* Flips one bit in the payload of an Ethernet frame that carries TCP or UDP over IPv4, and corrects the checksum,
 * so that only the application can notice. Returns false, nothing changed, when there is no such payload. */
bool impair_corrupt(struct impair *p, uint8_t *frame, size_t size);

#endif

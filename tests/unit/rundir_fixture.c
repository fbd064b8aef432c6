/* A configuration, a metrics line and a summary for the tests of the run directory. */
#include "tests/unit/rundir_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void rundir_make_config(enum command command, const char *out, struct config *c)
{
    char *argv[] = {"command", "--nodes=8", "--algorithm=digest", "--classes=9,4", "--seed=7"};
    struct err_text why;
    int err = config_parse(command, 5, argv, c, &why);
    if (err != 0) fail_msg("%s", why.text);
    if (out != NULL) c->out = strdup(out);
}

const struct metrics_line rundir_sample_line = {
    .time_s = 1.5,
    .node = 3,
    .steps = 100,
    .steps_handed_over = 90,
    .loss = 0.1,
    .accuracy = NAN,
    .links = 4,
    .bytes_sent = (uint64_t)1 << 40,
    .bytes_received = 6,
    .model_transfers = 7,
    .mixes = 8,
    .tokens_regenerated = 9,
    .rebases = 10,
    .duplicates_dropped = 11,
    .exchanges_torn = 12,
    .version = UINT64_MAX,
};

struct summary rundir_sample_summary(const struct config *c, const struct lost_node *lost)
{
    return (struct summary){
        .config = c,
        .steps_total = 800,
        .loss = 0.5,
        .accuracy = 0.8,
        .accuracy_min = 0.7,
        .accuracy_alone = NAN,
        .accuracy_pooled = INFINITY,
        .consensus_distance = 0.25,
        .spectral_gap = 0.125,
        .bytes_sent = 1000,
        .model_transfers = 50,
        .tokens_regenerated = 1,
        .rebases = 2,
        .duplicates_dropped = 3,
        .exchanges_torn = 4,
        .wall_s = 2.5,
        .virtual_s = 1000,
        .trace_sha256 = "abc",
        .evaluated_on = "held-out",
        .stopped_by = "steps",
        .lost = lost,
        .lost_count = 1,
    };
}

/* What a run's process tells the one that started it: fixed-size records through a pipe. Both are the same
 * program, so a record is the struct as it lies in memory. Private to agent/reproduce. */
#ifndef GADABOUT_AGENT_REPRODUCE_POOL_H
#define GADABOUT_AGENT_REPRODUCE_POOL_H

#include "agent/reproduce/study.h"

enum pool_kind {
    POOL_POINT,  /* of the curve */
    POOL_DONE,   /* the last record of a run that came to its end */
    POOL_CUT,    /* ... that Ctrl-C cut short */
    POOL_FAILED, /* ... that could not go on */
};

struct pool_record {
    enum pool_kind kind;
    struct study_point point; /* POOL_POINT */
    struct err_text failure;  /* POOL_FAILED */
};

#endif

#include "tests/sim/counter.h"

#include <stdlib.h>

#include "base/check.h"

static void counter_free(struct trainer *t)
{
    free(t);
}

int counter_make(counter_run_fn run, void *owner, uint32_t place, struct trainer **out)
{
    struct counter *c = mem_new(1, sizeof *c);
    *c = (struct counter){{.run = run, .free = counter_free}, owner, place};
    *out = &c->base;
    return 0;
}

/* What an instance of the harness has on disk. */
#include "tests/unit/algo_harness_internal.h"

#include <string.h>

#include "base/check.h"

void harness_save(struct harness *h, rank_t r, bool last)
{
    struct instance *in = &h->instance[r];
    CHECK(in->algo != NULL);
    if (in->saved_x == NULL) in->saved_x = mem_new(h->dim, sizeof *in->saved_x);
    memcpy(in->saved_x, h->type->model(in->algo), h->dim * sizeof *in->saved_x);
    blob_unref(in->saved);
    in->saved = algo_state_save(h->type, in->algo, r, h->dim, last);
}

void harness_forget_state(struct harness *h, rank_t r)
{
    blob_unref(h->instance[r].saved);
    h->instance[r].saved = NULL;
}

const struct blob *harness_saved_state(const struct harness *h, rank_t r)
{
    return h->instance[r].saved;
}

/* What a node keeps of its method beside the model, for a life to come: what it owes to others (residuals of error
 * feedback, progress that nobody has yet) and what it has promised. What belongs to a link or to a view is not in
 * it: the other end forgets that too (boot id), and it begins anew.
 *
 * The bytes, little-endian:
 *    0  8  magic "gadabMTH"
 *    8  4  u32 version of the method's own part
 *   12  4  u32 rank of the node that wrote it
 *   16 16  name of the method, padded with zeros
 *   32  8  u64 dim
 *   40  8  u64 1 = the life ended with this save, nothing went out after it; 0 = it may have gone on
 *   48     the method's own part
 *
 * It holds together with the model of the same moment: take both between two steps, with nothing between. A section
 * that is damaged, of another method, dim or version, too short or too long is refused as a whole. */
#ifndef GADABOUT_ALGO_STATE_H
#define GADABOUT_ALGO_STATE_H

#include "algo/step.h"

/* -- for methods ------------------------------------------------------------------------------- */

struct state_writer {
    struct blob *out; /* grows */
    size_t capacity;
};

void state_put64(struct state_writer *w, uint64_t v);
void state_put_floats(struct state_writer *w, size_t n, const float *x); /* (n) finite */

/* Reads what was put, in the same order. After the first thing that is not there all is 0 or NULL, and state_end
 * says so: nothing is to be taken up before that. */
struct state_reader {
    const uint8_t *at;
    size_t left;
    rank_t rank; /* of the writer */
    bool last;   /* its life ended with this save: nothing that is owed here has gone out since */
    bool failed;
};

uint64_t state_get64(struct state_reader *r);
/* Returns (n) owned; NULL = failed, or a value is not finite. */
float *state_get_floats(struct state_reader *r, size_t n);
/* 0, or ERR_FORMAT: something was not there, or something is left. */
int state_end(const struct state_reader *r, struct err_text *why);

/* -- for owners -------------------------------------------------------------------------------- */

/* Between two steps. last: there will be no step any more. Returns owned; NULL when the method keeps nothing beside the
 * model, or has nothing to keep now. */
struct blob *algo_state_save(const struct algo_type *type, const struct algo *a, rank_t rank, size_t dim,
                             bool last);

/* Before START. Takes up what algo_state_save gave in a former life. Errors: ERR_FORMAT with why, nothing has
 * changed then: the method goes on from its model alone. */
int algo_state_restore(const struct algo_type *type, struct algo *a, size_t dim, const uint8_t *bytes,
                       size_t size, struct err_text *why);

#endif

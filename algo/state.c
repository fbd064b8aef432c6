/* The bytes of a method's state: its head, and what methods write and read behind it (state.h).
 *
 * Failure courses of reading: each refuses the whole with a reason in words.
 *  - another magic, method, dim or version, a head that ends early.
 *  - the method's own part ends early or late, or has a value that is not finite: state_end. */
#include "algo/state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "algo/vec.h"
#include "base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they are in memory");

enum { HEAD_SIZE = 48, NAME_SIZE = 16 };

static const char magic[8] = "gadabMTH";

struct head {
    char magic[8];
    uint32_t version, rank;
    char name[NAME_SIZE];
    uint64_t dim, last;
};

_Static_assert(sizeof(struct head) == HEAD_SIZE, "the head has no gaps");

/* -- writing ----------------------------------------------------------------------------------- */

static uint8_t *make_room(struct state_writer *w, size_t size)
{
    size_t used = w->out != NULL ? w->out->size : 0;
    if (used + size > w->capacity) {
        size_t capacity = used + size > 2 * w->capacity ? used + size : 2 * w->capacity;
        struct blob *larger = blob_new(capacity);
        if (used > 0) memcpy(larger->data, w->out->data, used);
        blob_unref(w->out);
        w->out = larger;
        w->capacity = capacity;
    }
    w->out->size = used + size;
    return w->out->data + used;
}

void state_put64(struct state_writer *w, uint64_t v)
{
    memcpy(make_room(w, sizeof v), &v, sizeof v);
}

void state_put_floats(struct state_writer *w, size_t n, const float *x)
{
    memcpy(make_room(w, n * sizeof *x), x, n * sizeof *x);
}

static struct head head_of(const struct algo_type *type, rank_t rank, size_t dim)
{
    struct head h = {.version = type->state_version, .rank = rank, .dim = dim};
    memcpy(h.magic, magic, sizeof magic);
    size_t length = strlen(type->spec.name);
    CHECK(length < NAME_SIZE);
    memcpy(h.name, type->spec.name, length);
    return h;
}

struct blob *algo_state_save(const struct algo_type *type, const struct algo *a, rank_t rank, size_t dim,
                             bool last)
{
    if (type->state_save == NULL) return NULL;
    struct head h = head_of(type, rank, dim);
    h.last = last;
    struct state_writer w = {NULL, 0};
    memcpy(make_room(&w, sizeof h), &h, sizeof h);
    type->state_save(a, &w);
    if (w.out->size > sizeof h) return w.out;
    blob_unref(w.out);
    return NULL;
}

/* -- reading ----------------------------------------------------------------------------------- */

static const uint8_t *take(struct state_reader *r, size_t size)
{
    r->failed = r->failed || size > r->left;
    if (r->failed) return NULL;
    const uint8_t *at = r->at;
    r->at += size;
    r->left -= size;
    return at;
}

uint64_t state_get64(struct state_reader *r)
{
    uint64_t v = 0;
    const uint8_t *at = take(r, sizeof v);
    if (at != NULL) memcpy(&v, at, sizeof v);
    return v;
}

float *state_get_floats(struct state_reader *r, size_t n)
{
    const uint8_t *at = n <= MODEL_DIM_MAX ? take(r, n * sizeof(float)) : take(r, SIZE_MAX);
    if (at == NULL) return NULL;
    float *x = mem_new(n, sizeof *x); /* of its own: the bytes need not be aligned */
    memcpy(x, at, n * sizeof *x);
    if (vec_finite(n, x)) return x;
    free(x);
    r->failed = true;
    return NULL;
}

int state_end(const struct state_reader *r, struct err_text *why)
{
    if (r->failed) return err_set(why, ERR_FORMAT, "it ends early, or holds what cannot be");
    if (r->left > 0) return err_set(why, ERR_FORMAT, "%zu bytes too many", r->left);
    return 0;
}

static int check_head(const struct algo_type *type, const struct head *h, size_t dim, struct err_text *why)
{
    struct head ours = head_of(type, 0, dim);
    if (memcmp(h->magic, ours.magic, sizeof h->magic) != 0)
        return err_set(why, ERR_FORMAT, "it does not begin as a method's state");
    if (memcmp(h->name, ours.name, sizeof h->name) != 0)
        return err_set(why, ERR_FORMAT, "it is of another method than %s", type->spec.name);
    if (h->version != ours.version)
        return err_set(why, ERR_FORMAT, "it is of version %" PRIu32 ", and this program has %" PRIu32,
                       h->version, ours.version);
    if (h->dim != ours.dim)
        return err_set(why, ERR_FORMAT, "it is of %" PRIu64 " parameters, and the model has %zu", h->dim,
                       dim);
    if (h->last > 1) return err_set(why, ERR_FORMAT, "it has a head that cannot be");
    return 0;
}

int algo_state_restore(const struct algo_type *type, struct algo *a, size_t dim, const uint8_t *bytes,
                       size_t size, struct err_text *why)
{
    struct head h;
    if (size <= sizeof h) return err_set(why, ERR_FORMAT, "it ends early");
    memcpy(&h, bytes, sizeof h);
    int err = check_head(type, &h, dim, why);
    if (err != 0) return err;
    if (type->state_restore == NULL)
        return err_set(why, ERR_FORMAT, "%s keeps nothing beside the model", type->spec.name);
    struct state_reader r = {bytes + sizeof h, size - sizeof h, h.rank, h.last == 1, false};
    return type->state_restore(a, &r, why);
}

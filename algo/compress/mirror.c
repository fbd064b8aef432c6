/* Both ends of a mirrored vector; see mirror.h. */
#include "algo/compress/mirror.h"

#include <string.h>

#include "base/check.h"
#include "base/prng.h"

void mirror_init(struct mirror *m, struct pack *pack, size_t dim, uint64_t seed, rank_t from, rank_t to,
                 uint32_t channel)
{
    CHECK_IMPLIES(pack != NULL, pack_dim(pack) == dim);
    struct prng direction;
    prng_split(&direction, seed, "mirror", (uint64_t)from << 32 | to);
    *m = (struct mirror){
        .pack = pack,
        .dim = dim,
        .seed = prng_next(&direction) + channel,
        .dither = from,
    };
}

void mirror_forget(struct mirror *m)
{
    blob_unref(m->value);
    m->value = NULL;
    m->count = 0;
}

static struct compress_context context_of(const struct mirror *m)
{
    return (struct compress_context){.seed = m->seed, .round = m->count, .dither = m->dither};
}

/* Both ends hold `value` from now on. Takes a reference of its own. */
static void hold(struct mirror *m, struct blob *value)
{
    m->count++;
    if (m->pack == NULL) return;
    blob_ref(value);
    blob_unref(m->value);
    m->value = value;
}

void mirror_send_whole(struct mirror *m, struct blob *x, struct algo_msg *msg)
{
    CHECK(x->size == m->dim * sizeof(float));
    hold(m, x);
    msg->vec = blob_ref(x);
}

/* NULL: this difference cannot be compressed. */
static struct blob *send_packed(struct mirror *m, const float *x, struct algo_msg *msg)
{
    struct blob *value = blob_new(m->dim * sizeof *x);
    struct blob *packed = blob_new(pack_size_max(m->pack));
    float *next = blob_floats_own(value);
    const float *known = blob_floats(m->value);
    for (size_t i = 0; i < m->dim; i++) next[i] = x[i] - known[i];
    struct compress_context context = context_of(m);
    size_t size = 0;
    if (pack_encode(m->pack, &context, next, packed->data, &size, NULL) != 0) {
        blob_unref(value);
        blob_unref(packed);
        return NULL;
    }
    packed->size = size;
    memcpy(next, known, m->dim * sizeof *next);
    int err = pack_decode_add(m->pack, &context, packed->data, size, 1.0f, next);
    CHECK(err == 0); /* our own message: both ends run this very function */
    hold(m, value);
    msg->packed = packed;
    return value;
}

struct blob *mirror_send(struct mirror *m, const float *x, struct blob *whole, struct algo_msg *msg)
{
    struct blob *value = NULL;
    if (!mirror_sends_whole(m)) value = send_packed(m, x, msg);
    if (value != NULL) return value;
    value = whole != NULL ? blob_ref(whole) : blob_copy(x, m->dim * sizeof *x);
    mirror_send_whole(m, value, msg);
    return value;
}

/* m->value + the difference, in a blob of its own where others still refer to m->value. */
static int receive_packed(struct mirror *m, const struct blob *packed, struct blob **x)
{
    if (m->value == NULL) return ERR_PROTO;
    bool shared = m->value->references > 1;
    struct blob *value = shared ? blob_copy(m->value->data, m->value->size) : blob_ref(m->value);
    struct compress_context context = context_of(m);
    if (pack_decode_add(m->pack, &context, packed->data, packed->size, 1.0f, blob_floats_own(value)) != 0) {
        blob_unref(value);
        return ERR_PROTO;
    }
    *x = value;
    return 0;
}

int mirror_receive(struct mirror *m, const struct algo_msg *msg, struct blob **x)
{
    if ((msg->vec != NULL) == (msg->packed != NULL)) return ERR_PROTO;
    if (msg->vec != NULL) {
        *x = blob_ref(msg->vec);
    } else {
        int err = receive_packed(m, msg->packed, x);
        if (err != 0) return err;
    }
    hold(m, *x);
    return 0;
}

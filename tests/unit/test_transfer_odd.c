/* Goal: no fields whatever end the process or get a wrong number into the model.
 * Method: seeded messages with fields of all sizes to both sides of transfers, which then go on to their ends, the laws
 * of transfer_fixture.h watching. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "tests/unit/transfer_fixture.h"

#define MINUTE_US 60000000u
#define CHUNKS 24u
#define FLOATS (CHUNKS * RIG_CHUNK / sizeof(float) - 7)

static uint64_t odd_number(struct prng *p, const struct rig *r)
{
    switch (prng_below(p, 9)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX - prng_below(p, 3);
    case 2:
        return 1ull << prng_below(p, 64);
    case 3:
        return r->dim * sizeof(float);
    case 4:
        return RIG_CHUNK;
    case 5:
        return r->snapshot_count == 0 ? 1 : r->snapshot[prng_below(p, (uint32_t)r->snapshot_count)].id;
    case 6:
        return prng_next(p);
    default:
        return prng_below(p, CHUNKS + 2);
    }
}

static struct state_msg odd_message(struct prng *p, const struct rig *r)
{
    struct state_msg m = {.kind = (enum state_kind)prng_below(p, 9)};
    if (r->message_count > 0 && prng_below(p, 3) > 0) { /* one that is under way, spoilt */
        m = r->message[prng_below(p, (uint32_t)r->message_count)].msg;
        if (m.body != NULL) m.body = blob_copy(m.body->data, m.body->size);
    }
    uint64_t *field[] = {&m.snapshot, &m.size,  &m.chunk_size, &m.progress,
                         &m.first,    &m.count, &m.hash,       &m.wait_us};
    for (uint32_t k = prng_below(p, 4); k > 0; k--) *field[prng_below(p, 8)] = odd_number(p, r);
    if (m.body != NULL && m.body->size > 0 && prng_below(p, 2) == 0)
        m.body->data[prng_below(p, (uint32_t)m.body->size)] ^= (uint8_t)(1 + prng_below(p, 255));
    if (m.body == NULL && prng_below(p, 4) == 0) {
        m.body = blob_new(prng_below(p, 2 * RIG_CHUNK));
        memset(m.body->data, 0, m.body->size);
    }
    return m;
}

/* One odd message to one of both sides. Refused: nothing to do follows from it, and no deadline moves. */
static void inject(struct rig *r, struct prng *p)
{
    struct state_msg m = odd_message(p, r);
    struct rig_donor *d = &r->donor[prng_below(p, r->donor_count)];
    bool to_newcomer = prng_below(p, 2) == 0;
    uint64_t before_us = to_newcomer ? fetch_deadline_us(r->fetch) : donor_deadline_us(d->machine);
    int err = to_newcomer ? rig_tell_newcomer(r, d, &m) : rig_tell_donor(r, d, &m);
    uint64_t after_us = to_newcomer ? fetch_deadline_us(r->fetch) : donor_deadline_us(d->machine);
    assert_true(err == 0 || (err == ERR_PROTO && before_us == after_us));
    blob_unref(m.body);
}

static void odd_messages_never_hurt(void **state)
{
    (void)state;
    uint32_t refused = 0, taken = 0;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct prng p;
        prng_split(&p, seed, "odd", 0);
        struct rig *r = rig_new(1 + prng_below(&p, (uint32_t)FLOATS), 3, seed);
        r->tolerant = true;
        for (uint32_t i = 0; i < 3; i++) rig_up(r, i);
        for (uint32_t k = 0; k < 60 && !fetch_done(r->fetch); k++) {
            uint32_t errors = r->proto_errors;
            inject(r, &p);
            refused += r->proto_errors - errors;
            taken += r->proto_errors == errors;
            rig_run(r, r->now_us + prng_below(&p, 1000));
        }
        if (!rig_run(r, r->now_us + 10 * MINUTE_US))
            fail_msg("seed %u: not done: %s", (unsigned)seed, r->wrong);
        const char *wrong = rig_verdict(r);
        if (wrong != NULL) fail_msg("seed %u: %s", (unsigned)seed, wrong);
        rig_free(r);
    }
    print_message("%u refused, %u taken\n", refused, taken);
    assert_true(refused > 10000 && taken > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_messages_never_hurt),
    };
    return cmocka_run_group_tests_name("transfer odd", tests, NULL, NULL);
}

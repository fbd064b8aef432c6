#include "tests/unit/harness_faults.h"

void harness_disturb(struct harness *h, struct prng *random, uint32_t n)
{
    rank_t a = prng_below(random, n), b = (a + 1 + prng_below(random, n - 1)) % n;
    switch (prng_below(random, 8)) {
    case 0:
        if (harness_algo(h, a) != NULL) harness_crash(h, a);
        break;
    case 1:
    case 2:
        if (harness_algo(h, a) == NULL) harness_restart(h, a, true);
        break;
    case 3:
    case 4:
        harness_link_down(h, a, b);
        break;
    default:
        harness_link_up(h, a, b);
    }
}

void harness_disturb_and_heal(struct harness *h, uint64_t seed, uint32_t n)
{
    struct prng random;
    prng_split(&random, seed, "faults", 0);
    for (int i = 0; i < 12; i++) {
        harness_run_until(h, harness_now(h) + prng_below(&random, 400000));
        rank_t a = prng_below(&random, n), b = (a + 1) % n;
        if (i % 3 == 0 && harness_algo(h, a) != NULL) harness_crash(h, a);
        if (i % 3 == 1 && harness_algo(h, a) == NULL) harness_restart(h, a, true);
        if (i % 3 == 2) harness_link_down(h, a, b);
    }
    for (rank_t a = 0; a < n; a++) {
        if (harness_algo(h, a) == NULL) harness_restart(h, a, true);
        harness_link_up(h, a, (a + 1) % n);
    }
}

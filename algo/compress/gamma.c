/* A step size that follows from how much a compressor keeps; see gamma.h. */
#include "algo/compress/gamma.h"

static const double omega_min = 1e-3; /* less is no guide */

int compress_settle_gamma(const struct pack *pack, const char *name, double *gamma, struct err_text *why)
{
    if (*gamma != 0) return 0;
    *gamma = pack != NULL ? pack_omega(pack) : 1;
    if (*gamma >= omega_min) return 0;
    return err_set(why, ERR_USAGE,
                   "--algorithm: gamma cannot be chosen from the quality %.2g that %s promises for %zu "
                   "parameters; give it, as in gamma=0.3",
                   *gamma, name, pack_dim(pack));
}

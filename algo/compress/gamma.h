/* The consensus step of methods that mix compressed models. */
#ifndef GADABOUT_ALGO_COMPRESS_GAMMA_H
#define GADABOUT_ALGO_COMPRESS_GAMMA_H

#include "algo/compress/pack.h"
#include "base/err.h"

/* *gamma in (0, 1] is the share of a mixing step that is taken; 0 is replaced by what of a model survives
 * (pack_omega; 1 for NULL). `name`: of the compressor, for the error. Returns 0, or ERR_USAGE with why when that is
 * too little to be a guide. */
int compress_settle_gamma(const struct pack *pack, const char *name, double *gamma, struct err_text *why);

#endif

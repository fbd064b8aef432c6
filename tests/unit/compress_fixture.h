/* What the tests of compressors share: choices, dimensions, vectors of several kinds. cmocka and its headers
 * come first. */
#ifndef GADABOUT_TESTS_UNIT_COMPRESS_FIXTURE_H
#define GADABOUT_TESTS_UNIT_COMPRESS_FIXTURE_H

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/compress/compress.h"
#include "base/prng.h"
#include "tests/unit/compress_make.h"

enum { DIM_MAX = 1000, BYTES_MAX = 5 * DIM_MAX };

static const size_t dims[] = {1, 2, 7, 64, 1000};
enum { DIM_COUNT = sizeof dims / sizeof dims[0] };

static const char *const choices[] = {
    "none",
    "fp16",
    "bf16",
    "int8",
    "int8:block=7",
    "topk",
    "topk:fraction=0.1",
    "topk:fraction=0.5",
    "topk:fraction=1",
    "randk:fraction=0.1",
    "randk:fraction=0.7",
    "randk:fraction=0.1,variant=unbiased",
    "block:fraction=0.1",
    "block:fraction=1",
    "bernoulli:p=0.2",
    "bernoulli:p=1",
    "sign",
    "qsgd:bits=1",
    "qsgd:bits=2,levels=power",
    "qsgd:bits=4,variant=unbiased",
    "qsgd:bits=8,variant=unbiased",
    "qsgd:bits=16,levels=power,variant=unbiased",
    "powersgd:rank=1",
    "powersgd:rank=3",
};
enum { CHOICE_COUNT = sizeof choices / sizeof choices[0] };

static inline struct compress_context context_at(uint64_t round, size_t dim)
{
    size_t rows = dim == 1000 ? 25 : dim == 64 ? 8 : 0;
    return (struct compress_context){.seed = 11, .round = round, .tensor = 3, .dither = 5, .rows = rows};
}

enum { KINDS = 5 };

/* Gaussian; one great entry; many equal; sparse; all zero. */
static inline void fill(size_t dim, int kind, uint64_t seed, float *x)
{
    struct prng p;
    prng_split(&p, seed, "test_compress", (uint64_t)kind);
    for (size_t i = 0; i < dim; i++) {
        float v = (float)prng_normal(&p);
        if (kind == 1) v = i == dim / 2 ? -50.0f : 0.01f * v;
        if (kind == 2) v = v < 0 ? -1.0f : 1.0f;
        if (kind == 3) v = prng_below(&p, 10) == 0 ? v : 0.0f;
        if (kind == 4) v = 0.0f;
        x[i] = v;
    }
}

static inline double norm2(size_t dim, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static inline double error2(size_t dim, const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

#endif

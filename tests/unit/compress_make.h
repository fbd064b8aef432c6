/* Compressors from what --compress takes, and one of each kind. cmocka and its headers come first. */
#ifndef GADABOUT_TESTS_UNIT_COMPRESS_MAKE_H
#define GADABOUT_TESTS_UNIT_COMPRESS_MAKE_H

#include "algo/compress/compress.h"

static const char *const each_kind[] = {
    "none",
    "fp16",
    "bf16",
    "int8:block=16",
    "topk:fraction=0.05",
    "randk:fraction=0.05",
    "block:fraction=0.05",
    "bernoulli:p=0.05",
    "sign",
    "qsgd:bits=2",
    "powersgd:rank=1",
};
enum { EACH_KIND_COUNT = sizeof each_kind / sizeof each_kind[0] };

static inline struct choice choose(const char *text)
{
    struct choice choice;
    struct err_text why;
    if (choice_parse(compress_table, compress_table_count, "--compress", text, &choice, &why) != 0)
        fail_msg("%s", why.text);
    return choice;
}

static inline struct compressor *make(const char *text)
{
    struct choice choice = choose(text);
    return compressor_new(&choice);
}

#endif

/* Numbers in text, and memory that grows with the data that arrives. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

const char *text_number(const char *text, double *out)
{
    /* strtod also takes blanks, "nan", "inf" and hexadecimal; a data file must not. */
    size_t length = strspn(text, "0123456789+-.eE");
    char *end;
    double number = strtod(text, &end);
    if (length == 0 || end != text + length || fabs(number) > (double)FLT_MAX) return NULL;
    *out = number;
    return end;
}

void *room_for(void *old, size_t *capacity, size_t need, size_t total, size_t size)
{
    CHECK(need <= total);
    if (need <= *capacity) return old;
    size_t wanted = *capacity < 4096 ? 4096 : *capacity * 2;
    if (wanted < need) wanted = need;
    if (wanted > total) wanted = total;
    *capacity = wanted;
    return mem_resize(old, wanted, size);
}

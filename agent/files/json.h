/* JSON values with the conventions of all our output: what is not known is null. */
#ifndef GADABOUT_AGENT_FILES_JSON_H
#define GADABOUT_AGENT_FILES_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "base/choice.h"

json_t *json_number_or_null(double number);       /* null for NaN and infinities, which JSON cannot say */
json_t *json_count_or_null(uint64_t count);       /* null for UINT64_MAX; larger than INT64_MAX is clipped */
json_t *json_text_or_null(const char *text);      /* bytes that are not UTF-8 become '?'; NULL is null */
json_t *json_choice(const struct choice *choice); /* "name:key=value,..." with all parameters resolved */

#endif

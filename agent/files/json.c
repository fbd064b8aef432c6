/* Values of our JSON output. */
#include "agent/files/json.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

json_t *json_number_or_null(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

json_t *json_count_or_null(uint64_t count)
{
    if (count == UINT64_MAX) return json_null();
    return json_integer(count > INT64_MAX ? INT64_MAX : (json_int_t)count);
}

json_t *json_text_or_null(const char *text)
{
    if (text == NULL) return json_null();
    json_t *value = json_string(text);
    if (value != NULL) return value;
    char *copy = mem_copy_text(text); /* a file name in another encoding must not cost the whole summary */
    for (char *c = copy; *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

json_t *json_choice(const struct choice *choice)
{
    char text[CHOICE_PARAM_MAX * 192];
    return json_text_or_null(choice_print(choice, text, sizeof text));
}

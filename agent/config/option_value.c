/* Text to field and back, for each kind of option.
 *
 * Refused, each with one line that names the source, the value and what is allowed: an empty or overlong
 * value; a number that does not parse or is out of range; an address without host or port, or one to reach
 * that nobody can reach; more joins than fit; an invitation that is damaged or contradicts another; a choice
 * that its table does not know. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/config/internal.h"
#include "base/check.h"
#include "base/limits.h"

/* The field of an option; its type is the kind's. */
static void *field_of(const struct config_option *o, struct config *c)
{
    return (char *)c + o->field;
}

static const void *const_field_of(const struct config_option *o, const struct config *c)
{
    return (const char *)c + o->field;
}

/* -- setting ----------------------------------------------------------------------------------- */

static int set_whole(const struct config_option *o, uint64_t high, const char *where, const char *text,
                     uint64_t *out, struct err_text *why)
{
    /* strtoull takes signs and blanks: digits only is what a count looks like */
    bool valid = strspn(text, "0123456789") == strlen(text);
    uint64_t low = (uint64_t)o->low;
    errno = 0;
    unsigned long long number = strtoull(text, NULL, 10);
    if (valid && errno == 0 && number >= low && number <= high) {
        *out = number;
        return 0;
    }
    return err_set(why, ERR_USAGE,
                   "%s: '%s' must be a whole number from %" PRIu64 " to %" PRIu64 ", as in %s", where, text,
                   low, high, o->example);
}

static bool in_range(const struct config_option *o, double number)
{
    if (!isfinite(number) || number < o->low || number > o->high) return false;
    if ((o->properties & OPTION_ABOVE_LOW) != 0 && number <= o->low) return false;
    return (o->properties & OPTION_BELOW_HIGH) == 0 || number < o->high;
}

static int set_number(const struct config_option *o, const char *where, const char *text, double *out,
                      struct err_text *why)
{
    double number;
    int err = 0;
    if (o->kind == OPTION_SECONDS) {
        err = parse_seconds(text, &number);
    } else {
        char *end;
        number = strtod(text, &end);
        if (end == text || *end != '\0') err = ERR_USAGE;
    }
    if (err == 0 && in_range(o, number)) {
        *out = number;
        return 0;
    }
    return err_set(why, ERR_USAGE, "%s: '%s' must be %s %s %g and %s %g, as in %s", where, text,
                   o->kind == OPTION_SECONDS ? "a time (s, ms, us, min, h)" : "a number",
                   (o->properties & OPTION_ABOVE_LOW) != 0 ? "above" : "at least", o->low,
                   (o->properties & OPTION_BELOW_HIGH) != 0 ? "below" : "at most", o->high, o->example);
}

static int set_bool(const char *where, const char *text, bool *out, struct err_text *why)
{
    static const char *const words[] = {"off", "on", "no", "yes", "false", "true", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return 0;
        }
    return err_set(why, ERR_USAGE, "%s: '%s' must be on or off", where, text);
}

static void replace_text(char **field, const char *text)
{
    free(*field);
    *field = mem_copy_text(text);
}

/* host:port, or [host]:port when the host itself has colons. */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || strlen(text) >= ADDRESS_TEXT_MAX) return false;
    size_t digits = strspn(colon + 1, "0123456789");
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' || strtol(colon + 1, NULL, 10) > 65535)
        return false;
    if (strpbrk(text, " \t\n,") != NULL) return false;
    bool bracketed = text[0] == '[' && colon[-1] == ']';
    return bracketed || memchr(text, ':', (size_t)(colon - text)) == NULL;
}

/* Whether the host of an address stands for all of a machine's own: 0.0.0.0, [::]. */
static bool is_wildcard(const char *text)
{
    char host[ADDRESS_TEXT_MAX];
    struct in_addr four;
    struct in6_addr six;
    size_t from = text[0] == '[' ? 1 : 0;
    size_t size = (size_t)(strrchr(text, ':') - text) - 2 * from;
    memcpy(host, text + from, size);
    host[size] = '\0';
    if (from == 0)
        return inet_aton(host, &four) != 0 && four.s_addr == INADDR_ANY; /* "0" too, as in a dial */
    return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_UNSPECIFIED(&six);
}

static int check_address(const struct config_option *o, const char *where, const char *text,
                         struct err_text *why)
{
    bool to_reach = (o->properties & OPTION_TO_REACH) != 0;
    if (!is_address(text))
        return err_set(why, ERR_USAGE, "%s: '%s' must be host:port with a port from %d to 65535, as in %s",
                       where, text, to_reach ? 1 : 0, o->example);
    if (to_reach && strtol(strrchr(text, ':') + 1, NULL, 10) == 0)
        return err_set(why, ERR_USAGE,
                       "%s: '%s' cannot be reached: port 0 means any when listening only; give the port that "
                       "the member listens on, as in %s",
                       where, text, o->example);
    if (to_reach && is_wildcard(text))
        return err_set(why, ERR_USAGE,
                       "%s: '%s' cannot be reached: it means all addresses of a machine; give one of them, "
                       "as in %s",
                       where, text, o->example);
    return 0;
}

static int add_invitation(struct config *c, const char *where, const char *text, struct err_text *why)
{
    struct invite invite;
    struct err_text what = {""};
    if (invite_decode(text, &invite, &what) != 0) return err_set(why, ERR_USAGE, "%s: %s", where, what.text);
    if (c->invited && (strcmp(c->invited_cluster, invite.cluster) != 0 ||
                       memcmp(c->invited_shape, invite.shape, sizeof invite.shape) != 0))
        return err_set(why, ERR_USAGE, "%s: the two invitations are to different clusters; give one", where);
    if (c->join_count + invite.address_count > CONFIG_JOIN_MAX)
        return err_set(why, ERR_USAGE, "%s: the invitation's %u addresses are too many; %d in all fit", where,
                       invite.address_count, CONFIG_JOIN_MAX);
    c->invited = true;
    memcpy(c->invited_cluster, invite.cluster, sizeof c->invited_cluster);
    memcpy(c->invited_shape, invite.shape, sizeof c->invited_shape);
    for (uint32_t i = 0; i < invite.address_count; i++)
        c->join[c->join_count++] = mem_copy_text(invite.address[i]);
    return 0;
}

static int add_joins(const struct config_option *o, struct config *c, const char *where, const char *text,
                     struct err_text *why)
{
    char *copy = mem_copy_text(text);
    char *rest = copy;
    int err = 0;
    while (rest != NULL && err == 0) {
        char *item = strsep(&rest, ",");
        if (invite_is_meant(item)) {
            err = add_invitation(c, where, item, why);
            continue;
        }
        err = check_address(o, where, item, why);
        if (err == 0 && c->join_count == CONFIG_JOIN_MAX)
            err = err_set(why, ERR_USAGE, "%s: '%s' is one address too many; %d are enough to find a cluster",
                          where, item, CONFIG_JOIN_MAX);
        if (err == 0) c->join[c->join_count++] = mem_copy_text(item);
    }
    free(copy);
    return err;
}

static int set_algorithm(struct config *c, const char *where, const char *text, struct err_text *why)
{
    int err = algo_choose(text, &c->algorithm_params, &c->algorithm, why);
    const char prefix[] = "--algorithm: ";
    if (err == 0 || why == NULL || strncmp(why->text, prefix, sizeof prefix - 1) != 0) return err;
    char rest[ERR_TEXT_MAX]; /* name the place where the value came from, as for every other option */
    snprintf(rest, sizeof rest, "%s", why->text + sizeof prefix - 1);
    return err_set(why, err, "%s: %s", where, rest);
}

static int set_value(const struct config_option *o, struct config *c, const char *where, const char *text,
                     struct err_text *why)
{
    void *field = field_of(o, c);
    uint64_t whole = 0;
    int err;
    switch (o->kind) {
    case OPTION_U32:
        err = set_whole(o, (uint64_t)o->high, where, text, &whole, why);
        if (err == 0) *(uint32_t *)field = (uint32_t)whole;
        return err;
    case OPTION_U64: /* UINT64_MAX means "drawn at random" in `id`, so no option takes it */
        return set_whole(o, UINT64_MAX - 1, where, text, field, why);
    case OPTION_REAL:
    case OPTION_SECONDS:
        return set_number(o, where, text, field, why);
    case OPTION_SWITCH:
    case OPTION_FLAG:
        return set_bool(where, text, field, why);
    case OPTION_ADDRESS:
        if (!(o->properties & OPTION_OR_NONE) || strcmp(text, "none") != 0)
            err = check_address(o, where, text, why);
        else
            err = 0;
        if (err == 0) replace_text(field, text);
        return err;
    case OPTION_TEXT:
        replace_text(field, text);
        return 0;
    case OPTION_ADDRESSES:
        return add_joins(o, c, where, text, why);
    case OPTION_CHOICE:
        return choice_parse(o->table, *o->table_count, where, text, field, why);
    case OPTION_ALGORITHM:
        return set_algorithm(c, where, text, why);
    case OPTION_CONFIG:
        return 0;
    }
    UNREACHABLE();
}

int option_set(const struct config_option *o, struct config *c, const char *where, const char *text,
               struct err_text *why)
{
    if (text[0] == '\0')
        return err_set(why, ERR_USAGE, "%s: has no value; give one, as in %s", where, o->example);
    if (strlen(text) >= CONFIG_VALUE_MAX / 2)
        return err_set(why, ERR_USAGE, "%s: value is too long (%zu bytes, at most %u)", where, strlen(text),
                       CONFIG_VALUE_MAX / 2 - 1);
    return set_value(o, c, where, text, why);
}

void option_clear(const struct config_option *o, struct config *c)
{
    if (o->kind != OPTION_ADDRESSES) return; /* every other kind is replaced by option_set */
    for (uint32_t i = 0; i < c->join_count; i++) free(c->join[i]);
    c->join_count = 0;
    c->invited = false;
}

/* -- printing ---------------------------------------------------------------------------------- */

/* The shortest text that reads back as the same number. */
static bool print_number(double number, char *out, size_t size)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, number);
        if (strtod(out, NULL) == number) break;
    }
    return true;
}

static bool print_joins(const struct config *c, char *out, size_t size)
{
    size_t used = 0;
    for (uint32_t i = 0; i < c->join_count; i++) {
        int wrote = snprintf(out + used, size - used, "%s%s", i > 0 ? "," : "", c->join[i]);
        CHECK(wrote > 0 && (size_t)wrote < size - used); /* CONFIG_JOIN_MAX addresses fit */
        used += (size_t)wrote;
    }
    return c->join_count > 0;
}

_Static_assert(CONFIG_JOIN_MAX *(ADDRESS_TEXT_MAX + 1) < CONFIG_VALUE_MAX, "all joins fit in one value");

bool option_print(const struct config_option *o, const struct config *c, char *out, size_t size)
{
    const void *field = const_field_of(o, c);
    const char *text;
    switch (o->kind) {
    case OPTION_U32:
        snprintf(out, size, "%" PRIu32, *(const uint32_t *)field);
        return true;
    case OPTION_U64:
        snprintf(out, size, "%" PRIu64, *(const uint64_t *)field);
        return *(const uint64_t *)field != UINT64_MAX;
    case OPTION_REAL:
        return !isnan(*(const double *)field) && print_number(*(const double *)field, out, size);
    case OPTION_SECONDS:
        return *(const double *)field != 0 && print_number(*(const double *)field, out, size);
    case OPTION_SWITCH:
    case OPTION_FLAG:
        snprintf(out, size, "%s", *(const bool *)field ? "on" : "off");
        return true;
    case OPTION_TEXT:
    case OPTION_ADDRESS:
        text = *(char *const *)field;
        if (text != NULL) snprintf(out, size, "%s", text);
        return text != NULL;
    case OPTION_ADDRESSES:
        return print_joins(c, out, size);
    case OPTION_CHOICE:
        choice_print(field, out, size);
        return true;
    case OPTION_ALGORITHM:
        choice_print(&c->algorithm_params, out, size);
        return true;
    case OPTION_CONFIG:
        return false;
    }
    UNREACHABLE();
}

/* The parameters of hierarchical SGD as a plan, and what does not fit, in words. See grouping.h.
 *
 * Refused with ERR_USAGE and a remedy
 *  - a list that is none, a period or number of groups of 0, more than HSGD_LEVEL_MAX levels.
 *  - periods that grow or are not multiples; periods by group of which there are not as many as groups.
 *  - groups that do not divide the nodes, or are more than these.
 *  - sites that nobody told; as many tags as `groups` does not say. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/hsgd/grouping.h"
#include "base/check.h"

#define NUMBER_MAX 1000000000u

/* -- lists ------------------------------------------------------------------------------------- */

/* Reads one number of at most NUMBER_MAX; *text moves behind it. Returns 0 when there is none. */
static uint32_t number_read(const char **text)
{
    uint64_t value = 0;
    const char *at = *text;
    for (; *at >= '0' && *at <= '9' && value <= NUMBER_MAX; at++) value = 10 * value + (uint64_t)(*at - '0');
    *text = at;
    return value <= NUMBER_MAX ? (uint32_t)value : 0;
}

static int list_bad(const char *key, const char *text, const char *example, struct err_text *why)
{
    return err_set(why, ERR_USAGE, "--algorithm: hsgd:%s=%s is not a list of numbers from 1 to %u; try %s=%s",
                   key, text, NUMBER_MAX, key, example);
}

/* "50-10/5": levels are parted by '-', the groups' own periods by '/'. */
static int periods_read(const char *text, struct hsgd_plan *p, struct err_text *why)
{
    const char *at = text;
    for (p->level_count = 0;; at++) {
        uint32_t l = p->level_count++;
        p->period_count[l] = 0;
        for (;; at++) {
            uint32_t value = number_read(&at);
            if (value == 0) return list_bad("periods", text, "50-5", why);
            if (p->period_count[l] == HSGD_PERIOD_MAX)
                return err_set(why, ERR_USAGE,
                               "--algorithm: hsgd:periods=%s: more than %u periods in one level", text,
                               HSGD_PERIOD_MAX);
            p->period[l][p->period_count[l]++] = value;
            if (*at != '/') break;
        }
        if (*at == '\0') return 0;
        if (*at != '-') return list_bad("periods", text, "50-5", why);
        if (p->level_count == HSGD_LEVEL_MAX)
            return err_set(why, ERR_USAGE, "--algorithm: hsgd:periods=%s: more than %u levels", text,
                           HSGD_LEVEL_MAX);
    }
}

/* "2-4": two groups, each cut in four. "auto": two everywhere; with tags as many as there are. */
static int groups_read(const char *text, struct hsgd_plan *p, struct err_text *why)
{
    bool is_auto = strcmp(text, "auto") == 0;
    const char *at = text;
    p->part[0] = 1;
    for (uint32_t l = 1; l < p->level_count; l++) {
        p->part[l] = is_auto ? (l == 1 && p->order == HSGD_TAGS ? 0 : 2) : number_read(&at);
        if (is_auto) continue;
        if (p->part[l] == 0) return list_bad("groups", text, "2", why);
        if (l + 1 < p->level_count && *at == '-') at++;
    }
    if (is_auto || (p->level_count > 1 && *at == '\0')) return 0;
    return err_set(
        why, ERR_USAGE,
        "--algorithm: hsgd:groups=%s does not fit the %u levels of periods; give %u number%s as in "
        "groups=%s, or groups=auto",
        text, p->level_count, p->level_count - 1, p->level_count == 2 ? "" : "s",
        p->level_count == 1   ? "auto"
        : p->level_count == 2 ? "2"
                              : "2-2");
}

/* -- nodes ------------------------------------------------------------------------------------- */

/* "1, 2, 4 or 8": what divides `size`, as far as there is room. */
static void divisors_print(uint32_t size, char *out, size_t room)
{
    uint32_t last = 0;
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t d = 1; d <= size; d++) {
        if (size % d != 0) continue;
        if (last > 0) used += (size_t)snprintf(out + used, room - used, "%s%u", used > 0 ? ", " : "", last);
        last = d;
        if (used + 32 > room) break;
    }
    snprintf(out + used, room - used, "%s%u", used > 0 ? " or " : "", last);
}

static int part_bad(const char *groups, uint32_t level, uint32_t part, uint32_t size, struct err_text *why)
{
    char fits[200];
    divisors_print(size, fits, sizeof fits);
    if (part > size)
        return err_set(why, ERR_USAGE,
                       "--algorithm: hsgd:groups=%s: level %u would be %u groups of %u node%s; %s would fit",
                       groups, level + 1, part, size, size == 1 ? "" : "s", fits);
    return err_set(why, ERR_USAGE, "--algorithm: hsgd:groups=%s: %u does not divide %u nodes; %s would",
                   groups, part, size, fits);
}

static int parts_check(const struct hsgd_plan *p, uint32_t first_level, uint32_t size, const char *groups,
                       struct err_text *why)
{
    for (uint32_t l = first_level; l < p->level_count; l++) {
        if (p->part[l] > size || size % p->part[l] != 0) return part_bad(groups, l, p->part[l], size, why);
        size /= p->part[l];
    }
    return 0;
}

int hsgd_plan_read(const struct choice *params, uint32_t node_count, struct hsgd_plan *out,
                   struct err_text *why)
{
    memset(out, 0, sizeof *out);
    out->node_count = node_count;
    out->order = (enum hsgd_order)choice_integer(params, "grouping");
    out->redraw = choice_integer(params, "redraw") != 0;
    int err = periods_read(choice_text(params, "periods"), out, why);
    if (err == 0) err = groups_read(choice_text(params, "groups"), out, why);
    if (err != 0) return err;
    if (out->redraw && out->order != HSGD_RANDOM)
        return err_set(why, ERR_USAGE,
                       "--algorithm: hsgd:redraw=yes draws nothing with grouping=%s; give "
                       "grouping=random, or redraw=no",
                       choice_text(params, "grouping"));
    if (out->order == HSGD_TAGS) return 0; /* sizes are known with the sites */
    return parts_check(out, 1, node_count, choice_text(params, "groups"), why);
}

/* -- sites and periods ------------------------------------------------------------------------- */

static int site_compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

/* Every site is a group of level 1, and each must divide further. */
static int sites_check(struct hsgd_plan *p, struct err_text *why)
{
    uint32_t *site = mem_new(p->node_count, sizeof *site), count = 0;
    int err = 0;
    memcpy(site, p->site, p->node_count * sizeof *site);
    qsort(site, p->node_count, sizeof *site, site_compare);
    for (uint32_t begin = 0, end; begin < p->node_count && err == 0; begin = end, count++) {
        for (end = begin + 1; end < p->node_count && site[end] == site[begin];) end++;
        err = parts_check(p, 2, end - begin, "..", why);
    }
    free(site);
    if (err != 0) return err;
    if (p->part[1] != 0 && p->part[1] != count)
        return err_set(why, ERR_USAGE,
                       "--algorithm: hsgd:groups=%u: the nodes carry %u different tags; give groups=%u or "
                       "groups=auto",
                       p->part[1], count, count);
    p->part[1] = count;
    return 0;
}

/* The largest divisor of `above` that is not over `period`. */
static uint32_t divisor_near(uint32_t above, uint32_t period)
{
    uint32_t d = period < above ? period : above;
    while (above % d != 0) d--;
    return d;
}

static int period_check(uint32_t l, uint32_t above, uint32_t period, struct err_text *why)
{
    if (above % period == 0) return 0;
    return err_set(
        why, ERR_USAGE,
        "--algorithm: hsgd:periods: %u steps of level %u are no multiple of %u steps of level %u; %u "
        "would fit",
        above, l, period, l + 1, divisor_near(above, period));
}

static int periods_check(const struct hsgd_plan *p, struct err_text *why)
{
    uint32_t n = p->node_count;
    uint32_t *group = mem_new((size_t)p->level_count * n, sizeof *group);
    int err = 0;
    hsgd_groups_draw(p, 0, group);
    for (uint32_t l = 0; l < p->level_count && err == 0; l++) {
        uint32_t count = 0;
        for (uint32_t r = 0; r < n; r++) count = group[l * n + r] >= count ? group[l * n + r] + 1 : count;
        if (p->period_count[l] != 1 && p->period_count[l] != count)
            err = err_set(why, ERR_USAGE,
                          "--algorithm: hsgd:periods: %u periods for the %u group%s of level %u; "
                          "give one for all, or one for each",
                          p->period_count[l], count, count == 1 ? "" : "s", l + 1);
        for (uint32_t r = 0; r < n && l > 0 && err == 0; r++)
            err = period_check(l, hsgd_period(p, l - 1, group[(l - 1) * n + r]),
                               hsgd_period(p, l, group[l * n + r]), why);
    }
    free(group);
    return err;
}

int hsgd_plan_check(struct hsgd_plan *plan, struct err_text *why)
{
    if (plan->order == HSGD_TAGS && plan->site == NULL)
        return err_set(why, ERR_USAGE,
                       "--algorithm: hsgd:grouping=tags needs a tag of every node; give each "
                       "agent --tag, as in --tag rack=a (up and sim: --tags a*4,b*4)");
    if (plan->order == HSGD_BALANCED && plan->site == NULL)
        return err_set(why, ERR_USAGE,
                       "--algorithm: hsgd:grouping=balanced needs to know what the nodes' data "
                       "hold, and nobody told; try grouping=random");
    int err = plan->order == HSGD_TAGS && plan->level_count > 1 ? sites_check(plan, why) : 0;
    return err != 0 ? err : periods_check(plan, why);
}

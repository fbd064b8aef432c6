/* Sites from labels and from tags. See site.h. */
#include "agent/experiment/site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/experiment/experiment.h"
#include "algo/hsgd/grouping.h"
#include "base/check.h"

#define LABEL_CELLS_MAX (64u * 1024u * 1024u) /* nodes times labels: 256 MB of counts */

enum site_source site_asked(const struct config *c)
{
    if (c->algorithm == NULL || strcmp(c->algorithm->spec.name, "hsgd") != 0) return SITE_OF_NOBODY;
    const char *grouping = choice_text(&c->algorithm_params, "grouping");
    if (strcmp(grouping, "balanced") == 0) return SITE_OF_LABELS;
    return strcmp(grouping, "tags") == 0 ? SITE_OF_TAGS : SITE_OF_NOBODY;
}

/* -- tags -------------------------------------------------------------------------------------- */

static int tag_check(const char *option, const char *tag, size_t length, struct err_text *why)
{
    int shown = (int)(length < 80 ? length : 80);
    if (length == 0 || length >= TAG_TEXT_MAX)
        return err_set(why, ERR_USAGE, "%s: '%.*s' is no tag: give 1 to %u characters, as in rack=a", option,
                       shown, tag, TAG_TEXT_MAX - 1);
    for (size_t i = 0; i < length; i++)
        if (tag[i] <= ' ' || tag[i] > '~' || tag[i] == ',' || tag[i] == '*')
            return err_set(why, ERR_USAGE,
                           "%s: '%.*s' is no tag: give printable characters but blanks, ',' and '*'", option,
                           shown, tag);
    return 0;
}

/* One item of the list, "a" or "a*4": its length without the count, and the count; 0 = malformed. */
static size_t item_read(const char *item, size_t length, uint64_t *times)
{
    const char *star = memchr(item, '*', length);
    *times = 1;
    if (star == NULL) return length;
    char *end = NULL;
    *times = star[1] >= '0' && star[1] <= '9' ? strtoull(star + 1, &end, 10) : 0;
    if (end != item + length || *times > NODE_COUNT_MAX) *times = 0;
    return (size_t)(star - item);
}

int site_tags_check(const char *tags, uint32_t nodes, struct err_text *why)
{
    uint64_t named = 0;
    for (const char *item = tags;; item++) {
        size_t length = strcspn(item, ",");
        uint64_t times;
        int err = tag_check("--tags", item, item_read(item, length, &times), why);
        if (err != 0) return err;
        if (times == 0)
            return err_set(why, ERR_USAGE, "--tags: '%.*s' does not say how many; give a*4, or a,a,a,a",
                           (int)(length < 80 ? length : 80), item);
        named += times;
        item += length;
        if (*item == '\0') break;
    }
    if (named == nodes) return 0;
    return err_set(why, ERR_USAGE,
                   "--tags: names %llu nodes, but there are %u; give a tag of each, as in a*%u,b*%u",
                   (unsigned long long)named, nodes, (nodes + 1) / 2, nodes / 2);
}

bool site_tag_at(const char *tags, uint32_t rank, char out[TAG_TEXT_MAX])
{
    uint64_t before = 0;
    for (const char *item = tags; item != NULL; item++) {
        size_t length = strcspn(item, ",");
        uint64_t times;
        size_t tag_length = item_read(item, length, &times);
        before += times;
        if (rank < before && tag_length < TAG_TEXT_MAX) {
            snprintf(out, TAG_TEXT_MAX, "%.*s", (int)tag_length, item);
            return true;
        }
        item += length;
        if (*item == '\0') break;
    }
    return false;
}

/* Equal tags are one site; sites are numbered in the order of their first members, as node.c does it. */
static int sites_of_tags(const struct config *c, uint32_t **out, struct err_text *why)
{
    bool agent = c->command == COMMAND_AGENT;
    if (agent && c->tag == NULL)
        return err_set(why, ERR_USAGE,
                       "--tag: missing; --algorithm hsgd:grouping=tags needs one of every agent, as in "
                       "--tag rack=a");
    if (agent) return 0;
    if (c->tags == NULL)
        return err_set(why, ERR_USAGE,
                       "--tags: missing; --algorithm hsgd:grouping=tags needs one of every node, as in "
                       "--tags a*%u,b*%u",
                       (c->nodes + 1) / 2, c->nodes / 2);
    char(*tag)[TAG_TEXT_MAX] = mem_new_zero(c->nodes, sizeof *tag);
    uint32_t *site = mem_new(c->nodes, sizeof *site), sites = 0;
    for (uint32_t r = 0; r < c->nodes; r++) {
        uint32_t first = 0;
        CHECK(site_tag_at(c->tags, r, tag[r])); /* the list names as many */
        while (strcmp(tag[first], tag[r]) != 0) first++;
        site[r] = first < r ? site[first] : sites++;
    }
    free(tag);
    *out = site;
    return 0;
}

/* -- labels ------------------------------------------------------------------------------------ */

/* Rows that group and node have in common, label by label: least where the group lacks what the node brings.
 */
static double common(const double *group, const uint32_t *node, uint32_t labels)
{
    double sum = 0;
    for (uint32_t c = 0; c < labels; c++) sum += group[c] * node[c];
    return sum;
}

/* Deals the nodes of group `above` out to `parts` groups of equal size; site becomes parts * above + group.
 */
static void deal(const uint32_t *count, uint32_t nodes, uint32_t labels, uint32_t above, uint32_t parts,
                 const uint32_t *site_above, uint32_t *site)
{
    double *held = mem_new_zero((size_t)parts * labels, sizeof *held);
    uint32_t *size = mem_new_zero(parts, sizeof *size), members = 0;
    for (uint32_t r = 0; r < nodes; r++) members += site_above[r] == above;
    CHECK(members % parts == 0);
    for (uint32_t r = 0; r < nodes; r++) {
        const uint32_t *own = count + (size_t)r * labels;
        uint32_t best = parts;
        double least = 0;
        if (site_above[r] != above) continue;
        for (uint32_t g = 0; g < parts; g++) {
            if (size[g] == members / parts) continue;
            double here = common(held + (size_t)g * labels, own, labels);
            bool better = best == parts || here < least || (here <= least && size[g] < size[best]);
            if (!better) continue;
            best = g;
            least = here;
        }
        for (uint32_t c = 0; c < labels; c++) held[(size_t)best * labels + c] += own[c];
        size[best]++;
        site[r] = above * parts + best;
    }
    free(held);
    free(size);
}

void site_balance(const uint32_t *count, uint32_t nodes, uint32_t labels, const uint32_t *part,
                  uint32_t part_count, uint32_t *site)
{
    uint32_t groups = 1;
    uint32_t *above = mem_new(nodes, sizeof *above);
    memset(site, 0, nodes * sizeof *site);
    for (uint32_t l = 0; l < part_count; l++) {
        memcpy(above, site, nodes * sizeof *site);
        for (uint32_t g = 0; g < groups; g++) deal(count, nodes, labels, g, part[l], above, site);
        groups *= part[l];
    }
    free(above);
}

static int sites_of_labels(const struct experiment *e, uint32_t **out, struct err_text *why)
{
    uint32_t nodes = e->config->nodes, labels = e->info.classes > 1 ? e->info.classes : 1;
    struct hsgd_plan plan;
    int err = hsgd_plan_read(&e->config->algorithm_params, nodes, &plan, why);
    if (err != 0) return err;
    if ((uint64_t)nodes * labels > LABEL_CELLS_MAX)
        return err_set(
            why, ERR_LIMIT,
            "--algorithm: hsgd:grouping=balanced: %u labels of %u nodes are too many to count; try "
            "grouping=random",
            labels, nodes);
    uint32_t *count = mem_new_zero((size_t)nodes * labels, sizeof *count);
    for (uint32_t v = 0; v < nodes; v++)
        for (uint32_t i = e->split.offset[v]; i < e->split.offset[v + 1]; i++) {
            uint32_t label = labels > 1 ? (uint32_t)e->info.target[e->split.row[i]] : 0;
            CHECK(label < labels);
            count[(size_t)v * labels + label]++;
        }
    *out = mem_new(nodes, sizeof **out);
    site_balance(count, nodes, labels, plan.part + 1, plan.level_count - 1, *out);
    free(count);
    return 0;
}

int site_make(const struct experiment *e, uint32_t **out, struct err_text *why)
{
    const struct config *c = e->config;
    int err = 0;
    *out = NULL;
    if (c->tag != NULL) err = tag_check("--tag", c->tag, strlen(c->tag), why);
    if (err == 0 && c->tags != NULL) err = site_tags_check(c->tags, c->nodes, why);
    if (err != 0) return err;
    switch (site_asked(c)) {
    case SITE_OF_NOBODY:
        return 0;
    case SITE_OF_LABELS:
        return sites_of_labels(e, out, why);
    case SITE_OF_TAGS:
        return sites_of_tags(c, out, why);
    }
    UNREACHABLE();
}

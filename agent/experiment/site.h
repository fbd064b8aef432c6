/* Where nodes belong, for methods that group them: by tags that people gave, or so that every group's data
 * look like the whole. Part of the identity of an experiment. */
#ifndef GADABOUT_AGENT_EXPERIMENT_SITE_H
#define GADABOUT_AGENT_EXPERIMENT_SITE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/config/config.h"

struct experiment;

enum site_source {
    SITE_OF_NOBODY, /* the method does not ask */
    SITE_OF_LABELS, /* grouping=balanced */
    SITE_OF_TAGS,   /* grouping=tags */
};

enum site_source site_asked(const struct config *c);

/* Returns in *out an owned site per rank (nodes), or NULL when nobody asks, or when the members will tell (an
 * agent with tags). Errors: ERR_USAGE for tags that are missing, malformed or not as many as nodes; ERR_LIMIT
 * for more labels than can be counted. */
int site_make(const struct experiment *e, uint32_t **out, struct err_text *why);

/* Greedy balance: nodes go, in ascending rank, to that group with room where the labels they bring are
 * rarest. part_count nested cuts of part[] each; site is the number of the smallest group. count (nodes,
 * labels) is how many rows of each label a node has. nodes must be a multiple of the product of the parts
 * (checked). */
void site_balance(const uint32_t *count, uint32_t nodes, uint32_t labels, const uint32_t *part,
                  uint32_t part_count, uint32_t *site);

/* The tag of node `rank` in "a,a,b" or "a*2,b"; false when `tags` is NULL or names fewer. The list must have
 * passed site_tags_check. */
bool site_tag_at(const char *tags, uint32_t rank, char out[TAG_TEXT_MAX]);

/* ERR_USAGE when the list is malformed or does not name as many tags as there are nodes. */
int site_tags_check(const char *tags, uint32_t nodes, struct err_text *why);

#endif

/* Best first: whoever dials from the beginning reaches somebody soon. */
#include "agent/book.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static void add(struct checkpoint *c, const char *address)
{
    size_t length = strlen(address);
    if (length == 0 || length >= ADDRESS_TEXT_MAX || c->address_count == CHECKPOINT_ADDRESS_MAX) return;
    for (uint32_t i = 0; i < c->address_count; i++)
        if (strcmp(c->address[i], address) == 0) return;
    memcpy(c->address[c->address_count++], address, length + 1);
}

static void add_members(struct checkpoint *c, const struct membership *m, enum member_state state)
{
    for (uint32_t i = 0; i < membership_count(m); i++) {
        const struct member *member = membership_at(m, i);
        if (member->state == state && member->id != c->id) add(c, member->address);
    }
}

void book_fill(struct checkpoint *c, const struct membership *m, char (*former)[ADDRESS_TEXT_MAX],
               uint32_t former_count, char *const *given, uint32_t given_count)
{
    static const enum member_state order[] = {MEMBER_ALIVE, MEMBER_SUSPECT, MEMBER_LEFT, MEMBER_DEAD};
    CHECK(c->address == NULL && c->address_count == 0);
    c->address = mem_new(CHECKPOINT_ADDRESS_MAX, sizeof *c->address);
    for (size_t k = 0; m != NULL && k < sizeof order / sizeof order[0]; k++) add_members(c, m, order[k]);
    for (uint32_t i = 0; i < given_count; i++) add(c, given[i]);
    for (uint32_t i = 0; i < former_count; i++) add(c, former[i]);
    if (c->address_count > 0) return;
    free(c->address);
    c->address = NULL;
}

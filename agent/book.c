/* Best first: whoever dials from the beginning reaches somebody soon. */
#include "agent/book.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

bool book_is_dialable(const char *address)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || strlen(address) >= ADDRESS_TEXT_MAX) return false;
    size_t digits = strspn(colon + 1, "0123456789"), host = (size_t)(colon - address);
    long port = strtol(colon + 1, NULL, 10);
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' || port < 1 || port > 65535) return false;
    bool bracketed = address[0] == '[' && address[host - 1] == ']' && host > 2;
    for (size_t i = 0; i < host; i++) {
        bool frame = bracketed && (i == 0 || i == host - 1);
        if (address[i] <= ' ' || address[i] > '~') return false;
        if (!frame && (address[i] == '[' || address[i] == ']')) return false;
        if (!bracketed && address[i] == ':') return false;
    }
    return true;
}

static void add(struct checkpoint *c, const char *address)
{
    size_t length = strlen(address);
    if (c->address_count == CHECKPOINT_ADDRESS_MAX || !book_is_dialable(address)) return;
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

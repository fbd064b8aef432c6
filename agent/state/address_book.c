/* The address book: a small array in order, best first. It changes a few times a minute, so each change moves
 * the one entry to its place. */
#include "agent/state/address_book.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/discovery/discovery.h"

void book_init(struct book *b)
{
    *b = (struct book){0};
}

void book_deinit(struct book *b)
{
    free(b->entry);
    *b = (struct book){0};
}

static bool entry_is_better(const struct book_entry *a, const struct book_entry *b)
{
    if (a->failures != b->failures) return a->failures < b->failures;
    if (a->answered_us != b->answered_us) return a->answered_us > b->answered_us;
    return a->rank < b->rank;
}

static void entry_remove(struct book *b, uint32_t at)
{
    b->count--;
    memmove(&b->entry[at], &b->entry[at + 1], (b->count - at) * sizeof *b->entry);
}

/* A full book loses its last one, which may be the new one. */
static void entry_insert(struct book *b, const struct book_entry *e)
{
    if (b->count == BOOK_ENTRY_MAX) {
        if (!entry_is_better(e, &b->entry[b->count - 1])) return;
        b->count--;
    }
    if (b->count == b->capacity) {
        b->capacity = b->capacity > 0 ? 2 * b->capacity : 16;
        b->entry = mem_resize(b->entry, b->capacity, sizeof *b->entry);
    }
    uint32_t at = b->count;
    while (at > 0 && entry_is_better(e, &b->entry[at - 1])) at--;
    memmove(&b->entry[at + 1], &b->entry[at], (b->count - at) * sizeof *b->entry);
    b->entry[at] = *e;
    b->count++;
}

/* Takes what is known of the member, or of the address, out of the book; a new entry if there is nothing. */
static struct book_entry entry_take(struct book *b, node_id id, const char *address)
{
    struct book_entry e = {.id = BOOK_ID_NONE, .rank = b->next_rank};
    bool found = false;
    for (uint32_t i = b->count; i-- > 0;) {
        struct book_entry *old = &b->entry[i];
        bool same_address = strcmp(old->address, address) == 0;
        if (!same_address && (id == BOOK_ID_NONE || old->id != id)) continue;
        if (same_address || !found) e = *old;
        found = true;
        entry_remove(b, i);
    }
    if (!found) b->next_rank++;
    if (found && strcmp(e.address, address) != 0) { /* it has moved: what we know is of the old place */
        e.failures = 0;
        e.answered_us = 0;
    }
    if (id != BOOK_ID_NONE) e.id = id;
    memcpy(e.address, address, strlen(address) + 1);
    return e;
}

void book_load(struct book *b, const char address[][ADDRESS_TEXT_MAX], uint32_t count)
{
    CHECK(b->count == 0);
    for (uint32_t i = 0; i < count && i < BOOK_ENTRY_MAX; i++) {
        if (memchr(address[i], '\0', ADDRESS_TEXT_MAX) == NULL || !discovery_takes(address[i])) continue;
        struct book_entry e = entry_take(b, BOOK_ID_NONE, address[i]);
        entry_insert(b, &e);
    }
}

void book_answered(struct book *b, node_id id, const char *address, uint64_t now_us)
{
    CHECK(strlen(address) < ADDRESS_TEXT_MAX);
    if (!discovery_takes(address)) {
        book_forget(b, id);
        return;
    }
    struct book_entry e = entry_take(b, id, address);
    e.answered_us = now_us;
    e.failures = 0;
    entry_insert(b, &e);
}

void book_heard(struct book *b, node_id id, const char *address)
{
    CHECK(strlen(address) < ADDRESS_TEXT_MAX);
    if (!discovery_takes(address)) return;
    struct book_entry e = entry_take(b, id, address);
    entry_insert(b, &e);
}

void book_failed(struct book *b, const char *address)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (strcmp(b->entry[i].address, address) != 0) continue;
        struct book_entry e = b->entry[i];
        entry_remove(b, i);
        if (e.failures < UINT32_MAX) e.failures++;
        entry_insert(b, &e);
        return;
    }
}

void book_forget(struct book *b, node_id id)
{
    for (uint32_t i = b->count; i-- > 0;)
        if (id != BOOK_ID_NONE && b->entry[i].id == id) entry_remove(b, i);
}

uint32_t book_list(const struct book *b, char out[][ADDRESS_TEXT_MAX], uint32_t max)
{
    uint32_t count = b->count < max ? b->count : max;
    for (uint32_t i = 0; i < count; i++) memcpy(out[i], b->entry[i].address, sizeof out[i]);
    return count;
}

uint32_t book_append(char out[][ADDRESS_TEXT_MAX], uint32_t count, uint32_t max, char *const *given,
                     uint32_t given_count)
{
    for (uint32_t i = 0; i < given_count && count < max; i++) {
        uint32_t at = 0;
        while (at < count && strcmp(out[at], given[i]) != 0) at++;
        if (at == count && discovery_takes(given[i])) memcpy(out[count++], given[i], strlen(given[i]) + 1);
    }
    return count;
}

/* The hello codec, see hello.h. Pure. */
#include "net/link/hello.h"

#include <string.h>

#include "base/check.h"
#include "net/link/frame.h"

static const char magic[8] = {'g', 'a', 'd', 'a', 'b', 'o', 'u', 't'};

enum { ROLE_DIALLER = 1, ROLE_ACCEPTOR = 2, ROLE_VISITOR = 3 };

size_t hello_encode(const struct hello *h, uint8_t out[HELLO_SIZE_MAX])
{
    size_t length = strlen(h->address);
    CHECK(length < ADDRESS_TEXT_MAX);
    memcpy(out, magic, sizeof magic);
    le_put(out + 8, h->version, 2);
    out[10] = h->visitor ? ROLE_VISITOR : h->dialler ? ROLE_DIALLER : ROLE_ACCEPTOR;
    out[11] = 0;
    le_put(out + 12, h->port, 2);
    le_put(out + 14, length, 2);
    memcpy(out + 16, h->cluster, sizeof h->cluster);
    le_put(out + 32, h->id, 8);
    le_put(out + 40, h->boot, 8);
    le_put(out + 48, h->name, 8);
    memcpy(out + HELLO_FIXED_SIZE, h->address, length);
    return HELLO_FIXED_SIZE + length;
}

/* The address goes into logs and is dialled: visible ASCII only. */
static bool address_is_clean(const uint8_t *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~') return false;
    return true;
}

int hello_decode(const uint8_t *in, size_t size, struct hello *out)
{
    memset(out, 0, sizeof *out);
    if (size < sizeof magic + 2 || memcmp(in, magic, sizeof magic) != 0) return ERR_PROTO;
    out->version = (uint16_t)le_get(in + 8, 2);
    if (out->version != PROTOCOL_VERSION) return ERR_VERSION;
    if (size < HELLO_FIXED_SIZE || in[11] != 0) return ERR_PROTO;
    if (in[10] < ROLE_DIALLER || in[10] > ROLE_VISITOR) return ERR_PROTO;
    size_t length = (size_t)le_get(in + 14, 2);
    if (length >= ADDRESS_TEXT_MAX || size != HELLO_FIXED_SIZE + length) return ERR_PROTO;
    if (!address_is_clean(in + HELLO_FIXED_SIZE, length)) return ERR_PROTO;
    out->dialler = in[10] == ROLE_DIALLER;
    out->visitor = in[10] == ROLE_VISITOR;
    out->port = (uint16_t)le_get(in + 12, 2);
    memcpy(out->cluster, in + 16, sizeof out->cluster);
    out->id = le_get(in + 32, 8);
    out->boot = le_get(in + 40, 8);
    out->name = le_get(in + 48, 8);
    if (out->boot > BOOT_MAX) return ERR_PROTO; /* nobody could ever come after it */
    memcpy(out->address, in + HELLO_FIXED_SIZE, length);
    return 0;
}

size_t goodbye_encode(const struct goodbye *g, uint8_t out[GOODBYE_SIZE_MAX])
{
    size_t length = strlen(g->seen), user = strlen(g->user), size = GOODBYE_FIXED_SIZE + length;
    CHECK(length < ADDRESS_TEXT_MAX && user < ADDRESS_TEXT_MAX);
    le_put(out, g->id, 8);
    le_put(out + 8, g->name, 8);
    le_put(out + 16, g->version, 2);
    memcpy(out + GOODBYE_FIXED_SIZE, g->seen, length);
    if (!g->answers) return size;
    out[size] = 0;
    out[size + 1] = g->used;
    memcpy(out + size + 2, g->user, user);
    return size + 2 + user;
}

static void clean_text(const uint8_t *in, size_t length, char out[ADDRESS_TEXT_MAX])
{
    if (length < ADDRESS_TEXT_MAX && address_is_clean(in, length)) memcpy(out, in, length);
}

bool goodbye_decode(const uint8_t *in, size_t size, struct goodbye *out)
{
    *out = (struct goodbye){0};
    if (size < 8) return false;
    out->id = le_get(in, 8);
    if (size < GOODBYE_FIXED_SIZE) return true;
    out->name = le_get(in + 8, 8);
    out->version = (uint16_t)le_get(in + 16, 2);
    const uint8_t *seen = in + GOODBYE_FIXED_SIZE, *end = in + size;
    const uint8_t *answer = memchr(seen, 0, (size_t)(end - seen));
    clean_text(seen, (size_t)((answer != NULL ? answer : end) - seen), out->seen);
    if (answer == NULL || end - answer < 2 || answer[1] > 1) return true;
    out->answers = true;
    out->used = answer[1] == 1;
    clean_text(answer + 2, (size_t)(end - answer) - 2, out->user);
    return true;
}

/* The bytes of a checkpoint; the layout is told in checkpoint_file.h.
 *
 * Normal course
 *  - writing: sections are hashed where they lie, then the header is made, then SHA-256 over all; nothing is copied
 *    but counters and addresses.
 *  - reading: the header by its own hash; sizes are compared with the file and the limits; only then memory is
 *    taken and the sections are read, each hashed as it comes.
 * Failure courses of reading, each with a reason in words and nothing taken
 *  - not a regular file, too short, other magic, a later version (whose first 24 bytes are whole).
 *  - header, section or whole fail their hash; the size is not what the header says.
 *  - hashes agree and yet kinds, sizes or numbers cannot be: the writer was wrong. */
#include "agent/state/checkpoint_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they are in memory");

static const char magic[8] = "gadabCKP";

enum section_kind { SECTION_COUNTERS = 1, SECTION_MODEL, SECTION_TRAINER, SECTION_METHOD, SECTION_ADDRESSES };

static const char *section_name(uint32_t kind)
{
    static const char *const names[CHECKPOINT_SECTION_COUNT + 1] = {"",        "counters", "model",
                                                                    "trainer", "method",   "addresses"};
    return kind <= CHECKPOINT_SECTION_COUNT ? names[kind] : "";
}

/* -- writing ----------------------------------------------------------------------------------- */

static void put32(uint8_t **at, uint32_t v)
{
    memcpy(*at, &v, sizeof v);
    *at += sizeof v;
}

static void put64(uint8_t **at, uint64_t v)
{
    memcpy(*at, &v, sizeof v);
    *at += sizeof v;
}

static void print_counters(const struct checkpoint *c, uint8_t out[CHECKPOINT_COUNTERS_SIZE])
{
    uint8_t *at = out;
    put64(&at, c->incarnation);
    put64(&at, c->claimed);
    put64(&at, c->steps);
    put64(&at, c->dim);
    put32(&at, c->place);
    put32(&at, 0);
    CHECK(at == out + CHECKPOINT_COUNTERS_SIZE);
}

/* Returns the number of bytes; *out is owned, NULL without addresses. */
static size_t print_book(const struct checkpoint *c, uint8_t **out)
{
    CHECK(c->address_count <= CHECKPOINT_ADDRESS_MAX);
    *out = NULL;
    if (c->address_count == 0) return 0;
    *out = mem_new(c->address_count, sizeof(uint16_t) + ADDRESS_TEXT_MAX);
    size_t used = 0;
    for (uint32_t i = 0; i < c->address_count; i++) {
        uint16_t length = (uint16_t)strnlen(c->address[i], ADDRESS_TEXT_MAX);
        CHECK(length > 0 && length < ADDRESS_TEXT_MAX);
        memcpy(*out + used, &length, sizeof length);
        memcpy(*out + used + sizeof length, c->address[i], length);
        used += sizeof length + length;
    }
    return used;
}

struct section {
    uint32_t kind;
    struct disk_piece bytes;
};

static void add_section(struct section *section, uint32_t *count, uint32_t kind, const void *bytes,
                        size_t size)
{
    section[(*count)++] = (struct section){kind, {bytes, size}};
}

static uint32_t list_sections(struct checkpoint_image *image, const struct checkpoint *c,
                              struct section section[CHECKPOINT_SECTION_COUNT])
{
    uint32_t count = 0;
    print_counters(c, image->counters);
    size_t book_size = print_book(c, &image->book);
    add_section(section, &count, SECTION_COUNTERS, image->counters, CHECKPOINT_COUNTERS_SIZE);
    add_section(section, &count, SECTION_MODEL, c->model->data, c->model->size);
    if (c->trainer != NULL) add_section(section, &count, SECTION_TRAINER, c->trainer->data, c->trainer->size);
    if (c->method != NULL) add_section(section, &count, SECTION_METHOD, c->method->data, c->method->size);
    if (book_size > 0) add_section(section, &count, SECTION_ADDRESSES, image->book, book_size);
    return count;
}

static size_t header_size_of(uint32_t section_count)
{
    return CHECKPOINT_FIXED_SIZE + section_count * CHECKPOINT_ENTRY_SIZE + sizeof(uint64_t);
}

static void print_header(struct checkpoint_image *image, const struct checkpoint *c,
                         const struct section *section, uint32_t count)
{
    uint64_t size = header_size_of(count) + TRACE_HASH_SIZE;
    for (uint32_t i = 0; i < count; i++) size += section[i].bytes.size;
    uint8_t *at = image->header;
    memcpy(at, magic, sizeof magic);
    at += sizeof magic;
    put32(&at, CHECKPOINT_VERSION);
    put32(&at, count);
    put64(&at, XXH3_64bits(image->header, (size_t)(at - image->header)));
    memcpy(at, c->shape, sizeof c->shape);
    at += sizeof c->shape;
    put64(&at, c->generation);
    put64(&at, c->id);
    put64(&at, c->boot);
    put64(&at, size);
    for (uint32_t i = 0; i < count; i++) {
        put32(&at, section[i].kind);
        put32(&at, 0);
        put64(&at, section[i].bytes.size);
        put64(&at, XXH3_64bits(section[i].bytes.bytes, section[i].bytes.size));
    }
    put64(&at, XXH3_64bits(image->header, (size_t)(at - image->header)));
    CHECK((size_t)(at - image->header) == header_size_of(count));
}

void checkpoint_image_init(struct checkpoint_image *image, const struct checkpoint *c)
{
    CHECK(c->dim >= 1 && c->dim <= MODEL_DIM_MAX && c->model->size == c->dim * sizeof(float));
    CHECK(c->boot <= BOOT_MAX && (c->place < NODE_COUNT_MAX || c->place == RANK_NONE));
    struct section section[CHECKPOINT_SECTION_COUNT];
    uint32_t count = list_sections(image, c, section);
    print_header(image, c, section, count);
    image->piece_count = 0;
    image->piece[image->piece_count++] = (struct disk_piece){image->header, header_size_of(count)};
    for (uint32_t i = 0; i < count; i++) image->piece[image->piece_count++] = section[i].bytes;
    struct trace_hash *whole = trace_hash_new();
    for (size_t i = 0; i < image->piece_count; i++)
        trace_hash_add(whole, image->piece[i].bytes, image->piece[i].size);
    trace_hash_bytes(whole, image->sha256);
    trace_hash_free(whole);
    image->piece[image->piece_count++] = (struct disk_piece){image->sha256, TRACE_HASH_SIZE};
}

void checkpoint_image_deinit(struct checkpoint_image *image)
{
    free(image->book);
    image->book = NULL;
}

/* -- reading: the header ----------------------------------------------------------------------- */

static uint32_t get32(const uint8_t **at)
{
    uint32_t v;
    memcpy(&v, *at, sizeof v);
    *at += sizeof v;
    return v;
}

static uint64_t get64(const uint8_t **at)
{
    uint64_t v;
    memcpy(&v, *at, sizeof v);
    *at += sizeof v;
    return v;
}

static int unreadable(struct err_text *why, int64_t reason)
{
    return err_set(why, ERR_IO, "cannot be read: %s", strerror((int)-reason));
}

/* Reads exactly `size` bytes. */
static int read_exactly(const struct checkpoint_reading *r, void *out, size_t size, struct err_text *why)
{
    int64_t got = disk_read_all(r->disk, r->fd, out, size);
    if (got < 0) return unreadable(why, got);
    return (size_t)got == size ? 0 : err_set(why, ERR_FORMAT, "is damaged (it ends early)");
}

static int read_prologue(struct checkpoint_reading *r, struct err_text *why)
{
    int err = read_exactly(r, r->header, CHECKPOINT_PROLOGUE_SIZE, why);
    if (err != 0) return err;
    if (memcmp(r->header, magic, sizeof magic) != 0)
        return err_set(why, ERR_FORMAT, "is damaged (it does not begin as a checkpoint)");
    const uint8_t *at = r->header + sizeof magic;
    uint32_t version = get32(&at);
    r->section_count = get32(&at);
    if (get64(&at) != XXH3_64bits(r->header, CHECKPOINT_PROLOGUE_SIZE - 8))
        return err_set(why, ERR_FORMAT, "is damaged (hash of its beginning)");
    if (version > CHECKPOINT_VERSION)
        return err_set(why, ERR_VERSION,
                       "is of format %u, and this program knows none above %u; use the newer program",
                       version, CHECKPOINT_VERSION);
    if (version < CHECKPOINT_VERSION) return err_set(why, ERR_FORMAT, "is of format %u", version);
    if (r->section_count > CHECKPOINT_SECTION_COUNT)
        return err_set(why, ERR_FORMAT, "has %u sections, at most %u are known", r->section_count,
                       CHECKPOINT_SECTION_COUNT);
    return 0;
}

/* The sizes in the table add up to the file's. */
static int check_table(const struct checkpoint_reading *r, uint64_t told, struct err_text *why)
{
    if (told != r->size)
        return err_set(why, ERR_FORMAT, "is damaged (%llu bytes, and its header says %llu)",
                       (unsigned long long)r->size, (unsigned long long)told);
    const uint8_t *at = r->header + CHECKPOINT_FIXED_SIZE;
    uint64_t left = r->size - r->header_size; /* what was read is in the file */
    uint32_t before = 0;
    for (uint32_t i = 0; i < r->section_count; i++) {
        uint32_t kind = get32(&at), zero = get32(&at);
        uint64_t size = get64(&at);
        get64(&at);
        if (zero != 0 || kind <= before || kind > CHECKPOINT_SECTION_COUNT || size > left ||
            size > CHECKPOINT_SECTION_MAX)
            return err_set(why, ERR_FORMAT, "has an impossible table of sections");
        before = kind;
        left -= size;
    }
    if (left != TRACE_HASH_SIZE) return err_set(why, ERR_FORMAT, "has sections that do not add up");
    return 0;
}

static int read_header(struct checkpoint_reading *r, struct err_text *why)
{
    int err = read_prologue(r, why);
    if (err != 0) return err;
    r->header_size = header_size_of(r->section_count);
    err =
        read_exactly(r, r->header + CHECKPOINT_PROLOGUE_SIZE, r->header_size - CHECKPOINT_PROLOGUE_SIZE, why);
    if (err != 0) return err;
    const uint8_t *end = r->header + r->header_size - sizeof(uint64_t);
    if (XXH3_64bits(r->header, r->header_size - sizeof(uint64_t)) != get64(&end))
        return err_set(why, ERR_FORMAT, "is damaged (hash of its header)");
    const uint8_t *at = r->header + CHECKPOINT_PROLOGUE_SIZE;
    memcpy(r->shape, at, sizeof r->shape);
    at += sizeof r->shape;
    r->generation = get64(&at);
    r->id = get64(&at);
    r->boot = get64(&at);
    if (r->generation == 0 || r->generation > CHECKPOINT_GENERATION_MAX || r->boot > BOOT_MAX)
        return err_set(why, ERR_FORMAT, "has an impossible generation or boot");
    return check_table(r, get64(&at), why);
}

int checkpoint_reading_open(const struct disk *disk, int folder, const char *name,
                            struct checkpoint_reading *out, struct err_text *why)
{
    *out = (struct checkpoint_reading){.disk = disk};
    out->fd = disk->ops->open(disk->ctx, folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (out->fd == -ENOENT) return err_set(why, ERR_NOT_FOUND, "is not there");
    if (out->fd == -ELOOP) return err_set(why, ERR_FORMAT, "is a symbolic link");
    if (out->fd < 0) return unreadable(why, out->fd);
    int64_t size = disk->ops->size(disk->ctx, out->fd);
    int err = 0;
    if (size == -EINVAL)
        err = err_set(why, ERR_FORMAT, "is not a regular file");
    else if (size < 0)
        err = unreadable(why, size);
    out->size = size < 0 ? 0 : (uint64_t)size;
    if (err == 0) err = read_header(out, why);
    if (err != 0) checkpoint_reading_close(out);
    return err;
}

void checkpoint_reading_close(struct checkpoint_reading *r)
{
    (void)r->disk->ops->close(r->disk->ctx, r->fd);
    r->fd = -1;
}

/* -- reading: the sections --------------------------------------------------------------------- */

/* The sections by kind; owned. */
struct loaded {
    struct blob *section[CHECKPOINT_SECTION_COUNT + 1];
};

static void loaded_deinit(struct loaded *l)
{
    for (uint32_t i = 0; i <= CHECKPOINT_SECTION_COUNT; i++) blob_unref(l->section[i]);
}

static int load_sections(struct checkpoint_reading *r, struct loaded *l, struct trace_hash *whole,
                         struct err_text *why)
{
    const uint8_t *at = r->header + CHECKPOINT_FIXED_SIZE;
    for (uint32_t i = 0; i < r->section_count; i++) {
        uint32_t kind = get32(&at);
        get32(&at);
        uint64_t size = get64(&at), hash = get64(&at);
        struct blob *b = l->section[kind] =
            blob_new((size_t)size); /* check_table: size and kind are possible */
        int err = read_exactly(r, b->data, b->size, why);
        if (err != 0) return err;
        if (XXH3_64bits(b->data, b->size) != hash)
            return err_set(why, ERR_FORMAT, "is damaged (hash of section %s)", section_name(kind));
        trace_hash_add(whole, b->data, b->size);
    }
    uint8_t told[TRACE_HASH_SIZE], found[TRACE_HASH_SIZE];
    int err = read_exactly(r, told, sizeof told, why);
    if (err != 0) return err;
    trace_hash_bytes(whole, found);
    if (memcmp(told, found, sizeof told) != 0)
        return err_set(why, ERR_FORMAT, "is damaged (SHA-256 of the whole)");
    return 0;
}

static int take_counters(const struct loaded *l, struct checkpoint *out, struct err_text *why)
{
    const struct blob *b = l->section[SECTION_COUNTERS];
    if (b == NULL || b->size != CHECKPOINT_COUNTERS_SIZE)
        return err_set(why, ERR_FORMAT, "has no section counters of the right size");
    const uint8_t *at = b->data;
    out->incarnation = get64(&at);
    out->claimed = get64(&at);
    out->steps = get64(&at);
    uint64_t dim = get64(&at);
    out->place = get32(&at);
    uint32_t zero = get32(&at);
    const struct blob *model = l->section[SECTION_MODEL];
    if (zero != 0 || (out->place >= NODE_COUNT_MAX && out->place != RANK_NONE) || dim == 0 ||
        dim > MODEL_DIM_MAX)
        return err_set(why, ERR_FORMAT, "has impossible counters");
    if (model == NULL || model->size != dim * sizeof(float))
        return err_set(why, ERR_FORMAT, "has a model of another size than it says");
    out->dim = (size_t)dim;
    return 0;
}

/* One text of the book: 1 .. ADDRESS_TEXT_MAX - 1 bytes without a NUL. */
static bool take_address(const struct blob *b, size_t *at, char out[ADDRESS_TEXT_MAX])
{
    uint16_t length;
    if (b->size - *at < sizeof length) return false;
    memcpy(&length, b->data + *at, sizeof length);
    *at += sizeof length;
    if (length == 0 || length >= ADDRESS_TEXT_MAX || length > b->size - *at) return false;
    if (memchr(b->data + *at, '\0', length) != NULL) return false;
    memcpy(out, b->data + *at, length);
    out[length] = '\0';
    *at += length;
    return true;
}

static int take_book(const struct loaded *l, struct checkpoint *out, struct err_text *why)
{
    const struct blob *b = l->section[SECTION_ADDRESSES];
    if (b == NULL) return 0;
    out->address = mem_new(CHECKPOINT_ADDRESS_MAX, sizeof *out->address);
    for (size_t at = 0; at < b->size; out->address_count++)
        if (out->address_count == CHECKPOINT_ADDRESS_MAX ||
            !take_address(b, &at, out->address[out->address_count]))
            return err_set(why, ERR_FORMAT, "has a malformed section addresses");
    return 0;
}

static int take_all(struct checkpoint_reading *r, struct loaded *l, struct checkpoint *out,
                    struct err_text *why)
{
    struct trace_hash *whole = trace_hash_new();
    trace_hash_add(whole, r->header, r->header_size);
    int err = load_sections(r, l, whole, why);
    trace_hash_free(whole);
    if (err == 0) err = take_counters(l, out, why);
    return err != 0 ? err : take_book(l, out, why);
}

int checkpoint_reading_take(struct checkpoint_reading *r, struct checkpoint *out, struct err_text *why)
{
    struct loaded l = {{NULL}};
    *out = (struct checkpoint){.id = r->id, .boot = r->boot, .generation = r->generation};
    memcpy(out->shape, r->shape, sizeof out->shape);
    int err = take_all(r, &l, out, why);
    if (err == 0) {
        out->model = blob_ref(l.section[SECTION_MODEL]);
        out->trainer = blob_ref(l.section[SECTION_TRAINER]);
        out->method = blob_ref(l.section[SECTION_METHOD]);
    } else {
        checkpoint_deinit(out);
    }
    loaded_deinit(&l);
    return err;
}

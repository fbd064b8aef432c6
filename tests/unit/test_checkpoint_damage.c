/* Goal: a damaged checkpoint is never loaded, not even in part, and never ends the program: the previous generation is
 * used and the reason told; without one the reason is all there is. The damaged file is left as it is.
 * Method: the newer file of two with each byte flipped, cut at each length, lengthened, filled with zeros, replaced by
 * that of another node, another experiment, the older one; then files whose hashes are made to agree again, so that
 * only the checks behind the hashes can refuse them. These also stand for a reader that does not check hashes: the
 * same sweep must catch it loading what nobody saved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "agent/state/checkpoint_file.h"
#include "base/check.h"
#include "checkpoint_fixture.h"
#include "disk_fake.h"

enum { FILE_MAX = 512 };

struct pair {
    struct disk_fake f;
    struct state_dir *s;
    uint8_t file[FILE_MAX]; /* checkpoint-0, generation 3; checkpoint-1 is generation 2 */
    size_t size;
};

static int make_pair(void **state)
{
    struct pair *p = test_calloc(1, sizeof *p);
    struct err_text why;
    disk_fake_init(&p->f);
    p->s = checkpoint_state_of(&p->f.disk);
    for (uint64_t g = 1; g <= 3; g++) assert_int_equal(save_generation(p->s, g, &why), 0);
    const uint8_t *bytes = disk_fake_file(&p->f, "checkpoint-0", &p->size);
    assert_true(bytes != NULL && p->size > 0 && p->size <= FILE_MAX);
    memcpy(p->file, bytes, p->size);
    *state = p;
    return 0;
}

static int free_pair(void **state)
{
    struct pair *p = *state;
    state_dir_close(p->s);
    assert_int_equal(disk_fake_open_count(&p->f), 0);
    disk_fake_deinit(&p->f);
    test_free(p);
    return 0;
}

/* Plants `bytes` as the newer file and loads: generation 2 must be used and the reason told to begin with
 * "checkpoint-0 " and hold `told`. Without the older file the same reason is the error. */
static void expect_fallback(struct pair *p, const uint8_t *bytes, size_t size, int code, const char *told)
{
    struct err_text note, why;
    struct checkpoint c;
    uint8_t older[FILE_MAX];
    size_t older_size, left;
    disk_fake_put(&p->f, "checkpoint-0", bytes, size);
    assert_int_equal(load_generation(p->s, &note), 2);
    if (strncmp(note.text, "checkpoint-0 ", 13) != 0 || strstr(note.text, told) == NULL)
        fail_msg("said: %s; expected: %s", note.text, told);
    const uint8_t *kept = disk_fake_file(&p->f, "checkpoint-1", &older_size);
    memcpy(older, kept, older_size);
    disk_fake_remove(&p->f, "checkpoint-1");
    assert_int_equal(checkpoint_load(p->s, fixture_shape, &c, &note, &why), code);
    assert_null(c.model);
    assert_non_null(strstr(why.text, told));
    disk_fake_put(&p->f, "checkpoint-1", older, older_size);
    kept = disk_fake_file(&p->f, "checkpoint-0", &left);
    assert_int_equal(left, size);
    if (size > 0) assert_memory_equal(kept, bytes, size);
}

static void every_flipped_byte_is_found(void **state)
{
    struct pair *p = *state;
    for (size_t i = 0; i < p->size; i++)
        for (uint32_t bit = 0; bit < 8; bit++) {
            uint8_t bad[FILE_MAX];
            memcpy(bad, p->file, p->size);
            bad[i] ^= (uint8_t)(1u << bit);
            expect_fallback(p, bad, p->size, ERR_FORMAT, "is damaged");
        }
    print_message("%zu bytes, each bit\n", p->size);
}

static void every_length_is_found(void **state)
{
    struct pair *p = *state;
    uint8_t bad[FILE_MAX + 64] = {0};
    memcpy(bad, p->file, p->size);
    for (size_t size = 0; size < p->size + 64; size++)
        if (size != p->size) expect_fallback(p, bad, size, ERR_FORMAT, "is damaged");
}

static void zeros_are_found_wherever_they_begin(void **state)
{
    struct pair *p = *state;
    for (size_t from = 0; from < p->size; from++) {
        uint8_t bad[FILE_MAX];
        memcpy(bad, p->file, p->size);
        memset(bad + from, 0, p->size - from);
        expect_fallback(p, bad, p->size, ERR_FORMAT, "is damaged");
    }
}

/* The section is named, so that a person can tell a bad model from a bad address. */
static void the_damaged_section_is_named(void **state)
{
    struct pair *p = *state;
    static const char *const names[] = {"counters", "model", "method", "addresses"}; /* 3 has no trainer */
    size_t at = CHECKPOINT_FIXED_SIZE + 4 * CHECKPOINT_ENTRY_SIZE + 8;
    for (size_t i = 0; i < 4; i++) {
        uint8_t bad[FILE_MAX];
        uint64_t size;
        char told[64];
        memcpy(bad, p->file, p->size);
        memcpy(&size, bad + CHECKPOINT_FIXED_SIZE + i * CHECKPOINT_ENTRY_SIZE + 8, sizeof size);
        bad[at] ^= 0x10;
        snprintf(told, sizeof told, "is damaged (hash of section %s)", names[i]);
        expect_fallback(p, bad, p->size, ERR_FORMAT, told);
        at += size;
    }
    assert_int_equal(at + TRACE_HASH_SIZE, p->size);
}

/* The bytes of somebody's checkpoint. */
static size_t print_file(const struct checkpoint *c, uint8_t out[FILE_MAX])
{
    struct checkpoint_image image;
    checkpoint_image_init(&image, c);
    size_t size = 0;
    for (size_t i = 0; i < image.piece_count; i++) {
        assert_true(size + image.piece[i].size <= FILE_MAX);
        memcpy(out + size, image.piece[i].bytes, image.piece[i].size);
        size += image.piece[i].size;
    }
    checkpoint_image_deinit(&image);
    return size;
}

static void files_of_others_are_not_taken_up(void **state)
{
    struct pair *p = *state;
    uint8_t bytes[FILE_MAX];
    struct checkpoint other = checkpoint_of(FIXTURE_NODE + 1, 3);
    expect_fallback(p, bytes, print_file(&other, bytes), ERR_FORMAT, "is of node 78");
    other.id = FIXTURE_NODE;
    other.shape[15] ^= 1;
    expect_fallback(p, bytes, print_file(&other, bytes), ERR_CLUSTER, "another experiment");
    checkpoint_deinit(&other);
}

static void a_file_that_was_put_back_is_that_generation_whole(void **state)
{
    struct pair *p = *state;
    struct err_text note, why;
    size_t size;
    uint8_t bytes[FILE_MAX];
    const uint8_t *older = disk_fake_file(&p->f, "checkpoint-1", &size);
    memcpy(bytes, older, size);
    disk_fake_put(&p->f, "checkpoint-0", bytes, size); /* the same generation twice */
    assert_int_equal(load_generation(p->s, &note), 2);
    assert_int_equal(save_generation(p->s, 3, &why), 0);
    assert_int_equal(load_generation(p->s, &note), 3);
    older = disk_fake_file(&p->f, "checkpoint-0", &size);
    memcpy(bytes, older, size);
    disk_fake_put(&p->f, "checkpoint-1", p->file, p->size); /* names exchanged */
    disk_fake_put(&p->f, "checkpoint-0", bytes, size);
    assert_int_equal(load_generation(p->s, &note), 3);
}

static void two_damaged_files_are_both_named_and_a_save_begins_anew(void **state)
{
    struct pair *p = *state;
    struct err_text note, why;
    struct checkpoint c;
    disk_fake_put(&p->f, "checkpoint-0", "", 0);
    disk_fake_put(&p->f, "checkpoint-1", "nonsense nonsense nonsense", 26);
    assert_int_equal(checkpoint_load(p->s, fixture_shape, &c, &note, &why), ERR_FORMAT);
    assert_non_null(
        strstr(why.text, "checkpoint-0 is damaged (it ends early); checkpoint-1 is damaged (it does"));
    assert_int_equal(save_generation(p->s, 1, &why), 0);
    assert_int_equal(load_generation(p->s, &note), 1);
    assert_non_null(strstr(note.text, "checkpoint-1 is damaged"));
}

/* -- hashes made to agree ---------------------------------------------------------------------- */

static void put_hash(uint8_t *at, const uint8_t *bytes, size_t size)
{
    uint64_t hash = XXH3_64bits(bytes, size);
    memcpy(at, &hash, sizeof hash);
}

static uint64_t number_at(const uint8_t *at, size_t size)
{
    uint64_t n = 0;
    memcpy(&n, at, size);
    return n;
}

/* Makes all hashes agree with the bytes, as far as the table can be followed. */
static void seal(uint8_t *bytes, size_t size)
{
    uint64_t count = number_at(bytes + 12, 4);
    put_hash(bytes + 16, bytes, 16);
    if (count > CHECKPOINT_SECTION_COUNT) return;
    size_t header = CHECKPOINT_FIXED_SIZE + count * CHECKPOINT_ENTRY_SIZE + 8, at = header;
    for (uint64_t i = 0; i < count && header <= size; i++) {
        uint8_t *entry = bytes + CHECKPOINT_FIXED_SIZE + i * CHECKPOINT_ENTRY_SIZE;
        uint64_t length = number_at(entry + 8, 8);
        if (length > size - at) break;
        put_hash(entry + 16, bytes + at, length);
        at += length;
    }
    if (header <= size) put_hash(bytes + header - 8, bytes, header - 8);
    if (size < TRACE_HASH_SIZE) return;
    struct trace_hash *whole = trace_hash_new();
    trace_hash_add(whole, bytes, size - TRACE_HASH_SIZE);
    trace_hash_bytes(whole, bytes + size - TRACE_HASH_SIZE);
    trace_hash_free(whole);
}

struct lie {
    size_t at, size;
    uint64_t value;
    const char *told;
};

#define ENTRY(i, field) (CHECKPOINT_FIXED_SIZE + (i)*CHECKPOINT_ENTRY_SIZE + (field))
#define COUNTER(field) (CHECKPOINT_FIXED_SIZE + 4 * CHECKPOINT_ENTRY_SIZE + 8 + (field))

static const struct lie lies[] = {
    {8, 4, 0, "is of format 0"},
    {12, 4, 0, "sections that do not add up"},
    {12, 4, 3, "sections that do not add up"},
    {12, 4, 6, "has 6 sections"},
    {12, 4, UINT32_MAX, "has 4294967295 sections"},
    {40, 8, 0, "impossible generation"},
    {40, 8, UINT64_MAX, "impossible generation"},
    {56, 8, UINT64_MAX, "impossible generation or boot"},
    {64, 8, 1, "header says 1)"},
    {64, 8, UINT64_MAX, "header says 18446744073709551615)"},
    {ENTRY(0, 0), 4, 0, "impossible table"},
    {ENTRY(1, 0), 4, 1, "impossible table"}, /* the same kind twice */
    {ENTRY(3, 0), 4, 6, "impossible table"}, /* an unknown kind */
    {ENTRY(3, 0), 4, UINT32_MAX, "impossible table"},
    {ENTRY(1, 4), 4, 1, "impossible table"},
    {ENTRY(1, 8), 8, UINT64_MAX, "impossible table"}, /* sums that wrap around */
    {ENTRY(1, 8), 8, UINT64_MAX - 19, "impossible table"},
    {ENTRY(1, 8), 8, 1ull << 40, "impossible table"},
    {ENTRY(1, 8), 8, 24, "do not add up"},
    {ENTRY(0, 8), 8, 39, "do not add up"},
    {COUNTER(24), 8, 0, "impossible counters"},
    {COUNTER(24), 8, FIXTURE_DIM + 1, "another size"},
    {COUNTER(24), 8, (1ull << 62) + FIXTURE_DIM, "impossible counters"}, /* times four it is the right size */
    {COUNTER(32), 4, NODE_COUNT_MAX, "impossible counters"},
    {COUNTER(36), 4, 1, "impossible counters"},
};

static void lies_under_good_hashes_are_found(void **state)
{
    struct pair *p = *state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        uint8_t bad[FILE_MAX];
        memcpy(bad, p->file, p->size);
        memcpy(bad + lies[i].at, &lies[i].value, lies[i].size);
        seal(bad, p->size);
        expect_fallback(p, bad, p->size, ERR_FORMAT, lies[i].told);
    }
}

/* Anything at all under good hashes is refused, or is a checkpoint that can be written again. */
static void random_bytes_under_good_hashes_never_make_nonsense(void **state)
{
    struct pair *p = *state;
    struct prng random;
    uint32_t taken = 0, refused = 0;
    prng_seed(&random, 5);
    for (uint32_t i = 0; i < 20000; i++) {
        uint8_t bad[FILE_MAX];
        struct err_text note, why;
        struct checkpoint found;
        memcpy(bad, p->file, p->size);
        for (uint32_t changes = 1 + prng_below(&random, 3); changes > 0; changes--) {
            size_t at = prng_below(&random, (uint32_t)p->size);
            bad[at] = prng_below(&random, 2) == 0 ? (uint8_t)prng_next(&random) : (uint8_t)(bad[at] + 1);
        }
        size_t size = prng_below(&random, 4) == 0 ? prng_below(&random, (uint32_t)p->size) : p->size;
        seal(bad, size);
        disk_fake_put(&p->f, "checkpoint-0", bad, size);
        int err = checkpoint_load(p->s, fixture_shape, &found, &note, &why);
        if (err == ERR_VERSION) continue; /* a later one, as far as anybody can tell */
        assert_int_equal(err, 0);
        if (note.text[0] == '\0') {
            struct checkpoint_image image;
            checkpoint_image_init(&image, &found); /* it checks every number */
            checkpoint_image_deinit(&image);
            taken++;
        } else {
            assert_int_equal(found.generation, 2);
            refused++;
        }
        checkpoint_deinit(&found);
    }
    print_message("%u taken, %u refused\n", taken, refused);
    assert_true(taken > 1000 && refused > 1000);
}

/* The last section of generation 3 holds three addresses of the same length. */
static void malformed_address_books_are_found(void **state)
{
    struct pair *p = *state;
    uint64_t book = number_at(p->file + ENTRY(3, 8), 8);
    size_t at = p->size - TRACE_HASH_SIZE - book, step = book / 3;
    static const uint16_t lengths[] = {0, 1, ADDRESS_TEXT_MAX, UINT16_MAX};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
            uint8_t bad[FILE_MAX];
            memcpy(bad, p->file, p->size);
            memcpy(bad + at + i * step, &lengths[k], sizeof lengths[k]);
            seal(bad, p->size);
            expect_fallback(p, bad, p->size, ERR_FORMAT, "malformed section addresses");
        }
    uint8_t bad[FILE_MAX];
    memcpy(bad, p->file, p->size);
    bad[at + 4] = '\0';
    seal(bad, p->size);
    expect_fallback(p, bad, p->size, ERR_FORMAT, "malformed section addresses");
}

/* The planted reader: to it, hashes always agree. Each byte changed either is refused by another check, or is
 * loaded as something that nobody saved; and the latter must be seen for nearly all bytes of the sections. */
static void a_reader_without_hashes_is_caught(void **state)
{
    struct pair *p = *state;
    uint32_t wrong = 0;
    for (size_t i = 0; i < p->size - TRACE_HASH_SIZE; i++) {
        uint8_t bad[FILE_MAX];
        struct err_text note, why;
        struct checkpoint found, saved = checkpoint_of(FIXTURE_NODE, 3);
        memcpy(bad, p->file, p->size);
        bad[i] ^= 0x01;
        seal(bad, p->size);
        disk_fake_put(&p->f, "checkpoint-0", bad, p->size);
        if (checkpoint_load(p->s, fixture_shape, &found, &note, &why) == 0) {
            wrong += note.text[0] == '\0' && !checkpoint_equal(&found, &saved);
            checkpoint_deinit(&found);
        }
        checkpoint_deinit(&saved);
    }
    print_message("loaded in part: %u of %zu\n", wrong, p->size);
    assert_true(wrong > 60);
}

int main(void)
{
#define WITH_PAIR(f) cmocka_unit_test_setup_teardown(f, make_pair, free_pair)
    const struct CMUnitTest tests[] = {
        WITH_PAIR(every_flipped_byte_is_found),
        WITH_PAIR(every_length_is_found),
        WITH_PAIR(zeros_are_found_wherever_they_begin),
        WITH_PAIR(the_damaged_section_is_named),
        WITH_PAIR(files_of_others_are_not_taken_up),
        WITH_PAIR(a_file_that_was_put_back_is_that_generation_whole),
        WITH_PAIR(two_damaged_files_are_both_named_and_a_save_begins_anew),
        WITH_PAIR(lies_under_good_hashes_are_found),
        WITH_PAIR(random_bytes_under_good_hashes_never_make_nonsense),
        WITH_PAIR(malformed_address_books_are_found),
        WITH_PAIR(a_reader_without_hashes_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

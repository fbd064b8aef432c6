/* Goal: what `gadabout invite` prints is read back by --join, whatever the addresses; damage is found and
 * said in one line; no text whatsoever does harm. Method: round trips in a table and at random; every single
 * character changed, every length cut; random bytes with a good checksum; options through the parser of the
 * command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "agent/config/config.h"
#include "agent/control/invite.h"
#include "base/prng.h"

static struct invite sample(void)
{
    struct invite in = {.address_count = 4, .cluster = "lab-2"};
    static const char *const address[] = {"10.0.0.5:7946", "[2001:db8::17]:80", "seed.example.org:65535",
                                          "192.168.1.9:1"};
    for (uint32_t i = 0; i < 4; i++) snprintf(in.address[i], ADDRESS_TEXT_MAX, "%s", address[i]);
    for (uint32_t i = 0; i < 16; i++) in.shape[i] = (uint8_t)(17 * i);
    return in;
}

static void same(const struct invite *a, const struct invite *b)
{
    assert_int_equal(a->address_count, b->address_count);
    for (uint32_t i = 0; i < a->address_count; i++) assert_string_equal(a->address[i], b->address[i]);
    assert_string_equal(a->cluster, b->cluster);
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    char text[INVITE_TEXT_MAX];
    struct err_text why;
    struct invite in = sample(), out;
    assert_int_equal(invite_encode(&in, text, &why), 0);
    assert_true(invite_is_meant(text));
    assert_int_equal(strncmp(text, "gadabout1:", 10), 0);
    assert_int_equal(invite_decode(text, &out, &why), 0);
    same(&in, &out);
    /* the largest there is */
    in.address_count = INVITE_ADDRESS_MAX;
    for (uint32_t i = 0; i < INVITE_ADDRESS_MAX; i++) {
        memset(in.address[i], 'a' + (int)i, 239);
        memcpy(in.address[i] + 239, ":65535", 7);
    }
    memset(in.cluster, 'c', INVITE_CLUSTER_MAX - 1);
    in.cluster[INVITE_CLUSTER_MAX - 1] = '\0';
    assert_int_equal(invite_encode(&in, text, &why), 0);
    assert_true(strlen(text) < INVITE_TEXT_MAX);
    assert_int_equal(invite_decode(text, &out, &why), 0);
    same(&in, &out);
}

static void two_numbers_make_a_short_line(void **state)
{
    (void)state;
    char text[INVITE_TEXT_MAX];
    struct invite in = {
        .address = {"10.0.0.5:7946", "10.0.0.6:7946"}, .address_count = 2, .cluster = "gadabout"};
    assert_int_equal(invite_encode(&in, text, NULL), 0);
    assert_in_range(strlen(text), 20, 72);
}

static void what_nobody_could_dial_is_not_written(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",           "host",  "host:",  ":1",   "host:0",
                                        "host:65536", "a b:1", "::1:80", "[x]:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[INVITE_TEXT_MAX];
        struct err_text why = {""};
        struct invite in = {.address_count = 1, .cluster = "x"};
        snprintf(in.address[0], ADDRESS_TEXT_MAX, "%s", wrong[i]);
        assert_true(invite_encode(&in, text, &why) < 0);
        assert_non_null(strstr(why.text, wrong[i]));
    }
}

static void every_changed_character_and_every_cut_is_found(void **state)
{
    (void)state;
    char text[INVITE_TEXT_MAX], bad[INVITE_TEXT_MAX];
    struct err_text why;
    struct invite in = sample(), out;
    assert_int_equal(invite_encode(&in, text, NULL), 0);
    size_t size = strlen(text);
    static const char other[] = "Ab9-_ \n\"=,";
    for (size_t i = 10; i < size; i++)
        for (size_t k = 0; k < sizeof other - 1; k++) {
            if (text[i] == other[k]) continue;
            memcpy(bad, text, size + 1);
            bad[i] = other[k];
            assert_int_equal(invite_decode(bad, &out, &why), ERR_FORMAT);
            assert_non_null(strstr(why.text, "gadabout invite"));
            assert_null(strchr(why.text, '\n'));
        }
    for (size_t cut = 10; cut < size; cut++) {
        memcpy(bad, text, cut);
        bad[cut] = '\0';
        assert_int_equal(invite_decode(bad, &out, &why), ERR_FORMAT);
    }
    assert_int_equal(invite_decode("gadabout2:AAAA", &out, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, "version 1"));
    memset(bad, 'A', sizeof bad - 1);
    memcpy(bad, "gadabout1:", 10);
    bad[sizeof bad - 1] = '\0';
    assert_int_equal(invite_decode(bad, &out, &why), ERR_FORMAT); /* longer than any */
}

/* A writer of its own, so that any bytes can have a good checksum. */
static void write_any(uint8_t *data, size_t size, char *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    XXH32_hash_t sum = XXH32(data, size, 0);
    for (int i = 0; i < 4; i++) data[size++] = (uint8_t)(sum >> (24 - 8 * i));
    out += sprintf(out, "gadabout1:");
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16 | (i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0) |
                         (i + 2 < size ? data[i + 2] : 0);
        for (size_t k = 0; k < (size - i < 3 ? size - i + 1 : 4); k++)
            *out++ = alphabet[three >> (18 - 6 * k) & 63];
    }
    *out = '\0';
}

static void any_bytes_with_a_good_checksum_are_refused_or_sound(void **state)
{
    (void)state;
    struct prng prng;
    uint32_t taken = 0;
    prng_seed(&prng, 5);
    for (uint32_t i = 0; i < 200000; i++) {
        uint8_t data[96];
        char text[256];
        struct invite out;
        size_t size = 1 + prng_below(&prng, 60);
        for (size_t k = 0; k < size; k++) data[k] = (uint8_t)prng_next(&prng);
        if (i % 2 == 0) { /* nearly right: one IPv4 address, a name of some bytes */
            data[0] = 1;
            data[1] = 4;
            size = 8 + 1 + 3 + 16;
            data[8] = 3;
            data[prng_below(&prng, (uint32_t)size)] = (uint8_t)prng_next(&prng);
        }
        write_any(data, size, text);
        if (invite_decode(text, &out, NULL) != 0) continue;
        taken++;
        assert_in_range(out.address_count, 1, INVITE_ADDRESS_MAX);
        for (uint32_t k = 0; k < out.address_count; k++) {
            assert_non_null(strchr(out.address[k], ':'));
            assert_null(strchr(out.address[k], ' '));
        }
        char again[INVITE_TEXT_MAX];
        assert_int_equal(invite_encode(&out, again, NULL), 0);
        assert_string_equal(again, text);
    }
    assert_true(taken > 1000);
}

static void a_host_may_have_our_name(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool meant;
    } row[] = {{"gadabout1:7946", false},  {"gadabout12:1", false}, {"gadabout:7946", false},
               {"10.0.0.1:1", false},      {"gadabout1:", false},   {"gadabout1:AQQ", true},
               {"gadabout1:123456", true}, {"gadabout7:x", true},   {"gadabout1.lan:80", false}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(invite_is_meant(row[i].text), row[i].meant);
}

/* -- as an option ------------------------------------------------------------------------------------ */

static int parse(struct config *c, struct err_text *why, int count, char *const extra[])
{
    char *argv[16] = {"agent", "-n", "4"};
    for (int i = 0; i < count; i++) argv[3 + i] = extra[i];
    why->text[0] = '\0';
    return config_parse(COMMAND_AGENT, 3 + count, argv, c, why);
}

static void join_takes_invitations_beside_addresses(void **state)
{
    (void)state;
    char text[INVITE_TEXT_MAX], both[INVITE_TEXT_MAX + 64];
    struct err_text why;
    struct config c;
    struct invite in = sample();
    assert_int_equal(invite_encode(&in, text, NULL), 0);
    snprintf(both, sizeof both, "gadabout1:7946,%s", text);
    assert_int_equal(parse(&c, &why, 2, (char *const[]){"--join", both}), 0);
    assert_int_equal(c.join_count, 5);
    assert_string_equal(c.join[0], "gadabout1:7946");
    assert_string_equal(c.join[1], "10.0.0.5:7946");
    assert_string_equal(c.join[4], "192.168.1.9:1");
    assert_true(c.invited);
    assert_memory_equal(c.invited_shape, in.shape, sizeof in.shape);
    assert_string_equal(c.cluster, "lab-2"); /* not given: as invited */
    config_deinit(&c);
    assert_int_equal(parse(&c, &why, 4, (char *const[]){"--join", text, "--cluster", "lab-2"}), 0);
    config_deinit(&c);
    assert_int_equal(parse(&c, &why, 4, (char *const[]){"--join", text, "--cluster", "other"}), ERR_USAGE);
    assert_non_null(strstr(why.text, "--cluster"));
    assert_non_null(strstr(why.text, "lab-2"));
}

static void damage_is_one_clear_line_of_join(void **state)
{
    (void)state;
    char text[INVITE_TEXT_MAX];
    struct err_text why;
    struct config c;
    struct invite in = sample();
    assert_int_equal(invite_encode(&in, text, NULL), 0);
    text[20] = text[20] == 'A' ? 'B' : 'A';
    assert_int_equal(parse(&c, &why, 2, (char *const[]){"--join", text}), ERR_USAGE);
    assert_int_equal(strncmp(why.text, "--join: the invitation is cut off or changed", 44), 0);
    char second[INVITE_TEXT_MAX], both[2 * INVITE_TEXT_MAX];
    assert_int_equal(invite_encode(&in, text, NULL), 0);
    in.shape[3] ^= 1;
    assert_int_equal(invite_encode(&in, second, NULL), 0);
    snprintf(both, sizeof both, "%s,%s", text, second);
    assert_int_equal(parse(&c, &why, 2, (char *const[]){"--join", both}), ERR_USAGE);
    assert_non_null(strstr(why.text, "two invitations"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(two_numbers_make_a_short_line),
        cmocka_unit_test(what_nobody_could_dial_is_not_written),
        cmocka_unit_test(every_changed_character_and_every_cut_is_found),
        cmocka_unit_test(any_bytes_with_a_good_checksum_are_refused_or_sound),
        cmocka_unit_test(a_host_may_have_our_name),
        cmocka_unit_test(join_takes_invitations_beside_addresses),
        cmocka_unit_test(damage_is_one_clear_line_of_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: what a person has to know about an address: whether others can reach it at all. Method: tables of addresses
 * at the edges of the reserved ranges. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/doctor/doctor.h"

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage out = {0};
    struct sockaddr_in *four = (struct sockaddr_in *)&out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&out;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        out.ss_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &six->sin6_addr), 1);
        out.ss_family = AF_INET6;
    }
    return out;
}

static void kinds_end_where_the_ranges_do(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum address_kind kind;
    } cases[] = {
        {"0.0.0.0", ADDRESS_WILDCARD},
        {"127.0.0.1", ADDRESS_LOOPBACK},
        {"127.255.255.255", ADDRESS_LOOPBACK},
        {"126.255.255.255", ADDRESS_PUBLIC},
        {"128.0.0.0", ADDRESS_PUBLIC},
        {"10.0.0.0", ADDRESS_PRIVATE},
        {"10.255.255.255", ADDRESS_PRIVATE},
        {"11.0.0.0", ADDRESS_PUBLIC},
        {"9.255.255.255", ADDRESS_PUBLIC},
        {"172.16.0.0", ADDRESS_PRIVATE},
        {"172.31.255.255", ADDRESS_PRIVATE},
        {"172.32.0.0", ADDRESS_PUBLIC},
        {"172.15.255.255", ADDRESS_PUBLIC},
        {"192.168.0.1", ADDRESS_PRIVATE},
        {"192.169.0.0", ADDRESS_PUBLIC},
        {"192.167.255.255", ADDRESS_PUBLIC},
        {"100.64.0.0", ADDRESS_PRIVATE},
        {"100.127.255.255", ADDRESS_PRIVATE},
        {"100.128.0.0", ADDRESS_PUBLIC},
        {"100.63.255.255", ADDRESS_PUBLIC},
        {"169.254.1.1", ADDRESS_LINK_LOCAL},
        {"169.255.0.0", ADDRESS_PUBLIC},
        {"::", ADDRESS_WILDCARD},
        {"::1", ADDRESS_LOOPBACK},
        {"fe80::1", ADDRESS_LINK_LOCAL},
        {"fd00::1", ADDRESS_PRIVATE},
        {"fc00::1", ADDRESS_PRIVATE},
        {"fe00::1", ADDRESS_PUBLIC},
        {"2001:db8::1", ADDRESS_PUBLIC},
        {"::ffff:10.0.0.1", ADDRESS_PRIVATE},
        {"::ffff:127.0.0.1", ADDRESS_LOOPBACK},
        {"::ffff:8.8.8.8", ADDRESS_PUBLIC},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sockaddr_storage a = address_of(cases[i].text);
        if (doctor_kind(&a) != cases[i].kind)
            fail_msg("%s is %s", cases[i].text, doctor_kind_name(doctor_kind(&a)));
    }
}

static void hosts_are_the_same_in_both_families(void **state)
{
    (void)state;
    struct sockaddr_storage four = address_of("10.0.0.1"), mapped = address_of("::ffff:10.0.0.1");
    struct sockaddr_storage other = address_of("10.0.0.2"), six = address_of("fd00::1");
    assert_true(doctor_same_host(&four, &mapped));
    assert_true(doctor_same_host(&six, &six));
    assert_false(doctor_same_host(&four, &other));
    assert_false(doctor_same_host(&four, &six));
    struct sockaddr_storage loop = address_of("127.0.0.1"), far = address_of("203.0.113.200");
    assert_true(doctor_is_ours(&loop));
    assert_false(doctor_is_ours(&far));
}

static void numbers_are_resolved_as_they_are(void **state)
{
    (void)state;
    struct doctor_target to;
    assert_int_equal(doctor_resolve("127.0.0.1:7946", false, &to, 1), 1);
    assert_string_equal(to.text, "127.0.0.1:7946");
    assert_string_equal(to.host, "127.0.0.1");
    assert_int_equal(doctor_resolve("[::1]:7946", false, &to, 1), 1);
    assert_string_equal(to.text, "[::1]:7946");
    static const char *const wrong[] = {"", "x", ":1", "no-such-host.invalid:1", "1.2.3.4:123456789"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (doctor_resolve(wrong[i], false, &to, 1) > 0) fail_msg("'%s'", wrong[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_end_where_the_ranges_do),
        cmocka_unit_test(hosts_are_the_same_in_both_families),
        cmocka_unit_test(numbers_are_resolved_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

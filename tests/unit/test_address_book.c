/* Goal: after a restart the addresses tried first are those that most likely answer; the book stays small and
 * has one address per member. Method: small courses by hand; the list is compared; a random course against
 * the book's laws. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/state/address_book.h"
#include "base/prng.h"

static void list_is(const struct book *b, uint32_t count, const char *const want[])
{
    char list[BOOK_ENTRY_MAX][ADDRESS_TEXT_MAX];
    assert_int_equal(book_list(b, list, BOOK_ENTRY_MAX), count);
    for (uint32_t i = 0; i < count; i++) assert_string_equal(list[i], want[i]);
}

static void the_latest_answer_comes_first_and_failures_last(void **state)
{
    (void)state;
    struct book b;
    book_init(&b);
    book_answered(&b, 1, "a:1", 100);
    book_answered(&b, 2, "b:1", 200);
    book_heard(&b, 3, "c:1");
    book_answered(&b, 4, "d:1", 50);
    list_is(&b, 4, (const char *const[]){"b:1", "a:1", "d:1", "c:1"});
    book_failed(&b, "b:1");
    book_failed(&b, "unknown:1");
    list_is(&b, 4, (const char *const[]){"a:1", "d:1", "c:1", "b:1"});
    book_failed(&b, "c:1");
    book_failed(&b, "b:1"); /* twice now */
    list_is(&b, 4, (const char *const[]){"a:1", "d:1", "c:1", "b:1"});
    book_answered(&b, 2, "b:1", 300); /* it is back */
    list_is(&b, 4, (const char *const[]){"b:1", "a:1", "d:1", "c:1"});
    book_deinit(&b);
}

static void a_member_has_one_address(void **state)
{
    (void)state;
    struct book b;
    book_init(&b);
    book_answered(&b, 1, "old:1", 100);
    book_answered(&b, 2, "b:1", 90);
    book_heard(&b, 1, "new:1");
    list_is(&b, 2, (const char *const[]){"b:1", "new:1"}); /* nobody has answered there yet */
    book_answered(&b, 3, "b:1", 120);                      /* another one lives there now */
    book_forget(&b, 2);
    list_is(&b, 2, (const char *const[]){"b:1", "new:1"});
    book_answered(&b, 3, "", 130); /* it only dials from now on */
    list_is(&b, 1, (const char *const[]){"new:1"});
    book_heard(&b, 4, "");
    list_is(&b, 1, (const char *const[]){"new:1"});
    book_deinit(&b);
}

static void what_was_saved_comes_back_in_its_order(void **state)
{
    (void)state;
    struct book b;
    char saved[5][ADDRESS_TEXT_MAX] = {"x:1", "y:1", "", "x:1", "z:1"};
    memset(saved[2], 'q', sizeof saved[2]); /* damaged: no end */
    book_init(&b);
    book_load(&b, (const char(*)[ADDRESS_TEXT_MAX])saved, 5);
    list_is(&b, 3, (const char *const[]){"x:1", "y:1", "z:1"});
    book_answered(&b, 9, "z:1", 10);
    list_is(&b, 3, (const char *const[]){"z:1", "x:1", "y:1"});
    book_heard(&b, 8, "new:1"); /* behind those that were saved as good */
    list_is(&b, 4, (const char *const[]){"z:1", "x:1", "y:1", "new:1"});
    char first[2][ADDRESS_TEXT_MAX];
    assert_int_equal(book_list(&b, first, 2), 2);
    assert_string_equal(first[1], "x:1");
    book_deinit(&b);
}

static void a_full_book_keeps_the_best(void **state)
{
    (void)state;
    struct book b;
    char text[64];
    book_init(&b);
    for (uint32_t i = 0; i < BOOK_ENTRY_MAX; i++) {
        snprintf(text, sizeof text, "h%u:1", i);
        book_answered(&b, 1000 + i, text, 100 + i);
    }
    book_heard(&b, 7, "heard:1"); /* worse than all */
    book_answered(&b, 8, "fresh:1", 5000);
    char list[BOOK_ENTRY_MAX][ADDRESS_TEXT_MAX];
    assert_int_equal(book_list(&b, list, BOOK_ENTRY_MAX), BOOK_ENTRY_MAX);
    assert_string_equal(list[0], "fresh:1");
    assert_string_equal(list[BOOK_ENTRY_MAX - 1], "h1:1"); /* h0 had to go */
    book_deinit(&b);
}

static void random_courses_keep_order_and_bounds(void **state)
{
    (void)state;
    struct prng prng;
    struct book b;
    char text[64];
    prng_seed(&prng, 11);
    book_init(&b);
    for (uint32_t i = 0; i < 20000; i++) {
        node_id id = prng_below(&prng, 400);
        snprintf(text, sizeof text, "h%u:1", prng_below(&prng, 500));
        switch (prng_below(&prng, 4)) {
        case 0:
            book_answered(&b, id, text, i + 1);
            assert_string_equal(b.entry[0].address, text); /* the latest */
            break;
        case 1:
            book_heard(&b, id, text);
            break;
        case 2:
            book_failed(&b, text);
            break;
        default:
            if (prng_below(&prng, 10) == 0) book_forget(&b, id);
            break;
        }
        assert_true(b.count <= BOOK_ENTRY_MAX);
        if (i % 50 != 0) continue;
        for (uint32_t k = 1; k < b.count; k++) {
            assert_true(b.entry[k - 1].failures <= b.entry[k].failures);
            for (uint32_t j = 0; j < k; j++) {
                assert_true(b.entry[j].id == BOOK_ID_NONE || b.entry[j].id != b.entry[k].id);
                assert_true(strcmp(b.entry[j].address, b.entry[k].address) != 0);
            }
        }
    }
    book_deinit(&b);
}

static void what_nobody_could_dial_is_not_kept(void **state)
{
    (void)state;
    static const char saved[3][ADDRESS_TEXT_MAX] = {"a:1", "nonsense", "b:0"};
    struct book b;
    book_init(&b);
    book_load(&b, saved, 3);
    book_heard(&b, 7, "0.0.0.0:0");
    book_heard(&b, 8, "c:65536");
    list_is(&b, 1, (const char *const[]){"a:1"});
    book_answered(&b, 9, "d:1", 10);
    book_answered(&b, 9, "d", 20);
    list_is(&b, 1, (const char *const[]){"a:1"});
    book_deinit(&b);
}

static void what_was_given_stands_behind_the_book(void **state)
{
    (void)state;
    char list[4][ADDRESS_TEXT_MAX] = {"a:1", "b:1"};
    char *given[] = {"b:1", "nonsense", "c:1", "d:1", "e:1"};
    assert_int_equal(book_append(list, 2, 4, given, 5), 4);
    assert_string_equal(list[2], "c:1");
    assert_string_equal(list[3], "d:1");
    assert_int_equal(book_append(list, 0, 4, NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_latest_answer_comes_first_and_failures_last),
        cmocka_unit_test(a_member_has_one_address),
        cmocka_unit_test(what_was_saved_comes_back_in_its_order),
        cmocka_unit_test(a_full_book_keeps_the_best),
        cmocka_unit_test(random_courses_keep_order_and_bounds),
        cmocka_unit_test(what_nobody_could_dial_is_not_kept),
        cmocka_unit_test(what_was_given_stands_behind_the_book),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

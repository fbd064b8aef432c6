/* Goal: nothing that compression drops is lost. Sent + residual = produced over a thousand messages; EF21's
 * two ends hold the same g; a refused vector leaves no trace; both do what theory says of them.
 * Method: one checker of conservation runs over all compressors that contract: exactly, entry by entry, for
 * those that copy values, within rounding for the others. It is shown to catch a wrapper that forgets its
 * residual and one that keeps what was sent. Theory: delicoco_def.md 3.7 and 3.8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/compress/feedback.h"
#include "base/prng.h"
#include "tests/unit/compress_make.h"

enum { DIM = 100, ROUNDS = 1000, BYTES_MAX = 5 * DIM + 64 };

static struct compress_context context_at(uint64_t round)
{
    return (struct compress_context){.seed = 6, .round = round, .rows = 10};
}

/* Whole numbers, whose sums are exact in float; or any. */
static void produce(bool whole, struct prng *p, float *x)
{
    for (size_t i = 0; i < DIM; i++) {
        float v = (float)prng_normal(p);
        x[i] = whole ? nearbyintf(8 * v) : v;
    }
}

/* -- conservation -------------------------------------------------------------------------------- */

typedef int encoder(struct feedback *f, const struct compress_context *context, const float *x, uint8_t *out,
                    size_t *size, const float **decoded);

/* Largest |sent + residual - produced| over entries and rounds, as the receiver sees it. */
static double worst_leak(encoder *encode, struct compressor *c, bool whole, double *residual_max)
{
    struct feedback f;
    feedback_init(&f, c, DIM);
    double sent[DIM] = {0}, produced[DIM] = {0}, worst = 0;
    struct prng p;
    prng_seed(&p, 31);
    *residual_max = 0;
    for (uint64_t r = 0; r < ROUNDS; r++) {
        float x[DIM], received[DIM];
        uint8_t bytes[BYTES_MAX];
        size_t size;
        const float *decoded;
        struct compress_context context = context_at(r);
        produce(whole, &p, x);
        assert_int_equal(encode(&f, &context, x, bytes, &size, &decoded), 0);
        assert_int_equal(compressor_decode(c, &context, DIM, bytes, size, received), 0);
        assert_memory_equal(decoded, received, sizeof received);
        for (size_t i = 0; i < DIM; i++) {
            sent[i] += (double)received[i];
            produced[i] += (double)x[i];
            worst = fmax(worst, fabs(sent[i] + (double)f.residual[i] - produced[i]));
            *residual_max = fmax(*residual_max, fabs((double)f.residual[i]));
        }
    }
    feedback_deinit(&f);
    return worst;
}

static void sent_and_residual_make_up_what_was_produced(void **state)
{
    (void)state;
    for (size_t t = 0; t < EACH_KIND_COUNT; t++) {
        struct compressor *c = make(each_kind[t]);
        assert_true(compressor_omega(c, DIM) > 0);
        double residual_max, leak = worst_leak(feedback_encode, c, true, &residual_max);
        if (compressor_copies_values(c) && leak != 0) fail_msg("%s loses %g", each_kind[t], leak);
        if (leak > 0.05 || leak > residual_max)
            fail_msg("%s loses %g of %g", each_kind[t], leak, residual_max);
        leak = worst_leak(feedback_encode, c, false, &residual_max);
        if (leak > ROUNDS * (double)FLT_EPSILON * (residual_max + 10))
            fail_msg("%s loses %g", each_kind[t], leak);
        compressor_free(c);
    }
}

static int planted_forget(struct feedback *f, const struct compress_context *context, const float *x,
                          uint8_t *out, size_t *size, const float **decoded)
{
    memset(f->residual, 0, f->dim * sizeof *f->residual);
    return feedback_encode(f, context, x, out, size, decoded);
}

static int planted_keep(struct feedback *f, const struct compress_context *context, const float *x,
                        uint8_t *out, size_t *size, const float **decoded)
{
    int err = feedback_encode(f, context, x, out, size, decoded);
    feedback_return(f, *decoded);
    return err;
}

static void planted_wrappers_that_lose_or_repeat_are_caught(void **state)
{
    (void)state;
    struct compressor *c = make("topk:fraction=0.05");
    double residual_max;
    assert_true(worst_leak(feedback_encode, c, true, &residual_max) == 0);
    assert_true(worst_leak(planted_forget, c, true, &residual_max) > 1);
    assert_true(worst_leak(planted_keep, c, true, &residual_max) > 1);
    compressor_free(c);
}

/* In every single message: C(e + x) + residual is the float e + x, to the last bit. */
static void copied_values_leave_no_rounding(void **state)
{
    (void)state;
    for (size_t t = 0; t < EACH_KIND_COUNT; t++) {
        struct compressor *c = make(each_kind[t]);
        struct feedback f;
        feedback_init(&f, c, DIM);
        struct prng p;
        prng_seed(&p, 8);
        for (uint64_t r = 0; compressor_copies_values(c) && r < ROUNDS; r++) {
            float x[DIM], before[DIM];
            uint8_t bytes[BYTES_MAX];
            size_t size;
            const float *decoded;
            struct compress_context context = context_at(r);
            produce(false, &p, x);
            memcpy(before, f.residual, sizeof before);
            assert_int_equal(feedback_encode(&f, &context, x, bytes, &size, &decoded), 0);
            for (size_t i = 0; i < DIM; i++) {
                float sum = before[i] + x[i];
                assert_true(decoded[i] + f.residual[i] == sum);
                assert_true(decoded[i] == 0 || f.residual[i] == 0);
            }
        }
        feedback_deinit(&f);
        compressor_free(c);
    }
}

static void subnormal_values_stay_with_the_sender(void **state)
{
    (void)state;
    struct compressor *c = make("none");
    struct feedback f;
    feedback_init(&f, c, 1);
    struct compress_context context = {0};
    float x = 0x1p-130f;
    uint8_t bytes[4];
    size_t size;
    const float *decoded;
    for (int r = 1; r <= 16; r++) {
        assert_int_equal(feedback_encode(&f, &context, &x, bytes, &size, &decoded), 0);
        assert_true(*decoded == (r == 16 ? 0x1p-126f : 0.0f));
    }
    assert_true(f.residual[0] == 0);
    feedback_deinit(&f);
    compressor_free(c);
}

static void a_refused_vector_leaves_no_trace(void **state)
{
    (void)state;
    struct compressor *c = make("topk:fraction=0.1");
    struct feedback one, twin;
    feedback_init(&one, c, DIM);
    feedback_init(&twin, c, DIM);
    struct prng p;
    prng_seed(&p, 1);
    for (uint64_t r = 0; r < 20; r++) {
        float x[DIM], bad[DIM];
        uint8_t bytes[BYTES_MAX], other[BYTES_MAX];
        size_t size, other_size;
        struct compress_context context = context_at(r);
        produce(false, &p, x);
        memcpy(bad, x, sizeof bad);
        bad[r] = r % 2 == 0 ? NAN : INFINITY;
        assert_int_equal(feedback_encode(&one, &context, bad, bytes, &size, NULL), ERR_FORMAT);
        assert_int_equal(feedback_encode(&one, &context, x, bytes, &size, NULL), 0);
        assert_int_equal(feedback_encode(&twin, &context, x, other, &other_size, NULL), 0);
        assert_int_equal(size, other_size);
        assert_memory_equal(bytes, other, size);
        assert_memory_equal(one.residual, twin.residual, sizeof x);
    }
    feedback_deinit(&one);
    feedback_deinit(&twin);
    compressor_free(c);
}

static void a_returned_message_is_sent_again(void **state)
{
    (void)state;
    struct compressor *c = make("topk:fraction=0.1");
    struct feedback f;
    feedback_init(&f, c, DIM);
    struct prng p;
    prng_seed(&p, 1);
    float x[DIM], zero[DIM] = {0};
    uint8_t lost[BYTES_MAX], again[BYTES_MAX];
    size_t size, size_again;
    const float *decoded;
    struct compress_context context = context_at(0);
    produce(true, &p, x);
    assert_int_equal(feedback_encode(&f, &context, x, lost, &size, &decoded), 0);
    feedback_return(&f, decoded);
    for (size_t i = 0; i < DIM; i++) assert_true(f.residual[i] == x[i]);
    assert_int_equal(feedback_encode(&f, &context, zero, again, &size_again, NULL), 0);
    assert_int_equal(size, size_again);
    assert_memory_equal(lost, again, size);
    feedback_deinit(&f);
    compressor_free(c);
}

/* Gradient steps s on x^2/2 sent with probability p: the squared error is multiplied per transmission by
 * 1 - 2s/p + (2-p)s^2/p^2 on average (delicoco_def.md 3.8); stable below 2p/(2-p). */
static void a_scalar_quadratic_shrinks_by_the_known_factor(void **state)
{
    (void)state;
    enum { SENT = 100000 };
    const double part = 1.0 / 16, limit = 2 * part / (2 - part);
    static const double steps[] = {0.5, 0.9, 2.0}; /* of the limit */
    struct compressor *c = make("bernoulli:p=0.0625");
    for (size_t t = 0; t < 3; t++) {
        struct feedback f;
        feedback_init(&f, c, 1);
        double s = steps[t] * limit, squares = 0;
        struct compress_context context = {.seed = 40 + t};
        for (int sent = 0; sent < SENT; context.round++) {
            float step = (float)s; /* x is set back to 1 after each transmission, when e is 0 */
            uint8_t bytes[4];
            size_t size;
            const float *decoded;
            assert_int_equal(feedback_encode(&f, &context, &step, bytes, &size, &decoded), 0);
            if (size == 0) continue;
            squares += (1 - (double)*decoded) * (1 - (double)*decoded);
            sent++;
        }
        double factor = 1 - 2 * s / part + (2 - part) * s * s / (part * part);
        if (fabs(squares / SENT - factor) > 0.03 * (factor + 0.5))
            fail_msg("%g, not %g", squares / SENT, factor);
        assert_true(steps[t] > 1 ? factor > 1 : factor < 1);
        feedback_deinit(&f);
    }
    compressor_free(c);
}

/* -- EF21 ---------------------------------------------------------------------------------------- */

static double distance(const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++) sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sqrt(sum);
}

static void ef21_ends_agree_and_close_in_on_the_target(void **state)
{
    (void)state;
    for (size_t t = 0; t < EACH_KIND_COUNT; t++) {
        struct compressor *c = make(each_kind[t]);
        struct ef21 sender, receiver;
        struct prng p;
        float start[DIM], target[DIM];
        prng_seed(&p, 12);
        produce(false, &p, start);
        produce(false, &p, target);
        ef21_init(&sender, c, DIM, start);
        ef21_init(&receiver, c, DIM, start);
        double first = distance(target, start);
        for (uint64_t r = 0; r < ROUNDS; r++) {
            uint8_t bytes[BYTES_MAX];
            size_t size;
            struct compress_context context = context_at(r);
            assert_int_equal(ef21_encode(&sender, &context, target, bytes, &size, NULL), 0);
            assert_int_equal(ef21_receive(&receiver, &context, bytes, size), 0);
            assert_memory_equal(sender.known, receiver.known, sizeof start);
            assert_int_equal(ef21_receive(&receiver, &context, bytes, size + 1), ERR_FORMAT);
            assert_memory_equal(sender.known, receiver.known, sizeof start);
        }
        if (distance(target, sender.known) > 0.01 * first)
            fail_msg("%s: %g of %g left", each_kind[t], distance(target, sender.known), first);
        ef21_deinit(&sender);
        ef21_deinit(&receiver);
        compressor_free(c);
    }
}

/* Least squares of NODES unlike quadratics h (x - centre)^2 / 2 in WIDTH dimensions. */
enum { NODES = 4, WIDTH = 8 };

struct problem {
    double h[NODES][WIDTH], centre[NODES][WIDTH], best[WIDTH];
    double low, high, high_rms; /* curvature of the mean; root mean square of each node's greatest */
};

static void problem_make(struct problem *q)
{
    struct prng p;
    prng_seed(&p, 77);
    q->low = INFINITY;
    q->high = q->high_rms = 0;
    for (size_t n = 0; n < NODES; n++) {
        double top = 0;
        for (size_t j = 0; j < WIDTH; j++) {
            q->h[n][j] = prng_uniform(&p, 0.5, 2);
            q->centre[n][j] = 3 * prng_normal(&p);
            top = fmax(top, q->h[n][j]);
        }
        q->high_rms += top * top / NODES;
    }
    q->high_rms = sqrt(q->high_rms);
    for (size_t j = 0; j < WIDTH; j++) {
        double h = 0, sum = 0;
        for (size_t n = 0; n < NODES; n++) {
            h += q->h[n][j] / NODES;
            sum += q->h[n][j] * q->centre[n][j] / NODES;
        }
        q->best[j] = sum / h;
        q->low = fmin(q->low, h);
        q->high = fmax(q->high, h);
    }
}

static void gradient(const struct problem *q, size_t n, const double *x, double factor, float *out)
{
    for (size_t j = 0; j < WIDTH; j++) out[j] = (float)(factor * q->h[n][j] * (x[j] - q->centre[n][j]));
}

/* f(x) - f(best), up to the curvature: the squared distance. */
static double gap(const struct problem *q, const double *x)
{
    double sum = 0;
    for (size_t j = 0; j < WIDTH; j++) sum += (x[j] - q->best[j]) * (x[j] - q->best[j]);
    return sum;
}

static double run_ef21(const struct problem *q, struct compressor *c, double step, int rounds)
{
    struct ef21 e[NODES];
    double x[WIDTH] = {0};
    for (size_t n = 0; n < NODES; n++) {
        float g[WIDTH];
        gradient(q, n, x, 1, g);
        ef21_init(&e[n], c, WIDTH, g);
    }
    struct compress_context context = {0};
    for (int r = 0; r < rounds; r++) {
        for (size_t n = 0; n < NODES; n++)
            for (size_t j = 0; j < WIDTH; j++) x[j] -= step * (double)e[n].known[j] / NODES;
        for (size_t n = 0; n < NODES; n++) {
            float g[WIDTH];
            uint8_t bytes[BYTES_MAX];
            size_t size;
            gradient(q, n, x, 1, g);
            assert_int_equal(ef21_encode(&e[n], &context, g, bytes, &size, NULL), 0);
        }
    }
    for (size_t n = 0; n < NODES; n++) ef21_deinit(&e[n]);
    return gap(q, x);
}

static double run_feedback(const struct problem *q, struct compressor *c, double step, int rounds)
{
    struct feedback f[NODES];
    double x[WIDTH] = {0};
    for (size_t n = 0; n < NODES; n++) feedback_init(&f[n], c, WIDTH);
    struct compress_context context = {0};
    for (int r = 0; r < rounds; r++) {
        double sum[WIDTH] = {0};
        for (size_t n = 0; n < NODES; n++) {
            float g[WIDTH];
            uint8_t bytes[BYTES_MAX];
            size_t size;
            const float *decoded;
            gradient(q, n, x, step, g);
            assert_int_equal(feedback_encode(&f[n], &context, g, bytes, &size, &decoded), 0);
            for (size_t j = 0; j < WIDTH; j++) sum[j] += (double)decoded[j] / NODES;
        }
        for (size_t j = 0; j < WIDTH; j++) x[j] -= sum[j];
    }
    for (size_t n = 0; n < NODES; n++) feedback_deinit(&f[n]);
    return gap(q, x);
}

/* Full gradients, unlike nodes, top-1: EF21 with its step reaches the optimum, error feedback stays away. */
static void ef21_reaches_the_optimum_where_error_feedback_stalls(void **state)
{
    (void)state;
    struct problem q;
    problem_make(&q);
    struct compressor *c = make("topk:fraction=0.125");
    double alpha = compressor_omega(c, WIDTH);
    assert_true(alpha == 0.125);
    double theta = 1 - sqrt(1 - alpha), b = (1 - alpha) / theta;
    double step = fmin(1 / (q.high + q.high_rms * sqrt(2 * b / theta)), theta / (2 * q.low));
    double ef21 = run_ef21(&q, c, step, 4000), plain = run_feedback(&q, c, step, 4000);
    if (!(ef21 < 1e-10)) fail_msg("EF21 is left with %g", ef21);
    if (!(plain > 1e-6)) fail_msg("error feedback reaches %g", plain);
    compressor_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sent_and_residual_make_up_what_was_produced),
        cmocka_unit_test(planted_wrappers_that_lose_or_repeat_are_caught),
        cmocka_unit_test(copied_values_leave_no_rounding),
        cmocka_unit_test(subnormal_values_stay_with_the_sender),
        cmocka_unit_test(a_refused_vector_leaves_no_trace),
        cmocka_unit_test(a_returned_message_is_sent_again),
        cmocka_unit_test(a_scalar_quadratic_shrinks_by_the_known_factor),
        cmocka_unit_test(ef21_ends_agree_and_close_in_on_the_target),
        cmocka_unit_test(ef21_reaches_the_optimum_where_error_feedback_stalls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Linear maps over dense or CSR rows, shared by the models. Sparse rows cost their entries only. */
#include "algo/model/internal.h"

double linear_penalty(double l2, size_t n, const float *x, float *grad)
{
    if (l2 == 0) {
        if (grad != NULL) vec_zero(n, grad);
        return 0;
    }
    double sum[4] = {0, 0, 0, 0}; /* four sums: additions that do not wait for each other, in a fixed order */
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        sum[0] += (double)x[i] * (double)x[i];
        sum[1] += (double)x[i + 1] * (double)x[i + 1];
        sum[2] += (double)x[i + 2] * (double)x[i + 2];
        sum[3] += (double)x[i + 3] * (double)x[i + 3];
    }
    for (; i < n; i++) sum[0] += (double)x[i] * (double)x[i];
    if (grad != NULL) {
        vec_copy(n, x, grad);
        vec_scale(n, (float)l2, grad);
    }
    return 0.5 * l2 * ((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void sparse_forward(const struct batch *input, uint32_t width, const float *w, const float *bias,
                           float *out)
{
    for (uint32_t r = 0; r < input->rows; r++) {
        uint32_t from = input->row_start[r], to = input->row_start[r + 1];
        for (uint32_t o = 0; o < width; o++) {
            const float *row = w + (size_t)o * input->features;
            double sum = bias != NULL ? (double)bias[o] : 0;
            for (uint32_t e = from; e < to; e++)
                sum += (double)input->value[e] * (double)row[input->column[e]];
            out[(size_t)r * width + o] = (float)sum;
        }
    }
}

void linear_forward(const struct vec_ops *vec, const struct batch *input, uint32_t width, const float *w,
                    const float *bias, float *out)
{
    if (input->row_start != NULL) {
        sparse_forward(input, width, w, bias, out);
        return;
    }
    if (bias != NULL)
        for (uint32_t r = 0; r < input->rows; r++) vec_copy(width, bias, out + (size_t)r * width);
    float keep = bias != NULL ? 1.0f : 0.0f;
    if (width ==
        1) /* one output: the row vector of outputs is w X', which is faster than a one-column product */
        vec->gemm(false, true, 1, input->rows, input->features, 1.0f, w, input->features, input->dense,
                  input->features, keep, out, input->rows);
    else
        vec->gemm(false, true, input->rows, width, input->features, 1.0f, input->dense, input->features, w,
                  input->features, keep, out, width);
}

static void sparse_backward(const struct batch *input, uint32_t width, const float *delta, float *grad_w)
{
    for (uint32_t r = 0; r < input->rows; r++) {
        uint32_t from = input->row_start[r], to = input->row_start[r + 1];
        for (uint32_t o = 0; o < width; o++) {
            float *row = grad_w + (size_t)o * input->features;
            float d = delta[(size_t)r * width + o];
            for (uint32_t e = from; e < to; e++) row[input->column[e]] += d * input->value[e];
        }
    }
}

void linear_backward(const struct vec_ops *vec, const struct batch *input, uint32_t width, const float *delta,
                     float *grad_w, float *grad_bias)
{
    if (input->row_start != NULL)
        sparse_backward(input, width, delta, grad_w);
    else
        vec->gemm(true, false, width, input->features, input->rows, 1.0f, delta, width, input->dense,
                  input->features, 1.0f, grad_w, input->features);
    if (grad_bias == NULL) return;
    for (uint32_t r = 0; r < input->rows; r++)
        for (uint32_t o = 0; o < width; o++) grad_bias[o] += delta[(size_t)r * width + o];
}

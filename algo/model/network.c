/* Softmax regression and the multi-layer perceptron: linear layers with relu between them and the cross
 * entropy of a softmax at the end (softmax regression is the case of one layer).
 *
 * x is, layer by layer, W (outputs, inputs) row-major and then the bias (outputs). Biases are not
 * regularised. Start: zeros for softmax; for the perceptron weights from N(0, 2 / inputs) (He et al. 2015),
 * biases 0. */
#include "algo/model/internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/prng.h"

enum { WIDTH_MAX = 65536 };

struct layer {
    uint32_t inputs, outputs;
    size_t weight, bias; /* offsets in x */
    float *out;          /* (piece_rows, outputs): outputs, after relu; in the way back their gradient */
};

struct network {
    struct model base;
    double l2;
    bool bias;
    bool random_start;
    uint32_t layer_count;
    struct layer layer[LAYER_MAX];
    float *back; /* (piece_rows, widest hidden layer) */
};

static void network_free(struct model *m)
{
    struct network *n = (struct network *)m;
    for (uint32_t i = 0; i < n->layer_count; i++) free(n->layer[i].out);
    free(n->back);
    free(n);
}

static void network_start(const struct model *m, uint64_t seed, float *x)
{
    const struct network *n = (const struct network *)m;
    vec_zero(m->dim, x);
    if (!n->random_start) return;
    for (uint32_t i = 0; i < n->layer_count; i++) {
        const struct layer *l = &n->layer[i];
        struct prng random;
        prng_split(&random, seed, "model start", i);
        double deviation = sqrt(2.0 / l->inputs);
        size_t count = (size_t)l->inputs * l->outputs;
        for (size_t j = 0; j < count; j++) x[l->weight + j] = (float)(deviation * prng_normal(&random));
    }
}

static double network_penalty(const struct model *m, const float *x, float *grad)
{
    const struct network *n = (const struct network *)m;
    double penalty = 0;
    for (uint32_t i = 0; i < n->layer_count; i++) {
        const struct layer *l = &n->layer[i];
        size_t count = (size_t)l->inputs * l->outputs;
        penalty += linear_penalty(n->l2, count, x + l->weight, grad != NULL ? grad + l->weight : NULL);
        if (grad != NULL && n->bias) vec_zero(l->outputs, grad + l->bias);
    }
    return penalty;
}

/* Cross entropy of rows of logits (rows, classes), which become weight * (probability - [class is target]).
 */
static double cross_entropy(float *logits, uint32_t rows, uint32_t classes, const float *target,
                            double weight, uint32_t *correct)
{
    double loss = 0;
    for (uint32_t r = 0; r < rows; r++, logits += classes) {
        uint32_t wanted = (uint32_t)target[r], best = 0;
        CHECK(wanted < classes); /* the data set's reader vouches for it */
        for (uint32_t c = 1; c < classes; c++)
            if (logits[c] > logits[best]) best = c;
        *correct += best == wanted;
        float highest = logits[best], wanted_logit = logits[wanted];
        double sum = 0;
        for (uint32_t c = 0; c < classes; c++) {
            double e = exp((double)(logits[c] - highest)); /* at most 1 */
            logits[c] = (float)e;
            sum += e;
        }
        loss += log(sum) - ((double)wanted_logit - (double)highest);
        float scale = (float)(weight / sum);
        for (uint32_t c = 0; c < classes; c++) logits[c] *= scale;
        logits[wanted] -= (float)weight;
    }
    return loss;
}

/* What layer i reads: the batch itself or the layer before. */
static struct batch layer_input(const struct network *n, uint32_t i, const struct batch *piece)
{
    if (i == 0) return *piece;
    return (struct batch){.rows = piece->rows, .features = n->layer[i].inputs, .dense = n->layer[i - 1].out};
}

static void relu(size_t count, float *x)
{
    for (size_t i = 0; i < count; i++) x[i] = x[i] < 0 ? 0 : x[i]; /* a NaN stays one */
}

/* Takes the gradient from layer i's outputs to those of layer i - 1, through its relu. */
static void pass_back(struct network *n, uint32_t i, uint32_t rows, const float *x)
{
    const struct layer *l = &n->layer[i];
    n->base.vec->gemm(false, false, rows, l->inputs, l->outputs, 1.0f, l->out, l->outputs, x + l->weight,
                      l->inputs, 0.0f, n->back, l->inputs);
    float *before = n->layer[i - 1].out;
    size_t count = (size_t)rows * l->inputs;
    for (size_t j = 0; j < count; j++) before[j] = before[j] > 0 ? n->back[j] : 0;
}

static double network_sum(struct model *m, const float *x, const struct batch *piece, double weight,
                          float *grad, uint32_t *correct)
{
    struct network *n = (struct network *)m;
    uint32_t last = n->layer_count - 1;
    for (uint32_t i = 0; i <= last; i++) {
        const struct layer *l = &n->layer[i];
        struct batch input = layer_input(n, i, piece);
        linear_forward(m->vec, &input, l->outputs, x + l->weight, n->bias ? x + l->bias : NULL, l->out);
        if (i < last) relu((size_t)piece->rows * l->outputs, l->out);
    }
    double loss = cross_entropy(n->layer[last].out, piece->rows, n->layer[last].outputs, piece->target,
                                weight, correct);
    if (grad == NULL) return loss;
    for (uint32_t i = last + 1; i-- > 0;) {
        const struct layer *l = &n->layer[i];
        struct batch input = layer_input(n, i, piece);
        linear_backward(m->vec, &input, l->outputs, l->out, grad + l->weight,
                        n->bias ? grad + l->bias : NULL);
        if (i > 0) pass_back(n, i, piece->rows, x);
    }
    return loss;
}

static const struct model_ops network_ops = {
    .classifies = true,
    .free = network_free,
    .start = network_start,
    .penalty = network_penalty,
    .sum = network_sum,
};

/* -- creation ---------------------------------------------------------------------------------- */

/* Builds the layers features -> hidden[0] -> ... -> classes. */
static int network_create(const struct choice *choice, const struct model_shape *shape,
                          const struct vec_ops *vec, const uint32_t *hidden, uint32_t hidden_count, bool bias,
                          struct model **out, struct err_text *why)
{
    double l2;
    int err = model_parse_l2(choice, shape, &l2, why);
    if (err != 0) return err;
    struct network *n = mem_new_zero(1, sizeof *n);
    n->l2 = l2;
    n->bias = bias;
    n->random_start = hidden_count > 0;
    n->layer_count = hidden_count + 1;
    uint64_t dim = 0;
    uint32_t inputs = shape->features, widest = 0;
    for (uint32_t i = 0; i < n->layer_count; i++) {
        uint32_t outputs = i < hidden_count ? hidden[i] : shape->classes;
        uint64_t bias_at = dim + (uint64_t)inputs * outputs;
        n->layer[i] = (struct layer){
            .inputs = inputs, .outputs = outputs, .weight = (size_t)dim, .bias = (size_t)bias_at};
        dim = bias_at + (bias ? outputs : 0);
        if (i < hidden_count && outputs > widest) widest = outputs;
        inputs = outputs;
    }
    if (dim > MODEL_DIM_MAX) {
        free(n);
        return err_set(why, ERR_LIMIT,
                       "--task: %s has %llu parameters, at most %llu are possible; use fewer hidden "
                       "units or features",
                       choice->spec->name, (unsigned long long)dim, MODEL_DIM_MAX);
    }
    model_init(&n->base, &network_ops, vec, shape, (size_t)dim);
    for (uint32_t i = 0; i < n->layer_count; i++) {
        model_add_tensor(&n->base, n->layer[i].outputs, n->layer[i].inputs);
        if (bias) model_add_tensor(&n->base, 1, n->layer[i].outputs);
        n->layer[i].out = mem_new((size_t)n->base.piece_rows * n->layer[i].outputs, sizeof(float));
    }
    n->back = mem_new((size_t)n->base.piece_rows * widest, sizeof(float));
    *out = &n->base;
    return 0;
}

int softmax_create(const struct choice *choice, const struct model_shape *shape, const struct vec_ops *vec,
                   struct model **out, struct err_text *why)
{
    int err = model_need_classes(choice, shape, why);
    if (err != 0) return err;
    bool bias = choice_integer(choice, "bias") == 0;
    return network_create(choice, shape, vec, NULL, 0, bias, out, why);
}

/* Widths separated by '-', as in 128-64. */
static int parse_hidden(const char *text, uint32_t width[HIDDEN_LAYER_MAX], uint32_t *count,
                        struct err_text *why)
{
    const char *at = text;
    for (*count = 0; *count < HIDDEN_LAYER_MAX;) {
        char *end;
        unsigned long number = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
        if (number < 1 || number > WIDTH_MAX) break;
        width[(*count)++] = (uint32_t)number;
        if (*end == '\0') return 0;
        if (*end != '-') break;
        at = end + 1;
    }
    return err_set(why, ERR_USAGE,
                   "--task: mlp:hidden=%s must be 1 to %d layer widths from 1 to %d, as in 100 or "
                   "128-64",
                   text, HIDDEN_LAYER_MAX, WIDTH_MAX);
}

int mlp_create(const struct choice *choice, const struct model_shape *shape, const struct vec_ops *vec,
               struct model **out, struct err_text *why)
{
    int err = model_need_classes(choice, shape, why);
    if (err != 0) return err;
    uint32_t hidden[HIDDEN_LAYER_MAX], count;
    err = parse_hidden(choice_text(choice, "hidden"), hidden, &count, why);
    if (err != 0) return err;
    return network_create(choice, shape, vec, hidden, count, true, out, why);
}

/* The table of models, and what they have in common: larger batches are cut into pieces that fit the scratch
 * memory, losses are summed in double in the order of the rows, the regulariser is added once. */
#include "algo/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/model/internal.h"
#include "base/check.h"

/* Rows per piece: enough for matrix kernels to run at full speed, small enough for activations to stay in
 * cache. */
enum { PIECE_ROWS = 256 };

#define L2_HELP "L2 factor; auto = 1/samples"
static const struct param_spec quadratic_params[] = {
    {"cond", PARAM_REAL, "1", 1, 1e6, NULL, "greatest over least eigenvalue of A"},
};
static const struct param_spec logistic_params[] = {
    {"bias", PARAM_WORD, "yes", 0, 0, "yes|no", "constant feature, not regularised"},
    {"l2", PARAM_TEXT, "auto", 0, 0, NULL, L2_HELP},
    {"nonconvex", PARAM_REAL, "0", 0, 1e6, NULL, "factor of sum w^2 / (1 + w^2)"},
};
static const struct param_spec softmax_params[] = {
    {"bias", PARAM_WORD, "yes", 0, 0, "yes|no", "constant feature, not regularised"},
    {"l2", PARAM_TEXT, "0", 0, 0, NULL, L2_HELP},
};
static const struct param_spec mlp_params[] = {
    {"hidden", PARAM_TEXT, "100", 0, 0, NULL, "widths of the hidden layers, as in 128-64"},
    {"l2", PARAM_TEXT, "0", 0, 0, NULL, L2_HELP},
};

enum { MODEL_QUADRATIC, MODEL_LOGISTIC, MODEL_SOFTMAX, MODEL_MLP, MODEL_AVERAGE };

#define PARAMS(p) (p), sizeof(p) / sizeof(p)[0]
const struct choice_spec model_table[] = {
    [MODEL_QUADRATIC] = {"quadratic", "1/2 (x - row)' A (x - row): the optimum is the mean row", "",
                         PARAMS(quadratic_params)},
    [MODEL_LOGISTIC] = {"logistic", "logistic regression, two classes", "", PARAMS(logistic_params)},
    [MODEL_SOFTMAX] = {"softmax", "multinomial logistic regression", "", PARAMS(softmax_params)},
    [MODEL_MLP] = {"mlp", "perceptron with relu layers and softmax output", "He et al. 2015 (start)",
                   PARAMS(mlp_params)},
    [MODEL_AVERAGE] = {"average", "no training: consensus on the mean of the nodes' mean rows", "", NULL, 0},
};
const size_t model_table_count = sizeof model_table / sizeof model_table[0];

static model_create *const creators[] = {
    [MODEL_QUADRATIC] = quadratic_create, [MODEL_LOGISTIC] = logistic_create,
    [MODEL_SOFTMAX] = softmax_create,     [MODEL_MLP] = mlp_create,
    [MODEL_AVERAGE] = average_create,
};
static_assert(sizeof creators / sizeof creators[0] == sizeof model_table / sizeof model_table[0],
              "each model has its creator");

/* -- creation ---------------------------------------------------------------------------------- */

int model_new(const struct choice *choice, const struct model_shape *shape, const struct vec_ops *vec,
              struct model **out, struct err_text *why)
{
    CHECK(choice->spec == &model_table[choice->index]);
    CHECK(shape->features > 0);
    CHECK(shape->classes > 0);
    CHECK(shape->batch_rows_max > 0);
    return creators[choice->index](choice, shape, vec, out, why);
}

void model_init(struct model *m, const struct model_ops *ops, const struct vec_ops *vec,
                const struct model_shape *shape, size_t dim)
{
    m->ops = ops;
    m->vec = vec;
    m->shape = *shape;
    m->dim = dim;
    m->piece_rows = shape->batch_rows_max < PIECE_ROWS ? shape->batch_rows_max : PIECE_ROWS;
}

int model_need_classes(const struct choice *choice, const struct model_shape *shape, struct err_text *why)
{
    if (shape->classes >= 2) return 0;
    return err_set(why, ERR_USAGE,
                   "--task: %s needs classes, but the data's targets are regression values; "
                   "use --task quadratic or data with labels",
                   choice->spec->name);
}

int model_parse_l2(const struct choice *choice, const struct model_shape *shape, double *out,
                   struct err_text *why)
{
    const char *text = choice_text(choice, "l2");
    if (strcmp(text, "auto") == 0) {
        CHECK(shape->samples_total > 0);
        *out = 1.0 / (double)shape->samples_total;
        return 0;
    }
    char *end;
    *out = strtod(text, &end);
    if (end != text && *end == '\0' && *out >= 0 && *out <= 1e6) return 0;
    return err_set(why, ERR_USAGE, "--task: %s:l2=%s must be auto or a number from 0 to 1e6",
                   choice->spec->name, text);
}

void model_free(struct model *m)
{
    if (m != NULL) m->ops->free(m);
}

size_t model_dim(const struct model *m)
{
    return m->dim;
}

bool model_classifies(const struct model *m)
{
    return m->ops->classifies;
}

void model_tensors(const struct model *m, const struct tensor **tensor, uint32_t *count)
{
    CHECK(m->tensor_count > 0);
    *tensor = m->tensor;
    *count = m->tensor_count;
}

void model_add_tensor(struct model *m, size_t rows, size_t columns)
{
    CHECK(m->tensor_count < TENSOR_MAX);
    const struct tensor *last = m->tensor_count > 0 ? &m->tensor[m->tensor_count - 1] : NULL;
    size_t offset = last != NULL ? last->offset + last->rows * last->columns : 0;
    m->tensor[m->tensor_count++] = (struct tensor){offset, rows, columns};
    CHECK(offset + rows * columns <= m->dim);
}

void model_start(const struct model *m, uint64_t seed, float *x)
{
    m->ops->start(m, seed, x);
}

/* -- loss and gradient ------------------------------------------------------------------------- */

/* Sum of losses over the batch, piece by piece; see model_ops.sum. */
static double sum_pieces(struct model *m, const float *x, const struct batch *b, double weight, float *grad,
                         uint32_t *correct)
{
    CHECK(b->rows > 0);
    CHECK(b->features == m->shape.features);
    CHECK((b->dense != NULL) != (b->row_start != NULL));
    CHECK_IMPLIES(b->row_start != NULL, m->shape.sparse);
    if (b->rows <= m->piece_rows) return m->ops->sum(m, x, b, weight, grad, correct);
    double loss = 0;
    for (uint32_t from = 0; from < b->rows; from += m->piece_rows) {
        struct batch piece = *b;
        piece.rows = b->rows - from < m->piece_rows ? b->rows - from : m->piece_rows;
        if (b->dense != NULL)
            piece.dense = b->dense + (size_t)from * b->features;
        else
            piece.row_start = b->row_start + from; /* entries are counted from the batch's first */
        piece.target = b->target + from;
        loss += m->ops->sum(m, x, &piece, weight, grad, correct);
    }
    return loss;
}

double model_loss_grad(struct model *m, const float *x, const struct batch *b, float *grad)
{
    uint32_t correct = 0;
    double penalty = m->ops->penalty(m, x, grad);
    return sum_pieces(m, x, b, 1.0 / b->rows, grad, &correct) / b->rows + penalty;
}

void model_evaluate(struct model *m, const float *x, const struct batch *b, double *loss, uint32_t *correct)
{
    *correct = 0;
    *loss = sum_pieces(m, x, b, 1.0 / b->rows, NULL, correct) / b->rows + m->ops->penalty(m, x, NULL);
}

/* The algorithms there are. To add one: its file with a struct algo_type, one line in each list here. */
#include <string.h>

#include "algo/step.h"
#include "base/check.h"

extern const struct algo_type digest_type;
extern const struct algo_type gossip_type;
extern const struct algo_type delicoco_type;
extern const struct algo_type choco_type;
extern const struct algo_type dgd_type;
extern const struct algo_type def_type;
extern const struct algo_type def_a_type;
extern const struct algo_type ef_sgd_type;
extern const struct algo_type step_ahead_type;
extern const struct algo_type ef21_type;
extern const struct algo_type allreduce_type;
extern const struct algo_type walk_type;
extern const struct algo_type local_type;
extern const struct algo_type hsgd_type;
extern const struct algo_type async_type;

const struct algo_type *const algo_types[] = {&digest_type,     &gossip_type, &delicoco_type,  &choco_type,
                                              &dgd_type,        &def_type,    &def_a_type,     &ef_sgd_type,
                                              &step_ahead_type, &ef21_type,   &allreduce_type, &walk_type,
                                              &local_type,      &hsgd_type,   &async_type};
enum { TYPE_COUNT = sizeof algo_types / sizeof algo_types[0] };
const size_t algo_type_count = TYPE_COUNT;

int algo_choose(const char *text, struct choice *params, const struct algo_type **type, struct err_text *why)
{
    size_t name_size = strcspn(text, ":");
    struct choice_spec table[TYPE_COUNT]; /* for the error text: the specs lie apart in their types */
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        const struct choice_spec *spec = &algo_types[i]->spec;
        table[i] = *spec;
        if (strlen(spec->name) != name_size || strncmp(spec->name, text, name_size) != 0) continue;
        int err = choice_parse(spec, 1, "--algorithm", text, params, why);
        params->index = i;
        *type = algo_types[i];
        return err;
    }
    int err = choice_parse(table, TYPE_COUNT, "--algorithm", text, params, why);
    CHECK(err != 0);     /* no name matched */
    params->spec = NULL; /* never points into the table of this call */
    return err;
}

/* Which topologies and compressors fit which algorithm: asked by the options' checks, by `gadabout algorithms`
 * and once more before an algorithm is made, so that all three say the same. */
#include <stdio.h>
#include <string.h>

#include "algo/compress/compress.h"
#include "algo/step.h"
#include "base/check.h"

enum { LIST_MAX = 200, TYPICAL_DIM = 100 };

static void list_add(char *list, const char *name)
{
    size_t used = strlen(list);
    snprintf(list + used, LIST_MAX - used, "%s%s", used > 0 ? ", " : "", name);
}

bool algo_takes_any_peers(const struct algo_type *type, const struct choice *params)
{
    return type->any_peers != NULL && type->any_peers(params);
}

int algo_fit_topology(const struct algo_type *type, const struct choice *params,
                      const struct choice_spec *topology, struct err_text *why)
{
    bool overlay = strcmp(topology->name, "overlay") == 0;
    if (strcmp(topology->name, "complete") == 0 || (overlay && algo_takes_any_peers(type, params))) return 0;
    if (overlay && type->links == ALGO_LINKS_ANY)
        return err_set(
            why, ERR_USAGE,
            "--topology: 'overlay' does not fit --algorithm %s, which counts on fixed neighbours; give "
            "--topology regular%s",
            type->spec.name, type->any_peers != NULL ? ", or another mode" : "");
    if (type->links == ALGO_LINKS_ANY) return 0;
    return err_set(why, ERR_USAGE,
                   "--topology: '%s' does not fit --algorithm %s, any two nodes of which may have to speak; "
                   "give --topology complete",
                   topology->name, type->spec.name);
}

/* -- compressors ------------------------------------------------------------------------------- */

enum misfit { FITS, SENDS_WHOLE, NEEDS_MATRICES, NEEDS_SHARED_SUPPORT, ENLARGES, DROPS_MUCH };

static enum misfit misfit_of(const struct algo_type *type, const struct choice *compress, size_t dim)
{
    if (compress_is_none(compress)) return FITS;
    if (!type->compresses) return SENDS_WHOLE;
    if (strcmp(compress->spec->name, "powersgd") == 0 && !type->by_tensor) return NEEDS_MATRICES;
    struct compressor *c = compressor_new(compress);
    bool shared = compressor_is_shared(c), contracts = dim == 0 || compressor_omega(c, dim) > 0;
    bool keeps = compressor_omega(c, dim == 0 ? TYPICAL_DIM : dim) >= type->omega_min;
    compressor_free(c);
    if (type->support == ALGO_SUPPORT_SHARED && !shared) return NEEDS_SHARED_SUPPORT;
    if (!contracts) return ENLARGES;
    return type->omega_min == 0 || keeps ? FITS : DROPS_MUCH;
}

/* The methods that a compressor fits. */
static void list_types(const struct choice *compress, char list[LIST_MAX])
{
    list[0] = '\0';
    for (size_t i = 0; i < algo_type_count; i++)
        if (misfit_of(algo_types[i], compress, 0) == FITS) list_add(list, algo_types[i]->spec.name);
}

/* The compressors that fit a method. */
static void list_compressors(const struct algo_type *type, char list[LIST_MAX])
{
    list[0] = '\0';
    for (size_t i = 0; i < compress_table_count; i++) {
        struct choice compress;
        const char *name = compress_table[i].name;
        CHECK(choice_parse(compress_table, compress_table_count, "--compress", name, &compress, NULL) == 0);
        if (misfit_of(type, &compress, 0) == FITS) list_add(list, name);
    }
}

int algo_fit_compress(const struct algo_type *type, const struct choice *compress, size_t dim,
                      struct err_text *why)
{
    char fits[LIST_MAX];
    const char *method = type->spec.name;
    switch (misfit_of(type, compress, dim)) {
    case FITS:
        return 0;
    case SENDS_WHOLE:
        list_types(compress, fits);
        return err_set(why, ERR_USAGE,
                       "--compress: '%s' does not fit --algorithm %s, which sends models whole; give "
                       "--compress none, or one of --algorithm %s",
                       compress->spec->name, method, fits);
    case NEEDS_MATRICES:
        list_compressors(type, fits);
        return err_set(
            why, ERR_USAGE,
            "--compress: '%s' needs matrices, and for --algorithm %s the model is one vector; give "
            "one of %s",
            compress->spec->name, method, fits);
    case NEEDS_SHARED_SUPPORT:
        list_compressors(type, fits);
        return err_set(why, ERR_USAGE,
                       "--compress: '%s' does not fit --algorithm %s, whose nodes must all send the same "
                       "entries, as they are summed on the way; give one of %s",
                       compress->spec->name, method, fits);
    case ENLARGES:
        return err_set(why, ERR_USAGE,
                       "--compress: this '%s' enlarges vectors, and --algorithm %s needs one that does not; "
                       "leave out variant=unbiased",
                       compress->spec->name, method);
    case DROPS_MUCH:
        list_compressors(type, fits);
        return err_set(
            why, ERR_USAGE,
            "--compress: this '%s' drops too much for --algorithm %s, which needs a quality omega of "
            "%.2g; give one of %s",
            compress->spec->name, method, type->omega_min, fits);
    }
    UNREACHABLE();
}

/* -- making ------------------------------------------------------------------------------------ */

int algo_create(const struct algo_type *type, const struct algo_config *config, const struct choice *params,
                struct algo **out, struct err_text *why)
{
    uint64_t n = config->node_count;
    int err = algo_fit_compress(type, config->compress, config->dim, why);
    if (err != 0) return err;
    if (type->links == ALGO_LINKS_ALL && config->graph->offset[n] != n * (n - 1))
        return err_set(
            why, ERR_USAGE,
            "--topology: any two nodes may have to speak with --algorithm %s, and some have no link; "
            "give --topology complete",
            type->spec.name);
    return type->create(config, params, out, why);
}

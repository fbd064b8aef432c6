/* SHA-256 by OpenSSL's EVP interface: the only file that knows OpenSSL. Small pieces are gathered first,
 * since each call into EVP costs more than hashing a short record. */
#include "agent/simulation/trace_hash.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/check.h"

#define GATHER_MAX 8192u

struct trace_hash {
    EVP_MD_CTX *context;
    size_t gathered;
    uint8_t bytes[GATHER_MAX];
};

struct trace_hash *trace_hash_new(void)
{
    struct trace_hash *h = mem_new(1, sizeof *h);
    h->gathered = 0;
    h->context = EVP_MD_CTX_new();
    CHECK(h->context != NULL);
    CHECK(EVP_DigestInit_ex(h->context, EVP_sha256(), NULL) == 1);
    return h;
}

void trace_hash_free(struct trace_hash *h)
{
    if (h == NULL) return;
    EVP_MD_CTX_free(h->context);
    free(h);
}

void trace_hash_add(struct trace_hash *h, const void *bytes, size_t size)
{
    if (size > GATHER_MAX - h->gathered) {
        CHECK(EVP_DigestUpdate(h->context, h->bytes, h->gathered) == 1);
        h->gathered = 0;
    }
    if (size > GATHER_MAX) {
        CHECK(EVP_DigestUpdate(h->context, bytes, size) == 1);
    } else if (size > 0) {
        memcpy(h->bytes + h->gathered, bytes, size);
        h->gathered += size;
    }
}

void trace_hash_bytes(const struct trace_hash *h, uint8_t out[TRACE_HASH_SIZE])
{
    unsigned size = 0;
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    CHECK(copy != NULL);
    CHECK(EVP_MD_CTX_copy_ex(copy, h->context) == 1);
    CHECK(EVP_DigestUpdate(copy, h->bytes, h->gathered) == 1);
    CHECK(EVP_DigestFinal_ex(copy, out, &size) == 1);
    CHECK(size == TRACE_HASH_SIZE);
    EVP_MD_CTX_free(copy);
}

const char *trace_hash_text(const struct trace_hash *h, char out[TRACE_HASH_TEXT])
{
    uint8_t digest[TRACE_HASH_SIZE];
    trace_hash_bytes(h, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return out;
}

/* Fuzz entry for message heads: whatever the bytes, decoding ends with 0, ERR_FORMAT or ERR_LIMIT, and what
 * was decoded can be encoded and decoded again to the same.
 *
 * With clang: -fsanitize=fuzzer,address,undefined. Elsewhere -DFUZZ_REPLAY gives a main() that runs the
 * files named on the command line (a corpus, a crash). */
#include <stdio.h>
#include <stdlib.h>

#include "agent/wire/wire.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct blob *encode_again(const struct wire_message *m)
{
    switch (m->kind) {
    case WIRE_SWIM:
        return wire_encode_swim(m->sequence, &m->swim);
    case WIRE_ALGO:
        return wire_encode_algo(m->sequence, &m->msg);
    case WIRE_READY:
        return wire_encode_ready(m->sequence, &m->ready);
    case WIRE_OVERLAY:
        return wire_encode_overlay(m->sequence, &m->overlay);
    case WIRE_STATE:
        return wire_encode_state(m->sequence, &m->state);
    }
    UNREACHABLE();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_message first, second;
    int scanned = wire_scan(data, size, NULL);
    int err = wire_decode(data, size, &first, NULL);
    CHECK(err == 0 || err == ERR_FORMAT || err == ERR_LIMIT);
    CHECK_IMPLIES(scanned != 0, err == scanned);
    if (err != 0) return 0;
    struct blob *head = encode_again(&first);
    if (head != NULL) {
        CHECK(wire_decode(head->data, head->size, &second, NULL) == 0);
        CHECK(second.kind == first.kind && second.sequence == first.sequence);
        CHECK(second.swim.update_count == first.swim.update_count);
        CHECK(second.overlay.peer_count == first.overlay.peer_count);
        CHECK(second.msg.bits_size == first.msg.bits_size);
        wire_message_deinit(&second);
        blob_unref(head);
    }
    wire_message_deinit(&first);
    return 0;
}

#ifdef FUZZ_REPLAY
int main(int argc, char **argv)
{
    static uint8_t bytes[2 * MESSAGE_HEAD_MAX];
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (f == NULL) {
            fprintf(stderr, "%s: cannot be opened\n", argv[i]);
            return 1;
        }
        size_t size = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    return 0;
}
#endif

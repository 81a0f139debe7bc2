/* SPDX-License-Identifier: MIT
 *
 * A call made of bytes, judged by the oracle: for coverage-guided fuzzers of a port.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address -I impl/ports -I tests/conformance/c tests/conformance/c/fuzz.c port.c
 *   afl-clang-fast -fsanitize=fuzzer ... the same
 *   cc -DREPLAY ...: runs the files that are named, without a fuzzer
 */
#include "kit.h"

enum { MOST_BLOCKS = 4, MOST_WORDS = 6 };

typedef struct {
    const uint8_t *at;
    size_t left;
} bytes;

static uint64_t take(bytes *from, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n && from->left; i++, from->at++, from->left--) {
        value |= (uint64_t)*from->at << 8 * i;
    }
    return value;
}

static bool has_page(const kit_call *call, uint64_t bit)
{
    for (size_t i = 0; i < call->n_blocks; i++) {
        if (call->page_size && kit_owns(&call->blocks[i], call->page_size, bit)) {
            return true;
        }
    }
    return false;
}

static void take_blocks(bytes *from, kit_call *call, kit_block *blocks, uint64_t kind)
{
    uint64_t bit = take(from, 1) % 70, size = call->page_size;

    for (size_t i = 0; i < call->n_blocks; i++) {
        uint64_t pages = take(from, 1) % 150;

        bit += take(from, 1) % 40;
        blocks[i] = (kit_block){bit, pages * size, (pages + take(from, 1) % 8) * size, bit * size};
        if (kind % 16 == 7) {
            uint64_t *fields[] = {&blocks[i].first_bit, &blocks[i].used_length, &blocks[i].max_length,
                                  &blocks[i].offset};

            *fields[take(from, 1) % 4] = take(from, 8);
        }
        bit += kind % 16 == 8 ? 0 : pages;
    }
}

/* Most lengths are whole pages and most bits have one, or nearly every call would be refused. */
static void take_call(bytes *from, kit_call *call, kit_block *blocks, uint64_t *cache, uint64_t *host)
{
    uint64_t kind = take(from, 1);

    call->page_size = kind == 255 ? take(from, 8) : UINT64_C(1024) << take(from, 1) % 4;
    call->n_blocks = take(from, 1) % (MOST_BLOCKS + 1);
    call->n_words = take(from, 1) % (MOST_WORDS + 1);
    call->threads = (uint32_t)take(from, 1) % 9;
    call->place = (enum kit_place)(take(from, 1) % 4);
    take_blocks(from, call, blocks, kind);
    for (size_t w = 0; w < call->n_words; w++) {
        cache[w] = take(from, 8);
        host[w] = take(from, 8);
        for (unsigned bit = 0; bit < KIT_WORD && kind % 4; bit++) {
            if (!has_page(call, w * KIT_WORD + bit)) {
                cache[w] &= ~(UINT64_C(1) << bit);
                host[w] &= ~(UINT64_C(1) << bit);
            }
        }
        call->dirty_pages += (uint64_t)__builtin_popcountll(cache[w]);
    }
    call->dirty_pages += kind % 8 == 3 ? take(from, 8) : 0;
}

/* What a block claims beyond the memory that there is, no port may touch: such a call can only be made
 * where it must be refused. */
static bool can_be_made(const kit_call *call)
{
    for (size_t i = 0; i < call->n_blocks; i++) {
        if (call->blocks[i].used_length > KIT_MOST_MEMORY) {
            return kit_why_refused(call) != NULL;
        }
    }
    return true;
}

/* A fuzzer has to see the signal itself: it is what tells it that an input fails. */
static void get_ready(void)
{
#if defined(REPLAY)
    kit_begin();
#else
    kit_get_ready();
#endif
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    bytes from = {data, size};
    kit_block blocks[MOST_BLOCKS];
    uint64_t cache[MOST_WORDS] = {0}, host[MOST_WORDS] = {0};
    kit_call call = {.name = "fuzzed", .blocks = blocks, .cache = cache, .host = host, .null = ""};

    if (!ready) {
        get_ready();
        ready = true;
    }
    take_call(&from, &call, blocks, cache, host);
    if (can_be_made(&call)) {
        kit_make(&call);
    }
    if (kit_failures) {
        abort();
    }
    return 0;
}

#if defined(REPLAY)
int main(int argc, char **argv)
{
    static uint8_t data[1 << 16];

    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");

        if (!file) {
            perror(argv[i]);
            return 2;
        }
        LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
        fclose(file);
    }
    return 0;
}
#endif

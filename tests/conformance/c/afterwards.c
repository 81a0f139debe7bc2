/* SPDX-License-Identifier: MIT
 *
 * When a call has returned nobody touches its memory: at once, and for a while, none of it can be
 * touched. A helper that still reads a page, a bit or the block list dies of it.
 */
#include "one_block.h"

enum { ROUNDS = 400, MOST_WORDS = 6 };

static uint64_t cache[MOST_WORDS], host[MOST_WORDS];

static void hide_after(const kit_call *call, uint64_t rounds, unsigned pause)
{
    kit_placed placed;

    kit_place_call(&placed, call);
    for (uint64_t round = 0; round < kit_times(rounds) && !kit_failures; round++) {
        kit_place_again(&placed);
        int status = kit_run(&placed);

        kit_hide(&placed);
        usleep(pause);
        kit_unhide(&placed);
        if (round % 8 == 0) {
            kit_judge(&placed, status);
        }
    }
    kit_give_back(&placed);
}

static void with_threads(uint64_t page_size, uint64_t words, uint64_t bits, uint64_t rounds)
{
    kit_block blocks[2] = {
        {0, 70 * page_size, 70 * page_size, 0},
        {70, (words * 64 - 70) * page_size, (words * 64 - 70) * page_size, 70 * page_size},
    };
    uint64_t dirty = 0;

    for (uint64_t w = 0; w < words; w++) {
        cache[w] = w % 2 ? bits : bits >> 1;
        host[w] = bits;
        dirty += (uint64_t)__builtin_popcountll(cache[w]);
    }
    for (uint32_t threads = 2; threads <= 5; threads++) {
        kit_call call = {"afterwards", page_size, blocks, 2, cache, host, words, dirty, threads, "",
                         KIT_LOW};

        hide_after(&call, rounds, 200);
    }
}

/* The caller is done before a helper is awake. */
static void little_work(void)
{
    with_threads(1024, 4, 1, ROUNDS);
}

static void much_work(void)
{
    with_threads(1024, MOST_WORDS, UINT64_MAX, ROUNDS);
}

static void large_pages(void)
{
    with_threads(16384, 3, UINT64_MAX, ROUNDS / 10);
}

static void refused(void)
{
    kit_block block = {0, 128 * 1024, 128 * 1024, 0};
    kit_call call = {"refused", 1024, &block, 1, cache, host, 3, 1, 3, "", KIT_HIGH};

    memset(cache, 0, sizeof cache);
    memset(host, 0, sizeof host);
    cache[0] = 1, host[2] = 1;
    hide_after(&call, ROUNDS / 4, 200);
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"little-work", little_work},
        {"much-work", much_work},
        {"large-pages", large_pages},
        {"refused", refused},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}

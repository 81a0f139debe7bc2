/* SPDX-License-Identifier: MIT
 *
 * One block so far out, or so large, that 32 bits do not reach it: memory is reserved, a few pages of it
 * are touched. These pages are dirty in both bitmaps.
 */
#ifndef COLO_KIT_LARGE_H
#define COLO_KIT_LARGE_H

#include "one_block.h"

enum { LARGE_THREADS = 3 };
#define NO_STRAY UINT64_MAX

KIT_UNUSED static void check_large(uint64_t page_size, uint64_t first_bit, uint64_t pages,
                                   const uint64_t *dirty, size_t n_dirty, uint64_t stray)
{
    uint64_t last_bit = first_bit + pages - 1, count = n_dirty;
    one_block b = new_block(page_size, pages, LARGE_THREADS);
    size_t n_words = (size_t)((stray != NO_STRAY && stray > last_bit ? stray : last_bit) / 64 + 1);
    uint64_t *cache = reserve(8 * n_words), *host = reserve(8 * n_words);
    int want = stray == NO_STRAY ? 0 : -EINVAL, status;
    colo_stats stats = {9, 9, 9, 9};

    b.block.first_bit = first_bit;
    b.block.offset = first_bit * page_size;
    for (size_t i = 0; i < n_dirty; i++) {
        uint64_t bit = first_bit + dirty[i];

        kit_fill(cache_page(&b, dirty[i]), page_size, i + 1);
        cache[bit / 64] |= UINT64_C(1) << bit % 64;
        host[bit / 64] |= UINT64_C(1) << bit % 64;
    }
    if (stray != NO_STRAY) {
        host[stray / 64] |= UINT64_C(1) << stray % 64;
    }
    status = kit_flush(&b.block, 1, page_size, cache, host, n_words, &count, LARGE_THREADS, &stats);
    if (status != want) {
        kit_wrong(want ? "refuses" : "accepts", "returned %d, not %d", status, want);
    }
    if (count != (want ? n_dirty : 0) || stats.copied != (want ? 9 : n_dirty)) {
        kit_wrong("count", "dirty_pages is %llu, copied %llu", (unsigned long long)count,
                  (unsigned long long)stats.copied);
    }
    for (size_t i = 0; i < n_dirty && !want; i++) {
        uint64_t bit = first_bit + dirty[i];

        must_be_copied(&b, dirty[i], "a large number");
        if ((cache[bit / 64] | host[bit / 64]) >> bit % 64 & 1) {
            kit_wrong("clears", "bit %llu is left set", (unsigned long long)bit);
        }
    }
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * A right port of another kind: OpenMP shares the words out, its runtime keeps the threads.
 */
#include "walk.h"

uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats)
{
    int refused = check_call(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                             dirty_pages, threads);
    uint64_t copied = 0, in_host = 0, in_cache = 0, in_both = 0;
    int64_t chunks = (int64_t)(n_words / 64 + 1);

    if (refused) {
        return refused;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads < 8 ? threads : 8) \
    reduction(+ : copied, in_host, in_cache, in_both)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        uint64_t from = (uint64_t)chunk * 64 * 64, to = from + 64 * 64;
        colo_stats done = {0};

        if (to > n_words * 64) {
            to = n_words * 64;
        }
        for (size_t i = 0; i < n_blocks && any_dirty(cache_bitmap, host_bitmap, from, to); i++) {
            uint64_t first = blocks[i].first_bit, used = pages_in_use(&blocks[i], page_size);

            if (used && first < to && first + used > from) {
                walk_window(&blocks[i], page_size, cache_bitmap, host_bitmap,
                            first < from ? from - first : 0, first + used > to ? to - first : used,
                            &done);
            }
        }
        copied += done.copied;
        in_host += done.host_dirty;
        in_cache += done.cache_dirty;
        in_both += done.both_dirty;
    }
    if (stats) {
        *stats = (colo_stats){copied, in_host, in_cache, in_both};
    }
    return settle_count(dirty_pages, in_cache);
}

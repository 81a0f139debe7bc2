/* SPDX-License-Identifier: MIT
 *
 * The flush before the patch: one thread walks both bitmaps together and copies a page at a time.
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
    colo_stats done = {0};
    int refused = check_call(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                             dirty_pages, threads);

    if (refused) {
        return refused;
    }
    for (size_t i = 0; i < n_blocks; i++) {
        walk_window(&blocks[i], page_size, cache_bitmap, host_bitmap, 0,
                    pages_in_use(&blocks[i], page_size), &done);
    }
    if (stats) {
        *stats = done;
    }
    return settle_count(dirty_pages, done.cache_dirty);
}

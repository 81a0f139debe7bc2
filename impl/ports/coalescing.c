/* SPDX-License-Identifier: MIT
 *
 * The flush as QEMU has it today (since 6.2): one thread; first the host bitmap is ORed into the
 * cache bitmap, then each run of dirty pages is copied with one memcpy.
 *
 * The merge sets the cache bit before it clears the host bit, and a run is cleared after it has been
 * copied, so that a flush that dies can be repeated (the dirty count is off by then: recount).
 */
#include "walk.h"

/* Every set bit belongs to some block by now, so whole words can be merged. */
static void merge_host_into_cache(uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
                                  colo_stats *stats)
{
    for (size_t w = 0; w < n_words; w++) {
        uint64_t cache = cache_bitmap[w], host = host_bitmap[w];

        if (!(cache | host)) {
            continue;
        }
        stats->copied += (uint64_t)__builtin_popcountll(cache | host);
        stats->both_dirty += (uint64_t)__builtin_popcountll(cache & host);
        stats->cache_dirty += (uint64_t)__builtin_popcountll(cache);
        stats->host_dirty += (uint64_t)__builtin_popcountll(host);
        if (host) {
            cache_bitmap[w] = cache | host;
            host_bitmap[w] = 0;
        }
    }
}

/* The position of the first bit clear in [from, end), or end. */
static uint64_t find_next_zero_bit(const uint64_t *bitmap, uint64_t end, uint64_t from)
{
    uint64_t word = from / PAGES_PER_WORD;
    uint64_t last = (end - 1) / PAGES_PER_WORD;
    uint64_t zeros = ~bitmap[word] & (~UINT64_C(0) << (from % PAGES_PER_WORD));

    while (!zeros) {
        if (word == last) {
            return end;
        }
        zeros = ~bitmap[++word];
    }

    uint64_t found = word * PAGES_PER_WORD + (uint64_t)__builtin_ctzll(zeros);
    return found < end ? found : end;
}

static void clear_range(uint64_t *bitmap, uint64_t first, uint64_t last)
{
    uint64_t word = first / PAGES_PER_WORD;

    for (; word * PAGES_PER_WORD < last; word++) {
        bitmap[word] &= ~window_mask(word, first, last);
    }
}

static void copy_runs(const colo_block *block, uint64_t page_size, uint64_t *bitmap)
{
    uint64_t base = block->first_bit;
    uint64_t end = base + pages_in_use(block, page_size);
    uint64_t first = find_next_bit(bitmap, end, base);

    while (first < end) {
        uint64_t last = find_next_zero_bit(bitmap, end, first);
        uint64_t at = (first - base) * page_size;

        if (last - first == 1) {
            copy_page(block->host + at, block->cache + at, page_size);
        } else {
            memcpy(block->host + at, block->cache + at, (last - first) * page_size);
        }
        clear_range(bitmap, first, last);
        first = find_next_bit(bitmap, end, last);
    }
}

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
    merge_host_into_cache(cache_bitmap, host_bitmap, n_words, &done);
    for (size_t i = 0; i < n_blocks; i++) {
        copy_runs(&blocks[i], page_size, cache_bitmap);
    }
    if (stats) {
        *stats = done;
    }
    return settle_count(dirty_pages, done.cache_dirty);
}

/* SPDX-License-Identifier: MIT
 *
 * The dual-bitmap walk over one window of one block, a page at a time: what the serial flush does
 * for a whole block and what each thread of the patch does for its share of one.
 *
 * A page's bits are cleared after it has been copied, so that a flush that dies can be repeated.
 */
#ifndef COLO_WALK_H
#define COLO_WALK_H

#include "check.h"

#include <string.h>

/* The position of the first bit set in [from, end), or end. */
static inline uint64_t find_next_bit(const uint64_t *bitmap, uint64_t end, uint64_t from)
{
    if (from >= end) {
        return end;
    }

    uint64_t word = from / PAGES_PER_WORD;
    uint64_t last = (end - 1) / PAGES_PER_WORD;
    uint64_t bits = bitmap[word] & (~UINT64_C(0) << (from % PAGES_PER_WORD));

    while (!bits) {
        if (word == last) {
            return end;
        }
        bits = bitmap[++word];
    }

    uint64_t found = word * PAGES_PER_WORD + (uint64_t)__builtin_ctzll(bits);
    return found < end ? found : end;
}

static inline void clear_bit(uint64_t *bitmap, uint64_t bit)
{
    bitmap[bit / PAGES_PER_WORD] &= ~(UINT64_C(1) << (bit % PAGES_PER_WORD));
}

/* The usual page size as a constant lets the compiler put the copy in line if it is built to. */
static inline void copy_page(uint8_t *host, const uint8_t *cache, uint64_t page_size)
{
    if (page_size == 4096) {
        memcpy(host, cache, 4096);
    } else {
        memcpy(host, cache, page_size);
    }
}

/* Flushes pages [start, limit), counted in the block, and adds to stats. */
static inline void walk_window(const colo_block *block, uint64_t page_size, uint64_t *cache_bitmap,
                               uint64_t *host_bitmap, uint64_t start, uint64_t limit,
                               colo_stats *stats)
{
    uint64_t base = block->first_bit;
    uint64_t end = base + limit;
    uint64_t cache_next = find_next_bit(cache_bitmap, end, base + start);
    uint64_t host_next = find_next_bit(host_bitmap, end, base + start);

    while (cache_next < end || host_next < end) {
        uint64_t bit = cache_next < host_next ? cache_next : host_next;
        uint64_t at = (bit - base) * page_size;

        copy_page(block->host + at, block->cache + at, page_size);
        stats->copied++;
        stats->both_dirty += cache_next == host_next;

        if (cache_next == bit) {
            clear_bit(cache_bitmap, bit);
            stats->cache_dirty++;
            cache_next = find_next_bit(cache_bitmap, end, bit + 1);
        }
        if (host_next == bit) {
            clear_bit(host_bitmap, bit);
            stats->host_dirty++;
            host_next = find_next_bit(host_bitmap, end, bit + 1);
        }
    }
}

#endif

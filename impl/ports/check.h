/* SPDX-License-Identifier: MIT
 *
 * Is this call one that can be flushed? Shared by the C ports; a port of your own may take it as is.
 *
 * It allocates nothing and costs O(blocks^2) plus a read of the bitmap words that no block covers
 * whole. A guest has tens of blocks; for thousands sort them, as check_in_pool.c does.
 */
#ifndef COLO_CHECK_H
#define COLO_CHECK_H

#include "colo_flush.h"

#include <errno.h>
#include <stdbool.h>

enum { PAGES_PER_WORD = 64 };

static inline uint64_t pages_in_use(const colo_block *block, uint64_t page_size)
{
    return block->used_length / page_size;
}

/* Bits 0 .. count - 1, for count from 0 to 64. A shift by 64 is undefined, hence the test. */
static inline uint64_t pages_below(uint64_t count)
{
    return count ? ~UINT64_C(0) >> (PAGES_PER_WORD - count) : 0;
}

/* The bits of one word that stand for pages [first, last). */
static inline uint64_t window_mask(uint64_t word, uint64_t first, uint64_t last)
{
    uint64_t base = word * PAGES_PER_WORD;
    uint64_t start = first < base ? base : first;
    uint64_t stop = last - base < PAGES_PER_WORD ? last : base + PAGES_PER_WORD;

    return last > base && start < stop ? pages_below(stop - base) & ~pages_below(start - base) : 0;
}

static inline bool block_is_sound(const colo_block *block, uint64_t page_size, uint64_t bits)
{
    uint64_t in_page = page_size - 1;
    uint64_t pages = pages_in_use(block, page_size);

    if ((block->offset | block->used_length | block->max_length) & in_page) {
        return false;
    }
    if (block->max_length < block->used_length) {
        return false;
    }
    if (pages == 0) {
        return true;
    }
    /* Subtracted, not added: first_bit + pages may pass 2^64. */
    return block->host && block->cache && block->first_bit < bits &&
           pages <= bits - block->first_bit;
}

static inline bool used_pages_overlap(const colo_block *a, const colo_block *b, uint64_t page_size)
{
    uint64_t a_pages = pages_in_use(a, page_size), b_pages = pages_in_use(b, page_size);

    return a_pages && b_pages && a->first_bit < b->first_bit + b_pages &&
           b->first_bit < a->first_bit + a_pages;
}

/* The block in use with the lowest first_bit at or above `from`, or NULL. */
static inline const colo_block *next_block(const colo_block *blocks, size_t n_blocks,
                                           uint64_t page_size, uint64_t from)
{
    const colo_block *next = NULL;

    for (size_t i = 0; i < n_blocks; i++) {
        if (pages_in_use(&blocks[i], page_size) && blocks[i].first_bit >= from &&
            (!next || blocks[i].first_bit < next->first_bit)) {
            next = &blocks[i];
        }
    }
    return next;
}

/* Is any bit of pages [first, last) set? */
static inline bool any_dirty(const uint64_t *cache, const uint64_t *host, uint64_t first,
                             uint64_t last)
{
    uint64_t word = first / PAGES_PER_WORD;

    for (; first < last; word++, first = word * PAGES_PER_WORD) {
        if ((cache[word] | host[word]) & window_mask(word, first, last)) {
            return true;
        }
    }
    return false;
}

/* Is a bit set that no block's used pages account for? Walks the gaps between blocks, in bit order. */
static inline bool any_stray(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
                             const uint64_t *cache, const uint64_t *host, uint64_t bits)
{
    uint64_t at = 0;

    for (;;) {
        const colo_block *next = next_block(blocks, n_blocks, page_size, at);

        if (any_dirty(cache, host, at, next ? next->first_bit : bits)) {
            return true;
        }
        if (!next) {
            return false;
        }
        at = next->first_bit + pages_in_use(next, page_size);
    }
}

/* Are the arguments sound, the blocks and the bits left aside? */
static inline bool arguments_are_sound(const colo_block *blocks, size_t n_blocks,
                                       uint64_t page_size, const uint64_t *cache,
                                       const uint64_t *host, size_t n_words,
                                       const uint64_t *dirty_pages, uint32_t threads)
{
    return threads && dirty_pages && page_size && !(page_size & (page_size - 1)) &&
           (!n_blocks || blocks) && (!n_words || (cache && host)) &&
           n_words <= UINT64_MAX / PAGES_PER_WORD;
}

/* 0, or -EINVAL for a call that colo_flush must refuse. Changes nothing. */
static inline int check_call(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
                             const uint64_t *cache, const uint64_t *host, size_t n_words,
                             const uint64_t *dirty_pages, uint32_t threads)
{
    uint64_t bits = (uint64_t)n_words * PAGES_PER_WORD;

    if (!arguments_are_sound(blocks, n_blocks, page_size, cache, host, n_words, dirty_pages,
                             threads)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n_blocks; i++) {
        if (!block_is_sound(&blocks[i], page_size, bits)) {
            return -EINVAL;
        }
        for (size_t j = 0; j < i; j++) {
            if (used_pages_overlap(&blocks[i], &blocks[j], page_size)) {
                return -EINVAL;
            }
        }
    }
    return any_stray(blocks, n_blocks, page_size, cache, host, bits) ? -EINVAL : 0;
}

/* Takes the cache bits cleared off the dirty count: what colo_flush returns. */
static inline int settle_count(uint64_t *dirty_pages, uint64_t cache_bits_cleared)
{
    *dirty_pages -= cache_bits_cleared;
    return *dirty_pages ? -ERANGE : 0;
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * Is this call one that can be flushed? Shared by the C ports; a port of your own may take it as is.
 *
 * It costs n log n in the blocks, or n if they are listed by first bit, plus a read of the bitmap words
 * that no block covers whole. Where it gets no memory to sort them in, it takes longer: n^2.
 */
#ifndef COLO_CHECK_H
#define COLO_CHECK_H

#include "colo_flush.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

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

/* ---- the blocks in use, by first bit ---- */

/* by_bit is NULL if there was no memory for it. */
typedef struct {
    const colo_block *blocks;
    size_t n_blocks;
    uint64_t page_size;
    const colo_block **by_bit;
    size_t n_used;
} block_order;

static inline bool comes_before(const colo_block *a, const colo_block *b)
{
    return a->first_bit < b->first_bit || (a->first_bit == b->first_bit && a < b);
}

static inline int compare_blocks(const void *one, const void *other)
{
    const colo_block *a = *(const colo_block *const *)one, *b = *(const colo_block *const *)other;

    return comes_before(b, a) - comes_before(a, b);
}

static inline block_order order_blocks(const colo_block *blocks, size_t n_blocks, uint64_t page_size)
{
    block_order order = {blocks, n_blocks, page_size, NULL, 0};
    bool sorted = true;

    order.by_bit = n_blocks <= SIZE_MAX / sizeof *order.by_bit
                       ? malloc(n_blocks * sizeof *order.by_bit)
                       : NULL;
    for (size_t i = 0; i < n_blocks && order.by_bit; i++) {
        if (pages_in_use(&blocks[i], page_size)) {
            sorted = sorted && (!order.n_used ||
                                comes_before(order.by_bit[order.n_used - 1], &blocks[i]));
            order.by_bit[order.n_used++] = &blocks[i];
        }
    }
    if (!sorted) {
        qsort(order.by_bit, order.n_used, sizeof *order.by_bit, compare_blocks);
    }
    return order;
}

/* Without memory: of all blocks in use the first that comes after `last`. */
static inline const colo_block *search_next(const block_order *order, const colo_block *last)
{
    const colo_block *next = NULL;

    for (size_t i = 0; i < order->n_blocks; i++) {
        const colo_block *one = &order->blocks[i];

        if (pages_in_use(one, order->page_size) && (!last || comes_before(last, one)) &&
            (!next || comes_before(one, next))) {
            next = one;
        }
    }
    return next;
}

/* Number i of the blocks in use, which follows `last`; NULL at the end. */
static inline const colo_block *next_block(const block_order *order, size_t i, const colo_block *last)
{
    if (!order->by_bit) {
        return search_next(order, last);
    }
    return i < order->n_used ? order->by_bit[i] : NULL;
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

/* Do two blocks share a bit, or is one set that none accounts for? One walk, in bit order. */
static inline bool overlap_or_stray(const block_order *order, const uint64_t *cache,
                                    const uint64_t *host, uint64_t bits)
{
    const colo_block *last = NULL;
    uint64_t at = 0;

    for (size_t i = 0;; i++) {
        const colo_block *next = next_block(order, i, last);

        if (next && next->first_bit < at) {
            return true;
        }
        if (any_dirty(cache, host, at, next ? next->first_bit : bits)) {
            return true;
        }
        if (!next) {
            return false;
        }
        at = next->first_bit + pages_in_use(next, order->page_size);
        last = next;
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
    }

    block_order order = order_blocks(blocks, n_blocks, page_size);
    bool refused = overlap_or_stray(&order, cache, host, bits);

    free(order.by_bit);
    return refused ? -EINVAL : 0;
}

/* Takes the cache bits cleared off the dirty count: what colo_flush returns. */
static inline int settle_count(uint64_t *dirty_pages, uint64_t cache_bits_cleared)
{
    *dirty_pages -= cache_bits_cleared;
    return *dirty_pages ? -ERANGE : 0;
}

#endif

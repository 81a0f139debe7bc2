/* SPDX-License-Identifier: MIT
 *
 * The C ABI of a COLO flush, version 1: what a port exports and what the conformance suite drives
 * (python -m tests.conformance --library PORT.so).
 *
 * A page is dirty if its bit is set in either bitmap. A flush copies every dirty page from the cache
 * to the host, clears both bits of each, and takes the cache bits it cleared off the dirty count.
 * Bit b of word w is bit 64 * w + b; page p of a block is bit first_bit + p, in both bitmaps.
 */
#ifndef COLO_FLUSH_H
#define COLO_FLUSH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COLO_ABI_VERSION 1

/* One RAM block. Any order, holes between blocks, two blocks in one word, used_length 0: all legal.
 * host and cache may lie at any address, aligned or not. */
typedef struct {
    uint64_t offset;        /* bytes: where the block starts in the ram_addr_t space; informative */
    uint64_t used_length;   /* bytes, page aligned: the part in use */
    uint64_t max_length;    /* bytes, page aligned, >= used_length */
    uint64_t first_bit;     /* bit of the block's page 0 in both bitmaps */
    uint8_t *host;          /* used_length bytes: what the guest ran on, written */
    const uint8_t *cache;   /* used_length bytes: what the primary has, only read */
} colo_block;

/* All in pages. Overwritten, not added to. */
typedef struct {
    uint64_t copied;        /* dirty in either bitmap */
    uint64_t host_dirty;
    uint64_t cache_dirty;
    uint64_t both_dirty;
} colo_stats;

uint32_t colo_abi_version(void);

/* A page's bits are cleared only after it has been copied. So at every instant each page that still
 * differs is marked, and a flush that dies anywhere is finished by another (count the cache bits anew).
 *
 * Returns
 *   0        everything was flushed and *dirty_pages is 0;
 *   -EINVAL  nothing was changed, no byte, bit, count or stat: threads is 0; page_size is not a
 *            power of two; an offset or length is not page aligned; max_length < used_length; used
 *            pages of two blocks overlap in the bitmaps or reach past n_words * 64; a pointer is
 *            NULL where its length is not 0; dirty_pages is NULL; a bit is set outside every
 *            block's used pages;
 *   -ERANGE  everything was flushed, but *dirty_pages less the cache bits cleared is not 0. It then
 *            holds the rest, modulo 2^64.
 *
 * stats may be NULL; it is written on 0 and -ERANGE. threads may exceed the words of the bitmaps.
 * Consecutive calls may differ in everything, page size included. When the call returns, nobody
 * touches any of its memory any more. */
int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats);

/* Optional: the pages [*lower, *upper) that one of `threads` threads flushes. The ranges of all
 * threads cover [0, pages), no two share a 64-page word, lower <= upper. -EINVAL if thread is not
 * below threads or a pointer is NULL. */
int colo_plan(uint64_t pages, uint32_t threads, uint32_t thread,
              uint64_t *lower, uint64_t *upper);

#ifdef __cplusplus
}
#endif

#endif

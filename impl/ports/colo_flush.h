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
 * host and cache may lie at any address, aligned or not. Of a block with used_length 0 only offset and
 * max_length are looked at: it is nowhere, whatever first_bit, host and cache are. */
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

/* A page stays marked, in one bitmap at least, until it has been copied. So at every instant each page
 * that still differs is marked, and a flush that dies anywhere is finished by another (count the cache
 * bits anew). Which bitmap is cleared first is the port's business; a host bit may become a cache bit
 * meanwhile. No bit of a page that is clean in both is set, not even for a moment, and no byte of such a
 * page is written, not even to the value that it has.
 *
 * Returns
 *   0        everything was flushed and *dirty_pages is 0;
 *   -EINVAL  nothing was changed, no byte, bit, count or stat: threads is 0; page_size is not a
 *            power of two; an offset or length is not page aligned; max_length < used_length; used
 *            pages of two blocks overlap in the bitmaps or reach past n_words * 64; a pointer is
 *            NULL where its length is not 0; dirty_pages is NULL; a bit is set outside every
 *            block's used pages;
 *   -ERANGE  everything was flushed, but *dirty_pages less the cache bits cleared is not 0. It then
 *            holds the rest, modulo 2^64;
 *   -ENOMEM  the port needs memory of its own and got none: nothing was changed.
 *
 * stats may be NULL; it is written on 0 and -ERANGE.
 *
 * Limits. page_size: from 1 KiB to 2 MiB every power of two is flushed; another power of two is flushed
 * or refused, whole. n_blocks, n_words and threads: whatever their types hold; threads may exceed the
 * words of the bitmaps. Time grows less than with the square of n_blocks.
 *
 * Threads. A call may be made from any thread, one at a time in a process. Consecutive calls may differ
 * in everything, page size included. A port that cannot start as many threads as it wants flushes with
 * those that it has, the caller alone at the least. It never hangs and never returns half done; where its
 * language ends the process for want of memory or threads, by abort() or exit(), that is right too. When
 * the call returns, nobody touches any of its memory any more, and the caller's signal mask, CPUs,
 * priority and floating-point controls are as they were, like the process's signal handlers. Signals
 * that arrive meanwhile change no result. Of the caller's stack 128 KiB are enough. Between calls the
 * port's threads sleep, after a brief look for more work at most; a calling thread that ends leaves none
 * behind; and they hold up no exit() of the process.
 *
 * Memory. No two arguments overlap, nor the memory of two blocks, except that caches, which are only
 * read, may share pages. host may be written by whatever means, plain stores or the kernel's.
 *
 * Not promised: calls in the child of a fork(), which has none of the port's threads; dlclose() after
 * the first call. A port may say more. */
int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats);

/* Optional: the pages [*lower, *upper) that one of `threads` threads flushes. The ranges of all
 * threads cover [0, pages), no two share a 64-page word, lower <= upper, for every number of pages that
 * 64 bits hold. -EINVAL if thread is not below threads or a pointer is NULL. */
int colo_plan(uint64_t pages, uint32_t threads, uint32_t thread,
              uint64_t *lower, uint64_t *upper);

#ifdef __cplusplus
}
#endif

#endif

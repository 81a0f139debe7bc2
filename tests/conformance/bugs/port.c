/* SPDX-License-Identifier: MIT
 *
 * A port with bugs in it, one at a time: built with -DBUG=name it has that bug and no other, built
 * without it is right. What the conformance suite is measured by: it must fail every one of them.
 *
 * Each is what a person porting a flush gets wrong, in the place where it is made. The list is read by
 * python -m tests.conformance.bugs; "race:" marks those that need threads to collide, and before each
 * group stand the checks that are about it: one of those must fail.
 */
#define _GNU_SOURCE
#include "bug.h"
#include "colo_flush.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum bug {
    bug_none,
    /* [vector/copying vector/blocks] one word of a bitmap */
    bug_bit_shift_int,          /* bits are cleared with an int's shift, 1 << bit */
    bug_ctz_int,                /* the lowest set bit is looked for in 32 bits of the word */
    bug_popcount_int,           /* the set bits are counted in 32 bits of the word */
    bug_signed_word,            /* the word is signed, and the loop runs while it is above 0 */
    bug_mask_shift_64,          /* the mask of a full word is (1 << 64) - 1 */
    bug_mask_short,             /* the mask misses the last page of a block */
    bug_mask_long,              /* the mask takes in the page after a block */
    bug_mask_no_start,          /* a block's first word is not masked */
    bug_mask_no_end,            /* a block's last word is not masked */
    bug_last_word_lost,         /* the number of words is rounded down */
    bug_one_word_too_many,      /* the word after a block that ends on a word is read */
    bug_and_for_or,             /* a page is copied if it is dirty in both bitmaps */
    bug_cache_bits_only,        /* a word whose cache bits are clear is skipped */
    bug_host_bits_kept,         /* host bits are cleared only where the cache bit was set */
    bug_cache_bits_kept,        /* cache bits are cleared only where the host bit was set */
    bug_clears_whole_word,      /* the whole word is cleared, the next block's bits with it */
    bug_clear_xor,              /* bits are flipped instead of cleared: host-only ones get set */
    bug_skip_by_four,           /* clean words are skipped by four, and the tail with them */
    bug_stops_at_clean,         /* the scan ends at the first clean word */
    /* [repeat] what a flush that dies leaves */
    bug_clears_first,           /* a word's bits are cleared before its pages are copied */
    bug_clears_early,           /* a page's bits are cleared before it is copied (the patch) */
    bug_host_clears_first,      /* host bits are cleared before the copy, cache bits after it */
    /* [vector/copying vector/blocks large] one page */
    bug_copies_backwards,       /* host and cache are swapped in the copy */
    bug_copies_4096,            /* the page size is taken to be 4096 in the copy */
    bug_copy_one_short,         /* the last byte of a page is not copied */
    bug_copy_one_over,          /* a byte too many is copied */
    bug_copy_aligned,           /* memory is copied by aligned 16-byte vectors */
    bug_copy_global,            /* a page is found by its bit, not by its number in the block */
    bug_byte_offset_32,         /* the byte offset of a page is a uint32_t */
    bug_byte_offset_int,        /* the byte offset of a page is an int */
    bug_bit_number_int,         /* the bit of a page is an int (the patch: int nr) */
    bug_pages_int,              /* a block's pages are counted in an int */
    bug_pages_32,               /* a block's pages are counted in a uint32_t */
    bug_bit_number_32,          /* the bit of a page is a uint32_t */
    bug_first_bit_32,           /* a block's first bit is a uint32_t */
    bug_run_into_next_block,    /* a run of dirty pages is copied past the end of its block */
    /* [large] */
    bug_stray_bits_32,          /* stray bits are searched for with a uint32_t */
    /* [vector/blocks] blocks */
    bug_offset_for_bit,         /* a block's bits are found by its offset */
    bug_blocks_sorted,          /* the search ends at the first block above the share */
    bug_sixty_four_blocks,      /* there is room for 64 blocks */
    bug_first_word_of_block,    /* a block is taken to start on a word of its own */
    bug_empty_ends_list,        /* a block with used_length 0 ends the list */
    /* [vector/copying vector/shares vector/blocks plan] shares */
    bug_rest_lost,              /* nobody takes the pages that rounding left over */
    bug_no_chunk_no_work,       /* fewer words than threads: nobody works */
    bug_chunk_divides,          /* the owner of a page is page / chunk, and chunk is 0 */
    bug_share_rounded_up,       /* shares are rounded up, and the last one is before its start */
    bug_share_32,               /* shares are computed in 32 bits */
    bug_share_product,          /* a share begins at pages * thread / threads, cut at a word */
    bug_plan_null,              /* colo_plan writes through NULL */
    bug_plan_rounds_up,         /* colo_plan rounds pages up to words, and passes 2^64 */
    bug_thread_not_checked,     /* colo_plan takes any thread */
    bug_stack_of_threads,       /* an array of as many stats as threads, on the stack */
    bug_pages_of_last_listed,   /* the pages to share out end with the block listed last */
    /* [scale] large numbers */
    bug_shares_of_all_threads,  /* a share for each thread, and 64 threads to do them */
    bug_shares_of_32_bits,      /* the pages below a share are computed in 32 bits, in the flush alone */
    bug_blocks_squared,         /* blocks are compared each with each, however many there are */
    /* [vector/counts vector/copying] the count and the stats */
    bug_count_union,            /* the dirty count falls by the pages copied */
    bug_count_host_too,         /* the dirty count falls by the bits of both bitmaps */
    bug_count_forced,           /* the dirty count is set to 0, and 0 returned */
    bug_count_clamped,          /* the dirty count stops at 0 */
    bug_count_32,               /* the dirty count is compared as 32 bits */
    bug_count_signed,           /* a count below 0 is taken for 0 */
    bug_count_checked_first,    /* a wrong count is reported before anything is flushed */
    bug_count_not_written,      /* the dirty count is not written when it is wrong */
    bug_stats_added,            /* stats are added to what was there */
    bug_stats_null,             /* stats are written through NULL */
    bug_stats_not_on_erange,    /* stats are not written when the count was wrong */
    /* [vector/refusals] */
    bug_stats_on_refusal,       /* stats are set to 0 before the call is checked */
    /* [vector/counts vector/copying] */
    bug_both_copied_twice,      /* a page dirty in both bitmaps counts as two copied */
    bug_host_excludes_both,     /* host_dirty leaves out the pages dirty in both */
    /* [vector/refusals] refusals */
    bug_threads_0,              /* threads 0 is taken for 1 */
    bug_page_size_any,          /* the page size need not be a power of two */
    bug_page_size_0,            /* 0 passes for a power of two */
    bug_offset_unaligned,       /* the offset's alignment is not checked */
    bug_max_unaligned,          /* max_length's alignment is not checked */
    bug_used_rounded,           /* a used_length that is not page aligned is rounded down */
    bug_max_unchecked,          /* max_length may be below used_length */
    bug_overlap_unchecked,      /* blocks may overlap */
    bug_overlap_of_neighbours,  /* only neighbours in the list are checked for overlap */
    bug_overlap_with_first,     /* only overlaps with the first block in the list are seen */
    bug_overlap_start_only,     /* a block that lies around another is not seen to overlap */
    bug_reach_wraps,            /* first_bit + pages passes 2^64 unseen */
    bug_reach_from_start,       /* a block must be no longer than the bitmaps, wherever it begins */
    bug_reach_one_more,         /* a block may end one bit past the bitmaps */
    bug_stray_unchecked,        /* stray bits are left alone */
    bug_stray_by_word,          /* only words without any block are searched for stray bits */
    bug_stray_at_end_only,      /* only bits after the last block are searched */
    bug_stray_cache_only,       /* the host bitmap is not searched for stray bits */
    bug_stray_within_max,       /* a bit beyond used_length but below max_length is no stray */
    bug_stray_last_word,        /* the last word is not searched for stray bits */
    bug_stray_dropped,          /* stray bits are cleared, and the call goes on */
    bug_stray_seen_late,        /* stray bits are found after the flush */
    bug_null_dirty_pages,       /* dirty_pages is not checked for NULL */
    bug_null_bitmap,            /* the bitmaps are not checked for NULL */
    bug_null_memory,            /* host and cache are not checked for NULL */
    bug_positive_errno,         /* EINVAL is returned, not -EINVAL */
    /* [vector/edges vector/blocks] calls that are right, and refused */
    bug_overlap_touching,       /* blocks that touch are taken to overlap */
    bug_overlap_by_offset,      /* overlap is judged by byte offsets */
    bug_overlap_of_empty,       /* a block with used_length 0 overlaps what is around it */
    bug_reach_by_max,           /* max_length must lie inside the bitmaps */
    bug_reach_of_empty,         /* first_bit must lie inside the bitmaps, pages or not */
    bug_null_of_empty,          /* host may not be NULL, pages or not */
    bug_null_no_words,          /* the bitmaps may not be NULL, words or not */
    /* [vector/sequences] what is left over from the call before */
    bug_bounds_at_start,        /* a thread works out its share when it starts (the patch) */
    bug_threads_of_first_call,  /* a share a thread, and as many threads as in the first call */
    bug_page_size_of_first,     /* the page size is looked at in the first call only */
    bug_blocks_of_first,        /* the block list is copied in the first call only */
    bug_memory_of_first,        /* host and cache are looked at anew only where bits or lengths differ */
    bug_refusal_sticks,         /* after a refusal every call is refused */
    bug_worker_stats_kept,      /* a worker's stats are never set to 0 */
    /* [many-calls/piles-up] what piles up */
    bug_leaks_memory,           /* the copy of the block list is never freed */
    bug_leaks_threads,          /* each flush starts helpers anew and leaves them asleep */
    /* [vector/copying vector/sequences vector/shares stress] threads */
    bug_hands_out_one_less,     /* the last share is not handed out */
    bug_cursor_not_reset,       /* the cursor of the shares is not set back */
    bug_complete_not_reset,     /* the completion of the call before is taken for this one's */
    /* [vector/blocks stress more-stress] words that two threads write */
    bug_share_not_cut,          /* race: shares are not cut at words */
    bug_share_cut_in_block,     /* race: shares are cut at words of the block, not of the bitmap */
    bug_block_per_thread,       /* race: each block is one thread's, border words are two threads' */
    bug_share_one_over,         /* race: a share takes in the first word of the next */
    bug_claim_not_atomic,       /* race: the next share is taken by load and store */
    bug_stats_shared,           /* race: all threads add to the same stats, not atomically */
    bug_count_shared,           /* race: all threads lower the dirty count, not atomically */
    /* [vector stress more-stress afterwards delays] how threads wait */
    bug_no_wait,                /* race: the caller waits for nobody */
    bug_waits_for_first,        /* race: the caller waits for the first helper only */
    bug_spurious_wake,          /* race: an event's wait does not look again when it wakes */
    bug_completes_early,        /* race: a helper reports before its last share is done */
    bug_job_after_trigger,      /* race: the job is published after the helpers are woken */
    bug_trigger_reset_late,     /* race: a trigger is reset after the work, and the next one lost */
    bug_reads_job_late,         /* race: a helper looks at the dirty count when it has reported */
    /* [scale/waits-long] */
    bug_waits_100_ms,           /* the caller waits for 100 ms at most */
};

enum { WORD = 64, MOST_THREADS = 64, MANY_BLOCKS = 512 };

typedef struct {
    const colo_block *blocks;
    size_t n_blocks;
    uint64_t page_size;
    uint64_t *cache, *host;
    uint64_t pages;
    uint64_t *dirty_pages;
    uint32_t shares;
} job;

static uint64_t used_pages(const colo_block *block, uint64_t page_size)
{
    uint64_t pages = block->used_length / page_size;

    return HAS(pages_int) ? (uint64_t)(int)pages : HAS(pages_32) ? (uint32_t)pages : pages;
}

/* ---- one word ---- */

static uint64_t pages_below(uint64_t count)
{
    if (HAS(mask_shift_64)) {
        return (UINT64_C(1) << (count & 63)) - 1;
    }
    return count ? ~UINT64_C(0) >> (WORD - count) : 0;
}

/* The bits of word w that are pages [first, last). */
static uint64_t window_mask(uint64_t w, uint64_t first, uint64_t last)
{
    uint64_t base = w * WORD;
    uint64_t start = first > base ? first - base : 0;
    uint64_t stop = last > base ? last - base : 0;

    if (start >= WORD || stop == 0) {
        return 0;
    }
    return pages_below(stop < WORD ? stop : WORD) & ~pages_below(start);
}

static uint64_t block_mask(uint64_t w, uint64_t first, uint64_t last)
{
    if (HAS(mask_short) && last % WORD) {
        last--;
    }
    if (HAS(mask_long) && last % WORD) {
        last++;
    }
    if (HAS(mask_no_start)) {
        first = first / WORD * WORD;
    }
    if (HAS(mask_no_end)) {
        last = (last + WORD - 1) / WORD * WORD;
    }
    return window_mask(w, first, last);
}

static int popcount(uint64_t bits)
{
    return HAS(popcount_int) ? __builtin_popcount((unsigned)bits) : __builtin_popcountll(bits);
}

static bool any_left(uint64_t bits)
{
    if (HAS(ctz_int)) {
        return (uint32_t)bits != 0;
    }
    return HAS(signed_word) ? (int64_t)bits > 0 : bits != 0;
}

/* ---- one page ---- */

typedef uint64_t vector __attribute__((vector_size(16), may_alias));

static void copy(uint8_t *host, const uint8_t *cache, uint64_t size)
{
    if (HAS(copies_backwards)) {
        memcpy((uint8_t *)cache, host, size);
    } else if (HAS(copy_aligned)) {
        for (uint64_t i = 0; i < size / sizeof(vector); i++) {
            ((volatile vector *)host)[i] = ((const volatile vector *)cache)[i];
        }
    } else {
        memcpy(host, cache,
               HAS(copies_4096) ? 4096 : size - HAS(copy_one_short) + HAS(copy_one_over));
    }
}

static void copy_page(const job *j, const colo_block *block, uint64_t first_bit, uint64_t bit)
{
    uint64_t at = (bit - (HAS(copy_global) ? 0 : first_bit)) * j->page_size;

    if (HAS(byte_offset_32)) {
        at = (uint32_t)at;
    } else if (HAS(byte_offset_int)) {
        at = (uint64_t)(int)at;
    }
    copy(block->host + at, block->cache + at, j->page_size);
}

static void copy_word(const job *j, const colo_block *block, uint64_t first_bit, uint64_t w,
                      uint64_t dirty)
{
    while (any_left(dirty)) {
        uint64_t bit = w * WORD + (uint64_t)(HAS(ctz_int) ? __builtin_ctz((unsigned)dirty)
                                                          : __builtin_ctzll(dirty));
        if (HAS(bit_number_int)) {
            bit = (uint64_t)(int)bit;
        } else if (HAS(bit_number_32)) {
            bit = (uint32_t)bit;
        }
        if (HAS(clears_early)) {
            j->cache[w] &= ~(dirty & -dirty);
            j->host[w] &= ~(dirty & -dirty);
        }
        copy_page(j, block, first_bit, bit);
        if (HAS(run_into_next_block) && dirty >> 63 && used_pages(block, j->page_size) % WORD) {
            copy_page(j, block, first_bit, bit + 1);
        }
        dirty &= dirty - 1;
    }
}

/* ---- one block's words in a share ---- */

static void clear(uint64_t *word, uint64_t mask)
{
    if (HAS(clears_whole_word)) {
        *word = 0;
    } else if (HAS(clear_xor)) {
        *word ^= mask;
    } else if (HAS(bit_shift_int)) {
        for (; mask; mask &= mask - 1) {
            *word &= ~(uint64_t)(int64_t)(int)(1u << (__builtin_ctzll(mask) & 31));
        }
    } else {
        *word &= ~mask;
    }
}

static void flush_word(const job *j, const colo_block *block, uint64_t first_bit, uint64_t w,
                       uint64_t mask, colo_stats *stats)
{
    uint64_t cache = j->cache[w] & mask, host = j->host[w] & mask;
    uint64_t dirty = HAS(and_for_or) ? cache & host : cache | host;

    if (!dirty || (HAS(cache_bits_only) && !cache)) {
        return;
    }
    if (HAS(clears_first)) {
        clear(&j->cache[w], dirty);
    }
    if (HAS(clears_first) || HAS(host_clears_first)) {
        clear(&j->host[w], dirty);
    }
    copy_word(j, block, first_bit, w, dirty);

    stats->copied += (uint64_t)popcount(dirty);
    stats->host_dirty += (uint64_t)popcount(HAS(host_excludes_both) ? host & ~cache : host);
    stats->cache_dirty += (uint64_t)popcount(cache);
    stats->both_dirty += (uint64_t)popcount(cache & host);
    if (HAS(both_copied_twice)) {
        stats->copied += (uint64_t)popcount(cache & host);
    }
    if (HAS(count_shared)) {
        for (uint64_t left = cache; left; left &= left - 1) {
            *(volatile uint64_t *)j->dirty_pages -= 1;
        }
    }
    clear(&j->cache[w], HAS(cache_bits_kept) ? host : dirty);
    clear(&j->host[w], HAS(host_bits_kept) ? cache : dirty);
}

static void flush_window(const job *j, const colo_block *block, uint64_t first_bit, uint64_t first,
                         uint64_t last, colo_stats *stats)
{
    uint64_t end = (last + WORD - 1) / WORD;

    if (HAS(last_word_lost)) {
        end = last / WORD;
    }
    if (HAS(one_word_too_many)) {
        end = last / WORD + 1;
    }
    for (uint64_t w = first / WORD; w < end; w++) {
        uint64_t mask = block_mask(w, first, last);

        if (HAS(one_word_too_many) && w * WORD >= last) {
            mask = *(volatile uint64_t *)&j->cache[w] & 0;
        }
        if (HAS(stops_at_clean) && !((j->cache[w] | j->host[w]) & mask)) {
            return;
        }
        if (HAS(skip_by_four) && w % 4 == 0 && !(j->cache[w] | j->host[w])) {
            w += 3;
            continue;
        }
        flush_word(j, block, first_bit, w, mask, stats);
    }
}

/* ---- shares ---- */

static void share(uint64_t pages, uint32_t threads, uint32_t thread, uint64_t *lower,
                  uint64_t *upper)
{
    uint64_t chunk = pages / threads & ~UINT64_C(63);

    if (HAS(share_rounded_up)) {
        chunk = (pages / threads + 63) & ~UINT64_C(63);
    }
    *lower = HAS(share_32) ? (uint32_t)(thread * chunk) : thread * chunk;
    *upper = thread == threads - 1 ? pages : (thread + UINT64_C(1)) * chunk;
    if (HAS(share_product)) {
        *lower = pages * thread / threads & ~UINT64_C(63);
        *upper = thread == threads - 1 ? pages : pages * (thread + 1) / threads & ~UINT64_C(63);
    }
    if (HAS(rest_lost)) {
        *upper = (thread + UINT64_C(1)) * chunk;
    }
    if (HAS(no_chunk_no_work) && !chunk) {
        *upper = *lower;
    }
    if (HAS(chunk_divides) && thread < threads - 1 && pages / chunk < thread) {
        *upper = *lower;
    }
}

static void flush_share(const job *j, uint64_t lower, uint64_t upper, colo_stats *stats)
{
    for (size_t i = 0; i < j->n_blocks; i++) {
        const colo_block *block = &j->blocks[i];
        uint64_t first_bit = HAS(offset_for_bit) ? block->offset / j->page_size : block->first_bit;
        uint64_t pages = used_pages(block, j->page_size);

        if (HAS(first_bit_32)) {
            first_bit = (uint32_t)first_bit;
        }
        if (HAS(first_word_of_block)) {
            first_bit = first_bit / WORD * WORD;
        }
        if ((HAS(blocks_sorted) && first_bit >= upper) || (HAS(empty_ends_list) && !pages)) {
            return;
        }
        uint64_t first = first_bit > lower ? first_bit : lower;
        uint64_t last = first_bit + pages < upper ? first_bit + pages : upper;

        if (HAS(share_cut_in_block) && lower > first_bit && lower < first_bit + pages) {
            first = first_bit + (lower - first_bit) / WORD * WORD;
        }
        if (HAS(share_cut_in_block) && upper > first_bit && upper < first_bit + pages) {
            last = first_bit + (upper - first_bit) / WORD * WORD;
        }
        if (first < last) {
            flush_window(j, block, first_bit, first, last, stats);
        }
    }
}

static void flush_nth(const job *j, uint32_t nth, colo_stats *stats)
{
    if (HAS(block_per_thread)) {
        job one = *j;

        one.blocks = &j->blocks[nth];
        one.n_blocks = 1;
        flush_share(&one, 0, j->pages, stats);
        return;
    }

    uint64_t lower, upper;

    share(j->pages, j->shares, nth, &lower, &upper);
    if (HAS(shares_of_32_bits)) {
        upper = (uint32_t)(upper * 4096) / 4096;
    }
    if (HAS(share_not_cut)) {
        lower = j->pages / j->shares * nth;
        upper = nth == j->shares - 1 ? j->pages : j->pages / j->shares * (nth + 1);
    }
    if (HAS(share_one_over) && upper + WORD < j->pages) {
        upper += WORD;
    }
    flush_share(j, lower, upper, stats);
}

/* ---- threads: a pair of events each, shares taken off a cursor ---- */

typedef struct {
    _Alignas(64) atomic_int is_set;
} event;

static void event_set(event *e)
{
    atomic_store(&e->is_set, 1);
    syscall(SYS_futex, &e->is_set, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void event_wait_a_while(event *e)
{
    struct timespec while_ = {0, 100000000};

    if (!atomic_load(&e->is_set)) {
        syscall(SYS_futex, &e->is_set, FUTEX_WAIT_PRIVATE, 0, &while_, NULL, 0);
    }
}

static void event_wait(event *e)
{
    while (!atomic_load(&e->is_set)) {
        syscall(SYS_futex, &e->is_set, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        if (HAS(spurious_wake)) {
            return;
        }
    }
}

typedef struct {
    event trigger, complete;
    uint64_t lower, upper;
    colo_stats stats;
} worker;

static worker workers[MOST_THREADS];
static uint32_t running;
static job now;
static _Alignas(64) atomic_uint cursor;
static colo_stats shared_stats;

static void work(worker *self)
{
    colo_stats *stats = HAS(stats_shared) ? &shared_stats : &self->stats;

    if (!HAS(worker_stats_kept)) {
        self->stats = (colo_stats){0};
    }
    if (HAS(bounds_at_start)) {
        flush_share(&now, self->lower, self->upper, stats);
        return;
    }
    for (;;) {
        uint32_t nth;

        if (HAS(waits_100_ms)) {
            nth = (uint32_t)(self - workers);
        } else if (HAS(claim_not_atomic)) {
            nth = atomic_load(&cursor);
            atomic_store(&cursor, nth + 1);
        } else {
            nth = atomic_fetch_add(&cursor, 1);
        }
        if (nth >= now.shares - HAS(hands_out_one_less)) {
            return;
        }
        if (HAS(completes_early) && nth == now.shares - 1 && self != &workers[0]) {
            event_set(&self->complete);
        }
        flush_nth(&now, nth, stats);
        if (HAS(threads_of_first_call) || HAS(waits_100_ms) || (HAS(shares_of_all_threads) && now.shares > MOST_THREADS)) {
            return;
        }
    }
}

static void *helper_main(void *opaque)
{
    worker *self = opaque;

    for (;;) {
        event_wait(&self->trigger);
        if (!HAS(trigger_reset_late)) {
            atomic_store(&self->trigger.is_set, 0);
        }
        work(self);
        event_set(&self->complete);
        if (HAS(trigger_reset_late)) {
            atomic_store(&self->trigger.is_set, 0);
        }
        if (HAS(reads_job_late)) {
            __asm__ volatile("" : : "r"(*(volatile uint64_t *)now.dirty_pages) : "memory");
        }
    }
    return NULL;
}

static uint32_t start_helpers(const job *j, uint32_t wanted)
{
    for (; running < wanted; running++) {
        pthread_t thread;

        share(j->pages, wanted, running, &workers[running].lower, &workers[running].upper);
        if (running > 0 && pthread_create(&thread, NULL, helper_main, &workers[running])) {
            break;
        }
    }
    return running < wanted ? running : wanted;
}

static void add(colo_stats *sum, const colo_stats *part)
{
    sum->copied += part->copied;
    sum->host_dirty += part->host_dirty;
    sum->cache_dirty += part->cache_dirty;
    sum->both_dirty += part->both_dirty;
}

static colo_stats run(const job *j, uint32_t wanted)
{
    static uint32_t wanted_first;
    colo_stats sum = {0};

    if (HAS(threads_of_first_call)) {
        wanted_first = wanted_first ? wanted_first : wanted;
        wanted = wanted_first;
    }
    if (HAS(bounds_at_start) && running) {
        wanted = running;
    }

    uint32_t ready = start_helpers(j, wanted);

    if (HAS(leaks_threads)) {
        running = 0;
    }
    shared_stats = (colo_stats){0};
    if (!HAS(job_after_trigger)) {
        now = *j;
    }
    if (!HAS(cursor_not_reset) || ready < 2) {
        atomic_store(&cursor, 0);
    }
    for (uint32_t i = 1; i < ready; i++) {
        if (!HAS(complete_not_reset)) {
            atomic_store(&workers[i].complete.is_set, 0);
        }
        event_set(&workers[i].trigger);
    }
    if (HAS(job_after_trigger)) {
        now = *j;
    }
    work(&workers[0]);
    for (uint32_t i = 0; i < ready; i++) {
        if (i > 0 && !HAS(no_wait) && !(HAS(waits_for_first) && i > 1)) {
            HAS(waits_100_ms) ? event_wait_a_while(&workers[i].complete) : event_wait(&workers[i].complete);
        }
        add(&sum, &workers[i].stats);
    }
    return HAS(stats_shared) ? shared_stats : sum;
}

/* ---- what must be refused ---- */

static bool sizes_are_sound(const colo_block *b, uint64_t page_size)
{
    uint64_t in_page = page_size - 1;

    if (!HAS(offset_unaligned) && (b->offset & in_page)) {
        return false;
    }
    if (!HAS(max_unaligned) && (b->max_length & in_page)) {
        return false;
    }
    if (!HAS(used_rounded) && (b->used_length & in_page)) {
        return false;
    }
    return HAS(max_unchecked) || b->max_length >= b->used_length;
}

static bool is_in_reach(const colo_block *b, uint64_t page_size, uint64_t bits)
{
    uint64_t pages = (HAS(reach_by_max) ? b->max_length : b->used_length) / page_size;

    if (HAS(reach_wraps)) {
        return b->first_bit + pages <= bits;
    }
    if (HAS(reach_one_more)) {
        bits++;
    }
    if (!pages && !HAS(reach_of_empty)) {
        return true;
    }
    return b->first_bit <= bits && pages <= bits - (HAS(reach_from_start) ? 0 : b->first_bit);
}

static bool has_memory(const colo_block *b)
{
    if (HAS(null_memory) || (!b->used_length && !HAS(null_of_empty))) {
        return true;
    }
    return b->host && b->cache;
}

static bool overlap(const colo_block *a, const colo_block *b, uint64_t page_size)
{
    uint64_t a_first = a->first_bit, b_first = b->first_bit;
    uint64_t a_pages = used_pages(a, page_size), b_pages = used_pages(b, page_size);

    if (HAS(overlap_by_offset)) {
        a_first = a->offset / page_size;
        b_first = b->offset / page_size;
    }
    if ((!a_pages || !b_pages) && !HAS(overlap_of_empty)) {
        return false;
    }
    if (HAS(overlap_start_only)) {
        return b_first >= a_first && b_first < a_first + a_pages;
    }
    if (HAS(overlap_touching)) {
        return a_first <= b_first + b_pages && b_first <= a_first + a_pages;
    }
    return a_first < b_first + b_pages && b_first < a_first + a_pages;
}

static bool blocks_are_sound(const job *j, uint64_t bits)
{
    for (size_t i = 0; i < j->n_blocks; i++) {
        const colo_block *b = &j->blocks[i];

        if (!sizes_are_sound(b, j->page_size) || !is_in_reach(b, j->page_size, bits) ||
            !has_memory(b)) {
            return false;
        }
        for (size_t k = HAS(overlap_of_neighbours) && i ? i - 1 : 0;
             k < (HAS(overlap_with_first) && i ? 1 : i) && !HAS(overlap_unchecked); k++) {
            if (overlap(&j->blocks[k], b, j->page_size)) {
                return false;
            }
        }
    }
    return true;
}

static uint64_t last_page(const job *j)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < j->n_blocks; i++) {
        const colo_block *b = &j->blocks[i];
        uint64_t end = b->first_bit + used_pages(b, j->page_size);

        if (b->used_length && (end > pages || HAS(pages_of_last_listed))) {
            pages = end;
        }
    }
    return pages;
}

/* The bits of word w that have a page. */
static uint64_t paged(const job *j, uint64_t w)
{
    uint64_t mask = 0;

    for (size_t i = 0; i < j->n_blocks; i++) {
        const colo_block *b = &j->blocks[i];
        uint64_t length = HAS(stray_within_max) ? b->max_length : b->used_length;

        mask |= window_mask(w, b->first_bit, b->first_bit + length / j->page_size);
    }
    return HAS(stray_by_word) && mask ? ~UINT64_C(0) : mask;
}

static bool any_stray(const job *j, size_t n_words)
{
    for (uint64_t w = 0; w < n_words - (HAS(stray_last_word) && n_words); w++) {
        uint64_t dirty = j->cache[w] | (HAS(stray_cache_only) ? 0 : j->host[w]);
        uint64_t have = dirty ? paged(j, w) : 0;

        if (HAS(stray_bits_32) && (w * WORD) >> 32) {
            continue;
        }
        if (HAS(stray_at_end_only) && w * WORD + WORD <= last_page(j)) {
            continue;
        }
        if (HAS(stray_dropped)) {
            j->cache[w] &= have;
            j->host[w] &= have;
        } else if (dirty & ~have) {
            return true;
        }
    }
    return false;
}

/* Many blocks: sorted, so that it takes n log n. 0, -EINVAL, or -ENOMEM without memory to sort them in. */
static int by_first_bit(const void *one, const void *other)
{
    const colo_block *a = *(const colo_block *const *)one, *b = *(const colo_block *const *)other;

    return (a->first_bit > b->first_bit) - (a->first_bit < b->first_bit);
}

static bool any_dirty(const job *j, uint64_t first, uint64_t last)
{
    for (uint64_t w = first / WORD; w * WORD < last; w++) {
        if ((j->cache[w] | j->host[w]) & window_mask(w, first, last)) {
            return true;
        }
    }
    return false;
}

static int check_many(const job *j, size_t n_words)
{
    const colo_block **used = malloc(j->n_blocks * sizeof *used);
    uint64_t at = 0;
    size_t n = 0;
    bool sound = true;

    if (!used) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < j->n_blocks && sound; i++) {
        const colo_block *b = &j->blocks[i];

        sound = sizes_are_sound(b, j->page_size) &&
                is_in_reach(b, j->page_size, (uint64_t)n_words * WORD) && has_memory(b);
        if (b->used_length) {
            used[n++] = b;
        }
    }
    qsort(used, n, sizeof *used, by_first_bit);
    for (size_t i = 0; i < n && sound; i++) {
        sound = used[i]->first_bit >= at && !any_dirty(j, at, used[i]->first_bit);
        at = used[i]->first_bit + used_pages(used[i], j->page_size);
    }
    sound = sound && !any_dirty(j, at, (uint64_t)n_words * WORD);
    free(used);
    return sound ? 0 : -EINVAL;
}

static bool is_power_of_two(uint64_t n)
{
    return HAS(page_size_any) ? n != 0 : (n != 0 || HAS(page_size_0)) && !(n & (n - 1));
}

static int check(const job *j, size_t n_words, uint32_t threads)
{
    bool wants_bitmaps = (n_words || HAS(null_no_words)) && !HAS(null_bitmap);

    if ((!threads && !HAS(threads_0)) || (!j->dirty_pages && !HAS(null_dirty_pages))) {
        return -EINVAL;
    }
    if (!is_power_of_two(j->page_size) || (j->n_blocks && !j->blocks)) {
        return -EINVAL;
    }
    if (wants_bitmaps && (!j->cache || !j->host)) {
        return -EINVAL;
    }
    if (j->n_blocks > MANY_BLOCKS && !HAS(blocks_squared)) {
        return check_many(j, n_words);
    }
    if (!blocks_are_sound(j, (uint64_t)n_words * WORD)) {
        return -EINVAL;
    }
    if (!HAS(stray_unchecked) && !HAS(stray_seen_late) && any_stray(j, n_words)) {
        return -EINVAL;
    }
    return 0;
}

/* ---- the ABI ---- */

uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

int colo_plan(uint64_t pages, uint32_t threads, uint32_t thread, uint64_t *lower, uint64_t *upper)
{
    if (thread >= threads && (!HAS(thread_not_checked) || !threads)) {
        return -EINVAL;
    }
    if ((!lower || !upper) && !HAS(plan_null)) {
        return -EINVAL;
    }
    if (HAS(plan_rounds_up)) {
        uint64_t chunk = ((pages + WORD - 1) / WORD / threads + 1) * WORD;

        *lower = thread < pages / chunk + 1 ? thread * chunk : pages;
        *upper = thread < pages / chunk ? (thread + 1) * chunk : pages;
        return 0;
    }
    share(pages, threads, thread, lower, upper);
    return 0;
}

static int settle(uint64_t *dirty_pages, const colo_stats *done)
{
    uint64_t cleared = done->cache_dirty;

    if (HAS(count_union)) {
        cleared = done->copied;
    } else if (HAS(count_host_too)) {
        cleared = done->cache_dirty + done->host_dirty;
    }
    if (HAS(count_forced) || (HAS(count_clamped) && *dirty_pages < cleared)) {
        *dirty_pages = 0;
    } else if (!HAS(count_shared) && !(HAS(count_not_written) && *dirty_pages != cleared)) {
        *dirty_pages -= cleared;
    }
    if (HAS(count_32)) {
        return (uint32_t)*dirty_pages ? -ERANGE : 0;
    }
    if (HAS(count_signed)) {
        return (int64_t)*dirty_pages > 0 ? -ERANGE : 0;
    }
    return *dirty_pages ? -ERANGE : 0;
}

static int refuse(void)
{
    return HAS(positive_errno) ? EINVAL : -EINVAL;
}

/* The list of the call before, if it says the same of bits and lengths. */
static const colo_block *kept_list(const colo_block *blocks, size_t n)
{
    static colo_block kept[64];
    static size_t n_kept;
    bool same = n == n_kept;

    for (size_t i = 0; i < n && same; i++) {
        same = kept[i].first_bit == blocks[i].first_bit && kept[i].used_length == blocks[i].used_length;
    }
    if (!same && n <= 64 && n) {
        n_kept = n;
        memcpy(kept, blocks, n * sizeof *kept);
    }
    return n && n == n_kept ? kept : blocks;
}

static void change_by_history(job *j)
{
    static uint64_t page_size_of_first;
    static colo_block blocks_of_first[64];
    static size_t n_blocks_of_first;

    if (HAS(memory_of_first)) {
        j->blocks = kept_list(j->blocks, j->n_blocks);
    }
    if (HAS(page_size_of_first)) {
        page_size_of_first = page_size_of_first ? page_size_of_first : j->page_size;
        j->page_size = page_size_of_first;
    }
    if (HAS(blocks_of_first)) {
        if (!n_blocks_of_first && j->n_blocks <= 64 && j->n_blocks) {
            n_blocks_of_first = j->n_blocks;
            memcpy(blocks_of_first, j->blocks, j->n_blocks * sizeof *j->blocks);
        }
        j->blocks = blocks_of_first;
        j->n_blocks = n_blocks_of_first;
    }
}

static int total_is_wrong(const job *j, size_t n_words)
{
    uint64_t bits = 0;

    for (size_t w = 0; w < n_words; w++) {
        bits += (uint64_t)__builtin_popcountll(j->cache[w]);
    }
    return bits != *j->dirty_pages;
}

int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats)
{
    static bool refused_before;
    job j = {blocks, n_blocks, page_size, cache_bitmap, host_bitmap, 0, dirty_pages, 0};

    if (HAS(stats_on_refusal) && stats) {
        memset(stats, 0, sizeof *stats);
    }
    int unsound = check(&j, n_words, threads);

    if (unsound == -ENOMEM) {
        return unsound;
    }
    if (unsound || (HAS(refusal_sticks) && refused_before)) {
        refused_before = true;
        return refuse();
    }
    if (HAS(count_checked_first) && total_is_wrong(&j, n_words)) {
        return -ERANGE;
    }
    change_by_history(&j);
    if (HAS(sixty_four_blocks) && j.n_blocks > 64) {
        j.n_blocks = 64;
    }
    if (HAS(leaks_memory)) {
        colo_block *copied = malloc(4096 + n_blocks * sizeof *blocks);

        memset(copied, 0, 4096);
        __asm__ volatile("" : : "r"(copied) : "memory");
    }
    if (HAS(stack_of_threads)) {
        colo_stats of_thread[threads];

        memset(of_thread, 0, sizeof of_thread);
        __asm__ volatile("" : : "r"(of_thread) : "memory");
    }

    uint32_t wanted = !threads ? 1 : threads < MOST_THREADS ? threads : MOST_THREADS;

    j.pages = last_page(&j);
    j.shares = HAS(block_per_thread) ? (uint32_t)n_blocks : HAS(shares_of_all_threads) ? threads : wanted;

    colo_stats done = run(&j, wanted);

    if (HAS(stray_seen_late) && any_stray(&j, n_words)) {
        return refuse();
    }

    int status = settle(dirty_pages, &done);

    if ((stats || HAS(stats_null)) && !(HAS(stats_not_on_erange) && status)) {
        if (HAS(stats_added)) {
            add(stats, &done);
        } else {
            *stats = done;
        }
    }
    return status;
}

/* SPDX-License-Identifier: MIT
 *
 * A port of one thread that copies runs, with bugs in it, one at a time: see port.c. What is wrong here
 * has nothing to do with threads: contents, clean pages, runs, page sizes, what is left behind.
 */
#define _GNU_SOURCE
#include "bug.h"
#include "walk.h"

#include <fcntl.h>
#include <fenv.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum bug {
    bug_none,
    /* [contents] what pages hold */
    bug_skips_zero_pages,       /* a page of zeros is not copied: fresh memory is zero */
    bug_zeros_by_madvise,       /* a page of zeros is thrown away; shared memory keeps what it had */
    bug_skips_equal_start,      /* a page whose first 64 bytes are equal is not copied */
    bug_skips_equal_end,        /* a page whose last 8 bytes are equal is not copied */
    bug_skips_equal_ends,       /* a page whose first and last words are equal is not copied */
    bug_skips_sampled,          /* every 64th byte is compared, and equal pages are not copied */
    bug_skips_equal_sum,        /* a page whose words have the same sum is not copied */
    bug_skips_equal_xor,        /* a page whose words have the same exclusive or is not copied */
    bug_remembers_pages,        /* a page whose start is as in the call before is not copied again */
    bug_copies_like_the_last,   /* a page equal to the one before it is taken to be copied */
    /* [clean-pages] pages that nobody asked for */
    bug_bridges_gaps,           /* a clean page between two runs is copied along */
    bug_restores_clean,         /* a clean page between two runs is copied along, and put back */
    bug_rewrites_clean,         /* a clean page in a dirty word is written with what it has */
    bug_rounds_runs,            /* a run is copied to the end of its group of four pages */
    bug_touches_first,          /* the first byte of each used page is written back, to fault it in */
    /* [repeat] what a flush that dies leaves */
    bug_takes_all_bits,         /* both bitmaps are emptied at the start, into one of its own */
    bug_clears_run_first,       /* a run's bits are cleared, then it is copied */
    bug_clears_host_bits_first, /* the host bitmap is emptied at the start */
    bug_marks_whole_words,      /* all bits of a word are set while it is worked on */
    bug_marks_last_page,        /* the block's last page is marked while the block is worked on */
    bug_copies_last_half_late,  /* second halves of pages are copied when all bits are cleared */
    /* [scale] large numbers */
    bug_run_bytes_int,          /* the bytes of a run are an int */
    bug_run_bytes_32,           /* the bytes of a run are a uint32_t */
    bug_run_pages_16,           /* the pages of a run are a uint16_t */
    bug_stats_16,               /* pages are counted in a uint16_t */
    bug_list_of_65536,          /* dirty pages are listed first, and there is room for 65,536 */
    bug_blocks_16,              /* blocks are counted in a uint16_t */
    bug_blocks_on_stack,        /* the block list is copied to the stack */
    bug_sorts_by_insertion,     /* blocks are sorted by insertion */
    bug_words_of_any_block,     /* 64 words of ones are one run, whatever block ends in them */
    /* [page-sizes] page sizes */
    bug_page_size_32,           /* the page size is a uint32_t */
    bug_power_of_two_32,        /* the low 32 bits of the page size are looked at */
    bug_power_of_two_even,      /* an even page size passes for a power of two */
    bug_least_page_16,          /* pages are copied 16 bytes at a time, smaller ones too */
    /* [caller] the caller's state */
    bug_mask_left,              /* signals stay blocked */
    bug_affinity_left,          /* the caller stays on one CPU */
    bug_rounding_left,          /* the rounding mode is set and not put back */
    bug_handler_left,           /* a signal is ignored from then on */
    /* [caller/small-stack] the caller's stack */
    bug_bounces_on_stack,       /* pages go by way of a buffer of 1 MiB on the stack */
    /* [many-calls] what piles up */
    bug_leaks_on_refusal,       /* a copy of the block list is kept when the call is refused */
    bug_leaks_on_erange,        /* a copy of the block list is kept when the count was wrong */
    bug_leaks_files,            /* a file stays open */
    bug_leaks_addresses,        /* a mapping that is never touched stays */
    bug_counts_to_5000,         /* the 5,000th call is refused: a table is full */
    /* [missing] what cannot be had */
    bug_memory_unchecked,       /* malloc is taken to succeed */
    bug_memory_missing_late,    /* -ENOMEM, but the host bits are cleared by then */
    bug_memory_missing_is_done, /* no memory: 0 is returned, and nothing was flushed */
    /* [vector/copying/placed vector/copying/shifted vector/copying/odd] where memory lies */
    bug_aligned_like_the_host,  /* once the host is aligned the cache is taken to be */
    bug_rounds_host_down,       /* the host address is rounded down to 16 bytes */
};

static bool is_zero(const uint8_t *page, uint64_t size)
{
    return !page[0] && !memcmp(page, page + 1, size - 1);
}

static uint64_t folded(const uint8_t *page, uint64_t size, bool by_xor)
{
    uint64_t sum = 0, word;

    for (uint64_t i = 0; i + 8 <= size; i += 8) {
        memcpy(&word, page + i, 8);
        sum = by_xor ? sum ^ word : sum + word;
    }
    return sum;
}

static bool sampled_equal(const uint8_t *host, const uint8_t *cache, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += 64) {
        if (host[i] != cache[i]) {
            return false;
        }
    }
    return true;
}

/* Was the page, by its first 16 bytes, as it is when it was met last? */
static bool remembered(const uint8_t *cache)
{
    static struct {
        const uint8_t *page;
        uint8_t start[16];
    } seen[4096];
    uint64_t at = ((uintptr_t)cache >> 10) % 4096;
    bool same = seen[at].page == cache && !memcmp(seen[at].start, cache, 16);

    seen[at].page = cache;
    memcpy(seen[at].start, cache, 16);
    return same;
}

static bool need_not_be_copied(const uint8_t *host, const uint8_t *cache, uint64_t size)
{
    if (HAS(skips_zero_pages)) {
        return is_zero(cache, size);
    }
    if (HAS(skips_equal_start)) {
        return !memcmp(host, cache, size < 64 ? size : 64);
    }
    if (HAS(skips_equal_end)) {
        return !memcmp(host + size - 8, cache + size - 8, 8);
    }
    if (HAS(skips_equal_ends)) {
        return !memcmp(host, cache, 8) && !memcmp(host + size - 8, cache + size - 8, 8);
    }
    if (HAS(skips_sampled)) {
        return sampled_equal(host, cache, size);
    }
    if (HAS(skips_equal_sum) || HAS(skips_equal_xor)) {
        bool by_xor = HAS(skips_equal_xor);

        return folded(host, size, by_xor) == folded(cache, size, by_xor);
    }
    return HAS(remembers_pages) && remembered(cache);
}

/* By way of memory that is this function's own. */
static void bounce(uint8_t *host, const uint8_t *cache, uint64_t size)
{
    uint8_t own[1 << 20];

    for (uint64_t at = 0; at < size; at += sizeof own) {
        uint64_t part = size - at < sizeof own ? size - at : sizeof own;

        memcpy(own, cache + at, part);
        __asm__ volatile("" : : "r"(own) : "memory");
        memcpy(host + at, own, part);
    }
}

typedef uint64_t pair __attribute__((vector_size(16), may_alias));

static void copy_vectors(uint8_t *host, const uint8_t *cache, uint64_t size)
{
    while (size && (uintptr_t)host % 16) {
        *host++ = *cache++;
        size--;
    }
    for (; size >= 16; host += 16, cache += 16, size -= 16) {
        *(volatile pair *)host = *(const volatile pair *)cache;
    }
    memcpy(host, cache, size);
}

static void copy_one(uint8_t *host, const uint8_t *cache, uint64_t size)
{
    if (need_not_be_copied(host, cache, size)) {
        return;
    }
    if (HAS(zeros_by_madvise) && is_zero(cache, size) && (uintptr_t)host % 4096 == 0) {
        madvise(host, size, MADV_DONTNEED);
    } else if (HAS(aligned_like_the_host)) {
        copy_vectors(host, cache, size);
    } else if (HAS(bounces_on_stack)) {
        bounce(host, cache, size);
    } else if (HAS(rounds_host_down)) {
        memcpy((uint8_t *)((uintptr_t)host & ~(uintptr_t)15), cache, size);
    } else if (HAS(least_page_16)) {
        for (uint64_t i = 0; i < size; i += 16) {
            memcpy(host + i, cache + i, 16);
        }
    } else if (HAS(copies_last_half_late)) {
        memcpy(host, cache, size / 2);
    } else {
        memcpy(host, cache, size);
    }
}

static void copy_run(uint8_t *host, const uint8_t *cache, uint64_t pages, uint64_t size)
{
    uint64_t bytes = HAS(run_bytes_int)  ? (uint64_t)(int)(pages * size)
                     : HAS(run_bytes_32) ? (uint32_t)(pages * size)
                     : HAS(run_pages_16) ? (uint16_t)pages * size
                                         : pages * size;

    if (HAS(run_bytes_int) || HAS(run_bytes_32) || HAS(run_pages_16)) {
        memcpy(host, cache, bytes);
        return;
    }
    for (uint64_t i = 0; i < pages; i++) {
        if (HAS(copies_like_the_last) && i && !memcmp(cache, cache + i * size, size)) {
            continue;
        }
        copy_one(host + i * size, cache + i * size, size);
    }
}

static void clear_run(uint64_t *cache, uint64_t *host, uint64_t first, uint64_t last, colo_stats *done)
{
    for (uint64_t word = first / PAGES_PER_WORD; word * PAGES_PER_WORD < last; word++) {
        uint64_t mask = window_mask(word, first, last);

        done->cache_dirty += (uint64_t)__builtin_popcountll(cache[word] & mask);
        done->host_dirty += (uint64_t)__builtin_popcountll(host[word] & mask);
        done->both_dirty += (uint64_t)__builtin_popcountll(cache[word] & host[word] & mask);
        done->copied += (uint64_t)__builtin_popcountll((cache[word] | host[word]) & mask);
        cache[word] &= ~mask;
        host[word] &= ~mask;
    }
}

static bool is_dirty(const uint64_t *cache, const uint64_t *host, uint64_t bit)
{
    return (cache[bit / PAGES_PER_WORD] | host[bit / PAGES_PER_WORD]) >> bit % PAGES_PER_WORD & 1;
}

/* The first bit in [from, end) that is dirty, or that is not; or end. */
static uint64_t next(const uint64_t *cache, const uint64_t *host, uint64_t from, uint64_t end, bool dirty)
{
    while (from < end) {
        uint64_t word = cache[from / PAGES_PER_WORD] | host[from / PAGES_PER_WORD];
        uint64_t rest = (dirty ? word : ~word) >> from % PAGES_PER_WORD;

        if (rest) {
            from += (uint64_t)__builtin_ctzll(rest);
            return from < end ? from : end;
        }
        from = (from / PAGES_PER_WORD + 1) * PAGES_PER_WORD;
    }
    return end;
}

/* Where a run ends if words of ones are counted by 64, and nobody asks whose they are. */
static size_t all_words;

static uint64_t end_of_ones(const uint64_t *cache, const uint64_t *host, uint64_t first, uint64_t last)
{
    uint64_t word = (first + PAGES_PER_WORD - 1) / PAGES_PER_WORD, n = 0;

    while (word + n < all_words && !~(cache[word + n] | host[word + n])) {
        n++;
    }
    word += n / 64 * 64;
    return n >= 64 && word * PAGES_PER_WORD > last ? word * PAGES_PER_WORD : last;
}

/* What is done with the clean page behind a run: nothing, if it is right. */
static void treat_clean(uint8_t *host, const uint8_t *cache, uint64_t size)
{
    if (HAS(bridges_gaps) || HAS(rounds_runs)) {
        memcpy(host, cache, size);
    } else if (HAS(restores_clean)) {
        uint8_t *own = malloc(size);

        memcpy(own, host, size);
        memcpy(host, cache, size);
        memcpy(host, own, size);
        free(own);
    } else if (HAS(rewrites_clean)) {
        memmove(host, host, size);
        *(volatile uint8_t *)host = *(volatile uint8_t *)host;
    }
}

static void flush_block(const colo_block *b, uint64_t size, uint64_t *cache, uint64_t *host,
                        colo_stats *done)
{
    uint64_t base = b->first_bit, end = base + pages_in_use(b, size), last;
    uint64_t listed = 0;

    if (HAS(touches_first)) {
        for (uint64_t page = 0; page < end - base; page++) {
            *(volatile uint8_t *)(b->host + page * size) = *(volatile uint8_t *)(b->host + page * size);
        }
    }
    if (HAS(marks_last_page) && end > base) {
        host[(end - 1) / PAGES_PER_WORD] |= UINT64_C(1) << (end - 1) % PAGES_PER_WORD;
    }
    for (uint64_t first = next(cache, host, base, end, true); first < end;
         first = next(cache, host, last, end, true)) {
        uint64_t at = (first - base) * size;

        last = next(cache, host, first, end, false);
        if (HAS(words_of_any_block)) {
            last = end_of_ones(cache, host, first, last);
        }
        if (HAS(list_of_65536) && (listed += last - first) > 65536) {
            last = end;
            clear_run(cache, host, first, last, done);
            break;
        }
        if (HAS(marks_last_page) && last == end) {
            continue;
        }
        if (HAS(marks_whole_words)) {
            uint64_t word = first / PAGES_PER_WORD, was = cache[word];
            uint64_t all = window_mask(word, base, end);

            last = last < (word + 1) * PAGES_PER_WORD ? last : (word + 1) * PAGES_PER_WORD;
            cache[word] |= all;
            copy_run(b->host + at, b->cache + at, last - first, size);
            cache[word] = was;
            clear_run(cache, host, first, last, done);
            continue;
        }
        if (HAS(clears_run_first)) {
            clear_run(cache, host, first, last, done);
        }
        copy_run(b->host + at, b->cache + at, last - first, size);
        if (!HAS(clears_run_first)) {
            clear_run(cache, host, first, last, done);
        }
        if (last < end && (!HAS(rounds_runs) || (last - base) % 4) &&
            (HAS(rounds_runs) || last + 1 == end || is_dirty(cache, host, last + 1))) {
            treat_clean(b->host + (last - base) * size, b->cache + (last - base) * size, size);
        }
    }
    if (HAS(marks_last_page) && end > base) {
        host[(end - 1) / PAGES_PER_WORD] &= ~(UINT64_C(1) << (end - 1) % PAGES_PER_WORD);
    }
}

/* Bits that were taken at the start, or what was left for the end. */
static void copy_halves(const colo_block *blocks, size_t n, uint64_t size, const uint64_t *dirty)
{
    for (size_t i = 0; i < n; i++) {
        const colo_block *b = &blocks[i];

        for (uint64_t page = 0; page < pages_in_use(b, size); page++) {
            if (is_dirty(dirty, dirty, b->first_bit + page)) {
                memcpy(b->host + page * size + size / 2, b->cache + page * size + size / 2,
                       size - size / 2);
            }
        }
    }
}

static void leave_the_caller_changed(void)
{
    if (HAS(mask_left)) {
        sigset_t usr2;

        sigemptyset(&usr2);
        sigaddset(&usr2, SIGUSR2);
        sigprocmask(SIG_BLOCK, &usr2, NULL);
    } else if (HAS(affinity_left)) {
        cpu_set_t first;

        CPU_ZERO(&first);
        CPU_SET(0, &first);
        sched_setaffinity(0, sizeof first, &first);
    } else if (HAS(rounding_left)) {
#if defined(__x86_64__)
        __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x6000);
#endif
    } else if (HAS(handler_left)) {
        signal(SIGUSR2, SIG_IGN);
    }
}

static void keep(const colo_block *blocks, size_t n_blocks)
{
    colo_block *copy = malloc(n_blocks * sizeof *copy + 1);

    if (copy && n_blocks) {
        memcpy(copy, blocks, n_blocks * sizeof *copy);
    }
    __asm__ volatile("" : : "r"(copy) : "memory");
}

static uint64_t n_calls;

static void leave_something(void)
{
    if (HAS(leaks_files)) {
        open("/dev/null", O_RDONLY | O_CLOEXEC);
    } else if (HAS(leaks_addresses)) {
        mmap(NULL, 1 << 17, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
}

/* Is the list in order when each block has been moved to its place among those before it? */
static void sort_by_insertion(const colo_block *blocks, size_t n)
{
    const colo_block **sorted = malloc((n + 1) * sizeof *sorted);

    for (size_t i = 0; i < n && sorted; i++) {
        size_t at = i;

        for (; at > 0 && sorted[at - 1]->first_bit > blocks[i].first_bit; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = &blocks[i];
        __asm__ volatile("" : : "r"(sorted[at]) : "memory");
    }
    free(sorted);
}

static bool passes_for_power_of_two(uint64_t size)
{
    if (HAS(power_of_two_32)) {
        return (uint32_t)size && !((uint32_t)size & ((uint32_t)size - 1));
    }
    return HAS(power_of_two_even) && size && size % 2 == 0;
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
    uint64_t *taken = NULL;
    int refused;

    leave_something();
    all_words = n_words;
    if (HAS(page_size_32)) {
        page_size = (uint32_t)page_size;
    }
    if (HAS(blocks_16)) {
        n_blocks = (uint16_t)n_blocks;
    }
    if (HAS(blocks_on_stack) && blocks) {
        colo_block own[n_blocks + 1];

        memcpy(own, blocks, n_blocks * sizeof *own);
        __asm__ volatile("" : : "r"(own) : "memory");
    }
    if (HAS(sorts_by_insertion) && blocks) {
        sort_by_insertion(blocks, n_blocks);
    }
    if (HAS(counts_to_5000) && ++n_calls >= 5000) {
        return -EINVAL;
    }
    refused = passes_for_power_of_two(page_size) && page_size & (page_size - 1) && dirty_pages && threads
                  ? 0
                  : check_call(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                               dirty_pages, threads);
    if (refused) {
        if (HAS(leaks_on_refusal) && blocks) {
            keep(blocks, n_blocks);
        }
        return refused;
    }
    if (HAS(memory_unchecked) || HAS(memory_missing_late) || HAS(memory_missing_is_done) ||
        HAS(takes_all_bits) || HAS(copies_last_half_late) || HAS(clears_host_bits_first)) {
        taken = malloc(8 * n_words + 8);
        if (HAS(memory_missing_late) && !taken && n_words) {
            memset(cache_bitmap, 0, 8 * n_words);
            return -ENOMEM;
        }
        if (HAS(memory_missing_is_done) && !taken) {
            *dirty_pages = 0;
            return 0;
        }
        for (size_t w = 0; w < n_words; w++) {
            taken[w] = cache_bitmap[w] | host_bitmap[w];
        }
    }
    if (HAS(takes_all_bits) || HAS(clears_host_bits_first)) {
        uint64_t *own_host = malloc(8 * n_words + 8), *own_cache = malloc(8 * n_words + 8);

        memcpy(own_host, host_bitmap, 8 * n_words);
        memcpy(own_cache, cache_bitmap, 8 * n_words);
        memset(host_bitmap, 0, 8 * n_words);
        if (HAS(takes_all_bits)) {
            memset(cache_bitmap, 0, 8 * n_words);
        }
        for (size_t i = 0; i < n_blocks; i++) {
            flush_block(&blocks[i], page_size, own_cache, own_host, &done);
        }
        memset(cache_bitmap, 0, 8 * n_words);
        free(own_host);
        free(own_cache);
    } else {
        for (size_t i = 0; i < n_blocks; i++) {
            flush_block(&blocks[i], page_size, cache_bitmap, host_bitmap, &done);
        }
    }
    if (HAS(copies_last_half_late)) {
        copy_halves(blocks, n_blocks, page_size, taken);
    }
    free(taken);
    leave_the_caller_changed();
    if (HAS(stats_16)) {
        done.copied = (uint16_t)done.copied;
        done.cache_dirty = (uint16_t)done.cache_dirty;
    }
    if (stats) {
        *stats = done;
    }
    if (HAS(leaks_on_erange) && *dirty_pages != done.cache_dirty) {
        keep(blocks, n_blocks);
    }
    return settle_count(dirty_pages, done.cache_dirty);
}

/* SPDX-License-Identifier: MIT
 *
 * The flush to take: the design of impl/ (model/protocols/check_in.py, impl/kernels/check_in.py) in C11.
 *
 *   - Helpers sleep on a futex; the caller works too, and waits only for those that have checked in
 *     (check_in.h).
 *   - Work is handed out in batches of dirty pages, cut at bitmap words, off a shared cursor. So it does
 *     not matter where the dirty pages lie, and no two threads ever write one 64-bit word.
 *   - Runs of dirty pages are copied whole, across words, while the beginning of the next run is
 *     fetched. Many pages go past the processor's cache, with one fence for each worker.
 *   - Few dirty pages: the caller copies alone, since waking a thread costs more.
 *
 * A run's bits are cleared after it has been copied, so that a flush that dies can be repeated.
 */
#define _GNU_SOURCE
#include "check_in.h"
#include "walk.h"

#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* One definition for every vector width the processor may have. Sanitizers cannot run such code, which is
 * chosen before they have started; the compiler of AFL++ 4.04 ends with an error at it. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__AFL_COMPILER)
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FOR_EACH_CPU
#endif

enum {
    STRIDE = 32,                        /* clean bitmap words that are skipped at a time */
    SMALLEST_BATCH = 32,                /* dirty pages */
    LARGEST_BATCH = 128,
    BATCHES_PER_WORKER = 16,
    SERIAL_BELOW_BYTES = 1 << 20,              /* up to here waking a helper costs more than it brings */
    STREAM_FROM_BYTES = 4 << 20,        /* fewer have just been written, and are in the cache */
    FETCHED_BYTES = 8 * LINE,           /* enough for the hardware to follow on by itself */
};

/* ---- what is flushed ---- */

/* The used pages of a block: bits [first, last). */
typedef struct {
    uint64_t first, last;
    uint8_t *host;
    const uint8_t *cache;
} region;

typedef struct {
    const region *regions;      /* by first bit */
    size_t n_regions;
    uint64_t page_size;
    uint64_t *cache_bitmap, *host_bitmap;
    size_t n_words;
    uint64_t *dirty_before;     /* n_words + 1 prefix sums: the dirty pages below each word */
    uint64_t dirty, batch;      /* dirty pages in all, and in a batch */
    bool streams;
} flush_job;

/* ---- reading the bitmaps ---- */

FOR_EACH_CPU static bool stride_is_clean(const uint64_t *cache, const uint64_t *host)
{
    uint64_t seen = 0;

    for (size_t i = 0; i < STRIDE; i++) {
        seen |= cache[i] | host[i];
    }
    return !seen;
}

/* The first bit in [from, last) that is dirty, or last. */
static uint64_t next_dirty(const flush_job *job, uint64_t from, uint64_t last)
{
    const uint64_t *cache = job->cache_bitmap, *host = job->host_bitmap;
    uint64_t end = last / PAGES_PER_WORD + (last % PAGES_PER_WORD != 0);

    for (uint64_t word = from / PAGES_PER_WORD; word < end; word++) {
        uint64_t dirty = (cache[word] | host[word]) & window_mask(word, from, last);

        if (dirty) {
            return word * PAGES_PER_WORD + (uint64_t)__builtin_ctzll(dirty);
        }
        while (word + STRIDE < end && stride_is_clean(cache + word + 1, host + word + 1)) {
            word += STRIDE;
        }
    }
    return last;
}

/* The first bit in [from, last) that is clean in both bitmaps, or last. */
static uint64_t next_clean(const flush_job *job, uint64_t from, uint64_t last)
{
    for (uint64_t word = from / PAGES_PER_WORD; word * PAGES_PER_WORD < last; word++) {
        uint64_t clean = ~(job->cache_bitmap[word] | job->host_bitmap[word]) &
                         window_mask(word, from, last);

        if (clean) {
            return word * PAGES_PER_WORD + (uint64_t)__builtin_ctzll(clean);
        }
    }
    return last;
}

FOR_EACH_CPU static uint64_t count_words(const uint64_t *cache, const uint64_t *host, size_t n_words)
{
    uint64_t dirty = 0;

    for (size_t w = 0; w < n_words; w++) {
        dirty += (uint64_t)__builtin_popcountll(cache[w] | host[w]);
    }
    return dirty;
}

/* Nothing dirty is the common answer, and looking for the first bit the quickest way to it. */
static uint64_t count_dirty(const flush_job *job)
{
    size_t first = next_dirty(job, 0, (uint64_t)job->n_words * PAGES_PER_WORD) / PAGES_PER_WORD;

    return count_words(job->cache_bitmap + first, job->host_bitmap + first, job->n_words - first);
}

FOR_EACH_CPU static void index_dirty(const uint64_t *cache, const uint64_t *host, size_t n_words,
                                     uint64_t *dirty_before)
{
    uint64_t before = 0;

    for (size_t w = 0; w < n_words; w++) {
        dirty_before[w] = before;
        before += (uint64_t)__builtin_popcountll(cache[w] | host[w]);
    }
    dirty_before[n_words] = before;
}

/* The first word with at least `pages` dirty pages below it. */
static uint64_t first_word_with(const flush_job *job, uint64_t pages)
{
    uint64_t low = 0, high = job->n_words;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (job->dirty_before[middle] < pages) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- copying ---- */

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void stream_512(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += LINE) {
        _mm512_stream_si512((__m512i *)(to + i), _mm512_loadu_si512(from + i));
    }
}

static void stream_128(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += sizeof(__m128i)) {
        _mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
    }
}

/* Past the processor's cache: the line of the host is not read before it is overwritten. */
static void stream(uint8_t *to, const uint8_t *from, size_t n)
{
    if ((uintptr_t)to % LINE || n % LINE) {
        memcpy(to, from, n);
    } else if (__builtin_cpu_supports("avx512f")) {
        stream_512(to, from, n);
    } else {
        stream_128(to, from, n);
    }
}

/* Streaming stores are weakly ordered: no release store covers them, since compilers take them for
 * plain ones. On x86 a locked instruction does, and every check-out is one; say it all the same. */
static void fence_stores(void)
{
    _mm_sfence();
}
#else
static void stream(uint8_t *to, const uint8_t *from, size_t n)
{
    memcpy(to, from, n);
}

static void fence_stores(void)
{
}
#endif

static void fetch(const uint8_t *memory, uint64_t page_size)
{
    for (uint64_t i = 0; i < FETCHED_BYTES && i < page_size; i += LINE) {
        __builtin_prefetch(memory + i);
    }
}

/* Clears the bits of a run that has been copied, and counts them. */
static void clear_run(const flush_job *job, uint64_t first, uint64_t last, colo_stats *done)
{
    for (uint64_t word = first / PAGES_PER_WORD; word * PAGES_PER_WORD < last; word++) {
        uint64_t mask = window_mask(word, first, last);
        uint64_t cache = job->cache_bitmap[word], host = job->host_bitmap[word];

        job->cache_bitmap[word] = cache & ~mask;
        job->host_bitmap[word] = host & ~mask;
        done->cache_dirty += (uint64_t)__builtin_popcountll(cache & mask);
        done->host_dirty += (uint64_t)__builtin_popcountll(host & mask);
        done->both_dirty += (uint64_t)__builtin_popcountll(cache & host & mask);
    }
    done->copied += last - first;
}

/* Flushes the bits [first, last) of one region, a run of dirty pages at a time. */
static void flush_window(const flush_job *job, const region *in, uint64_t first, uint64_t last,
                         colo_stats *done)
{
    uint64_t run = next_dirty(job, first, last);

    while (run < last) {
        uint64_t end = next_clean(job, run, last);
        uint64_t following = next_dirty(job, end, last);
        uint64_t at = (run - in->first) * job->page_size, bytes = (end - run) * job->page_size;

        if (following < last) {
            uint64_t soon = (following - in->first) * job->page_size;

            fetch(in->cache + soon, job->page_size);
            if (!job->streams) {
                fetch(in->host + soon, job->page_size);
            }
        }
        if (job->streams) {
            stream(in->host + at, in->cache + at, bytes);
        } else {
            memcpy(in->host + at, in->cache + at, bytes);
        }
        clear_run(job, run, end, done);
        run = following;
    }
}

/* Flushes whatever lies in the bits [lower, upper), whole words. */
static void flush_range(const flush_job *job, uint64_t lower, uint64_t upper, colo_stats *done)
{
    size_t low = 0, high = job->n_regions;

    while (low < high) {                /* the first region that ends above lower */
        size_t middle = low + (high - low) / 2;

        if (job->regions[middle].last <= lower) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < job->n_regions && job->regions[low].first < upper; low++) {
        const region *in = &job->regions[low];

        flush_window(job, in, in->first < lower ? lower : in->first,
                     in->last < upper ? in->last : upper, done);
    }
}

/* ---- one round ---- */

/* Written by one worker, read by the caller after that worker has checked out: lines of their own. */
static struct {
    _Alignas(LINE) colo_stats done;
} tallies[MOST_WORKERS];

static struct {
    _Alignas(LINE) atomic_uint_fast64_t cursor; /* dirty pages that have been handed out */
    _Alignas(LINE) flush_job job;
} round_of;

/* A worker's part: batches off the cursor, until none are left. */
static void work_off_batches(uint32_t worker)
{
    const flush_job *job = &round_of.job;
    colo_stats done = {0};

    for (;;) {
        /* Relaxed: it hands out numbers, not memory. */
        uint64_t first =
            atomic_fetch_add_explicit(&round_of.cursor, job->batch, memory_order_relaxed);

        if (first >= job->dirty) {
            break;
        }
        uint64_t last = job->dirty - first < job->batch ? job->dirty : first + job->batch;

        flush_range(job, first_word_with(job, first) * PAGES_PER_WORD,
                    first_word_with(job, last) * PAGES_PER_WORD, &done);
    }
    fence_stores();
    tallies[worker].done = done;
}

/* ---- one flush ---- */

/* Grows from call to call, under the lock. */
static struct {
    region *regions;
    uint64_t *dirty_before;
    size_t most_regions, most_words;
} kept;

static bool reserve(void **memory, size_t *most, size_t wanted, size_t each)
{
    if (wanted > *most) {
        void *more = wanted <= SIZE_MAX / each ? realloc(*memory, wanted * each) : NULL;

        if (!more) {
            return false;
        }
        *memory = more;
        *most = wanted;
    }
    return true;
}

__attribute__((destructor)) static void let_go(void)
{
    free(kept.regions);
    free(kept.dirty_before);
}

/* Another thread may be within realloc() when a thread forks: the child's pointers may be stale. */
static void forget_kept(void)
{
    memset(&kept, 0, sizeof(kept));
}

__attribute__((constructor)) static void forget_kept_in_children(void)
{
    pthread_atfork(NULL, NULL, forget_kept);
}

static int by_first_bit(const void *one, const void *other)
{
    uint64_t a = ((const region *)one)->first, b = ((const region *)other)->first;

    return (a > b) - (a < b);
}

/* The used pages of all blocks, by first bit. False if a block is unsound or two overlap. */
static bool sort_regions(const colo_block *blocks, size_t n_blocks, flush_job *job)
{
    bool sorted = true;

    for (size_t i = 0; i < n_blocks; i++) {
        const colo_block *b = &blocks[i];
        uint64_t pages = pages_in_use(b, job->page_size);

        if (!block_is_sound(b, job->page_size, (uint64_t)job->n_words * PAGES_PER_WORD)) {
            return false;
        }
        if (pages) {
            kept.regions[job->n_regions] =
                (region){b->first_bit, b->first_bit + pages, b->host, b->cache};
            sorted = sorted && (!job->n_regions ||
                                kept.regions[job->n_regions - 1].first < b->first_bit);
            job->n_regions++;
        }
    }
    if (!sorted) {
        qsort(kept.regions, job->n_regions, sizeof(region), by_first_bit);
    }
    job->regions = kept.regions;
    for (size_t i = 1; i < job->n_regions; i++) {
        if (job->regions[i].first < job->regions[i - 1].last) {
            return false;
        }
    }
    return true;
}

/* Is a bit set that no region accounts for? */
static bool has_stray(const flush_job *job)
{
    uint64_t at = 0, bits = (uint64_t)job->n_words * PAGES_PER_WORD;

    for (size_t i = 0; i < job->n_regions; i++) {
        if (next_dirty(job, at, job->regions[i].first) < job->regions[i].first) {
            return true;
        }
        at = job->regions[i].last;
    }
    return next_dirty(job, at, bits) < bits;
}

static colo_stats flush_alone(const flush_job *job)
{
    colo_stats done = {0};

    flush_range(job, 0, (uint64_t)job->n_words * PAGES_PER_WORD, &done);
    fence_stores();
    return done;
}

/* Flushes the dirty pages, by as many workers as are wanted and the system gives. */
static colo_stats flush_dirty(flush_job *job, uint32_t threads)
{
    uint32_t workers = threads < MOST_WORKERS ? threads : MOST_WORKERS;
    uint64_t fair = job->dirty / (workers * (uint64_t)BATCHES_PER_WORKER);
    uint32_t helpers;
    colo_stats sum = {0};

    job->streams = job->dirty > STREAM_FROM_BYTES / job->page_size;
    if (job->dirty <= SERIAL_BELOW_BYTES / job->page_size ||
        !reserve((void **)&kept.dirty_before, &kept.most_words, job->n_words + 1,
                 sizeof(uint64_t)) ||
        !(helpers = start_helpers(workers - 1))) {
        return flush_alone(job);
    }
    index_dirty(job->cache_bitmap, job->host_bitmap, job->n_words, kept.dirty_before);
    job->dirty_before = kept.dirty_before;
    job->batch = fair < SMALLEST_BATCH  ? SMALLEST_BATCH
                 : fair > LARGEST_BATCH ? LARGEST_BATCH
                                        : fair;
    round_of.job = *job;
    atomic_store_explicit(&round_of.cursor, 0, memory_order_relaxed);
    for (uint32_t i = 0; i <= helpers; i++) {
        tallies[i].done = (colo_stats){0};
    }
    run_round(helpers, work_off_batches);
    for (uint32_t i = 0; i <= helpers; i++) {
        sum.copied += tallies[i].done.copied;
        sum.host_dirty += tallies[i].done.host_dirty;
        sum.cache_dirty += tallies[i].done.cache_dirty;
        sum.both_dirty += tallies[i].done.both_dirty;
    }
    return sum;
}

/* No memory for a list of the blocks: the plain way, which needs none. */
static int flush_plainly(const colo_block *blocks, size_t n_blocks, const flush_job *job,
                         const uint64_t *dirty_pages, colo_stats *done)
{
    int refused = check_call(blocks, n_blocks, job->page_size, job->cache_bitmap,
                             job->host_bitmap, job->n_words, dirty_pages, 1);

    for (size_t i = 0; i < n_blocks && !refused; i++) {
        walk_window(&blocks[i], job->page_size, job->cache_bitmap, job->host_bitmap, 0,
                    pages_in_use(&blocks[i], job->page_size), done);
    }
    return refused;
}

/* ---- the ABI ---- */

uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats)
{
    flush_job job = {.page_size = page_size, .cache_bitmap = cache_bitmap,
                     .host_bitmap = host_bitmap, .n_words = n_words};
    colo_stats done = {0};
    int refused = 0;

    if (!arguments_are_sound(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                             dirty_pages, threads)) {
        return -EINVAL;
    }
    pthread_mutex_lock(&pool.one_round_at_a_time);
    if (!reserve((void **)&kept.regions, &kept.most_regions, n_blocks, sizeof(region))) {
        refused = flush_plainly(blocks, n_blocks, &job, dirty_pages, &done);
    } else if (!sort_regions(blocks, n_blocks, &job) || has_stray(&job)) {
        refused = -EINVAL;
    } else if ((job.dirty = count_dirty(&job))) {
        done = flush_dirty(&job, threads);
    }
    pthread_mutex_unlock(&pool.one_round_at_a_time);
    if (refused) {
        return refused;
    }
    if (stats) {
        *stats = done;
    }
    return settle_count(dirty_pages, done.cache_dirty);
}

/* SPDX-License-Identifier: MIT
 *
 * The 2016 patch: a static share of the address space for each of a set of persistent threads, which
 * are triggered and report completion by a pair of events each; the caller waits for all of them.
 *
 * Five things are better than in the patch, so that what is measured is its idea and not its mistakes:
 * the shares are worked out anew at each flush (it did so once, at thread start); a search stops at
 * the end of the share (it ran on to the end of the block); each thread counts for itself (it
 * decremented one shared counter for each page); an event wait looks again after it wakes; and no
 * thread is woken for a share without a page.
 */
#define _GNU_SOURCE
#include "walk.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_THREADS = 256 };

/* ---- an event: set, reset, wait ---- */

typedef struct {
    _Alignas(64) atomic_int is_set;
} event;

static void event_set(event *e)
{
    if (!atomic_exchange_explicit(&e->is_set, 1, memory_order_release)) {
        syscall(SYS_futex, &e->is_set, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}

static void event_reset(event *e)
{
    atomic_store_explicit(&e->is_set, 0, memory_order_relaxed);
}

/* The kernel may wake a waiter for no reason (a signal, say): only the flag counts. */
static void event_wait(event *e)
{
    while (!atomic_load_explicit(&e->is_set, memory_order_acquire)) {
        syscall(SYS_futex, &e->is_set, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    }
}

/* ---- who flushes what ---- */

typedef struct {
    const colo_block *blocks;
    size_t n_blocks;
    uint64_t page_size;
    uint64_t *cache_bitmap, *host_bitmap;
    uint64_t pages;             /* up to the end of the last block */
    uint32_t threads;
} flush_job;

/* How many of them have a share: each a word at least, so that nobody is woken for nothing. */
static uint32_t working_threads(uint64_t pages, uint32_t threads)
{
    uint64_t words = pages / PAGES_PER_WORD;
    uint32_t most = threads < MOST_THREADS ? threads : MOST_THREADS;

    return words >= most ? most : words ? (uint32_t)words : 1;
}

/* Shares end on whole words, so that no two threads write the same one; the last takes the rest. */
static void share(uint64_t pages, uint32_t threads, uint32_t thread, uint64_t *lower,
                  uint64_t *upper)
{
    threads = working_threads(pages, threads);
    if (thread >= threads) {
        *lower = *upper = pages;
        return;
    }

    uint64_t chunk = (pages / threads) & ~UINT64_C(63);

    *lower = thread * chunk;
    *upper = thread == threads - 1 ? pages : (thread + UINT64_C(1)) * chunk;
}

static uint64_t pages_of(const colo_block *blocks, size_t n_blocks, uint64_t page_size)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < n_blocks; i++) {
        uint64_t used = pages_in_use(&blocks[i], page_size);

        if (used && blocks[i].first_bit + used > pages) {
            pages = blocks[i].first_bit + used;
        }
    }
    return pages;
}

static colo_stats flush_share(const flush_job *job, uint32_t thread)
{
    colo_stats done = {0};
    uint64_t lower, upper;

    share(job->pages, job->threads, thread, &lower, &upper);
    for (size_t i = 0; i < job->n_blocks; i++) {
        const colo_block *block = &job->blocks[i];
        uint64_t first = block->first_bit;
        uint64_t used = pages_in_use(block, job->page_size);

        if (used && first < upper && first + used > lower) {
            uint64_t start = first < lower ? lower - first : 0;
            uint64_t limit = first + used > upper ? upper - first : used;

            walk_window(block, job->page_size, job->cache_bitmap, job->host_bitmap, start, limit,
                        &done);
        }
    }
    return done;
}

/* ---- the threads ---- */

typedef struct {
    event trigger, complete;
    pthread_t thread;
    uint32_t share;
    colo_stats done;
} worker;

static struct {
    pthread_mutex_t one_flush_at_a_time;
    worker workers[MOST_THREADS];
    uint32_t running;
    bool quit;
    flush_job job;
} pool = {.one_flush_at_a_time = PTHREAD_MUTEX_INITIALIZER};

static void *worker_main(void *opaque)
{
    worker *self = opaque;

    for (;;) {
        event_wait(&self->trigger);
        event_reset(&self->trigger);
        if (pool.quit) {
            return NULL;
        }
        self->done = flush_share(&pool.job, self->share);
        event_set(&self->complete);
    }
}

/* As many workers as wanted, or as many as the system gives. */
static void start_workers(uint32_t wanted)
{
    for (; pool.running < wanted; pool.running++) {
        worker *next = &pool.workers[pool.running];

        next->share = pool.running;
        event_reset(&next->trigger);
        if (pthread_create(&next->thread, NULL, worker_main, next)) {
            return;
        }
    }
}

__attribute__((destructor)) static void stop_workers(void)
{
    pool.quit = true;
    for (uint32_t i = 0; i < pool.running; i++) {
        event_set(&pool.workers[i].trigger);
        pthread_join(pool.workers[i].thread, NULL);
    }
    pool.running = 0;
}

/* A fork takes only the thread that called it along. */
static void forget_workers(void)
{
    pool.running = 0;
}

__attribute__((constructor)) static void watch_for_forks(void)
{
    pthread_atfork(NULL, NULL, forget_workers);
}

static void add_stats(colo_stats *sum, const colo_stats *part)
{
    sum->copied += part->copied;
    sum->host_dirty += part->host_dirty;
    sum->cache_dirty += part->cache_dirty;
    sum->both_dirty += part->both_dirty;
}

static colo_stats flush_in_parallel(const flush_job *job)
{
    colo_stats sum = {0};

    pool.job = *job;
    start_workers(job->threads);

    uint32_t helped = pool.running < job->threads ? pool.running : job->threads;

    for (uint32_t i = 0; i < helped; i++) {
        event_reset(&pool.workers[i].complete);
        event_set(&pool.workers[i].trigger);
    }
    for (uint32_t i = helped; i < job->threads; i++) {
        colo_stats part = flush_share(job, i);
        add_stats(&sum, &part);
    }
    for (uint32_t i = 0; i < helped; i++) {
        event_wait(&pool.workers[i].complete);
        add_stats(&sum, &pool.workers[i].done);
    }
    return sum;
}

/* ---- the ABI ---- */

uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

int colo_plan(uint64_t pages, uint32_t threads, uint32_t thread, uint64_t *lower, uint64_t *upper)
{
    if (thread >= threads || !lower || !upper) {
        return -EINVAL;
    }
    share(pages, threads, thread, lower, upper);
    return 0;
}

int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats)
{
    int refused = check_call(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                             dirty_pages, threads);

    if (refused) {
        return refused;
    }

    uint64_t pages = pages_of(blocks, n_blocks, page_size);
    flush_job job = {
        .blocks = blocks,
        .n_blocks = n_blocks,
        .page_size = page_size,
        .cache_bitmap = cache_bitmap,
        .host_bitmap = host_bitmap,
        .pages = pages,
        .threads = working_threads(pages, threads),
    };

    pthread_mutex_lock(&pool.one_flush_at_a_time);
    colo_stats done = flush_in_parallel(&job);
    pthread_mutex_unlock(&pool.one_flush_at_a_time);

    if (stats) {
        *stats = done;
    }
    return settle_count(dirty_pages, done.cache_dirty);
}

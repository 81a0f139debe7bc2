/* SPDX-License-Identifier: MIT
 *
 * A port with a pool that waits on a condition variable and copies by vectors, with bugs in it, one at a
 * time: see port.c. What is wrong here is how threads wait, and how they are started.
 */
#define _GNU_SOURCE
#include "bug.h"
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum bug {
    bug_none,
    /* [many-calls] helpers that sleep, callers that change */
    bug_round_8,                /* rounds are numbered in a uint8_t */
    bug_round_16,               /* rounds are numbered in a uint16_t */
    bug_pool_of_first_caller,   /* only the thread that started the helpers waits for them */
    bug_helpers_of_each_thread, /* each calling thread counts its helpers, and all share their memory */
    bug_leaks_tallies,          /* a tally of each round is kept */
    bug_helpers_of_ended,       /* each calling thread has helpers of its own, which nobody ends */
    bug_never_sleeps,           /* a helper without work goes on looking for some */
    /* [caller/exits] when the process exits */
    bug_joins_at_exit,          /* helpers are joined that nobody has told to end */
    bug_aborts_at_exit,         /* a helper that is there still is an error (a C++ thread is destroyed) */
    /* [missing] threads and memory that cannot be had */
    bug_create_unchecked,       /* a helper that could not be started is waited for */
    bug_create_gives_up,        /* without a helper -EAGAIN is returned, and half is flushed */
    bug_its_share_lost,         /* the share of a helper that could not be started is nobody's */
    bug_tallies_unchecked,      /* memory for the tallies is taken to be there */
    /* [delays] lost wake-ups */
    bug_round_outside_lock,     /* the caller numbers the round outside the lock */
    bug_looks_before_lock,      /* a helper looks for work, then locks, then sleeps */
    bug_signals_one,            /* one helper is woken, whatever their number */
    bug_signals_before_round,   /* helpers are woken before there is a round */
    bug_one_condition,          /* caller and helpers wait on one condition, and one is woken */
    bug_done_outside_lock,      /* the last helper counts itself done outside the lock */
    bug_no_loop,                /* whoever is woken takes it for granted that there is work */
    /* [scale/waits-long delays] */
    bug_gives_up_after_50_ms,   /* the caller waits 50 ms at most */
    bug_gives_up_after_turns,   /* the caller waits for a million turns at most */
    /* [afterwards] whoever still looks when all is over */
    bug_reads_list_late,        /* race: a helper looks at the block list when it is done */
    bug_reads_bits_late,        /* race: a helper looks for more bits when it is done */
    bug_clears_late,            /* race: a helper clears its bits once more when it is done */
    bug_counts_late,            /* race: the last helper takes its pages off the dirty count */
    /* [vector/copying] the vectors */
    bug_tail_of_words,          /* words are looked at by fours, and the rest is left */
    bug_half_vector,            /* every other vector of a page is copied */
    bug_last_vector,            /* the last vector of a page is not copied */
    bug_signed_compare,         /* words are compared with 0 as signed numbers */
    bug_both_by_add,            /* cache and host words are added where they are to be ORed */
    /* [vector/copying/placed vector/copying/odd vector/copying/shifted] where memory lies */
    bug_vectors_aligned,        /* host and cache are taken to be aligned to 16 bytes */
    bug_cache_aligned,          /* once the host is aligned the cache is taken to be */
    /* [page-sizes] page sizes */
    bug_page_of_vectors,        /* pages are whole vectors, however small */
    bug_page_of_lines,          /* pages are copied by lines of 64 bytes, smaller ones too */
    /* [scale] large numbers */
    bug_cursor_16,              /* the cursor of words is a uint16_t */
    bug_claims_32,              /* the bytes below a share are a uint32_t */
    bug_tally_of_64,            /* there are tallies for 64 threads */
    bug_waits_for_8,            /* eight helpers are waited for, whatever their number */
};

enum { MOST_WORKERS = 256, WORDS_PER_BATCH = 4 };

typedef struct {
    const colo_block *blocks;
    size_t n_blocks;
    uint64_t page_size;
    uint64_t *cache, *host;
    uint64_t n_words;
    uint32_t workers;
    uint64_t *dirty_pages;
} job;

typedef struct {
    _Alignas(64) colo_stats done;
} tally;

/* ---- one page, one word ---- */

typedef uint64_t pair __attribute__((vector_size(16), may_alias));
typedef uint64_t loose __attribute__((vector_size(16), may_alias, aligned(1)));

static void copy_page(uint8_t *host, const uint8_t *cache, uint64_t size)
{
    uint64_t i = 0;

    if (HAS(vectors_aligned) || HAS(cache_aligned)) {
        for (; HAS(cache_aligned) && i < size && (uintptr_t)(host + i) % 16; i++) {
            host[i] = cache[i];
        }
        for (; i + 16 <= size; i += 16) {
            *(volatile pair *)(host + i) = *(const volatile pair *)(cache + i);
        }
    } else if (HAS(page_of_vectors) || HAS(page_of_lines)) {
        uint64_t step = HAS(page_of_lines) ? 64 : 16;

        for (; i < size; i += step) {
            memcpy(host + i, cache + i, step);
        }
        return;
    } else {
        for (; i + 16 <= size - (HAS(last_vector) ? 16 : 0); i += HAS(half_vector) ? 32 : 16) {
            *(loose *)(host + i) = *(const loose *)(cache + i);
        }
        if (HAS(last_vector) || HAS(half_vector)) {
            return;
        }
    }
    for (; i < size; i++) {
        host[i] = cache[i];
    }
}

static bool is_clean(uint64_t dirty)
{
    return HAS(signed_compare) ? (int64_t)dirty <= 0 : !dirty;
}

static void flush_word(const job *j, uint64_t w, colo_stats *done)
{
    uint64_t cache = j->cache[w], host = j->host[w];
    uint64_t dirty = HAS(both_by_add) ? cache + host : cache | host;

    if (is_clean(dirty)) {
        return;
    }
    for (size_t i = 0; i < j->n_blocks; i++) {
        const colo_block *b = &j->blocks[i];
        uint64_t first = b->first_bit, last = first + pages_in_use(b, j->page_size);
        uint64_t mine = pages_in_use(b, j->page_size) ? dirty & window_mask(w, first, last) : 0;

        for (; mine; mine &= mine - 1) {
            uint64_t at = (w * 64 + (uint64_t)__builtin_ctzll(mine) - first) * j->page_size;

            copy_page(b->host + at, b->cache + at, j->page_size);
        }
    }
    done->copied += (uint64_t)__builtin_popcountll(cache | host);
    done->host_dirty += (uint64_t)__builtin_popcountll(host);
    done->cache_dirty += (uint64_t)__builtin_popcountll(cache);
    done->both_dirty += (uint64_t)__builtin_popcountll(cache & host);
    j->cache[w] = 0;
    j->host[w] = 0;
}

/* ---- a round ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, one_flush = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, idle = PTHREAD_COND_INITIALIZER;
static volatile uint64_t round_number;
static volatile uint32_t inside;        /* helpers that have not done their part of this round */
static uint32_t running;                /* helpers that were started */
static volatile job now;
static atomic_uint_fast64_t cursor;
static atomic_uint_fast16_t small_cursor;
static tally tallies[MOST_WORKERS];

static job job_now(void)
{
    job copy;

    memcpy(&copy, (const void *)&now, sizeof copy);
    return copy;
}

static uint64_t number_of_round(void)
{
    return HAS(round_8) ? (uint8_t)round_number : HAS(round_16) ? (uint16_t)round_number : round_number;
}

static uint64_t next_batch(void)
{
    if (HAS(cursor_16)) {
        return (uint16_t)atomic_fetch_add(&small_cursor, WORDS_PER_BATCH);
    }
    return atomic_fetch_add(&cursor, WORDS_PER_BATCH);
}

static void flush_words(const job *j, uint64_t first, uint64_t last, colo_stats *done)
{
    for (uint64_t w = first; w < last; w++) {
        if (HAS(tail_of_words) && w % 4 == 0 && w + 4 > j->n_words) {
            return;
        }
        flush_word(j, w, done);
    }
}

/* Worker number `me` of the round does its part. */
static void do_part(uint32_t me)
{
    job j = job_now();
    colo_stats done = {0};

    if (HAS(claims_32)) {
        uint32_t chunk = (uint32_t)(j.n_words * 64 / j.workers) / 64 * 64, upper = (me + 1) * (chunk * 1024) / 1024;
        uint64_t last = me + 1 == j.workers ? j.n_words : upper / 64;
        uint64_t first = me + 1 == j.workers ? (uint64_t)me * chunk / 64 : last - chunk / 64;

        flush_words(&j, first, last, &done);
    } else if (HAS(its_share_lost) || HAS(gives_up_after_50_ms)) {
        flush_words(&j, me * j.n_words / j.workers, (me + UINT64_C(1)) * j.n_words / j.workers, &done);
    } else if (HAS(cursor_16) && j.n_words > 65532) {
        for (uint64_t batches = 0; batches < 65536 / WORDS_PER_BATCH; batches++) {
            uint64_t first = next_batch();

            flush_words(&j, first, first + WORDS_PER_BATCH, &done);
        }
    } else {
        for (uint64_t first = HAS(cursor_16) ? atomic_fetch_add(&cursor, WORDS_PER_BATCH) : next_batch();
             first < j.n_words;
             first = HAS(cursor_16) ? atomic_fetch_add(&cursor, WORDS_PER_BATCH) : next_batch()) {
            uint64_t last = first + WORDS_PER_BATCH < j.n_words ? first + WORDS_PER_BATCH : j.n_words;

            flush_words(&j, first, last, &done);
        }
    }
    tallies[HAS(tally_of_64) ? me % 64 : me].done = done;
}

/* What a helper does when its part is done, and the caller may have gone. */
static void linger(const job *j)
{
    if (HAS(reads_list_late) && j->n_blocks) {
        __asm__ volatile("" : : "r"(((const volatile colo_block *)j->blocks)->host) : "memory");
    } else if (HAS(reads_bits_late) && j->n_words) {
        __asm__ volatile("" : : "r"(*(volatile uint64_t *)j->host) : "memory");
    } else if (HAS(clears_late) && j->n_words) {
        *(volatile uint64_t *)j->cache &= 0;
    } else if (HAS(counts_late)) {
        *(volatile uint64_t *)j->dirty_pages -= 0;
    }
}

static void wait_for_work(uint64_t seen)
{
    pthread_cond_t *condition = &work;

    if (HAS(never_sleeps)) {
        while (number_of_round() == seen) {
        }
        pthread_mutex_lock(&lock);
        return;
    }
    if (HAS(looks_before_lock)) {
        if (number_of_round() == seen) {
            pthread_mutex_lock(&lock);
            pthread_cond_wait(condition, &lock);
        } else {
            pthread_mutex_lock(&lock);
        }
        return;
    }
    pthread_mutex_lock(&lock);
    if (HAS(no_loop)) {
        if (number_of_round() == seen) {
            pthread_cond_wait(condition, &lock);
        }
        return;
    }
    while (number_of_round() == seen) {
        pthread_cond_wait(condition, &lock);
    }
}

static void *helper_main(void *opaque)
{
    uint32_t me = (uint32_t)(uintptr_t)opaque;
    uint64_t seen = 0;

    for (;;) {
        wait_for_work(seen);
        seen = number_of_round();
        job j = job_now();
        bool wanted = me < j.workers && (inside || HAS(no_loop));

        pthread_mutex_unlock(&lock);
        if (!wanted) {
            continue;
        }
        do_part(me);
        if (HAS(done_outside_lock)) {
            inside = inside - 1;
            if (!inside) {
                pthread_cond_signal(&idle);
            }
            continue;
        }
        pthread_mutex_lock(&lock);
        inside = inside - 1;
        if (!inside) {
            pthread_cond_signal(HAS(one_condition) ? &work : &idle);
        }
        pthread_mutex_unlock(&lock);
        linger(&j);
    }
    return NULL;
}

static void *sleep_for_ever(void *unused)
{
    for (;;) {
        pause();
    }
    return unused;
}

static _Thread_local uint32_t mine;
static pthread_t first_caller, last_helper;

__attribute__((destructor)) static void end_at_exit(void)
{
    if (running && HAS(joins_at_exit)) {
        pthread_join(last_helper, NULL);
    } else if (running && HAS(aborts_at_exit)) {
        abort();
    }
}

/* Helpers 1 to wanted - 1, or as many as there can be; how many workers that makes. */
static uint32_t start_helpers(uint32_t wanted)
{
    uint32_t *count = HAS(helpers_of_each_thread) ? &mine : &running;

    while (*count + 1 < wanted) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, helper_main, (void *)(uintptr_t)(*count + 1)) &&
            !HAS(create_unchecked)) {
            break;
        }
        *count += 1;
        last_helper = thread;
        first_caller = *count == 1 ? pthread_self() : first_caller;
    }
    return *count + 1 < wanted ? *count + 1 : wanted;
}

static void wait_for_helpers(uint32_t workers)
{
    pthread_mutex_lock(&lock);
    if (HAS(gives_up_after_50_ms)) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 50000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while (inside && !pthread_cond_timedwait(&idle, &lock, &until)) {
        }
    } else if (HAS(gives_up_after_turns)) {
        pthread_mutex_unlock(&lock);
        for (int turn = 0; turn < 1000000 && inside; turn++) {
        }
        pthread_mutex_lock(&lock);
    } else if (HAS(waits_for_8)) {
        while (inside + 8 > workers && inside > (workers > 9 ? workers - 9 : 0)) {
            pthread_cond_wait(&idle, &lock);
        }
    } else if (HAS(no_loop)) {
        if (inside) {
            pthread_cond_wait(&idle, &lock);
        }
    } else {
        while (inside) {
            pthread_cond_wait(HAS(one_condition) ? &work : &idle, &lock);
        }
    }
    pthread_mutex_unlock(&lock);
}

static void open_round(const job *j, uint32_t workers)
{
    if (HAS(signals_before_round)) {
        pthread_cond_broadcast(&work);
    }
    if (!HAS(round_outside_lock)) {
        pthread_mutex_lock(&lock);
    }
    memcpy((void *)&now, j, sizeof *j);
    inside = workers - 1;
    round_number = round_number + 1;
    if (number_of_round() == 0 && !HAS(round_8) && !HAS(round_16)) {
        round_number = 1;
    }
    if (HAS(signals_one) || HAS(one_condition)) {
        pthread_cond_signal(&work);
    } else if (!HAS(signals_before_round)) {
        pthread_cond_broadcast(&work);
    }
    if (!HAS(round_outside_lock)) {
        pthread_mutex_unlock(&lock);
    }
}

static void add(colo_stats *sum, const colo_stats *part)
{
    sum->copied += part->copied;
    sum->host_dirty += part->host_dirty;
    sum->cache_dirty += part->cache_dirty;
    sum->both_dirty += part->both_dirty;
}

static int flush(job *j, uint32_t threads, colo_stats *sum)
{
    uint32_t wanted = threads < MOST_WORKERS ? threads : MOST_WORKERS;
    uint32_t workers = start_helpers(wanted);
    colo_stats *kept = NULL;

    if (HAS(helpers_of_ended) && !mine++) {
        pthread_t own;

        pthread_create(&own, NULL, sleep_for_ever, NULL);
    }

    if (HAS(create_gives_up) && workers < wanted) {
        j->host[0] = 0;
        return -EAGAIN;
    }
    if (HAS(tallies_unchecked) || HAS(leaks_tallies)) {
        kept = malloc(4096);
        *(volatile uint64_t *)kept = 0;
        if (HAS(leaks_tallies)) {
            __asm__ volatile("" : : "r"(kept) : "memory");
            kept = NULL;
        }
    }
    j->workers = HAS(its_share_lost) ? wanted : workers;
    atomic_store(&cursor, 0);
    atomic_store(&small_cursor, 0);
    memset(tallies, 0, sizeof tallies);
    if (workers > 1) {
        open_round(j, workers);
    } else {
        memcpy((void *)&now, j, sizeof *j);
        round_number = round_number + (HAS(round_8) || HAS(round_16));
    }
    do_part(0);
    if (workers > 1 && !(HAS(pool_of_first_caller) && !pthread_equal(pthread_self(), first_caller))) {
        wait_for_helpers(workers);
    }
    for (uint32_t i = 0; i < workers; i++) {
        if (i == 0 || !HAS(pool_of_first_caller) || pthread_equal(pthread_self(), first_caller)) {
            add(sum, &tallies[i].done);
        }
    }
    free(kept);
    return 0;
}

uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats)
{
    job j = {blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words, 0, dirty_pages};
    colo_stats done = {0};
    int refused = check_call(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                             dirty_pages, threads);

    if (refused) {
        return refused;
    }
    pthread_mutex_lock(&one_flush);
    refused = flush(&j, threads, &done);
    pthread_mutex_unlock(&one_flush);
    if (refused) {
        return refused;
    }
    if (stats) {
        *stats = done;
    }
    return settle_count(dirty_pages, done.cache_dirty);
}

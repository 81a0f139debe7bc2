/* SPDX-License-Identifier: MIT
 *
 * How fast can these pages be copied at all? No bitmap, no search, no dispatch: a list of pages, known
 * beforehand, split evenly by number, copied by threads that are already running. The time is taken
 * from the moment all are ready to the moment all have finished. The benchmark's upper bound.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "colo_flush.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MODE_MEMCPY, MODE_STREAM, MODE_STREAM_AHEAD, MODES };

typedef struct {
    uint8_t *const *to;
    const uint8_t *const *from;
    size_t first, last;
    size_t page_size;
    int mode;
    atomic_uint *ready, *go;
} part;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void stream_512(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 256) {
        __m512i a = _mm512_loadu_si512(from + i), b = _mm512_loadu_si512(from + i + 64);
        __m512i c = _mm512_loadu_si512(from + i + 128), d = _mm512_loadu_si512(from + i + 192);

        _mm512_stream_si512((__m512i *)(to + i), a);
        _mm512_stream_si512((__m512i *)(to + i + 64), b);
        _mm512_stream_si512((__m512i *)(to + i + 128), c);
        _mm512_stream_si512((__m512i *)(to + i + 192), d);
    }
}

static void stream_128(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        _mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
    }
}

static void fence(void)
{
    _mm_sfence();
}
#else
static void fence(void)
{
}
#endif

typedef void copy_function(uint8_t *, const uint8_t *, size_t);

static void plain(uint8_t *to, const uint8_t *from, size_t n)
{
    memcpy(to, from, n);
}

static copy_function *best_stream(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") ? stream_512 : stream_128;
#else
    return plain;
#endif
}

static void copy_part(const part *p)
{
    copy_function *copy = p->mode == MODE_MEMCPY ? plain : best_stream();

    for (size_t i = p->first; i < p->last; i++) {
        if (p->mode == MODE_STREAM_AHEAD && i + 1 < p->last) {
            for (size_t line = 0; line < 8; line++) {
                __builtin_prefetch(p->from[i + 1] + 64 * line);
            }
        }
        copy(p->to[i], p->from[i], p->page_size);
    }
    fence();
}

static void *run(void *opaque)
{
    part *p = opaque;

    atomic_fetch_add(p->ready, 1);
    while (!atomic_load(p->go)) {
    }
    copy_part(p);
    atomic_fetch_add(p->ready, 1);
    return NULL;
}

static uint64_t nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Copies n pages; to must be 64-byte aligned unless the mode is memcpy. Returns nanoseconds, 0 if the
 * threads could not be made. */
uint64_t ceiling_copy(uint8_t *const *to, const uint8_t *const *from, size_t n, size_t page_size,
                      uint32_t threads, int mode)
{
    atomic_uint ready = 0, go = 0;
    part *parts = calloc(threads, sizeof(*parts));
    pthread_t *others = calloc(threads, sizeof(*others));
    uint64_t begin = 0, end = 0;
    uint32_t made = 1;

    if (parts && others) {
        for (uint32_t t = 0; t < threads; t++) {
            parts[t] = (part){to, from, n * t / threads, n * (t + 1) / threads, page_size, mode,
                              &ready, &go};
        }
        while (made < threads && !pthread_create(&others[made], NULL, run, &parts[made])) {
            made++;
        }
        while (atomic_load(&ready) < made - 1) {
        }
        begin = nanoseconds();
        atomic_store(&go, 1);
        copy_part(&parts[0]);
        while (atomic_load(&ready) < 2 * (made - 1)) {
        }
        end = nanoseconds();
        for (uint32_t t = 1; t < made; t++) {
            pthread_join(others[t], NULL);
        }
    }
    free(parts);
    free(others);
    return made == threads ? end - begin : 0;
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t or_512(const uint64_t *words, size_t n)
{
    __m512i seen = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += 8) {
        seen = _mm512_or_si512(seen, _mm512_loadu_si512(words + i));
    }
    return (uint64_t)_mm512_reduce_or_epi64(seen);
}
#endif

/* Reads n words, a multiple of 8, and returns their OR: how fast can a bitmap be read at all? */
uint64_t ceiling_read(const uint64_t *words, size_t n)
{
    uint64_t seen = 0;

#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        return or_512(words, n);
    }
#endif
    for (size_t i = 0; i < n; i++) {
        seen |= words[i];
    }
    return seen;
}

typedef int flush_function(const colo_block *, size_t, uint64_t, uint64_t *, uint64_t *, size_t,
                           uint64_t *, uint32_t, colo_stats *);

/* One call of a port, timed here so that the way from Python is left out. Returns its status. */
int timed_flush(flush_function *flush, const colo_block *blocks, size_t n_blocks,
                uint64_t page_size, uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
                uint64_t *dirty_pages, uint32_t threads, colo_stats *stats, uint64_t *took)
{
    uint64_t begin = nanoseconds();
    int status = flush(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                       dirty_pages, threads, stats);

    *took = nanoseconds() - begin;
    return status;
}

/* Calls a port again and again, as a guest that stands still would, for ThreadSanitizer to watch.
 *
 * Two blocks that share a word of the bitmaps; the number of threads changes from call to call; between
 * two calls the "guest" writes its memory and marks it. Usage: thread_sanitizer ROUNDS. Exit 1 if a
 * flush is wrong; ThreadSanitizer ends the process with a status of its own.
 */
#include "colo_flush.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LLVM, and so Rust, calls these; gcc's ThreadSanitizer does not have them, but watches the originals. */
__attribute__((weak)) void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    return memcpy(to, from, n);
}

__attribute__((weak)) void *__tsan_memmove(void *to, const void *from, size_t n)
{
    return memmove(to, from, n);
}

__attribute__((weak)) void *__tsan_memset(void *to, int value, size_t n)
{
    return memset(to, value, n);
}

enum { PAGE = 1024, FIRST = 1000, SECOND = 15000, PAGES = FIRST + SECOND, WORDS = (PAGES + 63) / 64 };

static uint8_t host[PAGES * PAGE], cache[PAGES * PAGE];
static uint64_t cache_bitmap[WORDS], host_bitmap[WORDS];

static uint64_t drawn(void)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Write and mark about this many eighths of the pages; their number in the cache's bitmap. */
static uint64_t dirty_some(unsigned eighths)
{
    uint64_t received = 0;

    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t bit = UINT64_C(1) << page % 64;

        if (drawn() % 8 < eighths) {
            memset(cache + page * PAGE, (int)drawn(), PAGE);
            cache_bitmap[page / 64] |= bit;
            received++;
        }
        if (drawn() % 8 < eighths) {
            memset(host + page * PAGE, (int)drawn(), PAGE);
            host_bitmap[page / 64] |= bit;
        }
    }
    return received;
}

int main(int argc, char **argv)
{
    static const uint32_t threads[] = {4, 2, 8, 3, 1};
    long rounds = argc == 2 ? atol(argv[1]) : 0;
    colo_block blocks[] = {
        {0, FIRST * PAGE, FIRST * PAGE, 0, host, cache},
        {FIRST * PAGE, SECOND * PAGE, SECOND * PAGE, FIRST, host + FIRST * PAGE, cache + FIRST * PAGE},
    };

    if (rounds < 1) {
        fprintf(stderr, "usage: %s ROUNDS\n", argv[0]);
        return 2;
    }
    for (long round = 0; round < rounds; round++) {
        uint64_t dirty = dirty_some(round % 7);
        colo_stats stats;
        int status = colo_flush(blocks, 2, PAGE, cache_bitmap, host_bitmap, WORDS, &dirty,
                                threads[round % 5], &stats);

        if (status || dirty || memcmp(host, cache, sizeof host)) {
            fprintf(stderr, "round %ld: status %d, count %llu, memory %s\n", round, status,
                    (unsigned long long)dirty, memcmp(host, cache, sizeof host) ? "differs" : "equal");
            return 1;
        }
    }
    return 0;
}

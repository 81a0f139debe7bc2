/* SPDX-License-Identifier: MIT
 *
 * Calls over one block whose memory the check brings itself, judged by the numbers and the bits; the
 * pages are looked at by whoever knows what they hold.
 */
#ifndef COLO_ONE_BLOCK_H
#define COLO_ONE_BLOCK_H

#include "kit.h"

typedef struct {
    colo_block block;
    uint64_t page_size, pages;
    uint64_t *cache_bitmap, *host_bitmap;
    size_t n_words;
    uint32_t threads;
} one_block;

static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

/* Memory that another process could map, as the memory of a guest is. */
KIT_UNUSED static void *reserve_shared(size_t size)
{
    int file = memfd_create("colo-kit", 0);
    void *memory = file < 0 || ftruncate(file, (off_t)size)
                       ? MAP_FAILED
                       : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    if (memory == MAP_FAILED) {
        perror("memfd");
        exit(2);
    }
    close(file);
    return memory;
}

KIT_UNUSED static one_block with_memory(uint64_t page_size, uint64_t pages, uint32_t threads,
                                        uint8_t *host, const uint8_t *cache)
{
    size_t n_words = (size_t)((pages + 63) / 64);

    return (one_block){
        .block = {0, pages * page_size, pages * page_size, 0, host, cache},
        .page_size = page_size,
        .pages = pages,
        .cache_bitmap = reserve(8 * n_words),
        .host_bitmap = reserve(8 * n_words),
        .n_words = n_words,
        .threads = threads,
    };
}

KIT_UNUSED static one_block new_block(uint64_t page_size, uint64_t pages, uint32_t threads)
{
    return with_memory(page_size, pages, threads, reserve(pages * page_size),
                       reserve(pages * page_size));
}

KIT_UNUSED static uint8_t *host_page(const one_block *b, uint64_t page)
{
    return b->block.host + page * b->page_size;
}

/* The cache is only read by ports; here it is written, before a call. */
KIT_UNUSED static uint8_t *cache_page(const one_block *b, uint64_t page)
{
    return (uint8_t *)(uintptr_t)b->block.cache + page * b->page_size;
}

enum { IN_CACHE = 1, IN_HOST = 2 };

KIT_UNUSED static void mark(one_block *b, uint64_t page, int where)
{
    if (where & IN_CACHE) {
        b->cache_bitmap[page / 64] |= UINT64_C(1) << page % 64;
    }
    if (where & IN_HOST) {
        b->host_bitmap[page / 64] |= UINT64_C(1) << page % 64;
    }
}

KIT_UNUSED static void mark_all(one_block *b, int where)
{
    for (uint64_t page = 0; page < b->pages; page++) {
        mark(b, page, where);
    }
}

/* Flushes, and judges all but the pages. `more` is what the dirty count is too high by. */
KIT_UNUSED static int flush_and_judge(one_block *b, uint64_t more, const char *during)
{
    colo_stats stats = {9, 9, 9, 9}, want = {0, 0, 0, 0};
    uint64_t count;
    int status;

    for (size_t w = 0; w < b->n_words; w++) {
        uint64_t cache = b->cache_bitmap[w], host = b->host_bitmap[w];

        if (cache | host) {
            want.copied += (uint64_t)__builtin_popcountll(cache | host);
            want.host_dirty += (uint64_t)__builtin_popcountll(host);
            want.cache_dirty += (uint64_t)__builtin_popcountll(cache);
            want.both_dirty += (uint64_t)__builtin_popcountll(cache & host);
        }
    }
    count = want.cache_dirty + more;
    status = kit_flush(&b->block, 1, b->page_size, b->cache_bitmap, b->host_bitmap, b->n_words, &count,
                       b->threads, &stats);
    if (status != (more ? -ERANGE : 0)) {
        kit_wrong("accepts", "returned %d (%s)", status, during);
    }
    for (size_t w = 0; w < b->n_words; w++) {
        if (b->cache_bitmap[w] | b->host_bitmap[w]) {
            kit_wrong("clears", "bits are left in word %zu (%s)", w, during);
            break;
        }
    }
    if (count != more) {
        kit_wrong("count", "dirty_pages is %#llx, not %#llx (%s)", (unsigned long long)count,
                  (unsigned long long)more, during);
    }
    if (memcmp(&stats, &want, sizeof stats)) {
        kit_wrong("stats", "copied %llu, host %llu, cache %llu, both %llu; not %llu, %llu, %llu, %llu (%s)",
                  (unsigned long long)stats.copied, (unsigned long long)stats.host_dirty,
                  (unsigned long long)stats.cache_dirty, (unsigned long long)stats.both_dirty,
                  (unsigned long long)want.copied, (unsigned long long)want.host_dirty,
                  (unsigned long long)want.cache_dirty, (unsigned long long)want.both_dirty, during);
    }
    return status;
}

/* Is the page as its cache page? */
KIT_UNUSED static void must_be_copied(const one_block *b, uint64_t page, const char *during)
{
    if (memcmp(host_page(b, page), cache_page(b, page), b->page_size)) {
        kit_wrong("copies-dirty", "page %llu is dirty and was not copied, whole (%s)",
                  (unsigned long long)page, during);
    }
}

KIT_UNUSED static void must_all_be_copied(const one_block *b, const char *during)
{
    for (uint64_t page = 0; page < b->pages; page++) {
        must_be_copied(b, page, during);
    }
}

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#endif

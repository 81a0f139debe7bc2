/* SPDX-License-Identifier: MIT
 *
 * A right port of another kind: the kernel writes the host's memory, by process_vm_writev, from helpers
 * that block every signal. (QEMU's threads do, but for those that handle signals.)
 */
#define _GNU_SOURCE
#include "walk.h"

#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct {
    const colo_block *blocks;
    size_t n_blocks;
    uint64_t page_size;
    uint64_t *cache, *host;
    size_t n_words;
    uint32_t worker, workers;
    colo_stats done;
} part;

static void copy_by_kernel(uint8_t *host, const uint8_t *cache, uint64_t bytes)
{
    while (bytes) {
        struct iovec from = {(void *)(uintptr_t)cache, bytes}, to = {host, bytes};
        ssize_t written = process_vm_writev(getpid(), &from, 1, &to, 1, 0);

        if (written <= 0) {             /* not allowed here, or not of this kind of memory */
            memcpy(host, cache, bytes);
            return;
        }
        host += written;
        cache += written;
        bytes -= (uint64_t)written;
    }
}

static void flush_word_of(part *p, const colo_block *b, uint64_t word)
{
    uint64_t first = b->first_bit, last = first + pages_in_use(b, p->page_size);
    uint64_t mask = window_mask(word, first, last);
    uint64_t cache = p->cache[word] & mask, host = p->host[word] & mask;

    for (uint64_t dirty = cache | host; dirty; dirty &= dirty - 1) {
        uint64_t at = (word * 64 + (uint64_t)__builtin_ctzll(dirty) - first) * p->page_size;

        copy_by_kernel(b->host + at, b->cache + at, p->page_size);
    }
    p->done.copied += (uint64_t)__builtin_popcountll(cache | host);
    p->done.host_dirty += (uint64_t)__builtin_popcountll(host);
    p->done.cache_dirty += (uint64_t)__builtin_popcountll(cache);
    p->done.both_dirty += (uint64_t)__builtin_popcountll(cache & host);
    p->cache[word] &= ~mask;
    p->host[word] &= ~mask;
}

static void *flush_part(void *opaque)
{
    part *p = opaque;
    uint64_t from = p->n_words * p->worker / p->workers, to = p->n_words * (p->worker + 1) / p->workers;

    for (size_t i = 0; i < p->n_blocks; i++) {
        const colo_block *b = &p->blocks[i];
        uint64_t pages = pages_in_use(b, p->page_size), word = b->first_bit / 64;
        uint64_t end = pages ? (b->first_bit + pages + 63) / 64 : 0;

        for (word = word < from ? from : word; word < end && word < to; word++) {
            if (p->cache[word] | p->host[word]) {
                flush_word_of(p, b, word);
            }
        }
    }
    return NULL;
}

uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
               uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
               uint64_t *dirty_pages, uint32_t threads, colo_stats *stats)
{
    enum { MOST = 4 };
    part parts[MOST];
    pthread_t helpers[MOST];
    bool started[MOST] = {false};
    uint32_t workers = threads < MOST ? threads : MOST;
    sigset_t all, before;
    colo_stats sum = {0};
    int refused = check_call(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words,
                             dirty_pages, threads);

    if (refused) {
        return refused;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (uint32_t i = 0; i < workers; i++) {
        parts[i] = (part){blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words, i, workers, {0}};
        started[i] = i && !pthread_create(&helpers[i], NULL, flush_part, &parts[i]);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (uint32_t i = 0; i < workers; i++) {
        if (!started[i]) {
            flush_part(&parts[i]);
        }
    }
    for (uint32_t i = 0; i < workers; i++) {
        if (started[i]) {
            pthread_join(helpers[i], NULL);
        }
        sum.copied += parts[i].done.copied;
        sum.host_dirty += parts[i].done.host_dirty;
        sum.cache_dirty += parts[i].done.cache_dirty;
        sum.both_dirty += parts[i].done.both_dirty;
    }
    if (stats) {
        *stats = sum;
    }
    return settle_count(dirty_pages, sum.cache_dirty);
}

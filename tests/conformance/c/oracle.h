/* SPDX-License-Identifier: MIT
 *
 * What must be seen after a call of colo_flush: the clauses of colo_flush.h, one by one and slowly.
 * Tested against the model on every vector of the kit and on thousands of random calls.
 */
#ifndef COLO_ORACLE_H
#define COLO_ORACLE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Buffers end at memory that cannot be touched, or begin at it; host and cache an odd byte off every
 * alignment, or each by another odd number of bytes. */
enum kit_place { KIT_HIGH, KIT_LOW, KIT_ODD, KIT_SHIFTED };

/* A colo_block without its pointers. */
typedef struct {
    uint64_t first_bit, used_length, max_length, offset;
} kit_block;

/* The arguments of a call. null: the names of those that are NULL, a space between two. */
typedef struct {
    const char *name;
    uint64_t page_size;
    const kit_block *blocks;
    size_t n_blocks;
    const uint64_t *cache, *host;
    size_t n_words;
    uint64_t dirty_pages;
    uint32_t threads;
    const char *null;
    enum kit_place place;
} kit_call;

/* may_refuse: -EINVAL, with nothing changed, is right as well. */
typedef struct {
    int status;
    bool may_refuse;
    const char *why;
    uint64_t dirty_pages, stats[4];
} kit_expected;

enum {
    KIT_WORD = 64,
    KIT_MOST_MEMORY = 48 << 20, /* no call has more for a block; one that claims to is refused */
    KIT_LEAST_PAGE = 1 << 10,   /* page sizes that every port must flush */
    KIT_LARGEST_PAGE = 2 << 20,
};

static inline size_t kit_memory_of(const kit_block *block)
{
    return block->used_length <= KIT_MOST_MEMORY ? (size_t)block->used_length : 4096;
}

static inline bool kit_names(const kit_call *call, const char *name)
{
    size_t length = strlen(name);
    const char *found = call->null ? strstr(call->null, name) : NULL;

    return found && (found[length] == ' ' || found[length] == 0);
}

static inline bool kit_is_dirty(const kit_call *call, uint64_t bit)
{
    return bit / KIT_WORD < call->n_words &&
           (call->cache[bit / KIT_WORD] | call->host[bit / KIT_WORD]) >> bit % KIT_WORD & 1;
}

static inline bool kit_owns(const kit_block *block, uint64_t page_size, uint64_t bit)
{
    return bit >= block->first_bit && bit - block->first_bit < block->used_length / page_size;
}

static inline bool kit_overlap(const kit_block *a, const kit_block *b, uint64_t page_size)
{
    return a->used_length && b->used_length && (kit_owns(a, page_size, b->first_bit) ||
                                                kit_owns(b, page_size, a->first_bit));
}

static inline const char *kit_why_unsound(const kit_call *call, size_t i)
{
    const kit_block *b = &call->blocks[i];
    uint64_t size = call->page_size, pages = b->used_length / size;
    uint64_t bits = (uint64_t)call->n_words * KIT_WORD;
    char host[32], cache[32];

    if (b->offset % size || b->used_length % size || b->max_length % size) {
        return "an offset or a length is not page aligned";
    }
    if (b->max_length < b->used_length) {
        return "max_length < used_length";
    }
    snprintf(host, sizeof host, "host[%zu]", i);
    snprintf(cache, sizeof cache, "cache[%zu]", i);
    if (pages && (kit_names(call, host) || kit_names(call, cache))) {
        return "a block's memory is NULL";
    }
    if (pages && (b->first_bit >= bits || pages > bits - b->first_bit)) {
        return "used pages reach past the bitmaps";
    }
    return NULL;
}

/* The first clause by which the call must be refused, or NULL. */
static inline const char *kit_why_refused(const kit_call *call)
{
    uint64_t size = call->page_size;

    if (!call->threads) {
        return "threads is 0";
    }
    if (kit_names(call, "dirty_pages")) {
        return "dirty_pages is NULL";
    }
    if (!size || size & (size - 1)) {
        return "page_size is not a power of two";
    }
    if (call->n_blocks && kit_names(call, "blocks")) {
        return "blocks is NULL";
    }
    if (call->n_words && (kit_names(call, "cache_bitmap") || kit_names(call, "host_bitmap"))) {
        return "a bitmap is NULL";
    }
    for (size_t i = 0; i < call->n_blocks; i++) {
        const char *why = kit_why_unsound(call, i);

        for (size_t j = 0; j < i && !why; j++) {
            why = kit_overlap(&call->blocks[i], &call->blocks[j], size)
                      ? "used pages of two blocks overlap"
                      : NULL;
        }
        if (why) {
            return why;
        }
    }
    for (uint64_t bit = 0; bit < (uint64_t)call->n_words * KIT_WORD; bit++) {
        bool owned = !kit_is_dirty(call, bit);

        for (size_t i = 0; i < call->n_blocks && !owned; i++) {
            owned = kit_owns(&call->blocks[i], size, bit);
        }
        if (!owned) {
            return "a bit is set outside every block's used pages";
        }
    }
    return NULL;
}

static inline kit_expected kit_refusal(const kit_call *call)
{
    return (kit_expected){.status = -EINVAL, .why = "", .dirty_pages = call->dirty_pages};
}

/* The one outcome that the ABI allows, or the two. */
static inline kit_expected kit_expect(const kit_call *call)
{
    const char *why = kit_why_refused(call);
    kit_expected expected = kit_refusal(call);

    if (why) {
        expected.why = why;
        return expected;
    }
    for (size_t w = 0; w < call->n_words; w++) {
        uint64_t cache = call->cache[w], host = call->host[w];

        for (unsigned bit = 0; bit < KIT_WORD; bit++) {
            bool in_cache = cache >> bit & 1, in_host = host >> bit & 1;

            expected.stats[0] += in_cache || in_host;
            expected.stats[1] += in_host;
            expected.stats[2] += in_cache;
            expected.stats[3] += in_cache && in_host;
        }
    }
    expected.dirty_pages = call->dirty_pages - expected.stats[2];
    expected.status = expected.dirty_pages ? -ERANGE : 0;
    expected.may_refuse = call->page_size < KIT_LEAST_PAGE || call->page_size > KIT_LARGEST_PAGE;
    return expected;
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * Large numbers, with little memory behind them: runs of gigabytes, tens of thousands of dirty pages,
 * hundreds of threads, a million blocks.
 */
#include "one_block.h"

enum { PIECE = 2 << 20 };

/* ---- long runs: 2 MiB of memory, mapped again and again between a first and a last piece ---- */

static uint8_t *repeated(uint64_t pieces, uint64_t stream)
{
    int file = memfd_create("colo-kit", 0);
    uint8_t *start = mmap(NULL, pieces * PIECE, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (file < 0 || ftruncate(file, 3 * (off_t)PIECE) || start == MAP_FAILED) {
        perror("memory");
        exit(2);
    }
    for (uint64_t i = 0; i < pieces; i++) {
        off_t from = i == 0 ? 0 : i == pieces - 1 ? 2 * (off_t)PIECE : PIECE;

        if (mmap(start + i * PIECE, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
                 from) == MAP_FAILED) {
            perror("mmap");
            exit(2);
        }
    }
    close(file);
    kit_fill(start, 2 * PIECE, stream);
    kit_fill(start + (pieces - 1) * PIECE, PIECE, stream + 1);
    return start;
}

static one_block repeated_block(uint64_t page_size, uint64_t pages, uint32_t threads)
{
    uint64_t pieces = (pages * page_size + PIECE - 1) / PIECE;

    return with_memory(page_size, pages, threads, repeated(pieces, 1), repeated(pieces, 11));
}

static void flush_pages(one_block *b, uint64_t first, uint64_t last, const char *during)
{
    for (uint64_t page = first; page < last; page++) {
        mark(b, page, 1 + (int)(page % 3));
    }
    flush_and_judge(b, 0, during);
    for (uint64_t page = first; page < last; page += page + 600 < last ? 97 : 1) {
        must_be_copied(b, page, during);
    }
}

static void run_of(uint64_t bytes)
{
    one_block b = repeated_block(4096, bytes / 4096 + 512, 1);

    flush_pages(&b, 0, b.pages, "every page is dirty");
}

static void run_2_gib(void)
{
    run_of(UINT64_C(2) << 30);
}

static void run_4_gib(void)
{
    run_of(UINT64_C(4) << 30);
}

static void many_dirty_pages(void)
{
    for (uint32_t threads = 1; threads <= 3; threads++) {
        one_block b = repeated_block(1024, 70001, threads);

        flush_pages(&b, 0, b.pages, "70,001 dirty pages");
    }
}

/* All of the work is one helper's, where each has a share: the caller waits for it. */
static void waits_long(void)
{
    for (uint32_t threads = 2; threads <= 4; threads += 2) {
        one_block b = repeated_block(4096, (UINT64_C(2) << 30) / 4096, threads);

        flush_pages(&b, b.pages - b.pages / 4, b.pages, "512 MiB are one helper's");
    }
}

/* Two blocks, one after the other in the bitmaps, and all of it dirty: whole words of ones, far more of
 * them than anybody looks at at once, and in the midst of them a block ends. Behind its memory lies none. */
static uint8_t *ending_at_a_guard(size_t size)
{
    size_t inside = (size + KIT_OS_PAGE - 1) / KIT_OS_PAGE * KIT_OS_PAGE;
    uint8_t *memory = reserve(inside + KIT_GUARD);

    mprotect(memory + inside, KIT_GUARD, PROT_NONE);
    return memory + inside - size;
}

static void full_words(uint64_t words, uint64_t border)
{
    enum { SIZE = 1024 };
    uint64_t pages[2] = {border, words * 64 - border};
    one_block b[2];
    colo_block list[2];
    uint64_t count = words * 64, *cache = reserve(8 * words), *host = reserve(8 * words);

    for (int i = 0; i < 2; i++) {
        b[i] = with_memory(SIZE, pages[i], 2, ending_at_a_guard(pages[i] * SIZE),
                           ending_at_a_guard(pages[i] * SIZE));
        kit_fill(cache_page(&b[i], 0), pages[i] * SIZE, (uint64_t)i + 1);
        list[i] = b[i].block;
        list[i].first_bit = i ? border : 0;
    }
    memset(cache, 0xFF, 8 * words);
    if (kit_flush(list, 2, SIZE, cache, host, words, &count, 2, NULL) || count) {
        kit_wrong("accepts", "%llu words of ones, two blocks: not flushed", (unsigned long long)words);
    }
    for (int i = 0; i < 2; i++) {
        must_all_be_copied(&b[i], "a block ends among words of ones");
    }
}

static void ends_in_full_words(void)
{
    static const uint64_t words[] = {18, 130, 1030};

    for (size_t i = 0; i < COUNT_OF(words) && !kit_failures; i++) {
        full_words(words[i], words[i] / 2 * 64);
        full_words(words[i], words[i] / 2 * 64 + 5);
    }
}

/* ---- many threads ---- */

/* Dirty pages on both sides of each border that a share may have. */
static void shares_of(uint32_t threads, uint64_t pages)
{
    one_block b = new_block(1024, pages, threads);
    uint64_t n_marked = 0, *marked = calloc(4 * threads + 8, sizeof *marked);

    for (uint64_t i = 0; i <= threads; i++) {
        uint64_t border = pages / threads * i / 64 * 64;

        marked[n_marked++] = border < pages ? border : pages - 1;
        marked[n_marked++] = border ? border - 1 : 1;
        marked[n_marked++] = (border + pages / threads / 2) % pages;
    }
    marked[n_marked++] = pages - 1;
    for (uint64_t i = 0; i < n_marked; i++) {
        kit_fill(cache_page(&b, marked[i]), b.page_size, marked[i] + 1);
        mark(&b, marked[i], 1 + (int)(i % 3));
    }
    flush_and_judge(&b, 0, "many threads");
    for (uint64_t i = 0; i < n_marked; i++) {
        must_be_copied(&b, marked[i], "many threads");
    }
    munmap(b.block.host, pages * 1024);
    munmap((void *)(uintptr_t)b.block.cache, pages * 1024);
    free(marked);
}

static void shares_64(void)
{
    shares_of(64, (UINT64_C(1) << 27) + 321);
}

static void shares_255(void)
{
    shares_of(255, (UINT64_C(1) << 27) + 321);
}

static void threads_and_words(void)
{
    static const uint32_t threads[] = {65, 100, 200, 257, 1000};

    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        one_block b = new_block(1024, 300 * 64 + 7, threads[i]);

        kit_fill(cache_page(&b, 0), b.pages * 1024, i + 1);
        mark_all(&b, 1 + (int)(i % 3));
        flush_and_judge(&b, 0, "more threads than 64, and more words");
        must_all_be_copied(&b, "more threads than 64, and more words");
        munmap(b.block.host, b.pages * 1024);
        munmap((void *)(uintptr_t)b.block.cache, b.pages * 1024);
    }
}

/* ---- many blocks ---- */

/* One page each, a bit of hole between two, in no order; every `in_use`-th has a page at all. */
static void blocks_of(size_t n, size_t in_use, bool overlap)
{
    colo_block *blocks = calloc(n, sizeof *blocks);
    size_t used = (n + in_use - 1) / in_use, n_words = (2 * used + 63) / 64;
    uint8_t *host = reserve(1024 * used), *cache = reserve(1024 * used);
    uint64_t *cache_bitmap = reserve(8 * n_words), *host_bitmap = reserve(8 * n_words), count = 0;
    size_t stride = used > 7 ? used / 7 * 4 + 1 : 1;
    colo_stats stats = {9, 9, 9, 9};
    uint64_t dirty = 0;
    int status;

    while (used % stride == 0 && stride > 1) {
        stride++;
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = i / in_use * stride % used;
        bool empty = i % in_use != 0;
        uint64_t bytes = empty ? 0 : 1024;

        blocks[i] = (colo_block){2 * at * 1024, bytes, 1024, empty ? UINT64_MAX : 2 * at,
                                 empty ? NULL : host + at * 1024, empty ? NULL : cache + at * 1024};
        if (!empty && (i < 5 || i > n - 5 - in_use || (i > 65530 && i < 65540) || i % 997 == 0) &&
            !(cache_bitmap[2 * at / 64] >> 2 * at % 64 & 1)) {
            kit_fill(cache + at * 1024, 1024, at + 1);
            cache_bitmap[2 * at / 64] |= UINT64_C(1) << 2 * at % 64;
            dirty++;
        }
    }
    if (overlap) {
        blocks[n - 1].first_bit = blocks[n / 3].first_bit;
        memset(cache_bitmap, 0, 8 * n_words);
        dirty = 0;
    }
    count = dirty;
    status = kit_flush(blocks, n, 1024, cache_bitmap, host_bitmap, n_words, &count, 3, &stats);
    if (status != (overlap ? -EINVAL : 0)) {
        kit_wrong(overlap ? "refuses" : "accepts", "%zu blocks: returned %d", n, status);
    }
    if (!overlap && (count || stats.copied != dirty)) {
        kit_wrong("count", "%zu blocks, %llu dirty pages: copied %llu, dirty_pages %llu", n,
                  (unsigned long long)dirty, (unsigned long long)stats.copied,
                  (unsigned long long)count);
    }
    for (size_t at = 0; at < used && !overlap; at++) {
        if (cache_bitmap[2 * at / 64] >> 2 * at % 64 & 1 || cache[at * 1024] != host[at * 1024]) {
            kit_wrong("copies-dirty", "%zu blocks: the page of bit %zu was not flushed", n, 2 * at);
        }
    }
}

static void blocks_5000(void)
{
    blocks_of(5000, 1, false);
}

static void blocks_70000(void)
{
    blocks_of(70000, 1, false);
}

static void blocks_70000_overlap(void)
{
    blocks_of(70000, 1, true);
}

static void blocks_400000(void)
{
    blocks_of(400000, 1, false);
}

static void blocks_1000000_empty(void)
{
    blocks_of(1000000, 200, false);
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"dirty-70000", many_dirty_pages},
        {"ends-in-full-words", ends_in_full_words},
        {"threads-and-words", threads_and_words},
        {"shares-64", shares_64},
        {"shares-255", shares_255},
        {"blocks-5000", blocks_5000},
        {"blocks-70000", blocks_70000},
        {"blocks-70000-overlap", blocks_70000_overlap},
        {"blocks-1000000-empty", blocks_1000000_empty},
        {"blocks-400000", blocks_400000},
        {"waits-long", waits_long},
        {"run-2GiB", run_2_gib},
        {"run-4GiB", run_4_gib},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}

/* SPDX-License-Identifier: MIT
 *
 * What pages hold is no business of a flush: it copies what is dirty. Pages of zeros, equal pages,
 * pages that differ in one byte, pages of equal sums; contents that change from call to call.
 */
#include "one_block.h"


enum { PAGES = 200, SIZE = 4096, CALLS = 3 };

/* Two pages, before a call: what the host has, and what must be there afterwards. */
typedef void (*contents)(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call);

static void flush_contents(one_block *b, contents fill, const char *during)
{
    for (uint64_t call = 0; call < CALLS; call++) {
        for (uint64_t page = 0; page < b->pages; page++) {
            fill(host_page(b, page), cache_page(b, page), page, call);
            mark(b, page, 1 + (int)((page + call) % 3));
        }
        flush_and_judge(b, 0, during);
        must_all_be_copied(b, during);
    }
}

static void on_memory_of_every_kind(contents fill, const char *during)
{
    for (uint32_t threads = 1; threads <= 3; threads += 2) {
        one_block own = new_block(SIZE, PAGES, threads);
        one_block shared = with_memory(SIZE, PAGES, threads, reserve_shared(PAGES * SIZE),
                                       reserve_shared(PAGES * SIZE));

        flush_contents(&own, fill, during);
        flush_contents(&shared, fill, during);
    }
}

static void zero_pages(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    kit_fill(host, SIZE, 2 * page + 1);
    memset(cache, 0, SIZE);
    if (page % 3 == 0) {
        cache[call * 1000 + page % SIZE] = 1;
    }
}

static void to_zero_hosts(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    memset(host, 0, SIZE);
    kit_fill(cache, SIZE, 2 * page + 2 * call + 1);
}

static void equal_pages(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    kit_fill(cache, SIZE, call + 1);            /* each page like the others */
    memcpy(host, cache, SIZE);                  /* and some of them like the host already */
    if (page % 2) {
        kit_fill(host, SIZE, call + 2);
    }
}

static void differ_at(uint8_t *host, uint8_t *cache, size_t at)
{
    kit_fill(cache, SIZE, 1);
    memcpy(host, cache, SIZE);
    host[at] ^= 0x10;
}

static void first_byte(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    (void)page, (void)call;
    differ_at(host, cache, 0);
}

static void last_byte(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    (void)page, (void)call;
    differ_at(host, cache, SIZE - 1);
}

static void one_byte(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    differ_at(host, cache, (page * 41 + call * 7 + 1) % SIZE);
}

/* Two words changed places: sums, exclusive ors and products are as before. */
static void equal_sums(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    size_t one = (page + call) % 64 * 8, other = SIZE - 8 - one;

    kit_fill(cache, SIZE, page + 1);
    memcpy(host, cache, SIZE);
    memcpy(host + one, cache + other, 8);
    memcpy(host + other, cache + one, 8);
}

/* The same address holds something else in each call, in one byte only. */
static void changing(uint8_t *host, uint8_t *cache, uint64_t page, uint64_t call)
{
    kit_fill(cache, SIZE, page + 1);
    cache[SIZE / 2] = (uint8_t)(call + 1);
    memcpy(host, cache, SIZE);
    host[SIZE / 2] = (uint8_t)call;
}

#define CHECK(name) \
    static void check_##name(void) \
    { \
        on_memory_of_every_kind(name, #name); \
    }

CHECK(zero_pages)
CHECK(to_zero_hosts)
CHECK(equal_pages)
CHECK(first_byte)
CHECK(last_byte)
CHECK(one_byte)
CHECK(equal_sums)
CHECK(changing)

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"zero-pages", check_zero_pages},
        {"to-zero-hosts", check_to_zero_hosts},
        {"equal-pages", check_equal_pages},
        {"first-byte", check_first_byte},
        {"last-byte", check_last_byte},
        {"one-byte", check_one_byte},
        {"equal-sums", check_equal_sums},
        {"changing", check_changing},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}

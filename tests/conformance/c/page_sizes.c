/* SPDX-License-Identifier: MIT
 *
 * Page sizes: every power of two from 1 KiB to 2 MiB must be flushed. Others may be refused, all of the
 * call, or flushed, all of it. What is no power of two is refused.
 */
#include "one_block.h"

static void make(uint64_t page_size, uint64_t pages, enum kit_place place, uint32_t threads)
{
    uint64_t cache[3] = {5, 1, 0}, host[3] = {6, 0, 0};
    kit_block block = {0, pages * page_size, pages * page_size, 0};
    kit_call call = {"page size", page_size, &block, 1, cache, host, 3, 3, threads, "", place};

    if (pages <= 64) {
        cache[1] = 0;
        cache[0] &= (UINT64_C(1) << pages) - 1;
        host[0] &= (UINT64_C(1) << pages) - 1;
    }
    call.dirty_pages = (uint64_t)__builtin_popcountll(cache[0]) + cache[1];
    kit_make(&call);
}

static void every_place(uint64_t page_size, uint64_t pages)
{
    for (uint32_t threads = 1; threads <= 2; threads++) {
        make(page_size, pages, KIT_HIGH, threads);
        make(page_size, pages, KIT_LOW, threads);
        make(page_size, pages, KIT_ODD, threads);
        make(page_size, pages, KIT_SHIFTED, threads);
    }
}

static void must_be_flushed(void)
{
    for (uint64_t size = 1024; size <= 2 << 20; size *= 2) {
        every_place(size, size <= 65536 ? 70 : 3);
    }
}

static void tiny(void)
{
    for (uint64_t size = 1; size <= 512; size *= 2) {
        every_place(size, 70);
    }
}

static void huge(void)
{
    for (uint64_t size = 4 << 20; size <= 16 << 20; size *= 2) {
        make(size, 2, KIT_HIGH, 2);
    }
}

/* No memory of that size: no page is in use, or the block is refused whatever the size. */
static void without_memory(void)
{
    uint64_t none[1] = {0};

    for (unsigned shift = 25; shift < 64; shift++) {
        uint64_t size = UINT64_C(1) << shift;
        kit_block empty = {UINT64_MAX, 0, size, 0}, one = {0, size, size, 0};
        kit_call nothing = {"nothing", size, NULL, 0, none, none, 1, 0, 2, "", KIT_HIGH};
        kit_call unused = {"unused", size, &empty, 1, none, none, 1, 0, 2, "", KIT_HIGH};
        kit_call null = {"null", size, &one, 1, none, none, 1, 0, 2, "host[0] cache[0]", KIT_HIGH};
        kit_call no_bits = {"no bits", size, &one, 1, none, none, 0, 0, 2, "", KIT_HIGH};

        kit_make(&nothing);
        kit_make(&unused);
        kit_make(&null);
        kit_make(&no_bits);
    }
}

/* Nothing else is wrong with them: lengths and offset are 0. */
static void no_power_of_two(void)
{
    static const uint64_t sizes[] = {0,    3,    5,    6,          7,
                                     1023, 1025, 1536, 4095,       4097,
                                     6144, 12288, (4 << 20) + 1024, UINT64_C(3) << 31,
                                     UINT64_C(0x100000001), UINT64_C(0x100001000),
                                     UINT64_C(3) << 62, UINT64_MAX};
    uint64_t none[1] = {0};

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        kit_block empty = {0, 0, 0, 0};
        kit_call call = {"no power of two", sizes[i], &empty, 1, none, none, 1, 0, 1, "", KIT_HIGH};

        kit_make(&call);
        call.n_blocks = 0;
        kit_make(&call);
    }
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"must-be-flushed", must_be_flushed},
        {"no-power-of-two", no_power_of_two},
        {"tiny", tiny},
        {"huge", huge},
        {"without-memory", without_memory},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}

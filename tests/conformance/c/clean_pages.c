/* SPDX-License-Identifier: MIT
 *
 * No byte of a clean page is written, not even to put it back: clean pages are write-protected while
 * the call runs, one by one and in runs, next to dirty ones.
 */
#include "one_block.h"

enum { PAGES = 260 };

static void clean_pages_are_read_only(uint64_t size, uint32_t threads, uint64_t one_in)
{
    kit_buffer memory[2] = {{.name = "host memory of block 0"}, {.name = "cache memory of block 0"}};
    uint8_t *before = malloc(PAGES * size);
    bool dirty[PAGES];

    kit_buffers = memory;
    kit_n_buffers = 2;
    kit_open(&memory[0], PAGES * size, KIT_LOW, 0);
    kit_open(&memory[1], PAGES * size, KIT_LOW, 0);
    kit_fill(memory[0].at, PAGES * size, 1);
    kit_fill(memory[1].at, PAGES * size, 2);
    memcpy(before, memory[0].at, PAGES * size);

    one_block b = with_memory(size, PAGES, threads, memory[0].at, memory[1].at);

    for (uint64_t page = 0; page < PAGES; page++) {
        dirty[page] = kit_below(one_in) == 0;
        if (dirty[page]) {
            mark(&b, page, 1 + (int)kit_below(3));
        } else {
            mprotect(host_page(&b, page), size, PROT_READ);
        }
    }
    kit_protect(&memory[1], PROT_READ);
    flush_and_judge(&b, 0, "clean pages are read-only");
    for (uint64_t page = 0; page < PAGES; page++) {
        if (dirty[page]) {
            must_be_copied(&b, page, "clean pages are read-only");
        } else if (memcmp(host_page(&b, page), before + page * size, size)) {
            kit_wrong("clean-pages-untouched", "page %llu is clean and was written",
                      (unsigned long long)page);
        }
    }
}

static void some(void)
{
    for (uint32_t threads = 1; threads <= 3; threads++) {
        clean_pages_are_read_only(4096, threads, 2);
    }
}

static void most(void)
{
    clean_pages_are_read_only(4096, 2, 20);
    clean_pages_are_read_only(4096, 2, PAGES);
}

static void large(void)
{
    clean_pages_are_read_only(16384, 2, 3);
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {{"some", some}, {"most", most}, {"large", large}};

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}

/* SPDX-License-Identifier: MIT
 *
 * Our own flush as a library, so that the kit's programs can load it: the calls go to a function that
 * Python has left here. See inside.py.
 */
#include "colo_flush.h"

typedef int flush(const colo_block *, size_t, uint64_t, uint64_t *, uint64_t *, size_t, uint64_t *, uint32_t,
                  colo_stats *);

static flush *ours;

void colo_use(flush *function)
{
    ours = function;
}

uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size, uint64_t *cache_bitmap,
               uint64_t *host_bitmap, size_t n_words, uint64_t *dirty_pages, uint32_t threads,
               colo_stats *stats)
{
    return ours(blocks, n_blocks, page_size, cache_bitmap, host_bitmap, n_words, dirty_pages, threads,
                stats);
}

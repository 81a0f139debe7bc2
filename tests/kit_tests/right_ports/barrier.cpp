// SPDX-License-Identifier: MIT
//
// A right port of another kind: C++20, threads made anew in each call, which meet at a barrier: first all
// look for stray bits in a share, then all flush their shares.
#include "colo_flush.h"

#include <algorithm>
#include <barrier>
#include <bit>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

namespace {

struct region {
    uint64_t first, last;
    uint8_t *host;
    const uint8_t *cache;
};

struct share {
    colo_stats done{};
    bool stray = false;
};

bool regions_of(const colo_block *blocks, size_t n, uint64_t size, uint64_t bits, std::vector<region> &out)
{
    for (size_t i = 0; i < n; i++) {
        const colo_block &b = blocks[i];
        uint64_t pages = b.used_length / size;

        if ((b.offset | b.used_length | b.max_length) & (size - 1) || b.max_length < b.used_length) {
            return false;
        }
        if (!pages) {
            continue;
        }
        if (!b.host || !b.cache || b.first_bit >= bits || pages > bits - b.first_bit) {
            return false;
        }
        out.push_back({b.first_bit, b.first_bit + pages, b.host, b.cache});
    }
    std::sort(out.begin(), out.end(), [](auto &a, auto &b) { return a.first < b.first; });
    return std::adjacent_find(out.begin(), out.end(),
                              [](auto &a, auto &b) { return b.first < a.last; }) == out.end();
}

uint64_t mask_of(uint64_t word, const region &r)
{
    uint64_t base = word * 64, mask = ~UINT64_C(0);

    if (r.first > base) {
        mask &= ~UINT64_C(0) << (r.first - base);
    }
    if (r.last < base + 64) {
        mask &= (UINT64_C(1) << (r.last - base)) - 1;
    }
    return mask;
}

template <typename F> bool each_word(const std::vector<region> &regions, uint64_t from, uint64_t to, F each)
{
    auto r = std::partition_point(regions.begin(), regions.end(),
                                  [&](auto &one) { return one.last <= from * 64; });

    for (uint64_t w = from; w < to; w++) {
        while (r != regions.end() && r->last <= w * 64) {
            ++r;
        }
        if (!each(w, r)) {
            return false;
        }
    }
    return true;
}

} // namespace

extern "C" uint32_t colo_abi_version(void)
{
    return COLO_ABI_VERSION;
}

extern "C" int colo_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
                          uint64_t *cache_bitmap, uint64_t *host_bitmap, size_t n_words,
                          uint64_t *dirty_pages, uint32_t threads, colo_stats *stats)
{
    if (!threads || !dirty_pages || !std::has_single_bit(page_size) || (n_blocks && !blocks) ||
        (n_words && !(cache_bitmap && host_bitmap)) || n_words > UINT64_MAX / 64) {
        return -EINVAL;
    }

    std::vector<region> regions;

    if (!regions_of(blocks, n_blocks, page_size, n_words * 64, regions)) {
        return -EINVAL;
    }

    uint64_t workers = std::clamp<uint64_t>(std::min<uint64_t>(threads, n_words / 16), 1, 8);
    std::vector<share> shares(workers);
    std::barrier meet(static_cast<ptrdiff_t>(workers));
    auto work = [&](uint64_t me) {
        uint64_t from = n_words * me / workers, to = n_words * (me + 1) / workers;

        shares[me].stray = !each_word(regions, from, to, [&](uint64_t w, auto r) {
            uint64_t left = cache_bitmap[w] | host_bitmap[w];

            for (; left && r != regions.end() && r->first < w * 64 + 64; ++r) {
                left &= ~mask_of(w, *r);
            }
            return !left;
        });
        meet.arrive_and_wait();
        if (std::any_of(shares.begin(), shares.end(), [](auto &s) { return s.stray; })) {
            return;
        }
        each_word(regions, from, to, [&](uint64_t w, auto r) {
            uint64_t cache = cache_bitmap[w], host = host_bitmap[w];
            colo_stats &done = shares[me].done;

            for (; (cache | host) && r != regions.end() && r->first < w * 64 + 64; ++r) {
                for (uint64_t dirty = (cache | host) & mask_of(w, *r); dirty; dirty &= dirty - 1) {
                    uint64_t page = w * 64 + std::countr_zero(dirty) - r->first;

                    std::memcpy(r->host + page * page_size, r->cache + page * page_size, page_size);
                }
            }
            done.copied += std::popcount(cache | host);
            done.host_dirty += std::popcount(host);
            done.cache_dirty += std::popcount(cache);
            done.both_dirty += std::popcount(cache & host);
            cache_bitmap[w] = host_bitmap[w] = 0;
            return true;
        });
    };
    std::vector<std::thread> helpers;

    for (uint64_t me = 1; me < workers; me++) {
        helpers.emplace_back(work, me);
    }
    work(0);
    for (auto &helper : helpers) {
        helper.join();
    }

    colo_stats sum{};

    for (auto &one : shares) {
        if (one.stray) {
            return -EINVAL;
        }
        sum.copied += one.done.copied;
        sum.host_dirty += one.done.host_dirty;
        sum.cache_dirty += one.done.cache_dirty;
        sum.both_dirty += one.done.both_dirty;
    }
    if (stats) {
        *stats = sum;
    }
    *dirty_pages -= sum.cache_dirty;
    return *dirty_pages ? -ERANGE : 0;
}

// SPDX-License-Identifier: MIT
//
// A right port of another kind: Go, whose runtime has threads, stacks and signals of its own.
//
//	go build -buildmode=c-shared -o goroutines.so goroutines.go
package main

// #include <stdint.h>
// typedef struct { uint64_t offset, used_length, max_length, first_bit; uint8_t *host; const uint8_t *cache; } colo_block;
// typedef struct { uint64_t copied, host_dirty, cache_dirty, both_dirty; } colo_stats;
import "C"

import (
	"math/bits"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	einval = -22
	erange = -34
)

type region struct {
	first, last uint64
	host, cache unsafe.Pointer
}

func words(at *C.uint64_t, n C.size_t) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(at)), int(n))
}

func mask(word uint64, r region) uint64 {
	m, base := ^uint64(0), word*64
	if r.first > base {
		m &= ^uint64(0) << (r.first - base)
	}
	if r.last < base+64 {
		m &= 1<<(r.last-base) - 1
	}
	return m
}

//export colo_abi_version
func colo_abi_version() C.uint32_t { return 1 }

//export colo_flush
func colo_flush(blocks *C.colo_block, nBlocks C.size_t, pageSize C.uint64_t, cacheBitmap, hostBitmap *C.uint64_t,
	nWords C.size_t, dirtyPages *C.uint64_t, threads C.uint32_t, stats *C.colo_stats) C.int {
	size := uint64(pageSize)
	if threads == 0 || dirtyPages == nil || bits.OnesCount64(size) != 1 || (nBlocks > 0 && blocks == nil) ||
		(nWords > 0 && (cacheBitmap == nil || hostBitmap == nil)) {
		return einval
	}
	var regions []region
	for _, b := range unsafe.Slice(blocks, int(nBlocks)) {
		used, most := uint64(b.used_length), uint64(b.max_length)
		if (uint64(b.offset)|used|most)&(size-1) != 0 || most < used {
			return einval
		}
		if used == 0 {
			continue
		}
		first, pages, all := uint64(b.first_bit), used/size, uint64(nWords)*64
		if b.host == nil || b.cache == nil || first >= all || pages > all-first {
			return einval
		}
		regions = append(regions, region{first, first + pages, unsafe.Pointer(b.host), unsafe.Pointer(b.cache)})
	}
	sort.Slice(regions, func(i, j int) bool { return regions[i].first < regions[j].first })
	for i := 1; i < len(regions); i++ {
		if regions[i].first < regions[i-1].last {
			return einval
		}
	}
	var cache, host []uint64
	if nWords > 0 {
		cache, host = words(cacheBitmap, nWords), words(hostBitmap, nWords)
	}
	next := 0
	for w := range cache {
		left := cache[w] | host[w]
		for next < len(regions) && regions[next].last <= uint64(w)*64 {
			next++
		}
		for r := next; left != 0 && r < len(regions) && regions[r].first < uint64(w)*64+64; r++ {
			left &^= mask(uint64(w), regions[r])
		}
		if left != 0 {
			return einval
		}
	}
	sum := flush(regions, size, cache, host, int(threads))
	if stats != nil {
		*stats = sum
	}
	*dirtyPages -= sum.cache_dirty
	if *dirtyPages != 0 {
		return erange
	}
	return 0
}

func flush(regions []region, size uint64, cache, host []uint64, threads int) C.colo_stats {
	const claim = 16
	workers := (len(cache) + claim - 1) / claim
	if workers > threads {
		workers = threads
	}
	if workers > 8 {
		workers = 8
	}
	if workers < 1 {
		workers = 1
	}
	var cursor int64
	var all sync.WaitGroup
	parts := make([]C.colo_stats, workers)
	for me := 0; me < workers; me++ {
		all.Add(1)
		go func(done *C.colo_stats) {
			defer all.Done()
			for {
				from := int(atomic.AddInt64(&cursor, claim)) - claim
				if from >= len(cache) {
					return
				}
				for w := from; w < from+claim && w < len(cache); w++ {
					flushWord(regions, size, cache, host, w, done)
				}
			}
		}(&parts[me])
	}
	all.Wait()
	var sum C.colo_stats
	for _, p := range parts {
		sum.copied += p.copied
		sum.host_dirty += p.host_dirty
		sum.cache_dirty += p.cache_dirty
		sum.both_dirty += p.both_dirty
	}
	return sum
}

func flushWord(regions []region, size uint64, cache, host []uint64, w int, done *C.colo_stats) {
	c, h := cache[w], host[w]
	if c|h == 0 {
		return
	}
	for dirty := c | h; dirty != 0; dirty &= dirty - 1 {
		bit := uint64(w)*64 + uint64(bits.TrailingZeros64(dirty))
		r := regions[sort.Search(len(regions), func(i int) bool { return regions[i].last > bit })]
		at := uintptr((bit - r.first) * size)
		copy(unsafe.Slice((*byte)(unsafe.Add(r.host, at)), int(size)), unsafe.Slice((*byte)(unsafe.Add(r.cache, at)), int(size)))
	}
	done.copied += C.uint64_t(bits.OnesCount64(c | h))
	done.host_dirty += C.uint64_t(bits.OnesCount64(h))
	done.cache_dirty += C.uint64_t(bits.OnesCount64(c))
	done.both_dirty += C.uint64_t(bits.OnesCount64(c & h))
	cache[w], host[w] = 0, 0
}

func main() {}
